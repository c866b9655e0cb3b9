//! A network in floats, in the terms of the integer graph that it will become.
//!
//! Between an ONNX file and a graph of integers: one item without a batch axis, shapes known, constants folded, gates
//! in one order (i, f, g, o and z, r, n), images with channels last, loops as loops. What the two descriptions differ in is
//! the numbers alone: here they are floats.
//!
//! [`evaluate`](mod@evaluate) computes it, which gives the ranges that fixed-point formats are chosen by.

pub mod evaluate;

use super::tensor::{Tensor, broadcast, show};
use std::sync::Arc;

/// A value of a [`Network`], those inside of loops among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(usize);

impl ValueId {
    /// Position in [`Network::values`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// A tensor that depends on the client's data.
#[derive(Clone, Debug)]
pub struct Value {
    /// For people; not unique.
    pub name: String,
    /// Sizes of the axes.
    pub shape: Vec<usize>,
}

/// Nodes between inputs and outputs.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// All values.
    pub values: Vec<Value>,
    /// What the client brings.
    pub inputs: Vec<ValueId>,
    /// In topological order.
    pub nodes: Vec<Node>,
    /// Results by name.
    pub outputs: Vec<(String, ValueId)>,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Node {
    /// For people; not unique.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// Operands.
    pub ins: Vec<ValueId>,
    /// Results; loops alone have several.
    pub outs: Vec<ValueId>,
}

/// What a node does.
#[derive(Clone, Debug)]
pub enum Op {
    /// Rows times a matrix `[rows, columns]`.
    MatMul(Arc<Tensor>),
    /// A convolution, channels last.
    Conv(Conv),
    /// Product with a constant that broadcasts to the operand.
    Scale(Arc<Tensor>),
    /// Sum with a constant that broadcasts to the operand.
    Bias(Arc<Tensor>),
    /// Matrix product of two values, `[.., n, k]` times `[.., k, m]`.
    MatMulShared,
    /// Product of two values, element by element.
    Mul,
    /// Quotient of two values, element by element.
    Div,
    /// Sum of values, or of their negatives.
    Add(Vec<Sign>),
    /// A function of every element.
    Function(Function),
    /// `min(max(x, low), high)`; a bound may be infinite.
    Clip(f32, f32),
    /// Sum over axes, which vanish.
    Sum(Vec<usize>),
    /// Mean over axes, which vanish.
    Mean(Vec<usize>),
    /// Largest element along an axis, which vanishes.
    Max(usize),
    /// Index of the largest element along an axis, which vanishes.
    ArgMax(usize),
    /// Largest element of each window, channels last.
    MaxPool(Windows),
    /// Mean of each window, channels last; padding counts as zeros.
    AvgPool(Windows),
    /// Softmax along the last axis.
    Softmax,
    /// Its logarithm.
    LogSoftmax,
    /// Another shape.
    Reshape,
    /// Axis `i` of the result is axis `order[i]` of the operand.
    Transpose(Vec<usize>),
    /// Entries from `start` on of an axis, as many as the result has, `step` apart.
    Slice {
        /// The axis.
        axis: usize,
        /// The first entry.
        start: usize,
        /// Distance of entries.
        step: usize,
    },
    /// Entries of an axis by index.
    Gather {
        /// The axis.
        axis: usize,
        /// The entries.
        indices: Vec<usize>,
    },
    /// An axis in reverse order.
    Reverse(usize),
    /// Values one after the other along an axis.
    Concat(usize),
    /// Entries before and after on each axis.
    Pad {
        /// How many.
        padding: Vec<[usize; 2]>,
        /// The nearest element instead of zero.
        edge: bool,
    },
    /// A loop.
    Scan(Scan),
}

/// How a value enters a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// As it is.
    Plus,
    /// Negated.
    Minus,
}

/// Windows that move over the axes of an image or a series: all axes but the last, which the channels are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Sizes of a window.
    pub kernel: Vec<usize>,
    /// Distance of windows.
    pub stride: Vec<usize>,
    /// Distance of the elements in a window.
    pub dilation: Vec<usize>,
    /// Zeros before and after each axis.
    pub padding: Vec<[usize; 2]>,
}

