//! Random small networks with random weights, against the format's definition on plain integers.

use crate::oracle::{self, Case};
use crate::programs;
use crate::show;
use crate::source::Source;
use sirnn::fixed::{math, wrap};
use sirnn::model::description::{Activation, FORMAT, Factor, Input, Kind, Layer, Output, Pre, Scaled, State};
use sirnn::model::{Description, Extra, Reveal, Weights, build_with};
use sirnn::program::{clear, signed};
use sirnn::protocols::truncation::Rounding;
use std::collections::HashMap;

/// Width of what goes in and out of activations.
const BITS: u32 = 16;

/// The target.
///
/// # Panics
/// If a program computes other than the definition says.
pub fn check(data: &[u8]) {
    let s = &mut Source::new(data);
    let (profile, backend) = (programs::profile(s), programs::backend(s));
    let (batch, fuse) = (s.range(1, 3) as usize, s.range(0, 1) == 0);
    let mut d = description(s);
    show!("{}", d.to_toml());
    let arrays = arrays(s, &d);
    let weights = match Weights::from_arrays(&mut d, arrays.clone()) {
        Ok(weights) => weights,
        Err(e) => return show!("refused: {e}"),
    };
    let program = match build_with(&d, batch, profile, Extra { hidden: true, fuse }) {
        Ok(program) => program,
        Err(e) => return show!("refused: {e}"),
    };
    let x = s.values(d.item_len() * batch, signed(d.input.bits));
    let want = Reference { d: &d, arrays: &arrays, batch }.run(&x);
    let mut inputs = weights.inputs(&d);
    inputs.insert("x".into(), x);
    let got: HashMap<_, _> = clear::evaluate(&program, &inputs).expect("weights are as declared").into_iter().collect();
    for (name, values) in &got {
        assert_eq!(values, &want[name.as_str()], "{name} differs from the definition of the format");
    }
    oracle::defined(Case { program, profile, inputs, backend });
}

/// A description that is valid as a rule.
pub fn description(s: &mut Source) -> Description {
    let features = s.range(1, 4);
    let mut layers = Vec::new();
    for i in 0..s.range(1, 2) {
        layers.push(layer(s, i));
    }
    let scaled = |s: &mut Source, name: &str| Scaled { tensor: name.into(), bits: bits(s), shift: s.range(0, 8) };
    Description {
        format: FORMAT,
        name: "fuzzed".into(),
        steps: s.range(1, 4),
        features,
        rounding: s.pick(&[Rounding::Floor, Rounding::TowardZero]),
        labels: (0..s.range(1, 5)).map(|i| i.to_string()).collect(),
        reveal: s.pick(&[Reveal::Scores, Reveal::Class]),
        input: Input { bits: bits(s), scale: s.range(0, 8) as i32 },
        layer: layers,
        output: Output {
            tensor: "out".into(),
            bits: bits(s),
            floor: few(s),
            shift: s.range(0, 12),
            out: bits(s),
            scale: 3,
            bias: scaled(s, "out bias"),
        },
    }
}

fn bits(s: &mut Source) -> u32 {
    if s.range(0, 3) == 3 { s.range(2, 32) } else { s.range(2, 16) }
}

fn few(s: &mut Source) -> u32 {
    if s.range(0, 1) == 0 { 0 } else { s.range(0, 12) }
}

fn layer(s: &mut Source, index: u32) -> Layer {
    let chain = |s: &mut Source, letter: &str| -> Vec<Factor> {
        let count = s.range(1, 3);
        let factor = |i| {
            let out = bits(s);
            Factor {
                tensor: format!("{letter}{index}.{i}"),
                bits: bits(s),
                floor: few(s),
                shift: s.range(0, 14),
                left: if s.range(0, 1) == 0 { 0 } else { s.range(0, out - 1) },
                out,
                columns: (i + 1 < count).then(|| s.range(1, 3)),
            }
        };
        (0..count).map(factor).collect()
    };
    let (w, u) = (chain(s, "w"), chain(s, "u"));
    let activation = |s: &mut Source| Activation { scale: s.range(2, 14) };
    let (gate, candidate) = (activation(s), activation(s));
    let scaled =
        |s: &mut Source, name: &str| Scaled { tensor: format!("{name}{index}"), bits: bits(s), shift: s.range(0, 16) };
    Layer {
        kind: Kind::Fastgrnn,
        hidden: s.range(1, 4),
        w,
        u,
        pre: Pre {
            bits: bits(s),
            shift_w: few(s),
            shift_u: few(s),
            left: s.range(0, 14),
            scale: s.range(0, 16),
            bias_bits: bits(s),
            gate_bias: format!("gate bias{index}"),
            candidate_bias: format!("candidate bias{index}"),
        },
        gate,
        candidate,
        zeta: scaled(s, "zeta"),
        nu: scaled(s, "nu"),
        state: State {
            bits: bits(s),
            scale: 5,
            gate_shift: s.range(0, 20),
            candidate_shift: s.range(0, 20),
            out_shift: few(s),
            fits: None,
        },
    }
}

