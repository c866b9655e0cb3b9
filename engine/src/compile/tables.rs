//! Pass 5, tables: what depends on one narrow value, and on constants of the server, becomes one look-up with several columns.
//!
//! Exact: the readers of the value ask for `d` of its bits only ([`super::rings`]), so that the part of the graph behind it is a function
//! of `d` bits per unit. The server computes all `2^d` entries by the definitions of the operations ([`super::scalar`]). For FastGRNN this is
//! the whole cell behind the pre-activation: gate, candidate, biases, `zeta` and `nu`; for an LSTM or a GRU its gates.
//! Privacy: the client learns one masked entry per look-up, hence nothing of the constants; the server nothing of the value.
//!
//! Rounds: 2. Bytes online: `2^d` times the columns' widths per element.

use super::ir::{Def, Home, Ir, Unary, Val};
use super::rings::{self, Rings};
use super::scalar;
use super::server::Recipe;
use crate::fixed::wrap;
use crate::graph::Weights;
use crate::program::{bits_for, signed};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Bits of the columns of one look-up together.
const MAX_ENTRY: u32 = 128;

/// Where an operation of a site takes its operand from.
#[derive(Clone, Copy, Debug)]
enum Source {
    Index,
    Step(usize),
}

/// An operation of a site.
#[derive(Clone, Debug)]
struct Step {
    def: Def,
    sources: Vec<Source>,
    /// Of its value.
    name: Arc<str>,
    /// Whether its value is the integer itself: from the low bits of the index some are known only modulo a power of 2.
    whole: bool,
    /// Whether those of its operands are.
    from_whole: bool,
}

/// A part of the graph that is one look-up.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// Bits of the index: the low bits of the value.
    pub bits: u32,
    /// Number of different tables: element `i` uses table `i % units`.
    pub units: usize,
    /// The smallest value, if the index determines it; else values are read as signed.
    lo: Option<i128>,
    /// The operations in order.
    steps: Vec<Step>,
    /// Steps that are columns.
    pub columns: Vec<usize>,
    /// The columns' values, by which their rings are known.
    values: Vec<Val>,
    /// Their ranges, from public facts.
    pub ranges: Vec<(i128, i128)>,
}

impl Site {
    /// Whether no constant of the server is among the operations.
    pub(crate) fn public(&self) -> bool {
        !self.steps.iter().any(|step| recipe(&step.def).is_some())
    }

    /// Ring of a column: every bit of it travels `2^bits` times, so that it is extended afterwards where its readers want more.
    pub(super) fn width(&self, column: usize, rings: &Rings) -> u32 {
        let (lo, hi) = self.ranges[column];
        rings[self.values[column].index()].min(rings::slack(lo, hi))
    }

    /// Range in which a column is held: where its ring does not determine the value only the low bits are asked for.
    pub(super) fn held(&self, width: u32, column: usize) -> (i128, i128) {
        let (lo, hi) = self.ranges[column];
        if bits_for(hi - lo) > width { signed(width) } else { (lo, hi) }
    }

    /// The value that entry `e` stands for.
    fn value(&self, e: usize) -> i128 {
        match self.lo {
            Some(lo) => lo + wrap(e as i128 - lo, self.bits, false),
            None => wrap(e as i128, self.bits, true),
        }
    }

    /// All entries of a column: table after table.
    pub(super) fn entries(&self, column: usize, weights: &Weights) -> Vec<i128> {
        self.all_entries(weights).swap_remove(column)
    }

    /// All entries of all columns.
    pub(super) fn all_entries(&self, weights: &Weights) -> Vec<Vec<i128>> {
        let mut columns = vec![Vec::with_capacity(self.units << self.bits); self.columns.len()];
        self.each(weights, |results, _| {
            for (column, &step) in columns.iter_mut().zip(&self.columns) {
                column.push(results[step]);
            }
        });
        columns
    }

    /// Whether a column is the value itself for every entry, not only its low bits.
    pub(super) fn whole(&self, column: usize) -> bool {
        self.steps[self.columns[column]].whole
    }

