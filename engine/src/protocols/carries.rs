//! The carry tree: comparison, wrap, MSB, equality, and the carries and zero tests of truncation are its taps.
//!
//! P0 holds `a`, P1 holds `b`. The carry into bit `t` of `a + b` is the millionaires' predicate
//! `b mod 2^t > 2^t - 1 - (a mod 2^t)` (paper III-C); so the wrap of a sharing is the carry out of its top bit, its MSB is the
//! carry into the top bit xor both top bits, and a logical shift by `s` needs the carry into bit `s`.
//!
//! * Leaves ([`Inst::Leaf`]) cut the numbers in digits; one 1-of-`2^k` OT gives a digit's *generate* (sum of digits overflows) and
//!   *propagate* (sum is all ones) flags, for all ends inside the digit that somebody taps.
//! * Inner nodes compose `(G, P) = (G_hi xor P_hi G_lo, P_hi P_lo)`: generate and propagate exclude each other, so xor is or, and
//!   both products share the factor `P_hi`: one [`Inst::And`] with two columns. Prefixes from bit 0 need no `P`.
//! * All taps are one Sklansky prefix tree: depth `ceil(log2 leaves)`, shared nodes built once.
//! * Low bits `from..to` of the sum are all zero: if no carry enters, iff `(a >> from) - 1` and `b >> from` sum to all ones there
//!   (an equality test, hence an AND tree over propagate flags of a second view of `a`); if one enters, iff the sum is all ones.
//!
//! * A carry of `(a + c) + b` for a public `c` ([`Want::CarryPlus`]) is a tap of the same tree: the sender shows its leaf a second view of `a`,
//!   and digits below the lowest set bit of `c` are the same. Comparing with 0 and with a bound shares all one-of-many OTs.
//!
//! * A carry that is wanted as a *number* ([`carries_as`]) need not be a bit first. `G_hi` and `P_hi G_lo` exclude each other, so their sum
//!   as integers is the carry, and a sum of products of shared bits takes one round in any ring ([`Cx::sum_of_products`]). The upper
//!   one or two levels of the tree and the change to arithmetic shares thus become one round. The receiver of the leaves does not even wait
//!   for that: the sender's part of the sum leaves together with the answers.
//!
//! Rounds: 2 for the leaves, 1 per level, 1 for a number with as many levels in it as are merged. Bytes: per leaf of `k` bits one
//! random 1-of-`2^k` OT, `k + flags * 2^k` bits; per node one triple and `2 (1 + columns)` bits; per number 1 COT, 4, 10 or 22 if two, three
//! or four subtrees are merged. Leaf sizes are chosen by cost: KK13 pays 32 bytes for any leaf, so 6-7 bits are best there.

use super::bits::{bit_ty, sum_of_products_bytes};
use crate::program::{Bit, Build, Cx, Int, Own, Profile, Rates, refuse};
use sirnn_backends::inst::{Flag, FlagKind, Inst, Party};
use std::collections::HashMap;

/// A bit of knowledge about `a + b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The carry into bit `t`, `1 <= t <= width`.
    Carry(u32),
    /// The carry into bit `to` of `(a + add) + b`, where `a + add` is taken modulo the width.
    CarryPlus {
        /// A public number that is added to `a`.
        add: i128,
        /// The bit.
        to: u32,
    },
    /// Whether bits `0..to` of the sum are all one.
    Ones(u32),
    /// Whether bits `from..to` of the sum are all zero.
    Zero {
        /// First bit.
        from: u32,
        /// Bit behind the last.
        to: u32,
    },
}

/// Computes `wants` about the sum of P0's `a` and P1's `b`, both of the same width.
pub fn carries(cx: &mut Cx, a: Own, b: Own, wants: &[Want]) -> Build<Vec<Bit>> {
    Ok(carries_as(cx, a, b, wants, &[])?.0)
}

