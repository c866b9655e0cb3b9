//! LSTM, GRU and RNN: loops over a body, with the gates' columns in the order i, f, g, o and z, r, n.

use super::{Emitted, Recogniser, Site};
use crate::import::network::{Function, Init, Scan, Sign, State, ValueId, Yield};
use crate::import::onnx::Attribute;
use crate::import::tensor::{Tensor, show};
use std::sync::Arc;

/// An activation with its parameters.
#[derive(Clone, Debug)]
enum Activation {
    Function(Function),
    HardSigmoid(f32, f32),
    LeakyRelu(f32),
    /// `alpha tanh(beta x)`.
    ScaledTanh(f32, f32),
    /// `alpha x + beta`.
    Affine(f32, f32),
}

/// What the operators share: weights of one direction, `[inputs, gates * units]` and `[units, gates * units]`.
struct Layer {
    units: usize,
    w: Tensor,
    r: Tensor,
    w_bias: Vec<f32>,
    r_bias: Vec<f32>,
    activations: Vec<Activation>,
    linear_before_reset: bool,
}

impl Recogniser<'_> {
    pub(super) fn recurrent(&mut self, site: &Site) -> Emitted {
        // Where each of our gates is in the file.
        let (gates, usual): (&[usize], &[&str]) = match site.op() {
            "LSTM" => (&[0, 2, 3, 1], &["Sigmoid", "Tanh", "Tanh"]),
            "GRU" => (&[0, 1, 2], &["Sigmoid", "Tanh"]),
            "RNN" => (&[0], &["Tanh"]),
            _ => return None,
        };
        Some(self.layers(site, gates, usual))
    }

    fn layers(&mut self, site: &Site, gates: &[usize], usual: &[&str]) -> Result<Vec<ValueId>, String> {
        let name = site.name();
        let mut x = site.value(0)?;
        let batch_first = site.call.flag("layout", false)?;
        if batch_first {
            x = self.builder.transpose(name, x, &[1, 0, 2]);
        }
        let shape = self.builder.shape(x).to_vec();
        let [steps, sequences, features] = shape[..] else {
            return Err(format!("its input has shape {}, but [steps, sequences, features] is expected", show(&shape)));
        };
        // A single sequence needs no axis.
        let rows = if sequences == 1 { vec![] } else { vec![sequences] };
        let x = self.builder.reshape(name, x, [&[steps], &rows[..], &[features]].concat())?;
        let reversed: &[bool] = match site.call.string("direction", "forward")? {
            "forward" => &[false],
            "reverse" => &[true],
            "bidirectional" => &[false, true],
            other => return Err(format!("the direction '{other}' is not known")),
        };
        let mut every = Vec::new();
        let mut last = [Vec::new(), Vec::new()];
        for (d, &reverse) in reversed.iter().enumerate() {
            let layer = layer(site, gates, usual, d, reversed.len(), features)?;
            let units = layer.units;
            let state =
                |cx: &mut Self, i: usize| cx.initial(site, i, d, [reversed.len(), sequences, units], batch_first);
            let h0 = state(self, 5)?;
            let c0 = if site.op() == "LSTM" { Some(state(self, 6)?) } else { None };
            let outs = self.layer(name, site.op(), &layer, x, reverse, h0, c0)?;
            every.push(self.builder.reshape(name, outs[0], vec![steps, 1, sequences, units])?);
            for (last, &out) in last.iter_mut().zip(&outs[1..]) {
                last.push(self.builder.reshape(name, out, vec![1, sequences, units])?);
            }
        }
        let all = self.builder.concat(name, &every, 1)?;
        let mut results = vec![if batch_first { self.builder.transpose(name, all, &[2, 0, 1, 3]) } else { all }];
        for parts in last.iter().filter(|parts| !parts.is_empty()) {
            let state = self.builder.concat(name, parts, 0)?;
            results.push(if batch_first { self.builder.transpose(name, state, &[1, 0, 2]) } else { state });
        }
        Ok(results)
    }

    /// The initial state of one direction; `[directions, sequences, units]` for all.
    fn initial(
        &mut self,
        site: &Site,
        i: usize,
        d: usize,
        [directions, sequences, units]: [usize; 3],
        batch_first: bool,
    ) -> Result<Init, String> {
        let expected = if batch_first { [sequences, directions, units] } else { [directions, sequences, units] };
        let wrong = |shape: &[usize]| format!("its initial state has shape {}, not {}", show(shape), show(&expected));
        let own = if sequences == 1 { vec![units] } else { vec![sequences, units] };
        if let Some(id) = site.maybe_value(i) {
            if self.builder.shape(id) != expected {
                return Err(wrong(self.builder.shape(id)));
            }
            let all = if batch_first { self.builder.transpose(site.name(), id, &[1, 0, 2]) } else { id };
            let direction = self.builder.slice(site.name(), all, 0, d, 1, 1);
            return Ok(Init::Value(self.builder.reshape(site.name(), direction, own)?));
        }
        let state = match site.call.optional(i) {
            None => Tensor::floats(own.clone(), vec![0.0; sequences * units])?,
            Some(t) if t.shape() != expected => return Err(wrong(t.shape())),
            Some(t) => if batch_first { t.transposed(&[1, 0, 2])? } else { t.clone() }.row(d)?.reshaped(own)?,
        };
        Ok(Init::Constant(Arc::new(state)))
    }

    /// The loop of one direction: the state of every step, and the last states.
    #[allow(clippy::too_many_arguments)]
    fn layer(
        &mut self,
        name: &str,
        op: &str,
        layer: &Layer,
        x: ValueId,
        reverse: bool,
        h0: Init,
        c0: Option<Init>,
    ) -> Result<Vec<ValueId>, String> {
        let shape = self.builder.shape(x).to_vec();
        let rows = &shape[1..shape.len() - 1];
        let of = |n: usize| [rows, &[n]].concat();
        let slice = self.builder.value("x", shape[1..].to_vec());
        let h = self.builder.value("h", of(layer.units));
        let c = c0.as_ref().map(|_| self.builder.value("c", of(layer.units)));
        self.builder.open();
        let next = match (op, c) {
            ("LSTM", Some(c)) => self.lstm(layer, slice, h, c),
            ("GRU", _) => self.gru(layer, slice, h).map(|h| vec![h]),
            _ => self.rnn(layer, slice, h).map(|h| vec![h]),
        };
        let body = self.builder.close();
        let next = next?;
        let states = [Some(h), c].into_iter().flatten().zip(&next).zip([Some(h0), c0].into_iter().flatten());
        let states = states.map(|((now, &next), init)| State { now, next, init }).collect();
        let every = Yield { value: next[0], every: true };
        let yields = [every].into_iter().chain(next.iter().map(|&value| Yield { value, every: false })).collect();
        let scan = Scan { reverse, slices: vec![slice], states, body, yields };
        Ok(self.builder.scan(name, scan, &[x], shape[0]))
    }

    /// `i, f, g, o = x W + h R + b`, `c = sigmoid(f) c + sigmoid(i) tanh(g)`, `h = sigmoid(o) tanh(c)`.
    fn lstm(&mut self, layer: &Layer, x: ValueId, h: ValueId, c: ValueId) -> Result<Vec<ValueId>, String> {
        let (n, act) = (layer.units, &layer.activations);
        let gates = self.gates(layer, x, h)?;
        let gate = |cx: &mut Self, name: &str, k: usize, a: &Activation| {
            let part = cx.builder.part(name, gates, k * n, n);
            cx.activation(name, part, a)
        };
        let i = gate(self, "i", 0, &act[0])?;
        let f = gate(self, "f", 1, &act[0])?;
        let g = gate(self, "g", 2, &act[1])?;
        let o = gate(self, "o", 3, &act[0])?;
        let kept = self.builder.mul("f c", f, c)?;
        let new = self.builder.mul("i g", i, g)?;
        let c = self.builder.add("c'", kept, new, Sign::Plus)?;
        let out = self.activation("tanh c", c, &act[2])?;
        let h = self.builder.mul("h'", o, out)?;
        Ok(vec![h, c])
    }

    /// The sums of all gates.
    fn gates(&mut self, layer: &Layer, x: ValueId, h: ValueId) -> Result<ValueId, String> {
        let of_x = self.builder.matmul("x W", x, layer.w.clone())?;
        let of_h = self.builder.matmul("h R", h, layer.r.clone())?;
        let sum = self.builder.add("x W + h R", of_x, of_h, Sign::Plus)?;
        self.plus_vector("gates", sum, layer.w_bias.iter().zip(&layer.r_bias).map(|(a, b)| a + b).collect())
    }

    /// `z, r = sigmoid(x W + h R + b)`; `n = tanh(x W_n + b + r (h R_n + b'))`, or `tanh(x W_n + b + (r h) R_n + b')`;
    /// `h' = n + z (h - n)`.
    fn gru(&mut self, layer: &Layer, x: ValueId, h: ValueId) -> Result<ValueId, String> {
        let (n, act) = (layer.units, &layer.activations);
        let part = |t: &Tensor, from: usize, to: usize| -> Result<Tensor, String> {
            let rows = t.shape()[0];
            let values = t.as_floats()?.chunks(3 * n).flat_map(|row| row[from * n..to * n].to_vec()).collect();
            Tensor::floats(vec![rows, (to - from) * n], values)
        };
        let of_x = self.builder.matmul("x W", x, layer.w.clone())?;
        let of_x = self.plus_vector("x W + b", of_x, layer.w_bias.clone())?;
        let own = |cx: &mut Self, v: ValueId, name: &str, k: usize, m: usize| cx.builder.part(name, v, k * n, m * n);
        let (reset_after, of_h) = if layer.linear_before_reset {
            let of_h = self.builder.matmul("h R", h, layer.r.clone())?;
            (true, self.plus_vector("h R + b", of_h, layer.r_bias.clone())?)
        } else {
            let of_h = self.builder.matmul("h R", h, part(&layer.r, 0, 2)?)?;
            (false, self.plus_vector("h R + b", of_h, layer.r_bias[..2 * n].to_vec())?)
        };
        let (x_zr, h_zr) = (own(self, of_x, "x zr", 0, 2), own(self, of_h, "h zr", 0, 2));
        let zr = self.builder.add("zr", x_zr, h_zr, Sign::Plus)?;
        let zr = self.activation("zr", zr, &act[0])?;
        let (z, r) = (own(self, zr, "z", 0, 1), own(self, zr, "r", 1, 1));
        let candidate = if reset_after {
            let of_h = own(self, of_h, "h n", 2, 1);
            self.builder.mul("r (h R)", r, of_h)?
        } else {
            let reset = self.builder.mul("r h", r, h)?;
            let product = self.builder.matmul("(r h) R", reset, part(&layer.r, 2, 3)?)?;
            self.plus_vector("(r h) R + b", product, layer.r_bias[2 * n..].to_vec())?
        };
        let x_n = own(self, of_x, "x n", 2, 1);
        let sum = self.builder.add("n", x_n, candidate, Sign::Plus)?;
        let new = self.activation("n", sum, &act[1])?;
        let difference = self.builder.add("h - n", h, new, Sign::Minus)?;
        let kept = self.builder.mul("z (h - n)", z, difference)?;
        self.builder.add("h'", new, kept, Sign::Plus)
    }

    /// `h' = tanh(x W + h R + b)`.
    fn rnn(&mut self, layer: &Layer, x: ValueId, h: ValueId) -> Result<ValueId, String> {
        let sum = self.gates(layer, x, h)?;
        self.activation("h'", sum, &layer.activations[0])
    }

    fn activation(&mut self, name: &str, x: ValueId, activation: &Activation) -> Result<ValueId, String> {
        Ok(match *activation {
            Activation::Function(function) => self.builder.function(name, function, x),
            Activation::HardSigmoid(alpha, beta) => self.hard_sigmoid(name, x, alpha, beta),
            Activation::LeakyRelu(alpha) => {
                return self.leaky_relu(name, x, &Tensor::floats(Vec::new(), vec![alpha])?);
            }
            Activation::ScaledTanh(alpha, beta) => {
                let inner = self.builder.times(name, x, beta);
                let tanh = self.builder.function(name, Function::Tanh, inner);
                self.builder.times(name, tanh, alpha)
            }
            Activation::Affine(alpha, beta) => {
                let scaled = self.builder.times(name, x, alpha);
                self.builder.plus(name, scaled, beta)
            }
        })
    }
}

