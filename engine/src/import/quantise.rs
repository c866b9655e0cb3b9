//! From a network in floats to a graph of integers.
//!
//! * Every value that an activation, a product of two values or a loop's state needs has `activations` bits; its scale is
//!   the largest power of two that its range on the calibration items, with headroom, leaves room for. Results of sigmoid and tanh have
//!   the ranges that are proven.
//! * Weights have `weights` bits and one scale for a tensor, or one for each output channel, in powers of two.
//! * Sums of products stay exact until all summands are there: then one rescale, rounded to nearest.
//!
//! Deterministic: the same network, ranges and options give the same graph.

use super::network::{Function, Init, Network, Node, Op, Scan, Sign, ValueId, Windows};
use super::ranges::Ranges;
use super::tensor::Tensor as Floats;
use crate::graph::builder::{Body, Builder, fixed, output};
use crate::graph::ops::scan::{State, Steps, Yield};
use crate::graph::ops::{
    Op as GraphOp, Parameter, activation, add, bias, clip, concat, conv, div, gather, matmul, matmul_shared, mul, pad,
    pool, rescaling, reshape, reverse, scale, select, slice, softmax, sum, table, transpose,
};
use crate::graph::rescale::Shifts;
use crate::graph::{Graph, Number, Rescale, Reveal, Tensor, Weights};
use crate::protocols::truncation::Rounding;
use std::collections::{HashMap, HashSet};

/// Most bits of a value that a sum of products has before it is rescaled.
const MAX_EXACT_BITS: u32 = 62;
/// Most bits of a server's tensor.
const MAX_TENSOR_BITS: u32 = 32;
/// Longest name, so that a suffix has room.
const MAX_NAME: usize = 100;

/// Widths of a quantised network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Bits of the weights of products: 2 to 24.
    pub weights: u32,
    /// Bits of activations and states: 4 to 16.
    pub activations: u32,
    /// One scale of the weights for each output channel of a product that is rescaled by itself.
    pub per_channel: bool,
    /// How much larger than on the calibration items a value may become: 1.25 is a quarter more.
    pub headroom: f32,
}

impl Default for Options {
    fn default() -> Self {
        Self { weights: 10, activations: 16, per_channel: true, headroom: 1.25 }
    }
}

/// A graph with its weights.
#[derive(Clone, Debug)]
pub struct Quantised {
    /// The public part.
    pub graph: Graph,
    /// The server's tensors.
    pub weights: Weights,
    /// Name and format in the graph of the network's values, as far as they are there.
    pub values: HashMap<ValueId, (String, Number)>,
}

/// Makes the graph.
///
/// # Errors
/// Names the node that integers cannot do with these widths.
pub fn quantise(network: &Network, ranges: &Ranges, options: Options) -> Result<Quantised, String> {
    if !(2..=24).contains(&options.weights)
        || !(4..=16).contains(&options.activations)
        || options.headroom.is_nan()
        || options.headroom < 1.0
    {
        return Err("weights have 2 to 24 bits, activations 4 to 16, and the headroom is at least 1".into());
    }
    let mut lowering = Lowering {
        network,
        ranges,
        options,
        readers: HashMap::new(),
        kept: network.outputs.iter().map(|(_, id)| *id).collect(),
        values: HashMap::new(),
        names: HashSet::new(),
        weights: Weights::new(),
    };
    lowering.count(&network.nodes);
    let mut inputs = Vec::new();
    for &id in &network.inputs {
        let number = lowering.narrow(id);
        let name = lowering.name(&network.values[id.index()].name);
        inputs.push(fixed(&name, network.shape(id), number));
        lowering.values.insert(id, (name, number));
    }
    let mut builder = Builder::new();
    lowering.nodes(&network.nodes, &mut builder)?;
    let mut outputs = Vec::new();
    for (name, id) in &network.outputs {
        let (value, _) = lowering.value(*id)?;
        outputs.push(output(&clean(name), &value, Reveal::Values));
    }
    let graph = builder.finish(0, inputs, outputs);
    Ok(Quantised { graph, weights: lowering.weights, values: lowering.values })
}

