//! What a model's client computes itself, in the clear: before the two-party computation out of what the user has, and after it
//! out of what is revealed. Section `[client]` of a description, taught in `docs/models.md`.
//!
//! Both parts are graphs of the same operations as the network's, on real numbers instead of integers: nothing is rounded,
//! rescaled or wrapped ([`Client::before`], [`Client::after`]). They hold no loops. Their tensors are **public**: they are in the file
//! `client.safetensors` (32-bit floats), whose digest the description states, and a server sends them to its clients.
//!
//! The description comes from a server and is not trusted: shapes are inferred and bounded as those of any graph, tensors are at
//! most [`MAX_CONSTANTS`] bytes, and the work for an item is bounded.

use super::{ModelError, require};
use crate::graph::ops::{self, Windows, broadcast_map};
use crate::graph::{Dim, Graph, Input, MAX_ELEMENTS, Node, Number, Op, Output, Typed, TypedNode, ValueId};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Name of the file of the client's tensors in a model directory.
pub const FILE: &str = "client.safetensors";
/// Most bytes of that file.
pub const MAX_CONSTANTS: usize = 1 << 22;
/// Most multiplications for one item.
const MAX_PRODUCTS: u64 = 1 << 36;
/// Most elements of all values for one item.
const MAX_VALUES: u64 = 2 * MAX_ELEMENTS;
/// The format that values of real numbers have in the terms of the graph. It says nothing.
pub(crate) const REAL: Number = Number { bits: 8, scale: 4, unsigned: false };

/// Real numbers of one item.
#[derive(Clone, PartialEq)]
pub struct Reals {
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// The elements, last axis fastest.
    pub data: Vec<f64>,
}

impl std::fmt::Debug for Reals {
    // Values are somebody's secrets: the shape alone is shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reals {:?}", self.shape)
    }
}

/// Public tensors of the client's parts.
#[derive(Clone, Debug, Default)]
pub struct Constants {
    /// Content of the file; empty if there is none.
    bytes: Vec<u8>,
    tensors: BTreeMap<String, Reals>,
}

/// What a description says of the file of tensors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// Its length.
    pub bytes: usize,
    /// BLAKE3 of its content, in hexadecimal digits.
    pub digest: String,
}

/// What the client does itself.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Samples per second of recordings (`.wav`) that fill an input; none if it is not for recordings.
    pub rate: Option<u32>,
    /// Whether what users have are real numbers: then whole numbers are real ones too, and those beyond an input's range count as
    /// the nearest in it. Else whole numbers are the integers of the format, and what is beyond the range is refused.
    pub reals: bool,
    /// Where an array with as many axes as the network's own file has its items: the axis, by the input's name. The first,
    /// where nothing is said; `None` if the file describes one item.
    pub item_axis: BTreeMap<String, Option<usize>>,
    /// From what the user has to the network's inputs: its outputs have their names.
    pub before: Option<Graph>,
    /// From what is revealed to the results: nodes and outputs. Its inputs are the network's outputs, and are not written.
    pub after: Option<Graph>,
    /// The file of tensors, if there are any.
    pub stamp: Option<Stamp>,
    /// Its content, if it is there.
    pub constants: Constants,
}

/// The content of the file of tensors is what the stamp says.
impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        (self.rate, self.reals, &self.item_axis, &self.stamp)
            == (other.rate, other.reals, &other.item_axis, &other.stamp)
            && (&self.before, &self.after) == (&other.before, &other.after)
    }
}

fn fail(e: impl std::fmt::Display) -> ModelError {
    ModelError::new("client", e.to_string())
}

