//! Changing width and scale: extension, truncate-and-reduce, logical and arithmetic right shift, division by a power of
//! two toward zero. Paper IV-A (extension), IV-B (truncation).
//!
//! All are one function, [`Shift`]: `y = R(floor(x / 2^floor), shift)` into a ring of any width, where `R` divides by `2^shift`
//! rounding down or toward zero. With shares `x0`, `x1` of a non-negative `x < 2^w` (a public offset makes it so),
//! `S = floor + shift`, `c` the carry into bit `S` and `W` the carry out of bit `w`:
//!
//! `floor(x / 2^S) = (x0 >> S) + (x1 >> S) + c - 2^(w-S) W`
//!
//! * The last term vanishes if the result's ring has at most `w - S` bits: truncate-and-reduce. `S = 0` is extension.
//! * `c` and `W` are taps of one carry tree ([`super::carries`]). With one slack bit (`x < 2^(w-1)`) `W` is free of comparison: it is
//!   the OR of the shares' top bits, `W = 1 - (1-t0)(1-t1)`, one private product: extension takes one round.
//! * To nearest is half a unit more, rounded down: an addition of a public number.
//! * Toward zero, a negative `x` whose discarded bits are not all zero gets 1 more. Sign, carry and zero test come from the same tree; the
//!   sign is the carry into the top bit xor both top bits. Division after a floor (`floor > 0`) tests bits `floor..S`.
//!
//! Rounds: tree + 1 (carry and wrap as numbers, in which the upper levels of the tree may be merged), toward zero tree + 1 (sign AND
//! not-zero as a number); + 1 where that saves bytes.

use super::bits::{require_ring, signed_bits};
use super::carries::{Want, carries_as};
use crate::program::{Build, Cx, Function, Int, Reg, Ty, bits_for, refuse};
use sirnn_backends::inst::Party;

/// Which way a rescale rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// Toward minus infinity: an arithmetic shift.
    #[default]
    Floor,
    /// Toward zero: C's division.
    TowardZero,
    /// To the nearest integer, the upper one of two: half a unit is added before rounding down.
    Nearest,
}

impl Rounding {
    /// `x / 2^shift`, rounded.
    pub fn apply(self, x: i128, shift: u32) -> i128 {
        match self {
            Rounding::TowardZero if x < 0 => -(-x >> shift),
            Rounding::Nearest if shift > 0 => (x + (1 << (shift - 1))) >> shift,
            _ => x >> shift,
        }
    }

    /// `x / divisor`, rounded, for a positive divisor.
    pub fn quotient(self, x: i128, divisor: i128) -> i128 {
        match self {
            Rounding::Floor => x.div_euclid(divisor),
            Rounding::TowardZero => x / divisor,
            Rounding::Nearest => (x + divisor / 2).div_euclid(divisor),
        }
    }
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
        let whole = signed_bits(lo, hi + self.half());
        let plain = self.rounding != Rounding::TowardZero || self.shift == 0 || lo >= 0;
        // A few bits more in the product are cheaper than the wrap of a narrower one.
        const WRAP_WORTH: u32 = 4;
        let low = self.width + self.total();
        if plain && low <= whole + WRAP_WORTH { low } else { whole }
    }

    /// What is added before rounding down.
    fn half(&self) -> i128 {
        if self.rounding == Rounding::Nearest && self.shift > 0 { 1 << (self.total() - 1) } else { 0 }
    }

    fn total(&self) -> u32 {
        self.floor + self.shift
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
        if self.rounding == Rounding::Nearest {
            return Ok(vec![self.nearest(cx, x)?.0]);
        }
        let y = if self.rounding == Rounding::Floor || self.shift == 0 || ty.lo >= 0 {
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

    /// Half a unit more, rounded down. The sum may need a bit more than the operand.
    fn nearest(&self, cx: &mut Cx, x: Int) -> Build<Int> {
        let total = self.total();
        let down = Shift::down(total, self.width);
        let half = self.half();
        let Ty { lo, hi, .. } = *cx.ty(x);
        let width = cx.width(x);
        let bits = bits_for(hi + half + (-((lo + half) >> total) << total));
        let x = if self.width + total > width && bits > width { cx.extend(x, bits)? } else { x };
        let x = cx.offset(x, half);
        cx.call_int(down, &[x.0])
    }

    fn down_to(&self, cx: &mut Cx, x: Int) -> Build<Int> {
        let total = self.total();
        let ty = cx.ty(x).clone();
        if self.width + total <= ty.width() {
            let low = cx.reduce(x, self.width + total);
            return Ok(truncate_and_reduce(cx, low, &[(total, self.width)])?[0]);
        }
        if !ty.exact() {
            let what = format!("{} bits of the result depend on more than the {} known", self.width, ty.width());
            return refuse(self.name(), what);
        }
        // Make it non-negative by a multiple of 2^total, then take the narrowest ring, with slack if there is room.
        let steps = -(ty.lo >> total);
        let top = ty.hi + (steps << total);
        let bits = bits_for(top).max(total);
        if bits > ty.width() {
            return refuse(self.name(), format!("{}..={} with offset does not fit {} bits", ty.lo, ty.hi, ty.width()));
        }
        let slack = bits < ty.width();
        let w = if slack { bits + 1 } else { bits };
        let x = cx.offset(x, steps << total);
        let x = cx.reduce(x, w);
        let above = w - total;
        if above == 0 {
            // Everything is shifted out: floor is the constant that the offset undid.
            let n = cx.len(x);
            return Ok(cx.public(self.width, vec![-steps; n]));
        }
        let (x0, x1) = (cx.view(x, Party::P0), cx.view(x, Party::P1));
        let mut wants = Vec::new();
        if total > 0 {
            wants.push((Want::Carry(total), self.width));
        }
        if !slack && self.width > above {
            wants.push((Want::Carry(w), self.width - above));
        }
        let (_, taps) = carries_as(cx, x0, x1, &[], &wants)?;
        let mut sum = high_parts(cx, x, total, self.width);
        if total > 0 {
            sum = cx.add(sum, taps[0]);
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
            // |x| < 2^shift after the floor, or the floor alone leaves only a sign.
            return if self.of(ty.lo) == 0 && self.of(ty.hi) == 0 {
                let n = cx.len(x);
                Ok(cx.public(self.width, vec![0; n]))
            } else {
                refuse(name, format!("a shift by {total} of a {k}-bit number"))
            };
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
