//! The reciprocal of a number in `[1, 2)` (paper V-B, figure 5), and of `1 + e`, `e` in `[0, 1]`.
//!
//! A table at the top `m` fraction bits gives slope and intercept of a line; `Y = ((intercept << k) - slope * low) >> K`. For scales above 18 one
//! Goldschmidt step follows: with `e = (den Y) >> t`, which is nearly 1, the quotient is multiplied by `2 - e`. The range of that factor is narrow, so
//! its bits are the choices of the product.
//!
//! Sigmoid and tanh need it for `1 + exp(-|x|)`, which is exactly 2 only where the exponential is exactly 1; their definition takes one unit off
//! there. Here this costs no comparison: the index has one bit more, and entry `2^m` holds the result for that denominator outright (slope 0), or,
//! where a step follows, the last line and the unit.
//!
//! Rounds: table 2, product 1, truncation; with a step two more products and truncations. For `1 + e` the index comes from the same
//! carry tree as the exponential itself.

use super::lookup::{Column, Lookup};
use super::product::{Product, ScaledProduct};
use super::roots::narrow_product;
use super::truncation::Shift;
use crate::fixed::{Interval, math};
use crate::program::{Build, Cx, Function, Int, Reg, refuse};
use std::sync::Arc;

/// Where the line is cut: the intercept is worth `2^k`, and the result begins at bit `down`.
fn places(div: &math::Div) -> (u32, u32) {
    let (m, t, s) = (div.m, div.s_den, div.s_out);
    (t - m + 1, t + m + 3 - s)
}

/// The columns of slope and intercept for a result of `width` bits.
pub(super) fn columns(div: &math::Div, width: u32, slope: Vec<i128>, intercept: Vec<i128>) -> Build<Vec<Column>> {
    let (k, down) = places(div);
    if width < div.s_out || down + width > 64 {
        return refuse("reciprocal", format!("scale {} in {width} bits, in a ring of {}", div.s_out, down + width));
    }
    Ok(vec![
        Column { width: div.m + 4, entries: Arc::new(slope) },
        Column { width: down + width - k, entries: Arc::new(intercept) },
    ])
}

/// First approximation of the reciprocal: the line with the given slope and intercept at `low`.
pub(super) fn line(cx: &mut Cx, div: &math::Div, (slope, intercept): (Int, Int), low: Int, width: u32) -> Build<Int> {
    let (k, down) = places(div);
    let low = if cx.width(slope) + cx.width(low) < down + width {
        // The product would extend the slope, which the look-up has just made; this runs beside the look-up.
        cx.extend(low, down + width)?
    } else {
        low
    };
    let product = cx.call_int(Product { width: down + width }, &[slope.0, low.0])?;
    let start = cx.shl(intercept, k, down + width);
    let line = cx.sub(start, product);
    let result = cx.call_int(Shift::down(down, width), &[line.0])?;
    let Interval { lo, hi } = div.ranges(Interval::from(1)).reciprocal.result;
    Ok(cx.retype(result, lo, hi))
}

/// The same where there is only one line.
pub(super) fn only_line(cx: &mut Cx, div: &math::Div, low: Int, width: u32) -> Build<Int> {
    let (k, down) = places(div);
    let low = cx.extend(low, down + width)?;
    let product = cx.scale(low, -i128::from(div.slope[0]));
    let line = cx.offset(product, i128::from(div.intercept[0]) << k);
    let result = cx.call_int(Shift::down(down, width), &[line.0])?;
    let Interval { lo, hi } = div.ranges(Interval::from(1)).reciprocal.result;
    Ok(cx.retype(result, lo, hi))
}

/// The factor of the Goldschmidt step: `2 - ((den * reciprocal) >> s_den)`.
pub(super) fn factor(cx: &mut Cx, div: &math::Div, den: Int, reciprocal: Int) -> Build<Int> {
    let refinement = div.ranges(Interval::from(1)).refinement.expect("there is a step");
    let near_one = narrow_product(cx, den, reciprocal, div.s_den, refinement.near_one)?;
    let minus = cx.neg(near_one);
    Ok(cx.offset(minus, 2 << div.s_out))
}

