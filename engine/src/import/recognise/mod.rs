//! From a file's operators to a [`Network`]: what is constant is computed, what exporters write in several ways comes
//! out in one, and everything that cannot be taken over is said at once.
//!
//! The file is walked through once, for one item and known shapes. Every value is then either constant (shapes, their
//! parts, initial states made from them, conditions of branches), or depends on the client's data. Constants are computed by
//! the operators of [`super::float`]; the rest becomes nodes:
//!
//! | module | what |
//! |---|---|
//! | `elementwise` | functions of one element, sums, products |
//! | `arrange` | what moves elements |
//! | `product` | matrix products, convolutions, pools, normalisations, reductions |
//! | `recurrent` | LSTM, GRU, RNN become loops over a body |
//! | `control` | branches with a known condition, Loop and Scan |

mod arrange;
mod control;
mod elementwise;
mod product;
mod recurrent;

use super::check::{self, Refusal};
use super::float::{Budget, Call};
use super::network::{Builder, Network, ValueId};
use super::onnx::{Graph, Model, Node};
use super::tensor::{Tensor, count};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A tensor of the file that the client brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The value's name: an input, or any value to start from.
    pub name: String,
    /// Its shape in the file, for one item: the batch axis has length 1.
    pub shape: Vec<usize>,
    /// The batch axis, which items do not have.
    pub batch: Option<usize>,
}

/// What to take over of a file.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// What the client brings.
    pub ports: Vec<Port>,
    /// Inputs with known values.
    pub set: BTreeMap<String, Tensor>,
    /// Results; all of the file's if there are none.
    pub outputs: Vec<String>,
}

/// What is known of a value of the file.
#[derive(Clone, Debug)]
enum Known {
    /// It is the same for all clients.
    Constant(Arc<Tensor>),
    /// In a loop: it is known for every step.
    PerStep(Vec<Arc<Tensor>>),
    /// It depends on the client's data.
    Value(ValueId),
    /// It was refused, or depends on what was.
    Refused,
}

/// Takes a file over.
///
/// # Errors
/// Everything that cannot be taken over.
pub fn recognise(model: &Model, request: &Request) -> Result<Network, Vec<Refusal>> {
    let budget = Budget::default();
    let mut recogniser = Recogniser {
        opset: model.opset,
        budget: &budget,
        builder: Builder::new(),
        refusals: Vec::new(),
        scopes: vec![HashMap::new()],
        current: None,
    };
    recogniser.network(&model.graph, request).map_err(|refusal| vec![refusal]).and_then(|(inputs, outputs)| {
        let Recogniser { builder, refusals, .. } = recogniser;
        if refusals.is_empty() { Ok(builder.finish(inputs, outputs)) } else { Err(refusals) }
    })
}

struct Recogniser<'a> {
    opset: i64,
    budget: &'a Budget,
    builder: Builder,
    refusals: Vec<Refusal>,
    /// Values by name, of the graph and of the graphs inside of nodes that are being walked through.
    scopes: Vec<HashMap<String, Known>>,
    /// The loop whose body is being walked through.
    current: Option<Loop>,
}

/// A loop under construction.
struct Loop {
    trips: usize,
    /// Number of scopes outside.
    depth: usize,
    /// Values from outside that are cut along their first axis, and their entries in the body.
    slices: Vec<(ValueId, ValueId)>,
}

type Ends = (Vec<ValueId>, Vec<(String, ValueId)>);

