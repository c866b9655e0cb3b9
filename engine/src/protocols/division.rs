//! Division of shared numbers (paper V-B, figure 5), bit for bit [`math::Div`] and [`math::DivGeneral`].
//!
//! A denominator in `[1, 2)`: its reciprocal is a line from a table ([`reciprocal`](super::reciprocal)), the quotient the product with the numerator;
//! above scale 18 a Goldschmidt step multiplies it by a factor near 1.
//!
//! Any positive denominator is first moved into `[1, 2)`: the bits of the exponent are looked up at its most significant non-zero bit, and a shift by
//! secret bits, one selection each, does what a product with a power of two would; the same bits move the quotient. A denominator of 0 counts
//! as 1 unit: where its range has 0, the zero flag of the look-up supplies the bit that the normalised unit has.
//!
//! Rounds: truncation for the index, table 2, product 1, truncation; product 1, truncation. In general also those of the most significant bit and
//! two per bit of the exponent.

use super::lookup::Lookup;
use super::msnzb::{Columns, leading};
use super::product::ScaledProduct;
use super::reciprocal::{columns, factor, line, only_line};
use super::truncation::{Shift, truncate_and_reduce};
use crate::fixed::{Interval, math};
use crate::program::{Build, Cx, Function, Int, Reg, bits_for, refuse};

/// `num / den` for a denominator in `[1, 2)`, in a ring of `width` bits. Operands: numerator, denominator.
#[derive(Clone, Debug)]
pub struct Divide {
    /// The function.
    pub reference: math::Div,
    /// Width of the result.
    pub width: u32,
}

/// `num / den` for any denominator of a non-negative range, in a ring of `width` bits. Operands: numerator, denominator.
#[derive(Clone, Debug)]
pub struct DivideGeneral {
    /// The function.
    pub reference: math::DivGeneral,
    /// Width of the result.
    pub width: u32,
}

/// `1 / den` for a denominator in `[1, 2)`.
#[derive(Clone, Debug)]
pub struct Reciprocal {
    /// The function, with a numerator of scale 0.
    pub reference: math::Div,
    /// Width of the result.
    pub width: u32,
}

fn both(ins: &[&[i128]], f: impl Fn(i128, i128) -> i128) -> Vec<Vec<i128>> {
    vec![ins[0].iter().zip(ins[1]).map(|(&a, &b)| f(a, b)).collect()]
}

/// The first approximation of the reciprocal of a denominator in `[1, 2)`.
fn first(cx: &mut Cx, div: &math::Div, den: Int) -> Build<Int> {
    let (m, t) = (div.m, div.s_den);
    let b = t - m;
    let low = cx.reduce(den, b + 1);
    let width = div.s_out + 1;
    if m == 0 {
        let low = cx.offset(low, -(1 << t));
        let low = cx.retype(low, 0, (1 << b) - 1);
        return cx.named("reciprocal", |cx| only_line(cx, div, low, width));
    }
    let fraction = cx.reduce(den, t);
    let index = truncate_and_reduce(cx, fraction, &[(b, m)])?[0];
    let bit = cx.reduce(index, 1);
    let above = cx.shl(bit, b, b + 1);
    let low = cx.sub(low, above);
    let low = cx.retype(low, 0, (1 << b) - 1);
    let numbers = |table: &[u64]| table.iter().map(|&v| v.into()).collect();
    cx.named("reciprocal", |cx| {
        let columns = columns(div, width, numbers(&div.slope), numbers(&div.intercept))?;
        let entry = cx.call(Lookup { columns }, &[index.0])?;
        line(cx, div, (Int(entry[0]), Int(entry[1])), low, width)
    })
}

fn check(cx: &Cx, name: &str, width: u32, ins: &[Reg], den: Interval) -> Build<()> {
    let (num, ty) = (cx.ty(ins[0]), cx.ty(ins[1]));
    if num.len != ty.len {
        return refuse(name, format!("{} numerators, {} denominators", num.len, ty.len));
    }
    if ty.lo < den.lo || ty.hi > den.hi || !ty.exact() {
        let what = format!("a denominator in {}..={} is expected, not {}..={}", den.lo, den.hi, ty.lo, ty.hi);
        return refuse(name, what);
    }
    if width == 0 || width > 64 {
        return refuse(name, format!("no ring of {width} bits"));
    }
    if !num.exact() {
        return refuse(name, "the numerator's range is wider than its ring");
    }
    Ok(())
}

