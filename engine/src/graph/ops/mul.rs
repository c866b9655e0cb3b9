//! `y = wrap(R(a b))`: element-wise product of two shared values, broadcast (numpy's rule).

use super::{Operation, Place, broadcast_map, broadcast_type, channels, exact_products, operands, tensor};
use crate::graph::{Rescale, Tensor, ValueType, Weights};
use serde::{Deserialize, Serialize};

/// The element-wise product.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mul {
    /// Of the exact product.
    #[serde(default)]
    pub rescale: Rescale,
}

impl Operation for Mul {
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        operands(place, 2)?;
        let ty = broadcast_type(place)?;
        exact_products(place.ins[0].number.range(), place.ins[1].number.range(), 1)?;
        self.rescale.check(channels(&ty.shape))?;
        Ok(vec![ty])
    }

    fn clear(&self, place: Place<'_>, ins: &[&Tensor], _: &Weights) -> Vec<Tensor> {
        let ty = broadcast_type(place).expect("accepted");
        let product = |i: usize, a: i64, b: i64| self.rescale.of(i, i128::from(a) * i128::from(b), ty.number);
        let [a, b] = [&ins[0].data, &ins[1].data];
        if ins[0].shape == ins[1].shape {
            return tensor(&ty.shape, a.iter().zip(b).enumerate().map(|(i, (&a, &b))| product(i, a, b)));
        }
        let maps = [0, 1].map(|i| broadcast_map(&ins[i].shape, &ty.shape));
        tensor(&ty.shape, (0..ty.len()).map(|i| product(i, a[maps[0][i] as usize], b[maps[1][i] as usize])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Number;
    use crate::graph::ops::testing::{compute, refused};
    use crate::protocols::truncation::Rounding;

    const BYTE: Number = Number { bits: 8, scale: 0, unsigned: false };

    #[test]
    fn values() {
        let x: (&[usize], Number, &[i64]) = (&[2, 2], BYTE, &[1, 2, -3, -128]);
        assert_eq!(compute(Mul::default(), &[x, x], BYTE), [1, 4, 9, 0]);
        let y: (&[usize], Number, &[i64]) = (&[1, 2], BYTE, &[3, -5]);
        let by = |rounding| compute(Mul { rescale: Rescale::by(2, rounding) }, &[x, y], BYTE);
        assert_eq!(by(Rounding::Floor), [0, -3, -3, -96]);
        assert_eq!(by(Rounding::TowardZero), [0, -2, -2, -96]);
        assert_eq!(by(Rounding::Nearest), [1, -2, -2, -96]);
    }

    #[test]
    fn refusals() {
        let x: (&[usize], Number) = (&[2, 2], BYTE);
        assert!(refused(Mul::default(), &[x], Some(BYTE)).contains("operands is 1, not 2"));
        assert!(refused(Mul::default(), &[x, (&[3], BYTE)], Some(BYTE)).contains("cannot be broadcast"));
    }
}
