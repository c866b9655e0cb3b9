//! Recurrent cells as bodies of loops.
//!
//! A [`Cell`] says what one step does with its entry `x` and its state `h`; [`append`] makes a loop of it, forward or reverse,
//! [`bidirectional`] two and the concatenation of their results, [`stack`] one layer on top of another. With `R` for the rescale
//! of each product or sum:
//!
//! | cell | step |
//! |---|---|
//! | [`Rnn`] | `h' = f(W x + U h + b)` |
//! | [`FastRnn`] | `h' = alpha f(W x + U h + b) + beta h` |
//! | [`FastGrnn`] | `c = W x + U h`, `g = sigmoid(c + b_g)`, `t = tanh(c + b_t)`, `h' = (zeta (1 - g) + nu) t + g h` |
//! | [`Lstm`] | `i, f, g, o = W x + U h + b`, `c' = sigmoid(f) c + sigmoid(i) tanh(g)`, `h' = sigmoid(o) tanh(c')` |
//! | [`Gru`] | `z, r = sigmoid(W x + U h + b)`, `n` as below, `h' = (1 - z) n + z h` |
//!
//! `W` and `U` are chains of products, so that they may be of low rank. `n = tanh(W_n x + U_n (r h) + b_n)`, or `tanh(W_n x + b_n +
//! r (U_n h + b_u))` where the product is made before the reset. What does not depend on the state is moved before the loop by the
//! compiler.

use super::builder::{Body, Builder};
use super::ops::activation::{Sigmoid, Tanh};
use super::ops::add::{Add, Term};
use super::ops::bias::Bias;
use super::ops::concat::Concat;
use super::ops::matmul::MatMul;
use super::ops::mul::Mul;
use super::ops::scale::Scale;
use super::ops::scan::Steps;
use super::ops::slice::Split;
use super::ops::{Op, Parameter};
use super::{Number, Rescale};
use crate::protocols::truncation::Rounding;

/// A recurrent cell.
pub trait Cell {
    /// Units of the hidden state.
    fn hidden(&self) -> usize;

    /// One step: from `x`, the loop's only operand, and the state `h` to the next state, called `h_next`. States have the axes `rows`
    /// before that of the units: independent sequences of one item.
    fn body(&self, rows: &[usize]) -> Body;
}

/// Which way a layer reads its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the first step to the last.
    Forward,
    /// From the last step to the first.
    Reverse,
}

/// A layer of a stack: one direction, or a cell for each with the results concatenated.
pub enum Layer<'c> {
    /// One direction.
    One(&'c dyn Cell, Direction),
    /// Forward and reverse.
    Bidirectional(&'c dyn Cell, &'c dyn Cell),
}

/// How a cell is looped.
#[derive(Clone, Debug)]
pub struct Loop<'a> {
    /// Which way.
    pub direction: Direction,
    /// Axes of the state before that of the units: independent sequences of one item.
    pub rows: &'a [usize],
    /// The value that `h` starts with; by default zeros.
    pub initial: Option<&'a str>,
    /// Which states are handed out.
    pub steps: Steps,
}

/// Appends a loop of `cell` over the first axis of `x`. Returns the name of its hidden states, `[steps, rows.., hidden]` or, of the
/// last step, `[rows.., hidden]`.
pub fn append(builder: &mut Builder, name: &str, x: &str, cell: &dyn Cell, how: &Loop<'_>) -> String {
    let mut body = cell.body(how.rows);
    body.reverse = how.direction == Direction::Reverse;
    body.slices = vec!["x".into()];
    for state in body.states.iter_mut().filter(|state| state.name == "h") {
        state.from = how.initial.map(Into::into);
    }
    body.hand_out("h", "h_next", how.steps);
    builder.scan(name, &[x], body);
    format!("{name}.h")
}

/// Appends a loop forward and one in reverse, and their results one after the other in the last axis.
pub fn bidirectional(
    builder: &mut Builder,
    name: &str,
    x: &str,
    [forward, reverse]: [&dyn Cell; 2],
    rows: &[usize],
    steps: Steps,
) -> String {
    let mut part = |suffix: &str, cell, direction| {
        append(builder, &format!("{name}.{suffix}"), x, cell, &Loop { direction, rows, initial: None, steps })
    };
    let forward = part("forward", forward, Direction::Forward);
    let reverse = part("reverse", reverse, Direction::Reverse);
    let axis = rows.len() + usize::from(steps == Steps::Every);
    builder.arrange(name, Concat { axis }, &[&forward, &reverse])
}

