//! Proofs that values cannot wrap: facts about the weights that the server finds when it loads them, and adds to the public description.
//!
//! Interval arithmetic with the actual weights, element by element, over all inputs of the declared formats and all steps. What depends
//! on one narrow value ([`super::tables`]) is followed entry by entry, so that a gate and what it gates are not taken at their
//! extremes at the same time: that is what bounds the state of a FastGRNN. Vectors that repeat are kept once.
//!
//! Sound: every interval holds every value that any input can lead to; a state's interval holds it in every step up to the last.

use super::ir::{Def, Home, Ir, Item, Unary, Val, Value};
use super::tables::lcm;
use super::{Request, expand, ranges, scalar, tables};
use crate::graph::{Graph, Weights};
use rayon::prelude::*;
use sirnn_backends::inst::LinearOp;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Widest index that is followed entry by entry.
const MAX_INDEX: u32 = 16;
/// Entries of all elements and steps of a loop up to which they are followed: a few seconds.
const MAX_LANES: u64 = 1 << 26;

/// Entries of the elements of one vector up to which they are followed: a hundred megabytes.
const MAX_ENTRIES: usize = 1 << 22;

/// Entries that are worth a task of their own.
const WORTH: usize = 1 << 14;

/// An interval.
type Span = (i128, i128);

/// Intervals of the elements of a vector, as long as its period.
#[derive(Clone, PartialEq)]
enum Spans {
    /// One per element.
    Flat(Vec<Span>),
    /// One per element and entry of the index of a look-up.
    Entries { index: Val, bits: u32, spans: Vec<Span> },
}

/// Names of the values that never leave their width, of those that could by their declared formats alone.
pub fn prove(graph: &Graph, weights: &Weights) -> Vec<String> {
    let bare = Graph { fits: Vec::new(), ..graph.clone() };
    let Ok(typed) = bare.infer(bare.steps.max(1)) else { return Vec::new() };
    let request = Request { items: 1, steps: typed.steps, lengths: None };
    let Ok(mut ir) = expand::expand(&typed, &request, &[]) else { return Vec::new() };
    ir.sweep();
    ranges::run(&mut ir);
    // Only states need it: outside of loops plain intervals say as much.
    tables::run(&mut ir, MAX_INDEX, |home| home != Home::Top);
    let mut proof = Proof { ir: &ir, weights, spans: HashMap::new(), entries: HashMap::new(), wraps: BTreeMap::new() };
    for item in &ir.top {
        match *item {
            Item::Value(v) => proof.value(v, true),
            Item::Loop(l) => proof.scan(l),
        }
    }
    proof.wraps.into_iter().filter(|(_, wraps)| !wraps).map(|(name, _)| name.to_string()).collect()
}

struct Proof<'a> {
    ir: &'a Ir,
    weights: &'a Weights,
    spans: HashMap<Val, Spans>,
    /// Columns of look-ups, by site.
    entries: HashMap<*const tables::Site, Arc<Vec<Vec<i128>>>>,
    /// Whether a value may wrap, of those with a wrap.
    wraps: BTreeMap<Arc<str>, bool>,
}

fn union(a: Span, b: Span) -> Span {
    (a.0.min(b.0), a.1.max(b.1))
}

fn product((a, b): Span, (c, d): Span) -> Span {
    let all = [a * c, a * d, b * c, b * d];
    (all.into_iter().min().expect("four"), all.into_iter().max().expect("four"))
}