/// [`carries`], and some of the answers as numbers 0 or 1 in rings of the given widths: bits, numbers.
pub fn carries_as(cx: &mut Cx, a: Own, b: Own, wants: &[Want], numbers: &[(Want, u32)]) -> Build<(Vec<Bit>, Vec<Int>)> {
    if wants.is_empty() && numbers.is_empty() {
        return Ok(Default::default());
    }
    let width = cx.width(a);
    for want in wants.iter().chain(numbers.iter().map(|(want, _)| want)) {
        let (from, to) = match *want {
            Want::Carry(to) | Want::Ones(to) | Want::CarryPlus { to, .. } => (0, to),
            Want::Zero { from, to } => (from, to),
        };
        if from >= to || to > width {
            return refuse("carries", format!("bits {from}..{to} of a sum of {width} bits"));
        }
    }
    let best = Plan::best(&cx.profile, cx.len(a), wants, numbers);
    Ok(cx.named("carries", |cx| best.emit(cx, a, b)))
}

/// Rounds, and bytes per instance, that [`carries`] takes.
pub(super) fn price(profile: &Profile, n: usize, wants: &[Want]) -> (u32, f64) {
    if wants.is_empty() {
        return (0, 0.0);
    }
    let best = Plan::best(profile, n, wants, &[]);
    (best.depth() + 2, best.bytes(&profile.rates))
}

/// What a sender's digits are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    /// `(a >> shift) - 1`.
    LessOne { shift: u32 },
    /// `a + add`.
    Plus(i128),
}

#[derive(Debug)]
struct Leaf {
    lo: u32,
    bits: u32,
    flags: Vec<Flag>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Value(usize);

#[derive(Debug)]
enum Expr {
    Flag { leaf: usize, flag: usize },
    And { node: usize, column: usize },
    Xor(Value, Value),
}

/// Which bits a node covers: leaves `first..=last`, of the last one only the low `bits` bits.
type Range = (usize, usize, u32);

/// A range under a view.
type Key = (Range, usize);

/// Where leaves end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// At every tap.
    AtTaps,
    /// At every tap but the one below the last bit.
    ButTheTopBit,
    /// Only where they must; the rest in equal parts.
    Evenly,
}

/// A tree as data, so that candidates can be priced before one is built.
#[derive(Debug, Default)]
struct Plan {
    leaves: Vec<Leaf>,
    /// Views of `a` beyond the first, which is `a` itself: view `i + 1` is `views[i]`.
    views: Vec<View>,
    exprs: Vec<(Expr, u32)>,
    nodes: Vec<(Value, Vec<Value>)>,
    outs: Vec<Value>,
    /// Answers as numbers: the sum of these products, and the width of its ring.
    sums: Vec<(Vec<Vec<Value>>, u32)>,
    pairs: HashMap<Key, (Value, Value)>,
    prefixes: HashMap<Key, Value>,
}

impl Plan {
    /// The cheapest tree.
    fn best(profile: &Profile, n: usize, wants: &[Want], numbers: &[(Want, u32)]) -> Self {
        // Of three levels' products every subset of up to eight bits would be a COT.
        let merged = if numbers.is_empty() { 0..=0 } else { 0..=2 };
        let cuts = [Cut::AtTaps, Cut::ButTheTopBit, Cut::Evenly];
        (2..=8)
            .flat_map(|k| cuts.map(|cut| (k, cut)))
            .flat_map(|(k, cut)| merged.clone().map(move |m| Plan::new(wants, numbers, k, cut, m)))
            .min_by(|p, q| {
                // An infinite penalty stays one, also for no instances.
                let score = |p: &Plan| profile.score(p.depth() + 2, p.bytes(&profile.rates), n.max(1));
                score(p).partial_cmp(&score(q)).expect("costs are numbers")
            })
            .expect("there are candidates")
    }