impl Recogniser<'_> {
    fn network(&mut self, graph: &Graph, request: &Request) -> Result<Ends, Refusal> {
        let refuse = |place: &str, what: String| Refusal { place: place.into(), op: String::new(), what };
        for (name, value) in &request.set {
            self.define(name, Known::Constant(Arc::new(value.clone())));
        }
        let mut inputs = Vec::new();
        for port in &request.ports {
            let mut item = port.shape.clone();
            if let Some(axis) = port.batch {
                item.remove(axis);
            }
            let input = self.builder.value(&port.name, item);
            let whole =
                self.builder.reshape(&port.name, input, port.shape.clone()).map_err(|e| refuse(&port.name, e))?;
            inputs.push(input);
            self.define(&port.name, Known::Value(whole));
        }
        let names = if request.outputs.is_empty() { &graph.outputs } else { &request.outputs };
        self.graph(graph, &names.iter().map(String::as_str).collect::<Vec<_>>());
        let mut outputs = Vec::new();
        for name in names {
            match self.find(name) {
                Some(Known::Value(id)) => outputs.push((name.clone(), id)),
                Some(Known::Constant(_)) => {
                    return Err(refuse(
                        name,
                        "this output does not depend on the input; leave it out with --outputs".into(),
                    ));
                }
                Some(Known::Refused) if !self.refusals.is_empty() => {}
                _ => return Err(refuse(name, "there is no such value".into())),
            }
        }
        Ok((inputs, outputs))
    }

    fn define(&mut self, name: &str, known: Known) {
        if !name.is_empty() {
            self.scopes.last_mut().expect("the graph's own").insert(name.into(), known);
        }
    }

    fn find(&self, name: &str) -> Option<Known> {
        self.scopes.iter().rev().find_map(|s| s.get(name)).cloned()
    }

    /// Walks through the nodes that the wanted values depend on.
    fn graph(&mut self, graph: &Graph, wanted: &[&str]) {
        let known = |cx: &Self, name: &str| cx.scopes.last().is_some_and(|s| s.contains_key(name));
        let mut needed: BTreeSet<&str> = wanted.iter().copied().filter(|n| !known(self, n)).collect();
        let mut used = vec![false; graph.nodes.len()];
        for (node, used) in graph.nodes.iter().zip(&mut used).rev() {
            *used = node.outputs.iter().any(|n| needed.contains(n.as_str()));
            if *used {
                needed.extend(node.reads().into_iter().filter(|n| !known(self, n)));
            }
        }
        for (name, value) in &graph.constants {
            if needed.contains(name.as_str()) {
                self.define(name, Known::Constant(value.clone()));
            }
        }
        for (node, _) in graph.nodes.iter().zip(used).filter(|(_, used)| *used) {
            let results = self.node(node).and_then(|results| self.bounded(results)).unwrap_or_else(|what| {
                if !what.is_empty() {
                    self.refusals.push(Refusal { place: node.name.clone(), op: node.op.clone(), what });
                }
                vec![Known::Refused; node.outputs.len()]
            });
            for (name, known_value) in node.outputs.iter().zip(results) {
                if !known(self, name) {
                    self.define(name, known_value);
                }
            }
        }
    }

    /// Refuses values that are too large for any network that could be meant.
    fn bounded(&self, results: Vec<Known>) -> Result<Vec<Known>, String> {
        for known in &results {
            if let Known::Value(id) = known {
                count(self.builder.shape(*id))?;
            }
        }
        Ok(results)
    }

    /// One node's results. The error is the reason alone; it is empty if the reason was said before.
    fn node(&mut self, node: &Node) -> Result<Vec<Known>, String> {
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for name in &node.inputs {
            let missing = || format!("its input '{name}' is not there: name it with --set, or bring it");
            inputs.push(if name.is_empty() { None } else { Some(self.find(name).ok_or_else(missing)?) });
        }
        let refused = |cx: &Self, name: &str| matches!(cx.find(name), Some(Known::Refused));
        if node.reads().into_iter().any(|name| refused(self, name)) {
            return Err(String::new());
        }
        if let Some(what) = check::node_refusals(node).into_iter().next() {
            return Err(what);
        }
        if let Some(results) = self.control(node, &inputs) {
            return results;
        }
        let value = |k: &Option<Known>| if let Some(Known::Value(id)) = k { Some(*id) } else { None };
        if (node.op == "Shape" || node.op == "Size")
            && let Some(id) = inputs.first().and_then(value)
        {
            // The elements do not matter, the shape does.
            let shape = self.builder.shape(id).to_vec();
            let zeros = Tensor::floats(shape.clone(), vec![0.0; shape.iter().product()])?;
            inputs[0] = Some(Known::Constant(Arc::new(zeros)));
        }
        if !inputs.iter().any(|k| value(k).is_some()) {
            return self.fold(node, &inputs);
        }
        self.emit(node, &inputs)
    }

    /// Computes an operator of constants: once, or for every step of the loop.
    fn fold(&self, node: &Node, inputs: &[Option<Known>]) -> Result<Vec<Known>, String> {
        let steps = inputs.iter().find_map(|k| if let Some(Known::PerStep(v)) = k { Some(v.len()) } else { None });
        let at = |step: usize| {
            let input = |k: &Option<Known>| match k {
                Some(Known::Constant(t)) => Some(t.clone()),
                Some(Known::PerStep(v)) => Some(v[step].clone()),
                _ => None,
            };
            let inputs = inputs.iter().map(input).collect();
            Call { node, inputs, opset: self.opset, budget: self.budget }.compute()
        };
        let Some(steps) = steps else {
            return Ok(at(0)?.into_iter().map(|t| Known::Constant(Arc::new(t))).collect());
        };
        let mut all: Vec<Vec<Arc<Tensor>>> = vec![Vec::new(); node.outputs.len()];
        for step in 0..steps {
            all.iter_mut().zip(at(step)?).for_each(|(all, t)| all.push(Arc::new(t)));
        }
        Ok(all.into_iter().map(per_step).collect())
    }

    /// The nodes that an operator on the client's data becomes.
    fn emit(&mut self, node: &Node, inputs: &[Option<Known>]) -> Result<Vec<Known>, String> {
        let constant = |k: &Option<Known>| if let Some(Known::Constant(t)) = k { Some(t.clone()) } else { None };
        let call = Call { node, inputs: inputs.iter().map(constant).collect(), opset: self.opset, budget: self.budget };
        if inputs.iter().flatten().any(|k| matches!(k, Known::PerStep(_))) {
            return self.slice_of_step(&call, inputs);
        }
        let values: Vec<Option<ValueId>> =
            inputs.iter().map(|k| if let Some(Known::Value(id)) = k { Some(*id) } else { None }).collect();
        let site = Site { call, values };
        let results = self
            .elementwise(&site)
            .or_else(|| self.arrange(&site))
            .or_else(|| self.product(&site))
            .or_else(|| self.recurrent(&site));
        let results = results.unwrap_or_else(|| Err("this operator cannot be computed on the client's data".into()))?;
        Ok(results.into_iter().map(Known::Value).collect())
    }
}

