//! The most significant non-zero bit of an unsigned number: its index, its one-hot vector, and any function of its index as
//! shared bits. Paper IV-E (with the normalisations of V).
//!
//! The number is cut in digits, whose carries are taps of one tree. One look-up per digit gives `f(k)` for the digit's own most
//! significant bit `k` (zero where the digit is zero) and whether it is zero. A digit counts where all higher ones are zero:
//!
//! `f(msnzb(x)) = XOR_i (z_(d-1) ... z_(i+1)) f_i`
//!
//! for exactly one term is not zero. The prefix products of the zero flags come from a tree of ANDs and small look-ups on XOR-shared
//! bits; each gates all bits of its digit at once, an AND with a vector as second operand.
//!
//! Digits are as many and as wide as is cheapest, and the carry into a digit is either added to it (one COT, one round) or enters
//! the look-up as one more, XOR-shared, bit of the index. With KK13 digits of 5 to 7 bits are best. What a caller needs of the index is
//! looked up directly: the one-hot vector, the bits of the index, or those of an exponent that depends on it.
//!
//! Rounds: carries, (B2A,) 2, prefix, 1. For 32 bits one-hot: 9, about 1,060 bytes with IKNP.

use super::carries::{Want, carries, price};
use crate::program::{Bit, Build, Cx, Function, Goal, Int, Profile, Reg, bits_for, refuse};
use sirnn_backends::inst::{Party, Ring};

/// Index of the most significant non-zero bit of a non-negative number, in a ring of `width` bits; 0 for 0.
#[derive(Clone, Copy, Debug)]
pub struct Msnzb {
    /// Width of the result.
    pub width: u32,
}

/// Bit `k` of the result is set if `k` is the place of the most significant non-zero bit: `bits` XOR-shared planes. All zero for 0.
#[derive(Clone, Copy, Debug)]
pub struct OneHot {
    /// Bits of the number and of the result, at most 64.
    pub bits: u32,
}

/// [`OneHot`] with each bit as a number of `width` bits: `bits` results.
#[derive(Clone, Copy, Debug)]
pub struct OneHotNumbers {
    /// Bits of the number: results.
    pub bits: u32,
    /// Width of each result.
    pub width: u32,
}

/// What is known about the most significant non-zero bit.
pub(super) struct Leading {
    /// The planes of `f`.
    pub(super) planes: Bit,
    /// Whether the number is zero, if that was asked for.
    pub(super) zero: Option<Bit>,
}

/// A function of the index as bits.
pub(super) struct Columns<'a> {
    /// Planes.
    pub(super) count: u32,
    /// Their values for an index.
    pub(super) f: &'a dyn Fn(u32) -> u64,
    /// Their values for the number zero.
    pub(super) at_zero: u64,
    /// Whether the flag for zero itself is wanted.
    pub(super) zero_flag: bool,
}

/// Digits and how their carries enter.
#[derive(Clone, Debug)]
struct Shape {
    /// Lowest bit and width of each, lowest first.
    digits: Vec<(u32, u32)>,
    /// The carry is a bit of the look-up's index.
    folded: bool,
}

/// Where bytes count, a round less is worth so much.
// AGREEMENT.
const NEARLY: f64 = 1.08;

impl Columns<'_> {
    fn needs_zero(&self) -> bool {
        self.zero_flag || self.at_zero != 0
    }

    /// Planes that a digit can set.
    fn of_digit(&self, (lo, bits): (u32, u32)) -> Vec<u32> {
        let union = (lo..lo + bits).fold(0, |u, k| u | (self.f)(k));
        (0..self.count).filter(|j| union >> j & 1 == 1).collect()
    }
}

impl Shape {
    fn all(bits: u32) -> Vec<Shape> {
        let mut shapes = Vec::new();
        for lowest in 1..=bits.min(8) {
            let rest = bits - lowest;
            for count in rest.div_ceil(8)..=rest.min(12) {
                if (count == 0) != (rest == 0) {
                    continue;
                }
                let mut digits = vec![(0, lowest)];
                let mut lo = lowest;
                for i in 0..count {
                    let width = rest / count + u32::from(i < rest % count);
                    digits.push((lo, width));
                    lo += width;
                }
                shapes.extend([false, true].map(|folded| Shape { digits: digits.clone(), folded }));
            }
        }
        shapes
    }

    fn wants(&self) -> Vec<Want> {
        self.digits[1..].iter().map(|d| Want::Carry(d.0)).collect()
    }

