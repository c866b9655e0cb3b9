//! Truncation and extension: truncate-and-reduce, logical and arithmetic right shift, division by a power of two rounded
//! toward zero or to nearest, change to a wider ring. Paper IV-A (extension), IV-B (truncation).
//!
//! All are one function, [`Shift`]: `y = R(floor(x / 2^floor), shift)` into a ring of any width, where `R` divides by `2^shift`
//! and rounds as [`Rounding`] says. With shares `x0`, `x1` of a non-negative `x < 2^w` (a public offset makes it so),
//! `S = floor + shift`, `c` the carry into bit `S` and `W` the carry out of bit `w`:
//!
//! `floor(x / 2^S) = (x0 >> S) + (x1 >> S) + c - 2^(w-S) W`
//!
//! * The last term vanishes if the result's ring has at most `w - S` bits: truncate-and-reduce. `S = 0` is extension.
//! * `c` and `W` are taps of one carry tree ([`super::carries`]). With one slack bit (`x < 2^(w-1)`) `W` is free of comparison: it is
//!   the OR of the shares' top bits, `W = 1 - (1-t0)(1-t1)`, one private product: extension takes one round.
//! * To nearest is rounding down after half of the divisor was added, which one party does on its share.
//! * Toward zero, a negative `x` whose discarded bits are not all zero gets 1 more. Sign, carry and zero test come from the same tree; the
//!   sign is the carry into the top bit xor both top bits. Division after a floor (`floor > 0`) tests bits `floor..S`.
//!
//! Rounds: tree + 1 (carry and wrap as numbers, in which the upper levels of the tree may be merged), toward zero tree + 1 (sign AND
//! not-zero as a number); + 1 where that saves bytes.

use super::bits::{require_ring, signed_bits};
use super::carries::{Want, carries_as};
use crate::program::{Build, Cx, Function, Int, Reg, Ty, bits_for, refuse};
use sirnn_backends::inst::Party;

/// Which way a division rounds. In a file: `"floor"`, `"zero"` or `"nearest"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Rounding {
    /// Toward minus infinity: an arithmetic shift.
    #[default]
    #[serde(rename = "floor")]
    Floor,
    /// Toward zero: C's division. Files of format 1 call it `"toward-zero"`.
    #[serde(rename = "zero", alias = "toward-zero")]
    TowardZero,
    /// To the nearest integer, and of two that are equally near to the larger: half of the divisor is added, then it is
    /// rounded down.
    #[serde(rename = "nearest")]
    Nearest,
}

impl Rounding {
    /// All of them.
    pub const ALL: [Rounding; 3] = [Rounding::Floor, Rounding::TowardZero, Rounding::Nearest];

    /// `x / 2^shift`, rounded.
    pub fn apply(self, x: i128, shift: u32) -> i128 {
        match self {
            Rounding::TowardZero if x < 0 => -(-x >> shift),
            Rounding::Floor | Rounding::TowardZero => x >> shift,
            Rounding::Nearest => (x + half(shift)) >> shift,
        }
    }

    /// `x / divisor`, rounded, for a positive divisor.
    pub fn divide(self, x: i128, divisor: i128) -> i128 {
        match self {
            Rounding::Floor => x.div_euclid(divisor),
            Rounding::TowardZero => x / divisor,
            Rounding::Nearest => (x + divisor / 2).div_euclid(divisor),
        }
    }
}

/// Half of `2^shift`, rounded down: what is added before a floor shift that rounds to nearest.
pub(super) fn half(shift: u32) -> i128 {
    (1 << shift) / 2
}

/// `R(floor(x / 2^floor), shift)` in a ring of `width` bits.
#[derive(Clone, Copy, Debug)]
pub struct Shift {
    /// Bits dropped rounding down.
    pub floor: u32,
    /// Bits dropped in the rounding mode, after that.
    pub shift: u32,
    /// The rounding mode.
    pub rounding: Rounding,
    /// Width of the result.
    pub width: u32,
}

impl Shift {
    /// A shift rounding down.
    pub fn down(shift: u32, width: u32) -> Self {
        Shift { floor: shift, shift: 0, rounding: Rounding::Floor, width }
    }

    /// The result for one value.
    pub fn of(&self, x: i128) -> i128 {
        self.rounding.apply(x >> self.floor, self.shift)
    }

    /// The narrowest ring of an operand in `[lo, hi]` that determines the result: the low bits for a floor, the whole number
    /// where the sign matters.
    pub fn ring_for(&self, lo: i128, hi: i128) -> u32 {
        let (lo, hi) = (lo + self.addend(), hi + self.addend());
        let whole = signed_bits(lo, hi);
        let plain = self.rounding != Rounding::TowardZero || self.shift == 0 || lo >= 0;
        // A few bits more in the product are cheaper than the wrap of a narrower one.
        const WRAP_WORTH: u32 = 4;
        let low = self.width + self.total();
        if plain && low <= whole + WRAP_WORTH { low } else { whole }
    }