/// The same known for all steps is a constant.
fn per_step(all: Vec<Arc<Tensor>>) -> Known {
    match all.first() {
        Some(first) if all.iter().all(|t| t == first) => Known::Constant(first.clone()),
        _ => Known::PerStep(all),
    }
}

/// An operator with its operands: constants in the call, the others beside it.
struct Site<'a> {
    call: Call<'a>,
    values: Vec<Option<ValueId>>,
}

/// Results of an operator, `None` if it belongs to another family.
type Emitted = Option<Result<Vec<ValueId>, String>>;

impl Site<'_> {
    fn name(&self) -> &str {
        &self.call.node.name
    }

    fn op(&self) -> &str {
        &self.call.node.op
    }

    /// An operand that depends on the client's data.
    fn value(&self, i: usize) -> Result<ValueId, String> {
        self.maybe_value(i).ok_or_else(|| format!("its input {i} has to depend on the client's data"))
    }

    fn maybe_value(&self, i: usize) -> Option<ValueId> {
        self.values.get(i).copied().flatten()
    }

    /// An operand that has to be constant.
    fn constant(&self, i: usize, what: &str) -> Result<&Tensor, String> {
        self.maybe_constant(i, what)?.ok_or_else(|| format!("{what} is missing"))
    }

    /// An operand that has to be constant, if it is there.
    fn maybe_constant(&self, i: usize, what: &str) -> Result<Option<&Tensor>, String> {
        if self.maybe_value(i).is_some() {
            return Err(format!("{what} depends on the client's data; it has to be a constant of the file"));
        }
        Ok(self.call.optional(i))
    }
}