    fn price(&self, profile: &Profile, n: usize, columns: &Columns) -> (u32, f64) {
        let rates = &profile.rates;
        let count = self.digits.len();
        let (mut rounds, mut bytes) = price(profile, n, &self.wants());
        let add_carry = count > 1 && !self.folded;
        rounds += 2 + u32::from(add_carry);
        for (i, &digit) in self.digits.iter().enumerate() {
            let planes = columns.of_digit(digit).len();
            let zero = usize::from(i > 0 || columns.needs_zero());
            let index = digit.1 + u32::from(self.folded && i > 0);
            if i > 0 && add_carry {
                bytes += rates.cot + f64::from(digit.1) / 8.0;
            }
            bytes += rates.one_of[index as usize] + (f64::from(index) + ((planes + zero) << index) as f64) / 8.0;
            if i + 1 < count && planes > 0 {
                bytes += (if planes == 1 { rates.triple } else { rates.triples }) + (1 + planes) as f64 / 4.0;
            }
        }
        let flags = count - usize::from(!columns.needs_zero());
        let prefix = Prefix::best(profile, n, flags);
        (rounds + prefix[flags].rounds + u32::from(count > 1), bytes + prefix[flags].bytes)
    }
}

/// The planes of a function of the index of the most significant non-zero bit of `x`, a number below `2^bits`.
pub(super) fn leading(cx: &mut Cx, x: Int, bits: u32, columns: &Columns) -> Build<Leading> {
    let n = cx.len(x);
    let profile = cx.profile;
    let shapes: Vec<_> = Shape::all(bits).into_iter().map(|shape| (shape.price(&profile, n, columns), shape)).collect();
    let least = shapes.iter().map(|s| s.0.1).min_by(f64::total_cmp).expect("some cut exists");
    let score = |&(rounds, bytes): &(u32, f64)| match profile.goal {
        // Cuts of nearly the same size differ by several rounds.
        Goal::Bytes | Goal::Online if bytes < NEARLY * least => (f64::from(rounds), bytes),
        Goal::Bytes | Goal::Online => (f64::INFINITY, bytes),
        _ => profile.score(rounds, bytes, n),
    };
    let best = shapes.iter().min_by(|a, b| score(&a.0).partial_cmp(&score(&b.0)).expect("costs are numbers"));
    let shape = best.expect("some cut exists").1.clone();
    cx.named("msnzb", |cx| lower(cx, x, bits, columns, &shape))
}

fn lower(cx: &mut Cx, x: Int, bits: u32, columns: &Columns, shape: &Shape) -> Build<Leading> {
    let x = cx.reduce(x, bits);
    let shares = Party::BOTH.map(|p| cx.view(x, p));
    let wants = shape.wants();
    let taps = if wants.is_empty() { Vec::new() } else { carries(cx, shares[0], shares[1], &wants)? };
    let mut found = Vec::new();
    let mut zeros = Vec::new();
    for (i, &(lo, width)) in shape.digits.iter().enumerate() {
        let mut low = shares.map(|s| cx.digit(s, lo, width));
        let mut high = None;
        if i > 0 && shape.folded {
            high = Some(Party::BOTH.map(|p| cx.view(taps[i - 1], p)));
        } else if i > 0 {
            let carry = cx.b2a(taps[i - 1], width);
            let parts = low.map(|part| cx.share(part));
            let digit = cx.add(parts[0], parts[1]);
            let digit = cx.add(digit, carry);
            low = Party::BOTH.map(|p| cx.view(digit, p));
        }
        let planes = columns.of_digit((lo, width));
        let zero = i > 0 || columns.needs_zero();
        let entry = |digit: u32| -> i128 {
            if digit == 0 {
                return i128::from(zero) << planes.len();
            }
            let value = (columns.f)(lo + digit.ilog2());
            planes.iter().enumerate().map(|(at, j)| i128::from(value >> j & 1) << at).sum()
        };
        let size = 1u32 << width;
        let entries: Vec<i128> =
            (0..size << u32::from(high.is_some())).map(|e| entry((e % size + e / size) % size)).collect();
        let ring = Ring::Xor((planes.len() + usize::from(zero)) as u8);
        let bits = if ring.bits() == 0 { None } else { Some(Bit(cx.table(Some(low), high, &[(ring, &entries)])[0])) };
        if zero {
            zeros.push(cx.pick(bits.expect("a flag at least"), planes.len(), 1));
        }
        found.push((planes.len(), bits, planes));
    }
    zeros.reverse(); // the highest digit first
    let gates = prefixes(cx, &zeros);
    let mut sums: Vec<Option<Bit>> = vec![None; columns.count as usize];
    let count = found.len();
    for (i, (len, bits, planes)) in found.into_iter().enumerate() {
        let (Some(bits), true) = (bits, len > 0) else { continue };
        let mut values = cx.pick(bits, 0, len);
        if i + 1 < count {
            values = cx.and(gates[count - 2 - i], values);
        }
        for (at, j) in planes.into_iter().enumerate() {
            let plane = cx.pick(values, at, 1);
            let sum = &mut sums[j as usize];
            *sum = Some(sum.map_or(plane, |s| cx.xor(s, plane)));
        }
    }
    let zero = columns.needs_zero().then(|| *gates.last().expect("one flag per digit"));
    for (j, sum) in sums.iter_mut().enumerate() {
        if columns.at_zero >> j & 1 == 1 {
            let zero = zero.expect("needed for this plane");
            *sum = Some(sum.map_or(zero, |s| cx.xor(s, zero)));
        }
    }
    let nothing = |cx: &mut Cx| {
        let plane = cx.planes(shares[0], 0, 1);
        let plane = cx.share_bits(plane);
        cx.xor(plane, plane)
    };
    let planes: Vec<Bit> = sums.into_iter().map(|s| s.unwrap_or_else(|| nothing(cx))).collect();
    let planes = if planes.len() == 1 { planes[0] } else { cx.stack(&planes) };
    Ok(Leading { planes, zero })
}

