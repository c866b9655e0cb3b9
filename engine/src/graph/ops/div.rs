//! Quotient of two shared values, the authors' approximation (paper V, `fixed::math::DivGeneral`).

use super::{Operation, Place, broadcast_map, broadcast_type, operands, tensor};
use crate::fixed::math;
use crate::graph::{Tensor, ValueType, Weights};
use serde::{Deserialize, Serialize};

/// `a / b` for `b > 0`, of one shape or broadcast; what is not positive counts as 1 unit. The formats of operands and result give widths
/// and scales.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Div {}

impl Div {
    pub(crate) fn function(place: Place<'_>) -> Result<math::DivGeneral, String> {
        let (a, b) = (place.ins[0].number, place.ins[1].number);
        let scale = |what: &str, scale: i32| {
            u32::try_from(scale).map_err(|_| format!("division is not defined for {what} scale {scale}"))
        };
        let out = scale("the output", place.out.map_or(0, |out| out.scale))?;
        if a.bits + b.bits + 2 * out > 120 {
            return Err(format!("a quotient of {} and {} bits with {out} fractional bits", a.bits, b.bits));
        }
        let function = math::DivGeneral::new(
            scale("the numerator's", a.scale)?,
            b.bits,
            scale("the denominator's", b.scale)?,
            out,
        );
        function.map_err(|e| e.to_string())
    }
}

impl Operation for Div {
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        operands(place, 2)?;
        let ty = broadcast_type(place)?;
        Self::function(place)?;
        Ok(vec![ty])
    }

    fn clear(&self, place: Place<'_>, ins: &[&Tensor], _: &Weights) -> Vec<Tensor> {
        let ty = broadcast_type(place).expect("accepted");
        let function = Self::function(place).expect("accepted");
        let [a, b] = [0, 1].map(|i| broadcast_map(&ins[i].shape, &ty.shape));
        let of = |(a, b): (u32, u32)| {
            let (a, b) = (ins[0].data[a as usize], ins[1].data[b as usize]);
            ty.number.wrap(function.eval(a.into(), b.max(1).into()))
        };
        tensor(&ty.shape, a.into_iter().zip(b).map(of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Number;
    use crate::graph::ops::testing::{compute, refused};

    #[test]
    fn values() {
        let number = Number::new(16, 8);
        let x: (&[usize], Number, &[i64]) = (&[2, 2], number, &[256, -256, 1024, 0]);
        let y: (&[usize], Number, &[i64]) = (&[2, 1], number, &[512, 768]);
        let got = compute(Div {}, &[x, y], number);
        let exact = [128, -128, 341, 0];
        assert!(got.iter().zip(exact).all(|(a, b)| a.abs_diff(b) <= 2), "{got:?}");
        let reference = |a, b| math::div_general(a, 8, b, 16, 8, 8) as i64;
        assert_eq!(got, [reference(256, 512), reference(-256, 512), reference(1024, 768), reference(0, 768)]);
        let edges: (&[usize], Number, &[i64]) = (&[2], number, &[0, -77]);
        let one: (&[usize], Number, &[i64]) = (&[1], number, &[3]);
        assert_eq!(compute(Div {}, &[one, edges], number), [reference(3, 1); 2]);
    }

    #[test]
    fn refusals() {
        let number = Number::new(16, 8);
        let x: (&[usize], Number) = (&[1], number);
        assert!(refused(Div {}, &[x], Some(number)).contains("operands is 1, not 2"));
        assert!(refused(Div {}, &[x, x], Some(Number::new(16, -1))).contains("output scale -1"));
        assert!(refused(Div {}, &[x, x], Some(Number::new(16, 20))).contains("scale"));
        assert!(
            refused(Div {}, &[(&[1], Number::new(63, 0)), (&[1], Number::new(63, 8))], Some(number)).contains("bits")
        );
    }
}