    /// In numbers, the upper `merged` levels are no nodes.
    fn new(wants: &[Want], numbers: &[(Want, u32)], max_leaf: u32, cut: Cut, merged: u32) -> Self {
        let all = || wants.iter().chain(numbers.iter().map(|(want, _)| want));
        let cut_at_taps = cut != Cut::Evenly;
        let mut cuts = vec![0];
        let mut end = 0;
        for want in all() {
            match *want {
                Want::Carry(t) | Want::Ones(t) => {
                    end = end.max(t);
                    cuts.extend(cut_at_taps.then_some(t));
                }
                Want::CarryPlus { add, to } => {
                    end = end.max(to);
                    cuts.extend(cut_at_taps.then_some(to));
                    cuts.extend(Some(add.trailing_zeros()).filter(|&t| cut_at_taps && t < to));
                }
                Want::Zero { from, to } => {
                    end = end.max(to);
                    cuts.push(from);
                    cuts.extend(cut_at_taps.then_some(to));
                }
            }
        }
        cuts.push(end);
        if cut == Cut::ButTheTopBit {
            // Sign and wrap: the last leaf has both flags.
            cuts.retain(|&c| {
                c == 0 || c + 1 != end || all().any(|w| matches!(w, Want::Zero { from, .. } if *from == c))
            });
        }
        cuts.sort_unstable();
        cuts.dedup();
        let mut plan = Plan::default();
        for pair in cuts.windows(2) {
            let (from, len) = (pair[0], pair[1] - pair[0]);
            let parts = len.div_ceil(max_leaf);
            let mut lo = from;
            for i in 0..parts {
                // Larger leaves first: the lowest one has a flag less.
                let bits = len / parts + u32::from(i < len % parts);
                plan.leaves.push(Leaf { lo, bits, flags: Vec::new() });
                lo += bits;
            }
        }
        for &want in wants {
            let out = plan.answer(want);
            plan.outs.push(out);
        }
        for &(want, width) in numbers {
            let terms = match want {
                Want::Carry(t) => plan.terms(plan.range(0, t), 0, merged),
                other => vec![vec![plan.answer(other)]],
            };
            plan.sums.push((terms, width));
        }
        plan
    }

    fn answer(&mut self, want: Want) -> Value {
        match want {
            Want::Carry(t) => self.prefix(self.range(0, t), 0),
            Want::Ones(t) => self.ones(self.range(0, t), 0),
            Want::CarryPlus { add, to } => {
                let view = self.view(View::Plus(add));
                self.prefix(self.range(0, to), view)
            }
            Want::Zero { from, to } => self.zero(from, to),
        }
    }

    fn view(&mut self, view: View) -> usize {
        let at = self.views.iter().position(|v| *v == view).unwrap_or_else(|| {
            self.views.push(view);
            self.views.len() - 1
        });
        at + 1
    }

    /// The view of a range: `a` itself where the other one does not differ.
    fn seen(&self, range: Range, view: usize) -> usize {
        let end = self.leaves[range.1].lo + range.2;
        match view.checked_sub(1).map(|v| self.views[v]) {
            Some(View::Plus(add)) if add.trailing_zeros() >= end => 0,
            _ => view,
        }
    }

    fn range(&self, from: u32, to: u32) -> Range {
        let at = |bit: u32| self.leaves.iter().position(|l| l.lo <= bit && bit < l.lo + l.bits).expect("inside");
        let (first, last) = (at(from), at(to - 1));
        debug_assert_eq!(self.leaves[first].lo, from, "ranges start at a cut");
        (first, last, to - self.leaves[last].lo)
    }

    fn expr(&mut self, expr: Expr) -> Value {
        let depth = match &expr {
            Expr::Flag { .. } => 0,
            Expr::And { node, .. } => {
                let (a, b) = &self.nodes[*node];
                1 + b.iter().chain([a]).map(|v| self.exprs[v.0].1).max().expect("operands")
            }
            Expr::Xor(a, b) => self.exprs[a.0].1.max(self.exprs[b.0].1),
        };
        self.exprs.push((expr, depth));
        Value(self.exprs.len() - 1)
    }

    fn flag(&mut self, leaf: usize, kind: FlagKind, bits: u32, view: usize) -> Value {
        let flag = Flag { kind, bits: bits as u8, view: view as u8 };
        let flags = &mut self.leaves[leaf].flags;
        let at = flags.iter().position(|f| *f == flag).unwrap_or_else(|| {
            flags.push(flag);
            flags.len() - 1
        });
        self.expr(Expr::Flag { leaf, flag: at })
    }

    fn and(&mut self, a: Value, b: &[Value]) -> Vec<Value> {
        self.nodes.push((a, b.to_vec()));
        let node = self.nodes.len() - 1;
        (0..b.len()).map(|column| self.expr(Expr::And { node, column })).collect()
    }

