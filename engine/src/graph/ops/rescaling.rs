//! A rescale alone: another scale, another width.

use super::{Operation, Place, channels, element_wise, mapped};
use crate::graph::{Rescale, Tensor, ValueType, Weights};
use serde::{Deserialize, Serialize};

/// `y = wrap(R(x))`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rescaling {
    /// What is done.
    #[serde(default, skip_serializing_if = "Rescale::is_identity")]
    pub rescale: Rescale,
}

impl Operation for Rescaling {
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        let types = element_wise(place)?;
        self.rescale.check(channels(&types[0].shape))?;
        Ok(types)
    }

    fn clear(&self, place: Place<'_>, ins: &[&Tensor], _: &Weights) -> Vec<Tensor> {
        let out = place.out.expect("declared");
        mapped(ins[0], |i, x| self.rescale.of(i, x, out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Number;
    use crate::graph::ops::testing::{compute, refused};
    use crate::graph::rescale::Shifts;
    use crate::protocols::truncation::Rounding;

    #[test]
    fn values() {
        let (wide, byte) = (Number::new(16, 8), Number::new(8, 4));
        let x: (&[usize], Number, &[i64]) = (&[6], wide, &[-24, -9, -8, 8, 24, 4095]);
        let of = |rounding| compute(Rescaling { rescale: Rescale::by(4, rounding) }, &[x], byte);
        assert_eq!(of(Rounding::Floor), [-2, -1, -1, 0, 1, -1]);
        assert_eq!(of(Rounding::TowardZero), [-1, 0, 0, 0, 1, -1]);
        // Half a unit is added: ties go up.
        assert_eq!(of(Rounding::Nearest), [-1, -1, 0, 1, 2, 0]);
        // First down, then in the rounding mode, then up.
        let all = Rescale { floor: 2, shift: Shifts::All(2), left: 1, rounding: Rounding::TowardZero };
        assert_eq!(compute(Rescaling { rescale: all }, &[x], byte), [-2, 0, 0, 0, 2, -2]);
        let unsigned = Number { unsigned: true, ..byte };
        assert_eq!(compute(Rescaling::default(), &[x], unsigned), [232, 247, 248, 8, 24, 255]);
    }

    #[test]
    fn refusals() {
        let rescale = Rescale { shift: Shifts::Channels(vec![1]), ..Rescale::default() };
        let x: (&[usize], Number) = (&[2], Number::new(8, 0));
        assert!(refused(Rescaling { rescale }, &[x], Some(x.1)).contains("1 shifts for 2 channels"));
        let rescale = Rescale { left: 64, ..Rescale::default() };
        assert!(refused(Rescaling { rescale }, &[x], Some(x.1)).contains("a shift by 64"));
    }
}