    /// The values of the site that wrap: whether one of an entry does, or may.
    pub(super) fn wraps(&self, weights: &Weights) -> Vec<(Arc<str>, bool)> {
        let shift = |step: &Step| match step.def {
            Def::Shift(shift) if shift.wrap.is_some() => Some(shift),
            _ => None,
        };
        let mut wraps: Vec<bool> = self.steps.iter().map(|s| shift(s).is_some() && !s.from_whole).collect();
        self.each(weights, |results, index| {
            for (k, step) in self.steps.iter().enumerate() {
                if let Some(shift) = shift(step) {
                    let x = match step.sources[0] {
                        Source::Index => index,
                        Source::Step(s) => results[s],
                    };
                    wraps[k] |= shift.may_wrap(x, x);
                }
            }
        });
        let found = self.steps.iter().zip(wraps).filter(|(step, _)| shift(step).is_some());
        found.map(|(step, wraps)| (step.name.clone(), wraps)).collect()
    }

    /// Calls `visit` with the results of all operations and the index, for every entry of every table.
    fn each(&self, weights: &Weights, mut visit: impl FnMut(&[i128], i128)) {
        let vector = |step: &Step| match &step.def {
            Def::Public(values) => Some(values.to_vec()),
            def => recipe(def).map(|r| r.values(weights)),
        };
        let vectors: Vec<Option<Vec<i128>>> = self.steps.iter().map(vector).collect();
        let mut results = vec![0i128; self.steps.len()];
        let mut args = Vec::new();
        for unit in 0..self.units {
            for e in 0..1usize << self.bits {
                let index = self.value(e);
                for (k, step) in self.steps.iter().enumerate() {
                    args.clear();
                    args.extend(step.sources.iter().map(|source| match source {
                        Source::Index => index,
                        Source::Step(s) => results[*s],
                    }));
                    let own = vectors[k].as_ref().map(|v| v[unit % v.len()]);
                    results[k] = scalar::eval(&step.def, &args, own);
                }
                visit(&results, index);
            }
        }
    }

    /// The entries as they are held in a ring of `width` bits. An entry that no value leads to may lie outside of the column's range: it is
    /// never read, and is brought inside.
    pub(super) fn held_entries(&self, column: usize, width: u32, weights: &Weights) -> Vec<i128> {
        let (lo, hi) = self.ranges[column];
        let narrow = bits_for(hi - lo) > width;
        let held = |v: i128| if narrow { wrap(v, width, true) } else { v.clamp(lo, hi) };
        self.entries(column, weights).into_iter().map(held).collect()
    }
}

/// The server's vector in an operation.
fn recipe(def: &Def) -> Option<&Arc<Recipe>> {
    match def {
        Def::Server(recipe) | Def::Linear { weights: recipe, .. } => Some(recipe),
        _ => None,
    }
}

/// A part of the graph that could be one look-up of `index`.
struct Candidate {
    index: Val,
    bits: u32,
    /// Operations in order, vectors of the server among them.
    steps: Vec<Val>,
    columns: Vec<Val>,
    /// Operations that cost messages.
    interactive: usize,
}

/// Replaces what depends on a value of at most `most` bits by look-ups, the largest parts first, where `wanted` says so.
pub(super) fn run(ir: &mut Ir, most: u32, wanted: impl Fn(Home) -> bool) {
    loop {
        let rings = rings::run(ir);
        let Some(best) = candidates(ir, &rings, most, &wanted).into_iter().max_by_key(|c| c.interactive) else {
            return;
        };
        apply(ir, best);
        ir.sweep();
        super::ranges::run(ir);
    }
}

fn candidates(ir: &Ir, rings: &Rings, most: u32, wanted: impl Fn(Home) -> bool) -> Vec<Candidate> {
    let readers = ir.readers();
    let order = ir.order();
    let place: HashMap<Val, usize> = order.iter().enumerate().map(|(i, &v)| (v, i)).collect();
    let wanted = order.iter().filter(|v| wanted(ir.value(**v).home));
    wanted.filter_map(|&v| candidate(ir, rings, most, &readers, &place, v)).collect()
}

