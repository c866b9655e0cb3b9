//! What the client computes itself, out of a network in floats: the operations before a tensor, and the functions at the end of a
//! network, as parts of a description ([`crate::model::client`]).

use super::names::{Names, clean};
use super::network::{Function, Network, Node, Op, Sign, ValueId, Windows};
use super::tensor::Tensor;
use crate::graph::builder::{Builder, fixed, output};
use crate::graph::ops::{
    Op as GraphOp, Parameter, add, bias, clip, concat, conv, div, gather, matmul, matmul_shared, mul, pad, pool,
    reshape, reverse, scale, select, slice, softmax, sum, table, transpose,
};
use crate::graph::{Graph, Rescale, Reveal};
use crate::model::client::{REAL, Reals};
use crate::protocols::truncation::Rounding;
use std::collections::{BTreeMap, HashMap, HashSet};

/// A part under construction.
pub struct Part {
    builder: Builder,
    /// Tensors by name.
    pub constants: BTreeMap<String, Reals>,
    names: Names,
    prefix: &'static str,
}

impl Part {
    /// Without nodes; names of its tensors begin with `prefix`.
    pub fn new(prefix: &'static str) -> Self {
        Self { builder: Builder::new(), constants: BTreeMap::new(), names: Names::default(), prefix }
    }

    /// A name that is not taken.
    pub fn name(&mut self, wanted: &str) -> String {
        self.names.take(wanted)
    }

    /// Adds an operation on reals.
    pub fn compute(&mut self, name: &str, op: impl Into<GraphOp>, ins: &[&str]) -> String {
        let name = self.name(name);
        self.builder.compute(&name, op, ins, REAL)
    }

    /// Adds an operation that moves elements.
    pub fn arrange(&mut self, name: &str, op: impl Into<GraphOp>, ins: &[&str]) -> String {
        let name = self.name(name);
        self.builder.arrange(&name, op, ins)
    }

    fn tensor(&mut self, name: &str, shape: Vec<usize>, data: &[f32]) -> Parameter {
        let mut own = format!("{}{}", self.prefix, clean(name));
        while self.constants.contains_key(&own) {
            own.push('\'');
        }
        self.constants.insert(own.clone(), Reals { shape, data: data.iter().map(|&v| f64::from(v)).collect() });
        Parameter::new(own, REAL.bits)
    }

    /// `(x - mean) / deviation`; both broadcast to the value.
    ///
    /// # Errors
    /// If they are no floats.
    pub fn normalise(&mut self, x: &str, mean: Option<&Tensor>, std: Option<&Tensor>) -> Result<String, String> {
        let mut value = x.to_string();
        if let Some(mean) = mean {
            let negative: Vec<f32> = mean.to_floats().iter().map(|v| -v).collect();
            value = self.bias("minus mean", &value, &Tensor::floats(mean.shape().to_vec(), negative)?)?;
        }
        if let Some(std) = std {
            let factor: Vec<f32> = std.to_floats().iter().map(|v| 1.0 / v).collect();
            value = self.scale("over deviation", &value, &Tensor::floats(std.shape().to_vec(), factor)?)?;
        }
        Ok(value)
    }

    fn bias(&mut self, name: &str, x: &str, t: &Tensor) -> Result<String, String> {
        let shape = if t.rank() == 0 { vec![1] } else { t.shape().to_vec() };
        let bias = self.tensor(name, shape.clone(), t.as_floats()?);
        let none = Rescale::default();
        let op =
            bias::Bias { bias, shape: Some(shape), operand: none.clone(), rescale_bias: none.clone(), rescale: none };
        Ok(self.compute(name, op, &[x]))
    }

    fn scale(&mut self, name: &str, x: &str, t: &Tensor) -> Result<String, String> {
        let shape = if t.rank() == 0 { vec![1] } else { t.shape().to_vec() };
        let weights = self.tensor(name, shape.clone(), t.as_floats()?);
        Ok(self.compute(name, scale::Scale { weights, shape: Some(shape), rescale: Rescale::default() }, &[x]))
    }

    fn sum(&mut self, name: &str, ins: &[&str], signs: &[Sign]) -> String {
        let term = |s: &Sign| add::Term { minus: *s == Sign::Minus, rescale: Rescale::default() };
        let op = add::Add { terms: signs.iter().map(term).collect(), constant: 0, rescale: Rescale::default() };
        self.compute(name, op, ins)
    }

