//! The cleartext evaluator: what a graph's outputs *are*, for one item.
//!
//! An item of its own length is evaluated with that many time steps, as if no others existed. What two parties compute
//! for a batch of items of different lengths equals it bit for bit.

use super::infer::{Typed, TypedBody, TypedNode, ValueId};
use super::ops::Place;
use super::ops::scan::{Scan, Steps};
use super::{MAX_BITS, Number, Op, Tensor};
use std::collections::{BTreeMap, HashMap};

/// The server's tensors by name, checked against the graph.
pub type Weights = BTreeMap<String, Tensor>;

/// Called with every value as soon as it is known: its name and its elements.
pub type Watch<'a> = dyn FnMut(&str, &Tensor) + 'a;

/// Called with every value of every step as soon as it is known: its elements, and what they were before they were wrapped to
/// the value's width, as far as that fits [`MAX_BITS`].
pub type Observe<'a> = dyn FnMut(ValueId, &Tensor, &Tensor) + 'a;

/// Evaluates a graph on one item: `inputs` in the order of the graph's, shaped as declared. Returns the outputs' values in
/// order, before classes are taken.
///
/// # Panics
/// If inputs or weights are not those that the graph declares; whoever reads them from a file checks that.
pub fn evaluate(graph: &Typed<'_>, weights: &Weights, inputs: &[Tensor]) -> Vec<Tensor> {
    evaluate_watched(graph, weights, inputs, &mut |_, _| {})
}

/// [`evaluate`], showing every value outside of loops, and those of the last step of loops.
///
/// # Panics
/// As [`evaluate`].
pub fn evaluate_watched(graph: &Typed<'_>, weights: &Weights, inputs: &[Tensor], watch: &mut Watch<'_>) -> Vec<Tensor> {
    run(graph, weights, inputs, watch, None)
}

/// [`evaluate`], showing the inputs, the result of every node in every step of loops, and what was wrapped.
///
/// # Panics
/// As [`evaluate`].
pub fn evaluate_observed(
    graph: &Typed<'_>,
    weights: &Weights,
    inputs: &[Tensor],
    observe: &mut Observe<'_>,
) -> Vec<Tensor> {
    run(graph, weights, inputs, &mut |_, _| {}, Some(observe))
}

fn run(
    graph: &Typed<'_>,
    weights: &Weights,
    inputs: &[Tensor],
    watch: &mut Watch<'_>,
    observe: Option<&mut Observe<'_>>,
) -> Vec<Tensor> {
    assert_eq!(inputs.len(), graph.graph.inputs.len(), "inputs of the graph");
    let mut run = Run { graph, weights, values: HashMap::new(), watch, observe };
    for (i, input) in inputs.iter().enumerate() {
        let id = ValueId(i as u32);
        assert_eq!(input.shape, graph.ty(id).shape, "shape of input {i}");
        if let Some(observe) = &mut run.observe {
            observe(id, input, input);
        }
        run.values.insert(id, input.clone());
    }
    for node in &graph.nodes {
        match (&node.node.op, &node.body) {
            (Op::Scan(scan), Some(body)) => run.scan(scan, node, body),
            _ => run.node(node),
        }
        for &out in &node.outs {
            (run.watch)(graph.name(out), &run.values[&out]);
        }
    }
    graph.outputs.iter().map(|v| run.values[v].clone()).collect()
}

struct Run<'r, 'g, 'w, 'o> {
    graph: &'r Typed<'g>,
    weights: &'r Weights,
    values: HashMap<ValueId, Tensor>,
    watch: &'r mut Watch<'w>,
    observe: Option<&'r mut Observe<'o>>,
}

impl Run<'_, '_, '_, '_> {
    fn node(&mut self, node: &TypedNode<'_>) {
        let ins: Vec<&Tensor> = node.ins.iter().map(|v| &self.values[v]).collect();
        let op = &node.node.op;
        // A table saturates; every other declared width matters by the last wrap alone.
        let wide = match (node.node.out, op) {
            (Some(out), op) if self.observe.is_some() && !matches!(op, Op::Table(_)) => {
                Some((out, Number { bits: MAX_BITS, unsigned: false, ..out }))
            }
            _ => None,
        };
        let place = node.place();
        let place = wide.map_or(place, |(_, wide)| Place { out: Some(wide), ..place });
        let results = op.clear(place, &ins, self.weights);
        for (&out, mut result) in node.outs.iter().zip(results) {
            debug_assert_eq!(result.shape, self.graph.ty(out).shape, "{}", self.graph.name(out));
            if let Some(observe) = &mut self.observe {
                match wide {
                    None => observe(out, &result, &result),
                    Some((number, _)) => {
                        let wrapped = result.data.iter().map(|&v| number.wrap(v.into()) as i64).collect();
                        let exact = std::mem::replace(&mut result.data, wrapped);
                        observe(out, &result, &Tensor::new(result.shape.clone(), exact));
                    }
                }
            }
            self.values.insert(out, result);
        }
    }

    fn scan(&mut self, scan: &Scan, node: &TypedNode<'_>, body: &TypedBody<'_>) {
        for s in &body.states {
            let init = match s.from {
                Some(from) => self.values[&from].clone(),
                None => Tensor::filled(s.state.shape.clone(), s.state.init),
            };
            self.values.insert(s.param, init);
        }
        let mut steps: Vec<Vec<Tensor>> = vec![Vec::new(); body.yields.len()];
        for step in 0..body.trips {
            let at = if scan.reverse { body.trips - 1 - step } else { step };
            for (&slice, outer) in body.slices.iter().zip(&node.ins) {
                let (ty, all) = (self.graph.ty(slice), &self.values[outer]);
                let n = ty.len();
                let entry = Tensor::new(ty.shape.clone(), all.data[at * n..(at + 1) * n].to_vec());
                self.values.insert(slice, entry);
            }
            for node in &body.nodes {
                self.node(node);
            }
            for (all, &(value, which)) in steps.iter_mut().zip(&body.yields) {
                if which == Steps::Last {
                    all.clear();
                }
                all.push(self.values[&value].clone());
            }
            let next: Vec<Tensor> = body.states.iter().map(|s| self.values[&s.next].clone()).collect();
            for (s, next) in body.states.iter().zip(next) {
                self.values.insert(s.param, next);
            }
        }
        for ((&out, mut all), &(value, which)) in node.outs.iter().zip(steps).zip(&body.yields) {
            if scan.reverse {
                all.reverse();
            }
            let result = match which {
                Steps::Last => all.pop().expect("a loop has steps"),
                Steps::Every => {
                    let shape = self.graph.ty(out).shape.clone();
                    Tensor::new(shape, all.into_iter().flat_map(|t| t.data).collect())
                }
            };
            self.values.insert(out, result);
            (self.watch)(self.graph.name(value), &self.values[&value]);
        }
    }
}
