//! Random small networks: whatever the generator proposes and inference accepts is compiled, and compared with the evaluator.

use crate::oracle::{self, Case};
use crate::programs;
use crate::show;
use crate::source::Source;
use sirnn::compile::{Options, Request, compile};
use sirnn::graph::builder::{self, Builder};
use sirnn::graph::ops::scan::{Scan, State, Steps, Yield};
use sirnn::graph::ops::{self, Parameter};
use sirnn::graph::rescale::Shifts;
use sirnn::graph::{Graph, Node, Number, Op, Output, Rescale, Reveal, Tensor, ValueType, Weights};
use sirnn::model::{Description, Items, Model, Results};
use sirnn::protocols::truncation::Rounding;
use std::collections::BTreeMap;

/// Most elements of a value.
const MAX_ELEMENTS: usize = 48;

/// The target.
///
/// # Panics
/// If a program computes other than the evaluator says, or a description does not survive its text.
pub fn check(data: &[u8]) {
    let s = &mut Source::new(data);
    let (profile, backend) = (programs::profile(s), programs::backend(s));
    let (n, tables) = (s.range(1, 3) as usize, s.range(0, 1) == 0);
    let d = description(s);
    let text = d.to_toml();
    show!("{text}");
    assert_eq!(Description::parse(&text).as_ref(), Ok(&d), "a description survives its text");
    let weights = weights(s, &d);
    let model = match Model::new(d, weights) {
        Ok(model) => model,
        Err(e) => panic!("weights as they are declared: {e}"),
    };
    let d = &model.description;
    let steps = d.graph.steps;
    let typed = d.typed(steps).expect("it was accepted");
    let inputs: Vec<Vec<i64>> = typed.values[..d.graph.inputs.len()]
        .iter()
        .map(|v| s.values(n * v.ty.len(), v.ty.number.range()).into_iter().map(|v| v as i64).collect())
        .collect();
    let lengths = (s.one_in(3)).then(|| (0..n).map(|_| s.range(1, steps as u32) as usize).collect());
    let Ok(items) = Items::from_integers(d, steps, &inputs, lengths) else { return };
    let want = match Results::evaluate(d, &model.weights, &items) {
        Ok(want) => want,
        Err(e) => return show!("an item is too short: {e}"),
    };
    let request = Request { items: n, steps: items.steps(), lengths: items.lengths().map(<[usize]>::to_vec) };
    let compiled = match compile(&d.graph, &request, profile, &Options { tables, watch: Vec::new() }) {
        Ok(compiled) => compiled,
        Err(e) => return show!("refused: {e}"),
    };
    let mut inputs = compiled.server_inputs(&model.weights);
    inputs.extend(items.inputs(0..n));
    let outputs: BTreeMap<_, _> = oracle::checked(Case { program: compiled.program, profile, inputs, backend });
    let lengths: Vec<usize> = (0..n).map(|i| items.length(i)).collect();
    let mut got = Results::new(d, items.steps()).expect("it was accepted");
    got.add(&lengths, &outputs).expect("outputs of this network");
    assert_eq!(got, want, "the program differs from the evaluator");
}

/// Random weights within their bounds.
pub fn weights(s: &mut Source, d: &Description) -> Weights {
    let typed = d.typed(d.graph.steps).expect("it was accepted");
    let mut tensor = |p: &ops::ParameterSpec| {
        let values = s.values(p.shape.iter().product(), p.range);
        Tensor::new(p.shape.clone(), values.into_iter().map(|v| v as i64).collect())
    };
    typed.parameters.iter().map(|(name, p)| (name.clone(), tensor(p))).collect()
}

