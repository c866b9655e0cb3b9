//! FastGRNNs from arrays of weights, and FastGRNNs of integers with fewer rounds.
//!
//! `c = x W + h U`, `g = sigmoid(c + Bg)`, `t = tanh(c + Bh)`, `h' = (zeta (1 - g) + nu) t + g h`, scores `h FC + FCbias`. `W` and `U` are
//! matrices or products of two. The formats follow from the ranges of the calibration items; see [`FastGrnn`] for the integers.
//!
//! [`collapse`] multiplies out the products of a model of which only the integers are left: the integers of a chain's factors
//! are multiplied exactly and rounded, the scales add up, and what the roundings lose on average, before and after, goes into the biases.

use super::tensor::Tensor as Floats;
use super::{ImportError, arrays};
use crate::graph::builder::{Builder, output, series};
use crate::graph::cells::{Activation, Direction, FastGrnn, Loop, Preactivation, Product, Scalar, append};
use crate::graph::evaluate::evaluate_observed;
use crate::graph::ops::add::{Add, Term};
use crate::graph::ops::bias::Bias;
use crate::graph::ops::matmul::MatMul;
use crate::graph::ops::scan::{Scan, Steps};
use crate::graph::ops::{Op, Parameter};
use crate::graph::rescale::Shifts;
use crate::graph::{Graph, Node, Number, Rescale, Reveal, Tensor, Weights, evaluate};
use crate::protocols::truncation::Rounding;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Width of the operands and results of sigmoid and tanh.
const ACTIVATION_BITS: u32 = 16;
/// Scale of their results.
const ACTIVATION_SCALE: i32 = 14;
/// What has to be left of the headroom when the integers are computed.
const LEAST_HEADROOM: f64 = 1.5;
/// Widths of the pre-activation that a scan tries: what a look-up can be indexed with.
pub const SCAN: std::ops::RangeInclusive<u32> = 8..=12;

/// Which products of two matrices are multiplied out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chains {
    /// `W1 W2`.
    pub input: bool,
    /// `U1 U2`.
    pub state: bool,
}

/// How the arrays are called and laid out, and the widths of the result.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// What names begin with, in the file.
    pub prefix: String,
    /// Names of ours that are called otherwise in the file.
    pub renames: BTreeMap<String, String>,
    /// Matrices are stored `[out, in]`.
    pub transposed: bool,
    /// `zeta` and `nu` went through their sigmoid already.
    pub activated: bool,
    /// Products to multiply out before anything is quantised.
    pub collapse: Chains,
    /// Of every rescale.
    pub rounding: Rounding,
    /// How much larger than on the calibration items values may become.
    pub headroom: f64,
    /// Bits of the items.
    pub input_bits: u32,
    /// Bits of weights.
    pub weight_bits: u32,
    /// Bits between the two factors of a product.
    pub rank_bits: u32,
    /// Bits of the pre-activation, which a fused step looks up.
    pub pre_bits: u32,
    /// Bits of the state.
    pub state_bits: u32,
    /// Bits of the scores.
    pub score_bits: u32,
    /// What the client learns.
    pub reveal: Reveal,
    /// Names of the classes; by default numbers.
    pub labels: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            renames: BTreeMap::new(),
            transposed: false,
            activated: false,
            collapse: Chains::default(),
            rounding: Rounding::Floor,
            headroom: 2.0,
            input_bits: 8,
            weight_bits: 8,
            rank_bits: 8,
            pre_bits: 10,
            state_bits: 16,
            score_bits: 16,
            reveal: Reveal::Scores,
            labels: Vec::new(),
        }
    }
}

/// A matrix of reals, row by row.
#[derive(Clone, Debug, PartialEq)]
struct Matrix {
    rows: usize,
    columns: usize,
    data: Vec<f64>,
}

impl Matrix {
    /// A row times the matrix.
    fn times(&self, x: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; self.columns];
        for (x, row) in x.iter().zip(self.data.chunks(self.columns)) {
            out.iter_mut().zip(row).for_each(|(o, w)| *o += x * w);
        }
        out
    }

    fn product(&self, other: &Self) -> Self {
        let data = self.data.chunks(self.columns).flat_map(|row| other.times(row)).collect();
        Self { rows: self.rows, columns: other.columns, data }
    }

    fn transposed(&self) -> Self {
        let data = (0..self.columns).flat_map(|c| self.data.iter().skip(c).step_by(self.columns).copied()).collect();
        Self { rows: self.columns, columns: self.rows, data }
    }
}

/// The product of the first `n` factors.
fn product(chain: &[Matrix]) -> Matrix {
    chain[1..].iter().fold(chain[0].clone(), |all, factor| all.product(factor))
}

/// A FastGRNN in floats, `zeta` and `nu` as they enter the formula.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    w: Vec<Matrix>,
    u: Vec<Matrix>,
    bg: Vec<f64>,
    bh: Vec<f64>,
    zeta: f64,
    nu: f64,
    fc: Matrix,
    fc_bias: Vec<f64>,
}

