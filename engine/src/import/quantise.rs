//! From a network in floats to a graph of integers.
//!
//! * Every value that an activation, a product of two values or a loop's state needs has `activations` bits; its scale is
//!   the largest power of two that its range on the calibration items, with headroom, leaves room for. Results of sigmoid and tanh have
//!   the ranges that are proven.
//! * Weights have `weights` bits and one scale for a tensor, or one for each output channel, in powers of two.
//! * Sums of products stay exact until all summands are there: then one rescale, rounded to nearest. Where channels have
//!   scales of their own, so have the channels of the exact sum.
//! * What ReLU alone reads is as fine as what ReLU leaves, and as wide as its negative part needs.
//! * States of which a bound is known for any input have the width that it needs: an LSTM's memory grows by at most 1 in a step.
//!
//! Deterministic: the same network, ranges and options give the same graph.

use super::channels::{Channels, Lanes};
use super::names::{Names, clean};
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
use crate::graph::{Dim, Graph, Input, Number, Rescale, Reveal, Tensor, Weights};
use crate::protocols::truncation::Rounding;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Most bits of a value that a sum of products has before it is rescaled.
const MAX_EXACT_BITS: u32 = 62;
/// Most bits of a server's tensor.
const MAX_TENSOR_BITS: u32 = 32;
/// Most bits that a value has beyond those of an activation, so that it is proven, or nearly, not to wrap.
const MAX_SPARE_BITS: u32 = 8;

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
    /// Operands of sigmoid and tanh are clamped to this magnitude, beyond which the functions are flat: fewer bits for their
    /// look-ups, but two comparisons more.
    pub clamp: Option<f32>,
    /// The most steps of a loop that bounds of states hold for; by default as many as the network's loops have.
    pub max_steps: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self { weights: 10, activations: 16, per_channel: true, headroom: 1.25, clamp: None, max_steps: None }
    }
}

impl Options {
    fn check(&self) -> Result<(), String> {
        let clamp = self.clamp.is_none_or(|c| c.is_finite() && c >= 1.0);
        if !(2..=24).contains(&self.weights) || !(4..=16).contains(&self.activations) {
            return Err("weights have 2 to 24 bits, activations 4 to 16".into());
        }
        if !self.headroom.is_finite() || self.headroom < 1.0 || !clamp {
            return Err("the headroom is at least 1, and so is the magnitude that operands are clamped to".into());
        }
        Ok(())
    }
}

/// Widths of one layer; what is not given is as for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// As [`Options::weights`].
    pub weights: Option<u32>,
    /// As [`Options::activations`], of the layer's results.
    pub activations: Option<u32>,
}

/// Widths of all layers, and of single ones by the name of the node or of the loop that it is in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// For all.
    pub options: Options,
    /// For those named.
    pub layers: BTreeMap<String, Layer>,
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
    /// Of exact sums whose channels have scales of their own: by how much each is finer than the value's format says.
    pub channels: HashMap<ValueId, Vec<i32>>,
}

impl Quantised {
    /// Time steps of the items that a network is for: the size of the time axis, if there is one.
    pub fn steps(&self, network: &Network) -> usize {
        let timed = self.graph.inputs.iter().position(|i| i.shape.first() == Some(&Dim::Steps));
        timed.map_or(0, |i| network.shape(network.inputs[i])[0])
    }

    /// The integers of an item: the input's elements at its scale, to nearest, ties to even.
    ///
    /// # Errors
    /// If an element is no finite number or does not fit the input's width.
    pub fn inputs(&self, item: &[Floats]) -> Result<Vec<Tensor>, String> {
        let integers = |(input, x): (&Input, &Floats)| {
            let (lo, hi) = input.number.range();
            let data = x.as_floats()?.iter().map(|&v| {
                let integer = (f64::from(v) * 2f64.powi(input.number.scale)).round_ties_even();
                if (lo as f64..=hi as f64).contains(&integer) {
                    Ok(integer as i64)
                } else {
                    Err(format!("input '{}': {v} is beyond the range of the calibration items", input.name))
                }
            });
            Ok(Tensor::new(x.shape().to_vec(), data.collect::<Result<_, String>>()?))
        };
        self.graph.inputs.iter().zip(item).map(integers).collect()
    }
}

