//! Random graphs with random weights: what two parties compute for a batch is what the evaluator says of every item alone.
//!
//! A node that operands or parameters do not suit is left out; what is left is inferred, compiled with and without tables, and
//! judged by the [`oracle`].

use crate::files;
use crate::oracle::{self, Case};
use crate::programs;
use crate::show;
use crate::source::Source;
use sirnn::compile::{self, Options, Request};
use sirnn::fixed::nearest;
use sirnn::graph::ops::scan::{Scan, State, Steps, Yield};
use sirnn::graph::ops::{
    Op, Parameter, Place, activation, add, bias, clip, concat, conv, div, gather, l2_normalise, matmul, matmul_shared,
    mul, pad, patches, pool, rescaling, reshape, reverse, scale, select, slice, softmax, sum, table, transpose,
};
use sirnn::graph::rescale::Shifts;
use sirnn::graph::{
    Dim, Graph, Input, Node, Number, Output, Rescale, Reveal, Tensor, ValueId, ValueType, Weights, evaluate,
};
use sirnn::model::Description;
use sirnn::protocols::truncation::Rounding;
use sirnn::run::Inputs;

/// Elements of a value of one item.
const MAX_ELEMENTS: usize = 96;

/// The target.
///
/// # Panics
/// If a compiled graph computes other than the evaluator.
pub fn check(data: &[u8]) {
    let s = &mut Source::new(data);
    let profiles = [programs::profile(s), programs::profile(s)];
    let backend = programs::backend(s);
    let mut graph = graph(s);
    show!("{}", Description::new("fuzzed", graph.clone()).to_toml());
    let full = match graph.infer(graph.steps) {
        Ok(typed) => typed,
        Err(e) => return show!("refused: {e}"),
    };
    let weights = weights(s, &full.parameters);
    if s.range(0, 2) == 0 {
        graph.fits = compile::prove(&graph, &weights);
        show!("fits: {:?}", graph.fits);
    }
    let request = request(s, &graph);
    if let Err(e) = graph.infer(request.steps) {
        return show!("refused: {e}");
    }
    show!("{request:?}");
    let items: Vec<Vec<Tensor>> = (0..request.items).map(|_| item(s, &graph, request.steps)).collect();
    let expected = expected(&graph, &request, &weights, &items);
    for (tables, profile) in [false, true].into_iter().zip(profiles) {
        let compiled = match compile::compile(&graph, &request, profile, &Options { tables, watch: Vec::new() }) {
            Ok(compiled) => compiled,
            Err(e) => {
                show!("refused: {e}");
                continue;
            }
        };
        let expected = expected.as_ref().expect("a batch is refused if one of its items is");
        let mut inputs: Inputs = compiled.server_inputs(&weights);
        for (i, input) in graph.inputs.iter().enumerate() {
            let values = items.iter().flat_map(|item| &item[i].data).map(|&v| v.into()).collect();
            inputs.insert(input.name.clone(), values);
        }
        let outputs = oracle::checked(Case { program: compiled.program, profile, inputs, backend });
        assert_eq!(outputs, *expected, "with tables: {tables}");
    }
}

/// A description of a random graph that inference accepts.
pub fn description(s: &mut Source) -> Description {
    let graph = graph(s);
    match graph.infer(graph.steps) {
        Ok(_) => Description::new("fuzzed", graph),
        Err(_) => files::small(),
    }
}

/// What the outputs are, by the evaluator, item by item; none if one of them is refused.
fn expected(graph: &Graph, request: &Request, weights: &Weights, items: &[Vec<Tensor>]) -> Option<oracle::Outputs> {
    let mut outputs = oracle::Outputs::new();
    for (b, item) in items.iter().enumerate() {
        let steps = request.lengths.as_ref().map_or(request.steps, |l| l[b]);
        let typed = graph.infer(steps).ok()?;
        let cut = |(i, x): (usize, &Tensor)| {
            let ty = typed.ty(ValueId(i as u32));
            Tensor::new(ty.shape.clone(), x.data[..ty.len()].to_vec())
        };
        let own: Vec<Tensor> = item.iter().enumerate().map(cut).collect();
        for (output, value) in graph.outputs.iter().zip(evaluate(&typed, weights, &own)) {
            if output.reveal != Reveal::Values {
                let classes = *value.shape.last().expect("scores are rows");
                let class = |row: &[i64]| {
                    let most = row.iter().max().expect("a row has numbers");
                    row.iter().position(|v| v == most).expect("it is there") as i128
                };
                let all = value.data.chunks(classes).map(class);
                outputs.entry(format!("{}.class", output.name)).or_default().extend(all);
            }
            if output.reveal != Reveal::Class {
                let all = value.data.iter().map(|&v| i128::from(v));
                outputs.entry(output.name.clone()).or_default().extend(all);
            }
        }
    }
    Some(outputs)
}