/// What a run in floats shows of each step.
struct Step {
    state: Vec<f64>,
    pre: Vec<f64>,
}

fn sigmoid(x: f64) -> f64 {
    // Does not overflow.
    0.5 * (1.0 + (0.5 * x).tanh())
}

/// The largest magnitude; of zeros a little.
fn largest<'v>(values: impl IntoIterator<Item = &'v f64>) -> f64 {
    values.into_iter().fold(1e-9, |m, v| v.abs().max(m))
}

fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

impl Network {
    /// Reads the arrays of a `.npz` or `.safetensors` file. `features` is the size of a step of the items.
    ///
    /// # Errors
    /// Names the file, and an array that is missing or has a wrong size.
    pub fn load(path: &Path, features: usize, options: &Options) -> Result<Self, ImportError> {
        let arrays = arrays::all(path)?;
        let network = Arrays { arrays: &arrays, options }.network(features);
        let mut network = network.map_err(|what| ImportError::file(path, what))?;
        if options.collapse.input {
            network.w = vec![product(&network.w)];
        }
        if options.collapse.state {
            network.u = vec![product(&network.u)];
        }
        Ok(network)
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.fc_bias.len()
    }

    /// The scores of an item `[steps, features]`.
    pub fn scores(&self, item: &[f64]) -> Vec<f64> {
        self.trace(item, &mut |_| {}).1
    }

    /// The last state and the scores, showing every step.
    fn trace(&self, item: &[f64], watch: &mut dyn FnMut(&Step)) -> (Vec<f64>, Vec<f64>) {
        let (w, u) = (product(&self.w), product(&self.u));
        let mut h = vec![0.0; u.rows];
        for x in item.chunks(w.rows) {
            let pre = sum(&w.times(x), &u.times(&h));
            let next = (0..h.len()).map(|i| {
                let g = sigmoid(pre[i] + self.bg[i]);
                (self.zeta * (1.0 - g) + self.nu) * (pre[i] + self.bh[i]).tanh() + g * h[i]
            });
            let next = next.collect();
            watch(&Step { state: std::mem::replace(&mut h, next), pre });
        }
        let scores = sum(&self.fc.times(&h), &self.fc_bias);
        (h, scores)
    }
}

/// Arrays by the names of this module.
struct Arrays<'a> {
    arrays: &'a BTreeMap<String, Floats>,
    options: &'a Options,
}

impl Arrays<'_> {
    fn find(&self, name: &str) -> Option<&Floats> {
        let name = self.options.renames.get(name).map_or(name, String::as_str);
        self.arrays.get(&format!("{}{name}", self.options.prefix)).or_else(|| self.arrays.get(name))
    }

    fn get(&self, name: &str) -> Result<(&[usize], Vec<f64>), String> {
        let array = self.find(name).ok_or_else(|| {
            let known: Vec<&str> = self.arrays.keys().take(20).map(String::as_str).collect();
            format!("it has no array '{name}' but {}", known.join(", "))
        })?;
        let data: Vec<f64> = array.to_floats().into_iter().map(f64::from).collect();
        if data.is_empty() || data.iter().any(|v| !v.is_finite()) {
            return Err(format!("array '{name}' is empty, or has an element that is no finite number"));
        }
        Ok((array.shape(), data))
    }

    fn vector(&self, name: &str, size: Option<usize>) -> Result<Vec<f64>, String> {
        let (_, data) = self.get(name)?;
        match size {
            Some(size) if size != data.len() => Err(format!("array '{name}' has {} elements, not {size}", data.len())),
            _ => Ok(data),
        }
    }

    /// `[rows, columns]`; one of the two may be open.
    fn matrix(&self, name: &str, rows: Option<usize>, columns: Option<usize>) -> Result<Matrix, String> {
        let (shape, data) = self.get(name)?;
        let rows = rows.unwrap_or_else(|| data.len() / columns.unwrap_or(1).max(1)).max(1);
        let columns = columns.unwrap_or(data.len() / rows);
        let stored = if self.options.transposed { [columns, rows] } else { [rows, columns] };
        if data.len() != rows * columns || (shape.len() == 2 && shape != stored) {
            return Err(format!("array '{name}' has shape {shape:?}, {stored:?} is expected"));
        }
        let matrix = Matrix { rows: stored[0], columns: stored[1], data };
        Ok(if self.options.transposed { matrix.transposed() } else { matrix })
    }

    fn chain(&self, name: &str, rows: usize, columns: usize) -> Result<Vec<Matrix>, String> {
        if self.find(name).is_some() {
            return Ok(vec![self.matrix(name, Some(rows), Some(columns))?]);
        }
        let first = self.matrix(&format!("{name}1"), Some(rows), None)?;
        let second = self.matrix(&format!("{name}2"), Some(first.columns), Some(columns))?;
        Ok(vec![first, second])
    }

    fn network(&self, features: usize) -> Result<Network, String> {
        let (bg, fc_bias) = (self.vector("Bg", None)?, self.vector("FCbias", None)?);
        let (hidden, classes) = (bg.len(), fc_bias.len());
        let number = |name: &str| {
            let v = self.vector(name, Some(1))?[0];
            let v = if self.options.activated { v } else { sigmoid(v) };
            if (0.0..=1.0).contains(&v) { Ok(v) } else { Err(format!("{name} = {v} is no result of a sigmoid")) }
        };
        Ok(Network {
            w: self.chain("W", features, hidden)?,
            u: self.chain("U", hidden, hidden)?,
            bh: self.vector("Bh", Some(hidden))?,
            zeta: number("zeta")?,
            nu: number("nu")?,
            fc: self.matrix("FC", Some(hidden), Some(classes))?,
            bg,
            fc_bias,
        })
    }
}

