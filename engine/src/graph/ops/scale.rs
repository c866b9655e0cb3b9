//! `y = wrap(R(x * w))`: a vector of the server, broadcast: batch normalisation, FastGRNN's `zeta`.

use super::{
    Operation, Parameter, ParameterSpec, Place, broadcast_map, channels, check_broadcast, element_wise, exact_products,
    mapped,
};
use crate::graph::{Rescale, Tensor, ValueType, Weights};
use serde::{Deserialize, Serialize};

/// The product with a vector of the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// The vector.
    pub weights: Parameter,
    /// Its shape, broadcast to the operand's (numpy's rule: aligned at the last axis, sizes equal or 1); by default one per
    /// channel of the last axis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<usize>>,
    /// Of the exact product.
    #[serde(default, skip_serializing_if = "Rescale::is_identity")]
    pub rescale: Rescale,
}

impl Scale {
    /// Shape of the vector for an operand of shape `x`.
    pub fn vector(&self, x: &[usize]) -> Vec<usize> {
        self.shape.clone().unwrap_or_else(|| x.last().copied().into_iter().collect())
    }
}

impl Operation for Scale {
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        let types = element_wise(place)?;
        let x = &place.ins[0];
        check_broadcast(&self.vector(&x.shape), &x.shape)?;
        exact_products(x.number.range(), self.weights.range(), 1)?;
        self.rescale.check(channels(&x.shape))?;
        Ok(types)
    }

    fn parameters(&self, place: Place<'_>) -> Vec<ParameterSpec> {
        vec![self.weights.spec(self.vector(&place.ins[0].shape))]
    }

    fn clear(&self, place: Place<'_>, ins: &[&Tensor], weights: &Weights) -> Vec<Tensor> {
        let (x, out) = (ins[0], place.out.expect("declared"));
        let vector = &weights[&self.weights.tensor];
        let map = broadcast_map(&vector.shape, &x.shape);
        mapped(x, |i, x| self.rescale.of(i, x * i128::from(vector.data[map[i] as usize]), out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Number;
    use crate::graph::ops::testing::{compute_with, refused};
    use crate::protocols::truncation::Rounding;

    const BYTE: Number = Number { bits: 8, scale: 0, unsigned: false };

    fn scale(shape: Option<Vec<usize>>, rescale: Rescale) -> Scale {
        Scale { weights: Parameter::new("w", 8), shape, rescale }
    }

    #[test]
    fn values() {
        let x: (&[usize], Number, &[i64]) = (&[2, 2], BYTE, &[10, -7, 3, -128]);
        let of = |op, w: &[i64]| compute_with(op, &[x], BYTE, &[("w", w)]);
        assert_eq!(of(scale(None, Rescale::default()), &[2, -1]), [20, 7, 6, -128]);
        let quarter = |rounding| Rescale::by(2, rounding);
        assert_eq!(of(scale(Some(vec![2, 1]), quarter(Rounding::Floor)), &[1, 3]), [2, -2, 2, -96]);
        assert_eq!(of(scale(Some(vec![1]), quarter(Rounding::TowardZero)), &[1]), [2, -1, 0, -32]);
        assert_eq!(of(scale(Some(vec![]), Rescale::default()), &[-1]), [-10, 7, -3, -128]);
    }

    #[test]
    fn refusals() {
        let x: (&[usize], Number) = (&[2, 2], BYTE);
        let of = |op| refused(op, &[x], Some(BYTE));
        assert!(of(scale(Some(vec![3]), Rescale::default())).contains("cannot be broadcast"));
        assert!(of(scale(Some(vec![2, 2, 2]), Rescale::default())).contains("cannot be broadcast"));
    }
}