/// How the products of the first 1, 2, .. of some bits are made, and what that takes.
#[derive(Clone, Copy, Debug)]
struct Prefix {
    rounds: u32,
    bytes: f64,
    /// One look-up of all; or the first so many, then the rest, all of which the last of the first gates.
    split: Option<usize>,
}

impl Prefix {
    /// The best way for each count up to `count`.
    fn best(profile: &Profile, n: usize, count: usize) -> Vec<Prefix> {
        let mut best = vec![Prefix { rounds: 0, bytes: 0.0, split: None }; 2];
        for c in 2..=count {
            let mut ways = Vec::new();
            if c <= 8 {
                let bits = (c + ((c - 1) << c)) as f64;
                ways.push(Prefix { rounds: 2, bytes: profile.rates.one_of[c] + bits / 8.0, split: None });
            }
            for first in 1..c {
                let (a, b) = (best[first], best[c - first]);
                let columns = c - first;
                let triple = if columns == 1 { profile.rates.triple } else { profile.rates.triples };
                let bytes = a.bytes + b.bytes + triple + (1 + columns) as f64 / 4.0;
                ways.push(Prefix { rounds: a.rounds.max(b.rounds) + 1, bytes, split: Some(first) });
            }
            let score = |w: &Prefix| profile.score(w.rounds, w.bytes, n);
            let way = ways.into_iter().min_by(|a, b| score(a).partial_cmp(&score(b)).expect("costs are numbers"));
            best.push(way.expect("there is a way"));
        }
        best
    }
}

/// The products of the first 1, 2, .. of `bits`.
fn prefixes(cx: &mut Cx, bits: &[Bit]) -> Vec<Bit> {
    let Some(&first) = bits.first() else { return Vec::new() };
    let ways = Prefix::best(&cx.profile, cx.len(first), bits.len());
    build(cx, bits, &ways)
}

fn build(cx: &mut Cx, bits: &[Bit], ways: &[Prefix]) -> Vec<Bit> {
    let count = bits.len();
    if count == 1 {
        return bits.to_vec();
    }
    match ways[count].split {
        Some(first) => {
            let mut low = build(cx, &bits[..first], ways);
            let high = build(cx, &bits[first..], ways);
            let high = if high.len() == 1 { high[0] } else { cx.stack(&high) };
            let gated = cx.and(*low.last().expect("not empty"), high);
            low.extend((0..count - first).map(|j| cx.pick(gated, j, 1)));
            low
        }
        None => {
            let stacked = cx.stack(bits);
            let index = Party::BOTH.map(|p| cx.view(stacked, p));
            // Column j - 1 is the product of bits 0..=j.
            let entry = |e: i128| (1..count).map(|j| i128::from(!e & ((2 << j) - 1) == 0) << (j - 1)).sum();
            let entries: Vec<i128> = (0..1 << count).map(entry).collect();
            let products = Bit(cx.table(None, Some(index), &[(Ring::Xor(count as u8 - 1), &entries)])[0]);
            let mut out = vec![bits[0]];
            out.extend((0..count - 1).map(|j| cx.pick(products, j, 1)));
            out
        }
    }
}

