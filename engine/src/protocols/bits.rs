//! Shared bits: AND, conversion to arithmetic shares (B2A), selection (MUX). Paper III-A.
//!
//! With `b = b0 xor b1` and private `b0`, `b1`: `b = b0 + b1 - 2 b0 b1`, so B2A is one [`Inst::Cross`] of a bit and a bit, in
//! a ring one bit narrower because of the factor 2. For a shared `x = x0 + x1`:
//! `b x_p = b_p x_p + b_q (x_p - 2 b_p x_p)`, one cross per direction. Both take one round: choice bits and corrections are
//! independent messages when the OTs are random.
//!
//! A sum of products of shared bits takes one round in any ring too: with `b_j = u_j + v_j (1 - 2 u_j)`, P0 having `u` and P1 `v`,
//! `prod_j b_j = sum_S (prod_{j in S} v_j) (prod_{j in S} (1 - 2 u_j) prod_{j not in S} u_j)` over all subsets `S` of the factors: every product
//! of P1's bits that occurs is the choice of one [`Inst::Cross`], for which P0 adds up its numbers.
//!
//! Bytes (beside one COT per cross): B2A to `w` bits `w` bits, MUX `2 (1 + w)` bits, sums of products `1 + w` bits
//! per subset.

use crate::program::{Bit, Build, Cx, Function, Holder, Int, Own, Rates, Reg, Ty, refuse};
use sirnn_backends::inst::{Inst, Party, Ring};
use std::collections::{BTreeMap, BTreeSet};

impl Cx {
    /// `a AND b_j` for every plane of `b`; `a` is one plane. One round.
    pub fn and(&mut self, a: Bit, b: Bit) -> Bit {
        let cols = self.width(b) as u8;
        let ty = bit_ty(self.len(a), usize::from(cols));
        Bit(self.inter(Inst::And { cols }, &[a.0, b.0], vec![ty])[0])
    }

    /// `sum_i u_i 2^i v` of one party's planes `u` and the other's number `v`, in the ring of `v`; `top` replaces `v` for the
    /// last plane, in a ring narrower by the number of planes less one. One round.
    pub fn cross(&mut self, u: Own, v: Own, top: Option<Own>) -> Int {
        let Holder::Only(chooser) = self.ty(u).holder else { unreachable!("planes are private") };
        let (bits, width) = (self.width(u) as u8, self.width(v) as u8);
        let ty = Ty { ring: Ring::Add(width), len: self.len(u), holder: Holder::Both, lo: 0, hi: (1i128 << width) - 1 };
        let mut ins = vec![u.0, v.0];
        ins.extend(top.map(|t| t.0));
        Int(self.inter(Inst::Cross { chooser, bits, width, top: top.is_some() }, &ins, vec![ty])[0])
    }

    /// Shares of a private value, moved up to `width` bits: `x << by`.
    pub(crate) fn lift(&mut self, x: Own, by: u32, width: u32) -> Int {
        let shifted = self.own_shl(x, by, width);
        self.share(shifted)
    }

    /// A shared bit as a number 0 or 1 of `width` bits. One round, one COT; none for one bit.
    pub fn b2a(&mut self, bit: Bit, width: u32) -> Int {
        let (b0, b1) = (self.view(bit, Party::P0), self.view(bit, Party::P1));
        let (w0, w1) = (self.word(b0, width), self.word(b1, width));
        let (s0, s1) = (self.share(w0), self.share(w1));
        let sum = self.add(s0, s1);
        let value = if width == 1 {
            sum
        } else {
            let v = self.word(b0, width - 1);
            let product = self.cross(b1, v, None);
            let twice = self.shl(product, 1, width);
            self.sub(sum, twice)
        };
        self.retype(value, 0, 1)
    }

