//! What a network computes, in floats: the meaning of ONNX's operators.
//!
//! [`run`] computes the values that are asked for and nothing else, from any values that are given: an intermediate
//! value may be given too, which cuts the network there. Sums and products are of `f32`.
//!
//! One file per family of operators:
//!
//! | module | operators |
//! |---|---|
//! | `elementwise` | functions of one element, sums, products, comparisons |
//! | `shape` | gathers, slices, reshapes, constants |
//! | `product` | matrix products and convolutions |
//! | `pool` | windows: largest and mean |
//! | `normalise` | batch, layer, instance normalisation, softmax |
//! | `reduce` | sums, means, largest elements over axes |
//! | `recurrent` | LSTM, GRU, RNN |
//! | `control` | If, Loop, Scan |

mod control;
pub(super) mod elementwise;
mod normalise;
pub(super) mod pool;
pub(super) mod product;
pub(super) mod recurrent;
mod reduce;
mod shape;

use super::ImportError;
use super::onnx::{Attribute, Graph, Model, Node};
use super::tensor::{Tensor, show};
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Most elements that all nodes of one run may give together.
const MAX_RUN_ELEMENTS: u64 = 1 << 30;

/// Most multiplications of one run.
const MAX_RUN_PRODUCTS: u64 = 1 << 38;

/// Most nodes that one run may compute, those of every turn of a loop counted.
const MAX_RUN_NODES: u64 = 1 << 26;

/// Depth to which graphs may be inside of nodes.
const MAX_DEPTH: usize = 16;

/// Computes values of a network.
///
/// `given` are values by name: inputs, or intermediate values that are to be used instead of what the network would
/// compute. Only what the `wanted` values depend on is computed.
///
/// # Errors
/// If a value is missing, a node cannot be computed, or the work is beyond any network that could be meant.
pub fn run(model: &Model, given: HashMap<String, Tensor>, wanted: &[&str]) -> Result<Vec<Tensor>, ImportError> {
    let given = given.into_iter().map(|(name, tensor)| (name, Arc::new(tensor))).collect();
    let budget = Budget::default();
    let interpreter = Interpreter { opset: model.opset, budget: &budget };
    let values = interpreter.graph(&model.graph, Scope { values: given, outer: None }, wanted)?;
    Ok(values.into_iter().map(|v| Arc::try_unwrap(v).unwrap_or_else(|v| (*v).clone())).collect())
}

/// Whether the operator is one of those that [`run`] computes.
pub fn knows(node: &Node) -> bool {
    node.domain.is_empty() && (operator(&node.op).is_some() || control::is_control(&node.op))
}

/// What a run may still spend.
#[derive(Default)]
pub(super) struct Budget {
    elements: Cell<u64>,
    products: Cell<u64>,
    nodes: Cell<u64>,
}

impl Budget {
    fn spend(counter: &Cell<u64>, n: u64, limit: u64, what: &str) -> Result<(), String> {
        counter.set(counter.get().saturating_add(n));
        if counter.get() > limit { Err(format!("the run takes more than {limit} {what}")) } else { Ok(()) }
    }
}

/// One call of an operator.
pub(super) struct Call<'a> {
    pub(super) node: &'a Node,
    pub(super) inputs: Vec<Option<Arc<Tensor>>>,
    pub(super) opset: i64,
    pub(super) budget: &'a Budget,
}

/// An operator: one tensor for every result. The error is the reason alone.
type Operator = fn(&Call) -> Result<Vec<Tensor>, String>;

fn operator(name: &str) -> Option<Operator> {
    elementwise::find(name)
        .or_else(|| shape::find(name))
        .or_else(|| product::find(name))
        .or_else(|| pool::find(name))
        .or_else(|| normalise::find(name))
        .or_else(|| reduce::find(name))
        .or_else(|| recurrent::find(name))
}

