//! Square root and its inverse (paper V-D, figure 6), bit for bit [`math::Root`].
//!
//! With `k` the most significant non-zero bit of `x` and `p` the parity of `k - s_in`, the even-exponent input is `X = x << e`,
//! `e = w - 2 - k + p`, in `[1, 4)`. Because `p` makes `e` of constant parity `c`, `e = 2 h + c`, and the exponent that undoes the normalisation is
//! `h` plus a constant for the inverse root and a constant less `h` for the root. So all that is looked up at the most significant bit are the bits
//! of `h` and `p`, and both normalisations are shifts by secret bits: one selection per bit of `h`, instead of a product with a
//! one-hot vector of the width of the number.
//!
//! * The table is indexed by the top bits of `X << (1 - p)` and by `p`, XOR-shared.
//! * First step, from the guess `Y` of the table: `Y (Y b)` with `Y`, which has few bits, as choices twice.
//! * The residuals `b` and the factors `3 - b` lie near 1: their range, proven by [`math::Root::ranges`], is narrow. So is the ring that they are
//!   truncated to, and so are products in which they choose.
//! * 0 is taken as 1 unit: where the operand's range has 0, the flag that comes with the most significant bit puts a 1 at the place of the
//!   normalised unit.
//!
//! Rounds for 16 bits, scale 12: 33; about 2,290 bytes with IKNP.

use super::lookup::MAX_OT_INDEX;
use super::msnzb::{Columns, leading};
use super::product::{Product, ScaledProduct};
use super::truncation::{Shift, truncate_and_reduce};
use crate::fixed::{Interval, Number, math};
use crate::program::{Bit, Build, Cx, Function, Int, Reg, bits_for, refuse};
use sirnn_backends::inst::{Party, Ring};

/// `1 / sqrt(x)` or `sqrt(x)` of `x` in `[0, 2^(w-1))`, in a ring of `width` bits.
#[derive(Clone, Debug)]
pub struct Root {
    /// The function.
    pub reference: math::Root,
    /// Width of the result.
    pub width: u32,
}

/// `floor(a b / 2^shift)`, known to lie in `range`, in the narrowest ring with a slack bit.
pub(super) fn narrow_product(cx: &mut Cx, a: Int, b: Int, shift: u32, range: Interval) -> Build<Int> {
    let width = bits_for(range.hi - range.lo).max(1) + 1;
    let product = cx.call_int(Product { width: shift + width }, &[a.0, b.0])?;
    let value = cx.call_int(Shift::down(shift, width), &[product.0])?;
    Ok(cx.retype(value, range.lo, range.hi))
}

impl Root {
    /// Halves of the exponent of the even-exponent input, less its parity.
    fn half(&self, k: u32) -> u32 {
        let r = &self.reference;
        (r.normaliser(k) + u32::from(r.parity(k))) / 2
    }

    /// The range of the result over inputs with most significant non-zero bits `ks`.
    fn range(&self, x: Interval, ks: std::ops::RangeInclusive<u32>) -> Interval {
        let r = &self.reference;
        let powers: Vec<i128> = ks.map(|k| 1 << r.exponent(k)).collect();
        let least = powers.iter().min().expect("a number has bits");
        let most = powers.iter().max().expect("a number has bits");
        Interval::new((x.lo * least) >> r.restore(), (x.hi * most) >> r.restore())
    }

    /// The even-exponent input of `x`, a number of `bits` bits, with a slack bit; `levels` bits tell its exponent.
    fn normalise(&self, cx: &mut Cx, x: Int, bits: u32, levels: u32) -> Build<Normalised> {
        let (r, w) = (&self.reference, self.reference.width);
        let odd = (r.normaliser(0) + u32::from(r.parity(0))) % 2;
        let has_zero = cx.ty(x).lo == 0;
        let f = |k: u32| u64::from(self.half(k)) | u64::from(r.parity(k)) << levels;
        let at_zero = if has_zero { f(0) } else { 0 };
        let columns = Columns { count: levels + 1, f: &f, at_zero, zero_flag: has_zero };
        let lead = leading(cx, x, bits, &columns)?;
        let parity = cx.pick(lead.planes, levels as usize, 1);
        let half = (levels > 0).then(|| cx.pick(lead.planes, 0, levels as usize));
        let mut even = cx.extend(x, w + 1 - odd)?;
        even = cx.shl(even, odd, w + 1);
        if let Some(half) = half {
            even = cx.shift_left_by(even, half, 2);
        }
        if let Some(zero) = lead.zero {
            let place = r.normaliser(0) + u32::from(r.parity(0));
            let one = cx.b2a(zero, w + 1 - place);
            let one = cx.shl(one, place, w + 1);
            even = cx.add(even, one);
        }
        let range = r.ranges().even;
        Ok(Normalised { even: cx.retype(even, range.lo, range.hi), parity, half })
    }

    /// The table's entry at the top bits of the normalised input.
    fn guess(&self, cx: &mut Cx, input: &Normalised) -> Build<Int> {
        let (r, w, m) = (&self.reference, self.reference.width, self.reference.m);
        let guess = r.ranges().guess;
        let low = cx.reduce(input.even, w - 1);
        let twice = cx.shl(low, 1, w - 1);
        let once = cx.mux(input.parity, low);
        let normalised = cx.sub(twice, once);
        let index = truncate_and_reduce(cx, normalised, &[(w - 1 - m, m)])?[0];
        let (index, parity) = (Party::BOTH.map(|p| cx.view(index, p)), Party::BOTH.map(|p| cx.view(input.parity, p)));
        let entries: Vec<i128> = r.table.iter().map(|&e| e.into()).collect();
        let guess_bits = bits_for(guess.hi - guess.lo) + 1;
        Ok(Int(cx.table(Some(index), Some(parity), &[(Ring::Add(guess_bits as u8), &entries)])[0]))
    }

