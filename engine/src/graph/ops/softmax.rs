//! Softmax along the last axis: `e_i = exp(-(max - x_i))`, `y_i = e_i / sum e`, by the functions of `exp` and `div`.
//!
//! The differences are unsigned numbers of the operand's width. `e` and the quotient have the result's scale `s`; the sum of `n` has as
//! many bits as `n 2^s`, and is divided as such a number of scale `s`.

use super::{Operation, Place, channels, element_wise};
use crate::fixed::{Unsupported, math};
use crate::graph::{Number, Tensor, ValueType, Weights};
use crate::program::bits_for;
use serde::{Deserialize, Serialize};

/// Softmax.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Softmax {}

impl Softmax {
    /// Exponential and division of rows of `channels` numbers.
    ///
    /// # Errors
    /// Widths and scales for which they are not defined.
    pub fn functions(x: Number, channels: usize, out: Number) -> Result<(math::Exp, math::DivGeneral), Unsupported> {
        let negative = || Unsupported { function: "softmax", what: format!("output scale {}", out.scale) };
        let scale = u32::try_from(out.scale).map_err(|_| negative())?;
        let exp = math::Exp::new(x.bits, x.scale, scale)?;
        let sum_bits = bits_for((channels as i128) << scale);
        Ok((exp, math::DivGeneral::new(scale, sum_bits, scale, scale)?))
    }
}

impl Operation for Softmax {
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        let types = element_wise(place)?;
        let x = &place.ins[0];
        if x.shape.is_empty() {
            return Err("a scalar has no last axis".into());
        }
        Self::functions(x.number, channels(&x.shape), types[0].number).map_err(|e| e.to_string())?;
        let timed = x.timed && x.shape.len() > 1;
        Ok(types.into_iter().map(|ty| ValueType { timed, ..ty }).collect())
    }

    fn clear(&self, place: Place<'_>, ins: &[&Tensor], _: &Weights) -> Vec<Tensor> {
        let (x, out) = (ins[0], place.out.expect("declared"));
        let (exp, div) = Self::functions(place.ins[0].number, channels(&x.shape), out).expect("accepted");
        let row = |row: &[i64]| -> Vec<i64> {
            let most = row.iter().copied().max().expect("a row has numbers");
            let e: Vec<i128> = row.iter().map(|&x| exp.eval(i128::from(x) - i128::from(most))).collect();
            let sum = e.iter().sum();
            e.iter().map(|&e| out.wrap(div.eval(e, sum)) as i64).collect()
        };
        vec![Tensor::new(x.shape.clone(), x.data.chunks(channels(&x.shape)).flat_map(row).collect())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::ops::testing::{compute, infer, refused, timed};

    #[test]
    fn values() {
        let (x, y) = (Number::new(16, 8), Number::new(16, 12));
        let data: [i64; 8] = [256, 0, 0, -256, 32767, -32768, -32768, 32767];
        let got = compute(Softmax {}, &[(&[2, 4], x, &data)], y);
        for (row, got) in data.chunks(4).zip(got.chunks(4)) {
            let e: Vec<f64> = row.iter().map(|&x| ((x - row.iter().max().unwrap()) as f64 / 256.0).exp()).collect();
            let sum: f64 = e.iter().sum();
            for (e, &got) in e.iter().zip(got) {
                assert!((e / sum * 4096.0 - got as f64).abs() < 6.0, "{row:?}: {got}");
            }
        }
        let alone = compute(Softmax {}, &[(&[1], x, &[-5])], y)[0];
        assert!((4094..=4096).contains(&alone), "{alone}");
    }

    #[test]
    fn types() {
        let of =
            |shape: &[usize]| infer(Softmax {}, &[timed(shape, Number::new(8, 4))], Some(Number::new(9, 7)))[0].timed;
        assert!(of(&[3, 4]) && !of(&[3]));
        let x = Number::new(8, 4);
        assert!(refused(Softmax {}, &[(&[2], x)], Some(Number::new(8, -1))).contains("output scale -1"));
        assert!(refused(Softmax {}, &[(&[2], x)], Some(Number::new(8, 0))).contains("output scale 0"));
        assert!(refused(Softmax {}, &[(&[], x)], Some(x)).contains("no last axis"));
    }
}
