//! Branches and loops: graphs inside of nodes.

use super::{Budget, Call, Interpreter, MAX_RUN_ELEMENTS, MAX_RUN_NODES, Scope, axis};
use crate::import::ImportError;
use crate::import::onnx::{Attribute, Graph};
use crate::import::tensor::Tensor;
use std::collections::HashMap;
use std::sync::Arc;

pub(super) fn is_control(op: &str) -> bool {
    ["If", "Loop", "Scan"].contains(&op)
}

pub(super) fn run(interpreter: &Interpreter, c: &Call, scope: &Scope) -> Result<Vec<Tensor>, ImportError> {
    match c.node.op.as_str() {
        "If" => branch(interpreter, c, scope),
        "Loop" => repeat(interpreter, c, scope),
        _ => scan(interpreter, c, scope),
    }
}

fn fail(c: &Call, what: impl Into<String>) -> ImportError {
    ImportError::Node { node: c.node.name.clone(), op: c.node.op.clone(), what: what.into() }
}

fn body<'a>(c: &'a Call, name: &str) -> Result<&'a Graph, ImportError> {
    match c.node.attributes.get(name) {
        Some(Attribute::Graph(g)) => Ok(g),
        _ => Err(fail(c, format!("it has no graph '{name}'"))),
    }
}

/// Computes a body's results from its inputs.
fn turn(
    interpreter: &Interpreter,
    c: &Call,
    body: &Graph,
    scope: &Scope,
    inputs: Vec<Arc<Tensor>>,
) -> Result<Vec<Arc<Tensor>>, ImportError> {
    if inputs.len() != body.inputs.len() {
        return Err(fail(c, format!("its body takes {} values and gets {}", body.inputs.len(), inputs.len())));
    }
    Budget::spend(&interpreter.budget.nodes, 1, MAX_RUN_NODES, "nodes").map_err(|e| fail(c, e))?;
    let values: HashMap<_, _> = body.inputs.iter().map(|i| i.name.clone()).zip(inputs).collect();
    let wanted: Vec<&str> = body.outputs.iter().map(String::as_str).collect();
    interpreter.graph(body, Scope { values, outer: Some(scope) }, &wanted)
}

fn own(values: impl IntoIterator<Item = Arc<Tensor>>) -> Vec<Tensor> {
    values.into_iter().map(|v| Arc::try_unwrap(v).unwrap_or_else(|v| (*v).clone())).collect()
}

fn branch(interpreter: &Interpreter, c: &Call, scope: &Scope) -> Result<Vec<Tensor>, ImportError> {
    let condition = c.input(0).and_then(Tensor::as_bool).map_err(|e| fail(c, e))?;
    let chosen = body(c, if condition { "then_branch" } else { "else_branch" })?;
    Ok(own(turn(interpreter, c, chosen, scope, Vec::new())?))
}

/// Results that a loop collects: one tensor for each turn, stacked along a new leading axis.
struct Collected(Vec<Vec<Arc<Tensor>>>);

impl Collected {
    fn push(&mut self, interpreter: &Interpreter, c: &Call, turn: Vec<Arc<Tensor>>) -> Result<(), ImportError> {
        let elements = turn.iter().map(|t| t.len() as u64).sum();
        Budget::spend(&interpreter.budget.elements, elements, MAX_RUN_ELEMENTS, "elements").map_err(|e| fail(c, e))?;
        self.0.iter_mut().zip(turn).for_each(|(all, t)| all.push(t));
        Ok(())
    }

    fn stack(self, c: &Call) -> Result<Vec<Tensor>, ImportError> {
        let stack = |all: Vec<Arc<Tensor>>| Tensor::stack(&all.iter().map(|t| &**t).collect::<Vec<_>>());
        self.0.into_iter().map(|all| stack(all).map_err(|e| fail(c, e))).collect()
    }
}

