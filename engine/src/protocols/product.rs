//! Element-wise products of shared values of mixed widths. Paper IV-C (CrossTerm, UMult, SMult).
//!
//! Write `x = x0 + x1 - 2^m wx + lx` with unsigned shares in the narrowest ring of `m` bits that holds the range `[lx, hx]`, and fold `lx` into
//! P0's share; the same for `y` in `n` bits. Modulo `2^l`, `l <= m + n`:
//!
//! `x y = x0 y0 + x1 y1 + x1 y0 + x0 y1 - 2^m wx (y0 + y1) - 2^n wy (x0 + x1)`
//!
//! * The mixed terms are one [`Inst::Cross`](sirnn_backends::inst::Inst::Cross) per direction, the bits of the narrower operand choosing: COTs of
//!   falling length `l - i`.
//! * A wrap term vanishes if its ring is as wide as the result's. With a slack bit `wx = 1 - n0 n1` of the complemented top bits; where `x`'s bits
//!   are the choices, `n1` *is* the last choice bit, so the correction only changes that COT's payload: it is free. The other operand's
//!   correction costs one COT per direction. Without slack the wrap is computed by comparison and its bit multiplied in, one COT per direction.
//!
//! A *square* has one mixed term, `2 x0 x1`, so one [`Inst::Cross`](sirnn_backends::inst::Inst::Cross) in one direction and half the COTs. With `x = x0 + x1 - 2^m w + lx`:
//! `x^2 = (x0 + lx)^2 + (x1 + lx)^2 - lx^2 + 2 x0 x1 - 2^(m+1) w (V0 + V1)`, `V0 = x0 + lx - 2^(m-1)`, `V1 = x1`. It is taken wherever both
//! operands are the same register.
//!
//! Rounds: 1 with slack (or no wrap terms), else comparison + 1.

use super::bits::require_ring;
use super::carries::{Want, carries};
use super::truncation::Shift;
use crate::program::{Build, Cx, Function, Int, Own, Reg, Ty, refuse};
use sirnn_backends::inst::Party;

/// `x y` in a ring of `width` bits.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// Width of the result.
    pub width: u32,
}

/// `R(floor(x y / 2^floor), shift)` in the ring of the shift: the product is formed in no wider a ring than that needs.
#[derive(Clone, Copy, Debug)]
pub struct ScaledProduct(pub Shift);

/// What is known about an operand's wrap.
enum Wrap {
    /// It does not matter.
    None,
    /// Complements of the top bits of both shares.
    Slack([Own; 2]),
    /// XOR-shares of the wrap bit.
    Shared([Own; 2]),
}

struct Operand {
    /// Shares in the narrow ring, without the offset.
    narrow: [Own; 2],
    /// Shares as numbers of `l` bits, the offset in P0's.
    wide: [Own; 2],
    /// What P0's wide share has more than its narrow one.
    offset: i128,
    bits: u32,
    wrap: Wrap,
}

/// The narrowest ring in which a value's shares determine it, and whether that leaves the top bit free.
fn narrowest(cx: &Cx, x: Int) -> Option<(u32, bool)> {
    let ty = cx.ty(x);
    let span = ty.span_bits().max(1);
    ty.exact().then(|| if span < ty.width() { (span + 1, true) } else { (ty.width(), false) })
}

/// COTs per direction that the bits of `x` as choices take, and those that the wrap of the other operand takes.
fn costs(cx: &Cx, x: Int, l: u32) -> (u32, u32) {
    let choices = match narrowest(cx, x) {
        Some((bits, slack)) if bits < l => bits + u32::from(!slack),
        _ => l,
    };
    (choices, u32::from(cx.width(x) < l))
}