/// Values for all tensors of the server.
pub fn weights(
    s: &mut Source,
    parameters: &std::collections::BTreeMap<String, sirnn::graph::ops::ParameterSpec>,
) -> Weights {
    let tensor = |(name, spec): (&String, &sirnn::graph::ops::ParameterSpec)| {
        let data = s.values(spec.shape.iter().product(), spec.range).into_iter().map(|v| v as i64).collect();
        (name.clone(), Tensor::new(spec.shape.clone(), data))
    };
    parameters.iter().map(tensor).collect()
}

/// A batch: as a rule fewer steps than the graph is for, and sometimes items of different length.
fn request(s: &mut Source, graph: &Graph) -> Request {
    let items = s.range(1, 3) as usize;
    if graph.steps == 0 {
        return Request { items, steps: 0, lengths: None };
    }
    let steps = graph.steps - s.below(graph.steps);
    let lengths = (s.range(0, 1) == 1).then(|| (0..items).map(|_| 1 + s.below(steps)).collect());
    Request { items, steps, lengths }
}

/// The client's values of one item.
fn item(s: &mut Source, graph: &Graph, steps: usize) -> Vec<Tensor> {
    let input = |input: &Input| {
        let size = |d: &Dim| match *d {
            Dim::Size(n) => n,
            Dim::Steps => steps,
        };
        let shape: Vec<usize> = input.shape.iter().map(size).collect();
        let values = s.values(shape.iter().product(), input.number.range());
        Tensor::new(shape, values.into_iter().map(|v| v as i64).collect())
    };
    graph.inputs.iter().map(input).collect()
}

/// A graph that makes sense as a rule.
pub fn graph(s: &mut Source) -> Graph {
    let timed = s.range(0, 1) == 0;
    let steps = if timed { s.range(1, 4) as usize } else { 0 };
    let mut generator = Generator { count: 0, values: Vec::new() };
    let mut inputs = Vec::new();
    for i in 0..s.range(1, 3) {
        let mut shape: Vec<Dim> = shape(s).into_iter().map(Dim::Size).collect();
        if timed && (i == 0 || s.range(0, 1) == 0) {
            shape.insert(0, Dim::Steps);
        }
        let number = number(s);
        let name = format!("x{i}");
        let sizes = shape.iter().map(|d| if let Dim::Size(n) = *d { n } else { steps }).collect();
        let ty = ValueType { shape: sizes, number, timed: shape.first() == Some(&Dim::Steps) };
        generator.values.push((name.clone(), ty));
        inputs.push(Input { name, shape, number });
    }
    let mut nodes = Vec::new();
    for _ in 0..s.range(1, 8) {
        if s.range(0, 5) == 5 {
            generator.scan(s, &mut nodes);
        } else {
            generator.node(s, &mut nodes);
        }
    }
    let output = |s: &mut Source, i: u32| {
        let (value, ty) = generator.pick(s);
        let reveal = match s.range(0, 3) {
            _ if ty.shape.is_empty() => Reveal::Values,
            2 => Reveal::Scores,
            3 => Reveal::Class,
            _ => Reveal::Values,
        };
        Output { name: format!("y{i}"), value, reveal, labels: Vec::new() }
    };
    let outputs = (0..s.range(1, 3)).map(|i| output(s, i)).collect();
    Graph { steps, inputs, nodes, outputs, fits: Vec::new() }
}

/// A few axes of a few entries.
fn shape(s: &mut Source) -> Vec<usize> {
    let axes = s.pick(&[1, 2, 3, 0, 2, 3]);
    (0..axes).map(|_| s.range(1, 4) as usize).collect()
}

/// A format.
fn number(s: &mut Source) -> Number {
    let bits = match s.range(0, 15) {
        15 => s.range(1, 63),
        13..=14 => s.range(1, 32),
        8..=12 => s.range(1, 16),
        _ => s.range(1, 10),
    };
    let scale = match s.range(0, 9) {
        8 => s.range(0, 40) as i32 - 20,
        9 => bits as i32 - 1,
        _ => s.range(0, bits.min(14)) as i32,
    };
    Number { bits, scale, unsigned: s.range(0, 5) == 5 }
}