    /// Splits leaves `first..=last` so that prefixes share their lower parts.
    fn split((first, last, bits): Range, leaves: &[Leaf]) -> (Range, Range) {
        let count = last - first + 1;
        let mid = first + count.next_power_of_two() / 2;
        ((first, mid - 1, leaves[mid - 1].bits), (mid, last, bits))
    }

    /// The carry out of a range that starts at bit 0.
    fn prefix(&mut self, range: Range, view: usize) -> Value {
        let view = self.seen(range, view);
        if let Some(&v) = self.prefixes.get(&(range, view)) {
            return v;
        }
        let value = if range.0 == range.1 {
            self.flag(range.0, FlagKind::Carry, range.2, view)
        } else {
            let (low, high) = Self::split(range, &self.leaves);
            let g_low = self.prefix(low, view);
            let (g, p) = self.pair(high, view);
            let carried = self.and(p, &[g_low])[0];
            self.expr(Expr::Xor(g, carried))
        };
        self.prefixes.insert((range, view), value);
        value
    }

    /// The carry out of a range that starts at bit 0 as products of which at most one is 1, `levels` levels expanded.
    fn terms(&mut self, range: Range, view: usize, levels: u32) -> Vec<Vec<Value>> {
        if levels == 0 || range.0 == range.1 {
            return vec![vec![self.prefix(range, view)]];
        }
        let (low, high) = Self::split(range, &self.leaves);
        let (mut terms, propagate) = self.generated(high, view, levels - 1);
        let low = self.terms(low, view, levels - 1);
        terms.extend(low.into_iter().map(|term| [propagate.clone(), term].concat()));
        terms
    }

    /// [`Plan::pair`], expanded: generate as products, and the factors of propagate.
    fn generated(&mut self, range: Range, view: usize, levels: u32) -> (Vec<Vec<Value>>, Vec<Value>) {
        if levels == 0 || range.0 == range.1 {
            let (g, p) = self.pair(range, view);
            return (vec![vec![g]], vec![p]);
        }
        let (low, high) = Self::split(range, &self.leaves);
        let (g_low, p_low) = self.generated(low, view, levels - 1);
        let (mut terms, propagate) = self.generated(high, view, levels - 1);
        terms.extend(g_low.into_iter().map(|term| [propagate.clone(), term].concat()));
        (terms, [propagate, p_low].concat())
    }

    /// Generate and propagate of a range.
    fn pair(&mut self, range: Range, view: usize) -> (Value, Value) {
        let view = self.seen(range, view);
        if let Some(&v) = self.pairs.get(&(range, view)) {
            return v;
        }
        let value = if range.0 == range.1 {
            let g = self.flag(range.0, FlagKind::Carry, range.2, view);
            (g, self.flag(range.0, FlagKind::Ones, range.2, view))
        } else {
            let (low, high) = Self::split(range, &self.leaves);
            let (g_low, p_low) = self.pair(low, view);
            let (g, p) = self.pair(high, view);
            let both = self.and(p, &[g_low, p_low]);
            (self.expr(Expr::Xor(g, both[0])), both[1])
        };
        self.pairs.insert((range, view), value);
        value
    }

    /// All-ones of a range under a view: an AND tree.
    fn ones(&mut self, range: Range, view: usize) -> Value {
        if range.0 == range.1 {
            return self.flag(range.0, FlagKind::Ones, range.2, view);
        }
        if let Some(&(_, ones)) = self.pairs.get(&(range, view)) {
            return ones;
        }
        let (low, high) = Self::split(range, &self.leaves);
        let (low, high) = (self.ones(low, view), self.ones(high, view));
        self.and(high, &[low])[0]
    }

    fn zero(&mut self, from: u32, to: u32) -> Value {
        let view = self.view(View::LessOne { shift: from });
        let range = self.range(from, to);
        let zero = self.ones(range, view);
        if from == 0 {
            return zero;
        }
        let carry = self.prefix(self.range(0, from), 0);
        let ones = self.ones(range, 0);
        let differ = self.expr(Expr::Xor(zero, ones));
        let change = self.and(carry, &[differ])[0];
        self.expr(Expr::Xor(zero, change))
    }

    /// Rounds after the leaves.
    fn depth(&self) -> u32 {
        let depth = |v: &Value| self.exprs[v.0].1;
        let sums = self.sums.iter().flat_map(|(terms, _)| terms.iter().flatten()).map(|v| depth(v) + 1);
        self.outs.iter().map(depth).chain(sums).max().unwrap_or(0)
    }