/// The largest scale at which `headroom * magnitude` fits a signed integer.
fn fit_scale(magnitude: f64, bits: u32, headroom: f64) -> i32 {
    (((1i64 << (bits - 1)) - 1) as f64 / (headroom * magnitude)).log2().floor() as i32
}

fn power(exponent: i32) -> f64 {
    2f64.powi(exponent)
}

fn fits(v: i64, bits: u32) -> bool {
    let limit = 1i64 << (bits - 1);
    (-limit..limit).contains(&v)
}

/// A network of integers, and how much is left of each width: its largest number by the largest that was seen.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The public part.
    pub graph: Graph,
    /// The server's tensors.
    pub weights: Weights,
    /// Name of a value in the graph, and its headroom on the calibration items.
    pub headroom: Vec<(String, f64)>,
    /// In floats.
    pub network: Network,
}

/// Reads a FastGRNN and makes integers of it, for calibration items `[items, steps, features]`.
///
/// # Errors
/// What is wrong with the file or the items, or which width is too small.
pub fn import(path: &Path, calibration: &Floats, options: &Options) -> Result<Imported, ImportError> {
    let &[_, _, features] = calibration.shape() else {
        return Err(ImportError::value("calibration", "items [items, steps, features] are expected"));
    };
    let network = Network::load(path, features, options)?;
    quantise(&network, calibration, options).map_err(|what| ImportError::file(path, what))
}

struct Quantiser<'o> {
    options: &'o Options,
    weights: Weights,
}

impl Quantiser<'_> {
    /// A tensor at a scale; returns its numbers as reals.
    fn add(&mut self, name: &str, v: &[f64], shape: Vec<usize>, scale: i32, bits: u32) -> Result<Vec<f64>, String> {
        let data: Vec<i64> = v.iter().map(|v| (v * power(scale) + 0.5).floor() as i64).collect();
        if data.iter().any(|&v| !fits(v, bits)) {
            return Err(format!("{name}: a number does not fit {bits} bits at scale {scale}"));
        }
        let reals = data.iter().map(|&v| v as f64 * power(-scale)).collect();
        self.weights.insert(name.into(), Tensor::new(shape, data));
        Ok(reals)
    }

    fn rescale(&self, shift: i32) -> Rescale {
        let rescale = Rescale::by(shift.max(0) as u32, self.options.rounding);
        Rescale { left: (-shift).max(0) as u32, ..rescale }
    }

    /// What rounding down to a scale takes off on average, where something is dropped.
    fn lost(&self, shift: i32, scale: i32) -> f64 {
        if shift > 0 && self.options.rounding == Rounding::Floor { 0.5 * power(-scale) } else { 0.0 }
    }

    /// The products of a chain that reads `rows` at a scale, and the mean error that their roundings leave in its result.
    fn chain(
        &mut self,
        letter: &str,
        factors: &[Matrix],
        rows: &[Vec<f64>],
        mut scale: i32,
        target: i32,
    ) -> Result<(Vec<Product>, Vec<f64>), String> {
        let o = self.options;
        let mut products = Vec::new();
        let mut error = vec![0.0; factors[0].rows];
        for (i, factor) in factors.iter().enumerate() {
            let last = i + 1 == factors.len();
            let tensor = if factors.len() == 1 { letter.to_string() } else { format!("{letter}{}", i + 1) };
            let weight_scale = fit_scale(largest(&factor.data), o.weight_bits, 1.0);
            let rounded =
                self.add(&tensor, &factor.data, vec![factor.rows, factor.columns], weight_scale, o.weight_bits)?;
            let (bits, to) = if last {
                (o.pre_bits, target)
            } else {
                let range = everything(&product(&factors[..=i]), rows);
                (o.rank_bits, fit_scale(range, o.rank_bits, o.headroom))
            };
            let shift = scale + weight_scale - to;
            let weights = Parameter::new(&tensor, o.weight_bits);
            let op = MatMul { weights, columns: factor.columns, rescale: self.rescale(shift) };
            products.push(Product { op, out: Number::new(bits, to) });
            error = Matrix { data: rounded, ..factor.clone() }.times(&error);
            let lost = self.lost(shift, to);
            error.iter_mut().for_each(|e| *e -= lost);
            scale = to;
        }
        Ok((products, error))
    }
}