fn rounding(s: &mut Source) -> Rounding {
    s.pick(&Rounding::ALL)
}

/// A rescale for a last axis of some channels.
fn rescale(s: &mut Source, channels: usize) -> Rescale {
    let few = |s: &mut Source| match s.range(0, 7) {
        0..=3 => 0,
        7 => s.range(0, 63),
        _ => s.range(0, 6),
    };
    let shift = |s: &mut Source| if s.one_in(16) { s.range(0, 40) } else { s.range(0, 12) };
    let shifts = match s.range(0, 7) {
        0..=1 => Shifts::All(0),
        7 => Shifts::Channels((0..channels).map(|_| s.range(0, 6)).collect()),
        _ => Shifts::All(shift(s)),
    };
    Rescale { floor: few(s), shift: shifts, left: few(s), rounding: rounding(s) }
}

/// Values that nodes may read, by the name that they read them under.
struct Generator {
    /// Nodes so far: each has a name of its own.
    count: usize,
    values: Vec<(String, ValueType)>,
}

impl Generator {
    /// A value, as a rule one of the last.
    fn pick(&self, s: &mut Source) -> (String, ValueType) {
        let n = self.values.len();
        let at = if s.range(0, 1) == 0 { n - 1 - s.below(n.min(3)) } else { s.below(n) };
        self.values[at].clone()
    }

    fn name(&mut self) -> String {
        self.count += 1;
        format!("n{}", self.count)
    }

    /// Adds a node unless it makes no sense; says whether it did.
    fn push(&mut self, nodes: &mut Vec<Node>, op: Op, ins: &[(String, ValueType)], out: Option<Number>) -> bool {
        let types: Vec<ValueType> = ins.iter().map(|x| x.1.clone()).collect();
        let place = Place { ins: &types, out };
        let results = match op.infer(place) {
            Ok(results) => results,
            Err(e) => {
                show!("left out: {} of {types:?}: {e}", op.name());
                return false;
            }
        };
        let elements = |shapes: &mut dyn Iterator<Item = &Vec<usize>>| -> usize {
            shapes.map(|shape| shape.iter().product::<usize>()).max().unwrap_or(0)
        };
        let parameters = op.parameters(place);
        let results_len = elements(&mut results.iter().map(|ty| &ty.shape));
        if results_len > MAX_ELEMENTS || elements(&mut parameters.iter().map(|p| &p.shape)) > 2 * MAX_ELEMENTS {
            return false;
        }
        let name = self.name();
        let several = results.len() > 1;
        for (i, ty) in results.into_iter().enumerate() {
            self.values.push((if several { format!("{name}.{i}") } else { name.clone() }, ty));
        }
        nodes.push(Node { name, op, ins: ins.iter().map(|x| x.0.clone()).collect(), out });
        true
    }

    fn parameter(&self, s: &mut Source) -> Parameter {
        let bits = if s.one_in(8) { s.range(1, 32) } else { s.range(1, 10) };
        let parameter = Parameter::new(format!("w{}", self.count), bits);
        if s.range(0, 3) < 3 {
            return parameter;
        }
        let ends = s.values(2, sirnn::program::signed(bits));
        let ends = [ends[0].min(ends[1]), ends[0].max(ends[1])].map(|v| v as i64);
        parameter.within(ends[0], ends[1])
    }

    /// The shape of a vector that may be broadcast to `to`.
    fn vector(&self, s: &mut Source, to: &[usize]) -> Option<Vec<usize>> {
        let cut = s.below(to.len() + 1);
        let some = s.range(0, 1) == 0;
        some.then(|| to[cut..].iter().map(|&n| if s.range(0, 3) == 3 { 1 } else { n }).collect())
    }

