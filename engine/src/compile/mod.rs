//! From a graph to a program of two parties.
//!
//! | pass | file | what it does |
//! |---|---|---|
//! | | `expand` | the nodes of the graph as exact operations on vectors (`ir`) |
//! | 1 | `ranges` | the range of every value, from public facts |
//! | 2 | `loops` | loops of as many steps that read each other step by step, or not at all, become one |
//! | 2 | `hoist` | what a step computes without the state moves before the loop; rows before gathers that repeat them |
//! | 3 | `rescales` | chains of shifts and wraps become one carry tree |
//! | 3 | `signs` | products divided toward zero, whose sign is known, are rounded down |
//! | 4 | `rings` | every value in the ring of its readers |
//! | 5 | `tables` | what depends on one narrow value becomes one look-up |
//! | 7 | `lower` | every operation calls the protocol that exists for it |
//!
//! Every pass is exact for every input; the rule stands in its head. Results never depend on a choice.

mod expand;
mod hoist;
mod ir;
mod loops;
mod lower;
mod prove;
mod ranges;
mod rescales;
mod rings;
mod scalar;
mod server;
mod signs;
mod tables;
#[cfg(test)]
mod tests;

pub use prove::prove;

use crate::graph::ops::Op;
use crate::graph::{Graph, Typed, ValueId, Weights};
use crate::program::{Build, Profile, Program, refuse};
use crate::protocols::lookup::MAX_OT_INDEX;
use crate::run::Inputs;
use ir::{Def, Home, Ir, Item, State};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The public facts of one batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Request {
    /// Items.
    pub items: usize,
    /// Time steps of the longest; any number where the graph has no time axis.
    pub steps: usize,
    /// Time steps of each item, if they differ.
    pub lengths: Option<Vec<usize>>,
}

/// What the parties agree on beside the graph. Results are the same bits in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Parts of the graph that depend on one narrow value become look-ups.
    pub tables: bool,
    /// Names of further values that the client gets: for tests of exactness.
    pub watch: Vec<String>,
}

/// A program for a batch.
///
/// Inputs of the client: one per input of the graph, of the same name, `[items, shape]` for the request's steps, anything behind an
/// item's own length. Outputs, all to the client: for an output `o` of the graph `o` with `[items, shape]` (values and scores) and `o.class`
/// without the last axis (scores and class); where items have different lengths, values over time hold each item's own steps, item after item.
#[derive(Debug)]
pub struct Compiled {
    /// The program.
    pub program: Program,
    server: Vec<server::Brought>,
}

impl Compiled {
    /// The server's inputs of the program.
    pub fn server_inputs(&self, weights: &Weights) -> Inputs {
        self.server.iter().map(|b| (b.name.clone(), b.values(weights))).collect()
    }
}

/// The program of a graph for a batch.
///
/// # Errors
/// If the graph makes no sense, a number needs more than 64 bits, or the batch is too large; names the node.
pub fn compile(graph: &Graph, request: &Request, profile: Profile, options: &Options) -> Build<Compiled> {
    let typed = graph.infer(request.steps).or_else(|e| refuse("model", e.to_string()))?;
    if let Some(lengths) = &request.lengths
        && (lengths.len() != request.items || lengths.iter().any(|l| !(1..=request.steps).contains(l)))
    {
        let what = format!(
            "{} lengths of 1 to {} steps are expected for {} items",
            request.items, request.steps, request.items
        );
        return refuse("model", what);
    }
    if let Some(lengths) = &request.lengths {
        check_lengths(graph, &typed, lengths)?;
    }
    let mut ir = expand::expand(&typed, request, &options.watch)?;
    ir.sweep();
    hoist::before_gathers(&mut ir);
    loops::run(&mut ir);
    hoist::run(&mut ir);
    hoist::before_gathers(&mut ir);
    ranges::run(&mut ir);
    rescales::shifts(&mut ir);
    signs::run(&mut ir);
    if options.tables {
        tables::run(&mut ir, MAX_OT_INDEX, |_| true);
    }
    rescales::sums(&mut ir);
    close_lasts(&mut ir);
    let rings = rings::run(&ir);
    let lowered = lower::lower(graph, &ir, &rings, profile)?;
    Ok(Compiled { program: lowered.program, server: lowered.server })
}

/// A node that lays the time steps of an operand along another axis of its result: what stands there depends on how many there are.
fn broadcasts_time(graph: &Typed<'_>) -> Option<String> {
    let found = graph.nodes.iter().find(|node| {
        let rank = node.outs.first().map_or(0, |v| graph.ty(*v).shape.len());
        let beside = |x: &ValueId| graph.ty(*x).timed && graph.ty(*x).shape.len() < rank;
        matches!(node.node.op, Op::Add(_) | Op::Mul(_) | Op::Div(_)) && node.ins.iter().any(beside)
    });
    found.map(|node| node.node.name.clone())
}

/// Refuses items whose graph, at their own length, is not that of the longest with a shorter time axis: a shape that happens to fit the
/// number of steps would say something else of them.
fn check_lengths(graph: &Graph, longest: &Typed<'_>, lengths: &[usize]) -> Build<()> {
    let different: BTreeSet<usize> = lengths.iter().copied().filter(|&l| l != longest.steps).collect();
    if let Some(name) = broadcasts_time(longest).filter(|_| !different.is_empty()) {
        return refuse(
            "model",
            format!("node '{name}' broadcasts time steps along another axis: items of one length are expected"),
        );
    }
    for length in different {
        let own = graph.infer(length).or_else(|e| refuse("model", format!("an item of {length} steps: {e}")))?;
        for (value, own) in longest.values.iter().zip(&own.values) {
            let mut expected = value.ty.clone();
            if expected.timed {
                expected.shape[0] = length;
            }
            if own.ty != expected {
                let what =
                    format!("'{}' of {length} steps is no part of it: items of one length are expected", value.name);
                return refuse("model", what);
            }
        }
    }
    Ok(())
}

/// What only the last step hands out becomes a state that nobody reads: programs hand out states.
fn close_lasts(ir: &mut Ir) {
    for item in ir.top.clone() {
        let Item::Loop(l) = item else { continue };
        for (inner, _) in ir.loops[l].lasts.clone() {
            if ir.loops[l].states.iter().any(|s| s.next == inner) {
                continue;
            }
            let value = ir.value(inner).clone();
            let zero = Def::Public(Arc::new(vec![0]));
            let init = ir.detached(Home::Top, &value.name, zero, vec![], value.len);
            let at = ir.top.iter().position(|i| *i == item).expect("the loop");
            ir.top.insert(at, Item::Value(init));
            let (lo, hi) = (value.lo.min(0), value.hi.max(0));
            let param = ir.detached(Home::Loop(l), &value.name, Def::Param { lo, hi }, vec![], value.len);
            ir.loops[l].states.push(State { init, param, next: inner });
        }
    }
}