    fn total(&self) -> u32 {
        self.floor + self.shift
    }

    /// What makes rounding to nearest rounding down, when it is added.
    pub(super) fn addend(&self) -> i128 {
        if self.rounding == Rounding::Nearest { half(self.shift) << self.floor } else { 0 }
    }
}

impl Function for Shift {
    fn name(&self) -> &'static str {
        if self.total() == 0 {
            "extend"
        } else {
            match self.rounding {
                Rounding::TowardZero if self.shift > 0 => "divide",
                _ => "shift",
            }
        }
    }

    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().map(|&x| self.of(x)).collect()]
    }

    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let x = Int(ins[0]);
        let ty = cx.ty(x).clone();
        require_ring(self.name(), self.width)?;
        if self.of(ty.lo) == self.of(ty.hi) {
            // Every value is shifted to the same one, which types alone tell.
            return Ok(vec![cx.public(self.width, vec![self.of(ty.lo); ty.len]).0]);
        }
        let y = if self.rounding != Rounding::TowardZero || self.shift == 0 || ty.lo >= 0 {
            self.down_to(cx, x)?
        } else if let Some(up) = self.negative_up(&ty) {
            let up = cx.offset(x, up);
            self.down_to(cx, up)?
        } else {
            self.toward_zero(cx, x)?
        };
        Ok(vec![cx.retype(y, self.of(ty.lo), self.of(ty.hi)).0])
    }
}

impl Shift {
    /// What makes rounding down of a number that is never positive rounding toward zero, if the ring has room for it.
    fn negative_up(&self, ty: &Ty) -> Option<i128> {
        let up = ((1i128 << self.shift) - 1) << self.floor;
        let total = self.total();
        let top = ty.hi + up + (-((ty.lo + up) >> total) << total);
        let fits = self.width + total <= ty.width() || bits_for(top).max(total) <= ty.width();
        (ty.hi <= 0 && fits).then_some(up)
    }

    /// Rounding down of `x` and what rounding to nearest adds to it.
    fn down_to(&self, cx: &mut Cx, x: Int) -> Build<Int> {
        let (total, add) = (self.total(), self.addend());
        let ty = cx.ty(x).clone();
        if self.width + total <= ty.width() {
            let x = cx.offset(x, add);
            let low = cx.reduce(x, self.width + total);
            return Ok(truncate_and_reduce(cx, low, &[(total, self.width)])?[0]);
        }
        if !ty.exact() {
            let what = format!("{} bits of the result depend on more than the {} known", self.width, ty.width());
            return refuse(self.name(), what);
        }
        // Make it non-negative by a multiple of 2^total, then take the narrowest ring, with slack if there is room.
        let place = |add: i128| {
            let steps = -((ty.lo + add) >> total);
            (steps, bits_for(ty.hi + add + (steps << total)).max(total))
        };
        let (mut steps, mut bits) = place(add);
        // If the sum would leave the ring, P0 adds to its share alone, which grows by a bit: the wrap stays as it was.
        let outside = add > 0 && bits > ty.width();
        if outside {
            (steps, bits) = place(0);
        }
        if bits > ty.width() {
            return refuse(self.name(), format!("{}..={} with offset does not fit {} bits", ty.lo, ty.hi, ty.width()));
        }
        let slack = bits < ty.width();
        let w = if slack { bits + 1 } else { bits };
        let x = cx.offset(x, (steps << total) + if outside { 0 } else { add });
        let x = cx.reduce(x, w);
        let above = w - total;
        let (x0, x1) = (cx.view(x, Party::P0), cx.view(x, Party::P1));
        let mut wants = Vec::new();
        if total > 0 {
            let carry = if outside { Want::CarryPlus { add, to: total } } else { Want::Carry(total) };
            wants.push((carry, self.width));
        }
        if !slack && self.width > above {
            wants.push((Want::Carry(w), self.width - above));
        }
        let (_, taps) = carries_as(cx, x0, x1, &[], &wants)?;
        let mut sum =
            if above > 0 { high_parts(cx, x, total, self.width) } else { cx.public(self.width, vec![0; ty.len]) };
        if total > 0 {
            sum = cx.add(sum, taps[0]);
        }
        if outside {
            // (x0 + 2^(total-1)) >> total is x0 >> total and the bit below.
            let bit = cx.digit(x0, total - 1, 1);
            let bit = cx.lift(bit, 0, self.width);
            sum = cx.add(sum, bit);
        }
        if self.width > above {
            let wrap = if slack {
                slack_wrap(cx, x, self.width - above)
            } else {
                *taps.last().expect("the wrap was asked for")
            };
            let high = cx.shl(wrap, above, self.width);
            sum = cx.sub(sum, high);
        }
        Ok(cx.offset(sum, -steps))
    }