    /// Adds one operation of any kind but a loop.
    fn node(&mut self, s: &mut Source, nodes: &mut Vec<Node>) {
        let x = self.pick(s);
        let out = number(s);
        let shape = x.1.shape.clone();
        let (rank, channels) = (shape.len(), shape.last().copied().unwrap_or(1));
        let axis = s.below(rank.max(1));
        let one = std::slice::from_ref(&x);
        // The format that a function has in common with its operand, as a rule.
        let mut keeps = false;
        let mut ins = one.to_vec();
        let op: Op = match s.range(0, 34) {
            0 => {
                let columns = s.range(1, 5) as usize;
                matmul::MatMul { weights: self.parameter(s), columns, rescale: rescale(s, columns) }.into()
            }
            1 => self.convolution(s, &shape).into(),
            2 => scale::Scale {
                weights: self.parameter(s),
                shape: self.vector(s, &shape),
                rescale: rescale(s, channels),
            }
            .into(),
            3 => {
                let rescale_bias = Rescale { shift: Shifts::All(s.range(0, 6)), ..rescale(s, channels) };
                let operand = if s.range(0, 2) < 2 { Rescale::default() } else { rescale(s, channels) };
                let bias = self.parameter(s);
                bias::Bias { bias, shape: self.vector(s, &shape), operand, rescale_bias, rescale: rescale(s, channels) }
                    .into()
            }
            4 => {
                ins.push(self.pick(s));
                matmul_shared::MatMulShared { rescale: rescale(s, ins[1].1.shape.last().copied().unwrap_or(1)) }.into()
            }
            5 | 6 => {
                ins.push(self.pick(s));
                mul::Mul { rescale: rescale(s, channels) }.into()
            }
            7 | 8 => {
                for _ in 0..s.range(0, 2) {
                    ins.push(self.pick(s));
                }
                let term = |s: &mut Source, x: &(String, ValueType)| add::Term {
                    minus: s.range(0, 2) == 2,
                    rescale: match s.range(0, 2) {
                        2 => rescale(s, x.1.shape.last().copied().unwrap_or(1)),
                        _ => Rescale::default(),
                    },
                };
                let terms = if s.range(0, 1) == 0 { Vec::new() } else { ins.iter().map(|x| term(s, x)).collect() };
                let constant = if s.range(0, 2) < 2 { 0 } else { s.range(0, 2000) as i64 - 1000 };
                add::Add { terms, constant, rescale: rescale(s, channels) }.into()
            }
            9 => {
                let axes = axes(s, rank);
                let last = (0..rank).rev().find(|a| !axes.contains(a)).map_or(1, |a| shape[a]);
                sum::Sum { axes, rescale: rescale(s, last) }.into()
            }
            10 => sum::Mean { axes: axes(s, rank), rounding: rounding(s) }.into(),
            11 | 12 => rescaling::Rescaling { rescale: rescale(s, channels) }.into(),
            13 => activation::Sigmoid {}.into(),
            14 => activation::Tanh {}.into(),
            15 => activation::Exp {}.into(),
            16 => activation::Reciprocal {}.into(),
            17 => activation::Rsqrt {}.into(),
            18 => activation::Sqrt {}.into(),
            19 => clip::Relu { rescale: rescale(s, channels) }.into(),
            20 => {
                let ends = s.values(2, x.1.number.range());
                let (low, high) = (ends[0].min(ends[1]) as i64, ends[0].max(ends[1]) as i64);
                clip::Clip { low, high, rescale: rescale(s, channels) }.into()
            }
            21 => {
                if x.1.number.bits > 10 {
                    return;
                }
                table::Table { function: s.pick(nearest::NAMES).into() }.into()
            }
            22 => {
                ins.push(self.pick(s));
                div::Div {}.into()
            }
            23 | 24 => {
                let (size, stride, padding) = windows(s, rank);
                if s.range(0, 1) == 0 {
                    keeps = true;
                    pool::MaxPool { size, stride, padding }.into()
                } else {
                    pool::AvgPool { size, stride, padding, rounding: rounding(s) }.into()
                }
            }
            25 => {
                keeps = true;
                if s.range(0, 1) == 0 { select::Max { axis }.into() } else { select::ArgMax { axis }.into() }
            }
            26 => l2_normalise::L2Normalise { shift: s.range(2, 8), rounding: rounding(s) }.into(),
            27 => softmax::Softmax {}.into(),
            kind => {
                keeps = true;
                self.movement(s, kind, &mut ins, axis)
            }
        };
        self.push(nodes, op, &ins, (!keeps).then_some(out));
    }

    fn convolution(&self, s: &mut Source, shape: &[usize]) -> conv::Conv {
        let spatial = shape.len().saturating_sub(1);
        let channels = shape.last().copied().unwrap_or(1);
        let groups = if s.range(0, 1) == 0 { 1 } else { channels };
        let filters = groups * s.range(1, 3) as usize;
        let (kernel, stride, mut padding) = windows(s, shape.len());
        let dilation = match s.range(0, 2) {
            2 => (0..spatial).map(|_| s.range(1, 3) as usize).collect(),
            _ => Vec::new(),
        };
        if s.one_in(4) {
            padding = (0..spatial).map(|_| [s.below(4), s.below(4)]).collect();
        }
        let rescale = rescale(s, filters);
        conv::Conv { weights: self.parameter(s), filters, kernel, stride, dilation, padding, groups, rescale }
    }