impl Call<'_> {
    /// Computes the operator, which is no branch or loop.
    pub(super) fn compute(&self) -> Result<Vec<Tensor>, String> {
        operator(&self.node.op).ok_or("this operator is not known")?(self)
    }

    /// An input that must be there.
    pub(super) fn input(&self, i: usize) -> Result<&Tensor, String> {
        self.optional(i).ok_or_else(|| format!("input {i} is missing"))
    }

    /// An input that may be left out.
    pub(super) fn optional(&self, i: usize) -> Option<&Tensor> {
        self.inputs.get(i).and_then(Option::as_deref)
    }

    /// All inputs that are there.
    fn all(&self) -> Vec<&Tensor> {
        self.inputs.iter().flatten().map(|t| &**t).collect()
    }

    /// Whether a result is asked for.
    fn wants(&self, i: usize) -> bool {
        self.node.outputs.get(i).is_some_and(|n| !n.is_empty())
    }

    pub(super) fn int(&self, name: &str, default: i64) -> Result<i64, String> {
        match self.node.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::Int(i)) => Ok(*i),
            Some(_) => Err(format!("attribute '{name}' is no whole number")),
        }
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, String> {
        Ok(self.int(name, i64::from(default))? != 0)
    }

    pub(super) fn float(&self, name: &str, default: f32) -> Result<f32, String> {
        match self.node.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::Float(f)) => Ok(*f),
            Some(_) => Err(format!("attribute '{name}' is no number")),
        }
    }

    pub(super) fn string(&self, name: &str, default: &'static str) -> Result<&str, String> {
        match self.node.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::String(s)) => Ok(s),
            Some(_) => Err(format!("attribute '{name}' is no word")),
        }
    }

    pub(super) fn ints(&self, name: &str) -> Result<Option<&[i64]>, String> {
        match self.node.attributes.get(name) {
            None => Ok(None),
            Some(Attribute::Ints(v)) => Ok(Some(v)),
            Some(_) => Err(format!("attribute '{name}' is no list of whole numbers")),
        }
    }

    /// A list of lengths or steps, all at least `least`.
    fn sizes(&self, name: &str, least: usize, default: Vec<usize>) -> Result<Vec<usize>, String> {
        let Some(given) = self.ints(name)? else { return Ok(default) };
        let sizes: Option<Vec<usize>> =
            given.iter().map(|&i| usize::try_from(i).ok().filter(|&n| n >= least && n <= 1 << 28)).collect();
        match sizes {
            Some(sizes) if sizes.len() == default.len() => Ok(sizes),
            _ => Err(format!("attribute '{name}' has to be {} numbers of at least {least}", default.len())),
        }
    }

    /// A list of integers that newer files give as an input and older ones as an attribute.
    pub(super) fn list(&self, input: usize, attribute: &str) -> Result<Option<Vec<i64>>, String> {
        match self.optional(input) {
            Some(t) => Ok(Some(t.as_ints()?.to_vec())),
            None => Ok(self.ints(attribute)?.map(<[i64]>::to_vec)),
        }
    }

    /// Counts multiplications before they are done.
    fn charge(&self, factors: &[usize]) -> Result<(), String> {
        let n = factors.iter().fold(1u64, |n, &f| n.saturating_mul(f as u64));
        Budget::spend(&self.budget.products, n, MAX_RUN_PRODUCTS, "multiplications")
    }
}

/// An axis of a tensor of a rank, where negative numbers count from the end.
pub(super) fn axis(given: i64, rank: usize) -> Result<usize, String> {
    let n = rank as i64;
    if (-n..n).contains(&given) {
        Ok(if given < 0 { given + n } else { given } as usize)
    } else {
        Err(format!("axis {given} of a tensor with {rank} axes"))
    }
}

/// Several different axes, in ascending order.
pub(super) fn axes(given: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    let mut out = given.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
    out.sort_unstable();
    let n = out.len();
    out.dedup();
    if out.len() == n { Ok(out) } else { Err("an axis is named twice".into()) }
}

