//! Pass 2, hoist: what a step computes without the state moves before the loop, for all steps at once.
//!
//! Exact: the operations are the same, on the vectors of all steps one after the other instead of one by one; every operation of [`super::ir`]
//! works on rows that do not know of each other. The products of the inputs of all time steps become one product (one message, one
//! set of correlations); what depends on nothing but values from outside is computed once.

use super::ir::{Def, Home, Ir, Item, Rows, Val};
use sirnn_backends::inst::LinearOp;
use std::collections::HashMap;
use std::sync::Arc;

/// Moves out of every loop what does not depend on its states.
pub(super) fn run(ir: &mut Ir) {
    let mut at = 0;
    while at < ir.top.len() {
        if let Item::Loop(l) = ir.top[at] {
            let behind = ir.top.split_off(at);
            hoist(ir, l);
            at = ir.top.len();
            ir.top.extend(behind);
        }
        at += 1;
    }
    ir.sweep();
}

fn hoist(ir: &mut Ir, index: usize) {
    let l = ir.loops[index].clone();
    let trips = l.trips;
    // Values of all steps, by value of a step.
    let mut stacked: HashMap<Val, Val> = l.slices.iter().map(|&(outer, inner)| (inner, outer)).collect();
    // In the order of the body: both parties have to come to the same program.
    let mut moved: Vec<Val> = Vec::new();
    let mut body = Vec::new();
    for &v in &l.body {
        let value = ir.value(v).clone();
        let outside = |x: &Val| ir.value(*x).home == Home::Top;
        if value.ins.iter().all(outside) {
            // The same in every step.
            ir.values[v.index()].home = Home::Top;
            ir.top.push(Item::Value(v));
            continue;
        }
        if !value.ins.iter().all(|x| outside(x) || stacked.contains_key(x)) {
            body.push(v);
            continue;
        }
        let ins: Vec<Val> =
            value.ins.iter().map(|&x| stacked.get(&x).copied().unwrap_or_else(|| repeated(ir, x, trips))).collect();
        let sizes: Vec<usize> = value.ins.iter().map(|&x| ir.value(x).len).collect();
        let all = whole(ir, &value.name, &value.def, ins, &sizes, value.len, trips);
        stacked.insert(v, all);
        moved.push(v);
    }
    ir.loops[index].body = body;
    // What the loop still reads of the moved values is cut from them.
    for &v in &moved {
        let name = ir.value(v).name.clone();
        let len = ir.value(v).len;
        let entry = ir.detached(Home::Loop(index), &name, Def::Slice, vec![], len);
        let (lo, hi) = (ir.value(v).lo, ir.value(v).hi);
        (ir.values[entry.index()].lo, ir.values[entry.index()].hi) = (lo, hi);
        ir.loops[index].slices.push((stacked[&v], entry));
        let stacks: Vec<(Val, Val)> = ir.loops[index].stacks.iter().copied().filter(|s| s.0 == v).collect();
        for (_, outer) in stacks {
            ir.loops[index].stacks.retain(|s| s.1 != outer);
            ir.substitute(outer, stacked[&v]);
        }
        ir.substitute(v, entry);
    }
}

/// A value from outside, once for every step.
fn repeated(ir: &mut Ir, x: Val, trips: usize) -> Val {
    let value = ir.value(x).clone();
    let len = value.len;
    match value.def {
        // These repeat by themselves.
        Def::Server(_) | Def::Public(_) => ir.push(Home::Top, &value.name, value.def, vec![], len * trips),
        _ => {
            let map = (0..len * trips).map(|i| (i % len) as u32).collect();
            ir.push(Home::Top, &value.name, Def::Gather(Arc::new(map)), vec![x], len * trips)
        }
    }
}