fn repeat(interpreter: &Interpreter, c: &Call, scope: &Scope) -> Result<Vec<Tensor>, ImportError> {
    let body = body(c, "body")?;
    let limit = c.optional(0).map(Tensor::as_int).transpose().map_err(|e| fail(c, e))?;
    let mut go_on = c.optional(1).map(Tensor::as_bool).transpose().map_err(|e| fail(c, e))?.unwrap_or(true);
    let mut states: Vec<Arc<Tensor>> = c.inputs.iter().skip(2).flatten().cloned().collect();
    let n = states.len();
    let collected = body.outputs.len().checked_sub(1 + n);
    let mut collected = Collected(vec![Vec::new(); collected.ok_or_else(|| fail(c, "its body has too few results"))?]);
    let mut i = 0;
    while go_on && limit.is_none_or(|limit| i < limit) {
        let mut inputs = vec![Arc::new(Tensor::scalar(i)), Arc::new(Tensor::truth(go_on))];
        inputs.append(&mut states);
        let mut results = turn(interpreter, c, body, scope, inputs)?;
        go_on = results[0].as_bool().map_err(|e| fail(c, e))?;
        collected.push(interpreter, c, results.split_off(1 + n))?;
        states = results.split_off(1);
        i += 1;
    }
    let mut out = own(states);
    out.extend(collected.stack(c)?);
    Ok(out)
}

fn scan(interpreter: &Interpreter, c: &Call, scope: &Scope) -> Result<Vec<Tensor>, ImportError> {
    if interpreter.opset < 9 {
        return Err(fail(c, "this form of Scan is of before version 9, export with a newer one"));
    }
    let body = body(c, "body")?;
    let reason = |e: String| fail(c, e);
    let sequences = c.int("num_scan_inputs", 0).map_err(reason)?;
    let all: Vec<Arc<Tensor>> = c.inputs.iter().flatten().cloned().collect();
    let n = usize::try_from(sequences).ok().and_then(|s| all.len().checked_sub(s));
    let n = n.ok_or_else(|| fail(c, "it has fewer inputs than sequences"))?;
    let (mut states, sequences) = (all[..n].to_vec(), &all[n..]);
    let outputs = body.outputs.len().checked_sub(n).ok_or_else(|| fail(c, "its body has too few results"))?;
    let list = |name: &str, len: usize| -> Result<Vec<i64>, ImportError> {
        let given = c.ints(name).map_err(reason)?.map_or_else(|| vec![0; len], <[i64]>::to_vec);
        if given.len() == len { Ok(given) } else { Err(fail(c, format!("attribute '{name}' has a wrong length"))) }
    };
    let (in_axes, out_axes) = (list("scan_input_axes", sequences.len())?, list("scan_output_axes", outputs)?);
    let in_reversed = list("scan_input_directions", sequences.len())?;
    let out_reversed = list("scan_output_directions", outputs)?;

    let leading = |t: &Tensor, given: i64| {
        let axis = axis(given, t.rank())?;
        let order: Vec<usize> = std::iter::once(axis).chain((0..t.rank()).filter(|&i| i != axis)).collect();
        t.transposed(&order)
    };
    let sequences: Result<Vec<Tensor>, String> =
        sequences.iter().zip(&in_axes).map(|(t, &given)| leading(t, given)).collect();
    let sequences = sequences.map_err(reason)?;
    let steps = sequences.first().map_or(0, |t| t.shape()[0]);
    if sequences.iter().any(|t| t.shape()[0] != steps) {
        return Err(fail(c, "its sequences have different lengths"));
    }
    let mut collected = Collected(vec![Vec::new(); outputs]);
    for i in 0..steps {
        let mut inputs = std::mem::take(&mut states);
        for (t, &reversed) in sequences.iter().zip(&in_reversed) {
            inputs.push(Arc::new(t.row(if reversed != 0 { steps - 1 - i } else { i }).map_err(reason)?));
        }
        let mut results = turn(interpreter, c, body, scope, inputs)?;
        collected.push(interpreter, c, results.split_off(n))?;
        states = results;
    }
    for (all, &reversed) in collected.0.iter_mut().zip(&out_reversed) {
        if reversed != 0 {
            all.reverse();
        }
    }
    let mut out = own(states);
    for (t, &given) in collected.stack(c)?.iter().zip(&out_axes) {
        let axis = axis(given, t.rank()).map_err(reason)?;
        let mut order: Vec<usize> = (1..t.rank()).collect();
        order.insert(axis, 0);
        out.push(t.transposed(&order).map_err(reason)?);
    }
    Ok(out)
}
