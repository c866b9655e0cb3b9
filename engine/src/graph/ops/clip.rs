//! ReLU, and limits: ReLU6, hard tanh, hard sigmoid. `y = wrap(R(min(max(x, low), high)))`.

use super::{Operation, Place, channels, element_wise, mapped};
use crate::graph::{Rescale, Tensor, ValueType, Weights};
use serde::{Deserialize, Serialize};

/// `max(x, 0)`, rescaled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relu {
    /// Afterwards.
    #[serde(default, skip_serializing_if = "Rescale::is_identity")]
    pub rescale: Rescale,
}

/// `min(max(x, low), high)`, rescaled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clip {
    /// The lower limit, an integer at the operand's scale.
    pub low: i64,
    /// The upper limit, an integer at the operand's scale.
    pub high: i64,
    /// Afterwards.
    #[serde(default, skip_serializing_if = "Rescale::is_identity")]
    pub rescale: Rescale,
}

impl Operation for Relu {
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        let types = element_wise(place)?;
        self.rescale.check(channels(&types[0].shape))?;
        Ok(types)
    }

    fn clear(&self, place: Place<'_>, ins: &[&Tensor], _: &Weights) -> Vec<Tensor> {
        let out = place.out.expect("declared");
        mapped(ins[0], |i, x| self.rescale.of(i, x.max(0), out))
    }
}

impl Operation for Clip {
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        let types = element_wise(place)?;
        if self.low > self.high {
            return Err(format!("the lower limit {} is above the upper one, {}", self.low, self.high));
        }
        self.rescale.check(channels(&types[0].shape))?;
        Ok(types)
    }

    fn clear(&self, place: Place<'_>, ins: &[&Tensor], _: &Weights) -> Vec<Tensor> {
        let out = place.out.expect("declared");
        mapped(ins[0], |i, x| self.rescale.of(i, x.clamp(self.low.into(), self.high.into()), out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Number;
    use crate::graph::ops::testing::{compute, refused};
    use crate::protocols::truncation::Rounding;

    #[test]
    fn values() {
        let (wide, byte) = (Number::new(16, 4), Number::new(8, 2));
        let x: (&[usize], Number, &[i64]) = (&[5], wide, &[-300, -1, 0, 95, 1000]);
        let rescale = Rescale::by(2, Rounding::Floor);
        assert_eq!(compute(Relu { rescale: rescale.clone() }, &[x], byte), [0, 0, 0, 23, -6]);
        // ReLU6 at scale 4.
        assert_eq!(compute(Clip { low: 0, high: 96, rescale: rescale.clone() }, &[x], byte), [0, 0, 0, 23, 24]);
        assert_eq!(compute(Clip { low: -16, high: 16, rescale }, &[x], byte), [-4, -1, 0, 4, 4]);
    }

    #[test]
    fn refusals() {
        let clip = Clip { low: 1, high: 0, rescale: Rescale::default() };
        assert!(refused(clip, &[(&[1], Number::new(8, 0))], Some(Number::new(8, 0))).contains("above the upper one"));
        assert!(refused(Relu::default(), &[(&[1], Number::new(8, 0))], None).contains("format is missing"));
    }
}
