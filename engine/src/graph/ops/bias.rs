//! `y = wrap(R(R_x(x) + R_b(bias)))`: a vector of the server, broadcast.

use super::{
    Operation, Parameter, ParameterSpec, Place, broadcast_map, channels, check_broadcast, element_wise, exact,
    exact_rescale, mapped,
};
use crate::graph::rescale::Shifts;
use crate::graph::{Rescale, Tensor, ValueType, Weights};
use serde::{Deserialize, Serialize};

/// The sum with a vector of the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bias {
    /// The vector.
    pub bias: Parameter,
    /// Its shape, broadcast to the operand's (numpy's rule: aligned at the last axis, sizes equal or 1); by default one per
    /// channel of the last axis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<usize>>,
    /// Of the operand before the sum, not wrapped.
    #[serde(default, skip_serializing_if = "Rescale::is_identity")]
    pub operand: Rescale,
    /// Of the vector before the sum: the server does that in the clear. Not per channel.
    #[serde(default, skip_serializing_if = "Rescale::is_identity")]
    pub rescale_bias: Rescale,
    /// Of the exact sum.
    #[serde(default, skip_serializing_if = "Rescale::is_identity")]
    pub rescale: Rescale,
}

impl Bias {
    /// Shape of the vector for an operand of shape `x`.
    pub fn vector(&self, x: &[usize]) -> Vec<usize> {
        self.shape.clone().unwrap_or_else(|| x.last().copied().into_iter().collect())
    }
}

impl Operation for Bias {
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        let types = element_wise(place)?;
        let x = &place.ins[0];
        check_broadcast(&self.vector(&x.shape), &x.shape)?;
        self.operand.check(channels(&x.shape))?;
        self.rescale.check(channels(&x.shape))?;
        if matches!(self.rescale_bias.shift, Shifts::Channels(_)) {
            return Err("shifts per channel of a vector of the server".into());
        }
        self.rescale_bias.check(1)?;
        let (lo, hi) = exact_rescale(&self.operand, x.number.range())?;
        let bias = exact_rescale(&self.rescale_bias, self.bias.range())?;
        exact(lo.checked_add(bias.0))?;
        exact(hi.checked_add(bias.1))?;
        Ok(types)
    }

    fn parameters(&self, place: Place<'_>) -> Vec<ParameterSpec> {
        vec![self.bias.spec(self.vector(&place.ins[0].shape))]
    }

    fn clear(&self, place: Place<'_>, ins: &[&Tensor], weights: &Weights) -> Vec<Tensor> {
        let (x, out) = (ins[0], place.out.expect("declared"));
        let bias = &weights[&self.bias.tensor];
        let map = broadcast_map(&bias.shape, &x.shape);
        let of = |i: usize| self.rescale_bias.value(0, bias.data[map[i] as usize].into());
        mapped(x, |i, x| self.rescale.of(i, self.operand.value(i, x) + of(i), out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Number;
    use crate::graph::ops::testing::{compute_with, refused};
    use crate::protocols::truncation::Rounding;

    const BYTE: Number = Number { bits: 8, scale: 0, unsigned: false };

    fn bias() -> Bias {
        let none = Rescale::default;
        let bias = Parameter::new("b", 8);
        Bias { bias, shape: None, operand: none(), rescale_bias: none(), rescale: none() }
    }

    #[test]
    fn values() {
        let x: (&[usize], Number, &[i64]) = (&[2, 2], BYTE, &[100, -7, 3, -128]);
        assert_eq!(compute_with(bias(), &[x], BYTE, &[("b", &[100, -1])]), [-56, -8, 103, 127]);
        let half = || Rescale::by(1, Rounding::TowardZero);
        let rescaled = Bias { operand: half(), rescale_bias: half(), ..bias() };
        assert_eq!(compute_with(rescaled, &[x], BYTE, &[("b", &[5, -5])]), [52, -5, 3, -66]);
        let per_row = Bias { shape: Some(vec![2, 1]), rescale: half(), ..bias() };
        assert_eq!(compute_with(per_row, &[x], BYTE, &[("b", &[5, -5])]), [52, -1, -1, -66]);
        let scalar = Bias { shape: Some(vec![]), ..bias() };
        assert_eq!(compute_with(scalar, &[(&[], BYTE, &[3])], BYTE, &[("b", &[5])]), [8]);
    }

    #[test]
    fn refusals() {
        let x: (&[usize], Number) = (&[2, 2], BYTE);
        let shape = |shape| Bias { shape: Some(shape), ..bias() };
        assert!(refused(shape(vec![3]), &[x], Some(BYTE)).contains("cannot be broadcast"));
        assert!(refused(shape(vec![3, 2, 2]), &[x], Some(BYTE)).contains("cannot be broadcast"));
        let shifts = Rescale { shift: Shifts::Channels(vec![1, 2]), ..Rescale::default() };
        assert!(refused(Bias { rescale_bias: shifts, ..bias() }, &[x], Some(BYTE)).contains("per channel"));
    }
}