/// A name as the graph's rules allow it.
pub(super) fn clean(name: &str) -> String {
    let name: String = name.chars().map(|c| if c == '/' || c.is_control() { '.' } else { c }).collect();
    let mut name = name.trim_matches('.').to_string();
    while name.len() > MAX_NAME {
        name.pop();
    }
    if name.is_empty() { "value".into() } else { name }
}

/// The largest scale at which `magnitude` fits `bits` signed bits.
fn scale_for(magnitude: f32, bits: u32) -> i32 {
    // Of a value that is always zero any scale will do.
    let exponent = if magnitude > 0.0 { f64::from(magnitude).log2().ceil() as i32 } else { 0 };
    // The largest positive integer is one less than the power of two.
    let scale = bits as i32 - 1 - exponent;
    let largest = ((1i64 << (bits - 1)) - 1) as f64;
    if f64::from(magnitude) * 2f64.powi(scale) > largest { scale - 1 } else { scale }
}

/// Integers of floats at a scale.
fn integers(values: &[f32], scale: i32) -> Vec<i64> {
    values.iter().map(|&v| (f64::from(v) * 2f64.powi(scale)).round_ties_even() as i64).collect()
}

/// Signed bits that hold all of these.
fn bits_of(values: &[i64]) -> u32 {
    values.iter().map(|&v| 65 - (v ^ (v >> 63)).leading_zeros()).max().unwrap_or(1)
}

/// The rescale from one scale to another, rounded to nearest.
fn from_to(from: i32, to: i32) -> Rescale {
    let moved = Rescale { rounding: Rounding::Nearest, ..Rescale::default() };
    match from - to {
        0 => Rescale::default(),
        down @ 1.. => Rescale { shift: Shifts::All(down as u32), ..moved },
        up => Rescale { left: up.unsigned_abs(), ..Rescale::default() },
    }
}

fn up(by: i32) -> Rescale {
    Rescale { left: by.unsigned_abs(), ..Rescale::default() }
}

struct Lowering<'n> {
    network: &'n Network,
    ranges: &'n Ranges,
    options: Options,
    /// What reads each value, results of moves among them.
    readers: HashMap<ValueId, Vec<Reader>>,
    /// Values that outputs and loops hand out: in the format of activations.
    kept: HashSet<ValueId>,
    values: HashMap<ValueId, (String, Number)>,
    names: HashSet<String>,
    weights: Weights,
}

/// A reader of a value.
#[derive(Clone, Copy)]
enum Reader {
    /// A sum, which takes any width.
    Sum,
    /// An operation that moves elements: who reads its result counts.
    Move(ValueId),
    /// One that needs an activation's width.
    Narrow,
}

