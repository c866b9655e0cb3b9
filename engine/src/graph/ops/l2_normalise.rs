//! Rows of the last axis divided by their Euclidean length (the authors' NormaliseL2): with `s` the operand's scale,
//! `ss = sum floor(x^2 / 2^(2 shift))`, `inv = rsqrt(ss)` from scale `2 (s - shift)` to scale `shift - 1` in
//! `2 bits - 2 shift + ceil(log2 channels)` bits, `y = wrap(R(x inv, shift))` of scale `s - 1`.

use super::{Operation, Place, channels, element_wise};
use crate::fixed::math;
use crate::graph::{Number, Tensor, ValueType, Weights};
use crate::program::bits_for;
use crate::protocols::truncation::Rounding;
use serde::{Deserialize, Serialize};

/// The normalisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct L2Normalise {
    /// See the module.
    pub shift: u32,
    /// Of the last shift.
    #[serde(default)]
    pub rounding: Rounding,
}

impl L2Normalise {
    /// The inverse root of a row's sum of squares.
    ///
    /// # Errors
    /// A shift, scale or width for which it is not defined.
    pub fn inverse_root(&self, x: Number, channels: usize) -> Result<math::Root, String> {
        let shift = self.shift;
        let fits = 2 <= shift && shift < x.bits && i64::from(shift) <= i64::from(x.scale);
        if x.unsigned || !fits {
            let kind = if x.unsigned { "unsigned" } else { "signed" };
            return Err(format!(
                "a shift by {shift} of {kind} numbers of {} bits and scale {}: signed ones of as large a scale are expected",
                x.bits, x.scale
            ));
        }
        let width = 2 * (x.bits - shift) + bits_for(channels as i128 - 1);
        math::Root::rsqrt(width, 2 * (x.scale - shift as i32), shift - 1).map_err(|e| e.to_string())
    }
}

impl Operation for L2Normalise {
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        let types = element_wise(place)?;
        let x = &place.ins[0];
        if x.shape.is_empty() {
            return Err("a scalar has no rows".into());
        }
        self.inverse_root(x.number, channels(&x.shape))?;
        let timed = x.timed && x.shape.len() > 1;
        Ok(types.into_iter().map(|ty| ValueType { timed, ..ty }).collect())
    }

    fn clear(&self, place: Place<'_>, ins: &[&Tensor], _: &Weights) -> Vec<Tensor> {
        let (x, out) = (ins[0], place.out.expect("declared"));
        let root = self.inverse_root(place.ins[0].number, channels(&x.shape)).expect("accepted");
        let row = |row: &[i64]| -> Vec<i64> {
            let square = |&x: &i64| (i128::from(x) * i128::from(x)) >> (2 * self.shift);
            let inverse = root.eval(row.iter().map(square).sum());
            let of = |&x: &i64| out.wrap(self.rounding.apply(i128::from(x) * inverse, self.shift)) as i64;
            row.iter().map(of).collect()
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
        let number = Number::new(16, 12);
        // (3, 4) / 5 at scale 11: the inverse root of 25 is 25 at scale 7. A row of zeros stays.
        let x: (&[usize], Number, &[i64]) = (&[2, 2], number, &[3 << 12, -(4 << 12), 0, 0]);
        let of = |rounding| compute(L2Normalise { shift: 8, rounding }, &[x], Number::new(16, 11));
        assert_eq!(of(Rounding::Floor), [1200, -1600, 0, 0]);
    }

    #[test]
    fn time_axis() {
        let of = |shape: &[usize]| {
            let op = L2Normalise { shift: 8, rounding: Rounding::Floor };
            infer(op, &[timed(shape, Number::new(16, 12))], Some(Number::new(16, 11)))[0].timed
        };
        assert!(of(&[3, 4]) && !of(&[3]));
    }

    #[test]
    fn refusals() {
        let of = |shift, number| {
            let op = L2Normalise { shift, rounding: Rounding::Floor };
            refused(op, &[(&[4], number)], Some(Number::new(16, 11)))
        };
        assert!(of(13, Number::new(16, 12)).contains("a shift by 13"));
        assert!(of(1, Number::new(16, 12)).contains("a shift by 1"));
        assert!(of(8, Number { unsigned: true, ..Number::new(16, 12) }).contains("unsigned"));
    }
}