impl Constants {
    /// Tensors as a file holds them.
    ///
    /// # Errors
    /// More bytes than allowed.
    pub fn new(tensors: BTreeMap<String, Reals>) -> Result<Self, ModelError> {
        if tensors.is_empty() {
            return Ok(Self::default());
        }
        let floats = |t: &Reals| t.data.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect::<Vec<u8>>();
        let data: Vec<(&String, &Reals, Vec<u8>)> = tensors.iter().map(|(n, t)| (n, t, floats(t))).collect();
        let views =
            data.iter().map(|(name, t, bytes)| Ok((*name, TensorView::new(Dtype::F32, t.shape.clone(), bytes)?)));
        let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>().map_err(fail)?;
        let bytes = safetensors::serialize(views, None).map_err(fail)?;
        Self::parse(bytes)
    }

    /// Reads the content of a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, ModelError> {
        let place = |e: String| ModelError::new(FILE, e);
        require(bytes.len() <= MAX_CONSTANTS, FILE, || format!("{} bytes, {MAX_CONSTANTS} are allowed", bytes.len()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| place(e.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            require(view.dtype() == Dtype::F32, FILE, || format!("tensor '{name}' is no F32"))?;
            let number = |b: &[u8]| f64::from(f32::from_le_bytes(b.try_into().expect("four bytes")));
            let data: Vec<f64> = view.data().chunks_exact(4).map(number).collect();
            require(data.iter().all(|v| v.is_finite()), FILE, || format!("tensor '{name}' is not finite"))?;
            tensors.insert(name.to_string(), Reals { shape: view.shape().to_vec(), data });
        }
        Ok(Self { bytes, tensors })
    }

    /// The content of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn stamp(&self) -> Option<Stamp> {
        let digest = || blake3::hash(&self.bytes).to_hex().to_string();
        (!self.bytes.is_empty()).then(|| Stamp { bytes: self.bytes.len(), digest: digest() })
    }
}

impl Client {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes tensors, and states their digest.
    pub fn set_constants(&mut self, constants: Constants) {
        self.stamp = constants.stamp();
        self.constants = constants;
    }

    /// Takes the content of the file that the description states.
    ///
    /// # Errors
    /// Another content, or tensors that the parts do not name in these shapes.
    pub fn attach(&mut self, bytes: Vec<u8>, network: &Graph) -> Result<(), ModelError> {
        let constants = if bytes.is_empty() { Constants::default() } else { Constants::parse(bytes)? };
        require(constants.stamp() == self.stamp, FILE, || "not the one that the description states".into())?;
        let parts = [self.before_at(network, network.steps)?, self.after_at(&network.infer(network.steps)?)?];
        for part in parts.iter().flatten() {
            for (name, spec) in &part.infer(part.steps)?.parameters {
                let found = constants.tensors.get(name).map(|t| &t.shape[..]);
                require(found == Some(&spec.shape[..]), FILE, || {
                    format!("tensor '{name}': shape {found:?}, {:?} is expected", spec.shape)
                })?;
            }
        }
        self.constants = constants;
        Ok(())
    }

    /// Reads the file of tensors in a model directory, if the description states one.
    pub(super) fn load(&mut self, directory: &Path, network: &Graph) -> Result<(), ModelError> {
        if self.stamp.is_none() {
            return Ok(());
        }
        let path = directory.join(FILE);
        let bytes = super::input::read_bounded(&path, MAX_CONSTANTS as u64)?;
        self.attach(bytes, network).map_err(|e| e.inside(&path.display().to_string()))
    }

    /// What the user brings: the inputs of the part before, or the network's.
    pub fn inputs<'a>(&'a self, network: &'a Graph) -> &'a [Input] {
        self.before.as_ref().map_or(&network.inputs, |before| &before.inputs)
    }

    /// Where users' arrays for an input have their items, as [`Client::item_axis`]; `None` if nothing is said of what users have, and
    /// they have the items first.
    pub fn item_axis_of(&self, input: &str) -> Option<Option<usize>> {
        let said = self.reals || self.before.is_some();
        said.then(|| self.item_axis.get(input).copied().unwrap_or(Some(0)))
    }

