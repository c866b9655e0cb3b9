//! Functions of one argument as in the authors' library, bit for bit (paper V; `fixed::math`).
//!
//! The formats of operand and result give widths and scales; an unsigned operand is a signed one of a bit more. Rounding inside is always
//! down. An operand outside of a function's domain counts as the nearest number of it.

use super::{Operation, Place, element_wise, mapped};
use crate::fixed::{Unsupported, math};
use crate::graph::{Number, Tensor, ValueType, Weights};
use serde::{Deserialize, Serialize};

/// `1 / (1 + e^-x)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sigmoid {}

/// Hyperbolic tangent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tanh {}

/// `e^-x` for `x >= 0`; a negative operand counts as 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exp {}

/// `1 / x` for `x` in `[1, 2)`; an operand outside counts as 1, or as the largest number below 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reciprocal {}

/// `1 / sqrt(x)` for `x > 0`; an operand that is not positive counts as 1 unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rsqrt {}

/// `sqrt(x)` for `x > 0`; an operand that is not positive counts as 1 unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sqrt {}

/// Width of an operand as a signed number.
fn signed_width(number: Number) -> u32 {
    number.bits + u32::from(number.unsigned)
}

/// The scale of a result, positive.
fn scale_out(out: Number) -> Result<u32, Unsupported> {
    let what = || Unsupported { function: "the function", what: format!("output scale {}", out.scale) };
    u32::try_from(out.scale).map_err(|_| what())
}

impl Sigmoid {
    pub(crate) fn function(x: Number, out: Number) -> Result<math::Sigmoid, Unsupported> {
        math::Sigmoid::new(signed_width(x), x.scale, scale_out(out)?)
    }
}

impl Tanh {
    pub(crate) fn function(x: Number, out: Number) -> Result<math::Tanh, Unsupported> {
        math::Tanh::new(signed_width(x), x.scale, scale_out(out)?)
    }
}

impl Exp {
    pub(crate) fn function(x: Number, out: Number) -> Result<math::Exp, Unsupported> {
        math::Exp::new(x.bits, x.scale, scale_out(out)?)
    }
}

impl Reciprocal {
    /// The function, and the domain.
    pub(crate) fn function(x: Number, out: Number) -> Result<(math::Div, i128, i128), Unsupported> {
        let refuse = |what| Err(Unsupported { function: "reciprocal", what });
        let Ok(scale) = u32::try_from(x.scale) else { return refuse(format!("an operand of scale {}", x.scale)) };
        if scale + 2 > signed_width(x) {
            return refuse(format!("an operand of {} bits and scale {scale}, which does not reach 2", x.bits));
        }
        Ok((math::Div::new(0, scale, scale_out(out)?)?, 1 << scale, (2 << scale) - 1))
    }
}

impl Rsqrt {
    pub(crate) fn function(x: Number, out: Number) -> Result<math::Root, Unsupported> {
        math::Root::rsqrt(signed_width(x), x.scale, scale_out(out)?)
    }
}

impl Sqrt {
    pub(crate) fn function(x: Number, out: Number) -> Result<math::Root, Unsupported> {
        math::Root::sqrt(signed_width(x), x.scale, scale_out(out)?)
    }
}

/// The function of each operation, and how it is applied to one number.
macro_rules! function {
    ($kind:ident, $pattern:pat => $value:expr) => {
        impl Operation for $kind {
            fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
                let types = element_wise(place)?;
                Self::function(place.ins[0].number, types[0].number).map_err(|e| e.to_string())?;
                Ok(types)
            }

            fn clear(&self, place: Place<'_>, ins: &[&Tensor], _: &Weights) -> Vec<Tensor> {
                let out = place.out.expect("declared");
                let function = Self::function(place.ins[0].number, out).expect("accepted");
                mapped(ins[0], |_, x| {
                    let $pattern = (&function, x);
                    out.wrap($value)
                })
            }
        }
    };
}

function!(Sigmoid, (f, x) => f.eval(x));
function!(Tanh, (f, x) => f.eval(x));
function!(Exp, (f, x) => f.eval(-x.max(0)));
function!(Reciprocal, ((f, lo, hi), x) => f.eval(1, x.clamp(*lo, *hi)));
function!(Rsqrt, (f, x) => f.eval(x.max(1)));
function!(Sqrt, (f, x) => f.eval(x.max(1)));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::ops::testing::{compute, refused};

    #[test]
    fn values() {
        let (x, y) = (Number::new(16, 12), Number::new(16, 12));
        let of = |op: crate::graph::Op, data: &[i64]| compute(op, &[(&[data.len()], x, data)], y);
        let numbers = [0, 1, -1, 4096, -4096, 32767, -32768];
        let by = |f: fn(i128, u32, i32, u32) -> i128| numbers.map(|x: i64| f(x.into(), 16, 12, 12) as i64).to_vec();
        assert_eq!(of(Sigmoid {}.into(), &numbers), by(math::sigmoid));
        assert_eq!(of(Tanh {}.into(), &numbers), by(math::tanh));
        // By hand: e^-1 = 0.36788, 1/1.5 = 0.66667, 1/sqrt(4) = 0.5, sqrt(4) = 2; e of nothing negative.
        assert_eq!(of(Exp {}.into(), &[4096, 0, -5, -32768]), [1506, 4096, 4096, 4096]);
        assert_eq!(
            of(Reciprocal {}.into(), &[6144, 4096, 0, -7, 8191, 8192, 32767]),
            [2730, 4095, 4095, 4095, 2047, 2047, 2047]
        );
        assert_eq!(of(Rsqrt {}.into(), &[16384, 1, 0, -5])[1..], vec![of(Rsqrt {}.into(), &[1])[0]; 3]);
        assert!(of(Rsqrt {}.into(), &[16384])[0].abs_diff(2048) <= 1);
        assert!(of(Sqrt {}.into(), &[16384])[0].abs_diff(8192) <= 2);
    }

    /// An unsigned operand is a signed one of a bit more, except for exp, whose operand is not negative anyway.
    #[test]
    fn unsigned_operands() {
        let x = Number { unsigned: true, ..Number::new(15, 12) };
        let y = Number::new(16, 12);
        let data = [0, 5, 32767];
        let same = |op: crate::graph::Op| {
            assert_eq!(
                compute(op.clone(), &[(&[3], x, &data)], y),
                compute(op, &[(&[3], Number::new(16, 12), &data)], y)
            );
        };
        same(Sigmoid {}.into());
        same(Tanh {}.into());
        same(Rsqrt {}.into());
    }

    #[test]
    fn refusals() {
        let x = Number::new(16, 12);
        let scale = |scale| Number::new(16, scale);
        assert!(refused(Sigmoid {}, &[(&[1], x)], Some(scale(0))).contains("output scale 0"));
        assert!(refused(Sigmoid {}, &[(&[1], x)], Some(scale(-1))).contains("output scale -1"));
        assert!(refused(Tanh {}, &[(&[1], scale(-1))], Some(x)).contains("input scale -1"));
        assert!(refused(Exp {}, &[(&[1], x)], None).contains("format is missing"));
        assert!(refused(Reciprocal {}, &[(&[1], scale(15))], Some(x)).contains("does not reach 2"));
        assert!(refused(Rsqrt {}, &[(&[1], x), (&[1], x)], Some(x)).contains("operands is 2, not 1"));
    }
}
