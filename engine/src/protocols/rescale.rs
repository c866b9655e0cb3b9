//! What fixed-point programs do with a sum of products: rescale, move up, wrap, rescale again, and hand it on in the
//! ring that the next operation needs. One comparison where the definition has three.
//!
//! `y = R(wrap_out(R(floor(x / 2^floor), shift) << left), then)`, of which the low `width` bits are made.
//!
//! * Rounding down commutes with the wrap: `wrap_b(floor(x / 2^s)) = floor(wrap_(b+s)(x) / 2^s)`. The product is formed
//!   in a ring of `b + s` bits at most, which *is* the wrap, and one carry tree truncates and extends.
//! * Toward zero it does not (the sign is that of the number before the wrap), except where the number is known to fit
//!   or not to be negative. Then wrap and a second shift come after the first.
//! * `R(R(x, a), b) = R(x, a + b)` for both, where nothing wraps in between.
//! * To nearest is rounding down after an addition. What the first shift adds is added to the sum of products, before the
//!   wrap, and what `then` adds behind it; so that two shifts are still one.
//! * `R(x << left, then)` is a shift by the difference: what was moved up is not cut off again.

use super::bits::{require_ring, signed_bits};
use super::truncation::{Rounding, Shift, half};
use crate::program::{Build, Cx, Function, Int, Reg, bits_for, signed};

/// The rescale; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rescale {
    /// Bits dropped rounding down.
    pub floor: u32,
    /// Bits dropped in the rounding mode, after that.
    pub shift: u32,
    /// Bits moved up.
    pub left: u32,
    /// Width of the wrap; `None` for none.
    pub out: Option<u32>,
    /// Bits dropped in the rounding mode, after the wrap.
    pub then: u32,
    /// The rounding mode.
    pub rounding: Rounding,
    /// Width of the result's ring. If the value does not fit, the result is its low bits as a signed number.
    pub width: u32,
}

/// How a rescale of numbers of a certain range is done.
struct Form {
    /// Added at first: the first shift's part of rounding to nearest.
    add: i128,
    /// Wraps to a ring of so many bits before the first shift, which rounds down.
    wrap: Option<u32>,
    first: Shift,
    /// Retypes the first shift's result to its own ring, and shifts again.
    second: Option<Shift>,
    /// Bits moved up at the end.
    up: u32,
}

impl Rescale {
    /// One shift in the rounding mode.
    pub fn by(shift: u32, rounding: Rounding, width: u32) -> Self {
        Self { floor: 0, shift, left: 0, out: None, then: 0, rounding, width }
    }

    /// Before the result is cut to its ring.
    pub fn value(&self, x: i128) -> i128 {
        let moved = self.rounding.apply(x >> self.floor, self.shift) << self.left;
        let wrapped = self.out.map_or(moved, |out| crate::fixed::wrap(moved, out, true));
        self.rounding.apply(wrapped, self.then)
    }

    /// The result for one number.
    pub fn of(&self, x: i128) -> i128 {
        let (lo, hi) = signed(self.width);
        let y = self.value(x);
        if y < lo || y > hi { crate::fixed::wrap(y, self.width, true) } else { y }
    }

    /// Whether numbers of `[lo, hi]` may exceed the wrap's width.
    pub fn wraps(&self, lo: i128, hi: i128) -> bool {
        let moved = |x: i128| self.rounding.apply(x >> self.floor, self.shift) << self.left;
        self.out.is_some_and(|out| {
            let (least, largest) = signed(out);
            moved(lo) < least || moved(hi) > largest
        })
    }

    /// Range of the value, whatever the ring.
    fn value_range(&self, lo: i128, hi: i128) -> (i128, i128) {
        match self.out {
            Some(out) if self.wraps(lo, hi) => {
                let (lo, hi) = signed(out);
                let hi = hi >> self.left << self.left;
                (self.rounding.apply(lo, self.then), self.rounding.apply(hi, self.then))
            }
            _ => (self.value(lo), self.value(hi)),
        }
    }

