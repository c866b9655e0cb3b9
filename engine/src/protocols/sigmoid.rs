//! Sigmoid and tanh (paper V-C, figure 4).
//!
//! With `e = exp(-|x|)`: sigmoid is `1/(1+e)` for `x >= 0` and `e/(1+e)` else; with `e = exp(-2|x|)` tanh is `sign(x) (1-e)/(1+e)`. One
//! sign, one selection for `|x|`, one exponential, one reciprocal, one product; the other selection runs beside the reciprocal (sigmoid) or
//! comes last (tanh). Exponential and table index of the reciprocal are taps of one carry tree.
//!
//! Bit for bit the functions of [`crate::fixed::math`]; at most 3 (sigmoid) and 4 (tanh) units in the last place from the real ones.

use super::exp::exp_of_negated;
use super::product::ScaledProduct;
use super::reciprocal::{ReciprocalOfOnePlus, of_one_plus};
use super::truncation::Shift;
use crate::fixed::math;
use crate::program::{Bit, Build, Cx, Function, Int, Reg, refuse, signed};

/// Sigmoid of `x 2^trailing_zeros`, in a ring of `width` bits.
#[derive(Clone, Debug)]
pub struct Sigmoid {
    /// The function on the full-width input.
    pub reference: math::Sigmoid,
    /// Low bits of the full-width input that are zero, fewer than 8.
    pub trailing_zeros: u32,
    /// Width of the result.
    pub width: u32,
}

/// Tanh of `x 2^trailing_zeros`, in a ring of `width` bits.
#[derive(Clone, Debug)]
pub struct Tanh {
    /// The function on the full-width input.
    pub reference: math::Tanh,
    /// Low bits of the full-width input that are zero, fewer than 8.
    pub trailing_zeros: u32,
    /// Width of the result.
    pub width: u32,
}

/// Sign of `x`, `exp(-|x|)` in `scale + 2` bits, and the bits of that which index the reciprocal's table.
fn parts(
    cx: &mut Cx,
    name: &str,
    x: Int,
    exp: &math::Exp,
    div: &math::Div,
    trailing_zeros: u32,
    width: u32,
) -> Build<(Bit, Int, Int)> {
    let s = exp.s_out;
    if trailing_zeros >= math::DIGIT_BITS || trailing_zeros + 1 >= exp.width {
        return refuse(name, format!("an input of {} bits, {trailing_zeros} of them zero", exp.width));
    }
    if width < s + 2 {
        return refuse(name, format!("a result of scale {s} in {width} bits: {} are needed", s + 2));
    }
    let w = exp.width - trailing_zeros;
    if cx.width(x) < w {
        return refuse(name, format!("an input of {} bits where {w} are declared", cx.width(x)));
    }
    let (lo, hi) = signed(w);
    let x = cx.reduce(x, w);
    let x = cx.retype(x, lo, hi);
    let negative = cx.named("sign", |cx| cx.top_bit(x))?;
    let low = cx.reduce(x, w - 1);
    let kept = cx.mux(negative, low);
    let twice = cx.shl(kept, 1, w);
    let magnitude = cx.sub(x, twice);
    let magnitude = cx.retype(magnitude, 0, -lo);
    let e = cx.named("exp", |cx| {
        exp_of_negated(cx, magnitude, exp, trailing_zeros, &[(0, s + 2), ReciprocalOfOnePlus::index(div)])
    })?;
    Ok((negative, e[0], e[1]))
}

impl Function for Sigmoid {
    fn name(&self) -> &'static str {
        "sigmoid"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().map(|&x| self.reference.eval(x << self.trailing_zeros)).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let math::Sigmoid { exp, div } = &self.reference;
        let one = 1i128 << exp.s_out;
        let (negative, e, index) = parts(cx, "sigmoid", Int(ins[0]), exp, div, self.trailing_zeros, self.width)?;
        let reciprocal = ReciprocalOfOnePlus { reference: div.clone(), width: exp.s_out + 2 };
        let reciprocal = cx.call_int(reciprocal, &[e.0, index.0])?;
        // The numerator: e below zero, 1 elsewhere.
        let difference = cx.offset(e, -one);
        let kept = cx.mux(negative, difference);
        let numerator = cx.offset(kept, one);
        let y = cx.call_int(ScaledProduct(Shift::down(exp.s_out, self.width)), &[numerator.0, reciprocal.0])?;
        let range = self.reference.ranges().result;
        Ok(vec![cx.retype(y, range.lo, range.hi).0])
    }
    fn pointwise(&self) -> Option<u32> {
        Some(self.width)
    }
}

impl Function for Tanh {
    fn name(&self) -> &'static str {
        "tanh"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().map(|&x| self.reference.eval(x << self.trailing_zeros)).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let math::Tanh { exp, div } = &self.reference;
        let one = 1i128 << exp.s_out;
        let (negative, e, index) = parts(cx, "tanh", Int(ins[0]), exp, div, self.trailing_zeros, self.width)?;
        let (reciprocal, factor) = cx.named("reciprocal", |cx| of_one_plus(cx, div, e, index, exp.s_out + 2))?;
        let minus = cx.neg(e);
        let numerator = cx.offset(minus, one);
        let scaled = ScaledProduct(Shift::down(exp.s_out, self.width));
        let mut t = cx.call_int(scaled, &[numerator.0, reciprocal.0])?;
        if let Some(factor) = factor {
            t = cx.call_int(scaled, &[t.0, factor.0])?;
        }
        let low = cx.reduce(t, self.width - 1);
        let kept = cx.mux(negative, low);
        let twice = cx.shl(kept, 1, self.width);
        let y = cx.sub(t, twice);
        let range = self.reference.ranges().result;
        Ok(vec![cx.retype(y, range.lo, range.hi).0])
    }
    fn pointwise(&self) -> Option<u32> {
        Some(self.width)
    }
}
