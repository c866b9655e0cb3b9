//! Pass 2a, loops: two loops of as many steps, of which the second reads the first step by step or not at all, become one.
//!
//! Exact: step `t` of the second needs nothing of the first but its step `t`, which the same step of the joint loop has made. The layers of a
//! stacked network then overlap as a wavefront (the schedule starts a step of the lower layer before the upper one has finished the
//! step before), and the two directions of a bidirectional one share their rounds.

use super::ir::{Home, Ir, Item, Loop, Val};
use std::collections::HashSet;

/// Joins loops until no two can be joined.
pub(super) fn run(ir: &mut Ir) {
    while let Some((first, second)) = pair(ir) {
        join(ir, first, second);
    }
}

/// Places of two loops that can be joined.
fn pair(ir: &Ir) -> Option<(usize, usize)> {
    let loops: Vec<usize> = (0..ir.top.len()).filter(|&i| matches!(ir.top[i], Item::Loop(_))).collect();
    for (k, &first) in loops.iter().enumerate() {
        let behind = depending(ir, first);
        for &second in &loops[k + 1..] {
            let (Item::Loop(a), Item::Loop(b)) = (ir.top[first], ir.top[second]) else {
                unreachable!("places of loops")
            };
            let (a, b) = (&ir.loops[a], &ir.loops[b]);
            let stepwise = |outer: &Val| a.stacks.iter().any(|s| s.1 == *outer);
            let sliced = b.slices.iter().all(|s| stepwise(&s.0) || !behind.contains(&s.0));
            let begun = b.states.iter().all(|s| !behind.contains(&s.init));
            let made = made(b).all(|v| !behind.contains(&v));
            let outside = b.body.iter().all(|&v| ir.value(v).ins.iter().all(|x| !behind.contains(x)));
            if a.trips == b.trips && sliced && begun && made && outside {
                return Some((first, second));
            }
        }
    }
    None
}

/// What a step hands on or out. It may be a value from outside, where nothing in the body makes it.
fn made(l: &Loop) -> impl Iterator<Item = Val> + '_ {
    l.states.iter().map(|s| s.next).chain(l.lasts.iter().chain(&l.stacks).map(|s| s.0))
}

/// Values outside of loops that depend on what the loop at a place of the list hands out.
fn depending(ir: &Ir, place: usize) -> HashSet<Val> {
    let mut found = HashSet::new();
    let handed = |l: usize| ir.loops[l].lasts.iter().chain(&ir.loops[l].stacks).map(|s| s.1);
    if let Item::Loop(l) = ir.top[place] {
        found.extend(handed(l));
    }
    for item in &ir.top[place + 1..] {
        match *item {
            Item::Value(v) => {
                if ir.value(v).ins.iter().any(|x| found.contains(x)) {
                    found.insert(v);
                }
            }
            Item::Loop(l) => {
                let read = ir.loops[l].body.iter().flat_map(|&v| &ir.value(v).ins);
                let cut = ir.loops[l].slices.iter().map(|s| &s.0).chain(ir.loops[l].states.iter().map(|s| &s.init));
                if read.copied().chain(cut.copied()).chain(made(&ir.loops[l])).any(|x| found.contains(&x)) {
                    found.extend(handed(l));
                }
            }
        }
    }
    found
}

fn join(ir: &mut Ir, first: usize, second: usize) {
    let (Item::Loop(a), Item::Loop(b)) = (ir.top[first], ir.top[second]) else { unreachable!("places of loops") };
    let behind = depending(ir, first);
    // What the second loop needs stands before both; what depends on the first, behind.
    let between: Vec<Item> = ir.top.drain(first..=second).collect();
    let (after, before): (Vec<Item>, Vec<Item>) = between[1..between.len() - 1].iter().partition(|item| match **item {
        Item::Value(v) => behind.contains(&v),
        Item::Loop(l) => ir.loops[l].lasts.iter().chain(&ir.loops[l].stacks).any(|s| behind.contains(&s.1)),
    });
    let joined: Vec<Item> = before.into_iter().chain([Item::Loop(a)]).chain(after).collect();
    ir.top.splice(first..first, joined);

    let mut other = std::mem::take(&mut ir.loops[b]);
    let inside = other.slices.iter().map(|s| s.1).chain(other.states.iter().map(|s| s.param));
    for v in inside.chain(other.body.iter().copied()) {
        ir.values[v.index()].home = Home::Loop(a);
    }
    for (outer, inner) in std::mem::take(&mut other.slices) {
        let Some(made) = ir.loops[a].stacks.iter().find(|s| s.1 == outer).map(|s| s.0) else {
            ir.loops[a].slices.push((outer, inner));
            continue;
        };
        // The entry of this step is there already.
        let swap = |v: &mut Val| {
            if *v == inner {
                *v = made;
            }
        };
        for &v in &other.body {
            ir.values[v.index()].ins.iter_mut().for_each(swap);
        }
        other.states.iter_mut().for_each(|s| swap(&mut s.next));
        other.lasts.iter_mut().chain(&mut other.stacks).for_each(|s| swap(&mut s.0));
    }
    let l = &mut ir.loops[a];
    l.name = format!("{}, {}", l.name, other.name);
    l.states.extend(other.states);
    l.body.extend(other.body);
    l.lasts.extend(other.lasts);
    l.stacks.extend(other.stacks);
}