/// A convolution.
#[derive(Clone, Debug)]
pub struct Conv {
    /// `[kernel.., channels / groups, filters]`.
    pub weights: Arc<Tensor>,
    /// Places of the filters.
    pub windows: Windows,
    /// Parts of the channels that are mapped apart.
    pub groups: usize,
}

/// A function of one element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `max(x, 0)`.
    Relu,
    /// `e^x`.
    Exp,
    /// Natural logarithm.
    Log,
    /// `sqrt(x)`.
    Sqrt,
    /// `1 / sqrt(x)`.
    Rsqrt,
    /// `1 / x`.
    Reciprocal,
    /// `x / (1 + e^-x)`.
    Silu,
    /// `x (1 + erf(x / sqrt 2)) / 2`.
    Gelu,
    /// `ln(1 + e^x)`.
    Softplus,
    /// `x`, or `e^x - 1` below zero.
    Elu,
    /// The error function.
    Erf,
    /// Sine.
    Sin,
    /// Cosine.
    Cos,
}

/// A loop over the first axis of its operands.
#[derive(Clone, Debug)]
pub struct Scan {
    /// From the last entry to the first.
    pub reverse: bool,
    /// The entries of the operands in the body.
    pub slices: Vec<ValueId>,
    /// What a step hands to the next.
    pub states: Vec<State>,
    /// In topological order; they may also read values from outside.
    pub body: Vec<Node>,
    /// Values of the body that the loop hands out, one for each result.
    pub yields: Vec<Yield>,
}

/// A state of a loop.
#[derive(Clone, Debug)]
pub struct State {
    /// The value that a step reads.
    pub now: ValueId,
    /// The value that it leaves.
    pub next: ValueId,
    /// Before the first step.
    pub init: Init,
}

/// A state before the first step.
#[derive(Clone, Debug)]
pub enum Init {
    /// The same for all clients.
    Constant(Arc<Tensor>),
    /// A value from outside.
    Value(ValueId),
}

/// A result of a loop.
#[derive(Clone, Copy, Debug)]
pub struct Yield {
    /// The value of the body.
    pub value: ValueId,
    /// Of every step, along a new first axis; else of the last one.
    pub every: bool,
}

/// Nodes under construction; what is written in several ways by exporters comes out in one.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    values: Vec<Value>,
    /// The nodes that make the values: for those inside of finished loops too.
    makers: Vec<Option<Node>>,
    /// Nodes of the graph, and of the bodies that are open, the innermost last.
    open: Vec<Vec<Node>>,
}

impl Builder {
    /// No nodes.
    pub fn new() -> Self {
        Self { open: vec![Vec::new()], ..Self::default() }
    }

    /// Adds a value that no node makes: an input, a loop's slice or state.
    pub fn value(&mut self, name: &str, shape: Vec<usize>) -> ValueId {
        self.values.push(Value { name: name.into(), shape });
        self.makers.push(None);
        ValueId(self.values.len() - 1)
    }

    /// Sizes of a value's axes.
    pub fn shape(&self, id: ValueId) -> &[usize] {
        &self.values[id.0].shape
    }

    /// The node that makes a value.
    pub fn maker(&self, id: ValueId) -> Option<&Node> {
        self.makers[id.0].as_ref()
    }

    /// Adds a node with one result.
    pub fn node(&mut self, name: &str, op: Op, ins: &[ValueId], shape: Vec<usize>) -> ValueId {
        let out = self.value(name, shape);
        self.push(Node { name: name.into(), op, ins: ins.to_vec(), outs: vec![out] });
        out
    }

    fn push(&mut self, node: Node) {
        for out in &node.outs {
            self.makers[out.0] = Some(node.clone());
        }
        self.open.last_mut().expect("the graph itself").push(node);
    }

    /// A function of every element. It is moved before a transposition or reshape, so that those on its two sides can
    /// meet.
    pub fn elementwise(&mut self, name: &str, op: Op, x: ValueId) -> ValueId {
        if let Some(Node { op: Op::Reshape, ins, .. }) = self.maker(x) {
            let before = ins[0];
            let inner = self.elementwise(name, op, before);
            let shape = self.shape(x).to_vec();
            return self.reshape(name, inner, shape).expect("the number of elements has not changed");
        }
        if let Some(Node { op: Op::Transpose(order), ins, .. }) = self.maker(x) {
            let (order, before) = (order.clone(), ins[0]);
            let inner = self.node(name, op, &[before], self.shape(before).to_vec());
            return self.transpose(name, inner, &order);
        }
        self.node(name, op, &[x], self.shape(x).to_vec())
    }

