//! Layers around products: sums of numbers of different scales, batch normalisation, L2 normalisation.
//!
//! All are compositions, with the rescales of the fixed-point semantics: `R(v, s)` divides by `2^s` rounding down or toward zero, a negative `s`
//! multiplies.
//!
//! | layer | value |
//! |---|---|
//! | [`AddScaled`] | `R(R(a, s_a) +- R(b, s_b), s)`, the second operand repeated for every item |
//! | [`BatchNorm`] | `R((R(a, s_a) + R(bias, s_b)) * weight, s)`, bias and weight of the server, one per channel |
//! | [`L2Normalise`] | `R(x * rsqrt(sum floor(x^2 / 2^(2 shr))), shr)` over the channels of each place |
//!
//! The squares of the last need half the OTs of products, and the sum is local; one inverse root per place serves all channels.

use super::bits::signed_bits;
use super::linear::ScaledLinear;
use super::product::{Product, ScaledProduct};
use super::roots::Root;
use super::truncation::{Rounding, Shift};
use crate::fixed::math;
use crate::program::{Build, Cx, Function, Int, Own, Reg, bits_for, refuse};
use sirnn_backends::inst::LinearOp;

/// `R(R(a, first) + R(b, second), last)`, `b` repeated where it is shorter; subtraction negates `b` before its rescale.
#[derive(Clone, Copy, Debug)]
pub struct AddScaled {
    /// Shift of the first operand.
    pub first: u32,
    /// Shift of the second operand.
    pub second: u32,
    /// Shift of the sum.
    pub last: u32,
    /// Whether the second operand is subtracted.
    pub minus: bool,
    /// How shifts round.
    pub rounding: Rounding,
    /// Width of the result.
    pub width: u32,
}

/// Batch normalisation of rows of channels. Operands: input, the server's bias, the server's weights. Negative shifts multiply.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm {
    /// Shift of the input.
    pub input: i32,
    /// Shift of the bias.
    pub bias: i32,
    /// Shift of the product.
    pub product: i32,
    /// How shifts round.
    pub rounding: Rounding,
    /// Width of the result.
    pub width: u32,
}

/// L2 normalisation of rows of channels.
#[derive(Clone, Debug)]
pub struct L2Normalise {
    channels: usize,
    shift: u32,
    rounding: Rounding,
    width: u32,
    /// Of the sum of squares.
    rsqrt: math::Root,
}

/// `R(x, by)`.
fn rescaled(rounding: Rounding, x: i128, by: i32) -> i128 {
    if by < 0 { x << -by } else { rounding.apply(x, by as u32) }
}

/// `R(x, by)` in the narrowest ring that holds it and a slack bit.
fn rescale(cx: &mut Cx, name: &str, rounding: Rounding, x: Int, by: i32) -> Build<Int> {
    if by == 0 {
        return Ok(x);
    }
    if by >= 64 {
        return refuse(name, format!("a shift by {by} (at most 63)"));
    }
    if by < 0 {
        let width = cx.width(x) + by.unsigned_abs();
        if width > 64 {
            return refuse(name, format!("a shift by {by} needs a ring of {width} bits, 64 are supported"));
        }
        return Ok(cx.shl(x, by.unsigned_abs(), width));
    }
    let shift = Shift { floor: 0, shift: by as u32, rounding, width: 64 };
    let (lo, hi) = (shift.of(cx.ty(x).lo), shift.of(cx.ty(x).hi));
    let width = (signed_bits(lo, hi) + 1).min(64);
    cx.call_int(Shift { width, ..shift }, &[x.0])
}

impl Function for AddScaled {
    fn name(&self) -> &'static str {
        "scaled sum"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        let sign = if self.minus { -1 } else { 1 };
        let part = |x: i128, by: u32| self.rounding.apply(x, by);
        let value = |(a, b): (&i128, &i128)| part(part(*a, self.first) + part(sign * b, self.second), self.last);
        vec![ins[0].iter().zip(ins[1].iter().cycle()).map(value).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let (a, mut b) = (Int(ins[0]), Int(ins[1]));
        let (n, period) = (cx.len(a), cx.len(b));
        if n > 0 && (period == 0 || n % period != 0) {
            return refuse(self.name(), format!("{period} numbers do not repeat to {n}"));
        }
        if self.last >= 64 || self.width == 0 || self.width > 64 {
            return refuse(self.name(), format!("a shift by {} to {} bits", self.last, self.width));
        }
        if self.minus {
            // The smallest number's opposite may need a bit more.
            let needed = signed_bits(-cx.ty(b).hi, -cx.ty(b).lo);
            if needed > 64 {
                return refuse(self.name(), "the opposite of a 64-bit number");
            }
            if needed > cx.width(b) {
                b = cx.extend(b, needed)?;
            }
            b = cx.neg(b);
        }
        let a = rescale(cx, self.name(), self.rounding, a, self.first as i32)?;
        let b = rescale(cx, self.name(), self.rounding, b, self.second as i32)?;
        let (x, y) = (cx.ty(a), cx.ty(b));
        let last = Shift { floor: 0, shift: self.last, rounding: self.rounding, width: self.width };
        let ring = last.ring_for(x.lo + y.lo, x.hi + y.hi).max(if self.last == 0 { self.width } else { 0 });
        if ring > 64 {
            return refuse(self.name(), format!("a sum of {ring} bits, 64 are supported"));
        }
        let (a, b) = (cx.extend(a, ring)?, cx.extend(b, ring)?);
        let b = cx.repeat(b, n.checked_div(period).unwrap_or(1));
        let sum = cx.add(a, b);
        Ok(vec![cx.call_int(last, &[sum.0])?.0])
    }
}

