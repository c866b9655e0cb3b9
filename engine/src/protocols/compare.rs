//! Comparisons of private and of shared numbers, and functions of shared bits. Paper III-A, III-C, IV-A.
//!
//! Two private numbers: `a > b` iff `a + (2^w - 1 - b)` carries out of bit `w`; `a = b` iff that sum is all ones. So both are taps of
//! the tree of [`carries`](super::carries). Ranges that begin elsewhere than at 0 are moved there first, each party its own number.
//!
//! Two shared numbers: `a > b` is the sign of `b - a` if their ring holds every difference of the two ranges: one slack bit. Where both fill the ring
//! the difference can wrap, and does not only if their top bits (from the least number on) agree; if these differ, they tell. So three
//! trees side by side and one AND take the place of an extension of both. `a = b` iff the shares of `a - b` sum to
//! zero; here no slack is needed if both ranges lie in one window of the ring's size.
//!
//! The wrap of a sharing is the majority of both top bits and the carry into the top bit. Given an XOR-shared sign (the carry
//! xor both top bits), with `s`, `t0`, `t1`: `wrap = (s xor t0)(s xor t1) xor s xor t0 xor t1`: one AND of shared bits.
//!
//! Rounds: 2 and the depth of the tree, `ceil(log2 leaves)`; AND, OR and the wrap from a sign 1; XOR and NOT none; a selection 1.
//! Bytes: those of the tree (about 9.5 per bit with IKNP); per AND one triple and 4 bits; per selection two COTs and `2 (1 + w)` bits.

use super::bits::signed_bits;
use super::carries::{Want, carries};
use crate::program::{Bit, Build, Cx, Function, Holder, Int, Own, Reg, bits_for, refuse};
use sirnn_backends::inst::{Party, Ring};

/// `a > b`. Operands: both shared, or one private to each party.
#[derive(Clone, Copy, Debug)]
pub struct Greater;

/// `a = b`. Operands: both shared, or one private to each party.
#[derive(Clone, Copy, Debug)]
pub struct Equal;

/// Whether `a + b >= 2^width` for private unsigned numbers: the wrap of the sharing that they are.
#[derive(Clone, Copy, Debug)]
pub struct Wraps {
    /// Width of the numbers.
    pub width: u32,
}

/// [`Wraps`], and whether `a + b = 2^width - 1`.
#[derive(Clone, Copy, Debug)]
pub struct WrapsAndOnes {
    /// Width of the numbers.
    pub width: u32,
}

/// [`Wraps`], given the top bit of the sum (`MSB-to-wrap`). Operands: `a`, `b`, the shared bit.
#[derive(Clone, Copy, Debug)]
pub struct WrapsGivenSign {
    /// Width of the numbers.
    pub width: u32,
}

/// A function of two vectors of shared bits, plane by plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Both.
    And,
    /// At least one.
    Or,
    /// Exactly one.
    Xor,
}

/// The complement of all planes.
#[derive(Clone, Copy, Debug)]
pub struct Not;

/// `bit ? x : y`, in a ring of `width` bits.
#[derive(Clone, Copy, Debug)]
pub struct Select {
    /// Width of the result.
    pub width: u32,
}

/// Two operands of a comparison.
enum Pair {
    Private(Own, Own),
    Shared(Int, Int),
}

/// Both operands, `b` private to P1 if `a` is to P0. The flag says that they were exchanged.
fn pair(cx: &Cx, name: &str, ins: &[Reg]) -> Build<(Pair, bool)> {
    let [a, b] = [0, 1].map(|i| cx.ty(ins[i]));
    if a.len != b.len {
        return refuse(name, format!("{} and {} elements", a.len, b.len));
    }
    if [a, b].iter().any(|t| matches!(t.ring, Ring::Xor(_))) {
        return refuse(name, "numbers expected, bits given");
    }
    if !a.exact() || !b.exact() {
        return refuse(name, "an operand's range is wider than its ring");
    }
    match (a.holder, b.holder) {
        (Holder::Both, Holder::Both) => Ok((Pair::Shared(Int(ins[0]), Int(ins[1])), false)),
        (Holder::Only(Party::P0), Holder::Only(Party::P1)) => Ok((Pair::Private(Own(ins[0]), Own(ins[1])), false)),
        (Holder::Only(Party::P1), Holder::Only(Party::P0)) => Ok((Pair::Private(Own(ins[1]), Own(ins[0])), true)),
        _ => refuse(name, "operands are both shared, or one private to each party"),
    }
}