    /// A [`Function`] of every element.
    pub fn function(&mut self, name: &str, function: Function, x: ValueId) -> ValueId {
        self.elementwise(name, Op::Function(function), x)
    }

    /// A product or sum with a constant.
    fn with_constant(
        &mut self,
        name: &str,
        op: fn(Arc<Tensor>) -> Op,
        x: ValueId,
        constant: &Tensor,
    ) -> Result<ValueId, String> {
        let shape = broadcast(self.shape(x), constant.shape())?;
        if shape != self.shape(x) {
            return Err(format!(
                "a constant of shape {} makes a value of shape {} larger",
                show(constant.shape()),
                show(self.shape(x))
            ));
        }
        if constant.len() == 1 {
            let constant = constant.reshaped(Vec::new())?;
            return Ok(self.elementwise(name, op(Arc::new(constant)), x));
        }
        if let Some(Node { op: Op::Transpose(order), ins, .. }) = self.maker(x) {
            let (order, before) = (order.clone(), ins[0]);
            let mut full = vec![1; order.len() - constant.rank()];
            full.extend(constant.shape());
            let back = inverse(&order);
            let constant = constant.reshaped(full)?.transposed(&back)?;
            let inner = self.with_constant(name, op, before, &constant)?;
            return Ok(self.transpose(name, inner, &order));
        }
        // Axes of length 1 in front say nothing.
        let lead = constant.shape().iter().take_while(|&&n| n == 1).count();
        let constant = constant.reshaped(constant.shape()[lead..].to_vec())?;
        Ok(self.node(name, op(Arc::new(constant)), &[x], shape))
    }

    /// Product with a constant.
    ///
    /// # Errors
    /// If the constant does not broadcast to the value.
    pub fn scale(&mut self, name: &str, x: ValueId, factor: &Tensor) -> Result<ValueId, String> {
        self.with_constant(name, Op::Scale, x, factor)
    }

    /// Sum with a constant.
    ///
    /// # Errors
    /// If the constant does not broadcast to the value.
    pub fn bias(&mut self, name: &str, x: ValueId, bias: &Tensor) -> Result<ValueId, String> {
        if bias.as_floats()?.iter().all(|&v| v == 0.0) && broadcast(self.shape(x), bias.shape())? == self.shape(x) {
            return Ok(x);
        }
        self.with_constant(name, Op::Bias, x, bias)
    }

    /// Product with a number.
    pub fn times(&mut self, name: &str, x: ValueId, factor: f32) -> ValueId {
        self.elementwise(name, Op::Scale(Arc::new(number(factor))), x)
    }

    /// Sum with a number.
    pub fn plus(&mut self, name: &str, x: ValueId, bias: f32) -> ValueId {
        self.elementwise(name, Op::Bias(Arc::new(number(bias))), x)
    }

    /// Sum of two values, or their difference.
    ///
    /// # Errors
    /// If they do not broadcast.
    pub fn add(&mut self, name: &str, a: ValueId, b: ValueId, sign: Sign) -> Result<ValueId, String> {
        let shape = broadcast(self.shape(a), self.shape(b))?;
        Ok(self.node(name, Op::Add(vec![Sign::Plus, sign]), &[a, b], shape))
    }

    /// Product of two values.
    ///
    /// # Errors
    /// If they do not broadcast.
    pub fn mul(&mut self, name: &str, a: ValueId, b: ValueId) -> Result<ValueId, String> {
        let shape = broadcast(self.shape(a), self.shape(b))?;
        for (x, other) in [(a, b), (b, a)] {
            // A value times its sigmoid is one function of it.
            if let Some(Node { op: Op::Function(Function::Sigmoid), ins, .. }) = self.maker(other)
                && ins[0] == x
            {
                return Ok(self.function(name, Function::Silu, x));
            }
        }
        Ok(self.node(name, Op::Mul, &[a, b], shape))
    }