impl Function for BatchNorm {
    fn name(&self) -> &'static str {
        "batch norm"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        let channels = ins[1].len();
        let r = |x, by| rescaled(self.rounding, x, by);
        let value = |(i, x): (usize, &i128)| {
            let c = i % channels;
            r((r(*x, self.input) + r(ins[1][c], self.bias)) * ins[2][c], self.product)
        };
        vec![ins[0].iter().enumerate().map(value).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let name = self.name();
        let (x, channels) = (Int(ins[0]), cx.len(ins[1]));
        if channels == 0 || !cx.len(x).is_multiple_of(channels) || cx.len(ins[2]) != channels {
            return refuse(name, format!("{} numbers, {channels} biases, {} weights", cx.len(x), cx.len(ins[2])));
        }
        let bias = cx.share(Own(ins[1]));
        let a = rescale(cx, name, self.rounding, x, self.input)?;
        let b = rescale(cx, name, self.rounding, bias, self.bias)?;
        let (p, q) = (cx.ty(a), cx.ty(b));
        let ring = signed_bits(p.lo + q.lo, p.hi + q.hi) + 1;
        if ring > 64 {
            return refuse(name, format!("a sum of {ring} bits, 64 are supported"));
        }
        let (a, b) = (cx.extend(a, ring)?, cx.extend(b, ring)?);
        let b = cx.repeat(b, cx.len(x) / channels);
        let sum = cx.add(a, b);
        let up = (-self.product).max(0) as u32;
        if up >= self.width || self.width > 64 || self.product >= 64 {
            return refuse(name, format!("a shift by {} in {} bits", self.product, self.width));
        }
        let shift =
            Shift { floor: 0, shift: self.product.max(0) as u32, rounding: self.rounding, width: self.width - up };
        let op = LinearOp::Scale { period: channels as u32 };
        let y = cx.call_int(ScaledLinear { op, shift }, &[ins[2], sum.0])?;
        Ok(vec![cx.shl(y, up, self.width).0])
    }
}

impl L2Normalise {
    /// Rows of `channels` numbers of `bits` bits and scale `scale` to scale `scale - 1`, by way of squares without their low `2 shift` bits, in a ring
    /// of `width` bits.
    ///
    /// # Errors
    /// No channels, or scales for which the inverse root is not defined.
    pub fn new(channels: usize, bits: u32, scale: u32, shift: u32, rounding: Rounding, width: u32) -> Build<Self> {
        let name = "l2norm";
        if channels == 0 || shift > scale || shift < 2 || 2 * shift >= 2 * bits {
            return refuse(name, format!("{channels} channels of {bits} bits, scale {scale}, shift {shift}"));
        }
        let sum_bits = 2 * bits - 2 * shift + bits_for(channels as i128 - 1);
        let rsqrt = math::Root::rsqrt(sum_bits, (2 * (scale - shift)) as i32, shift - 1);
        let rsqrt = rsqrt.or_else(|e| refuse(name, e.to_string()))?;
        Ok(Self { channels, shift, rounding, width, rsqrt })
    }

    fn last(&self) -> Shift {
        Shift { floor: 0, shift: self.shift, rounding: self.rounding, width: self.width }
    }
}

impl Function for L2Normalise {
    fn name(&self) -> &'static str {
        "l2norm"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        let row = |row: &[i128]| -> Vec<i128> {
            let sum: i128 = row.iter().map(|x| (x * x) >> (2 * self.shift)).sum();
            let inverse = self.rsqrt.eval(sum);
            row.iter().map(|x| self.last().of(x * inverse)).collect()
        };
        vec![ins[0].chunks(self.channels).flat_map(row).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let x = Int(ins[0]);
        let ty = cx.ty(x).clone();
        if !ty.len.is_multiple_of(self.channels) || !ty.exact() {
            return refuse(self.name(), format!("{} numbers are no rows of {}", ty.len, self.channels));
        }
        let rows = ty.len / self.channels;
        let most = (ty.lo * ty.lo).max(ty.hi * ty.hi) >> (2 * self.shift);
        let sum_most = most * self.channels as i128;
        if sum_most >= 1 << (self.rsqrt.width - 1) {
            return refuse(self.name(), format!("numbers in {}..={} have larger squares than declared", ty.lo, ty.hi));
        }
        let ring = bits_for(sum_most) + 1;
        let squares = if 2 * self.shift + ring <= 64 {
            cx.call_int(ScaledProduct(Shift::down(2 * self.shift, ring)), &[x.0, x.0])?
        } else {
            let product = cx.call_int(Product { width: 64 }, &[x.0, x.0])?;
            cx.call_int(Shift::down(2 * self.shift, ring), &[product.0])?
        };
        let part = |c: usize| cx.gather(squares, (0..rows).map(|r| (r * self.channels + c) as u32).collect());
        let parts: Vec<Int> = (0..self.channels).map(part).collect();
        let mut sum = parts[0];
        for &part in &parts[1..] {
            sum = cx.add(sum, part);
        }
        let sum = cx.retype(sum, 0, sum_most);
        // Wide enough for every inverse root.
        let inverse_bits = (self.rsqrt.s_out + 2 + self.rsqrt.width / 2).min(64);
        let root = Root { reference: self.rsqrt.clone(), width: inverse_bits };
        let inverse = cx.call_int(root, &[sum.0])?;
        let spread = (0..ty.len).map(|i| (i / self.channels) as u32).collect();
        let inverse = cx.gather(inverse, spread);
        Ok(vec![cx.call_int(ScaledProduct(self.last()), &[x.0, inverse.0])?.0])
    }
}