/// A description that inference accepts: a series and a vector come in, some nodes and perhaps a loop follow, the last
/// values go out.
pub fn description(s: &mut Source) -> Description {
    let steps = s.range(1, 4) as usize;
    let inputs = vec![
        builder::series("x", &[s.range(1, 4) as usize], number(s)),
        builder::fixed("s", &[s.range(1, 4) as usize], number(s)),
    ];
    let outputs = vec![builder::output("s", "s", Reveal::Values)];
    let mut graph = Builder::new().finish(steps, inputs, outputs);
    for i in 0..s.range(1, 8) {
        let node = if s.one_in(4) { scan(s, &graph, i) } else { propose(s, &graph.known(), &format!("n{i}")) };
        graph.nodes.push(node);
        if !graph.is_small() {
            graph.nodes.pop();
        }
    }
    let known = graph.known();
    let last = known.len() - 1;
    let reveal = |s: &mut Source, (name, ty): &(String, ValueType)| {
        let reveal = s.pick(&[Reveal::Scores, Reveal::Class, Reveal::Values]);
        let reveal = if ty.shape.is_empty() { Reveal::Values } else { reveal };
        Output { name: name.clone(), value: name.clone(), reveal, labels: Vec::new() }
    };
    graph.outputs = vec![reveal(s, &known[last])];
    if s.one_in(3) && last > 0 {
        graph.outputs.push(reveal(s, &known[last - 1]));
    }
    Description { rounding: rounding(s), ..Description::new("fuzzed", graph) }
}

/// What the generator asks a graph.
trait Known {
    /// Its values outside of loops, by name.
    fn known(&self) -> Vec<(String, ValueType)>;
    /// Whether inference accepts it and nothing in it is large.
    fn is_small(&self) -> bool;
}

impl Known for Graph {
    fn known(&self) -> Vec<(String, ValueType)> {
        let typed = self.infer(self.steps).expect("only accepted nodes are kept");
        let outer = typed.values.iter().filter(|v| !v.name.contains('/'));
        outer.map(|v| (v.name.clone(), v.ty.clone())).collect()
    }

    fn is_small(&self) -> bool {
        let typed = self.infer(self.steps);
        typed.is_ok_and(|t| t.values.iter().all(|v| v.ty.len() <= MAX_ELEMENTS && v.ty.number.bits <= 40))
    }
}

fn rounding(s: &mut Source) -> Rounding {
    s.pick(&Rounding::ALL)
}

fn number(s: &mut Source) -> Number {
    let bits = if s.one_in(4) { s.range(1, 32) } else { s.range(2, 16) };
    Number { bits, scale: s.range(0, 14) as i32, unsigned: s.one_in(8) }
}

fn rescale(s: &mut Source, channels: usize) -> Rescale {
    let few = |s: &mut Source| if s.one_in(3) { s.range(0, 12) } else { 0 };
    let shift = if s.one_in(6) {
        Shifts::Channels((0..channels).map(|_| s.range(0, 12)).collect())
    } else {
        Shifts::All(s.range(0, 16))
    };
    let floor = few(s);
    Rescale { floor, shift, left: few(s), rounding: rounding(s) }
}