/// The denominators that are in `[1, 2)`.
fn normalised(div: &math::Div) -> Interval {
    Interval::new(1 << div.s_den, (2 << div.s_den) - 1)
}

impl Function for Divide {
    fn name(&self) -> &'static str {
        "divide"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        both(ins, |num, den| self.reference.eval(num, den))
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let div = &self.reference;
        check(cx, self.name(), self.width, ins, normalised(div))?;
        let (num, den) = (Int(ins[0]), Int(ins[1]));
        let range = div.ranges(Interval::new(cx.ty(num).lo, cx.ty(num).hi)).result;
        let reciprocal = first(cx, div, den)?;
        let ring = if div.iterations > 0 { (self.width + div.s_out).min(64) } else { self.width };
        let mut y = cx.call_int(ScaledProduct(Shift::down(div.s_num, ring)), &[num.0, reciprocal.0])?;
        if div.iterations > 0 {
            let factor = factor(cx, div, den, reciprocal)?;
            y = cx.call_int(ScaledProduct(Shift::down(div.s_out, self.width)), &[y.0, factor.0])?;
        }
        Ok(vec![cx.retype(y, range.lo, range.hi).0])
    }
}

impl Function for Reciprocal {
    fn name(&self) -> &'static str {
        "reciprocal"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().map(|&den| self.reference.eval(1, den)).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let div = &self.reference;
        check(cx, self.name(), self.width, &[ins[0], ins[0]], normalised(div))?;
        if div.s_num != 0 {
            return refuse(self.name(), format!("a numerator of scale {}: it is the integer 1", div.s_num));
        }
        let den = Int(ins[0]);
        let y = first(cx, div, den)?;
        let y = if div.iterations > 0 {
            let factor = factor(cx, div, den, y)?;
            cx.call_int(ScaledProduct(Shift::down(div.s_out, self.width)), &[y.0, factor.0])?
        } else {
            cx.extend(y, self.width)?
        };
        let range = div.ranges(Interval::from(1)).result;
        Ok(vec![cx.retype(y, range.lo, range.hi).0])
    }
    fn pointwise(&self) -> Option<u32> {
        Some(self.width)
    }
}

impl Function for DivideGeneral {
    fn name(&self) -> &'static str {
        "divide"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        both(ins, |num, den| self.reference.eval(num, den))
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let r = &self.reference;
        let (div, w) = (&r.normalised, r.width_den);
        check(cx, self.name(), self.width, ins, Interval::new(0, (1 << w) - 1))?;
        let (num, den) = (Int(ins[0]), Int(ins[1]));
        let ranges = r.ranges(Interval::new(cx.ty(num).lo, cx.ty(num).hi));
        let ty = cx.ty(den).clone();
        let bits = bits_for(ty.hi).max(1);
        let least = ty.lo.max(1).ilog2();
        let levels = bits_for(r.exponent(least).into()).max(1);
        let has_zero = ty.lo == 0;
        let f = |k: u32| u64::from(r.exponent(k));
        let at_zero = if has_zero { f(0) } else { 0 };
        let lead = leading(cx, den, bits, &Columns { count: levels, f: &f, at_zero, zero_flag: has_zero })?;
        let ring = (w + 1).min(64);
        let wide = cx.extend(den, ring)?;
        let mut normal = cx.shift_left_by(wide, lead.planes, 1);
        if let Some(zero) = lead.zero {
            let one = cx.b2a(zero, ring - (w - 1));
            let one = cx.shl(one, w - 1, ring);
            normal = cx.add(normal, one);
        }
        let normal = cx.retype(normal, ranges.normalised.lo, ranges.normalised.hi);
        let reciprocal = first(cx, div, normal)?;

        let down = r.exponent(r.s_den);
        let more = if div.iterations > 0 { div.s_out } else { 0 };
        let ring = self.width + more + down;
        if ring > 64 {
            let what = format!("a quotient of {} bits needs a ring of {ring}, 64 are supported", self.width);
            return refuse(self.name(), what);
        }
        let y = cx.call_int(ScaledProduct(Shift::down(div.s_num, ring)), &[num.0, reciprocal.0])?;
        let y = cx.shift_left_by(y, lead.planes, 1);
        let mut y = cx.call_int(Shift::down(down, ring - down), &[y.0])?;
        if div.iterations > 0 {
            let factor = factor(cx, div, normal, reciprocal)?;
            y = cx.call_int(ScaledProduct(Shift::down(div.s_out, self.width)), &[y.0, factor.0])?;
        }
        Ok(vec![cx.retype(y, ranges.result.lo, ranges.result.hi).0])
    }
}