/// The largest magnitude of rows times a matrix.
fn everything(matrix: &Matrix, rows: &[Vec<f64>]) -> f64 {
    rows.iter().map(|row| largest(&matrix.times(row))).fold(0.0, f64::max)
}

/// Makes integers of a network, for calibration items `[items, steps, features]`.
///
/// # Errors
/// Which width is too small.
pub fn quantise(network: &Network, calibration: &Floats, options: &Options) -> Result<Imported, String> {
    let o = options;
    let all = [o.input_bits, o.weight_bits, o.rank_bits, o.pre_bits, o.state_bits, o.score_bits];
    if all.iter().any(|b| !(4..=16).contains(b)) || !o.headroom.is_finite() || o.headroom < 1.0 {
        return Err("widths are from 4 to 16 bits, and the headroom is at least 1".into());
    }
    let &[items, steps, features] = calibration.shape() else {
        return Err("items [items, steps, features] are expected".into());
    };
    let x: Vec<f64> = calibration.to_floats().into_iter().map(f64::from).collect();
    if items == 0 || x.iter().any(|v| !v.is_finite()) || features != network.w[0].rows {
        let rows = network.w[0].rows;
        return Err(format!("items of {features} features, {rows} are expected, all of them finite numbers"));
    }
    let (mut xs, mut hs, mut states, mut c_range) = (Vec::new(), Vec::new(), 0f64, 0f64);
    let (mut score_range, item_size) = (0f64, steps * features);
    for item in x.chunks(item_size) {
        xs.extend(item.chunks(features).map(<[f64]>::to_vec));
        let (last, scores) = network.trace(item, &mut |step| {
            let with = |bias: &[f64]| largest(&sum(&step.pre, bias));
            c_range = c_range.max(largest(&step.pre)).max(with(&network.bg)).max(with(&network.bh));
            states = states.max(largest(&step.state));
            hs.push(step.state.clone());
        });
        states = states.max(largest(&last));
        let without: Vec<f64> = scores.iter().zip(&network.fc_bias).map(|(s, b)| s - b).collect();
        score_range = score_range.max(largest(&scores)).max(largest(&without));
    }
    let c_range = c_range.max(everything(&product(&network.w), &xs)).max(everything(&product(&network.u), &hs));

    let left = (ACTIVATION_BITS - o.pre_bits) as i32;
    let c_scale = fit_scale(c_range, o.pre_bits, o.headroom).min(ACTIVATION_SCALE - left);
    let input_scale = fit_scale(largest(&x), o.input_bits, o.headroom);
    // zeta (1 - g) + nu never exceeds zeta + nu, so this scale needs no observation.
    let z_scale = fit_scale(network.zeta + network.nu + power(-14), 16, 1.0).min(15);
    let state_scale = fit_scale(states, o.state_bits, o.headroom).min(z_scale);

    let mut q = Quantiser { options, weights: Weights::new() };
    let (input, w_error) = q.chain("W", &network.w, &xs, input_scale, c_scale)?;
    let (state, u_error) = q.chain("U", &network.u, &hs, state_scale, c_scale)?;

    // The biases stand at the scale of c and take back what rounding down loses on average.
    let hidden = network.bg.len();
    let mut biases = [("Bg", &network.bg), ("Bh", &network.bh)].map(|(name, bias)| {
        let bias = bias.iter().zip(&w_error).zip(&u_error).map(|((b, w), u)| b - w - u);
        (name, bias.collect::<Vec<f64>>())
    });
    let magnitude = biases.iter().map(|(_, v)| largest(v)).fold(0.0, f64::max);
    let bias_bits = if magnitude * power(c_scale) < 127.0 { 8 } else { 16 };
    for (name, v) in &mut biases {
        q.add(name, v, vec![hidden], c_scale, bias_bits)?;
    }
    q.add("zeta", &[network.zeta], vec![1], z_scale, 16)?;
    let nu_shift = (fit_scale(network.nu.max(power(-12)), 16, 1.0) - z_scale).clamp(0, 12);
    q.add("nu", &[network.nu], vec![1], z_scale + nu_shift, 16)?;

    let fc_scale = fit_scale(largest(&network.fc.data), o.weight_bits, 1.0);
    let score_scale = fit_scale(score_range, o.score_bits, o.headroom).min(state_scale + fc_scale);
    let classes = network.classes();
    q.add("FC", &network.fc.data, vec![hidden, classes], fc_scale, o.weight_bits)?;
    let score_shift = state_scale + fc_scale - score_scale;
    let lost = q.lost(score_shift, score_scale);
    let fc_bias: Vec<f64> = network.fc_bias.iter().map(|b| b + lost).collect();
    q.add("FCbias", &fc_bias, vec![classes], score_scale, o.score_bits)?;

    let number = |scale| Number::new(ACTIVATION_BITS, scale);
    let up = Rescale { left: left as u32, ..Rescale::default() };
    let bias = |name: &str| Bias {
        bias: Parameter::new(name, bias_bits),
        shape: None,
        operand: Rescale::default(),
        rescale_bias: Rescale::default(),
        rescale: up.clone(),
    };
    let not_negative = |name: &str| Parameter { min: Some(0), ..Parameter::new(name, 16) };
    let state_number = Number::new(o.state_bits, state_scale);
    let cell = FastGrnn {
        hidden,
        pre: Preactivation { input, state, sum: Add::default(), out: Number::new(o.pre_bits, c_scale), bias: None },
        gate_bias: (bias("Bg"), number(c_scale + left)),
        candidate_bias: (bias("Bh"), number(c_scale + left)),
        gate: Activation::sigmoid(number(ACTIVATION_SCALE)),
        candidate: Activation::tanh(number(ACTIVATION_SCALE)),
        zeta: Scalar { tensor: not_negative("zeta"), rescale: q.rescale(ACTIVATION_SCALE) },
        nu: Scalar { tensor: not_negative("nu"), rescale: q.rescale(nu_shift) },
        weight: number(z_scale),
        kept: q.rescale(ACTIVATION_SCALE),
        update: (q.rescale(ACTIVATION_SCALE), number(z_scale)),
        update_out: q.rescale(z_scale - state_scale),
        state: state_number,
    };
    let mut b = Builder::new();
    let how = Loop { direction: Direction::Forward, rows: &[], initial: None, steps: Steps::Last };
    let h = append(&mut b, "rnn", "x", &cell, &how);
    let scores = Number::new(o.score_bits, score_scale);
    let weights = Parameter::new("FC", o.weight_bits);
    let products = MatMul { weights, columns: classes, rescale: q.rescale(score_shift) };
    let products = b.compute("products", products, &[&h], scores);
    let rescale = Rescale::default();
    let fc_bias = Bias { bias: Parameter::new("FCbias", o.score_bits), rescale, ..bias("FCbias") };
    let logits = b.compute("logits", fc_bias, &[&products], scores);
    let mut out = output("scores", &logits, o.reveal);
    out.labels = if o.labels.is_empty() { (0..classes).map(|c| c.to_string()).collect() } else { o.labels.clone() };
    let x_number = Number::new(o.input_bits, input_scale);
    let graph = b.finish(steps, vec![series("x", &[features], x_number)], vec![out]);

    let weights = q.weights;
    let headroom = headroom(&graph, &weights, &integers(&x, x_number, [items, steps, features])?)?;
    // These cannot wrap for any item, or may: what is only added afterwards.
    let bounded = ["rnn/open", "rnn/scaled", "rnn/z", "rnn/update"];
    let tight =
        headroom.iter().find(|(name, r)| *r < LEAST_HEADROOM.min(o.headroom) && !bounded.contains(&name.as_str()));
    if let Some((name, ratio)) = tight {
        return Err(format!(
            "value '{name}' has a headroom of {ratio:.2} on the calibration items, which is too little"
        ));
    }
    Ok(Imported { graph, weights, headroom, network: network.clone() })
}

