//! LSTM, GRU and RNN, with everything that ONNX lets them have.
//!
//! Weights are `[directions, gates * units, inputs]`, gates in the order i, o, f, c (LSTM) and z, r, h (GRU). An item's
//! results behind its own length are zero.

use super::elementwise::{elu, hard_sigmoid, leaky_relu, relu, sigmoid, softplus, softsign};
use super::product::multiply_add;
use super::{Call, Operator, wrong_shape};
use crate::import::onnx::Attribute;
use crate::import::tensor::{Tensor, count};

pub(super) fn find(op: &str) -> Option<Operator> {
    Some(match op {
        "LSTM" => |c| recurrent(c, Cell::Lstm),
        "GRU" => |c| recurrent(c, Cell::Gru),
        "RNN" => |c| recurrent(c, Cell::Rnn),
        _ => return None,
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Cell {
    Lstm,
    Gru,
    Rnn,
}

impl Cell {
    fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
            Self::Rnn => 1,
        }
    }

    fn default_activations(self) -> &'static [&'static str] {
        match self {
            Self::Lstm => &["Sigmoid", "Tanh", "Tanh"],
            Self::Gru => &["Sigmoid", "Tanh"],
            Self::Rnn => &["Tanh"],
        }
    }
}

type Activation = Box<dyn Fn(f32) -> f32>;

/// The activations of all directions. Each takes as many of the listed parameters as it has.
fn activations(c: &Call, cell: Cell, directions: usize) -> Result<Vec<Activation>, String> {
    let defaults = cell.default_activations();
    let names: Vec<String> = match c.node.attributes.get("activations") {
        None => (0..directions).flat_map(|_| defaults.iter().map(|s| s.to_string())).collect(),
        Some(Attribute::Strings(names)) if names.len() == directions * defaults.len() => names.clone(),
        Some(_) => return Err(format!("it has to have {} activations", directions * defaults.len())),
    };
    let list = |name: &str| match c.node.attributes.get(name) {
        None => Ok(Vec::new().into_iter()),
        Some(Attribute::Floats(v)) => Ok(v.clone().into_iter()),
        Some(_) => Err(format!("attribute '{name}' is no list of numbers")),
    };
    let (mut alphas, mut betas) = (list("activation_alpha")?, list("activation_beta")?);
    let mut alpha = |default: f32| alphas.next().unwrap_or(default);
    let mut beta = |default: f32| betas.next().unwrap_or(default);
    let activation = |name: &String| -> Result<Activation, String> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "sigmoid" => Box::new(sigmoid),
            "tanh" => Box::new(f32::tanh),
            "relu" => Box::new(relu),
            "softsign" => Box::new(softsign),
            "softplus" => Box::new(softplus),
            "hardsigmoid" => {
                let (a, b) = (alpha(0.2), beta(0.5));
                Box::new(move |x| hard_sigmoid(x, a, b))
            }
            "leakyrelu" => {
                let a = alpha(0.01);
                Box::new(move |x| leaky_relu(x, a))
            }
            "elu" => {
                let a = alpha(1.0);
                Box::new(move |x| elu(x, a))
            }
            "thresholdedrelu" => {
                let a = alpha(1.0);
                Box::new(move |x| if x > a { x } else { 0.0 })
            }
            "scaledtanh" => {
                let (a, b) = (alpha(1.0), beta(1.0));
                Box::new(move |x| a * (b * x).tanh())
            }
            "affine" => {
                let (a, b) = (alpha(1.0), beta(0.0));
                Box::new(move |x| a * x + b)
            }
            other => return Err(format!("the activation '{other}' is not known")),
        })
    };
    names.iter().map(activation).collect()
}

/// What all steps of one direction share.
struct Direction<'a> {
    cell: Cell,
    units: usize,
    /// `[units, gates * units]`.
    recurrence: Vec<f32>,
    /// Of the input products, and of the recurrent ones where they stay apart (GRU's h).
    bias: Vec<f32>,
    late_bias: Vec<f32>,
    /// i, o, f, each `[units]`; empty if there are none.
    peepholes: &'a [f32],
    activations: &'a [Activation],
    clip: f32,
    coupled: bool,
    linear_before_reset: bool,
}