/// Makes the graph.
///
/// # Errors
/// Names the node that integers cannot do with these widths.
pub fn quantise(network: &Network, ranges: &Ranges, options: Options) -> Result<Quantised, String> {
    quantise_layers(network, ranges, &Settings { options, ..Settings::default() })
}

/// [`quantise`] with widths of single layers.
///
/// # Errors
/// As [`quantise`]; names a layer that is not there.
pub fn quantise_layers(network: &Network, ranges: &Ranges, settings: &Settings) -> Result<Quantised, String> {
    settings.options.check()?;
    let mut lowering = Lowering {
        network,
        ranges,
        options: settings.options,
        widths: HashMap::new(),
        readers: HashMap::new(),
        kept: network.outputs.iter().map(|(_, id)| *id).collect(),
        channels: Channels::default(),
        products: HashMap::new(),
        lanes: HashMap::new(),
        bounds: HashMap::new(),
        grows: HashSet::new(),
        values: HashMap::new(),
        finer: HashMap::new(),
        names: Names::default(),
        weights: Weights::new(),
    };
    lowering.layers(&settings.layers)?;
    lowering.count(&network.nodes);
    lowering.bound(&network.nodes);
    lowering.tie(&network.nodes)?;
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
        let value = lowering.flat(*id, &mut builder)?.0;
        outputs.push(output(&clean(name), &value, Reveal::Values));
    }
    let graph = builder.finish(0, inputs, outputs);
    Ok(Quantised { graph, weights: lowering.weights, values: lowering.values, channels: lowering.finer })
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

/// The largest magnitude.
fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values.fold(0.0, |m, v| m.max(v.abs()))
}

/// The finest scale at which the weights of each output channel, the last axis, fit `bits` bits.
fn finest(w: &Floats, bits: u32) -> Result<Vec<i32>, String> {
    let values = w.as_floats()?;
    let channels = w.shape().last().copied().unwrap_or(1).max(1);
    // A channel whose weights are all zero, or nearly, gains nothing from a finer scale.
    let most = scale_for(largest(values.iter().copied()), bits) + bits as i32;
    let of = |c: usize| match largest(values.iter().copied().skip(c).step_by(channels)) {
        0.0 => most,
        magnitude => scale_for(magnitude, bits).min(most),
    };
    Ok((0..channels).map(of).collect())
}

/// The node of a loop's body that makes a value.
fn maker(body: &[Node], id: ValueId) -> Option<&Node> {
    body.iter().find(|n| n.outs[0] == id)
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

/// The rescale that drops `by` bits, and of each channel as many more as it is finer.
fn down(by: i32, finer: &[i32]) -> Rescale {
    let shifts = finer.iter().map(|f| (by + f).unsigned_abs()).collect();
    Rescale { shift: Shifts::Channels(shifts), rounding: Rounding::Nearest, ..Rescale::default() }
}

fn up(by: i32) -> Rescale {
    Rescale { left: by.unsigned_abs(), ..Rescale::default() }
}

/// Operands of a sum.
struct Aligned {
    /// Their names and formats.
    ins: Vec<(String, Number)>,
    /// What each is moved up by.
    lefts: Vec<i32>,
    /// Scales of the channels of the sum.
    scales: Vec<i32>,
}

struct Lowering<'n> {
    network: &'n Network,
    ranges: &'n Ranges,
    options: Options,
    /// Bits of a node's weights and of its results, by result.
    widths: HashMap<ValueId, Options>,
    /// What reads each value, results of moves among them.
    readers: HashMap<ValueId, Vec<Reader>>,
    /// Values that outputs and loops hand out: in the format of activations.
    kept: HashSet<ValueId>,
    /// Which channels have the same scales, but for a power of two that is that of all channels of a product.
    channels: Channels,
    /// Products that stay exact with scales for their channels.
    products: HashMap<ValueId, Lanes>,
    /// The channels of exact values.
    lanes: HashMap<ValueId, Vec<usize>>,
    /// Magnitudes that values do not exceed, whatever the input.
    bounds: HashMap<ValueId, f32>,
    /// States whose bounds grow with the number of steps, and the products that keep them.
    grows: HashSet<ValueId>,
    values: HashMap<ValueId, (String, Number)>,
    /// By how much channels are finer than the value's number says.
    finer: HashMap<ValueId, Vec<i32>>,
    names: Names,
    weights: Weights,
}