/// A node that may make sense.
fn propose(s: &mut Source, known: &[(String, ValueType)], name: &str) -> Node {
    let pick = |s: &mut Source| known[known.len() - 1 - s.below(known.len())].clone();
    let (a, ty) = pick(s);
    let (b, _) = pick(s);
    let (channels, rank) = (ty.shape.last().copied().unwrap_or(1), ty.shape.len().max(1));
    let axis = s.below(rank);
    let out = number(s);
    let columns = s.range(1, 4) as usize;
    let tensor = Parameter::new(format!("{name}.w"), s.range(2, 12));
    let none = Rescale::default;
    let (op, ins, out): (Op, Vec<String>, Option<Number>) = match s.range(0, 22) {
        0 | 1 => {
            let op = ops::matmul::MatMul { weights: tensor, columns, rescale: rescale(s, columns) };
            (op.into(), vec![a], Some(out))
        }
        2 => {
            let rescale = rescale(s, channels);
            (ops::scale::Scale { weights: tensor, shape: None, rescale }.into(), vec![a], Some(out))
        }
        3 => {
            let (operand, rescale) = (rescale(s, channels), rescale(s, channels));
            let op = ops::bias::Bias { bias: tensor, shape: None, operand, rescale_bias: none(), rescale };
            (op.into(), vec![a], Some(out))
        }
        4 => (ops::mul::Mul { rescale: rescale(s, channels) }.into(), vec![a, b], Some(out)),
        5 => (ops::matmul_shared::MatMulShared { rescale: none() }.into(), vec![a, b], Some(out)),
        6 | 7 => {
            let term = |s: &mut Source| ops::add::Term { minus: s.one_in(2), rescale: rescale(s, channels) };
            let terms = vec![term(s), term(s)];
            let op = ops::add::Add { terms, constant: s.range(0, 300).into(), rescale: rescale(s, channels) };
            (op.into(), vec![a, b], Some(out))
        }
        8 => (ops::sum::Sum { axes: vec![axis], rescale: none() }.into(), vec![a], Some(out)),
        9 => (ops::sum::Mean { axes: vec![axis], rounding: rounding(s) }.into(), vec![a], Some(out)),
        10 => (ops::rescaling::Rescaling { rescale: rescale(s, channels) }.into(), vec![a], Some(out)),
        11 => (ops::activation::Sigmoid {}.into(), vec![a], Some(out)),
        12 => (ops::activation::Tanh {}.into(), vec![a], Some(out)),
        13 => (ops::clip::Relu { rescale: rescale(s, channels) }.into(), vec![a], Some(out)),
        14 => {
            let (low, high) = (-i64::from(s.range(0, 100)), s.range(0, 100).into());
            (ops::clip::Clip { low, high, rescale: rescale(s, channels) }.into(), vec![a], Some(out))
        }
        15 => {
            let function = s.pick(&["gelu", "sigmoid", "log", "square"]).to_string();
            (ops::table::Table { function }.into(), vec![a], Some(out))
        }
        16 => {
            let (kernel, padding) = (vec![s.range(1, 3) as usize], vec![[s.below(2), s.below(2)]]);
            let op = ops::conv::Conv {
                weights: tensor,
                filters: columns,
                kernel,
                stride: vec![s.range(1, 2) as usize],
                dilation: Vec::new(),
                padding,
                groups: 1,
                rescale: rescale(s, columns),
            };
            (op.into(), vec![a], Some(out))
        }
        17 => {
            let size = vec![s.range(1, 3) as usize];
            (ops::pool::MaxPool { size, stride: Vec::new(), padding: Vec::new() }.into(), vec![a], None)
        }
        18 => (ops::select::ArgMax { axis }.into(), vec![a], None),
        19 => (ops::reverse::Reverse { axis }.into(), vec![a], None),
        20 => (ops::concat::Concat { axis }.into(), vec![a, b], None),
        21 => {
            let indices = (0..s.range(1, 3)).map(|_| s.below(4) as u32).collect();
            (ops::gather::Gather { axis, indices }.into(), vec![a], None)
        }
        _ => (ops::transpose::Transpose { axes: (0..rank).rev().collect() }.into(), vec![a], None),
    };
    Node { name: name.into(), op, ins, out }
}

/// A loop over the series, whose state is rescaled from the last value of the body.
fn scan(s: &mut Source, graph: &Graph, i: u32) -> Node {
    let known = graph.known();
    let (operand, ty) = known[s.below(known.len())].clone();
    let slice = ValueType { shape: ty.shape.get(1..).unwrap_or(&[]).to_vec(), timed: false, ..ty };
    let state = number(s);
    let param = ValueType { shape: slice.shape.clone(), number: state, timed: false };
    let mut inner = vec![("slice".to_string(), slice.clone()), ("h".to_string(), param)];
    let mut body: Vec<Node> = Vec::new();
    for j in 0..s.range(1, 4) {
        let node = propose(s, &inner, &format!("b{i}.{j}"));
        // Only what keeps the shape may become the state.
        let ins: Vec<ValueType> =
            node.ins.iter().map(|n| inner.iter().find(|(name, _)| name == n).expect("known").1.clone()).collect();
        if let Ok(types) = node.op.infer(ops::Place { ins: &ins, out: node.out })
            && let [one] = &types[..]
            && one.shape == slice.shape
        {
            inner.push((node.name.clone(), one.clone()));
            body.push(node);
        }
    }
    let from = inner.last().expect("it has a slice").0.clone();
    let op = ops::rescaling::Rescaling { rescale: rescale(s, 1) };
    body.push(Node { name: "next".into(), op: op.into(), ins: vec![from], out: Some(state) });
    let steps = s.pick(&[Steps::Last, Steps::Every]);
    let init = if s.one_in(3) { state.range().1 as i64 } else { 0 };
    let state = State { name: "h".into(), next: "next".into(), shape: slice.shape, number: state, init, from: None };
    let result = Yield { name: "out".into(), value: "next".into(), steps };
    let (slices, reverse) = (vec!["slice".into()], s.one_in(3));
    let op = Scan { reverse, slices, states: vec![state], yields: vec![result], body };
    Node { name: format!("n{i}"), op: op.into(), ins: vec![operand], out: None }
}