/// Values for all tensors.
pub fn arrays(s: &mut Source, d: &Description) -> HashMap<String, Vec<i64>> {
    let tensors = d.tensors().expect("every tensor has a name of its own");
    let scalars: HashMap<&str, i128> = d
        .layer
        .iter()
        .flat_map(|l| [(l.zeta.tensor.as_str(), l.max_zeta() / 2), (l.nu.tensor.as_str(), l.max_nu() / 2)])
        .collect();
    let mut values = |name: &str, bits, len: usize| -> Vec<i64> {
        let bounds = scalars.get(name).map_or(signed(bits), |&most| (0, most.max(0)));
        s.values(len, bounds).into_iter().map(|v| v as i64).collect()
    };
    let len = |shape: &[Option<u32>]| shape.iter().map(|n| n.expect("columns are given") as usize).product();
    tensors.iter().map(|(name, t)| (name.to_string(), values(name, t.bits, len(&t.shape)))).collect()
}

/// The definition, item by item and number by number.
struct Reference<'a> {
    d: &'a Description,
    arrays: &'a HashMap<String, Vec<i64>>,
    batch: usize,
}

impl Reference<'_> {
    fn round(&self, x: i128, shift: u32) -> i128 {
        self.d.rounding.apply(x, shift)
    }

    /// Rows `x` times a matrix.
    fn product(&self, x: &[i128], tensor: &str, columns: usize) -> Vec<i128> {
        let w = &self.arrays[tensor];
        (0..columns).map(|j| x.iter().enumerate().map(|(i, x)| x * i128::from(w[i * columns + j])).sum()).collect()
    }

    fn chain(&self, mut x: Vec<i128>, chain: &[Factor], hidden: u32) -> Vec<i128> {
        for f in chain {
            let sums = self.product(&x, &f.tensor, f.columns.unwrap_or(hidden) as usize);
            let scaled = sums.into_iter().map(|t| self.round(t >> f.floor, f.shift) << f.left);
            x = scaled.map(|t| wrap(t, f.out, true)).collect();
        }
        x
    }

    fn step(&self, layer: &Layer, x: &[i128], h: &[i128]) -> Vec<i128> {
        let a = self.chain(x.to_vec(), &layer.w, layer.hidden);
        let b = self.chain(h.to_vec(), &layer.u, layer.hidden);
        let scalar = |name: &str| i128::from(self.arrays[name][0]);
        let unit = |i: usize| {
            let pre = &layer.pre;
            let c = wrap(self.round(a[i], pre.shift_w) + self.round(b[i], pre.shift_u), pre.bits, true);
            let input = |bias: &str| wrap((c + i128::from(self.arrays[bias][i])) << pre.left, BITS, true);
            let g = math::sigmoid(input(&pre.gate_bias), BITS, pre.scale as i32, layer.gate.scale);
            let t = math::tanh(input(&pre.candidate_bias), BITS, pre.scale as i32, layer.candidate.scale);
            let z = self.round(scalar(&layer.zeta.tensor) * ((1 << layer.gate.scale) - g), layer.zeta.shift)
                + self.round(scalar(&layer.nu.tensor), layer.nu.shift);
            let state = &layer.state;
            let fresh = wrap(self.round(z * t, state.candidate_shift), BITS, true);
            let next = self.round(g * h[i], state.gate_shift) + self.round(fresh, state.out_shift);
            wrap(next, state.bits, true)
        };
        (0..h.len()).map(unit).collect()
    }

    /// Outputs by name; `x` is `[steps, batch, features]`.
    fn run(&self, x: &[i128]) -> HashMap<&'static str, Vec<i128>> {
        let (d, mut outputs) = (self.d, HashMap::<_, Vec<i128>>::new());
        let features = d.features as usize;
        for item in 0..self.batch {
            let mut states: Vec<Vec<i128>> = d.layer.iter().map(|l| vec![0; l.hidden as usize]).collect();
            for step in 0..d.steps as usize {
                let mut x = x[(step * self.batch + item) * features..][..features].to_vec();
                for (layer, h) in d.layer.iter().zip(&mut states) {
                    *h = self.step(layer, &x, h);
                    x.clone_from(h);
                }
            }
            let (h, out) = (states.last().expect("layers"), &d.output);
            let sums = self.product(h, &out.tensor, d.labels.len()).into_iter().zip(&self.arrays[&out.bias.tensor]);
            let score = |(t, b): (i128, &i64)| {
                wrap(self.round(t >> out.floor, out.shift) + self.round((*b).into(), out.bias.shift), out.out, true)
            };
            let scores: Vec<i128> = sums.map(score).collect();
            let mut class = 0;
            for (i, v) in scores.iter().enumerate() {
                class = if *v > scores[class] { i } else { class };
            }
            outputs.entry("class").or_default().push(class as i128);
            outputs.entry("scores").or_default().extend(scores);
            outputs.entry("hidden").or_default().extend(h);
        }
        outputs
    }
}