fn candidate(
    ir: &Ir,
    rings: &Rings,
    most: u32,
    readers: &[Vec<Option<Val>>],
    place: &HashMap<Val, usize>,
    index: Val,
) -> Option<Candidate> {
    let home = ir.value(index).home;
    if recipe(&ir.value(index).def).is_some() || matches!(ir.value(index).def, Def::Public(_)) {
        return None;
    }
    let constant = |x: Val| matches!(ir.value(x).def, Def::Server(_) | Def::Public(_));
    let mut inside: HashSet<Val> = HashSet::new();
    let mut bits = 0;
    // Values behind the index, in order.
    let mut queue: Vec<Val> = readers[index.index()].iter().flatten().copied().collect();
    let mut found = Vec::new();
    while !queue.is_empty() {
        queue.sort_by_key(|v| std::cmp::Reverse(place[v]));
        let v = queue.pop().expect("not empty");
        queue.retain(|x| *x != v);
        let value = ir.value(v);
        let known = |x: &Val| *x == index || inside.contains(x) || constant(*x);
        if value.home != home || !scalar::is_elementwise(&value.def) || !value.ins.iter().all(known) {
            continue;
        }
        let asked = (0..value.ins.len()).filter(|&i| value.ins[i] == index);
        let asked = asked.map(|i| rings::asked(ir, v, i, rings[v.index()])).max().unwrap_or(0);
        if asked > most {
            continue;
        }
        bits = bits.max(asked);
        inside.insert(v);
        found.push(v);
        queue.extend(readers[v.index()].iter().flatten());
    }
    // Only what costs messages, or leads to it, is worth a column.
    let mut costly: HashSet<Val> = HashSet::new();
    for &v in &found {
        let value = ir.value(v);
        if scalar::is_interactive(&value.def) || value.ins.iter().any(|x| costly.contains(x)) {
            costly.insert(v);
        }
    }
    let outside = |v: &Val| readers[v.index()].iter().any(|r| r.is_none_or(|r| !inside.contains(&r)));
    let columns: Vec<Val> = found.iter().copied().filter(|v| costly.contains(v) && outside(v)).collect();
    let width = |c: &Val| rings[c.index()].min(rings::slack(ir.value(*c).lo, ir.value(*c).hi));
    let widths: u32 = columns.iter().map(width).sum();
    let interactive = found.iter().filter(|v| scalar::is_interactive(&ir.value(**v).def)).count();
    if columns.is_empty() || bits == 0 || widths > MAX_ENTRY {
        return None;
    }
    let mut steps = Vec::new();
    for &v in &found {
        let vectors = ir.value(v).ins.iter().copied().filter(|x| constant(*x));
        for x in vectors {
            if !steps.contains(&x) {
                steps.push(x);
            }
        }
        steps.push(v);
    }
    Some(Candidate { index, bits, steps, columns, interactive })
}

fn apply(ir: &mut Ir, c: Candidate) {
    let index = ir.value(c.index);
    let exact = index.hi - index.lo < 1 << c.bits;
    let lo = exact.then_some(index.lo);
    let number: HashMap<Val, usize> = c.steps.iter().enumerate().map(|(k, &v)| (v, k)).collect();
    let source = |x: &Val| if *x == c.index { Source::Index } else { Source::Step(number[x]) };
    let mut steps: Vec<Step> = Vec::new();
    for &v in &c.steps {
        let value = ir.value(v);
        let sources: Vec<Source> = value.ins.iter().map(source).collect();
        let from_whole = sources.iter().all(|source| match source {
            Source::Index => exact,
            Source::Step(s) => steps[*s].whole,
        });
        // What is asked of the index decides a wrapped number, and what a function makes of one.
        let decided = match &value.def {
            Def::Shift(shift) => shift.wrap.is_some(),
            Def::Unary { function, .. } => !matches!(function, Unary::Relu { .. } | Unary::DivideBy { .. }),
            _ => false,
        };
        let def = match value.def {
            // Of a number that is not negative low bits are asked for, and the entry that they stand for may be.
            Def::Shift(shift) if ir.value(value.ins[0]).lo >= 0 => Def::Shift(shift.not_negative()),
            ref def => def.clone(),
        };
        let (name, whole) = (value.name.clone(), from_whole || decided);
        steps.push(Step { def, sources, name, whole, from_whole });
    }
    let period = |step: &Step| match &step.def {
        Def::Public(values) => values.len(),
        def => recipe(def).map_or(1, |r| r.len()),
    };
    let units = steps.iter().map(period).fold(1, lcm);
    let site = Arc::new(Site {
        bits: c.bits,
        units,
        lo,
        steps,
        columns: c.columns.iter().map(|v| number[v]).collect(),
        values: c.columns.clone(),
        ranges: c.columns.iter().map(|v| (ir.value(*v).lo, ir.value(*v).hi)).collect(),
    });
    for (column, &v) in c.columns.iter().enumerate() {
        let value = &mut ir.values[v.index()];
        value.def = Def::Column { site: site.clone(), column };
        value.ins = vec![c.index];
    }
}

/// The least common multiple: the period of what has both periods.
pub(super) fn lcm(a: usize, b: usize) -> usize {
    let gcd = |mut a: usize, mut b: usize| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    a / gcd(a, b) * b
}
