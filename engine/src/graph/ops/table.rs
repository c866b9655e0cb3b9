//! Any function of at most 16 bits, given by name, rounded to nearest: error at most half a unit in the last place. Values beyond
//! the result's width saturate; points outside of the function's domain take the nearest point of it.

use super::{Operation, Place, element_wise};
use crate::fixed::nearest::{self, Format};
use crate::graph::{Number, Tensor, ValueType, Weights};
use serde::{Deserialize, Serialize};

/// The function of a public table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Its name: `sigmoid`, `tanh`, `exp`, `log`, `gelu`, `silu`, `softplus`, `elu`, `erf`, `sin`, `cos`, `reciprocal`,
    /// `rsqrt`, `sqrt`, `square`.
    pub function: String,
}

impl Table {
    /// Entry `i` is the result for the operand whose low bits are `i`.
    ///
    /// # Errors
    /// An unknown function, an operand of more than 16 bits, or scales for which the function is not defined.
    pub fn entries(&self, x: Number, out: Number) -> Result<Vec<i64>, String> {
        let format = |n: Number| Format { bits: n.bits, scale: n.scale, signed: !n.unsigned };
        nearest::table(&self.function, format(x), format(out)).map_err(|e| e.to_string())
    }
}

impl Operation for Table {
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        let types = element_wise(place)?;
        self.entries(place.ins[0].number, types[0].number)?;
        Ok(types)
    }

    fn clear(&self, place: Place<'_>, ins: &[&Tensor], _: &Weights) -> Vec<Tensor> {
        let (x, number) = (ins[0], place.ins[0].number);
        let entries = self.entries(number, place.out.expect("declared")).expect("accepted");
        let mask = (1i64 << number.bits) - 1;
        vec![Tensor::new(x.shape.clone(), x.data.iter().map(|&x| entries[(x & mask) as usize]).collect())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::ops::testing::{compute, refused};

    #[test]
    fn values() {
        let (x, y) = (Number::new(8, 4), Number::new(8, 6));
        let of = |name: &str| compute(Table { function: name.into() }, &[(&[4], x, &[0, 16, -16, -128])], y);
        // By hand: sigmoid(1) = 0.7311, sigmoid(-8) = 0.0003; square(1) = 1 and 64, which saturates.
        assert_eq!(of("sigmoid"), [32, 47, 17, 0]);
        assert_eq!(of("square"), [0, 64, 64, 127]);
        assert_eq!(of("elu"), [0, 64, -40, -64]);
        let unsigned = Number { unsigned: true, ..x };
        assert_eq!(compute(Table { function: "sqrt".into() }, &[(&[2], unsigned, &[255, 64])], y), [127, 127]);
    }

    #[test]
    fn refusals() {
        let of = |name: &str, bits| {
            refused(Table { function: name.into() }, &[(&[1], Number::new(bits, 4))], Some(Number::new(8, 4)))
        };
        assert!(of("sine", 8).contains("'sine'; there are"));
        assert!(of("sin", 17).contains("17 bits"));
    }
}