/// Values by name, and those of the graph around.
pub(super) struct Scope<'a> {
    pub(super) values: HashMap<String, Arc<Tensor>>,
    pub(super) outer: Option<&'a Scope<'a>>,
}

impl Scope<'_> {
    fn find(&self, name: &str) -> Option<Arc<Tensor>> {
        self.values.get(name).cloned().or_else(|| self.outer.and_then(|s| s.find(name)))
    }

    fn depth(&self) -> usize {
        self.outer.map_or(0, |s| s.depth() + 1)
    }
}

/// Computes graphs.
#[derive(Clone, Copy)]
pub(super) struct Interpreter<'a> {
    pub(super) opset: i64,
    pub(super) budget: &'a Budget,
}

impl Interpreter<'_> {
    /// Computes the wanted values of a graph from those of a scope.
    pub(super) fn graph(
        &self,
        graph: &Graph,
        mut scope: Scope,
        wanted: &[&str],
    ) -> Result<Vec<Arc<Tensor>>, ImportError> {
        if scope.depth() > MAX_DEPTH {
            return Err(ImportError::value(wanted.first().unwrap_or(&""), "graphs are nested too deeply"));
        }
        let mut needed: HashSet<&str> = wanted.iter().copied().filter(|n| !scope.values.contains_key(*n)).collect();
        let mut used = vec![false; graph.nodes.len()];
        for (node, used) in graph.nodes.iter().zip(&mut used).rev() {
            if node.outputs.iter().any(|n| needed.contains(n.as_str())) {
                *used = true;
                for name in node.outputs.iter() {
                    needed.remove(name.as_str());
                }
                needed.extend(node.reads().into_iter().filter(|n| !scope.values.contains_key(*n)));
            }
        }
        for (name, value) in &graph.constants {
            if needed.contains(name.as_str()) {
                scope.values.insert(name.clone(), value.clone());
            }
        }
        for (node, _) in graph.nodes.iter().zip(used).filter(|(_, used)| *used) {
            let results = self.node(node, &scope)?;
            for (name, value) in node.outputs.iter().zip(results).filter(|(n, _)| !n.is_empty()) {
                // A value that was given stays as it was given.
                scope.values.entry(name.clone()).or_insert(Arc::new(value));
            }
        }
        wanted.iter().map(|&name| scope.find(name).ok_or_else(|| ImportError::value(name, "it is not there"))).collect()
    }

    fn node(&self, node: &Node, scope: &Scope) -> Result<Vec<Tensor>, ImportError> {
        let fail = |what: String| ImportError::Node { node: node.name.clone(), op: node.op.clone(), what };
        Budget::spend(&self.budget.nodes, 1, MAX_RUN_NODES, "nodes").map_err(fail)?;
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for name in &node.inputs {
            let value = if name.is_empty() {
                None
            } else {
                Some(scope.find(name).ok_or_else(|| ImportError::value(name, "it is not there"))?)
            };
            inputs.push(value);
        }
        let call = Call { node, inputs, opset: self.opset, budget: self.budget };
        let results = if !node.domain.is_empty() {
            return Err(fail(format!("operators of '{}' are not known", node.domain)));
        } else if let Some(operator) = operator(&node.op) {
            operator(&call).map_err(fail)?
        } else if control::is_control(&node.op) {
            control::run(self, &call, scope)?
        } else {
            return Err(fail("this operator is not known".into()));
        };
        let elements = results.iter().map(|t| t.len() as u64).sum();
        Budget::spend(&self.budget.elements, elements, MAX_RUN_ELEMENTS, "elements").map_err(fail)?;
        let missing = node.outputs.iter().enumerate().find(|(i, n)| !n.is_empty() && *i >= results.len());
        match missing {
            Some((i, name)) => Err(fail(format!("result {i}, '{name}', is not computed"))),
            None => Ok(results),
        }
    }
}

/// What is wrong with a tensor's shape.
fn wrong_shape(what: &str, tensor: &Tensor, expected: &str) -> String {
    format!("{what} has shape {}, {expected} is expected", show(tensor.shape()))
}