/// Appends layers, each reading all states of the one before; `steps` are those of the last.
pub fn stack(builder: &mut Builder, name: &str, x: &str, layers: &[Layer<'_>], rows: &[usize], steps: Steps) -> String {
    let mut x = x.to_string();
    for (i, layer) in layers.iter().enumerate() {
        let steps = if i + 1 == layers.len() { steps } else { Steps::Every };
        let name = format!("{name}.{i}");
        x = match *layer {
            Layer::One(cell, direction) => {
                append(builder, &name, &x, cell, &Loop { direction, rows, initial: None, steps })
            }
            Layer::Bidirectional(forward, reverse) => {
                bidirectional(builder, &name, &x, [forward, reverse], rows, steps)
            }
        };
    }
    x
}

/// One matrix of a chain.
#[derive(Clone, Debug)]
pub struct Product {
    /// The matrix and its rescale.
    pub op: MatMul,
    /// Format of the result.
    pub out: Number,
}

/// `wrap(R(R(W x) + R(U h)))`, then perhaps a bias. Where several gates share it, their columns follow one another.
#[derive(Clone, Debug)]
pub struct Preactivation {
    /// `W`, product after product.
    pub input: Vec<Product>,
    /// `U`, product after product.
    pub state: Vec<Product>,
    /// The sum of both; two terms.
    pub sum: Add,
    /// Format of the sum.
    pub out: Number,
    /// The bias and the format of the sum with it.
    pub bias: Option<(Bias, Number)>,
}

/// A function and the format of its result.
#[derive(Clone, Debug)]
pub struct Activation {
    /// `sigmoid`, `tanh`, `relu`, a `table`, ...
    pub op: Op,
    /// Format of the result.
    pub out: Number,
}

impl Activation {
    /// The authors' sigmoid.
    pub fn sigmoid(out: Number) -> Self {
        Self { op: Sigmoid {}.into(), out }
    }

    /// The authors' hyperbolic tangent.
    pub fn tanh(out: Number) -> Self {
        Self { op: Tanh {}.into(), out }
    }
}

/// The rescale from one scale to another.
pub fn to_scale(from: i32, to: i32, rounding: Rounding) -> Rescale {
    let by = from - to;
    Rescale { left: (-by).max(0) as u32, ..Rescale::by(by.max(0) as u32, rounding) }
}

/// `a b` at the scale and width of `out`.
fn product(nodes: &mut Builder, name: &str, [a, b]: [(&str, Number); 2], out: Number, rounding: Rounding) -> String {
    let rescale = to_scale(a.1.scale + b.1.scale, out.scale, rounding);
    nodes.compute(name, Mul { rescale }, &[a.0, b.0], out)
}

/// `2^scale - x`: one less `x`, in a width that holds one.
fn one_minus(nodes: &mut Builder, name: &str, x: &str, number: Number) -> String {
    let number = Number::new(number.bits.max(number.scale as u32 + 2), number.scale);
    let terms = vec![Term { minus: true, ..Term::default() }];
    nodes.compute(name, Add { terms, constant: 1 << number.scale, ..Add::default() }, &[x], number)
}

/// A chain of products.
fn chain(nodes: &mut Builder, name: &str, x: &str, factors: &[Product]) -> String {
    let mut x = x.to_string();
    for (i, factor) in factors.iter().enumerate() {
        let name = if i + 1 == factors.len() { name.into() } else { format!("{name}{}", i + 1) };
        x = nodes.compute(&name, factor.op.clone(), &[&x], factor.out);
    }
    x
}

impl Preactivation {
    /// The sum, called `name`; parts are `name_x`, `name_h`.
    fn append(&self, nodes: &mut Builder, name: &str, [x, h]: [&str; 2]) -> (String, Number) {
        let a = chain(nodes, &format!("{name}_x"), x, &self.input);
        let b = chain(nodes, &format!("{name}_h"), h, &self.state);
        let sum_name = if self.bias.is_some() { format!("{name}_sum") } else { name.into() };
        let sum = nodes.compute(&sum_name, self.sum.clone(), &[&a, &b], self.out);
        match &self.bias {
            None => (sum, self.out),
            Some((bias, out)) => (nodes.compute(name, bias.clone(), &[&sum], *out), *out),
        }
    }
}

/// The shape of a state.
fn state_shape(rows: &[usize], hidden: usize) -> Vec<usize> {
    rows.iter().copied().chain([hidden]).collect()
}

/// A body with the state `h`.
fn with_state(rows: &[usize], hidden: usize, number: Number) -> Body {
    let mut body = Body::default();
    body.state("h", "h_next", &state_shape(rows, hidden), number);
    body
}

/// The gates of a pre-activation, called `names`.
fn gates(nodes: &mut Builder, all: &str, rows: &[usize], hidden: usize, count: usize) -> Vec<String> {
    nodes.arrange("gates", Split { axis: rows.len(), sizes: vec![hidden; count] }, &[all]);
    (0..count).map(|i| format!("gates.{i}")).collect()
}

/// A plain recurrent network: `h' = f(W x + U h + b)`.
#[derive(Clone, Debug)]
pub struct Rnn {
    /// Units.
    pub hidden: usize,
    /// `W x + U h + b`.
    pub pre: Preactivation,
    /// `f`: tanh or ReLU; its result is the state.
    pub activation: Activation,
}

impl Cell for Rnn {
    fn hidden(&self) -> usize {
        self.hidden
    }

    fn body(&self, rows: &[usize]) -> Body {
        let mut body = with_state(rows, self.hidden, self.activation.out);
        let (pre, _) = self.pre.append(&mut body.nodes, "pre", ["x", "h"]);
        body.nodes.compute("h_next", self.activation.op.clone(), &[&pre], self.activation.out);
        body
    }
}

/// A scalar of the server and the rescale of products with it.
#[derive(Clone, Debug)]
pub struct Scalar {
    /// The tensor, of one element.
    pub tensor: Parameter,
    /// Of the product.
    pub rescale: Rescale,
}

impl Scalar {
    fn scale(&self) -> Scale {
        Scale { weights: self.tensor.clone(), shape: Some(vec![1]), rescale: self.rescale.clone() }
    }
}

/// FastRNN: `h' = wrap(R(alpha t) + R(beta h))`, `t = f(W x + U h + b)`.
#[derive(Clone, Debug)]
pub struct FastRnn {
    /// Units.
    pub hidden: usize,
    /// `W x + U h + b`.
    pub pre: Preactivation,
    /// `f`.
    pub activation: Activation,
    /// Weight of the new state; its rescale leads to the state's scale.
    pub alpha: Scalar,
    /// Weight of the old state; its rescale leads to the state's scale.
    pub beta: Scalar,
    /// The state.
    pub state: Number,
}

impl Cell for FastRnn {
    fn hidden(&self) -> usize {
        self.hidden
    }

    fn body(&self, rows: &[usize]) -> Body {
        let mut body = with_state(rows, self.hidden, self.state);
        let nodes = &mut body.nodes;
        let (pre, _) = self.pre.append(nodes, "pre", ["x", "h"]);
        let t = nodes.compute("t", self.activation.op.clone(), &[&pre], self.activation.out);
        let new = nodes.compute("new", self.alpha.scale(), &[&t], self.state);
        let kept = nodes.compute("kept", self.beta.scale(), &["h"], self.state);
        nodes.compute("h_next", Add::default(), &[&new, &kept], self.state);
        body
    }
}

/// FastGRNN, in the integer semantics of the authors' programs:
///
/// * `c = wrap(R(W x) + R(U h))`; `g = sigmoid(wrap(R(c + b_g)))`, `t = tanh(wrap(R(c + b_t)))`;
/// * `z = wrap(R(zeta (2^scale - g)) + R(nu))`;
/// * `h' = wrap(R(g h) + R(wrap(R(z t))))`.
#[derive(Clone, Debug)]
pub struct FastGrnn {
    /// Units.
    pub hidden: usize,
    /// `c`, without a bias.
    pub pre: Preactivation,
    /// `b_g`, and the format of the sigmoid's operand.
    pub gate_bias: (Bias, Number),
    /// `b_t`, and the format of the tanh's operand.
    pub candidate_bias: (Bias, Number),
    /// `g`.
    pub gate: Activation,
    /// `t`.
    pub candidate: Activation,
    /// `zeta`, and the rescale of its product.
    pub zeta: Scalar,
    /// `nu`, and its own rescale.
    pub nu: Scalar,
    /// `z`.
    pub weight: Number,
    /// Of `g h`, to the state's format.
    pub kept: Rescale,
    /// Of `z t`, and its format.
    pub update: (Rescale, Number),
    /// Of that before the sum.
    pub update_out: Rescale,
    /// The state.
    pub state: Number,
}

impl Cell for FastGrnn {
    fn hidden(&self) -> usize {
        self.hidden
    }

    fn body(&self, rows: &[usize]) -> Body {
        let mut body = with_state(rows, self.hidden, self.state);
        let nodes = &mut body.nodes;
        let (c, _) = self.pre.append(nodes, "c", ["x", "h"]);
        let gate_input = nodes.compute("gate_input", self.gate_bias.0.clone(), &[&c], self.gate_bias.1);
        let (bias, number) = &self.candidate_bias;
        let candidate_input = nodes.compute("candidate_input", bias.clone(), &[&c], *number);
        let g = nodes.compute("g", self.gate.op.clone(), &[&gate_input], self.gate.out);
        let t = nodes.compute("t", self.candidate.op.clone(), &[&candidate_input], self.candidate.out);
        let open = one_minus(nodes, "open", &g, self.gate.out);
        // What is only added afterwards may wrap before.
        let scaled = nodes.compute("scaled", self.zeta.scale(), &[&open], self.weight);
        let nu = Bias {
            bias: self.nu.tensor.clone(),
            shape: Some(vec![1]),
            operand: Rescale::default(),
            rescale_bias: self.nu.rescale.clone(),
            rescale: Rescale::default(),
        };
        let z = nodes.compute("z", nu, &[&scaled], self.weight);
        let kept = nodes.compute("kept", Mul { rescale: self.kept.clone() }, &[&g, "h"], self.state);
        let (rescale, number) = &self.update;
        let update = nodes.compute("update", Mul { rescale: rescale.clone() }, &[&z, &t], *number);
        let terms = vec![Term::default(), Term { minus: false, rescale: self.update_out.clone() }];
        nodes.compute("h_next", Add { terms, ..Add::default() }, &[&kept, &update], self.state);
        body
    }
}

/// Long short-term memory; see the module for the equations.
#[derive(Clone, Debug)]
pub struct Lstm {
    /// Units.
    pub hidden: usize,
    /// `W x + U h + b`: the columns of i, f, g, o, one gate after the other.
    pub pre: Preactivation,
    /// The function of i, f, o: sigmoid.
    pub gate: Activation,
    /// The function of g: tanh.
    pub candidate: Activation,
    /// The state `c`.
    pub memory: Number,
    /// The function of `c'`: tanh.
    pub squash: Activation,
    /// The state `h`.
    pub state: Number,
    /// Of products of gates, whose scales follow from the formats.
    pub rounding: Rounding,
}

impl Cell for Lstm {
    fn hidden(&self) -> usize {
        self.hidden
    }

    fn body(&self, rows: &[usize]) -> Body {
        let mut body = with_state(rows, self.hidden, self.state);
        body.state("c", "c_next", &state_shape(rows, self.hidden), self.memory);
        let nodes = &mut body.nodes;
        let (pre, _) = self.pre.append(nodes, "pre", ["x", "h"]);
        let parts = gates(nodes, &pre, rows, self.hidden, 4);
        let mut gate = |name: &str, i: usize, f: &Activation| nodes.compute(name, f.op.clone(), &[&parts[i]], f.out);
        let i = gate("i", 0, &self.gate);
        let f = gate("f", 1, &self.gate);
        let g = gate("g", 2, &self.candidate);
        let o = gate("o", 3, &self.gate);
        let (gate, rounding) = (self.gate.out, self.rounding);
        let kept = product(nodes, "kept", [(&f, gate), ("c", self.memory)], self.memory, rounding);
        let new = product(nodes, "new", [(&i, gate), (&g, self.candidate.out)], self.memory, rounding);
        let c = nodes.compute("c_next", Add::default(), &[&kept, &new], self.memory);
        let squashed = nodes.compute("squashed", self.squash.op.clone(), &[&c], self.squash.out);
        product(nodes, "h_next", [(&o, gate), (&squashed, self.squash.out)], self.state, rounding);
        body
    }
}

/// Where a gated recurrent unit applies its reset gate.
#[derive(Clone, Debug)]
pub enum Reset {
    /// To the state, before the product: `U_n (r h)`; `linear_before_reset = 0`.
    State {
        /// Format of `r h`.
        out: Number,
    },
    /// To the product: `r (U_n h + b_u)`; `linear_before_reset = 1`.
    Product {
        /// `b_u` and the format of the sum with it.
        bias: Option<(Bias, Number)>,
        /// Format of the product with `r`.
        out: Number,
    },
}

/// Gated recurrent unit; see the module for the equations.
#[derive(Clone, Debug)]
pub struct Gru {
    /// Units.
    pub hidden: usize,
    /// `W x + U h + b` of z and r, the columns of one gate after the other.
    pub gates: Preactivation,
    /// `W_n x + .. + b_n`; the reset stands between `U_n` and the sum, or before `U_n`.
    pub candidate_pre: Preactivation,
    /// Where the reset gate is applied.
    pub reset: Reset,
    /// The function of z and r: sigmoid.
    pub gate: Activation,
    /// The function of n: tanh.
    pub candidate: Activation,
    /// The state.
    pub state: Number,
    /// Of products of gates, whose scales follow from the formats.
    pub rounding: Rounding,
}

impl Cell for Gru {
    fn hidden(&self) -> usize {
        self.hidden
    }

    fn body(&self, rows: &[usize]) -> Body {
        let mut body = with_state(rows, self.hidden, self.state);
        let nodes = &mut body.nodes;
        let (gate, rounding) = (self.gate.out, self.rounding);
        let (pre, _) = self.gates.append(nodes, "pre", ["x", "h"]);
        let parts = gates(nodes, &pre, rows, self.hidden, 2);
        let z = nodes.compute("z", self.gate.op.clone(), &[&parts[0]], gate);
        let r = nodes.compute("r", self.gate.op.clone(), &[&parts[1]], gate);
        let pre = &self.candidate_pre;
        let n = match &self.reset {
            Reset::State { out } => {
                let reset = product(nodes, "reset", [(&r, gate), ("h", self.state)], *out, rounding);
                pre.append(nodes, "n_pre", ["x", &reset]).0
            }
            Reset::Product { bias, out } => {
                // The chain of the state's product stands before the reset; the sum takes what comes out of it.
                let mut product_of_h = chain(nodes, "u_h", "h", &pre.state);
                let mut number = pre.state.last().map_or(self.state, |factor| factor.out);
                if let Some((bias, biased)) = bias {
                    product_of_h = nodes.compute("u_h_biased", bias.clone(), &[&product_of_h], *biased);
                    number = *biased;
                }
                let reset = product(nodes, "reset", [(&r, gate), (&product_of_h, number)], *out, rounding);
                Preactivation { state: Vec::new(), ..pre.clone() }.append(nodes, "n_pre", ["x", &reset]).0
            }
        };
        let n = nodes.compute("n", self.candidate.op.clone(), &[&n], self.candidate.out);
        let open = one_minus(nodes, "open", &z, gate);
        let new = product(nodes, "new", [(&open, gate), (&n, self.candidate.out)], self.state, rounding);
        let kept = product(nodes, "kept", [(&z, gate), ("h", self.state)], self.state, rounding);
        nodes.compute("h_next", Add::default(), &[&new, &kept], self.state);
        body
    }
}

#[cfg(test)]
mod tests {
    use super::super::builder::{output, series};
    use super::super::{Graph, Reveal, Tensor, Weights, evaluate};
    use super::*;

    const HIDDEN: usize = 3;
    const FEATURES: usize = 2;
    const STEPS: usize = 6;
    const X: Number = Number { bits: 16, scale: 10, unsigned: false };
    const PRE: Number = Number { bits: 16, scale: 10, unsigned: false };
    const GATE: Number = Number { bits: 16, scale: 14, unsigned: false };
    const STATE: Number = Number { bits: 16, scale: 12, unsigned: false };
    const WEIGHT_SCALE: i32 = 10;

    /// A chain of one product with `columns`, from scale `from` to that of pre-activations.
    fn product(tensor: &str, columns: usize, from: i32) -> Vec<Product> {
        let rescale = to_scale(from + WEIGHT_SCALE, PRE.scale, Rounding::Floor);
        vec![Product { op: MatMul { weights: Parameter::new(tensor, 16), columns, rescale }, out: PRE }]
    }

    fn bias(tensor: &str) -> (Bias, Number) {
        let none = Rescale::default;
        let bias = Parameter::new(tensor, 16);
        (Bias { bias, shape: None, operand: none(), rescale_bias: none(), rescale: none() }, PRE)
    }

    fn pre(suffix: &str, gates: usize) -> Preactivation {
        let columns = gates * HIDDEN;
        Preactivation {
            input: product(&format!("W{suffix}"), columns, X.scale),
            state: product(&format!("U{suffix}"), columns, STATE.scale),
            sum: Add::default(),
            out: PRE,
            bias: Some(bias(&format!("b{suffix}"))),
        }
    }

    fn random(n: usize, seed: u64, most: i64) -> Vec<i64> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 20) as i64 % (2 * most + 1) - most
        };
        (0..n).map(|_| next()).collect()
    }

    fn weights(graph: &Graph) -> Weights {
        let typed = graph.infer(STEPS).unwrap();
        let tensor = |(i, spec): (usize, &super::super::ops::ParameterSpec)| {
            let data = random(spec.shape.iter().product(), i as u64 + 3, 900);
            (spec.tensor.clone(), Tensor::new(spec.shape.clone(), data))
        };
        typed.parameters.values().enumerate().map(tensor).collect()
    }

    fn graph(add: impl FnOnce(&mut Builder) -> String) -> Graph {
        let mut builder = Builder::new();
        let value = add(&mut builder);
        builder.finish(STEPS, vec![series("x", &[FEATURES], X)], vec![output("y", &value, Reveal::Values)])
    }

    fn alone(cell: &dyn Cell, direction: Direction, steps: Steps) -> Graph {
        graph(|b| append(b, "rnn", "x", cell, &Loop { direction, rows: &[], initial: None, steps }))
    }

    fn run(graph: &Graph, weights: &Weights, x: &[i64]) -> Tensor {
        let typed = graph.infer(STEPS).unwrap();
        evaluate(&typed, weights, &[Tensor::new(vec![STEPS, FEATURES], x.to_vec())]).remove(0)
    }

    /// Reals of the tensors.
    struct Float<'w>(&'w Weights);

    impl Float<'_> {
        /// `v M` for the given matrix, or the vector alone.
        fn times(&self, v: &[f64], matrix: &str) -> Vec<f64> {
            let m = &self.0[matrix];
            let columns = m.shape[1];
            let entry = |i: usize, j: usize| m.data[i * columns + j] as f64 / 2f64.powi(WEIGHT_SCALE);
            (0..columns).map(|j| v.iter().enumerate().map(|(i, v)| v * entry(i, j)).sum()).collect()
        }

        fn bias(&self, name: &str) -> Vec<f64> {
            self.0[name].data.iter().map(|&b| b as f64 / 2f64.powi(PRE.scale)).collect()
        }

        fn pre(&self, suffix: &str, x: &[f64], h: &[f64]) -> Vec<f64> {
            let (a, b) = (self.times(x, &format!("W{suffix}")), self.times(h, &format!("U{suffix}")));
            let bias = self.bias(&format!("b{suffix}"));
            (0..a.len()).map(|j| a[j] + b[j] + bias[j]).collect()
        }
    }

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    /// The cell agrees with `step` in floating point: from entry and states to the states, `h` first.
    fn check(cell: &dyn Cell, states: usize, step: impl Fn(&Float<'_>, &[f64], &mut [Vec<f64>])) {
        let x = random(STEPS * FEATURES, 77, 1500);
        for direction in [Direction::Forward, Direction::Reverse] {
            let every = alone(cell, direction, Steps::Every);
            let weights = weights(&every);
            let got = run(&every, &weights, &x);
            assert_eq!(got.shape, [STEPS, HIDDEN]);
            let mut state = vec![vec![0.0; HIDDEN]; states];
            for t in 0..STEPS {
                let t = if direction == Direction::Reverse { STEPS - 1 - t } else { t };
                let entry: Vec<f64> =
                    x[t * FEATURES..(t + 1) * FEATURES].iter().map(|&x| x as f64 / 2f64.powi(X.scale)).collect();
                step(&Float(&weights), &entry, &mut state);
                for (h, &got) in state[0].iter().zip(&got.data[t * HIDDEN..]) {
                    let error = got as f64 - h * 2f64.powi(STATE.scale);
                    assert!(error.abs() < 40.0, "{direction:?}, step {t}: {got} is {error} off");
                }
            }
            let last = run(&alone(cell, direction, Steps::Last), &weights, &x);
            let at = if direction == Direction::Reverse { 0 } else { STEPS - 1 };
            assert_eq!(last.data, got.data[at * HIDDEN..(at + 1) * HIDDEN]);
        }
    }

    fn lstm() -> Lstm {
        Lstm {
            hidden: HIDDEN,
            pre: pre("", 4),
            gate: Activation::sigmoid(GATE),
            candidate: Activation::tanh(GATE),
            memory: STATE,
            squash: Activation::tanh(GATE),
            state: STATE,
            rounding: Rounding::Floor,
        }
    }

    fn gru(reset: Reset) -> Gru {
        Gru {
            hidden: HIDDEN,
            gates: pre("", 2),
            candidate_pre: pre("n", 1),
            reset,
            gate: Activation::sigmoid(GATE),
            candidate: Activation::tanh(GATE),
            state: STATE,
            rounding: Rounding::Nearest,
        }
    }

    #[test]
    fn lstm_is_near_floating_point() {
        check(&lstm(), 2, |w, x, state| {
            let pre = w.pre("", x, &state[0]);
            for j in 0..HIDDEN {
                let [i, f, g, o] = [0, 1, 2, 3].map(|gate| pre[gate * HIDDEN + j]);
                state[1][j] = sigmoid(f) * state[1][j] + sigmoid(i) * g.tanh();
                state[0][j] = sigmoid(o) * state[1][j].tanh();
            }
        });
    }

    #[test]
    fn gru_is_near_floating_point() {
        let step = |before: bool| {
            move |w: &Float<'_>, x: &[f64], state: &mut [Vec<f64>]| {
                let h = state[0].clone();
                let pre = w.pre("", x, &h);
                let gate = |g: usize| (0..HIDDEN).map(|j| sigmoid(pre[g * HIDDEN + j])).collect::<Vec<f64>>();
                let (z, r) = (gate(0), gate(1));
                let n: Vec<f64> = if before {
                    let (a, u, b, bu) = (w.times(x, "Wn"), w.times(&h, "Un"), w.bias("bn"), w.bias("bu"));
                    (0..HIDDEN).map(|j| a[j] + b[j] + r[j] * (u[j] + bu[j])).collect()
                } else {
                    w.pre("n", x, &h.iter().zip(&r).map(|(h, r)| h * r).collect::<Vec<f64>>())
                };
                state[0] = (0..HIDDEN).map(|j| (1.0 - z[j]) * n[j].tanh() + z[j] * h[j]).collect();
            }
        };
        check(&gru(Reset::State { out: STATE }), 1, step(false));
        check(&gru(Reset::Product { bias: Some(bias("bu")), out: PRE }), 1, step(true));
    }

    #[test]
    fn plain_networks_are_near_floating_point() {
        let activation = Activation::tanh(STATE);
        check(&Rnn { hidden: HIDDEN, pre: pre("", 1), activation }, 1, |w, x, state| {
            state[0] = w.pre("", x, &state[0]).into_iter().map(f64::tanh).collect();
        });
        let rescale = to_scale(PRE.scale, STATE.scale, Rounding::Floor);
        let activation = Activation { op: super::super::ops::clip::Relu { rescale }.into(), out: Number::new(20, 12) };
        let relu = Rnn { hidden: HIDDEN, pre: pre("", 1), activation };
        let by_hand = alone(&relu, Direction::Forward, Steps::Last);
        let weights = weights(&by_hand);
        let x = random(STEPS * FEATURES, 5, 1500);
        // The same on integers.
        let mut h = vec![0i64; HIDDEN];
        for t in 0..STEPS {
            let sum = |name: &str, v: &[i64], by: u32, j: usize| {
                let row = |(i, v): (usize, &i64)| v * weights[name].data[i * HIDDEN + j];
                v.iter().enumerate().map(row).sum::<i64>() >> by
            };
            let x = &x[t * FEATURES..(t + 1) * FEATURES];
            let next = |j| 4 * (sum("W", x, 10, j) + sum("U", &h, 12, j) + weights["b"].data[j]).max(0);
            h = (0..HIDDEN).map(next).collect();
        }
        assert_eq!(run(&by_hand, &weights, &x).data, h);
    }

    fn scalar(tensor: &str, by: u32) -> Scalar {
        Scalar { tensor: Parameter::new(tensor, 16), rescale: Rescale::by(by, Rounding::Floor) }
    }

    #[test]
    fn fast_cells_are_near_floating_point() {
        let cell = FastRnn {
            hidden: HIDDEN,
            pre: pre("", 1),
            activation: Activation::tanh(GATE),
            alpha: scalar("alpha", 12),
            beta: scalar("beta", 10),
            state: STATE,
        };
        let real = |w: &Float<'_>, name: &str| w.0[name].data[0] as f64 / 2f64.powi(WEIGHT_SCALE);
        check(&cell, 1, |w, x, state| {
            let (alpha, beta) = (real(w, "alpha"), real(w, "beta"));
            let pre = w.pre("", x, &state[0]);
            state[0] = pre.iter().zip(&state[0]).map(|(p, h)| alpha * p.tanh() + beta * h).collect();
        });
        let none = Rescale::default;
        let cell = FastGrnn {
            hidden: HIDDEN,
            pre: Preactivation { bias: None, ..pre("", 1) },
            gate_bias: bias("bg"),
            candidate_bias: bias("bt"),
            gate: Activation::sigmoid(GATE),
            candidate: Activation::tanh(GATE),
            zeta: scalar("zeta", 10),
            nu: Scalar { tensor: Parameter::new("nu", 16), rescale: Rescale { left: 4, ..none() } },
            weight: GATE,
            kept: Rescale::by(14, Rounding::Floor),
            update: (Rescale::by(14, Rounding::Floor), GATE),
            update_out: Rescale::by(2, Rounding::Floor),
            state: STATE,
        };
        check(&cell, 1, |w, x, state| {
            let (a, b) = (w.times(x, "W"), w.times(&state[0], "U"));
            let (bg, bt) = (w.bias("bg"), w.bias("bt"));
            let (zeta, nu) = (real(w, "zeta"), real(w, "nu"));
            let next = |j: usize| {
                let c = a[j] + b[j];
                let g = sigmoid(c + bg[j]);
                (zeta * (1.0 - g) + nu) * (c + bt[j]).tanh() + g * state[0][j]
            };
            state[0] = (0..HIDDEN).map(next).collect();
        });
    }

    #[test]
    fn both_directions_and_stacks() {
        let cell = lstm();
        let x = random(STEPS * FEATURES, 11, 1500);
        for steps in [Steps::Every, Steps::Last] {
            let both = graph(|b| bidirectional(b, "both", "x", [&cell, &cell], &[], steps));
            let weights = weights(&both);
            let got = run(&both, &weights, &x);
            let parts = [Direction::Forward, Direction::Reverse].map(|d| run(&alone(&cell, d, steps), &weights, &x));
            let rows = parts[0].data.chunks(HIDDEN).zip(parts[1].data.chunks(HIDDEN));
            assert_eq!(got.data, rows.flat_map(|(a, b)| [a, b].concat()).collect::<Vec<i64>>());
        }
        let mut upper = lstm();
        upper.pre = pre("2", 4);
        upper.pre.input = product("W2", 4 * HIDDEN, STATE.scale);
        let one = |cell| Layer::One(cell, Direction::Reverse);
        let layers = [Layer::Bidirectional(&cell, &cell), one(&upper)];
        let stacked = graph(|b| stack(b, "net", "x", &layers, &[], Steps::Last));
        let weights = weights(&stacked);
        assert_eq!(weights["W2"].shape, [2 * HIDDEN, 4 * HIDDEN]);
        assert_eq!(run(&stacked, &weights, &x).shape, [HIDDEN]);
    }

    /// Rows are independent sequences; a state may start with a value.
    #[test]
    fn rows_and_initial_states() {
        let cell = lstm();
        let rows = graph(|b| {
            let pair = b.arrange("pair", super::super::ops::reshape::Reshape { shape: vec![-1, 2, 1] }, &["x"]);
            let ones = b.arrange("ones", super::super::ops::gather::Gather { axis: 2, indices: vec![0, 0] }, &[&pair]);
            let how = Loop { direction: Direction::Forward, rows: &[2], initial: None, steps: Steps::Last };
            append(b, "rnn", &ones, &cell, &how)
        });
        let weights = weights(&rows);
        let x = random(STEPS * FEATURES, 19, 1500);
        let got = run(&rows, &weights, &x);
        for row in 0..2 {
            let own: Vec<i64> = x.chunks(2).flat_map(|x| [x[row]; 2]).collect();
            let want = run(&alone(&cell, Direction::Forward, Steps::Last), &weights, &own);
            assert_eq!(got.data[row * HIDDEN..(row + 1) * HIDDEN], want.data);
        }
        let chained = graph(|b| {
            let how = |initial| Loop { direction: Direction::Forward, rows: &[], initial, steps: Steps::Last };
            let first = append(b, "first", "x", &cell, &how(None));
            append(b, "second", "x", &cell, &how(Some(&first)))
        });
        assert_ne!(run(&chained, &weights, &x), run(&alone(&cell, Direction::Forward, Steps::Last), &weights, &x));
    }
}