impl Lowering<'_> {
    fn count(&mut self, nodes: &[Node]) {
        for node in nodes {
            let reader = match &node.op {
                Op::Add(_) | Op::Bias(_) => Reader::Sum,
                Op::Slice { .. } | Op::Reshape | Op::Transpose(_) => Reader::Move(node.outs[0]),
                _ => Reader::Narrow,
            };
            for &id in &node.ins {
                self.readers.entry(id).or_default().push(reader);
            }
            if let Op::Scan(scan) = &node.op {
                self.kept.extend(scan.yields.iter().map(|y| y.value));
                self.kept.extend(scan.states.iter().flat_map(|s| [s.now, s.next]));
                self.kept.extend(
                    scan.states.iter().filter_map(|s| if let Init::Value(id) = s.init { Some(id) } else { None }),
                );
                self.count(&scan.body);
            }
        }
    }

    /// Whether only sums read a value: then it stays exact.
    fn stays_exact(&self, id: ValueId) -> bool {
        let readers = self.readers.get(&id).map_or(&[][..], Vec::as_slice);
        !self.kept.contains(&id)
            && !readers.is_empty()
            && readers.iter().all(|r| match r {
                Reader::Sum => true,
                Reader::Move(result) => self.stays_exact(*result),
                Reader::Narrow => false,
            })
    }

    /// The format of an activation.
    fn narrow(&self, id: ValueId) -> Number {
        let bits = self.options.activations;
        Number::new(bits, scale_for(self.ranges.magnitude(id) * self.options.headroom, bits))
    }

    /// The format of results whose range is proven.
    fn bounded(&self, magnitude: f32) -> Number {
        Number::new(self.options.activations, scale_for(magnitude, self.options.activations))
    }

    fn name(&mut self, wanted: &str) -> String {
        let wanted = clean(wanted);
        let mut name = wanted.clone();
        let mut n = 1;
        while !self.names.insert(name.clone()) {
            n += 1;
            name = format!("{wanted} {n}");
        }
        name
    }

    fn value(&self, id: ValueId) -> Result<(String, Number), String> {
        let missing = || format!("value '{}' is not there", self.network.values[id.index()].name);
        self.values.get(&id).cloned().ok_or_else(missing)
    }

    fn tensor(&mut self, name: &str, shape: Vec<usize>, data: Vec<i64>) -> Result<Parameter, String> {
        let bits = bits_of(&data).max(2);
        if bits > MAX_TENSOR_BITS {
            return Err(format!("tensor '{name}' takes {bits} bits"));
        }
        self.weights.insert(name.into(), Tensor::new(shape, data));
        Ok(Parameter::new(name, bits))
    }

    fn nodes(&mut self, nodes: &[Node], builder: &mut Builder) -> Result<(), String> {
        for node in nodes {
            self.node(node, builder).map_err(|what| format!("node '{}': {what}", node.name))?;
        }
        Ok(())
    }

    fn node(&mut self, node: &Node, builder: &mut Builder) -> Result<(), String> {
        if let Op::Scan(scan) = &node.op {
            return self.scan(node, scan, builder);
        }
        let out = node.outs[0];
        let name = self.name(&node.name);
        let ins = node.ins.iter().map(|&id| self.value(id)).collect::<Result<Vec<_>, _>>()?;
        let x = ins.first().ok_or("it has no operand")?.1;
        let shape = self.network.shape(out).to_vec();
        let mut names: Vec<&str> = ins.iter().map(|(name, _)| name.as_str()).collect();
        let mut common = Vec::new();
        if matches!(node.op, Op::Concat(_)) {
            common = self.in_one_format(&name, &ins, builder);
            names = common.iter().map(|(name, _)| name.as_str()).collect();
        }
        let (op, number): (GraphOp, Option<Number>) = match &node.op {
            Op::MatMul(w) => {
                let (shifts, weights, number) = self.product(&name, w, x, out)?;
                let columns = w.shape()[1];
                (matmul::MatMul { weights, columns, rescale: shifts }.into(), Some(number))
            }
            Op::Conv(c) => {
                let (rescale, weights, number) = self.product(&name, &c.weights, x, out)?;
                let filters = c.weights.shape()[c.weights.rank() - 1];
                let Windows { kernel, stride, dilation, padding } = c.windows.clone();
                (
                    conv::Conv { weights, filters, kernel, stride, dilation, padding, groups: c.groups, rescale }
                        .into(),
                    Some(number),
                )
            }
            Op::Scale(w) => {
                let (rescale, weights, number) = self.product(&name, w, x, out)?;
                let shape = if w.rank() == 0 { vec![1] } else { w.shape().to_vec() };
                (scale::Scale { weights, shape: Some(shape), rescale }.into(), Some(number))
            }
            Op::Bias(b) => {
                // At the scale of the exact sum, as far as a tensor has room for it.
                let values = b.as_floats()?;
                let largest = values.iter().fold(0f32, |m, v| m.max(v.abs()));
                let at = x.scale.min(scale_for(largest, MAX_TENSOR_BITS - 1));
                let shape = if b.rank() == 0 { vec![1] } else { b.shape().to_vec() };
                let parameter = self.tensor(&name, shape.clone(), integers(values, at))?;
                let room = x.bits.max((parameter.bits as i32 + x.scale - at) as u32) + 1;
                let number = self.sum_format(out, x.scale, room)?;
                let rescale = from_to(x.scale, number.scale);
                let op = bias::Bias {
                    bias: parameter,
                    shape: Some(shape),
                    operand: Rescale::default(),
                    rescale_bias: up(x.scale - at),
                    rescale,
                };
                (op.into(), Some(number))
            }
            Op::Add(signs) => {
                let at = ins.iter().map(|(_, n)| n.scale).max().unwrap_or(0);
                let terms = ins
                    .iter()
                    .zip(signs)
                    .map(|((_, n), sign)| add::Term { minus: *sign == Sign::Minus, rescale: up(at - n.scale) });
                let terms = terms.collect();
                let room = ins.iter().map(|(_, n)| n.bits + (at - n.scale) as u32).max().unwrap_or(1);
                let room = room + ins.len().next_power_of_two().trailing_zeros();
                let number = self.sum_format(out, at, room)?;
                (add::Add { terms, constant: 0, rescale: from_to(at, number.scale) }.into(), Some(number))
            }
            Op::Mul => {
                let number = self.narrow(out);
                (mul::Mul { rescale: from_to(x.scale + ins[1].1.scale, number.scale) }.into(), Some(number))
            }
            Op::MatMulShared => {
                let number = self.narrow(out);
                (
                    matmul_shared::MatMulShared { rescale: from_to(x.scale + ins[1].1.scale, number.scale) }.into(),
                    Some(number),
                )
            }
            Op::Div => (div::Div {}.into(), Some(self.narrow(out))),
            Op::Function(function) => self.function(*function, x, out),
            Op::Clip(low, high) => {
                let (least, most) = x.range();
                let limit = |v: f32| {
                    (f64::from(v) * 2f64.powi(x.scale)).round_ties_even().clamp(least as f64, most as f64) as i64
                };
                (clip::Clip { low: limit(*low), high: limit(*high), rescale: Rescale::default() }.into(), Some(x))
            }
            Op::Sum(axes) => {
                let number = self.narrow(out);
                (sum::Sum { axes: axes.clone(), rescale: from_to(x.scale, number.scale) }.into(), Some(number))
            }
            Op::Mean(axes) => (sum::Mean { axes: axes.clone(), rounding: Rounding::Nearest }.into(), Some(x)),
            Op::Max(axis) => (select::Max { axis: *axis }.into(), None),
            Op::ArgMax(axis) => {
                let last = self.network.shape(node.ins[0])[*axis].max(2) - 1;
                let index = Number { bits: usize::BITS - last.leading_zeros(), scale: 0, unsigned: true };
                (select::ArgMax { axis: *axis }.into(), Some(index))
            }
            Op::MaxPool(w) => {
                let Windows { kernel, stride, padding, .. } = w.clone();
                (pool::MaxPool { size: kernel, stride, padding }.into(), None)
            }
            Op::AvgPool(w) => {
                let Windows { kernel, stride, padding, .. } = w.clone();
                (pool::AvgPool { size: kernel, stride, padding, rounding: Rounding::Nearest }.into(), Some(x))
            }
            Op::Softmax => (softmax::Softmax {}.into(), Some(self.bounded(1.0))),
            Op::LogSoftmax => return Err("a logarithm of softmax is computed at the end of a network alone".into()),
            Op::Reshape => {
                let shape = shape.iter().map(|&n| n as i64).collect();
                (reshape::Reshape { shape }.into(), None)
            }
            Op::Transpose(order) => (transpose::Transpose { axes: order.clone() }.into(), None),
            Op::Slice { axis, start, step } => {
                let end = start + (shape[*axis] - 1) * step + 1;
                (slice::Slice { axis: *axis, start: *start as i64, end: Some(end as i64), step: *step }.into(), None)
            }
            Op::Gather { axis, indices } => {
                let indices = indices.iter().map(|&i| i as u32).collect();
                (gather::Gather { axis: *axis, indices }.into(), None)
            }
            Op::Reverse(axis) => (reverse::Reverse { axis: *axis }.into(), None),
            Op::Concat(axis) => (concat::Concat { axis: *axis }.into(), None),
            Op::Pad { padding, edge } => {
                let border = if *edge { pad::Border::Edge } else { pad::Border::Zero };
                (pad::Pad { padding: padding.clone(), border }.into(), None)
            }
            Op::Scan(_) => unreachable!("loops are lowered above"),
        };
        let kept = if matches!(node.op, Op::Concat(_)) { common[0].1 } else { x };
        match number {
            Some(number) => builder.compute(&name, op, &names, number),
            None => builder.arrange(&name, op, &names),
        };
        self.values.insert(out, (name, number.unwrap_or(kept)));
        Ok(())
    }

    /// The format of a sum: exact if sums alone read it.
    fn sum_format(&self, out: ValueId, scale: i32, bits: u32) -> Result<Number, String> {
        if self.stays_exact(out) && bits <= MAX_EXACT_BITS {
            Ok(Number::new(bits, scale))
        } else {
            Ok(self.narrow(out))
        }
    }

    /// Weights of a product, what its exact sum is rescaled by, and the format of the result. The last axis of the
    /// weights are the output channels.
    fn product(
        &mut self,
        name: &str,
        w: &Floats,
        x: Number,
        out: ValueId,
    ) -> Result<(Rescale, Parameter, Number), String> {
        let values = w.as_floats()?;
        let channels = w.shape().last().copied().unwrap_or(1);
        let bits = self.options.weights;
        let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0f32, |m, v| m.max(v.abs()));
        let exact = self.stays_exact(out);
        let per_channel = self.options.per_channel && !exact && channels > 1 && w.rank() > 1;
        let tensor_scale = scale_for(largest(&mut values.iter().copied()), bits);
        let scales: Vec<i32> = if per_channel {
            // A channel whose weights are all zero, or nearly, gains nothing from a finer scale.
            let of = |c: usize| scale_for(largest(&mut values.iter().copied().skip(c).step_by(channels)), bits);
            (0..channels).map(|c| of(c).min(tensor_scale + bits as i32)).collect()
        } else {
            vec![tensor_scale; channels]
        };
        let data: Vec<i64> =
            values.iter().enumerate().flat_map(|(i, &v)| integers(&[v], scales[i % channels])).collect();
        let shape = if w.rank() == 0 { vec![1] } else { w.shape().to_vec() };
        let terms = (values.len() / channels).max(1);
        let parameter = self.tensor(name, shape, data)?;
        let room = x.bits + parameter.bits + terms.next_power_of_two().trailing_zeros();
        let number = self.sum_format(out, x.scale + tensor_scale, room)?;
        let down: Vec<i32> = scales.iter().map(|s| x.scale + s - number.scale).collect();
        let rescale = if !per_channel {
            from_to(x.scale + tensor_scale, number.scale)
        } else if down.iter().any(|&d| d < 0) {
            return Err("its result is finer than its exact sum; give its weights more bits".into());
        } else {
            let shifts = down.iter().map(|&d| d as u32).collect();
            Rescale { shift: Shifts::Channels(shifts), rounding: Rounding::Nearest, ..Rescale::default() }
        };
        Ok((rescale, parameter, number))
    }

    fn function(&self, function: Function, x: Number, out: ValueId) -> (GraphOp, Option<Number>) {
        let table = |name: &str| table::Table { function: name.into() }.into();
        let unit = self.bounded(1.0);
        match function {
            Function::Sigmoid => (activation::Sigmoid {}.into(), Some(unit)),
            Function::Tanh => (activation::Tanh {}.into(), Some(unit)),
            Function::Relu => (clip::Relu { rescale: Rescale::default() }.into(), Some(x)),
            Function::Exp => (table("exp"), Some(self.narrow(out))),
            Function::Log => (table("log"), Some(self.narrow(out))),
            Function::Sqrt => (table("sqrt"), Some(self.narrow(out))),
            Function::Rsqrt => (table("rsqrt"), Some(self.narrow(out))),
            Function::Reciprocal => (table("reciprocal"), Some(self.narrow(out))),
            Function::Silu => (table("silu"), Some(self.narrow(out))),
            Function::Gelu => (table("gelu"), Some(self.narrow(out))),
            Function::Softplus => (table("softplus"), Some(self.narrow(out))),
            Function::Elu => (table("elu"), Some(self.narrow(out))),
            Function::Erf => (table("erf"), Some(unit)),
            Function::Sin => (table("sin"), Some(unit)),
            Function::Cos => (table("cos"), Some(unit)),
        }
    }

    /// The operands in one format: that of the coarsest, in the width of an activation.
    fn in_one_format(&mut self, name: &str, ins: &[(String, Number)], builder: &mut Builder) -> Vec<(String, Number)> {
        let number =
            ins.iter().map(|(_, n)| *n).min_by_key(|n| n.scale + self.options.activations as i32 - n.bits as i32);
        let number = number.expect("operands");
        ins.iter().map(|(value, own)| (self.rescaled(name, value, *own, number, builder), number)).collect()
    }

    /// A value in another format.
    fn rescaled(&mut self, name: &str, value: &str, own: Number, number: Number, builder: &mut Builder) -> String {
        if own == number {
            return value.to_string();
        }
        let name = self.name(&format!("{name} rescaled"));
        builder.compute(&name, rescaling::Rescaling { rescale: from_to(own.scale, number.scale) }, &[value], number)
    }

    fn scan(&mut self, node: &Node, scan: &Scan, builder: &mut Builder) -> Result<(), String> {
        let operands = node.ins.iter().map(|&id| self.value(id)).collect::<Result<Vec<_>, _>>()?;
        let mut body = Body { reverse: scan.reverse, ..Body::default() };
        for (&slice, (_, number)) in scan.slices.iter().zip(&operands) {
            let name = self.name(&self.network.values[slice.index()].name);
            body.slices.push(name.clone());
            self.values.insert(slice, (name, *number));
        }
        let mut states = Vec::new();
        for state in &scan.states {
            let number = self.narrow(state.now);
            let name = self.name(&self.network.values[state.now.index()].name);
            let (init, from) = match &state.init {
                Init::Constant(t) => {
                    let values = integers(t.as_floats()?, number.scale);
                    if values.iter().any(|v| v != &values[0]) {
                        return Err(
                            "an initial state with different elements is not computed; make it an input of the file"
                                .into(),
                        );
                    }
                    (values.first().copied().unwrap_or(0), None)
                }
                Init::Value(id) => {
                    let (value, own) = self.value(*id)?;
                    (0, Some(self.rescaled(&name, &value, own, number, builder)))
                }
            };
            self.values.insert(state.now, (name.clone(), number));
            let shape = self.network.shape(state.now).to_vec();
            states.push(State { name, next: String::new(), shape, number, init, from });
        }
        self.nodes(&scan.body, &mut body.nodes)?;
        for (mut lowered, state) in states.into_iter().zip(&scan.states) {
            let (value, own) = self.value(state.next)?;
            let next = self.rescaled(&lowered.name, &value, own, lowered.number, &mut body.nodes);
            // Who reads what the step leaves reads the state's format.
            self.values.insert(state.next, (next.clone(), lowered.number));
            lowered.next = next;
            body.states.push(lowered);
        }
        let name = self.name(&node.name);
        for ((i, result), &out) in scan.yields.iter().enumerate().zip(&node.outs) {
            let (value, number) = self.value(result.value)?;
            let steps = if result.every { Steps::Every } else { Steps::Last };
            body.yields.push(Yield { name: i.to_string(), value, steps });
            self.values.insert(out, (format!("{name}.{i}"), number));
        }
        let ins: Vec<&str> = operands.iter().map(|(name, _)| name.as_str()).collect();
        builder.scan(&name, &ins, body);
        Ok(())
    }
}
