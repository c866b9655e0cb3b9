//! Products of a server-owned matrix with shared inputs. Paper IV-C; `linear` form: one one-way message online.
//!
//! The client draws a mask `R` in advance and both get shares of `W R`, made once per *bit of the weights* and extended over all time
//! steps and items; online it sends `x1 - R`, and `W x = W (x0 + (x1 - R)) + W R`. The input must be in the ring of the result, so
//! it is extended first: one round with slack, else a comparison. The ring is no wider than the rescale behind it needs.
//!
//! Rounds: 1 (+ extension + rescale). Bytes online: the ring's width per input element.

use super::product::corners;
use super::truncation::Shift;
use crate::program::{Build, Cx, Function, Holder, Int, Own, Reg, Ty, refuse};
use sirnn_backends::inst::{Inst, LinearOp, Party, Ring};

/// `W x` in a ring of `width` bits. Operands: weights (private to P0, signed), input.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// The map.
    pub op: LinearOp,
    /// Width of input ring and result.
    pub width: u32,
}

/// `R(floor(W x / 2^floor), shift)`.
#[derive(Clone, Copy, Debug)]
pub struct ScaledLinear {
    /// The map.
    pub op: LinearOp,
    /// The rescale.
    pub shift: Shift,
}

/// The map on integers.
pub(super) fn apply(op: LinearOp, w: &[i128], x: &[i128]) -> Vec<i128> {
    op.apply(w, x, 0, |sum, w, x| sum + w * x)
}

/// Range of the result: from the declared range of the weights, not from their values.
fn range(cx: &Cx, name: &str, op: LinearOp, ins: &[Reg]) -> Build<(i128, i128)> {
    let terms = match op {
        LinearOp::MatMul { inner, .. } => inner as usize,
        LinearOp::Scale { .. } => 1,
        LinearOp::Conv(conv) => conv.patch(),
    };
    corners(name, cx.ty(ins[0]), cx.ty(ins[1]), terms)
}

fn check(cx: &Cx, name: &str, op: LinearOp, ins: &[Reg]) -> Build<()> {
    if let LinearOp::Conv(conv) = op {
        super::conv::check(name, &conv, cx.len(ins[1]))?;
    }
    let (w, x) = (cx.ty(ins[0]), cx.ty(ins[1]));
    if w.holder != Holder::Only(Party::P0) || w.len != op.weights() {
        return refuse(name, format!("{} weights of the server expected, {} given", op.weights(), w.len));
    }
    if let LinearOp::MatMul { inner, .. } = op
        && !x.len.is_multiple_of(inner as usize)
    {
        return refuse(name, format!("{} inputs are no rows of {inner}", x.len));
    }
    Ok(())
}

impl Function for Linear {
    fn name(&self) -> &'static str {
        match self.op {
            LinearOp::MatMul { .. } => "matmul",
            LinearOp::Scale { .. } => "scale",
            LinearOp::Conv(_) => "conv",
        }
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![apply(self.op, ins[0], ins[1])]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        check(cx, self.name(), self.op, ins)?;
        if self.width > 64 {
            return refuse(self.name(), format!("the product needs {} bits, 64 are supported", self.width));
        }
        let (lo, hi) = range(cx, self.name(), self.op, ins)?;
        let weight_bits = cx.width(ins[0]) as u8;
        let x = cx.extend(Int(ins[1]), self.width)?;
        let width = self.width as u8;
        let len = self.op.output_len(cx.len(x));
        let ty = Ty { ring: Ring::Add(width), len, holder: Holder::Both, lo, hi };
        let y = cx.inter(Inst::Linear { op: self.op, weight_bits, width }, &[ins[0], x.0], vec![ty])[0];
        Ok(vec![y])
    }
}

impl Function for ScaledLinear {
    fn name(&self) -> &'static str {
        "scaled linear"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![apply(self.op, ins[0], ins[1]).into_iter().map(|t| self.shift.of(t)).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        check(cx, self.name(), self.op, ins)?;
        let (lo, hi) = range(cx, self.name(), self.op, ins)?;
        let width = self.shift.ring_for(lo, hi);
        let y = cx.call_int(Linear { op: self.op, width }, ins)?;
        Ok(vec![cx.call_int(self.shift, &[y.0])?.0])
    }
}

impl Cx {
    /// `R(floor(x W / 2^floor), shift)` for rows `x` of `inner` elements.
    pub fn matmul(&mut self, w: Own, x: Int, inner: usize, outer: usize, shift: Shift) -> Build<Int> {
        let op = LinearOp::MatMul { inner: inner as u32, outer: outer as u32 };
        self.call_int(ScaledLinear { op, shift }, &[w.0, x.0])
    }
}