    fn toward_zero(&self, cx: &mut Cx, x: Int) -> Build<Int> {
        let (name, total) = (self.name(), self.total());
        let ty = cx.ty(x).clone();
        let k = signed_bits(ty.lo, ty.hi);
        if !ty.exact() || k > ty.width() {
            return refuse(name, format!("the sign of {}..={} is not known in {} bits", ty.lo, ty.hi, ty.width()));
        }
        if total >= k {
            // The floor alone leaves only a sign.
            return refuse(name, format!("a shift by {total} of a {k}-bit number"));
        }
        let x = cx.reduce(x, k);
        let x = cx.offset(x, 1 << (k - 1));
        let (x0, x1) = (cx.view(x, Party::P0), cx.view(x, Party::P1));
        let above = k - total;
        let wants = [Want::Zero { from: self.floor, to: total }, Want::Carry(k - 1)];
        let mut numbers = vec![(Want::Carry(total), self.width)];
        if self.width > above {
            numbers.push((Want::Carry(k), self.width - above));
        }
        let (bits, numbers) = carries_as(cx, x0, x1, &wants, &numbers)?;
        let tops = [x0, x1].map(|v| cx.planes(v, k - 1, 1)).map(|v| cx.share_bits(v));
        let tops = cx.xor(tops[0], tops[1]);
        // With the offset, the top bit is set where x is not negative.
        let positive = cx.xor(tops, bits[1]);
        let negative = cx.not(positive);
        let inexact = cx.not(bits[0]);
        let fix = cx.and_number(negative, inexact, self.width);
        let mut sum = high_parts(cx, x, total, self.width);
        for one in [numbers[0], fix] {
            sum = cx.add(sum, one);
        }
        if self.width > above {
            let high = cx.shl(numbers[1], above, self.width);
            sum = cx.sub(sum, high);
        }
        Ok(cx.offset(sum, -(1 << (above - 1))))
    }
}

/// `(x0 >> by) + (x1 >> by)` in `width` bits.
pub(super) fn high_parts(cx: &mut Cx, x: Int, by: u32, width: u32) -> Int {
    let bits = (cx.width(x) - by).min(width);
    let parts = Party::BOTH.map(|p| {
        let share = cx.view(x, p);
        let high = cx.digit(share, by, bits);
        cx.lift(high, 0, width)
    });
    cx.add(parts[0], parts[1])
}

/// The wrap of a value that leaves the top bit of its ring free: `1 - (1-t0)(1-t1)`, in `width` bits. One round, one COT.
pub fn slack_wrap(cx: &mut Cx, x: Int, width: u32) -> Int {
    let w = cx.width(x);
    let free = Party::BOTH.map(|p| {
        let share = cx.view(x, p);
        let top = cx.planes(share, w - 1, 1);
        cx.own_not(top)
    });
    let v = cx.word(free[0], width);
    let neither = cx.cross(free[1], v, None);
    let wrap = cx.neg(neither);
    cx.offset(wrap, 1)
}

/// Truncate-and-reduce at several positions at once: for each `(by, width)` bits `by..by + width` of `x` as a sharing
/// in `width` bits. One carry tree serves all.
pub fn truncate_and_reduce(cx: &mut Cx, x: Int, cuts: &[(u32, u32)]) -> Build<Vec<Int>> {
    let (x0, x1) = (cx.view(x, Party::P0), cx.view(x, Party::P1));
    let wants: Vec<_> = cuts.iter().filter(|c| c.0 > 0).map(|&(by, width)| (Want::Carry(by), width)).collect();
    let mut taps = carries_as(cx, x0, x1, &[], &wants)?.1.into_iter();
    let mut out = Vec::new();
    for &(by, width) in cuts {
        let mut sum = high_parts(cx, x, by, width);
        if by > 0 {
            sum = cx.add(sum, taps.next().expect("one per cut"));
        }
        out.push(cx.retype(sum, 0, (1 << width) - 1));
    }
    Ok(out)
}

impl Cx {
    /// `x` in a ring of `width` bits, same value. Free if narrower; one round with slack, else a comparison.
    pub fn extend(&mut self, x: Int, width: u32) -> Build<Int> {
        require_ring("extend", width)?;
        if width <= self.width(x) { Ok(self.reduce(x, width)) } else { self.call_int(Shift::down(0, width), &[x.0]) }
    }
}