    fn bytes(&self, rates: &Rates) -> f64 {
        let leaves = self.leaves.iter().filter(|l| !l.flags.is_empty()).map(|l| {
            let bits = f64::from(l.bits) + (l.flags.len() << l.bits) as f64;
            // A leaf instruction carries at most 8 flags; more never pays.
            let penalty = if l.flags.len() > 8 { f64::INFINITY } else { 0.0 };
            rates.one_of[l.bits as usize] + bits / 8.0 + penalty
        });
        let nodes = self.nodes.iter().map(|(_, b)| {
            let columns = b.len() as f64;
            (if b.len() == 1 { rates.triple } else { rates.triples }) + (1.0 + columns) / 4.0
        });
        let sums = self.sums.iter().map(|(terms, width)| {
            let terms: Vec<Vec<usize>> = terms.iter().map(|t| t.iter().map(|v| v.0).collect()).collect();
            sum_of_products_bytes(rates, &terms, *width)
        });
        leaves.chain(nodes).chain(sums).sum()
    }

    fn emit(self, cx: &mut Cx, a: Own, b: Own) -> (Vec<Bit>, Vec<Int>) {
        let n = cx.len(a);
        let mut sources = vec![(a, 0)];
        for &view in &self.views {
            sources.push(match view {
                View::LessOne { shift } => {
                    let above = cx.digit(a, shift, cx.width(a) - shift);
                    (cx.own_offset(above, -1), shift)
                }
                View::Plus(add) => (cx.own_offset(a, add), 0),
            });
        }
        let leaves: Vec<Option<Bit>> = self
            .leaves
            .iter()
            .map(|leaf| {
                if leaf.flags.is_empty() {
                    return None;
                }
                // Only the views that this leaf's flags use travel with it.
                let mut used: Vec<u8> = leaf.flags.iter().map(|f| f.view).collect();
                used.sort_unstable();
                used.dedup();
                let mut ins: Vec<_> = used
                    .iter()
                    .map(|&v| {
                        let (source, shift) = sources[usize::from(v)];
                        cx.digit(source, leaf.lo - shift, leaf.bits).0
                    })
                    .collect();
                ins.push(cx.digit(b, leaf.lo, leaf.bits).0);
                let view = |f: &Flag| used.iter().position(|v| *v == f.view).expect("collected above") as u8;
                let flags: Vec<Flag> = leaf.flags.iter().map(|f| Flag { view: view(f), ..*f }).collect();
                let ty = bit_ty(n, flags.len());
                let views = used.len() as u8;
                let inst = Inst::Leaf { sender: Party::P0, digit: leaf.bits as u8, views, flags };
                Some(Bit(cx.inter(inst, &ins, vec![ty])[0]))
            })
            .collect();
        let mut values: Vec<Bit> = Vec::new();
        let mut nodes: Vec<Option<Bit>> = vec![None; self.nodes.len()];
        for (expr, _) in &self.exprs {
            let value = match expr {
                Expr::Flag { leaf, flag } => cx.pick(leaves[*leaf].expect("has flags"), *flag, 1),
                Expr::Xor(a, b) => cx.xor(values[a.0], values[b.0]),
                Expr::And { node, column } => {
                    let made = nodes[*node].unwrap_or_else(|| {
                        let (a, b) = &self.nodes[*node];
                        let b: Vec<Bit> = b.iter().map(|v| values[v.0]).collect();
                        let b = if b.len() == 1 { b[0] } else { cx.stack(&b) };
                        cx.and(values[a.0], b)
                    });
                    nodes[*node] = Some(made);
                    cx.pick(made, *column, 1)
                }
            };
            values.push(value);
        }
        let bits = self.outs.iter().map(|v| values[v.0]).collect();
        let numbers = self.sums.iter().map(|(terms, width)| {
            let terms: Vec<Vec<Bit>> = terms.iter().map(|t| t.iter().map(|v| values[v.0]).collect()).collect();
            let sum = cx.sum_of_products(&terms, *width);
            cx.retype(sum, 0, 1)
        });
        (bits, numbers.collect())
    }
}