    /// An operation that moves elements.
    fn movement(&self, s: &mut Source, kind: u32, ins: &mut Vec<(String, ValueType)>, axis: usize) -> Op {
        let ty = ins[0].1.clone();
        let (rank, size) = (ty.shape.len(), ty.shape.get(axis).copied().unwrap_or(1));
        match kind {
            28 => {
                let mut rest = ty.len();
                let mut sizes: Vec<i64> = Vec::new();
                for _ in 0..s.range(0, 3) {
                    let n = (1..=rest).filter(|n| rest % n == 0).nth(s.below(3)).unwrap_or(rest);
                    sizes.push(n as i64);
                    rest /= n;
                }
                sizes.push(rest as i64);
                if ty.timed && s.range(0, 2) > 0 {
                    sizes = vec![-1, (ty.len() / ty.shape[0]) as i64];
                }
                if s.one_in(4) {
                    let at = s.below(sizes.len());
                    sizes[at] = -1;
                }
                reshape::Reshape { shape: sizes }.into()
            }
            29 => {
                let mut axes: Vec<usize> = (0..rank).collect();
                for i in (1..rank).rev() {
                    axes.swap(i, s.below(i + 1));
                }
                transpose::Transpose { axes }.into()
            }
            30 => {
                if s.range(0, 1) == 0 && size > 1 {
                    let first = 1 + s.below(size - 1);
                    return slice::Split { axis, sizes: vec![first, size - first] }.into();
                }
                let start = s.below(size) as i64;
                let end = (s.range(0, 1) == 0).then(|| start + 1 + s.below(size - start as usize) as i64);
                let start = if s.range(0, 3) == 3 { start - size as i64 } else { start };
                slice::Slice { axis, start, end, step: s.range(1, 3) as usize }.into()
            }
            31 => {
                for _ in 0..s.range(1, 2) {
                    let near = |x: &&(String, ValueType)| x.1.number == ty.number && x.1.shape.len() == rank;
                    let candidates: Vec<_> = self.values.iter().filter(near).cloned().collect();
                    ins.push(s.pick(&candidates));
                }
                concat::Concat { axis }.into()
            }
            32 => {
                let padding = (0..rank).map(|_| [s.below(3), s.below(3)]).collect();
                pad::Pad { padding, border: s.pick(&[pad::Border::Zero, pad::Border::Edge]) }.into()
            }
            33 => {
                let indices = (0..s.range(1, 5)).map(|_| s.below(size) as u32).collect();
                gather::Gather { axis, indices }.into()
            }
            _ if s.range(0, 1) == 0 => reverse::Reverse { axis }.into(),
            _ => {
                let mut pair = || [s.range(1, 3) as usize, s.range(1, 3) as usize];
                patches::Patches { size: pair(), stride: pair() }.into()
            }
        }
    }