    /// Checks both parts against the network.
    ///
    /// # Errors
    /// Names what makes no sense.
    pub fn validate(&self, network: &Graph) -> Result<(), ModelError> {
        if let Some(stamp) = &self.stamp {
            let hex = stamp.digest.len() == 64 && stamp.digest.bytes().all(|b| b.is_ascii_hexdigit());
            require((1..=MAX_CONSTANTS).contains(&stamp.bytes) && hex, "client.tensors", || {
                format!("1 to {MAX_CONSTANTS} bytes with a digest of 64 hexadecimal digits are expected")
            })?;
        }
        let steps = network.steps;
        if let Some(before) = self.before_at(network, steps)? {
            let typed = before.infer(steps).map_err(|e| ModelError::from(e).inside("client.before"))?;
            check_work(&typed)?;
            let expected = network.infer(steps)?;
            for (i, input) in network.inputs.iter().enumerate() {
                let place = format!("client.before: output '{}'", input.name);
                let at = before.outputs.iter().position(|o| o.name == input.name);
                let at = at.ok_or_else(|| ModelError::new(&place, "missing; it is an input of the network"))?;
                let (found, wanted) = (typed.ty(typed.outputs[at]), expected.ty(ValueId(i as u32)));
                require(found.shape == wanted.shape, &place, || {
                    format!("shape {:?}, the network expects {:?}", found.shape, wanted.shape)
                })?;
            }
        }
        if let Some(after) = self.after_at(&network.infer(steps)?)? {
            check_work(&after.infer(after.steps).map_err(|e| ModelError::from(e).inside("client.after"))?)?;
        }
        Ok(())
    }

    /// The part before for some number of time steps.
    fn before_at(&self, network: &Graph, steps: usize) -> Result<Option<Graph>, ModelError> {
        let Some(before) = &self.before else { return Ok(None) };
        let timed = before.inputs.iter().any(|i| i.shape.contains(&Dim::Steps));
        let needed = network.inputs.iter().any(|i| i.shape.contains(&Dim::Steps));
        require(timed == needed, "client.before", || {
            "it and the network have to have a time axis, or neither of them".into()
        })?;
        Ok(Some(Graph { steps: if timed { network.steps.max(steps) } else { 0 }, ..before.clone() }))
    }

    /// The part after for the network's outputs.
    fn after_at(&self, network: &Typed<'_>) -> Result<Option<Graph>, ModelError> {
        let Some(after) = &self.after else { return Ok(None) };
        let mut steps = 0;
        let input = |(output, &value): (&Output, &ValueId)| {
            let ty = network.ty(value);
            let mut shape: Vec<Dim> = ty.shape.iter().map(|&n| Dim::Size(n)).collect();
            if ty.timed {
                shape[0] = Dim::Steps;
                steps = ty.shape[0];
            }
            Input { name: output.name.clone(), shape, number: REAL }
        };
        let inputs = network.graph.outputs.iter().zip(&network.outputs).map(input).collect();
        Ok(Some(Graph { steps, inputs, ..after.clone() }))
    }

    /// The network's inputs for an item, out of what the user has: one tensor for each of [`Client::inputs`].
    ///
    /// # Errors
    /// A tensor of another shape than declared, or results that are no finite numbers.
    pub fn before(&self, network: &Graph, steps: usize, inputs: Vec<Reals>) -> Result<Vec<Reals>, ModelError> {
        let Some(before) = self.before_at(network, steps)? else { return Ok(inputs) };
        let typed = before.infer(steps)?;
        let results = self.evaluate(&typed, inputs).map_err(|e| e.inside("client.before"))?;
        let of = |input: &Input| before.outputs.iter().position(|o| o.name == input.name).map(|i| results[i].clone());
        network
            .inputs
            .iter()
            .map(|i| of(i).ok_or_else(|| ModelError::new("client.before", "an input is missing")))
            .collect()
    }

