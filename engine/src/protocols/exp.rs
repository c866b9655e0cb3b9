//! The exponential of negative numbers (paper V-A, figure 3).
//!
//! `exp(-n)` is the product of a table look-up per 8-bit digit of `n`; products are formed in a binary tree, each truncated to the
//! output scale. A look-up's result stays below half of its ring of `scale + 2` bits, so every product takes one round.
//! Where the input is known to be a multiple of `2^trailing_zeros`, the lowest digit and its table are that much smaller: the
//! results are the same bits.
//!
//! Rounds for 16 bits, scale 12: digits 3, table 2, product 1, truncation 4.

use super::bits::require_ring;
use super::lookup::{Column, Digits, Lookup};
use super::product::{Product, ScaledProduct};
use super::truncation::{Shift, truncate_and_reduce};
use crate::fixed::math;
use crate::program::{Build, Cx, Function, Int, Reg, refuse};
use std::sync::Arc;

/// `exp(x 2^trailing_zeros)` for `x <= 0` in a ring of `width` bits; scales are those of [`math::Exp`].
#[derive(Clone, Debug)]
pub struct Exp {
    /// The function on the full-width input `x 2^trailing_zeros`.
    pub reference: math::Exp,
    /// Low bits of the full-width input that are zero, fewer than 8.
    pub trailing_zeros: u32,
    /// Width of the result.
    pub width: u32,
}

impl Function for Exp {
    fn name(&self) -> &'static str {
        "exp"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().map(|&x| self.reference.eval(x << self.trailing_zeros)).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        if cx.ty(ins[0]).hi > 0 {
            return refuse("exp", format!("the operand can be positive (up to {})", cx.ty(ins[0]).hi));
        }
        require_ring("exp", self.width)?;
        let n = cx.neg(Int(ins[0]));
        Ok(vec![exp_of_negated(cx, n, &self.reference, self.trailing_zeros, &[(0, self.width)])?[0].0])
    }
    fn pointwise(&self) -> Option<u32> {
        Some(self.width)
    }
}

/// `exp(-n 2^trailing_zeros)` for `n >= 0`, cut as asked: for each `(by, width)` its bits `by..by + width` as a sharing. `(0, w)` is the value
/// itself in a ring of `w` bits. All cuts come from one carry tree.
pub fn exp_of_negated(
    cx: &mut Cx,
    n: Int,
    exp: &math::Exp,
    trailing_zeros: u32,
    cuts: &[(u32, u32)],
) -> Build<Vec<Int>> {
    let s = exp.s_out;
    if trailing_zeros >= exp.digits[0].bits {
        return refuse("exp", format!("{trailing_zeros} zero bits in a digit of {}", exp.digits[0].bits));
    }
    let widths: Vec<u32> =
        exp.digits.iter().enumerate().map(|(i, d)| if i == 0 { d.bits - trailing_zeros } else { d.bits }).collect();
    let total: u32 = widths.iter().sum();
    if cx.ty(n).hi >= 1 << total || cx.width(n) < total {
        return refuse("exp", format!("an operand down to {} in {total} bits", -cx.ty(n).hi));
    }
    let n = cx.reduce(n, total);
    let digits = cx.call(Digits { widths }, &[n.0])?;
    let table = |i: usize| -> Vec<i128> {
        let step = if i == 0 { 1 << trailing_zeros } else { 1 };
        exp.digits[i].table.iter().step_by(step).map(|&e| e.into()).collect()
    };
    if let [digit] = digits[..] {
        let column =
            |&(by, width): &(u32, u32)| Column { width, entries: Arc::new(table(0).iter().map(|e| e >> by).collect()) };
        let outs = cx.call(Lookup { columns: cuts.iter().map(column).collect() }, &[digit])?;
        return Ok(outs.into_iter().map(Int).collect());
    }
    let mut leaves = Vec::new();
    for (i, &digit) in digits.iter().enumerate() {
        let column = Column { width: s + 2, entries: Arc::new(table(i)) };
        leaves.push(cx.call_int(Lookup { columns: vec![column] }, &[digit])?);
    }
    while leaves.len() > 2 {
        let mut next = Vec::new();
        for pair in leaves.chunks(2) {
            next.push(match *pair {
                [a, b] => cx.call_int(ScaledProduct(Shift::down(s, s + 2)), &[a.0, b.0])?,
                _ => pair[0],
            });
        }
        leaves = next;
    }
    let l = s + cuts.iter().map(|(by, width)| by + width).max().expect("cuts");
    let product = cx.call_int(Product { width: l }, &[leaves[0].0, leaves[1].0])?;
    let cuts_below: Vec<(u32, u32)> = cuts.iter().map(|&(by, width)| (s + by, width)).collect();
    let outs = truncate_and_reduce(cx, product, &cuts_below)?;
    Ok(outs.into_iter().zip(cuts).map(|(v, &(by, _))| cx.retype(v, 0, 1 << (s - by))).collect())
}