    /// Adds a loop.
    fn scan(&mut self, s: &mut Source, nodes: &mut Vec<Node>) {
        let first = self.pick(s);
        let Some(&trips) = first.1.shape.first() else { return };
        let mut ins = vec![first.clone()];
        for _ in 0..s.range(0, 2) {
            let other = self.pick(s);
            if other.1.shape.first() == Some(&trips) && other.1.timed == first.1.timed {
                ins.push(other);
            }
        }
        let name = self.name();
        let mut inner = Generator { count: 100 * self.count, values: self.values.clone() };
        let outside = inner.values.len();
        let mut slices = Vec::new();
        for x in &ins {
            let slice = format!("s{}", slices.len());
            let ty = ValueType { shape: x.1.shape[1..].to_vec(), number: x.1.number, timed: false };
            inner.values.push((slice.clone(), ty));
            slices.push(slice);
        }
        let mut states = Vec::new();
        for i in 0..s.range(1, 3) {
            let mut state = State {
                name: format!("h{i}"),
                next: String::new(),
                shape: shape(s),
                number: number(s),
                init: 0,
                from: None,
            };
            match s.range(0, 5) {
                0..=1 => state.shape = ins[0].1.shape[1..].to_vec(),
                4 => state.init = s.values(1, state.number.range())[0] as i64,
                5 => {
                    let from = self.pick(s);
                    (state.shape, state.number, state.from) = (from.1.shape, from.1.number, Some(from.0));
                }
                _ => {}
            }
            let ty = ValueType { shape: state.shape.clone(), number: state.number, timed: false };
            if ty.len() > MAX_ELEMENTS {
                return;
            }
            inner.values.push((state.name.clone(), ty));
            states.push(state);
        }
        let mut body = Vec::new();
        for _ in 0..s.range(0, 6) {
            inner.node(s, &mut body);
        }
        for state in &mut states {
            state.next = inner.next(s, state, &mut body);
        }
        let own = inner.values[outside..].to_vec();
        let mut yields = Vec::new();
        let mut types = Vec::new();
        for i in 0..s.range(1, 3) {
            let (value, ty) = if s.range(0, 1) == 0 { own[own.len() - 1].clone() } else { s.pick(&own) };
            let steps = s.pick(&[Steps::Last, Steps::Every]);
            let result = format!("r{i}");
            let every = steps == Steps::Every;
            let shape = if every { [&[trips], &ty.shape[..]].concat() } else { ty.shape };
            let ty = ValueType { shape, number: ty.number, timed: every && first.1.timed };
            types.push((format!("{name}.{result}"), ty));
            yields.push(Yield { name: result, value, steps });
        }
        let reverse = s.range(0, 2) == 2;
        let scan = Scan { reverse, slices, states, yields, body };
        self.values.extend(types);
        let ins = ins.into_iter().map(|x| x.0).collect();
        nodes.push(Node { name, op: scan.into(), ins, out: None });
    }

    /// A value of a state's type.
    fn next(&mut self, s: &mut Source, state: &State, body: &mut Vec<Node>) -> String {
        let ty = ValueType { shape: state.shape.clone(), number: state.number, timed: false };
        let h = (state.name.clone(), ty.clone());
        let channels = ty.shape.last().copied().unwrap_or(1);
        let candidates: Vec<_> = self.values.iter().filter(|x| x.1.shape == ty.shape).cloned().collect();
        let x = candidates[candidates.len() - 1 - s.below(candidates.len().min(4))].clone();
        let other = self.pick(s);
        let sum = add::Add { rescale: rescale(s, channels), ..add::Add::default() };
        let (op, ins): (Op, Vec<_>) = match s.range(0, 5) {
            0 => (sum.into(), vec![h.clone(), x]),
            1 => (mul::Mul { rescale: rescale(s, channels) }.into(), vec![h.clone(), other]),
            2 => (activation::Tanh {}.into(), vec![x]),
            3 => (sum.into(), vec![h.clone(), other]),
            4 => (activation::Sigmoid {}.into(), vec![x]),
            _ => (rescaling::Rescaling { rescale: rescale(s, channels) }.into(), vec![x]),
        };
        let right = |values: &[(String, ValueType)]| {
            values.last().is_some_and(|x| x.1.shape == ty.shape).then(|| values[values.len() - 1].0.clone())
        };
        if self.push(body, op, &ins, Some(state.number))
            && let Some(name) = right(&self.values)
        {
            return name;
        }
        assert!(self.push(body, rescaling::Rescaling::default().into(), &[h], Some(state.number)), "it always fits");
        self.values[self.values.len() - 1].0.clone()
    }
}

/// Some axes, in order.
fn axes(s: &mut Source, rank: usize) -> Vec<usize> {
    let chosen: Vec<usize> = (0..rank).filter(|_| s.range(0, 1) == 0).collect();
    if chosen.is_empty() { vec![rank.saturating_sub(1)] } else { chosen }
}

/// Sizes, strides and padding of windows over a value of some rank.
fn windows(s: &mut Source, rank: usize) -> (Vec<usize>, Vec<usize>, Vec<[usize; 2]>) {
    let spatial = rank.saturating_sub(1);
    let size: Vec<usize> = (0..spatial).map(|_| s.range(1, 3) as usize).collect();
    let stride = match s.range(0, 1) {
        0 => Vec::new(),
        _ => (0..spatial).map(|_| s.range(1, 3) as usize).collect(),
    };
    let padding = match s.range(0, 1) {
        0 => Vec::new(),
        _ => size.iter().map(|&n| [s.below(n), s.below(n)]).collect(),
    };
    (size, stride, padding)
}