    /// The results for an item, out of the network's outputs.
    ///
    /// # Errors
    /// As [`Client::before`].
    pub fn after(&self, network: &Typed<'_>, outputs: Vec<Reals>) -> Result<Vec<Reals>, ModelError> {
        let Some(after) = self.after_at(network)? else { return Ok(Vec::new()) };
        let typed = after.infer(after.steps)?;
        self.evaluate(&typed, outputs).map_err(|e| e.inside("client.after"))
    }

    /// Computes a part.
    fn evaluate(&self, graph: &Typed<'_>, inputs: Vec<Reals>) -> Result<Vec<Reals>, ModelError> {
        let mut values: HashMap<ValueId, Reals> = HashMap::new();
        require(inputs.len() == graph.graph.inputs.len(), "inputs", || format!("{} are not expected", inputs.len()))?;
        for (i, input) in inputs.into_iter().enumerate() {
            let id = ValueId(i as u32);
            let expected = &graph.ty(id).shape;
            require(input.shape == *expected && input.data.len() == graph.ty(id).len(), graph.name(id), || {
                format!("shape {:?}, {expected:?} is expected", input.shape)
            })?;
            values.insert(id, input);
        }
        for node in &graph.nodes {
            let place = format!("node '{}'", node.node.name);
            let ins = node.ins.iter().map(|v| &values[v]).collect::<Vec<_>>();
            let results = compute(node, &ins, &self.constants.tensors).map_err(|e| ModelError::new(&place, e))?;
            for ((&out, data), ty) in node.outs.iter().zip(results).zip(node.outs.iter().map(|&o| graph.ty(o))) {
                require(data.iter().all(|v| v.is_finite()), &place, || "its result is no finite number".into())?;
                values.insert(out, Reals { shape: ty.shape.clone(), data });
            }
        }
        Ok(graph.outputs.iter().map(|v| values[v].clone()).collect())
    }
}

/// Bounds what an item takes.
fn check_work(graph: &Typed<'_>) -> Result<(), ModelError> {
    let (mut products, mut elements) = (0u64, 0u64);
    for node in &graph.nodes {
        let place = format!("client: node '{}'", node.node.name);
        require(supported(&node.node.op), &place, || {
            format!("'{}' is no operation of the client's", node.node.op.name())
        })?;
        let out = node.outs.iter().map(|&v| graph.ty(v).len() as u64).sum::<u64>();
        let terms = match &node.node.op {
            Op::MatMul(_) => node.types[0].shape.last().map_or(1, |&n| n as u64),
            Op::MatMulShared(_) => node.types[0].shape.last().map_or(1, |&n| n as u64),
            Op::Conv(c) => {
                let channels = node.types[0].shape.last().map_or(1, |&n| n as u64) / c.groups.max(1) as u64;
                c.kernel.iter().fold(channels, |n, &k| n.saturating_mul(k as u64))
            }
            Op::MaxPool(p) => p.size.iter().fold(1u64, |n, &k| n.saturating_mul(k as u64)),
            Op::AvgPool(p) => p.size.iter().fold(1u64, |n, &k| n.saturating_mul(k as u64)),
            _ => 1,
        };
        products = products.saturating_add(out.saturating_mul(terms));
        elements = elements.saturating_add(out);
        require(products <= MAX_PRODUCTS && elements <= MAX_VALUES, &place, || "more work than is allowed".into())?;
    }
    Ok(())
}

/// The operations that are defined on real numbers here.
fn supported(op: &Op) -> bool {
    !matches!(
        op,
        Op::Scan(_)
            | Op::Sigmoid(_)
            | Op::Tanh(_)
            | Op::Exp(_)
            | Op::Reciprocal(_)
            | Op::Rsqrt(_)
            | Op::Sqrt(_)
            | Op::Clip(_)
            | Op::Rescaling(_)
            | Op::L2Normalise(_)
    )
}