impl Cx {
    /// The number whose bits are the planes of `bits`, in a ring of `width` bits: by B2A of each, or one look-up.
    pub(crate) fn compose(&mut self, bits: Bit, width: u32) -> Int {
        let count = self.width(bits).min(width);
        let bits = self.pick(bits, 0, count as usize);
        let (n, rates) = (self.len(bits), self.profile.rates);
        let singly = (0..count).map(|j| rates.cot + f64::from(width - j) / 8.0).sum();
        let wide = f64::from(count + (width << count.min(12))) / 8.0;
        let score = |rounds, bytes| self.profile.score(rounds, bytes, n);
        let number = if count <= 12 && score(2, rates.one_of[count as usize] + wide) < score(1, singly) {
            let index = Party::BOTH.map(|p| self.view(bits, p));
            let entries: Vec<i128> = (0..1 << count).collect();
            Int(self.table(None, Some(index), &[(Ring::Add(width as u8), &entries)])[0])
        } else {
            let mut sum = None;
            for j in 0..count {
                let bit = self.pick(bits, j as usize, 1);
                let value = self.b2a(bit, width - j);
                let value = self.shl(value, j, width);
                sum = Some(sum.map_or(value, |s| self.add(s, value)));
            }
            sum.expect("at least one bit")
        };
        self.retype(number, 0, (1 << count) - 1)
    }

    /// `x << (unit * amount)` modulo the ring of `x`, where the planes of `amount` are the bits of a number: one selection per plane.
    pub(crate) fn shift_left_by(&mut self, x: Int, amount: Bit, unit: u32) -> Int {
        let width = self.width(x);
        let mut y = x;
        for j in 0..self.width(amount) {
            let bit = self.pick(amount, j as usize, 1);
            let by = unit << j;
            let difference = if by < width {
                let moved = self.shl(y, by, width);
                self.sub(moved, y)
            } else {
                self.neg(y)
            };
            let kept = self.mux(bit, difference);
            y = self.add(y, kept);
            y = self.retype(y, 0, (1 << width) - 1);
        }
        y
    }
}

/// The operand, and bits that hold it.
fn unsigned(cx: &Cx, name: &str, x: Reg) -> Build<(Int, u32)> {
    let ty = cx.ty(x);
    let bits = bits_for(ty.hi).max(1);
    if ty.lo < 0 || bits > ty.width() || matches!(ty.ring, Ring::Xor(_)) {
        return refuse(
            name,
            format!("an unsigned number is expected, not {}..={} in {} bits", ty.lo, ty.hi, ty.width()),
        );
    }
    Ok((Int(x), bits))
}

impl Function for Msnzb {
    fn name(&self) -> &'static str {
        "msnzb"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().map(|&x| i128::from(x.max(1).ilog2())).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let (x, bits) = unsigned(cx, self.name(), ins[0])?;
        let count = bits_for(i128::from(bits) - 1).max(1);
        if self.width < count || self.width > 64 {
            return refuse(self.name(), format!("an index below {bits} in a ring of {} bits", self.width));
        }
        let columns = Columns { count, f: &u64::from, at_zero: 0, zero_flag: false };
        let planes = leading(cx, x, bits, &columns)?.planes;
        let index = cx.compose(planes, self.width);
        Ok(vec![cx.retype(index, 0, i128::from(bits) - 1).0])
    }
}

fn one_hot(cx: &mut Cx, name: &str, x: Reg, count: u32) -> Build<Bit> {
    let (x, bits) = unsigned(cx, name, x)?;
    if bits > count || count > 64 {
        return refuse(name, format!("a number of {bits} bits, a vector of {count}"));
    }
    Ok(leading(cx, x, bits, &Columns { count, f: &|k| 1 << k, at_zero: 0, zero_flag: false })?.planes)
}

impl Function for OneHot {
    fn name(&self) -> &'static str {
        "one-hot"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().map(|&x| if x == 0 { 0 } else { 1 << x.ilog2() }).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        Ok(vec![one_hot(cx, self.name(), ins[0], self.bits)?.0])
    }
}

impl Function for OneHotNumbers {
    fn name(&self) -> &'static str {
        "one-hot"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        let set = |k: u32| ins[0].iter().map(|&x| i128::from(x > 0 && x.ilog2() == k)).collect();
        (0..self.bits).map(set).collect()
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        if self.width == 0 || self.width > 64 {
            return refuse(self.name(), format!("no ring of {} bits", self.width));
        }
        let bits = one_hot(cx, self.name(), ins[0], self.bits)?;
        let number = |k: u32| {
            let bit = cx.pick(bits, k as usize, 1);
            cx.b2a(bit, self.width).0
        };
        Ok((0..self.bits).map(number).collect())
    }
}