/// The integers of items `[items, steps, features]`, item by item.
///
/// # Errors
/// If a number does not fit.
fn integers(x: &[f64], number: Number, [_, steps, features]: [usize; 3]) -> Result<Vec<Tensor>, String> {
    let one = |v: &f64| {
        let v = (v * power(number.scale)).round_ties_even() as i64;
        if fits(v, number.bits) { Ok(v) } else { Err(format!("an item does not fit {} bits", number.bits)) }
    };
    let item = |x: &[f64]| Ok(Tensor::new(vec![steps, features], x.iter().map(one).collect::<Result<_, String>>()?));
    x.chunks(steps * features).map(item).collect()
}

/// How much is left of the width of every computed value.
fn headroom(graph: &Graph, weights: &Weights, items: &[Tensor]) -> Result<Vec<(String, f64)>, String> {
    let typed = graph.infer(graph.steps).map_err(|e| e.to_string())?;
    let mut most: BTreeMap<usize, i64> = BTreeMap::new();
    for item in items {
        evaluate_observed(&typed, weights, std::slice::from_ref(item), &mut |id, _, exact| {
            let largest = most.entry(id.index()).or_insert(1);
            *largest = exact.data.iter().fold(*largest, |m, v| m.max(v.abs()));
        });
    }
    let ratio = |(i, largest): (usize, i64)| {
        let value = &typed.values[i];
        let limit = ((1i64 << (value.ty.number.bits - 1)) - 1) as f64;
        (value.name.clone(), limit / largest as f64)
    };
    Ok(most.into_iter().map(ratio).collect())
}

/// A width of the pre-activation that was tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    /// The width.
    pub pre_bits: u32,
    /// Part of the items with the class of the network in floats; or why there is no such network.
    pub agreement: Result<f64, String>,
    /// Part of the items with the right class, where labels are given.
    pub accuracy: Option<f64>,
}