    /// Rows times a matrix `[rows, columns]`, whose rows are the value's last axis.
    pub fn matmul(&mut self, name: &str, x: ValueId, weights: Tensor) -> Result<ValueId, String> {
        let mut shape = self.shape(x).to_vec();
        let inner = shape.pop().ok_or("a number is no row")?;
        if weights.rank() != 2 || weights.shape()[0] != inner {
            return Err(format!("rows of {inner} times a matrix of shape {}", show(weights.shape())));
        }
        shape.push(weights.shape()[1]);
        Ok(self.node(name, Op::MatMul(Arc::new(weights)), &[x], shape))
    }

    /// The same elements in another shape.
    ///
    /// # Errors
    /// If it has another number of elements.
    pub fn reshape(&mut self, name: &str, x: ValueId, shape: Vec<usize>) -> Result<ValueId, String> {
        let old = self.shape(x);
        if old.iter().product::<usize>() != shape.iter().product::<usize>() {
            return Err(format!("shape {} cannot become {}", show(old), show(&shape)));
        }
        let mut source = x;
        while let Some(Node { op: Op::Reshape, ins, .. }) = self.maker(source) {
            source = ins[0];
        }
        if self.shape(source) == shape {
            return Ok(source);
        }
        Ok(self.node(name, Op::Reshape, &[source], shape))
    }

    /// The axes in another order.
    pub fn transpose(&mut self, name: &str, x: ValueId, order: &[usize]) -> ValueId {
        if let Some(Node { op: Op::Transpose(first), ins, .. }) = self.maker(x) {
            let (both, source) = (order.iter().map(|&i| first[i]).collect::<Vec<_>>(), ins[0]);
            return self.transpose(name, source, &both);
        }
        let shape: Vec<usize> = order.iter().map(|&i| self.shape(x)[i]).collect();
        // Where axes of length 1 alone change places, the elements stay in order.
        if order.iter().filter(|&&i| self.shape(x)[i] != 1).is_sorted() {
            return self.reshape(name, x, shape).expect("the number of elements has not changed");
        }
        self.node(name, Op::Transpose(order.to_vec()), &[x], shape)
    }

    /// Entries of an axis, `step` apart.
    pub fn slice(&mut self, name: &str, x: ValueId, axis: usize, start: usize, len: usize, step: usize) -> ValueId {
        let mut shape = self.shape(x).to_vec();
        if start == 0 && step == 1 && len == shape[axis] {
            return x;
        }
        shape[axis] = len;
        self.node(name, Op::Slice { axis, start, step }, &[x], shape)
    }

    /// Entries of the last axis.
    pub fn part(&mut self, name: &str, x: ValueId, start: usize, len: usize) -> ValueId {
        let last = self.shape(x).len() - 1;
        self.slice(name, x, last, start, len, 1)
    }

    /// Entries of an axis by index.
    pub fn gather(&mut self, name: &str, x: ValueId, axis: usize, indices: Vec<usize>) -> ValueId {
        let mut shape = self.shape(x).to_vec();
        let n = shape[axis];
        if indices.iter().copied().eq(0..n) {
            return x;
        }
        if indices.windows(2).all(|w| w[1] == w[0] + 1) && !indices.is_empty() {
            return self.slice(name, x, axis, indices[0], indices.len(), 1);
        }
        if n > 1 && indices.iter().copied().eq((0..n).rev()) {
            return self.node(name, Op::Reverse(axis), &[x], shape);
        }
        shape[axis] = indices.len();
        self.node(name, Op::Gather { axis, indices }, &[x], shape)
    }

    /// Values one after the other.
    ///
    /// # Errors
    /// If they differ off the axis.
    pub fn concat(&mut self, name: &str, parts: &[ValueId], axis: usize) -> Result<ValueId, String> {
        let (&first, rest) = parts.split_first().ok_or("it has no input")?;
        if rest.is_empty() {
            return Ok(first);
        }
        let mut shape = self.shape(first).to_vec();
        for &part in rest {
            let other = self.shape(part);
            if other.len() != shape.len() || (0..shape.len()).any(|i| i != axis && other[i] != shape[i]) {
                return Err(format!("shapes {} and {} differ off axis {axis}", show(&shape), show(other)));
            }
            shape[axis] += other[axis];
        }
        Ok(self.node(name, Op::Concat(axis), parts, shape))
    }

