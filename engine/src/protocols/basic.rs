//! Functions without communication, and the two ends of a computation: sharing what a party owns, revealing a result.

use super::bits::{require_ring, signed_bits};
use crate::program::{Build, Cx, Function, Holder, Int, Own, Reg, Ty, refuse, signed};
use sirnn_backends::inst::{Inst, Party};

/// `a + b` in a ring of `width` bits, to which both are brought.
#[derive(Clone, Copy, Debug)]
pub struct Add {
    /// Width of the result.
    pub width: u32,
}

/// The low `width` bits of a value, as a signed number: the wrap of fixed-point arithmetic. Nothing where the range fits.
#[derive(Clone, Copy, Debug)]
pub struct Wrap {
    /// Width of the result.
    pub width: u32,
}

/// `x << by`, in a ring that many bits wider.
#[derive(Clone, Copy, Debug)]
pub struct ShiftLeft {
    /// Bits.
    pub by: u32,
}

/// `c - x`.
#[derive(Clone, Copy, Debug)]
pub struct SubtractFrom(
    /// The constant.
    pub i128,
);

/// A public vector, as a value of `[lo, hi]`.
#[derive(Clone, Debug)]
pub struct Constant {
    /// The values.
    pub values: Vec<i128>,
    /// Width of the ring.
    pub width: u32,
    /// The range it is declared with.
    pub range: (i128, i128),
}

/// A vector `times` times over.
#[derive(Clone, Copy, Debug)]
pub struct Repeat {
    /// Copies.
    pub times: usize,
}

/// Elements by public index: element `i` of the result is element `map[i]`. Reverses time for a backward layer.
#[derive(Clone, Debug)]
pub struct Gather {
    /// The indices.
    pub map: Vec<u32>,
}

/// A private value as a sharing: free.
#[derive(Clone, Copy, Debug)]
pub struct Share;

/// A party learns a value. One one-way message.
#[derive(Clone, Copy, Debug)]
pub struct Reveal {
    /// Who.
    pub to: Party,
}

impl Function for Add {
    fn name(&self) -> &'static str {
        "add"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().zip(ins[1]).map(|(a, b)| a + b).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        if cx.len(ins[0]) != cx.len(ins[1]) {
            return refuse("add", format!("{} and {} elements", cx.len(ins[0]), cx.len(ins[1])));
        }
        let (a, b) = (cx.extend(Int(ins[0]), self.width)?, cx.extend(Int(ins[1]), self.width)?);
        Ok(vec![cx.add(a, b).0])
    }
}

impl Function for Wrap {
    fn name(&self) -> &'static str {
        "wrap"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().map(|&x| crate::fixed::wrap(x, self.width, true)).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        require_ring(self.name(), self.width)?;
        let ty = cx.ty(ins[0]);
        let (lo, hi) = signed(self.width);
        if ty.lo >= lo && ty.hi <= hi {
            return Ok(vec![ins[0]]);
        }
        if ty.width() < self.width {
            return refuse("wrap", format!("{} bits of a value known in {}", self.width, ty.width()));
        }
        let low = cx.reduce(Int(ins[0]), self.width);
        Ok(vec![cx.retype(low, lo, hi).0])
    }
}

impl Function for ShiftLeft {
    fn name(&self) -> &'static str {
        "shift left"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().map(|&x| x << self.by).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let width = cx.width(ins[0]) + self.by;
        if width > 64 {
            return refuse("shift left", format!("{width} bits"));
        }
        Ok(vec![cx.shl(Int(ins[0]), self.by, width).0])
    }
}

impl Function for SubtractFrom {
    fn name(&self) -> &'static str {
        "subtract"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().map(|&x| self.0 - x).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let minus = cx.neg(Int(ins[0]));
        Ok(vec![cx.offset(minus, self.0).0])
    }
}

impl Function for Constant {
    fn name(&self) -> &'static str {
        "constant"
    }
    fn clear(&self, _: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![self.values.clone()]
    }
    fn lower(&self, cx: &mut Cx, _: &[Reg]) -> Build<Vec<Reg>> {
        require_ring(self.name(), self.width)?;
        let value = cx.public(self.width, self.values.clone());
        let (lo, hi) = self.range;
        if cx.ty(value).lo < lo || cx.ty(value).hi > hi {
            return refuse("constant", format!("a value outside {lo}..={hi}"));
        }
        Ok(vec![cx.retype(value, lo, hi).0])
    }
}

impl Function for Repeat {
    fn name(&self) -> &'static str {
        "repeat"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].repeat(self.times)]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        Ok(vec![cx.repeat(Int(ins[0]), self.times).0])
    }
}

impl Function for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![self.map.iter().map(|&i| ins[0][i as usize]).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        if self.map.iter().any(|&i| i as usize >= cx.len(ins[0])) {
            return refuse("gather", format!("an index beyond {} elements", cx.len(ins[0])));
        }
        Ok(vec![cx.gather(Int(ins[0]), self.map.clone()).0])
    }
}

impl Function for Share {
    fn name(&self) -> &'static str {
        "share"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].to_vec()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        Ok(vec![cx.share(Own(ins[0])).0])
    }
}

impl Function for Reveal {
    fn name(&self) -> &'static str {
        "reveal"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].to_vec()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let ty = cx.ty(ins[0]).clone();
        if !ty.exact() {
            return refuse("reveal", "only the low bits of the value are known");
        }
        // Exactly the declared type goes out: no bit above its range.
        let x = cx.reduce(Int(ins[0]), signed_bits(ty.lo, ty.hi).min(ty.width()));
        let ty = Ty { holder: Holder::Only(self.to), ..cx.ty(x).clone() };
        Ok(cx.inter(Inst::Open { to: self.to, ring: ty.ring }, &[x.0], vec![ty]))
    }
}