/// Elements of the results of a node.
fn compute(node: &TypedNode<'_>, ins: &[&Reals], constants: &BTreeMap<String, Reals>) -> Result<Vec<Vec<f64>>, String> {
    let op = &node.node.op;
    if let Some(maps) = op.gather(node.place()) {
        let all: Vec<f64> = ins.iter().flat_map(|x| &x.data).copied().collect();
        return Ok(maps.iter().map(|map| map.iter().map(|i| i.map_or(0.0, |i| all[i as usize])).collect()).collect());
    }
    let tensor = |name: &str| constants.get(name).ok_or_else(|| format!("the tensor '{name}' is missing"));
    let x = *ins.first().ok_or("it has no operand")?;
    let each = |f: &dyn Fn(f64) -> f64| x.data.iter().map(|&v| f(v)).collect::<Vec<f64>>();
    let last = x.shape.last().copied().unwrap_or(1).max(1);
    let out = match op {
        Op::MatMul(op) => {
            let w = tensor(&op.weights.tensor)?;
            x.data.chunks(last).flat_map(|row| product(row, &w.data, op.columns)).collect()
        }
        Op::MatMulShared(_) => {
            let b = ins[1];
            let (k, n) = (last, b.shape[b.shape.len() - 1]);
            let rows = x.shape[x.shape.len() - 2];
            let pairs = x.data.chunks(rows * k).zip(b.data.chunks(k * n));
            pairs.flat_map(|(a, b)| a.chunks(k).flat_map(|row| product(row, b, n)).collect::<Vec<_>>()).collect()
        }
        Op::Conv(op) => {
            convolve(&op.windows(&x.shape)?, op.groups, op.filters, &x.data, &tensor(&op.weights.tensor)?.data)
        }
        Op::Scale(op) => with_tensor(x, tensor(&op.weights.tensor)?, |a, b| a * b),
        Op::Bias(op) => with_tensor(x, tensor(&op.bias.tensor)?, |a, b| a + b),
        Op::Mul(_) => pairs(ins, |a, b| a * b)?,
        Op::Div(_) => pairs(ins, |a, b| a / b)?,
        Op::Add(op) => {
            let shape = ops::broadcast(ins.iter().map(|x| &x.shape[..]))?;
            let mut sums = vec![op.constant as f64; shape.iter().product()];
            for (i, x) in ins.iter().enumerate() {
                let sign = if op.term(i).minus { -1.0 } else { 1.0 };
                let map = broadcast_map(&x.shape, &shape);
                sums.iter_mut().zip(map).for_each(|(sum, at)| *sum += sign * x.data[at as usize]);
            }
            sums
        }
        Op::Sum(op) => along(x, &op.axes, |v| v.iter().sum()),
        Op::Mean(op) => along(x, &op.axes, |v| v.iter().sum::<f64>() / v.len() as f64),
        Op::Max(op) => along(x, &[op.axis], |v| v.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        Op::ArgMax(op) => along(x, &[op.axis], |v| (1..v.len()).fold(0, |b, i| if v[i] > v[b] { i } else { b }) as f64),
        Op::Relu(_) => each(&|v| v.max(0.0)),
        Op::Table(op) => {
            let f = function(&op.function).ok_or_else(|| format!("the function '{}' is not known", op.function))?;
            each(&|v| f(v))
        }
        Op::Softmax(_) => x.data.chunks(last).flat_map(softmax).collect(),
        Op::MaxPool(op) => pooled(&op.windows(&x.shape)?, &x.data, &|v| v.fold(f64::NEG_INFINITY, f64::max)),
        Op::AvgPool(op) => {
            let windows = op.windows(&x.shape)?;
            let taps = windows.taps() as f64;
            pooled(&windows, &x.data, &|v| v.sum::<f64>() / taps)
        }
        other => return Err(format!("'{}' is no operation of the client's", other.name())),
    };
    Ok(vec![out])
}

/// A row times a matrix.
fn product(row: &[f64], weights: &[f64], columns: usize) -> Vec<f64> {
    let mut out = vec![0.0; columns];
    for (&x, weights) in row.iter().zip(weights.chunks(columns)) {
        out.iter_mut().zip(weights).for_each(|(o, w)| *o += x * w);
    }
    out
}

fn with_tensor(x: &Reals, tensor: &Reals, f: fn(f64, f64) -> f64) -> Vec<f64> {
    let map = broadcast_map(&tensor.shape, &x.shape);
    x.data.iter().zip(map).map(|(&v, at)| f(v, tensor.data[at as usize])).collect()
}

fn pairs(ins: &[&Reals], f: fn(f64, f64) -> f64) -> Result<Vec<f64>, String> {
    let [a, b] = ins else { return Err("two operands are expected".into()) };
    let shape = ops::broadcast([&a.shape[..], &b.shape])?;
    let [left, right] = [a, b].map(|x| broadcast_map(&x.shape, &shape));
    Ok(left.iter().zip(right).map(|(&i, j)| f(a.data[i as usize], b.data[j as usize])).collect())
}

/// A function of all elements along axes, which vanish.
fn along(x: &Reals, axes: &[usize], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut steps = vec![1; x.shape.len()];
    for axis in (1..x.shape.len()).rev() {
        steps[axis - 1] = steps[axis] * x.shape[axis];
    }
    let kept: Vec<usize> = (0..x.shape.len()).filter(|a| !axes.contains(a)).collect();
    let n: usize = kept.iter().map(|&a| x.shape[a]).product();
    let mut groups = vec![Vec::new(); n];
    for (i, &v) in x.data.iter().enumerate() {
        let at = kept.iter().fold(0, |at, &a| at * x.shape[a] + i / steps[a] % x.shape[a]);
        groups[at].push(v);
    }
    groups.iter().map(|v| f(v)).collect()
}

fn softmax(row: &[f64]) -> Vec<f64> {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = row.iter().map(|v| (v - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

fn convolve(windows: &Windows, groups: usize, filters: usize, x: &[f64], weights: &[f64]) -> Vec<f64> {
    let (depth, own) = (windows.channels / groups, filters / groups);
    let mut out = Vec::new();
    for places in windows.places() {
        let mut sums = vec![0.0; filters];
        for (at, weights) in places.zip(weights.chunks(depth * filters)) {
            let Some(at) = at else { continue };
            for group in 0..groups {
                let row = &x[at + group * depth..][..depth];
                for (&x, weights) in row.iter().zip(weights.chunks(filters)) {
                    let part = group * own..(group + 1) * own;
                    sums[part.clone()].iter_mut().zip(&weights[part]).for_each(|(sum, w)| *sum += x * w);
                }
            }
        }
        out.extend(sums);
    }
    out
}

fn pooled(windows: &Windows, x: &[f64], f: &dyn Fn(&mut dyn Iterator<Item = f64>) -> f64) -> Vec<f64> {
    let window = |places: Vec<usize>| (0..windows.channels).map(move |c| f(&mut places.iter().map(|at| x[at + c])));
    windows.places().flat_map(|places| window(places.flatten().collect()).collect::<Vec<_>>()).collect()
}

/// A function by the name that it has in tables of the network.
fn function(name: &str) -> Option<fn(f64) -> f64> {
    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }
    Some(match name {
        "sigmoid" => sigmoid,
        "tanh" => f64::tanh,
        "exp" => f64::exp,
        "log" => f64::ln,
        "gelu" => |x| 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        "silu" => |x| x * sigmoid(x),
        "softplus" => |x| x.max(0.0) + (-x.abs()).exp().ln_1p(),
        "elu" => |x| if x < 0.0 { x.exp_m1() } else { x },
        "erf" => libm::erf,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "reciprocal" => |x| 1.0 / x,
        "rsqrt" => |x| 1.0 / x.sqrt(),
        "sqrt" => f64::sqrt,
        "square" => |x| x * x,
        _ => return None,
    })
}

/// Names of the operations of a part, in order, for people.
pub fn operations(part: &Graph) -> String {
    let names: Vec<&str> = part.nodes.iter().map(|n: &Node| n.op.name()).collect();
    names.join(", ")
}
