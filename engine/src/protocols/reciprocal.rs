//! The reciprocal of `1 + e`, `e` in `[0, 1]` (paper V-B, figure 5, with no Goldschmidt step: scales up to 18).
//!
//! A table at the top `m` fraction bits gives slope and intercept of a line; `Y = ((intercept << k) - slope * low) >> K`. Sigmoid and tanh
//! need it for `1 + exp(-|x|)`, which is exactly 2 only where the exponential is exactly 1; their definition takes one unit off there. Here
//! this costs no comparison: the index has one bit more, and entry `2^m` holds the result for that denominator outright (slope 0).
//!
//! Rounds: table 2, product 1, truncation; the index comes from the same carry tree as the exponential itself.

use super::lookup::{Column, Lookup};
use super::product::Product;
use super::shift::Shift;
use crate::fixed::{Interval, math};
use crate::program::{Build, Cx, Function, Int, Reg, refuse};
use std::sync::Arc;

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
        self.reference.steps(1, den).reciprocal.result
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
        let (m, t, s) = (div.m, div.s_den, div.s_out);
        if div.iterations > 0 || t != s {
            return refuse(
                "reciprocal",
                format!("a scale of {s} bits from {t}; up to 18 from the same scale are supported"),
            );
        }
        let (e, index) = (Int(ins[0]), Int(ins[1]));
        // low = e - index 2^(t-m), one bit of slack.
        let b = t - m;
        let low = cx.reduce(e, b + 1);
        let bit = cx.reduce(index, 1);
        let above = cx.shl(bit, b, b + 1);
        let low = cx.sub(low, above);
        let low = cx.retype(low, 0, (1 << b) - 1);

        let (k, down) = (t - m + 1, t + m + 3 - s);
        let l = down + self.width;
        let at_two = self.of(1 << t);
        let table = |entries: &[u64], at_two: i128| {
            let mut column: Vec<i128> = entries.iter().map(|&v| v.into()).collect();
            column.push(at_two);
            column.resize(2 << m, 0);
            Arc::new(column)
        };
        let columns = vec![
            Column { width: m + 4, entries: table(&div.slope, 0) },
            Column { width: l - k, entries: table(&div.intercept, at_two << (down - k)) },
        ];
        let line = cx.call(Lookup { columns }, &[index.0])?;
        let product = cx.call_int(Product { width: l }, &[line[0], low.0])?;
        let start = cx.shl(Int(line[1]), k, l);
        let line = cx.sub(start, product);
        let result = cx.call_int(Shift::down(down, self.width), &[line.0])?;
        let Interval { lo, hi } = div.ranges(Interval::from(1)).reciprocal.result;
        Ok(vec![cx.retype(result, lo.min(at_two), hi.max(at_two)).0])
    }
}