/// Prepares an operand. One whose bits are no choices stays in its ring where that needs no wrap term.
fn operand(cx: &mut Cx, x: Int, l: u32, chooses: bool) -> Build<Operand> {
    let width = cx.width(x);
    let (bits, slack) = match narrowest(cx, x) {
        Some((bits, slack)) if bits < l && chooses => (bits, slack),
        Some((_, slack)) if width < l => (width, slack),
        _ if width >= l => (l, true),
        _ => return refuse("product", format!("an operand is only known modulo 2^{width}")),
    };
    let offset = if bits < l { cx.ty(x).lo } else { 0 };
    let moved = cx.offset(x, -offset);
    let moved = cx.reduce(moved, bits);
    let narrow = Party::BOTH.map(|p| cx.view(moved, p));
    let mut wide = narrow.map(|v| cx.own_shl(v, 0, l));
    wide[0] = cx.own_offset(wide[0], offset);
    let wrap = if bits >= l {
        Wrap::None
    } else if slack {
        let tops = narrow.map(|v| cx.planes(v, bits - 1, 1));
        Wrap::Slack(tops.map(|t| cx.own_not(t)))
    } else {
        let bit = carries(cx, narrow[0], narrow[1], &[Want::Carry(bits)])?[0];
        Wrap::Shared(Party::BOTH.map(|p| cx.view(bit, p)))
    };
    Ok(Operand { narrow, wide, offset, bits, wrap })
}

/// `x y` modulo `2^l`.
fn multiply(cx: &mut Cx, x: Int, y: Int, l: u32) -> Build<Int> {
    let ((x_bits, x_wrap), (y_bits, y_wrap)) = (costs(cx, x, l), costs(cx, y, l));
    let (x, mut y) = if x_bits + y_wrap <= y_bits + x_wrap { (x, y) } else { (y, x) };
    let choices = narrowest(cx, x).map_or(l, |(bits, _)| bits);
    if cx.width(y) + choices < l {
        // The formula holds modulo 2^(m+n) only.
        y = cx.extend(y, l)?;
    }
    let (x, y) = (operand(cx, x, l, true)?, operand(cx, y, l, false)?);
    let mut terms = Vec::new();
    for p in Party::BOTH {
        let (me, peer) = (p.index(), p.other().index());
        // The peer's bits of x choose; I bring my share of y.
        let v = y.wide[me];
        let mut local = cx.own_mul(x.wide[me], y.wide[me]);
        if p == Party::P1 && x.offset != 0 {
            // P0's offset is not among its bits.
            let part = cx.own_scale(v, x.offset);
            local = cx.own_add(local, part);
        }
        let mut top = None;
        match &x.wrap {
            Wrap::None => {}
            Wrap::Slack(free) => {
                // - 2^m v + 2^m n_me n_peer v, with n_peer = 1 - (last choice bit).
                let high = l - x.bits;
                let low = cx.own_shl(v, 0, high);
                let kept = cx.own_select(free[me], low);
                let change = cx.own_sub(kept, low);
                let change = cx.own_shl(change, x.bits, l);
                local = cx.own_add(local, change);
                let low = cx.own_shl(v, 0, high + 1);
                let kept = cx.own_select(free[me], low);
                let twice = cx.own_scale(kept, 2);
                top = Some(cx.own_sub(low, twice));
            }
            Wrap::Shared(bit) => terms.push(wrap_term(cx, bit, v, x.bits, l, p)),
        }
        match &y.wrap {
            Wrap::None => {}
            Wrap::Slack(free) => {
                let low = cx.own_shl(x.wide[me], 0, l - y.bits);
                let kept = cx.own_select(free[me], low);
                let product = cx.cross(free[peer], kept, None);
                let loss = cx.share(low);
                let term = cx.sub(product, loss);
                terms.push(cx.shl(term, y.bits, l));
            }
            Wrap::Shared(bit) => terms.push(wrap_term(cx, bit, x.wide[me], y.bits, l, p)),
        }
        let choices = cx.planes(x.narrow[peer], 0, x.bits);
        let crossed = cx.cross(choices, v, top);
        terms.push(crossed);
        terms.push(cx.share(local));
    }
    let mut sum = terms[0];
    for &t in &terms[1..] {
        sum = cx.add(sum, t);
    }
    Ok(sum)
}

/// `- 2^bits w v` for a shared wrap bit and my private `v`.
fn wrap_term(cx: &mut Cx, bit: &[Own; 2], v: Own, bits: u32, l: u32, p: Party) -> Int {
    let low = cx.own_shl(v, 0, l - bits);
    let kept = cx.own_select(bit[p.index()], low);
    let twice = cx.own_scale(kept, 2);
    let change = cx.own_sub(low, twice);
    let product = cx.cross(bit[p.other().index()], change, None);
    let kept = cx.share(kept);
    let sum = cx.add(product, kept);
    let term = cx.neg(sum);
    cx.shl(term, bits, l)
}