/// A reader of a value.
#[derive(Clone, Copy)]
enum Reader {
    /// A sum, which takes any width.
    Sum,
    /// An operation that moves elements: who reads its result counts.
    Move(ValueId),
    /// ReLU, to which negative numbers are all the same.
    Relu,
    /// One that needs an activation's width.
    Narrow,
}

impl Lowering<'_> {
    /// The widths of every node's results.
    fn layers(&mut self, layers: &BTreeMap<String, Layer>) -> Result<(), String> {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let network = self.network;
        let mut node = |cx: &mut Self, node: &Node, around: Option<&Node>| {
            let mut own = cx.options;
            for name in around.into_iter().chain([node]).map(|n| n.name.as_str()) {
                if let Some((name, layer)) = layers.get_key_value(name) {
                    own.weights = layer.weights.unwrap_or(own.weights);
                    own.activations = layer.activations.unwrap_or(own.activations);
                    *seen.entry(name).or_default() += 1;
                }
            }
            own.check().map_err(|what| format!("layer '{}': {what}", node.name))?;
            cx.widths.extend(node.outs.iter().map(|&id| (id, own)));
            Ok::<_, String>(own)
        };
        for outer in &network.nodes {
            let own = node(self, outer, None)?;
            if let Op::Scan(scan) = &outer.op {
                for inner in &scan.body {
                    node(self, inner, Some(outer))?;
                }
                self.widths.extend(scan.states.iter().map(|s| (s.now, own)));
            }
        }
        match layers.keys().find(|name| !seen.contains_key(name.as_str())) {
            None => Ok(()),
            Some(missing) => {
                let mut names: Vec<&str> = network.nodes.iter().map(|n| n.name.as_str()).collect();
                names.dedup();
                Err(format!("there is no layer '{missing}'; there are {}", names.join(", ")))
            }
        }
    }

    fn widths(&self, id: ValueId) -> Options {
        self.widths.get(&id).copied().unwrap_or(self.options)
    }

    fn count(&mut self, nodes: &[Node]) {
        for node in nodes {
            let reader = match &node.op {
                Op::Add(_) | Op::Bias(_) => Reader::Sum,
                Op::Slice { .. } | Op::Reshape | Op::Transpose(_) => Reader::Move(node.outs[0]),
                Op::Function(Function::Relu) => Reader::Relu,
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

    /// Finds values that have a bound for any input, states of loops among them.
    fn bound(&mut self, nodes: &[Node]) {
        for node in nodes {
            if let Op::Scan(scan) = &node.op {
                let trips = node.ins.first().map_or(0, |id| self.network.shape(*id)[0]);
                let steps = self.options.max_steps.unwrap_or(0).max(trips) as f32;
                // First of states nothing is known; what follows then holds for any.
                self.bound(&scan.body);
                for state in &scan.states {
                    let start = match &state.init {
                        Init::Constant(t) => t.as_floats().ok().map(|v| largest(v.iter().copied())),
                        Init::Value(id) => self.bounds.get(id).copied(),
                    };
                    let Some(start) = start else { continue };
                    let settled = self.bounds.get(&state.next).copied();
                    let settled = settled.or_else(|| self.mixed(&scan.body, state.now, state.next));
                    let bound = match settled {
                        Some(bound) => start.max(bound),
                        None => {
                            let Some((kept, growth)) = self.growth(&scan.body, state.now, state.next) else { continue };
                            self.grows.extend([state.now, state.next, kept]);
                            // Rounding adds a little in every step.
                            start + steps * growth * (1.0 + 1.0 / 256.0)
                        }
                    };
                    self.bounds.insert(state.now, bound);
                    self.bounds.insert(state.next, bound);
                }
                self.bound(&scan.body);
                for (result, &out) in scan.yields.iter().zip(&node.outs) {
                    if let Some(&bound) = self.bounds.get(&result.value) {
                        self.bounds.insert(out, bound);
                    }
                }
                continue;
            }
            let of = |i: usize| self.bounds.get(&node.ins[i]).copied();
            let bound = match &node.op {
                Op::Function(Function::Sigmoid | Function::Tanh | Function::Erf | Function::Sin | Function::Cos)
                | Op::Softmax => Some(1.0),
                Op::Clip(low, high) => Some(low.abs().max(high.abs())).filter(|m| m.is_finite()),
                Op::Mul => of(0).zip(of(1)).map(|(a, b)| a * b),
                Op::Function(Function::Relu)
                | Op::Slice { .. }
                | Op::Reshape
                | Op::Transpose(_)
                | Op::Gather { .. }
                | Op::Reverse(_)
                | Op::Max(_)
                | Op::MaxPool(_) => of(0),
                _ => None,
            };
            if let Some(bound) = bound {
                self.bounds.insert(node.outs[0], bound);
            }
        }
    }

    /// The product that keeps a state, and by how much the state's magnitude grows in a step at most, where the step is
    /// `a state + b` with `|a| <= 1` and a bound on `|b|`.
    fn growth(&self, body: &[Node], now: ValueId, next: ValueId) -> Option<(ValueId, f32)> {
        let sum = maker(body, next).filter(|n| matches!(n.op, Op::Add(_)))?;
        let (mut kept, mut growth) = (None, 0.0);
        for &term in &sum.ins {
            match maker(body, term).filter(|n| matches!(n.op, Op::Mul) && n.ins.contains(&now)) {
                Some(product) => {
                    let gate = product.ins.iter().find(|id| **id != now)?;
                    self.bounds.get(gate).filter(|b| **b <= 1.0)?;
                    if kept.replace(term).is_some() {
                        return None;
                    }
                }
                None => growth += self.bounds.get(&term)?,
            }
        }
        Some((kept?, growth))
    }

    /// The bound of `new` where a step is `new + z (state - new)` with `z` in [0, 1], which lies between the two.
    fn mixed(&self, body: &[Node], now: ValueId, next: ValueId) -> Option<f32> {
        let sum = maker(body, next).filter(|n| matches!(&n.op, Op::Add(signs) if signs[..] == [Sign::Plus; 2]))?;
        let product = |id: ValueId| maker(body, id).filter(|n| matches!(n.op, Op::Mul));
        let (new, product) = match [product(sum.ins[0]), product(sum.ins[1])] {
            [_, Some(product)] if maker(body, product.ins[1]).is_some_and(|n| n.ins.contains(&sum.ins[0])) => {
                (sum.ins[0], product)
            }
            [Some(product), _] => (sum.ins[1], product),
            _ => return None,
        };
        let difference = maker(body, product.ins[1])
            .filter(|n| matches!(&n.op, Op::Add(signs) if signs[..] == [Sign::Plus, Sign::Minus]))?;
        let mut gate = maker(body, product.ins[0])?;
        while let Op::Slice { .. } | Op::Reshape = gate.op {
            gate = maker(body, gate.ins[0])?;
        }
        let in_unit = match gate.op {
            Op::Function(Function::Sigmoid) => true,
            Op::Clip(low, high) => low >= 0.0 && high <= 1.0,
            _ => false,
        };
        (in_unit && difference.ins == [now, new]).then(|| self.bounds.get(&new).copied())?
    }

    /// Finds the products whose channels have scales of their own, and ties those that meet.
    fn tie(&mut self, nodes: &[Node]) -> Result<(), String> {
        for node in nodes {
            let out = node.outs[0];
            let last = self.network.shape(out).len().wrapping_sub(1);
            let of = |cx: &Self, id: &ValueId| cx.lanes.get(id).cloned();
            let lanes = match &node.op {
                Op::MatMul(weights) | Op::Conv(super::network::Conv { weights, .. })
                    if self.options.per_channel && self.stays_exact(out) =>
                {
                    let lanes = self.channels.product(&finest(weights, self.widths(out).weights)?);
                    let sets = lanes.sets.clone();
                    self.products.insert(out, lanes);
                    Some(sets)
                }
                Op::Bias(_) => of(self, &node.ins[0]),
                Op::Add(_) => {
                    let all: Vec<_> = node.ins.iter().map(|id| of(self, id)).collect();
                    let first =
                        all[0].clone().filter(|a| all.iter().all(|b| b.as_ref().is_some_and(|b| a.len() == b.len())));
                    match &first {
                        Some(first) => {
                            for other in all.iter().flatten() {
                                first.iter().zip(other).for_each(|(&a, &b)| self.channels.tie(a, b));
                            }
                        }
                        None => self.channels.tie_all(&all.into_iter().flatten().flatten().collect::<Vec<_>>()),
                    }
                    first
                }
                Op::Slice { axis, start, step } if *axis == last => {
                    let count = self.network.shape(out)[*axis];
                    of(self, &node.ins[0])
                        .map(|sets| sets.into_iter().skip(*start).step_by(*step).take(count).collect())
                }
                Op::Slice { .. } => of(self, &node.ins[0]),
                Op::Reshape | Op::Transpose(_) => {
                    if let Some(sets) = of(self, &node.ins[0]) {
                        self.channels.tie_all(&sets);
                    }
                    None
                }
                Op::Scan(scan) => {
                    self.tie(&scan.body)?;
                    None
                }
                _ => None,
            };
            if let Some(sets) = lanes.filter(|_| self.stays_exact(out)) {
                self.lanes.insert(out, sets);
            }
        }
        Ok(())
    }

    /// Whether only sums read a value: then it stays exact.
    fn stays_exact(&self, id: ValueId) -> bool {
        let readers = self.readers.get(&id).map_or(&[][..], Vec::as_slice);
        !self.kept.contains(&id)
            && !readers.is_empty()
            && readers.iter().all(|r| match r {
                Reader::Sum => true,
                Reader::Move(result) => self.stays_exact(*result),
                Reader::Relu | Reader::Narrow => false,
            })
    }

    /// The format of an activation: as fine as its range on the calibration items allows, with headroom, unless a bound for any input
    /// is near. What grows with the number of steps, or is read by ReLU alone, has the bits in addition that it needs not to wrap.
    fn narrow(&self, id: ValueId) -> Number {
        let bits = self.widths(id).activations;
        let (low, high) = self.ranges.of(id);
        let magnitude = low.abs().max(high.abs()) * self.options.headroom;
        let wider = |fine: f32, needed: f32| {
            let scale = scale_for(fine, bits);
            let most = bits + MAX_SPARE_BITS;
            let width = (bits..=most).find(|&b| scale_for(needed, b) >= scale);
            width.map_or(Number::new(most, scale_for(needed, most)), |width| Number::new(width, scale))
        };
        match self.bounds.get(&id) {
            Some(&bound) if bound <= 2.0 * magnitude => Number::new(bits, scale_for(bound, bits)),
            Some(&bound) if self.grows.contains(&id) => wider(magnitude, bound),
            _ if self.only_relu_reads(id) && high > 0.0 => wider(high * self.options.headroom, magnitude),
            _ => Number::new(bits, scale_for(magnitude, bits)),
        }
    }

    fn only_relu_reads(&self, id: ValueId) -> bool {
        let readers = self.readers.get(&id).map_or(&[][..], Vec::as_slice);
        !self.kept.contains(&id) && !readers.is_empty() && readers.iter().all(|r| matches!(r, Reader::Relu))
    }

    /// The format of results whose range is proven.
    fn bounded(&self, magnitude: f32, bits: u32) -> Number {
        Number::new(bits, scale_for(magnitude, bits))
    }

    fn name(&mut self, wanted: &str) -> String {
        self.names.take(wanted)
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
        let keeps_channels = matches!(node.op, Op::Bias(_) | Op::Add(_) | Op::Slice { .. });
        let operand = |cx: &mut Self, id, builder: &mut Builder| {
            if keeps_channels { cx.value(id) } else { cx.flat(id, builder) }
        };
        let ins = node.ins.iter().map(|&id| operand(self, id, builder)).collect::<Result<Vec<_>, _>>()?;
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
                let values = b.as_floats()?;
                let finer = self.finer.get(&node.ins[0]).cloned().unwrap_or(vec![0]);
                let mut shape = if b.rank() == 0 { vec![1] } else { b.shape().to_vec() };
                let columns = shape[shape.len() - 1];
                // One number for all channels becomes one for each where they have scales of their own.
                let width = columns.max(finer.len());
                shape.pop();
                shape.push(width);
                let values: Vec<f32> =
                    values.chunks(columns).flat_map(|row| (0..width).map(|c| row[c % columns])).collect();
                let scale = |i: usize| x.scale + finer[i % width % finer.len()];
                // At the scale of the exact sum, as far as a tensor has room for it.
                let room = values.iter().enumerate().map(|(i, v)| scale(i) - scale_for(v.abs(), MAX_TENSOR_BITS - 1));
                let left = room.max().unwrap_or(0).max(0);
                let data = values.iter().enumerate().flat_map(|(i, &v)| integers(&[v], scale(i) - left)).collect();
                let parameter = self.tensor(&name, shape.clone(), data)?;
                let room = x.bits.max(parameter.bits + left as u32) + 1;
                let (rescale, number) = self.settled(out, x.scale, &finer, room);
                let op = bias::Bias {
                    bias: parameter,
                    shape: Some(shape),
                    operand: Rescale::default(),
                    rescale_bias: up(left),
                    rescale,
                };
                (op.into(), Some(number))
            }
            Op::Add(signs) => {
                let Aligned { ins, lefts, scales } = self.aligned(&node.ins, builder)?;
                let terms = lefts
                    .iter()
                    .zip(signs)
                    .map(|(&left, sign)| add::Term { minus: *sign == Sign::Minus, rescale: up(left) });
                let terms = terms.collect();
                let room = ins.iter().zip(&lefts).map(|((_, n), left)| n.bits + left.unsigned_abs()).max().unwrap_or(1);
                let room = room + ins.len().next_power_of_two().trailing_zeros();
                let (rescale, number) = self.settled(out, 0, &scales, room);
                let names: Vec<&str> = ins.iter().map(|(name, _)| name.as_str()).collect();
                let op = add::Add { terms, constant: 0, rescale };
                builder.compute(&name, op, &names, number);
                self.values.insert(out, (name, number));
                return Ok(());
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
            Op::Function(function) => {
                let (operand, number) = self.clamped(*function, &ins[0], builder);
                let (op, number) = self.function(*function, number, out);
                let number = number.unwrap_or(x);
                builder.compute(&name, op, &[&operand], number);
                self.values.insert(out, (name, number));
                return Ok(());
            }
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
            Op::Softmax => (softmax::Softmax {}.into(), Some(self.bounded(1.0, self.widths(out).activations))),
            Op::LogSoftmax => return Err("a logarithm of softmax is computed at the end of a network alone".into()),
            Op::Reshape => {
                let shape = shape.iter().map(|&n| n as i64).collect();
                (reshape::Reshape { shape }.into(), None)
            }
            Op::Transpose(order) => (transpose::Transpose { axes: order.clone() }.into(), None),
            Op::Slice { axis, start, step } => {
                let end = start + (shape[*axis] - 1) * step + 1;
                if let Some(finer) = self.finer.get(&node.ins[0]) {
                    let own = if *axis + 1 == shape.len() {
                        finer.iter().copied().skip(*start).step_by(*step).take(shape[*axis]).collect()
                    } else {
                        finer.clone()
                    };
                    self.finer.insert(out, own);
                }
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
        let channels = w.shape().last().copied().unwrap_or(1).max(1);
        let bits = self.widths(out).weights;
        let exact = self.stays_exact(out);
        let scales = if let Some(lanes) = self.products.get(&out) {
            self.channels.scales(lanes)
        } else if self.options.per_channel && !exact && w.rank() > 1 {
            finest(w, bits)?
        } else {
            vec![scale_for(largest(values.iter().copied()), bits); channels]
        };
        let data: Vec<i64> =
            values.iter().enumerate().flat_map(|(i, &v)| integers(&[v], scales[i % channels])).collect();
        let shape = if w.rank() == 0 { vec![1] } else { w.shape().to_vec() };
        // No sum is larger than that of its weights' magnitudes times the largest operand.
        let sums = match w.rank() {
            0 | 1 => data.iter().map(|v| v.unsigned_abs()).max().unwrap_or(0),
            _ => (0..channels)
                .map(|c| data.iter().skip(c).step_by(channels).map(|v| v.unsigned_abs()).sum())
                .max()
                .unwrap_or(0),
        };
        let parameter = self.tensor(name, shape, data)?;
        let room = x.bits + u64::BITS - sums.leading_zeros();
        let (rescale, number) = self.settled(out, x.scale, &scales, room);
        Ok((rescale, parameter, number))
    }

    /// The format of an exact sum, and its rescale: none if sums alone read it. `scales` are those of the channels, or of all, on top of
    /// `scale`.
    fn settled(&mut self, out: ValueId, scale: i32, scales: &[i32], bits: u32) -> (Rescale, Number) {
        let least = scales.iter().copied().min().unwrap_or(0);
        let finer: Vec<i32> = scales.iter().map(|s| s - least).collect();
        let several = finer.iter().any(|&f| f > 0);
        if self.stays_exact(out) && bits <= MAX_EXACT_BITS {
            if several {
                self.finer.insert(out, finer);
            }
            return (Rescale::default(), Number::new(bits, scale + least));
        }
        let mut number = self.narrow(out);
        if !several {
            return (from_to(scale + least, number.scale), number);
        }
        // A result that is finer than its sum says nothing more.
        number.scale = number.scale.min(scale + least);
        (down(scale + least - number.scale, &finer), number)
    }

    /// A value in a format that is the same for all channels.
    fn flat(&mut self, id: ValueId, builder: &mut Builder) -> Result<(String, Number), String> {
        let (value, number) = self.value(id)?;
        let Some(finer) = self.finer.get(&id).cloned() else { return Ok((value, number)) };
        let name = self.name(&format!("{value} in one scale"));
        Ok((builder.compute(&name, rescaling::Rescaling { rescale: down(0, &finer) }, &[&value], number), number))
    }

    /// Operands of a sum at one scale, or at scales that differ by the same in all channels.
    fn aligned(&mut self, ids: &[ValueId], builder: &mut Builder) -> Result<Aligned, String> {
        let mut ins = ids.iter().map(|&id| self.value(id)).collect::<Result<Vec<_>, _>>()?;
        let mut finer: Vec<Vec<i32>> = ids.iter().map(|id| self.finer.get(id).cloned().unwrap_or(vec![0])).collect();
        if finer.iter().any(|f| *f != finer[0]) {
            let constant = finer.iter().all(|f| {
                f.len() == finer[0].len() && f.iter().zip(&finer[0]).all(|(a, b)| a - b == f[0] - finer[0][0])
            });
            if !constant {
                for ((id, value), finer) in ids.iter().zip(&mut ins).zip(&mut finer) {
                    *value = self.flat(*id, builder)?;
                    *finer = vec![0];
                }
            }
        }
        // That of the first channel stands for all.
        let scales: Vec<i32> = ins.iter().zip(&finer).map(|((_, n), f)| n.scale + f[0]).collect();
        let at = scales.iter().copied().max().unwrap_or(0);
        let all = finer[0].iter().map(|f| at + f - finer[0][0]).collect();
        Ok(Aligned { ins, lefts: scales.iter().map(|s| at - s).collect(), scales: all })
    }

    /// The operand of a sigmoid or tanh, clamped if that is asked for and its format goes beyond.
    fn clamped(&mut self, function: Function, x: &(String, Number), builder: &mut Builder) -> (String, Number) {
        let Some(limit) = self.options.clamp else { return x.clone() };
        let number = x.1;
        let bits = (2..number.bits).find(|&bits| scale_for(limit, bits) >= number.scale);
        let (Function::Sigmoid | Function::Tanh, Some(bits)) = (function, bits) else { return x.clone() };
        let limit = (f64::from(limit) * 2f64.powi(number.scale)) as i64;
        let clip = clip::Clip { low: -limit, high: limit, rescale: Rescale::default() };
        let name = self.name(&format!("{} clamped", x.0));
        let number = Number::new(bits, number.scale);
        (builder.compute(&name, clip, &[&x.0], number), number)
    }

    fn function(&self, function: Function, x: Number, out: ValueId) -> (GraphOp, Option<Number>) {
        let table = |name: &str| table::Table { function: name.into() }.into();
        let bits = self.widths(out).activations;
        let unit = self.bounded(1.0, bits);
        match function {
            Function::Sigmoid => (activation::Sigmoid {}.into(), Some(unit)),
            Function::Tanh => (activation::Tanh {}.into(), Some(unit)),
            Function::Relu => {
                // As fine as its operand, if that leaves room for what is positive.
                let number = self.narrow(out);
                if number.scale >= x.scale || x.bits <= bits {
                    (clip::Relu::default().into(), Some(Number::new(bits.min(x.bits), x.scale)))
                } else {
                    (clip::Relu { rescale: from_to(x.scale, number.scale) }.into(), Some(number))
                }
            }
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

    /// A state before the first step that the server knows alone: nothing, made of the loop's operand, and the state added to it.
    #[allow(clippy::too_many_arguments)]
    fn start(
        &mut self,
        name: &str,
        values: Vec<i64>,
        shape: &[usize],
        number: Number,
        operand: &(String, Number),
        id: ValueId,
        builder: &mut Builder,
    ) -> Result<String, String> {
        let part = |what: &str| format!("{name} {what}");
        let [first, flat, as_many, nothing, state] =
            [part("0"), part("1"), part("2"), part("zeros"), part("start")].map(|n| self.name(&n));
        let own: usize = self.network.shape(id)[1..].iter().product();
        let entry = slice::Slice { axis: 0, start: 0, end: Some(1), step: 1 };
        builder.arrange(&first, entry, &[&operand.0]);
        builder.arrange(&flat, reshape::Reshape { shape: vec![own as i64] }, &[&first]);
        builder.arrange(&as_many, gather::Gather { axis: 0, indices: vec![0; values.len()] }, &[&flat]);
        let terms = vec![add::Term::default(), add::Term { minus: true, ..add::Term::default() }];
        let zeros = Number::new(operand.1.bits + 1, number.scale);
        builder.compute(&nothing, add::Add { terms, ..add::Add::default() }, &[&as_many, &as_many], zeros);
        let bias = bias::Bias {
            bias: self.tensor(&state, vec![values.len()], values)?,
            shape: None,
            operand: Rescale::default(),
            rescale_bias: Rescale::default(),
            rescale: Rescale::default(),
        };
        builder.compute(&state, bias, &[&nothing], number);
        if shape.len() == 1 {
            return Ok(state);
        }
        let shaped = self.name(&part("shaped"));
        let shape = shape.iter().map(|&n| n as i64).collect();
        Ok(builder.arrange(&shaped, reshape::Reshape { shape }, &[&state]))
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
                    if values.iter().all(|v| v == &values[0]) {
                        (values.first().copied().unwrap_or(0), None)
                    } else {
                        let start = self.start(&name, values, t.shape(), number, &operands[0], node.ins[0], builder)?;
                        (0, Some(start))
                    }
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