/// Weights, biases and activations of direction `d`.
fn layer(
    site: &Site,
    gates: &[usize],
    usual: &[&str],
    d: usize,
    directions: usize,
    features: usize,
) -> Result<Layer, String> {
    let (w, r) = (site.constant(1, "W")?, site.constant(2, "R")?);
    let units = r.shape().last().copied().unwrap_or(0);
    let wide = gates.len() * units;
    let expect = |t: &Tensor, what: &str, shape: &[usize]| {
        if t.shape() == shape {
            Ok(())
        } else {
            Err(format!("{what} has shape {}, not {}", show(t.shape()), show(shape)))
        }
    };
    expect(w, "W", &[directions, wide, features])?;
    expect(r, "R", &[directions, wide, units])?;
    // Rows of the gates in our order, then columns.
    let ours = |t: &Tensor, columns: usize| -> Result<Tensor, String> {
        let own = &t.as_floats()?[d * wide * columns..(d + 1) * wide * columns];
        let rows = gates.iter().flat_map(|&g| own[g * units * columns..(g + 1) * units * columns].to_vec()).collect();
        Tensor::floats(vec![wide, columns], rows)?.transposed(&[1, 0])
    };
    let (mut w_bias, mut r_bias) = (vec![0.0; wide], vec![0.0; wide]);
    if let Some(b) = site.maybe_constant(3, "B")? {
        expect(b, "B", &[directions, 2 * wide])?;
        let own = &b.as_floats()?[d * 2 * wide..(d + 1) * 2 * wide];
        let pick =
            |from: usize| gates.iter().flat_map(|&g| own[from + g * units..from + (g + 1) * units].to_vec()).collect();
        (w_bias, r_bias) = (pick(0), pick(wide));
    }
    let activations = activations(site, usual, d, directions)?;
    let linear_before_reset = site.call.flag("linear_before_reset", false)?;
    Ok(Layer { units, w: ours(w, features)?, r: ours(r, units)?, w_bias, r_bias, activations, linear_before_reset })
}