/// Tries the widths of [`SCAN`] on the calibration items.
pub fn scan(network: &Network, calibration: &Floats, labels: Option<&[usize]>, options: &Options) -> Vec<Tried> {
    SCAN.map(|pre_bits| {
        let options = Options { pre_bits, ..options.clone() };
        let tried = quantise(network, calibration, &options).and_then(|found| found.classes(calibration));
        let (agreement, accuracy) = match tried {
            Err(what) => (Err(what), None),
            Ok(classes) => {
                let same = |other: &[usize]| {
                    let same = classes.iter().zip(other).filter(|(a, b)| a == b).count();
                    same as f64 / classes.len().max(1) as f64
                };
                let x: Vec<f64> = calibration.to_floats().into_iter().map(f64::from).collect();
                let item = x.len() / classes.len().max(1);
                let float: Vec<usize> = x.chunks(item).map(|x| first_largest(&network.scores(x))).collect();
                (Ok(same(&float)), labels.map(same))
            }
        };
        Tried { pre_bits, agreement, accuracy }
    })
    .collect()
}

fn first_largest<T: PartialOrd>(row: &[T]) -> usize {
    (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

impl Imported {
    /// The classes of items `[items, steps, features]`.
    ///
    /// # Errors
    /// If an item does not fit the input.
    pub fn classes(&self, items: &Floats) -> Result<Vec<usize>, String> {
        let &[n, steps, features] = items.shape() else { return Err("items [items, steps, features]".into()) };
        let typed = self.graph.infer(steps).map_err(|e| e.to_string())?;
        let x: Vec<f64> = items.to_floats().into_iter().map(f64::from).collect();
        let items = integers(&x, self.graph.inputs[0].number, [n, steps, features])?;
        Ok(items
            .iter()
            .map(|x| first_largest(&evaluate(&typed, &self.weights, std::slice::from_ref(x))[0].data))
            .collect())
    }
}

/// Multiplies out the chains of a model of FastGRNN layers, rounds their products to `weight_bits`, and narrows the pre-activation to
/// `pre_bits`.
///
/// # Errors
/// If there is no FastGRNN in the graph, or a width is too small.
pub fn collapse(
    graph: &Graph,
    weights: &Weights,
    chains: Chains,
    weight_bits: u32,
    pre_bits: Option<u32>,
) -> Result<(Graph, Weights), String> {
    if !(4..=16).contains(&weight_bits) {
        return Err("the width of a product is from 4 to 16 bits".into());
    }
    let (mut graph, mut weights) = (Graph { fits: Vec::new(), ..graph.clone() }, weights.clone());
    let mut layers = 0;
    for i in 0..graph.nodes.len() {
        // Nodes before the loop may vanish.
        let Some(name) = graph.nodes.get(i).filter(|n| matches!(n.op, Op::Scan(_))).map(|n| n.name.clone()) else {
            continue;
        };
        Layer { graph: &mut graph, weights: &mut weights }.collapse(&name, chains, weight_bits, pre_bits)?;
        layers += 1;
    }
    if layers == 0 {
        return Err("the model has no loop".into());
    }
    Ok((graph, weights))
}

struct Layer<'a> {
    graph: &'a mut Graph,
    weights: &'a mut Weights,
}

/// What dropping so many bits takes off a number on average.
fn dropped(bits: u32, rounding: Rounding) -> f64 {
    if rounding == Rounding::Floor { 0.5 * (1.0 - power(-(bits as i32))) } else { 0.0 }
}

fn shift(rescale: &Rescale) -> Result<u32, String> {
    match rescale.shift {
        Shifts::All(shift) => Ok(shift),
        Shifts::Channels(_) => Err("a rescale by channels is no FastGRNN's".into()),
    }
}

fn named<'n>(nodes: &'n [Node], name: &str) -> Option<&'n Node> {
    nodes.iter().find(|n| n.name == name)
}

/// The products that end in a value, first to last.
fn chain(nodes: &[Node], name: &str) -> Vec<(String, MatMul)> {
    match named(nodes, name).map(|n| (&n.op, &n.ins)) {
        Some((Op::MatMul(op), ins)) => {
            let mut all = chain(nodes, &ins[0]);
            all.push((name.to_string(), op.clone()));
            all
        }
        _ => Vec::new(),
    }
}

/// The place of a layer's parts in the body of its loop.
struct Parts {
    sum: String,
    operands: [String; 2],
    biases: [String; 2],
}

/// Finds `sigmoid(R(c + b))` and `tanh(R(c + b'))` with `c` a sum of two.
fn parts(scan: &Scan) -> Option<Parts> {
    let operand = |is: fn(&Op) -> bool| {
        let node = scan.body.iter().find(|n| is(&n.op))?;
        named(&scan.body, &node.ins[0]).filter(|n| matches!(n.op, Op::Bias(_)))
    };
    let gate = operand(|op| matches!(op, Op::Sigmoid(_)))?;
    let candidate = operand(|op| matches!(op, Op::Tanh(_)))?;
    let sum = named(&scan.body, &gate.ins[0]).filter(|n| matches!(n.op, Op::Add(_)) && n.ins.len() == 2)?;
    (gate.ins == candidate.ins).then(|| Parts {
        sum: sum.name.clone(),
        operands: [sum.ins[0].clone(), sum.ins[1].clone()],
        biases: [gate.name.clone(), candidate.name.clone()],
    })
}