/// An operation of a step, for all steps.
fn whole(ir: &mut Ir, name: &Arc<str>, def: &Def, ins: Vec<Val>, sizes: &[usize], len: usize, trips: usize) -> Val {
    let total = len * trips;
    let def = match def {
        Def::Gather(map) => {
            let n = sizes[0] as u32;
            Def::Gather(Arc::new((0..trips as u32).flat_map(|t| map.iter().map(move |i| t * n + i)).collect()))
        }
        Def::Concat => {
            let joined = ir.push(Home::Top, name, Def::Concat, ins, total);
            let starts: Vec<usize> =
                sizes.iter().scan(0, |at, n| Some(std::mem::replace(at, *at + n * trips))).collect();
            let parts = |t: usize| {
                starts.iter().zip(sizes).flat_map(move |(start, n)| (0..*n).map(move |i| (start + t * n + i) as u32))
            };
            let map = (0..trips).flat_map(parts).collect();
            return ir.push(Home::Top, name, Def::Gather(Arc::new(map)), vec![joined], total);
        }
        Def::Rows(Rows::MatMul { pairs, inner, outer }) => {
            Def::Rows(Rows::MatMul { pairs: pairs * trips, inner: *inner, outer: *outer })
        }
        def => def.clone(),
    };
    ir.push(Home::Top, name, def, ins, total)
}

/// Rows before a gather that repeats them: an operation on rows of a gathered vector becomes a gather of its result where that leaves fewer
/// rows to compute. Exact: equal rows have equal results. (The head detector's patches overlap: 5.9 M multiplications of the first
/// product instead of 18.6 M.)
pub(super) fn before_gathers(ir: &mut Ir) {
    let mut at = 0;
    while at < ir.top.len() {
        if let Item::Value(v) = ir.top[at] {
            let behind = ir.top.split_off(at + 1);
            ir.top.pop();
            if !exchange(ir, v) {
                ir.top.push(Item::Value(v));
            }
            at = ir.top.len().saturating_sub(1);
            ir.top.extend(behind);
        }
        at += 1;
    }
    ir.sweep();
}

/// Elements of a row of the operand and of the result, for operations that work row by row.
fn row(def: &Def) -> Option<(usize, usize)> {
    match def {
        Def::Shift(_) | Def::Unary { .. } | Def::Column { .. } => Some((1, 1)),
        Def::Sum { terms, .. } if terms.len() == 1 => Some((1, 1)),
        Def::Linear { op: LinearOp::MatMul { inner, outer }, .. } => Some((*inner as usize, *outer as usize)),
        Def::Linear { op: LinearOp::Scale { period }, .. } => Some((*period as usize, *period as usize)),
        _ => None,
    }
}

/// Composes gathers, and moves `v` before the gather that it reads.
fn exchange(ir: &mut Ir, v: Val) -> bool {
    let value = ir.value(v).clone();
    let [x] = value.ins[..] else { return false };
    let source = ir.value(x).clone();
    let Def::Gather(map) = &source.def else { return false };
    let from = source.ins[0];
    if source.home != Home::Top || value.home != Home::Top {
        return false;
    }
    if let Def::Gather(outer) = &value.def {
        let both: Vec<u32> = outer.iter().map(|&i| map[i as usize]).collect();
        let identity = both.len() == ir.value(from).len && both.iter().enumerate().all(|(i, &m)| i == m as usize);
        let new = match identity {
            true => from,
            false => ir.push(Home::Top, &value.name, Def::Gather(Arc::new(both)), vec![from], value.len),
        };
        ir.substitute(v, new);
        return true;
    }
    let (len, Some((n, m))) = (ir.value(from).len, row(&value.def)) else { return false };
    let aligned = |row: &[u32]| (row[0] as usize).is_multiple_of(n) && row.windows(2).all(|w| w[1] == w[0] + 1);
    if len >= source.len || !len.is_multiple_of(n) || !map.chunks(n).all(aligned) {
        return false;
    }
    let fewer = ir.push(Home::Top, &value.name, value.def.clone(), vec![from], len / n * m);
    let rows = map.chunks(n).flat_map(|row| (0..m).map(move |j| (row[0] as usize / n * m + j) as u32)).collect();
    let new = ir.push(Home::Top, &value.name, Def::Gather(Arc::new(rows)), vec![fewer], value.len);
    ir.substitute(v, new);
    true
}