fn recurrent(c: &Call, cell: Cell) -> Result<Vec<Tensor>, String> {
    let gates = cell.gates();
    let batch_first = c.flag("layout", false)?;
    let x = c.input(0)?;
    if x.rank() != 3 {
        return Err(wrong_shape("the input", x, "steps, items, features"));
    }
    let x = if batch_first { x.transposed(&[1, 0, 2])? } else { x.clone() };
    let (steps, items, features) = (x.shape()[0], x.shape()[1], x.shape()[2]);

    let direction = c.string("direction", "forward")?;
    let reversed: &[bool] = match direction {
        "forward" => &[false],
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        other => return Err(format!("the direction '{other}' is not known")),
    };
    let directions = reversed.len();
    let r = c.input(2)?;
    let units = r.shape().last().copied().unwrap_or(0);
    let expect = |t: &Tensor, what: &str, shape: &[usize]| {
        if t.shape() == shape { Ok(()) } else { Err(wrong_shape(what, t, &crate::import::tensor::show(shape))) }
    };
    expect(c.input(1)?, "W", &[directions, gates * units, features])?;
    expect(r, "R", &[directions, gates * units, units])?;
    if c.int("hidden_size", units as i64)? != units as i64 {
        return Err(format!("its hidden_size is not the {units} units of its weights"));
    }
    let lengths = match c.optional(4) {
        None => vec![steps; items],
        Some(t) => {
            expect(t, "sequence_lens", &[items])?;
            let lengths: Option<Vec<usize>> =
                t.as_ints()?.iter().map(|&l| usize::try_from(l).ok().filter(|&l| l <= steps)).collect();
            lengths.ok_or_else(|| format!("a length is not in 0..={steps}"))?
        }
    };
    // An initial state, directions first.
    let initial = |i: usize, what: &str| -> Result<Vec<f32>, String> {
        match c.optional(i) {
            None => Ok(vec![0.0; directions * items * units]),
            Some(t) => {
                let t = if batch_first && t.rank() == 3 { t.transposed(&[1, 0, 2])? } else { t.clone() };
                expect(&t, what, &[directions, items, units])?;
                Ok(t.as_floats()?.to_vec())
            }
        }
    };
    let h0 = initial(5, "initial_h")?;
    let c0 = if cell == Cell::Lstm { initial(6, "initial_c")? } else { h0.clone() };
    if let Some(bias) = c.optional(3) {
        expect(bias, "B", &[directions, 2 * gates * units])?;
    }
    let peepholes = if cell == Cell::Lstm { c.optional(7) } else { None };
    if let Some(p) = peepholes {
        expect(p, "P", &[directions, 3 * units])?;
    }
    let activations = activations(c, cell, directions)?;
    let per_direction = cell.default_activations().len();
    let clip = c.float("clip", f32::INFINITY)?;
    if clip.is_nan() || clip <= 0.0 {
        return Err("its clip is not positive".into());
    }

    let outputs = count(&[steps, directions, items, units])?;
    c.charge(&[outputs, gates, features + units])?;
    let wide = gates * units;
    count(&[steps, items, wide])?;
    let mut y = vec![0f32; outputs];
    let (mut h, mut state) = (h0, c0);
    for (d, &reverse) in reversed.iter().enumerate() {
        let flip = |i: usize, columns: usize| c.input(i)?.row(d)?.reshaped(vec![wide, columns])?.transposed(&[1, 0]);
        let w = flip(1, features)?;
        let recurrence = flip(2, units)?.as_floats()?.to_vec();
        let (mut bias, mut late_bias) = (vec![0.0; wide], vec![0.0; wide]);
        if let Some(b) = c.optional(3) {
            let b = &b.as_floats()?[d * 2 * wide..][..2 * wide];
            bias.copy_from_slice(&b[..wide]);
            late_bias.copy_from_slice(&b[wide..]);
        }
        let direction = Direction {
            cell,
            units,
            recurrence,
            bias,
            late_bias,
            peepholes: peepholes.map_or(Ok(&[][..]), Tensor::as_floats)?.chunks(3 * units.max(1)).nth(d).unwrap_or(&[]),
            activations: &activations[d * per_direction..],
            clip,
            coupled: c.flag("input_forget", false)?,
            linear_before_reset: c.flag("linear_before_reset", false)?,
        };
        let mut products = vec![0f32; steps * items * wide];
        multiply_add(&mut products, x.as_floats()?, w.as_floats()?, features, wide);
        for turn in 0..steps {
            for item in (0..items).filter(|&i| turn < lengths[i]) {
                let step = if reverse { lengths[item] - 1 - turn } else { turn };
                let at = (d * items + item) * units;
                let (h, state) = (&mut h[at..at + units], &mut state[at..at + units]);
                direction.step(&products[(step * items + item) * wide..][..wide], h, state);
                y[((step * directions + d) * items + item) * units..][..units].copy_from_slice(h);
            }
        }
    }

    let y = Tensor::floats(vec![steps, directions, items, units], y)?;
    let last = |v: Vec<f32>| Tensor::floats(vec![directions, items, units], v);
    let (h, state) = (last(h)?, last(state)?);
    let mut out = if batch_first {
        vec![y.transposed(&[2, 0, 1, 3])?, h.transposed(&[1, 0, 2])?, state.transposed(&[1, 0, 2])?]
    } else {
        vec![y, h, state]
    };
    out.truncate(if cell == Cell::Lstm { 3 } else { 2 });
    Ok(out)
}