impl Layer<'_> {
    fn body(&mut self, name: &str) -> &mut Scan {
        match self.graph.nodes.iter_mut().find(|n| n.name == name).map(|n| &mut n.op) {
            Some(Op::Scan(scan)) => scan,
            _ => unreachable!("a loop of that name was found"),
        }
    }

    /// What the roundings of a chain add on average to its results.
    fn mean_error(&self, chain: &[(String, MatMul)], rounding: Rounding) -> Result<Vec<f64>, String> {
        let mut error = vec![0.0; chain.first().map_or(0, |(_, f)| self.weights[&f.weights.tensor].shape[0])];
        for (_, f) in chain {
            let t = &self.weights[&f.weights.tensor];
            let data = t.data.iter().map(|&v| v as f64).collect();
            error = Matrix { rows: t.shape[0], columns: t.shape[1], data }.times(&error);
            let (floor, shift) = (f.rescale.floor, shift(&f.rescale)?);
            for e in &mut error {
                *e *= power(-((floor + shift) as i32));
                *e -= dropped(floor, Rounding::Floor) * power(-(shift as i32));
                *e -= dropped(shift, rounding);
                *e *= power(f.rescale.left as i32);
            }
        }
        Ok(error)
    }

    fn collapse(&mut self, name: &str, chains: Chains, weight_bits: u32, pre_bits: Option<u32>) -> Result<(), String> {
        let refuse = |what: &str| Err(format!("node '{name}': {what}"));
        let node = named(&self.graph.nodes, name).expect("it was found").clone();
        let Op::Scan(scan) = &node.op else { return refuse("it is no loop") };
        let Some(parts) = parts(scan) else { return refuse("it is no FastGRNN") };
        let sum = named(&scan.body, &parts.sum).expect("found");
        let (Op::Add(add), Some(sum_number)) = (&sum.op, sum.out) else { return refuse("it is no FastGRNN") };
        let bias = |i: usize| match named(&scan.body, &parts.biases[i]).map(|n| &n.op) {
            Some(Op::Bias(bias)) => bias.clone(),
            _ => unreachable!("found"),
        };
        let left = bias(0).rescale.left;
        let significant = ACTIVATION_BITS.saturating_sub(left);
        let cut = match pre_bits {
            Some(bits) if !(4..=significant).contains(&bits) => {
                return Err(format!("the pre-activation has {significant} bits, not {bits}"));
            }
            bits => bits.map_or(0, |bits| significant - bits),
        };
        let c_scale = sum_number.scale - cut as i32;
        let mut terms = Vec::new();
        let (mut before, mut after) = (vec![0.0; bias_len(self.weights, &bias(0))], Vec::new());
        after.clone_from(&before);
        for (i, wanted) in [(0, chains.input), (1, chains.state)] {
            let operand = &parts.operands[i];
            let term = add.term(i);
            let rounding = if shift(&term.rescale)? > 0 { term.rescale.rounding } else { bias_rounding(scan) };
            // In the body, or of all steps before the loop.
            let mut products = chain(&scan.body, operand);
            let inside = !products.is_empty();
            if !inside && let Some(at) = scan.slices.iter().position(|s| s == operand) {
                products = chain(&self.graph.nodes, &node.ins[at]);
            }
            let own = shift(&term.rescale)?;
            let mut error = self.mean_error(&products, rounding)?;
            error.resize(before.len(), 0.0);
            for (b, e) in before.iter_mut().zip(&error) {
                *b += e * power(-(own as i32)) - dropped(own, rounding);
            }
            let error: Vec<f64> = error.iter().map(|e| e * power(-(own as i32))).collect();
            if wanted && products.len() > 1 {
                let down = self.multiply(
                    &products,
                    own + cut,
                    weight_bits,
                    (significant - cut, c_scale),
                    inside.then_some(name),
                )?;
                terms.push(Term::default());
                after.iter_mut().for_each(|a| *a -= dropped(down, rounding));
            } else {
                let rescale = Rescale { shift: Shifts::All(own + cut), rounding, ..Rescale::default() };
                terms.push(Term { rescale, ..term });
                for (a, e) in after.iter_mut().zip(&error) {
                    *a += e * power(-(cut as i32)) - dropped(own + cut, rounding);
                }
            }
        }
        // The biases stand at the scale of the pre-activation and take over the difference.
        let mut bits = bias(0).bias.bits;
        let tensors: BTreeSet<String> = (0..2).map(|i| bias(i).bias.tensor).collect();
        for tensor in &tensors {
            let t = self.weights.get_mut(tensor).ok_or("a bias is missing")?;
            for ((v, b), a) in t.data.iter_mut().zip(&before).zip(&after) {
                *v = ((*v as f64 + b) * power(-(cut as i32)) - a).round_ties_even() as i64;
            }
            if t.data.iter().any(|&v| !fits(v, bits)) {
                bits = ACTIVATION_BITS;
            }
        }
        if terms.iter().all(|t| *t == Term::default()) {
            terms.clear();
        }
        for node in &mut self.body(name).body {
            if node.name == parts.sum {
                node.op = Add { terms: std::mem::take(&mut terms), ..Add::default() }.into();
                node.out = Some(Number { scale: c_scale, ..sum_number });
            } else if parts.biases.contains(&node.name)
                && let Op::Bias(bias) = &mut node.op
            {
                bias.bias.bits = bits;
                bias.rescale.left += cut;
            }
        }
        Ok(())
    }

    /// Puts one product in the place of a chain; returns the shift of its rescale.
    fn multiply(
        &mut self,
        products: &[(String, MatMul)],
        shifts: u32,
        weight_bits: u32,
        (bits, scale): (u32, i32),
        body: Option<&str>,
    ) -> Result<u32, String> {
        let names: Vec<&str> = products.iter().map(|(_, f)| f.weights.tensor.as_str()).collect();
        let tensors: Vec<&Tensor> = names.iter().map(|n| &self.weights[*n]).collect();
        let mut all: Vec<i128> = tensors[0].data.iter().map(|&v| v.into()).collect();
        for pair in tensors.windows(2) {
            let (inner, columns) = (pair[0].shape[1], pair[1].shape[1]);
            let of = |row: &[i128], c: usize| {
                row.iter().zip(pair[1].data.iter().skip(c).step_by(columns)).map(|(a, &b)| a * i128::from(b)).sum()
            };
            all = all.chunks(inner).flat_map(|row| (0..columns).map(move |c| of(row, c))).collect::<Vec<i128>>();
        }
        let shape = vec![tensors[0].shape[0], tensors[tensors.len() - 1].shape[1]];
        let mut down = i64::from(shifts);
        for (_, f) in products {
            down += i64::from(f.rescale.floor) + i64::from(shift(&f.rescale)?) - i64::from(f.rescale.left);
        }
        // Rounded to as many bits as asked for, and no more than the shift has.
        let rounded = |drop: u32| all.iter().map(move |v| ((v + (1i128 << drop >> 1)) >> drop) as i64);
        let drop = (0..64).find(|&d| rounded(d).all(|v| fits(v, weight_bits))).unwrap_or(64);
        if i64::from(drop) > down || down > 63 {
            return Err(format!("{weight_bits} bits for the product {} are too few", names.join(" ")));
        }
        let letter = names[0].trim_end_matches(|c: char| c.is_ascii_digit());
        let letter = if self.weights.contains_key(letter) {
            format!("{letter}{}", self.weights.len())
        } else {
            letter.to_string()
        };
        let data: Vec<i64> = rounded(drop).collect();
        let (first, last) = (&products[0], &products[products.len() - 1]);
        let rescale = Rescale::by((down - i64::from(drop)) as u32, last.1.rescale.rounding);
        let single = MatMul { weights: Parameter::new(&letter, weight_bits), columns: shape[1], rescale };
        let gone: Vec<String> = products[..products.len() - 1].iter().map(|(n, _)| n.clone()).collect();
        let removed: BTreeSet<String> = names.iter().map(|n| n.to_string()).collect();
        let nodes = match body {
            Some(name) => &mut self.body(name).body,
            None => &mut self.graph.nodes,
        };
        let source = named(nodes, &first.0).expect("it is a node of the chain").ins.clone();
        let end = nodes.iter_mut().find(|n| n.name == last.0).expect("it is a node of the chain");
        (end.op, end.ins, end.out) = (single.into(), source, Some(Number::new(bits, scale)));
        nodes.retain(|n| !gone.contains(&n.name));
        // Another layer may read a factor.
        let scans = |n: &Node| if let Op::Scan(scan) = &n.op { scan.body.clone() } else { Vec::new() };
        let inner: Vec<Node> = self.graph.nodes.iter().flat_map(scans).collect();
        let used = |name: &str| {
            let reads = |n: &Node| matches!(&n.op, Op::MatMul(f) if f.weights.tensor == name);
            self.graph.nodes.iter().chain(&inner).any(reads)
        };
        for name in removed.iter().filter(|n| !used(n)) {
            self.weights.remove(name);
        }
        self.weights.insert(letter, Tensor::new(shape, data));
        Ok((down - i64::from(drop)) as u32)
    }
}

/// Elements of a bias.
fn bias_len(weights: &Weights, bias: &Bias) -> usize {
    weights.get(&bias.bias.tensor).map_or(0, |t| t.data.len())
}

/// The rounding of a loop's rescales: that of the first that drops bits.
fn bias_rounding(scan: &Scan) -> Rounding {
    let of = |op: &Op| match op {
        Op::Mul(op) => Some(op.rescale.rounding),
        _ => None,
    };
    scan.body.iter().find_map(|n| of(&n.op)).unwrap_or_default()
}