    /// Adds nodes of a network. `values` says what its values are called here, and learns the results.
    ///
    /// # Errors
    /// Names a node that a client does not compute.
    pub fn add(
        &mut self,
        network: &Network,
        nodes: &[Node],
        values: &mut HashMap<ValueId, String>,
    ) -> Result<(), String> {
        for node in nodes {
            let ins: Vec<String> = node.ins.iter().filter_map(|id| values.get(id).cloned()).collect();
            if ins.len() != node.ins.len() {
                return Err(format!("node '{}': an operand is not there", node.name));
            }
            let ins: Vec<&str> = ins.iter().map(String::as_str).collect();
            let fail = |what: String| format!("node '{}': {what}", node.name);
            let result = self.node(network, node, &ins).map_err(fail)?;
            values.insert(node.outs[0], result);
        }
        Ok(())
    }

    fn node(&mut self, network: &Network, node: &Node, ins: &[&str]) -> Result<String, String> {
        let (name, x) = (&node.name, ins[0]);
        let shape = node.outs.first().map_or(&[][..], |&o| network.shape(o));
        let rescale = Rescale::default();
        let rounding = Rounding::default();
        Ok(match &node.op {
            Op::MatMul(w) => {
                let weights = self.tensor(name, w.shape().to_vec(), w.as_floats()?);
                self.compute(name, matmul::MatMul { weights, columns: w.shape()[1], rescale }, ins)
            }
            Op::Conv(c) => {
                let weights = self.tensor(name, c.weights.shape().to_vec(), c.weights.as_floats()?);
                let filters = c.weights.shape()[c.weights.rank() - 1];
                let Windows { kernel, stride, dilation, padding } = c.windows.clone();
                let groups = c.groups;
                let op = conv::Conv { weights, filters, kernel, stride, dilation, padding, groups, rescale };
                self.compute(name, op, ins)
            }
            Op::Scale(w) => self.scale(name, x, w)?,
            Op::Bias(b) => self.bias(name, x, b)?,
            Op::MatMulShared => self.compute(name, matmul_shared::MatMulShared { rescale }, ins),
            Op::Mul if ins[0] == ins[1] => self.table(name, "square", x),
            Op::Mul => self.compute(name, mul::Mul { rescale }, ins),
            Op::Div => self.compute(name, div::Div {}, ins),
            Op::Add(signs) => self.sum(name, ins, signs),
            Op::Function(Function::Relu) => self.compute(name, clip::Relu { rescale }, ins),
            Op::Function(function) => self.table(name, of(*function), x),
            Op::Clip(low, high) => {
                // max(x, low) = relu(x - low) + low; min(x, high) = high - relu(high - x).
                let number = |v: f32| Tensor::floats(Vec::new(), vec![v]);
                let mut value = x.to_string();
                if low.is_finite() {
                    let above = self.bias(name, &value, &number(-low)?)?;
                    let above = self.compute(name, clip::Relu::default(), &[&above]);
                    value = self.bias(name, &above, &number(*low)?)?;
                }
                if high.is_finite() {
                    let negative = self.scale(name, &value, &number(-1.0)?)?;
                    let below = self.bias(name, &negative, &number(*high)?)?;
                    let below = self.compute(name, clip::Relu::default(), &[&below]);
                    let negative = self.scale(name, &below, &number(-1.0)?)?;
                    value = self.bias(name, &negative, &number(*high)?)?;
                }
                value
            }
            Op::Sum(axes) => self.compute(name, sum::Sum { axes: axes.clone(), rescale }, ins),
            Op::Mean(axes) => self.compute(name, sum::Mean { axes: axes.clone(), rounding }, ins),
            Op::Max(axis) => self.arrange(name, select::Max { axis: *axis }, ins),
            Op::ArgMax(axis) => self.arrange(name, select::ArgMax { axis: *axis }, ins),
            Op::MaxPool(w) => {
                let Windows { kernel, stride, padding, .. } = w.clone();
                self.arrange(name, pool::MaxPool { size: kernel, stride, padding }, ins)
            }
            Op::AvgPool(w) => {
                let Windows { kernel, stride, padding, .. } = w.clone();
                self.compute(name, pool::AvgPool { size: kernel, stride, padding, rounding }, ins)
            }
            Op::Softmax => self.compute(name, softmax::Softmax {}, ins),
            Op::LogSoftmax => {
                let softmax = self.compute(name, softmax::Softmax {}, ins);
                self.table(name, "log", &softmax)
            }
            Op::Reshape => {
                let shape = shape.iter().map(|&n| n as i64).collect();
                self.arrange(name, reshape::Reshape { shape }, ins)
            }
            Op::Transpose(order) => self.arrange(name, transpose::Transpose { axes: order.clone() }, ins),
            Op::Slice { axis, start, step } => {
                let end = Some((start + (shape[*axis] - 1) * step + 1) as i64);
                self.arrange(name, slice::Slice { axis: *axis, start: *start as i64, end, step: *step }, ins)
            }
            Op::Gather { axis, indices } => {
                let indices = indices.iter().map(|&i| i as u32).collect();
                self.arrange(name, gather::Gather { axis: *axis, indices }, ins)
            }
            Op::Reverse(axis) => self.arrange(name, reverse::Reverse { axis: *axis }, ins),
            Op::Concat(axis) => self.arrange(name, concat::Concat { axis: *axis }, ins),
            Op::Pad { padding, edge } => {
                let border = if *edge { pad::Border::Edge } else { pad::Border::Zero };
                self.arrange(name, pad::Pad { padding: padding.clone(), border }, ins)
            }
            Op::Scan(_) => return Err("a loop is not computed at the client; cut the network before it".into()),
        })
    }