    /// Range of the result for operands in `[lo, hi]`.
    pub fn range(&self, lo: i128, hi: i128) -> (i128, i128) {
        let (lo, hi) = self.value_range(lo, hi);
        let (least, largest) = signed(self.width);
        if lo < least || hi > largest { (least, largest) } else { (lo, hi) }
    }

    fn form(&self, lo: i128, hi: i128) -> Form {
        let up = self.left.saturating_sub(self.then);
        let then = self.then.saturating_sub(self.left);
        // If everything is moved out the result is 0; a ring of one bit then stands for none.
        let width = self.width.saturating_sub(up).max(1);
        let wrap = self.out.filter(|_| self.wraps(lo, hi)).map(|out| out - self.left);
        let (floor, shift, rounding) = (self.floor, self.shift, self.rounding);
        let down = rounding != Rounding::TowardZero || shift == 0 || lo >= 0;
        let add = if rounding == Rounding::Nearest { half(shift) << floor } else { 0 };
        if down {
            let floor = floor + shift;
            // Of a wrapped number nothing is left but the sign.
            let then = wrap.filter(|_| rounding == Rounding::Floor).map_or(then, |bits| then.min(bits - 1));
            let first = Shift { floor, shift: then, rounding, width };
            return Form { add, wrap: wrap.map(|bits| bits + floor), first, second: None, up };
        }
        match wrap {
            None => {
                let first = Shift { floor, shift: shift + then, rounding, width };
                Form { add, wrap: None, first, second: None, up }
            }
            Some(bits) => {
                let first = Shift { floor, shift, rounding, width: bits };
                let second = Shift { floor: 0, shift: then, rounding, width };
                Form { add, wrap: None, first, second: Some(second), up }
            }
        }
    }

    /// The ring in which an operand of `[lo, hi]` should come: enough bits to determine the result, and one more where
    /// that makes the result's extension cheap.
    pub fn ring(&self, lo: i128, hi: i128) -> u32 {
        // A few bits more in the product are cheaper than a wrap of the result.
        const WRAP_WORTH: u32 = 4;
        let Form { add, wrap, first, .. } = self.form(lo, hi);
        let (lo, hi) = wrap.map_or((lo + add, hi + add), signed);
        if first.rounding == Rounding::TowardZero && first.shift > 0 && lo < 0 {
            return signed_bits(lo, hi);
        }
        let total = first.floor + first.shift;
        let low = first.width + total;
        match wrap {
            Some(bits) => low.min(bits),
            None => {
                let (lo, hi) = (lo + first.addend(), hi + first.addend());
                let top = hi + ((-(lo >> total)) << total);
                let whole = bits_for(top).max(total) + 1;
                if low <= whole + WRAP_WORTH { low } else { whole }
            }
        }
    }
}

impl Function for Rescale {
    fn name(&self) -> &'static str {
        "rescale"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().map(|&x| self.of(x)).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        require_ring(self.name(), self.width)?;
        let (lo, hi) = (cx.ty(ins[0]).lo, cx.ty(ins[0]).hi);
        let Form { add, wrap, first, second, up } = self.form(lo, hi);
        let mut x = cx.offset(Int(ins[0]), add);
        if let Some(bits) = wrap {
            // In fewer bits than the wrap the result's low bits are all that is asked for.
            let bits = bits.min(cx.width(x));
            x = cx.reduce(x, bits);
            let (lo, hi) = signed(bits);
            x = cx.retype(x, lo, hi);
        }
        let mut y = cx.call_int(first, &[x.0])?;
        if let Some(second) = second {
            let (lo, hi) = signed(first.width);
            y = cx.retype(y, lo, hi);
            y = cx.call_int(second, &[y.0])?;
        }
        y = cx.shl(y, up, self.width.min(cx.width(y) + up));
        let (lo, hi) = self.range(lo, hi);
        Ok(vec![cx.retype(y, lo, hi).0])
    }
}