    /// `sum_t prod_j terms[t][j]` of shared bits, as a number of `width` bits. One round; a COT for every non-empty subset of
    /// bits that stand in a product together.
    pub fn sum_of_products(&mut self, terms: &[Vec<Bit>], width: u32) -> Int {
        if let [term] = terms
            && let [bit] = term[..]
        {
            return self.b2a(bit, width);
        }
        let mut factors: Vec<Bit> = terms.iter().flatten().copied().collect();
        factors.sort_unstable_by_key(|b| b.0);
        factors.dedup();
        let [u, v] = Party::BOTH.map(|p| factors.iter().map(|&b| self.view(b, p)).collect::<Vec<Own>>());
        // What P0 brings to each subset of P1's bits; its own product to the empty one.
        let mut mine: BTreeMap<Vec<usize>, Own> = BTreeMap::new();
        for term in terms {
            let term: Vec<usize> =
                term.iter().map(|b| factors.iter().position(|f| f == b).expect("collected")).collect();
            for chosen in subsets(&term) {
                let part = self.coefficient(&u, &term, &chosen, width);
                let sum = match mine.get(&chosen) {
                    Some(&before) => self.own_add(before, part),
                    None => part,
                };
                mine.insert(chosen, sum);
            }
        }
        let local = mine.remove(&vec![]).expect("the empty subset of any product");
        let mut sum = self.share(local);
        for (chosen, part) in mine {
            let mut product = self.word(v[chosen[0]], 1);
            for &j in &chosen[1..] {
                product = self.own_select(v[j], product);
            }
            let choice = self.planes(product, 0, 1);
            let crossed = self.cross(choice, part, None);
            sum = self.add(sum, crossed);
        }
        self.retype(sum, 0, terms.len() as i128)
    }

    /// `prod_{j in chosen} (1 - 2 u_j) prod_{j in term, not chosen} u_j`.
    fn coefficient(&mut self, u: &[Own], term: &[usize], chosen: &[usize], width: u32) -> Own {
        let mut product: Option<Own> = None;
        for j in term.iter().filter(|j| !chosen.contains(j)) {
            product = Some(match product {
                None => self.word(u[*j], width),
                Some(p) => self.own_select(u[*j], p),
            });
        }
        for &j in chosen {
            product = Some(match product {
                None => {
                    let word = self.word(u[j], width);
                    let twice = self.own_scale(word, -2);
                    self.own_offset(twice, 1)
                }
                Some(p) => {
                    let kept = self.own_select(u[j], p);
                    let twice = self.own_scale(kept, 2);
                    self.own_sub(p, twice)
                }
            });
        }
        product.expect("a product has factors")
    }

    /// `a AND b` as a number of `width` bits. One round and three COTs, or two and fewer bytes.
    pub fn and_number(&mut self, a: Bit, b: Bit, width: u32) -> Int {
        let (profile, n) = (self.profile, self.len(a).max(1));
        let rates = &profile.rates;
        let merged = profile.score(1, sum_of_products_bytes(rates, &[vec![0, 1]], width), n);
        let apart = profile.score(2, rates.triple + 0.5 + sum_of_products_bytes(rates, &[vec![0]], width), n);
        let number = if merged < apart {
            self.sum_of_products(&[vec![a, b]], width)
        } else {
            let both = self.and(a, b);
            self.b2a(both, width)
        };
        self.retype(number, 0, 1)
    }

    /// `b x` in the ring of `x`. One round, two COTs.
    pub fn mux(&mut self, bit: Bit, x: Int) -> Int {
        let (lo, hi) = (self.ty(x).lo.min(0), self.ty(x).hi.max(0));
        let mut sum = None;
        for p in Party::BOTH {
            let (mine, other) = (self.view(bit, p), self.view(bit, p.other()));
            let share = self.view(x, p);
            let kept = self.own_select(mine, share);
            let part = self.bit_times(other, mine, share);
            let kept = self.share(kept);
            let part = self.add(kept, part);
            sum = Some(sum.map_or(part, |s| self.add(s, part)));
        }
        self.retype(sum.expect("two parties"), lo, hi)
    }