/// The first approximation of `1 / (1 + e)` from the operands of [`ReciprocalOfOnePlus`], and the factor of the step, if there is one.
pub(super) fn of_one_plus(cx: &mut Cx, div: &math::Div, e: Int, index: Int, width: u32) -> Build<(Int, Option<Int>)> {
    let (m, t, s) = (div.m, div.s_den, div.s_out);
    if t != s {
        return refuse("reciprocal", format!("a scale of {s} bits from {t}; the same scale is supported"));
    }
    // low = e - index 2^(t-m), one bit of slack.
    let b = t - m;
    let low = cx.reduce(e, b + 1);
    let bit = cx.reduce(index, 1);
    let above = cx.shl(bit, b, b + 1);
    let low = cx.sub(low, above);
    let low = cx.retype(low, 0, (1 << b) - 1);
    let one = 1i128 << t;
    let extended = |entries: &[u64], last: i128| -> Vec<i128> {
        let mut column: Vec<i128> = entries.iter().map(|&v| v.into()).collect();
        column.push(last);
        column.resize(2 << m, 0);
        column
    };
    if div.iterations == 0 {
        let (k, down) = places(div);
        let at_two = div.steps(1, 2 * one - 1).reciprocal.result << (down - k);
        let columns = columns(div, width, extended(&div.slope, 0), extended(&div.intercept, at_two))?;
        let entry = cx.call(Lookup { columns }, &[index.0])?;
        return Ok((line(cx, div, (Int(entry[0]), Int(entry[1])), low, width)?, None));
    }
    // At 2 the last line, at the end of its low parts: one unit less.
    let last = |entries: &[u64]| extended(entries, (*entries.last().expect("not empty")).into());
    let mut columns = columns(div, width, last(&div.slope), last(&div.intercept))?;
    let is_two = extended(&vec![0; 1 << m], 1);
    columns.push(Column { width: cx.width(e), entries: Arc::new(is_two) });
    let entry = cx.call(Lookup { columns }, &[index.0])?;
    let unit = Int(entry[2]);
    let end = cx.reduce(unit, b + 1);
    let end = cx.scale(end, (1 << b) - 1);
    let low = cx.add(low, end);
    let low = cx.retype(low, 0, (1 << b) - 1);
    let first = line(cx, div, (Int(entry[0]), Int(entry[1])), low, width)?;
    let den = cx.sub(e, unit);
    let den = cx.offset(den, one);
    let den = cx.retype(den, one, 2 * one - 1);
    Ok((first, Some(factor(cx, div, den, first)?)))
}

/// `1 / (1 + e)` at scale `s` from `e` and the bits of `e` above its low `s - m`. Operands: `e` in `[0, 2^s]`, index in `[0, 2^m]`.
#[derive(Clone, Debug)]
pub struct ReciprocalOfOnePlus {
    /// Table and scales.
    pub reference: math::Div,
    /// Width of the result.
    pub width: u32,
}

impl ReciprocalOfOnePlus {
    fn of(&self, e: i128) -> i128 {
        let one = 1i128 << self.reference.s_den;
        let den = one + e - i128::from(e == one);
        self.reference.steps(1, den).result
    }

    /// The index's place in `e`: `(lowest bit, width)`.
    pub fn index(reference: &math::Div) -> (u32, u32) {
        (reference.s_den - reference.m, reference.m + 1)
    }
}

impl Function for ReciprocalOfOnePlus {
    fn name(&self) -> &'static str {
        "reciprocal"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().map(|&e| self.of(e)).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let div = &self.reference;
        if div.s_num != 0 {
            return refuse("reciprocal", format!("a numerator of scale {}: it is the integer 1", div.s_num));
        }
        let (first, factor) = of_one_plus(cx, div, Int(ins[0]), Int(ins[1]), self.width)?;
        let Some(factor) = factor else { return Ok(vec![first.0]) };
        let y = cx.call_int(ScaledProduct(Shift::down(div.s_out, self.width)), &[first.0, factor.0])?;
        let Interval { lo, hi } = div.ranges(Interval::from(1)).result;
        Ok(vec![cx.retype(y, lo, hi).0])
    }
}

/// `1 / (1 + e)` at scale `s` from `e` in `[0, 2^s]`.
#[derive(Clone, Debug)]
pub struct OneOverOnePlus(pub ReciprocalOfOnePlus);

impl Function for OneOverOnePlus {
    fn name(&self) -> &'static str {
        "reciprocal"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        self.0.clear(ins)
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let (by, width) = ReciprocalOfOnePlus::index(&self.0.reference);
        let index = cx.call_int(Shift::down(by, width), &[ins[0]])?;
        self.0.lower(cx, &[ins[0], index.0])
    }
    fn pointwise(&self) -> Option<u32> {
        Some(self.0.width)
    }
}