/// Private numbers moved to `[0, 2^w)`, P1's complemented: their sum is `2^w - 1 + a - b`.
fn against(cx: &mut Cx, name: &str, a: Own, b: Own) -> Build<(Own, Own)> {
    let lo = cx.ty(a).lo.min(cx.ty(b).lo);
    let hi = cx.ty(a).hi.max(cx.ty(b).hi);
    let width = bits_for(hi - lo).max(1);
    if width > 64 {
        return refuse(name, format!("numbers between {lo} and {hi} differ by more than 64 bits"));
    }
    let mut moved = |x: Own| {
        let own = cx.ty(x).lo;
        let from_zero = cx.own_offset(x, -own);
        let wide = cx.own_shl(from_zero, 0, width);
        cx.own_offset(wide, own - lo)
    };
    let (a, b) = (moved(a), moved(b));
    let minus = cx.own_scale(b, -1);
    Ok((a, cx.own_offset(minus, -1)))
}

impl Cx {
    /// `a > b` for shared numbers.
    pub fn greater(&mut self, a: Int, b: Int) -> Build<Bit> {
        let (x, y) = (self.ty(a), self.ty(b));
        let (lo, hi) = (y.lo - x.hi, y.hi - x.lo);
        let (least, most) = (x.lo.min(y.lo), x.hi.max(y.hi));
        let width = signed_bits(lo, hi);
        if width <= x.width().max(y.width()) {
            let (a, b) = (self.extend(a, width)?, self.extend(b, width)?);
            let difference = self.sub(b, a);
            let difference = self.retype(difference, lo, hi);
            return self.negative(difference);
        }
        let width = bits_for(most - least).max(1);
        if width > 64 {
            return refuse("greater", format!("numbers between {least} and {most} differ by more than 64 bits"));
        }
        let [a, b] = [self.extend(a, width)?, self.extend(b, width)?].map(|v| self.offset(v, -least));
        let difference = self.sub(b, a);
        let (top, other) = (self.top_bit(a)?, self.top_bit(b)?);
        let below = self.top_bit(difference)?;
        let (apart, change) = (self.xor(top, other), self.xor(below, top));
        let change = self.and(apart, change);
        Ok(self.xor(below, change))
    }

    /// `a = b` for shared numbers.
    pub fn equal(&mut self, a: Int, b: Int) -> Build<Bit> {
        let (lo, hi) = (self.ty(a).lo.min(self.ty(b).lo), self.ty(a).hi.max(self.ty(b).hi));
        let width = bits_for(hi - lo).max(1);
        if width > 64 {
            return refuse("equal", format!("numbers between {lo} and {hi} differ by more than 64 bits"));
        }
        let (a, b) = (self.extend(a, width)?, self.extend(b, width)?);
        let difference = self.sub(a, b);
        let (x, y) = (self.view(difference, Party::P0), self.view(difference, Party::P1));
        Ok(carries(self, x, y, &[Want::Zero { from: 0, to: width }])?[0])
    }

    /// `a OR b` for single planes.
    pub fn or(&mut self, a: Bit, b: Bit) -> Bit {
        let (a, b) = (self.not(a), self.not(b));
        let neither = self.and(a, b);
        self.not(neither)
    }
}

fn flags<'a>(ins: &[&'a [i128]], f: impl Fn(i128, i128) -> bool + 'a) -> Vec<i128> {
    ins[0].iter().zip(ins[1]).map(|(a, b)| i128::from(f(*a, *b))).collect()
}

/// Private unsigned numbers of one width, P0's first.
fn shares(cx: &Cx, name: &str, width: u32, ins: &[Reg]) -> Build<(Own, Own)> {
    let [a, b] = [0, 1].map(|i| cx.ty(ins[i]));
    let held = [a.holder, b.holder] == Party::BOTH.map(Holder::Only);
    let ring = Ring::Add(width as u8);
    if !held || [a.ring, b.ring] != [ring; 2] || a.len != b.len {
        return refuse(name, format!("numbers of P0 and of P1 of {width} bits are expected"));
    }
    if a.lo < 0 || b.lo < 0 || !a.exact() || !b.exact() {
        return refuse(name, "unsigned numbers are expected");
    }
    Ok((Own(ins[0]), Own(ins[1])))
}

impl Function for Greater {
    fn name(&self) -> &'static str {
        "greater"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![flags(ins, |a, b| a > b)]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let (operands, exchanged) = pair(cx, self.name(), ins)?;
        let bit = match operands {
            Pair::Shared(a, b) => cx.greater(a, b)?,
            Pair::Private(a, b) => {
                let (x, y) = against(cx, self.name(), a, b)?;
                // The other way round: b > a iff the sum of the complements carries.
                let complement = |cx: &mut Cx, v: Own| {
                    let minus = cx.own_scale(v, -1);
                    cx.own_offset(minus, -1)
                };
                let (x, y) = if exchanged { (complement(cx, x), complement(cx, y)) } else { (x, y) };
                let width = cx.width(x);
                carries(cx, x, y, &[Want::Carry(width)])?[0]
            }
        };
        Ok(vec![bit.0])
    }
}