/// `x^2` modulo `2^l`.
fn square(cx: &mut Cx, x: Int, l: u32) -> Build<Int> {
    let x = operand(cx, x, l, true)?;
    let m = x.bits;
    // Shares without the offset, as numbers of l bits.
    let plain = x.narrow.map(|v| cx.own_shl(v, 0, l));
    let mut terms = Vec::new();
    for (p, own) in Party::BOTH.into_iter().zip(plain) {
        let moved = cx.own_offset(own, x.offset);
        let mut local = cx.own_mul(moved, moved);
        if p == Party::P1 {
            local = cx.own_offset(local, -(x.offset * x.offset));
        }
        // - 2^(m+1) w V
        let v = if p == Party::P0 { cx.own_offset(own, x.offset - (1 << (m - 1))) } else { own };
        match &x.wrap {
            Wrap::Slack(free) if m + 1 < l => {
                // w = 1 - n0 n1: - V + n_peer (n_me V).
                let low = cx.own_shl(v, 0, l - m - 1);
                let kept = cx.own_select(free[p.index()], low);
                let product = cx.cross(free[p.other().index()], kept, None);
                let loss = cx.share(low);
                let term = cx.sub(product, loss);
                terms.push(cx.shl(term, m + 1, l));
            }
            Wrap::Shared(bit) if m + 1 < l => terms.push(wrap_term(cx, bit, v, m + 1, l, p)),
            _ => {}
        }
        terms.push(cx.share(local));
    }
    if l > 1 {
        let v = cx.own_shl(plain[0], 0, l - 1);
        let choices = cx.planes(x.narrow[1], 0, m.min(l - 1));
        let mixed = cx.cross(choices, v, None);
        terms.push(cx.shl(mixed, 1, l));
    }
    let mut sum = terms[0];
    for &t in &terms[1..] {
        sum = cx.add(sum, t);
    }
    Ok(sum)
}

/// Largest number of which a product may have to be reckoned with: ranges, and differences and sums of them, fit in `i128`.
const MOST: u128 = 1 << 120;

/// Range of a sum of `terms` products.
pub(super) fn corners(name: &str, x: &Ty, y: &Ty, terms: usize) -> Build<(i128, i128)> {
    let product = |a: i128, b: i128| {
        let product = a.checked_mul(b)?.checked_mul(terms as i128)?;
        (product.unsigned_abs() <= MOST).then_some(product)
    };
    match [product(x.lo, y.lo), product(x.lo, y.hi), product(x.hi, y.lo), product(x.hi, y.hi)] {
        [Some(a), Some(b), Some(c), Some(d)] => Ok((a.min(b).min(c).min(d), a.max(b).max(c).max(d))),
        _ => refuse(name, format!("a product of {}..={} and {}..={} has more than 120 bits", x.lo, x.hi, y.lo, y.hi)),
    }
}

/// Range of a product of two vectors of the same length.
fn range(cx: &Cx, name: &str, ins: &[Reg]) -> Build<(i128, i128)> {
    let (x, y) = (cx.ty(ins[0]), cx.ty(ins[1]));
    if x.len != y.len {
        return refuse(name, format!("{} and {} elements", x.len, y.len));
    }
    corners(name, x, y, 1)
}

impl Function for Product {
    fn name(&self) -> &'static str {
        "product"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().zip(ins[1]).map(|(x, y)| x * y).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let (lo, hi) = range(cx, self.name(), ins)?;
        require_ring(self.name(), self.width)?;
        let (x, y) = (Int(ins[0]), Int(ins[1]));
        let product = if x == y { square(cx, x, self.width)? } else { multiply(cx, x, y, self.width)? };
        Ok(vec![cx.retype(product, lo, hi).0])
    }
}

impl Function for ScaledProduct {
    fn name(&self) -> &'static str {
        "scaled product"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().zip(ins[1]).map(|(x, y)| self.0.of(x * y)).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let (lo, hi) = range(cx, self.name(), ins)?;
        let l = self.0.ring_for(lo, hi);
        if l > 64 {
            return refuse(self.name(), format!("the product needs {l} bits, 64 are supported"));
        }
        let product = cx.call_int(Product { width: l }, ins)?;
        Ok(vec![cx.call_int(self.0, &[product.0])?.0])
    }
}