    /// `other (share - 2 mine share)`: the interactive half of a selection.
    fn bit_times(&mut self, other: Own, mine: Own, share: Own) -> Int {
        let kept = self.own_select(mine, share);
        let twice = self.own_scale(kept, 2);
        let v = self.own_sub(share, twice);
        self.cross(other, v, None)
    }

    /// `b ? x : y` in their common ring. One round, two COTs.
    pub fn select(&mut self, bit: Bit, x: Int, y: Int) -> Int {
        let difference = self.sub(x, y);
        let kept = self.mux(bit, difference);
        let (a, b) = (self.ty(x), self.ty(y));
        let (lo, hi) = (a.lo.min(b.lo), a.hi.max(b.hi));
        let chosen = self.add(y, kept);
        self.retype(chosen, lo, hi)
    }
}

/// Type of `planes` shared bits.
pub fn bit_ty(len: usize, planes: usize) -> Ty {
    Ty { ring: Ring::Xor(planes as u8), len, holder: Holder::Both, lo: 0, hi: (1 << planes) - 1 }
}

/// All subsets, each in the order of `set`.
fn subsets(set: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let mut set = set.to_vec();
    set.sort_unstable();
    (0..1usize << set.len())
        .map(move |mask| set.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1).map(|(_, &j)| j).collect())
}

/// Bytes of [`Cx::sum_of_products`] per instance, for products of these factors.
pub(super) fn sum_of_products_bytes(rates: &Rates, terms: &[Vec<usize>], width: u32) -> f64 {
    if let [term] = terms
        && term.len() == 1
    {
        return rates.cot + f64::from(width) / 8.0;
    }
    let distinct: BTreeSet<Vec<usize>> = terms.iter().flat_map(|t| subsets(t)).collect();
    (distinct.len() - 1) as f64 * (rates.cot + f64::from(1 + width) / 8.0)
}

/// Width of the narrowest two's complement that holds a range.
pub fn signed_bits(lo: i128, hi: i128) -> u32 {
    let magnitude = |v: i128| 128 - (if v < 0 { !v } else { v }).leading_zeros();
    1 + magnitude(lo).max(magnitude(hi))
}

/// Refuses a ring that there is not.
pub(crate) fn require_ring(name: &str, width: u32) -> Build<()> {
    if (1..=64).contains(&width) { Ok(()) } else { refuse(name, format!("no ring of {width} bits")) }
}

/// Refuses what is not one shared bit per element.
fn require_bit(cx: &Cx, name: &str, bit: Reg) -> Build<()> {
    if cx.ty(bit).ring == Ring::Xor(1) { Ok(()) } else { refuse(name, "a shared bit is expected") }
}

/// A shared bit as a number of `width` bits (B2A).
#[derive(Debug)]
pub struct BitToArithmetic {
    /// Width of the result.
    pub width: u32,
}

impl Function for BitToArithmetic {
    fn name(&self) -> &'static str {
        "b2a"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].to_vec()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        require_ring(self.name(), self.width)?;
        require_bit(cx, self.name(), ins[0])?;
        Ok(vec![cx.b2a(Bit(ins[0]), self.width).0])
    }
}

/// `b ? x : 0` (MUX).
#[derive(Clone, Copy, Debug)]
pub struct Mux;

impl Function for Mux {
    fn name(&self) -> &'static str {
        "mux"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().zip(ins[1]).map(|(b, x)| b * x).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        require_bit(cx, self.name(), ins[0])?;
        if cx.len(ins[0]) != cx.len(ins[1]) {
            return refuse(self.name(), format!("{} bits and {} numbers", cx.len(ins[0]), cx.len(ins[1])));
        }
        Ok(vec![cx.mux(Bit(ins[0]), Int(ins[1])).0])
    }
}