impl Function for Equal {
    fn name(&self) -> &'static str {
        "equal"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![flags(ins, |a, b| a == b)]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let bit = match pair(cx, self.name(), ins)?.0 {
            Pair::Shared(a, b) => cx.equal(a, b)?,
            Pair::Private(a, b) => {
                let (x, y) = against(cx, self.name(), a, b)?;
                let width = cx.width(x);
                carries(cx, x, y, &[Want::Ones(width)])?[0]
            }
        };
        Ok(vec![bit.0])
    }
}

impl Function for Wraps {
    fn name(&self) -> &'static str {
        "wraps"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![flags(ins, |a, b| a + b >= 1 << self.width)]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let (a, b) = shares(cx, self.name(), self.width, ins)?;
        Ok(vec![carries(cx, a, b, &[Want::Carry(self.width)])?[0].0])
    }
}

impl Function for WrapsAndOnes {
    fn name(&self) -> &'static str {
        "wraps and ones"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![flags(ins, |a, b| a + b >= 1 << self.width), flags(ins, |a, b| a + b == (1 << self.width) - 1)]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let (a, b) = shares(cx, self.name(), self.width, ins)?;
        let taps = carries(cx, a, b, &[Want::Carry(self.width), Want::Ones(self.width)])?;
        Ok(taps.into_iter().map(Reg::from).collect())
    }
}

impl Function for WrapsGivenSign {
    fn name(&self) -> &'static str {
        "wraps given sign"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![flags(ins, |a, b| a + b >= 1 << self.width)]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let (a, b) = shares(cx, self.name(), self.width, ins)?;
        if cx.ty(ins[2]).ring != Ring::Xor(1) || cx.len(ins[2]) != cx.len(a) {
            return refuse(self.name(), "the third operand is the shared top bit of the sum");
        }
        Ok(vec![wrap_from_sign(cx, a, b, Bit(ins[2])).0])
    }
}

/// Whether private `a + b` wraps, given the top bit of the sum. One round, one triple.
pub fn wrap_from_sign(cx: &mut Cx, a: Own, b: Own, sign: Bit) -> Bit {
    let top = cx.width(a) - 1;
    let [t0, t1] = [a, b].map(|v| {
        let plane = cx.planes(v, top, 1);
        cx.share_bits(plane)
    });
    let (u, v) = (cx.xor(sign, t0), cx.xor(sign, t1));
    let both = cx.and(u, v);
    let odd = cx.xor(u, t1);
    cx.xor(both, odd)
}

impl Function for Gate {
    fn name(&self) -> &'static str {
        match self {
            Gate::And => "and",
            Gate::Or => "or",
            Gate::Xor => "xor",
        }
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        let gate = |(a, b): (&i128, &i128)| match self {
            Gate::And => a & b,
            Gate::Or => a | b,
            Gate::Xor => a ^ b,
        };
        vec![ins[0].iter().zip(ins[1]).map(gate).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let [a, b] = [0, 1].map(|i| cx.ty(ins[i]));
        if a.ring != b.ring || a.len != b.len || !matches!(a.ring, Ring::Xor(_)) {
            return refuse(self.name(), "two vectors of as many shared bits are expected");
        }
        let (a, b) = (Bit(ins[0]), Bit(ins[1]));
        if *self == Gate::Xor {
            return Ok(vec![cx.xor(a, b).0]);
        }
        let planes: Vec<Bit> = (0..cx.width(a) as usize)
            .map(|p| {
                let (a, b) = (cx.pick(a, p, 1), cx.pick(b, p, 1));
                if *self == Gate::And { cx.and(a, b) } else { cx.or(a, b) }
            })
            .collect();
        Ok(vec![cx.stack(&planes).0])
    }
}

impl Function for Not {
    fn name(&self) -> &'static str {
        "not"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().map(|a| 1 - a).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        if cx.ty(ins[0]).ring != Ring::Xor(1) {
            return refuse(self.name(), "a shared bit is expected");
        }
        Ok(vec![cx.not(Bit(ins[0])).0])
    }
}

impl Function for Select {
    fn name(&self) -> &'static str {
        "select"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().zip(ins[1].iter().zip(ins[2])).map(|(b, (x, y))| if *b == 1 { *x } else { *y }).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let lens = [0, 1, 2].map(|i| cx.len(ins[i]));
        if cx.ty(ins[0]).ring != Ring::Xor(1) || lens[0] != lens[1] || lens[1] != lens[2] {
            return refuse(self.name(), "a shared bit and two numbers are expected, of the same length");
        }
        let (x, y) = (cx.extend(Int(ins[1]), self.width)?, cx.extend(Int(ins[2]), self.width)?);
        Ok(vec![cx.select(Bit(ins[0]), x, y).0])
    }
}