/// The activations of direction `d`. Each takes as many of the listed parameters as it has.
fn activations(site: &Site, usual: &[&str], d: usize, directions: usize) -> Result<Vec<Activation>, String> {
    let names: Vec<String> = match site.call.node.attributes.get("activations") {
        Some(Attribute::Strings(names)) if names.len() == directions * usual.len() => names.clone(),
        None => (0..directions).flat_map(|_| usual.iter().map(|s| s.to_string())).collect(),
        Some(_) => return Err(format!("it has to have {} activations", directions * usual.len())),
    };
    let list = |name: &str| match site.call.node.attributes.get(name) {
        Some(Attribute::Floats(v)) => v.clone().into_iter(),
        _ => Vec::new().into_iter(),
    };
    let (mut alphas, mut betas) = (list("activation_alpha"), list("activation_beta"));
    let mut alpha = |usual: f32| alphas.next().unwrap_or(usual);
    let mut beta = |usual: f32| betas.next().unwrap_or(usual);
    let mut all = Vec::new();
    for name in &names {
        all.push(match name.to_ascii_lowercase().as_str() {
            "sigmoid" => Activation::Function(Function::Sigmoid),
            "tanh" => Activation::Function(Function::Tanh),
            "relu" => Activation::Function(Function::Relu),
            "softplus" => Activation::Function(Function::Softplus),
            "hardsigmoid" => Activation::HardSigmoid(alpha(0.2), beta(0.5)),
            "leakyrelu" => Activation::LeakyRelu(alpha(0.01)),
            "scaledtanh" => Activation::ScaledTanh(alpha(1.0), beta(1.0)),
            "affine" => Activation::Affine(alpha(1.0), beta(0.0)),
            "elu" if alpha(1.0) == 1.0 => Activation::Function(Function::Elu),
            other => return Err(format!("the activation '{other}' is not computed")),
        });
    }
    Ok(all[d * usual.len()..(d + 1) * usual.len()].to_vec())
}