impl Direction<'_> {
    /// One step of one item: from the input's products and the state before to the state after.
    fn step(&self, x: &[f32], h: &mut [f32], c: &mut [f32]) {
        let n = self.units;
        let clip = |v: f32| v.clamp(-self.clip, self.clip);
        let product = |h: &[f32]| {
            let mut out = self.late_bias.clone();
            multiply_add(&mut out, h, &self.recurrence, n, self.late_bias.len());
            out
        };
        let f = &self.activations;
        match self.cell {
            Cell::Rnn => {
                let r = product(h);
                for u in 0..n {
                    h[u] = f[0](clip(x[u] + self.bias[u] + r[u]));
                }
            }
            Cell::Lstm => {
                let r = product(h);
                let peep = |gate: usize, u: usize, c: f32| self.peepholes.get(gate * n + u).map_or(0.0, |p| p * c);
                for u in 0..n {
                    let gate = |g: usize| x[g * n + u] + self.bias[g * n + u] + r[g * n + u];
                    let i = f[0](clip(gate(0) + peep(0, u, c[u])));
                    let forget = if self.coupled { 1.0 - i } else { f[0](clip(gate(2) + peep(2, u, c[u]))) };
                    c[u] = forget * c[u] + i * f[1](clip(gate(3)));
                    let o = f[0](clip(gate(1) + peep(1, u, c[u])));
                    h[u] = o * f[2](c[u]);
                }
            }
            Cell::Gru => {
                let r = product(h);
                let gate = |g: usize, u: usize| x[g * n + u] + self.bias[g * n + u];
                let reset: Vec<f32> = (0..n).map(|u| f[0](clip(gate(1, u) + r[n + u]))).collect();
                let candidate: Vec<f32> = if self.linear_before_reset {
                    (0..n).map(|u| reset[u] * r[2 * n + u]).collect()
                } else {
                    let reset_h: Vec<f32> = h.iter().zip(&reset).map(|(h, r)| h * r).collect();
                    product(&reset_h)[2 * n..].to_vec()
                };
                for u in 0..n {
                    let z = f[0](clip(gate(0, u) + r[u]));
                    h[u] = (1.0 - z) * f[1](clip(gate(2, u) + candidate[u])) + z * h[u];
                }
            }
        }
    }
}
