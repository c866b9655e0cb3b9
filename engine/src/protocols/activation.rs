//! ReLU and ReLU6, with the shift that may follow them.
//!
//! `y = floor(min(max(x, 0), limit) / 2^shift)`. Whether `x < 0`, whether `x >= limit` and the carry of the shift are taps of *one* tree: the comparison with
//! `limit` is the sign of `x - limit`, for which the sender shows the same leaves a second view of its digits, and digits below the lowest set bit of
//! `limit` (6 at scale `s` has `s + 1` zeros) are shared altogether. Exactly one of *negative*, *kept*, *above* holds, so
//!
//! `y = kept (x >> shift) + above (limit >> shift)`, `kept = NOT (negative xor above)`
//!
//! and both products run in one round. What is kept is not negative and bounded, so that the shift needs no wrap and the extension to the
//! result's ring has a slack bit.
//!
//! Rounds: tree, B2A of the carry (with a shift), 1, and 1 to extend. Bytes: the tree, three COTs and `3 w` bits, one COT for each of the others.

use super::bits::signed_bits;
use super::carries::{Want, carries_as};
use super::truncation::high_parts;
use crate::program::{Bit, Build, Cx, Function, Int, Own, Reg, Ty, bits_for, refuse};
use sirnn_backends::inst::Party;

/// `floor(min(max(x, 0), limit) / 2^shift)` in a ring of `width` bits; without `limit` there is no upper bound.
#[derive(Clone, Copy, Debug)]
pub struct Relu {
    /// The upper bound, positive.
    pub limit: Option<i128>,
    /// Bits dropped afterwards, rounding down; toward zero is the same.
    pub shift: u32,
    /// Width of the result.
    pub width: u32,
}

impl Relu {
    fn of(&self, x: i128) -> i128 {
        x.clamp(0, self.limit.unwrap_or(x.max(0))) >> self.shift
    }

    /// Refuses operands and parameters that make no sense.
    fn check(&self, ty: &Ty) -> Build<()> {
        if !ty.exact() || signed_bits(ty.lo, ty.hi) > ty.width() + u32::from(ty.lo >= 0) {
            return refuse(
                self.name(),
                format!("the sign of {}..={} is not known in {} bits", ty.lo, ty.hi, ty.width()),
            );
        }
        if self.width == 0 || self.width > 64 {
            return refuse(self.name(), format!("no ring of {} bits", self.width));
        }
        if self.shift >= 64 {
            return refuse(self.name(), format!("a shift by {} (0..64)", self.shift));
        }
        if self.limit.is_some_and(|limit| limit <= 0 || limit >= 1 << 63) {
            return refuse(self.name(), format!("an upper bound of {} (1..2^63)", self.limit.expect("just seen")));
        }
        Ok(())
    }
}

/// What becomes of each element.
struct Selection {
    /// It stays as it is.
    kept: Bit,
    /// It becomes the limit.
    above: Option<Bit>,
}

/// Compares a number of `bits` bits with 0, if it may be `below`, and with the limit, by the carries into its top bit that were tapped for
/// each. `clean` says that the number less the limit has a place in as many bits.
fn select(
    cx: &mut Cx,
    shares: [Own; 2],
    taps: Vec<Bit>,
    bits: u32,
    (below, limit): (bool, Option<i128>),
    clean: bool,
) -> Selection {
    let mut taps = taps.into_iter();
    let mut sign = |cx: &mut Cx, add: i128| {
        let moved = cx.own_offset(shares[0], add);
        let tops = [moved, shares[1]].map(|v| cx.planes(v, bits - 1, 1)).map(|v| cx.share_bits(v));
        let tops = cx.xor(tops[0], tops[1]);
        if bits == 1 { tops } else { cx.xor(tops, taps.next().expect("asked for")) }
    };
    let negative = below.then(|| sign(cx, 0));
    let above = limit.map(|limit| {
        let under = sign(cx, -limit);
        let above = cx.not(under);
        match negative {
            // Where x is far below zero, x - limit wraps.
            Some(negative) if !clean => {
                let positive = cx.not(negative);
                cx.and(positive, above)
            }
            _ => above,
        }
    });
    let dropped = match (negative, above) {
        (Some(a), Some(b)) => cx.xor(a, b),
        (a, b) => a.or(b).expect("one of both"),
    };
    Selection { kept: cx.not(dropped), above }
}

impl Function for Relu {
    fn name(&self) -> &'static str {
        if self.limit.is_some() { "relu6" } else { "relu" }
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().map(|&x| self.of(x)).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let name = self.name();
        let x = Int(ins[0]);
        let ty = cx.ty(x).clone();
        self.check(&ty)?;
        let bound = ty.hi.min(self.limit.unwrap_or(ty.hi));
        if bound <= 0 || bound >> self.shift == 0 {
            let zero = cx.public(self.width, vec![0; ty.len]);
            return Ok(vec![zero.0]);
        }
        let limit = self.limit.filter(|&limit| limit < ty.hi);
        let below = ty.lo < 0;
        if !below && limit.is_none() {
            let y = cx.call_int(super::truncation::Shift::down(self.shift, self.width), &[x.0])?;
            return Ok(vec![y.0]);
        }
        // The ring in which signs are taken: where x - limit fits too, if there is room.
        let k = signed_bits(ty.lo, ty.hi);
        let roomy = limit.map_or(k, |limit| signed_bits(ty.lo - limit, ty.hi).max(k));
        let clean = roomy <= ty.width();
        let k = if clean { roomy } else { k };
        if k > 64 {
            return refuse(name, format!("a number up to {} needs a ring of {k} bits", ty.hi));
        }
        let x = cx.extend(x, k)?;
        let shares = Party::BOTH.map(|p| cx.view(x, p));
        let r = (bits_for(bound >> self.shift) + 1).min(k - self.shift).min(self.width);
        let numbers: Vec<_> = (self.shift > 0).then_some((Want::Carry(self.shift), r)).into_iter().collect();
        let mut wants = Vec::new();
        wants.extend((below && k > 1).then_some(Want::Carry(k - 1)));
        wants.extend(limit.map(|limit| Want::CarryPlus { add: -limit, to: k - 1 }));
        let (taps, carry) = carries_as(cx, shares[0], shares[1], &wants, &numbers)?;
        let Selection { kept, above } = select(cx, shares, taps, k, (below, limit), clean);

        let mut value = high_parts(cx, x, self.shift, r);
        if let [carry] = carry[..] {
            value = cx.add(value, carry);
        }
        let mut y = cx.mux(kept, value);
        if let (Some(above), Some(limit)) = (above, limit) {
            let one = cx.b2a(above, r);
            let most = cx.scale(one, limit >> self.shift);
            y = cx.add(y, most);
        }
        let y = cx.retype(y, 0, bound >> self.shift);
        Ok(vec![cx.extend(y, self.width)?.0])
    }
}