impl Proof<'_> {
    /// After how many elements the intervals of a value repeat.
    fn period(&self, v: Val) -> usize {
        match &self.spans[&v] {
            Spans::Flat(spans) => spans.len(),
            Spans::Entries { bits, spans, .. } => spans.len() >> bits,
        }
    }

    /// Intervals with one per element.
    fn flat(&self, v: Val) -> Vec<Span> {
        match &self.spans[&v] {
            Spans::Flat(spans) => spans.clone(),
            Spans::Entries { bits, spans, .. } => {
                spans.chunks(1 << bits).map(|all| all.iter().copied().reduce(union).expect("entries")).collect()
            }
        }
    }

    /// The columns of a look-up. What wraps in it is known then, too.
    fn entries(&mut self, site: &Arc<tables::Site>) -> Arc<Vec<Vec<i128>>> {
        let key = Arc::as_ptr(site);
        if let Some(all) = self.entries.get(&key) {
            return all.clone();
        }
        for (name, wraps) in site.wraps(self.weights) {
            *self.wraps.entry(name).or_insert(false) |= wraps;
        }
        let all = Arc::new(site.all_entries(self.weights));
        self.entries.insert(key, all.clone());
        all
    }

    fn public(&self, v: Val) -> Spans {
        let value = self.ir.value(v);
        Spans::Flat(vec![(value.lo, value.hi)])
    }

    fn value(&mut self, v: Val, by_entry: bool) {
        let spans = self.spans_of(v, by_entry);
        self.spans.insert(v, spans);
    }

    fn spans_of(&mut self, v: Val, by_entry: bool) -> Spans {
        let value = self.ir.value(v);
        match &value.def {
            Def::Public(values) => Spans::Flat(values.iter().map(|&x| (x, x)).collect()),
            Def::Server(recipe) => Spans::Flat(recipe.values(self.weights).into_iter().map(|x| (x, x)).collect()),
            Def::Linear { op: op @ (LinearOp::MatMul { .. } | LinearOp::Conv(_)), weights } => {
                Spans::Flat(self.linear(value.ins[0], *op, &weights.values(self.weights)))
            }
            Def::Column { site, column } if site.whole(*column) && site.units << site.bits <= MAX_ENTRIES => {
                let all = self.entries(site);
                let spans: Vec<Span> = all[*column].iter().map(|&x| (x, x)).collect();
                let all = Spans::Entries { index: value.ins[0], bits: site.bits, spans };
                if by_entry {
                    return all;
                }
                self.spans.insert(v, all);
                Spans::Flat(self.flat(v))
            }
            def if scalar::is_elementwise(def) => self.elementwise(v),
            Def::Concat => {
                let parts: Vec<Span> = value
                    .ins
                    .iter()
                    .flat_map(|&x| {
                        let spans = self.flat(x);
                        (0..self.ir.value(x).len).map(move |i| spans[i % spans.len()]).collect::<Vec<_>>()
                    })
                    .collect();
                Spans::Flat(shortened(parts))
            }
            Def::Gather(map) => {
                let spans = self.flat(value.ins[0]);
                if spans.len() == 1 {
                    return Spans::Flat(spans);
                }
                let all = map.iter().map(|&i| spans[i as usize % spans.len()]).collect();
                Spans::Flat(shortened(all))
            }
            _ => self.public(v),
        }
    }

    /// A matrix or a convolution: the extremes of every sum of products.
    fn linear(&self, x: Val, op: LinearOp, w: &[i128]) -> Vec<Span> {
        let spans = self.flat(x);
        let sum = |terms: &mut dyn Iterator<Item = (Span, i128)>| {
            terms.fold(
                (0, 0),
                |(lo, hi), ((a, b), w)| if w < 0 { (lo + b * w, hi + a * w) } else { (lo + a * w, hi + b * w) },
            )
        };
        match op {
            LinearOp::MatMul { inner, outer } => {
                let (inner, outer) = (inner as usize, outer as usize);
                let period = lcm(spans.len(), inner);
                let row = |r: usize, j: usize| {
                    sum(&mut (0..inner).map(|k| (spans[(r * inner + k) % spans.len()], w[k * outer + j])))
                };
                (0..period / inner).flat_map(|r| (0..outer).map(move |j| (r, j))).map(|(r, j)| row(r, j)).collect()
            }
            LinearOp::Conv(conv) => {
                let channels = conv.image[2] as usize;
                // The same interval in all places of a channel; padding is 0.
                let mut by_channel = vec![(0, 0); channels];
                for i in 0..lcm(spans.len(), channels) {
                    by_channel[i % channels] = union(by_channel[i % channels], spans[i % spans.len()]);
                }
                let (filters, groups) = (conv.filters as usize, conv.groups as usize);
                let (depth, outer, patch) = (channels / groups, filters / groups, conv.patch());
                let filter = |f: usize| {
                    let (group, j) = (f / outer, f % outer);
                    sum(&mut (0..patch)
                        .map(|k| (by_channel[group * depth + k % depth], w[(group * patch + k) * outer + j])))
                };
                (0..filters).map(filter).collect()
            }
            LinearOp::Scale { .. } => unreachable!("element by element"),
        }
    }

    fn elementwise(&mut self, v: Val) -> Spans {
        let value = self.ir.value(v);
        let own: Option<Vec<i128>> = match &value.def {
            Def::Linear { weights, .. } => Some(weights.values(self.weights)),
            _ => None,
        };
        // The index that is followed: that of the first operand that has one.
        let mut lanes = value.ins.iter().find_map(|x| match &self.spans[x] {
            Spans::Entries { index, bits, .. } => Some((*index, *bits)),
            Spans::Flat(_) => None,
        });
        let elements = value.ins.iter().map(|x| self.period(*x)).chain(own.as_ref().map(Vec::len)).fold(1, lcm);
        if lanes.is_some_and(|(_, bits)| elements << bits > MAX_ENTRIES) {
            lanes = None;
        }
        let bits = lanes.map_or(0, |l| l.1);
        let operands: Vec<(Vec<Span>, u32)> = value
            .ins
            .iter()
            .map(|x| match (&self.spans[x], lanes) {
                (Spans::Entries { index, bits, spans }, Some((followed, _))) if *index == followed => {
                    (spans.clone(), *bits)
                }
                _ => (self.flat(*x), 0),
            })
            .collect();
        let period =
            operands.iter().map(|(spans, bits)| spans.len() >> bits).chain(own.as_ref().map(Vec::len)).fold(1, lcm);
        let square = value.ins.len() == 2 && value.ins[0] == value.ins[1];
        // All entries of an element, and whether one wraps.
        let element = |i: usize| {
            let mut wraps = false;
            let mut args = vec![(0, 0); operands.len()];
            let weight = own.as_ref().map(|w| w[i % w.len()]);
            let entry = |e: usize| {
                for (arg, (spans, own_bits)) in args.iter_mut().zip(&operands) {
                    let n = spans.len() >> own_bits;
                    *arg = spans[((i % n) << own_bits) + if *own_bits > 0 { e } else { 0 }];
                }
                Self::step(value, &args, weight, square, &mut wraps)
            };
            let spans: Vec<Span> = (0..1usize << bits).map(entry).collect();
            (spans, wraps)
        };
        let elements: Vec<(Vec<Span>, bool)> =
            (0..period).into_par_iter().with_min_len((WORTH >> bits).max(1)).map(element).collect();
        let wraps = elements.iter().any(|(_, wraps)| *wraps);
        let results: Vec<Span> = elements.into_iter().flat_map(|(spans, _)| spans).collect();
        if let Def::Shift(shift) = &value.def
            && shift.wrap.is_some()
        {
            *self.wraps.entry(value.name.clone()).or_insert(false) |= wraps;
        }
        match lanes {
            Some((index, bits)) => Spans::Entries { index, bits, spans: results },
            None => Spans::Flat(results),
        }
    }

    /// One element.
    fn step(value: &Value, args: &[Span], weight: Option<i128>, square: bool, wraps: &mut bool) -> Span {
        match &value.def {
            Def::Mul if square => {
                let (lo, hi) = args[0];
                let least = if lo <= 0 && hi >= 0 { 0 } else { lo.abs().min(hi.abs()) };
                (least * least, (lo * lo).max(hi * hi))
            }
            Def::Mul => product(args[0], args[1]),
            Def::Linear { .. } => {
                let w = weight.expect("a vector");
                product(args[0], (w, w))
            }
            Def::Sum { terms, constant } => {
                args.iter().zip(terms).fold((*constant, *constant), |(lo, hi), (&(a, b), &(minus, up))| {
                    if minus { (lo - (b << up), hi - (a << up)) } else { (lo + (a << up), hi + (b << up)) }
                })
            }
            Def::Within { lo, hi } => (args[0].0.clamp(*lo, *hi), args[0].1.clamp(*lo, *hi)),
            Def::Shift(shift) => {
                let (lo, hi) = args[0];
                if shift.may_wrap(lo, hi) {
                    *wraps = true;
                }
                shift.range(lo, hi)
            }
            Def::Unary { function: Unary::Relu { .. }, zeros } => {
                let of = |x| scalar::eval(&value.def, &[x], None);
                debug_assert_eq!(*zeros, 0);
                (of(args[0].0), of(args[0].1))
            }
            // Approximations are not monotone: their whole range.
            Def::Unary { .. } => (value.lo, value.hi),
            _ => unreachable!("not element by element"),
        }
    }

    fn scan(&mut self, index: usize) {
        let l = &self.ir.loops[index];
        for &(outer, inner) in &l.slices {
            // An entry holds what any step may be.
            let (spans, n) = (self.flat(outer), self.ir.value(inner).len);
            let entry = if n.is_multiple_of(spans.len()) {
                spans
            } else {
                let all = |i: usize| (i..self.ir.value(outer).len).step_by(n).map(|at| spans[at % spans.len()]);
                shortened((0..n).map(|i| all(i).reduce(union).expect("a loop has steps")).collect())
            };
            self.spans.insert(inner, Spans::Flat(entry));
        }
        for s in &l.states {
            let init = self.flat(s.init);
            self.spans.insert(s.param, Spans::Flat(init));
        }
        let lanes: u64 = l
            .body
            .iter()
            .map(|&v| match &self.ir.value(v).def {
                Def::Column { site, .. } => (site.units as u64) << site.bits,
                _ => 0,
            })
            .sum();
        let by_entry = lanes.saturating_mul(l.trips as u64) <= MAX_LANES;
        // What depends on a state: the rest is the same in every step.
        let mut moving: HashSet<Val> = l.states.iter().map(|s| s.param).collect();
        for &v in &l.body {
            if self.ir.value(v).ins.iter().any(|x| moving.contains(x)) {
                moving.insert(v);
            }
        }
        for trip in 0..l.trips {
            for &v in l.body.iter().filter(|v| trip == 0 || moving.contains(v)) {
                self.value(v, by_entry);
            }
            let mut settled = true;
            for s in &l.states {
                let (now, next) = (self.flat(s.param), self.flat(s.next));
                let period = lcm(now.len(), next.len());
                let both: Vec<Span> = (0..period).map(|i| union(now[i % now.len()], next[i % next.len()])).collect();
                settled &= (0..period).all(|i| both[i] == now[i % now.len()]);
                self.spans.insert(s.param, Spans::Flat(both));
            }
            if settled {
                break;
            }
        }
        for &(inner, outer) in l.lasts.iter().chain(&l.stacks) {
            let spans = self.flat(inner);
            // Steps differ in nothing: one entry stands for all.
            self.spans.insert(outer, Spans::Flat(spans));
        }
    }
}

/// A vector up to the smallest number of elements after which it repeats.
fn shortened(mut spans: Vec<Span>) -> Vec<Span> {
    let n = spans.len();
    let repeats = |period: usize| n.is_multiple_of(period) && (period..n).all(|i| spans[i] == spans[i - period]);
    let period = (1..=n / 2).find(|&period| repeats(period)).unwrap_or(n);
    spans.truncate(period);
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_kept_up_to_their_period() {
        let [a, b] = [(0, 1), (2, 3)];
        assert_eq!(shortened(vec![a; 6]), [a]);
        assert_eq!(shortened(vec![a, b, a, b]), [a, b]);
        assert_eq!(shortened(vec![a, b, a]), [a, b, a]);
        assert_eq!(shortened(vec![a, a, b, a, a, b]), [a, a, b]);
        assert_eq!(shortened(vec![a]), [a]);
    }
}