    /// Opens the body of a loop.
    pub fn open(&mut self) {
        self.open.push(Vec::new());
    }

    /// Closes the body of a loop, without the loop.
    pub fn close(&mut self) -> Vec<Node> {
        self.open.pop().expect("a body is open")
    }

    /// Adds a loop over operands.
    pub fn scan(&mut self, name: &str, scan: Scan, ins: &[ValueId], trips: usize) -> Vec<ValueId> {
        let mut outs = Vec::new();
        for result in &scan.yields {
            let mut shape = self.shape(result.value).to_vec();
            if result.every {
                shape.insert(0, trips);
            }
            outs.push(self.value(&self.values[result.value.0].name.clone(), shape));
        }
        self.push(Node { name: name.into(), op: Op::Scan(scan), ins: ins.to_vec(), outs: outs.clone() });
        outs
    }

    /// The network, without what no output depends on.
    pub fn finish(mut self, inputs: Vec<ValueId>, outputs: Vec<(String, ValueId)>) -> Network {
        let nodes = self.close();
        let mut used = vec![false; self.values.len()];
        outputs.iter().for_each(|(_, id)| used[id.0] = true);
        let nodes = live(nodes, &mut used);
        Network { values: self.values, inputs, nodes, outputs }
    }
}

/// The nodes that a used value depends on; marks what they read.
fn live(nodes: Vec<Node>, used: &mut [bool]) -> Vec<Node> {
    let mut kept = Vec::new();
    for mut node in nodes.into_iter().rev() {
        if !node.outs.iter().any(|id| used[id.0]) {
            continue;
        }
        if let Op::Scan(scan) = &mut node.op {
            live_scan(scan, &mut node.ins, &mut node.outs, used);
        }
        node.ins.iter().for_each(|id| used[id.0] = true);
        kept.push(node);
    }
    kept.reverse();
    kept
}

fn live_scan(scan: &mut Scan, ins: &mut Vec<ValueId>, outs: &mut Vec<ValueId>, used: &mut [bool]) {
    let mut wanted = outs.iter().map(|id| used[id.0]);
    scan.yields.retain(|_| wanted.next() == Some(true));
    outs.retain(|id| used[id.0]);
    scan.yields.iter().for_each(|y| used[y.value.0] = true);
    // A state that is read needs what it becomes; that may read another state.
    loop {
        let kept = live(scan.body.clone(), used);
        let before = used.iter().filter(|&&u| u).count();
        for state in &scan.states {
            if used[state.now.0] {
                used[state.next.0] = true;
            }
        }
        if used.iter().filter(|&&u| u).count() == before {
            scan.body = kept;
            break;
        }
    }
    scan.states.retain(|s| used[s.now.0]);
    for state in &scan.states {
        if let Init::Value(id) = state.init {
            used[id.0] = true;
        }
    }
    // The operands say how many steps there are: one has to stay.
    let first = scan.slices.first().copied();
    let mut kept = scan.slices.iter().map(|id| used[id.0]).collect::<Vec<_>>();
    if let (false, Some(_)) = (kept.contains(&true), first) {
        kept[0] = true;
    }
    let mut mask = kept.iter();
    scan.slices.retain(|_| mask.next() == Some(&true));
    let mut mask = kept.iter();
    ins.retain(|_| mask.next() == Some(&true));
}

/// A number as a constant.
pub(crate) fn number(x: f32) -> Tensor {
    Tensor::floats(Vec::new(), vec![x]).expect("one element")
}

/// The order that undoes an order of axes.
pub(crate) fn inverse(order: &[usize]) -> Vec<usize> {
    let mut out = vec![0; order.len()];
    for (i, &axis) in order.iter().enumerate() {
        out[axis] = i;
    }
    out
}

impl Network {
    /// Sizes of a value's axes.
    pub fn shape(&self, id: ValueId) -> &[usize] {
        &self.values[id.0].shape
    }
}