    /// Goldschmidt's iterations from a guess; the last product is in a ring of `last_ring` bits.
    fn iterate(&self, cx: &mut Cx, input: &Normalised, guess: Int, last_ring: u32) -> Build<Int> {
        let r = &self.reference;
        let (w, s, m) = (r.width, r.s_out, r.m);
        let (ranges, even) = (r.ranges(), input.even);

        // The first residual, with the guess as choices twice.
        let first = &ranges.iterations[0];
        let residual_bits = bits_for(first.residual.hi - first.residual.lo).max(1) + 1;
        let ring = 2 * m + 4 + residual_bits;
        let residual = cx.call_int(Shift::down(w - 2 - s, ring), &[even.0])?;
        let residual = cx.retype(residual, ranges.residual.lo, ranges.residual.hi);
        let mut x = guess;
        if !r.inverse {
            x = narrow_product(cx, even, guess, w + m - s, ranges.start)?;
        }
        let part = cx.call_int(Product { width: ring }, &[guess.0, residual.0])?;
        let product = cx.call_int(Product { width: ring }, &[guess.0, part.0])?;
        let residual = cx.call_int(Shift::down(2 * m + 4, residual_bits), &[product.0])?;
        let mut residual = cx.retype(residual, first.residual.lo, first.residual.hi);

        for (i, range) in ranges.iterations.iter().enumerate() {
            let minus = cx.neg(residual);
            let factor = cx.offset(minus, 3 << s);
            let shift = if i == 0 && r.inverse { m + 3 } else { s + 1 };
            if i + 1 == ranges.iterations.len() {
                x = cx.call_int(ScaledProduct(Shift::down(shift, last_ring)), &[x.0, factor.0])?;
            } else {
                x = narrow_product(cx, x, factor, shift, range.x)?;
                let next = &ranges.iterations[i + 1];
                let square = narrow_product(cx, factor, factor, s + 2, next.square_kept)?;
                residual = narrow_product(cx, square, residual, s, next.residual)?;
            }
        }
        Ok(x)
    }
}

/// An input in `[1, 4)` with an exponent of constant parity.
struct Normalised {
    even: Int,
    /// Whether the exponent was made even by one more shift.
    parity: Bit,
    /// Bits of half the exponent, if it is not the same for all inputs.
    half: Option<Bit>,
}

impl Function for Root {
    fn name(&self) -> &'static str {
        if self.reference.inverse { "rsqrt" } else { "sqrt" }
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().map(|&x| self.reference.eval(x)).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let r = &self.reference;
        let (w, s, m, name) = (r.width, r.s_out, r.m, self.name());
        let x = Int(ins[0]);
        let ty = cx.ty(x).clone();
        if ty.lo < 0 || ty.hi >= 1 << (w - 1) || !ty.exact() {
            let what = format!("an operand in 0..2^{} is expected, not {}..={}", w - 1, ty.lo, ty.hi);
            return refuse(name, what);
        }
        if w > 63 || self.width == 0 || self.width > 64 || m + 1 > MAX_OT_INDEX {
            return refuse(name, format!("{w} bits to {} with scale {s}", self.width));
        }
        let bits = bits_for(ty.hi).max(1);
        let ks = ty.lo.max(1).ilog2()..=bits - 1;
        let levels = bits_for(ks.clone().map(|k| self.half(k)).max().expect("bits").into());

        // The power of two of the result: 2^(amount + power), amount from its bits.
        let top = (1i64 << levels) - 1;
        let amount = |k: u32| if r.inverse { i64::from(self.half(k)) } else { top - i64::from(self.half(k)) };
        let power = i64::from(r.exponent(*ks.start())) - amount(*ks.start());
        debug_assert!(
            ks.clone().all(|k| i64::from(r.exponent(k)) - amount(k) == power),
            "exponents keep their distance"
        );
        let net = power - i64::from(r.restore());
        let down = (-net).max(0) as u32;
        let last_ring = self.width + down;
        if last_ring > 64 {
            let what = format!("a result of {} bits needs a ring of {last_ring}, 64 are supported", self.width);
            return refuse(name, what);
        }

        let input = self.normalise(cx, x, bits, levels)?;
        let guess = self.guess(cx, &input)?;
        let x = self.iterate(cx, &input, guess, last_ring)?;
        // Undo the normalisation.
        let value = match input.half {
            None => x,
            Some(half) => {
                let amount = if r.inverse { half } else { cx.not(half) };
                cx.shift_left_by(x, amount, 1)
            }
        };
        let value = if net >= 0 { cx.shl(value, net as u32, self.width) } else { value };
        let result = cx.call_int(Shift::down(down, self.width), &[value.0])?;
        let x = r.ranges().iterations.last().expect("one or two").x;
        let Interval { lo, hi } = self.range(x, ks);
        debug_assert!(x.fits(s + 1), "x is below 2");
        Ok(vec![cx.retype(result, lo, hi).0])
    }
    fn pointwise(&self) -> Option<u32> {
        Some(self.width)
    }
}