    fn table(&mut self, name: &str, function: &str, x: &str) -> String {
        self.compute(name, table::Table { function: function.into() }, &[x])
    }

    /// The part, with inputs `name, shape` and outputs `name, value`.
    pub fn finish(
        self,
        inputs: &[(String, Vec<usize>)],
        outputs: &[(String, String)],
    ) -> (Graph, BTreeMap<String, Reals>) {
        let inputs = inputs.iter().map(|(name, shape)| fixed(name, shape, REAL)).collect();
        let outputs = outputs.iter().map(|(name, value)| output(name, value, Reveal::Values)).collect();
        (self.builder.finish(0, inputs, outputs), self.constants)
    }
}

/// A function's name in tables.
fn of(function: Function) -> &'static str {
    match function {
        Function::Sigmoid => "sigmoid",
        Function::Tanh => "tanh",
        Function::Relu => "relu",
        Function::Exp => "exp",
        Function::Log => "log",
        Function::Sqrt => "sqrt",
        Function::Rsqrt => "rsqrt",
        Function::Reciprocal => "reciprocal",
        Function::Silu => "silu",
        Function::Gelu => "gelu",
        Function::Softplus => "softplus",
        Function::Elu => "elu",
        Function::Erf => "erf",
        Function::Sin => "sin",
        Function::Cos => "cos",
    }
}

/// Takes the functions at the end of a network off, where nothing else reads what they read: nodes for the client, and the network
/// whose outputs are their operands.
pub fn take_suffix(network: &Network, wanted: impl Fn(&str) -> bool) -> (Network, Vec<Node>) {
    let mut readers: HashMap<ValueId, usize> = HashMap::new();
    fn count(nodes: &[Node], readers: &mut HashMap<ValueId, usize>) {
        for node in nodes {
            node.ins.iter().for_each(|&id| *readers.entry(id).or_default() += 1);
            if let Op::Scan(scan) = &node.op {
                count(&scan.body, readers);
            }
        }
    }
    count(&network.nodes, &mut readers);
    network.outputs.iter().for_each(|(_, id)| *readers.entry(*id).or_default() += 1);
    let mut private = network.clone();
    let mut suffix = Vec::new();
    for (name, id) in &mut private.outputs {
        if !wanted(name) {
            continue;
        }
        let mut chain = Vec::new();
        let mut at = *id;
        let mut base = at;
        let mut kept = 0;
        while let Some(node) = network.nodes.iter().find(|n| n.outs == [at])
            && readers.get(&at) == Some(&1)
            && node.ins.len() == 1
        {
            let computes = match node.op {
                Op::Function(Function::Sigmoid | Function::Tanh | Function::Exp) | Op::Softmax | Op::LogSoftmax => true,
                Op::Reshape | Op::Transpose(_) => false,
                _ => break,
            };
            chain.push(node.clone());
            at = node.ins[0];
            // What only moves elements before the first function stays where it is.
            if computes {
                (base, kept) = (at, chain.len());
            }
        }
        chain.truncate(kept);
        chain.reverse();
        suffix.extend(chain);
        *id = base;
    }
    let taken: HashSet<ValueId> = suffix.iter().flat_map(|n: &Node| n.outs.clone()).collect();
    private.nodes.retain(|n| !n.outs.iter().any(|id| taken.contains(id)));
    (private, suffix)
}
