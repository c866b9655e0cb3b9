//! The head detector "face-2" (RPool_Face_QVGA_monochrome) as a graph: convolution, RNNPool, 14 inverted residuals (MBConv), four detection
//! heads; 18,000 numbers of 16 bits and scale 12.
//!
//! | stage | value | shape |
//! |---|---|---|
//! | image | `image`, 8 bits | 240 x 320 x 1 |
//! | convolution 3x3, stride 2, ReLU6 | `conv1` | 120 x 160 x 4 |
//! | RNN1 over rows and columns of 1131 patches of 8x8 | `rnn1.h` | 18096 sequences x 16 |
//! | RNN2 over these summaries, forward and in reverse | `states` | 29 x 39 x 64 |
//! | the last row and column twice | `grid` | 30 x 40 x 64 |
//! | MBConv 1 to 14 | `mb1` .. `mb14` | 30 x 40 x 32, 15 x 20 x 96 or 128 |
//! | heads after MBConv 4, 8, 11, 14 | `head1_conf`, `head1_loc`, .. | |
//! | all heads | `output` | 18000 |
//!
//! Shifts and limits come from `params.json`, weights from `weights.npz`. Weights of the recurrent networks are stored transposed, those of
//! depthwise convolutions channel by channel.

use serde_json::Value;
use sirnn::graph::builder::{Body, Builder, fixed, output};
use sirnn::graph::ops::Parameter;
use sirnn::graph::ops::activation::{Sigmoid, Tanh};
use sirnn::graph::ops::add::{Add, Term};
use sirnn::graph::ops::bias::Bias;
use sirnn::graph::ops::clip::Clip;
use sirnn::graph::ops::concat::Concat;
use sirnn::graph::ops::conv::Conv;
use sirnn::graph::ops::l2_normalise::L2Normalise;
use sirnn::graph::ops::matmul::MatMul;
use sirnn::graph::ops::mul::Mul;
use sirnn::graph::ops::pad::{Border, Pad};
use sirnn::graph::ops::patches::Patches;
use sirnn::graph::ops::rescaling::Rescaling;
use sirnn::graph::ops::reshape::Reshape;
use sirnn::graph::ops::reverse::Reverse;
use sirnn::graph::ops::scale::Scale;
use sirnn::graph::ops::scan::Steps;
use sirnn::graph::ops::select::Max;
use sirnn::graph::ops::slice::Slice;
use sirnn::graph::ops::transpose::Transpose;
use sirnn::graph::{Graph, Number, Rescale, Reveal, Tensor, Weights};
use sirnn::protocols::truncation::Rounding;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Height and width of the image.
pub(crate) const IMAGE: [usize; 2] = [240, 320];

/// Side of a patch: steps of a sequence, and sequences of each kind.
const SIDE: usize = 8;
/// Distance of patches.
const STRIDE: usize = 4;
/// Units of both recurrent networks.
const UNITS: usize = 16;

/// Scales of what the L2 normalisations of heads 1, 2 and 3 read, by the number of the MBConv.
const SCALES: [(usize, i32); 3] = [(4, 12), (8, 10), (11, 12)];

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Integers of a file and their width.
pub(crate) struct Array {
    bits: u32,
    pub(crate) data: Vec<i64>,
}

/// Arrays of an `.npz` file by name.
pub(crate) fn arrays(path: &Path) -> Outcome<BTreeMap<String, Array>> {
    let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut arrays = BTreeMap::new();
    for i in 0..archive.len() {
        let entry = archive.by_index(i)?;
        let name = entry.name().map_err(|e| e.to_string())?.trim_end_matches(".npy").to_string();
        let array = array(entry).map_err(|e| format!("{}: {name}: {e}", path.display()))?;
        arrays.insert(name, array);
    }
    Ok(arrays)
}

fn array(file: impl Read) -> Outcome<Array> {
    let array = npyz::NpyFile::new(file)?;
    let size = match array.dtype() {
        npyz::DType::Plain(ty) => ty.num_bytes().unwrap_or(0),
        _ => 0,
    };
    let data = match size {
        1 => array.into_vec::<i8>()?.into_iter().map(i64::from).collect(),
        2 => array.into_vec::<i16>()?.into_iter().map(i64::from).collect(),
        4 => array.into_vec::<i32>()?.into_iter().map(i64::from).collect(),
        _ => return Err("no array of integers of 1, 2 or 4 bytes".into()),
    };
    Ok(Array { bits: 8 * size as u32, data })
}

/// An image of signed bytes.
pub(crate) fn image(path: &Path) -> Outcome<Tensor> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let [height, width] = IMAGE;
    if bytes.len() != height * width {
        return Err(format!("{}: {} bytes, {height} x {width} are expected", path.display(), bytes.len()).into());
    }
    Ok(Tensor::new(vec![height, width, 1], bytes.into_iter().map(|b| i64::from(b as i8)).collect()))
}

/// Graph and weights of the folder `directory`, as it was published, for images of `image` pixels (height, width: multiples of 8, at
/// least 16; [`IMAGE`] as published).
pub(crate) fn load(directory: &Path, image: [usize; 2], rounding: Rounding) -> Outcome<(Graph, Weights)> {
    let path = directory.join("params.json");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let constants: Value = serde_json::from_str(&text)?;
    // Arrays are called `stage__NAME`.
    let stored = arrays(&directory.join("weights.npz"))?.into_iter();
    let arrays = stored.map(|(name, array)| (name.split("__").last().unwrap_or_default().to_string(), array)).collect();
    // Of the convolution's result, half as large, every patch starts half a patch behind the one before.
    let patches = image.map(|size| (size / 2 - SIDE) / STRIDE + 1);
    let (weights, builder) = (Weights::new(), Builder::new());
    let mut detector = Detector { constants, arrays, rounding, patches, weights, builder, missing: None };
    let value = detector.build();
    if let Some(missing) = detector.missing {
        return Err(format!("{}: no '{missing}', or of the wrong size", directory.display()).into());
    }
    let [height, width] = image;
    let inputs = vec![fixed("image", &[height, width, 1], Number::new(8, 0))];
    let graph = detector.builder.finish(0, inputs, vec![output("boxes", &value, Reveal::Values)]);
    Ok((graph, detector.weights))
}

/// A signed number whose scale does not matter.
fn bits(bits: u32) -> Number {
    Number::new(bits, 0)
}

struct Detector {
    constants: Value,
    arrays: BTreeMap<String, Array>,
    rounding: Rounding,
    /// Patches of RNNPool, down and across.
    patches: [usize; 2],
    weights: Weights,
    builder: Builder,
    /// The first constant or array that the folder lacks.
    missing: Option<String>,
}

impl Detector {
    /// A number of a section of the constants.
    fn constant(&mut self, section: &str, name: &str) -> i64 {
        let found = self.constants[section][name].as_i64();
        if found.is_none() {
            self.missing.get_or_insert_with(|| format!("{section}.{name}"));
        }
        found.unwrap_or(0)
    }

    /// A rescale by the sum of the named shifts.
    fn by(&mut self, names: &[&str]) -> Rescale {
        let total: i64 = names.iter().map(|name| self.constant("shift", name)).sum();
        Rescale::by(u32::try_from(total).unwrap_or(u32::MAX), self.rounding)
    }

    /// A rescale by what is left of a shift up, then down.
    fn up_down(&mut self, up: &str, down: &str) -> Rescale {
        let by = self.constant("shift", down) - self.constant("shift", up);
        if by < 0 { Rescale { left: -by as u32, ..Rescale::default() } } else { Rescale::by(by as u32, self.rounding) }
    }

    /// A sum of shifts as the publishers' products have them.
    fn total(&mut self, name: &str) -> Rescale {
        self.by(&[&format!("{name}_Scinput"), &format!("{name}_Scoutput"), &format!("{name}_Demote")])
    }

    /// A tensor in another shape; `transposed` swaps the axes of a matrix of `shape` first.
    fn tensor(&mut self, name: &str, shape: &[usize], transposed: Option<[usize; 2]>) -> Parameter {
        let count: usize = shape.iter().product();
        let Some(Array { bits, data }) = self.arrays.get(name).filter(|array| array.data.len() == count) else {
            self.missing.get_or_insert_with(|| name.into());
            return Parameter::new(name, 1);
        };
        let data = match transposed {
            None => data.clone(),
            Some([rows, columns]) => (0..count).map(|i| data[i % rows * columns + i / rows]).collect(),
        };
        self.weights.insert(name.into(), Tensor::new(shape.to_vec(), data));
        Parameter::new(name, *bits)
    }

    fn build(&mut self) -> String {
        let conv = self.convolution();
        let mut x = self.rnn_pool(&conv);
        let mut found = Vec::new();
        for n in 1..=14 {
            x = self.mbconv(n, &x);
            if let Some(head) = [4, 8, 11, 14].iter().position(|&after| after == n) {
                found.push(self.head(head + 1, &x));
            }
        }
        let (confidences, places): (Vec<String>, Vec<String>) = found.into_iter().unzip();
        let all: Vec<&str> = confidences.iter().chain(&places).map(String::as_str).collect();
        self.builder.arrange("output", Concat { axis: 0 }, &all)
    }

    fn convolution(&mut self) -> String {
        let weights = self.tensor("CBR1F", &[3, 3, 1, 4], None);
        let rescale = self.total("CBR1F");
        let conv = conv3(weights, 4, 2, 1, rescale);
        let x = self.builder.compute("conv1_products", conv, &["image"], bits(8));
        let x = self.biased("conv1_bias", "CBR1B", &x, 4, bits(8));
        let scale = Scale { weights: self.tensor("CBR1W", &[4], None), shape: None, rescale: self.total("CBR1W") };
        let x = self.builder.compute("conv1_scale", scale, &[&x], bits(8));
        let clip = Clip { low: 0, high: self.constant("common", "CONV2D_Limit"), rescale: Rescale::default() };
        self.builder.compute("conv1", clip, &[&x], bits(8))
    }

    /// `R(R(x, Scten) + R(b, Scvec), Scret)` of the publishers: both shifts are larger by the last.
    fn biased(&mut self, name: &str, tensor: &str, x: &str, channels: usize, out: Number) -> String {
        let shift = |kind: &str| format!("{tensor}_{kind}");
        let bias = Bias {
            bias: self.tensor(tensor, &[channels], None),
            shape: None,
            operand: self.by(&[&shift("Scten"), &shift("Scret")]),
            rescale_bias: self.by(&[&shift("Scvec"), &shift("Scret")]),
            rescale: Rescale::default(),
        };
        self.builder.compute(name, bias, &[x], out)
    }

    /// The RNNs' products of their input.
    fn input_product(&mut self, rnn: usize, inputs: usize, x: &str) -> String {
        let weights = self.tensor(&format!("W{rnn}"), &[inputs, UNITS], Some([UNITS, inputs]));
        let shift = |name: &str| format!("rnn{rnn}.{name}");
        let rescale = self.by(&[&shift("W"), &shift("normFeaturesMVW"), &shift("H1W")]);
        self.builder.compute(&format!("rnn{rnn}_wx"), MatMul { weights, columns: UNITS, rescale }, &[x], bits(16))
    }

    /// One FastGRNN, over the first axis of `[steps, sequences, units]`: its last states.
    fn rnn(&mut self, rnn: usize, x: &str, sequences: usize, scale: i32) -> String {
        let shift = |name: &str| format!("rnn{rnn}.{name}");
        let state = Number::new(16, scale);
        let mut body = Body { slices: vec!["wx".into()], ..Body::default() };
        body.state("h", "h_next", &[sequences, UNITS], state);
        let nodes = &mut body.nodes;
        let weights = self.tensor(&format!("U{rnn}"), &[UNITS, UNITS], Some([UNITS, UNITS]));
        let rescale = self.by(&[&shift("U"), &shift("hiddenStateMVU"), &shift("H1U")]);
        nodes.compute("uh", MatMul { weights, columns: UNITS, rescale }, &["h"], bits(16));
        let out = shift("mV1AddMV2Out");
        let mut term = |names: [&str; 2]| Term { minus: false, rescale: self.by(&names) };
        let terms = vec![term([&shift("mV1AddMV2"), &out]), term([&shift("mV2AddMV1"), &out])];
        let sum = Add { terms, constant: 0, rescale: self.by(&[&shift("mV1AddMV2Demote")]) };
        nodes.compute("c", sum, &["wx", "uh"], bits(16));
        for (name, tensor) in [("gate_input", "Bg"), ("candidate_input", "Bh")] {
            let (add, out) = (shift(&format!("pC1Add{tensor}")), shift(&format!("pC1Add{tensor}Out")));
            let bias = Bias {
                bias: self.tensor(&format!("{tensor}{rnn}"), &[UNITS], None),
                shape: None,
                operand: self.by(&[&add, &out]),
                rescale_bias: self.by(&[&shift(tensor), &out]),
                rescale: self.by(&[&format!("{add}Demote")]),
            };
            nodes.compute(name, bias, &["c"], Number::new(16, 11));
        }
        let unit = Number::new(16, 14);
        nodes.compute("g", Sigmoid {}, &["gate_input"], unit);
        nodes.compute("t", Tanh {}, &["candidate_input"], unit);
        // zeta is 1, at scale 14; nu vanishes. What is left of its product is a shift.
        let zeta = self.constant("common", &shift("sigmoid_zeta")).max(1).ilog2() as i64;
        let by = zeta - self.constant("shift", &shift("sigmoidZeta"));
        let by = by - self.constant("shift", &shift("sigmoidZetaMulQOneSubGate"));
        let rescale = if by < 0 {
            Rescale::by(-by as u32, self.rounding)
        } else {
            Rescale { left: by as u32, ..Rescale::default() }
        };
        let one = self.constant("shift", &shift("qOne"));
        let minus = Term { minus: true, ..Term::default() };
        let weight = Number::new(16, scale);
        nodes.compute("z", Add { terms: vec![minus], constant: one, rescale }, &["g"], weight);
        let mut product = |names: [&str; 2]| Mul { rescale: self.by(&names.map(shift).each_ref().map(|n| n.as_str())) };
        let kept = product(["gateHDHiddenState", "hiddenStateHDGate"]);
        let new = product(["sigmoidNuAddQOneSubGateHDUpdate", "updateHDSigmoidNuAddQOneSubGate"]);
        nodes.compute("kept", kept, &["g", "h"], bits(16));
        nodes.compute("new", new, &["z", "t"], bits(16));
        let out = shift("hiddenStateOut");
        let mut term = |names: [&str; 2]| Term { minus: false, rescale: self.by(&names) };
        let terms = vec![term([&shift("pC3AddPC1"), &out]), term([&shift("pC1AddPC3"), &out])];
        let sum = Add { terms, constant: 0, rescale: self.by(&[&shift("hiddenStateDemote")]) };
        nodes.compute("h_next", sum, &["kept", "new"], state);
        body.hand_out("h", "h_next", Steps::Last);
        let name = format!("rnn{rnn}");
        self.builder.scan(&name, &[x], body);
        format!("{name}.h")
    }

    fn rnn_pool(&mut self, x: &str) -> String {
        let patches = self.patches[0] * self.patches[1];
        // The product of a pixel serves all rows and columns of all patches that hold it.
        let wx = self.input_product(1, 4, x);
        let b = &mut self.builder;
        let cut = b.arrange("patches", Patches { size: [SIDE; 2], stride: [STRIDE; 2] }, &[&wx]);
        // [patch, row, column, unit]: a row's steps are the columns, a column's the rows.
        let rows = b.arrange("rows", Transpose { axes: vec![2, 0, 1, 3] }, &[&cut]);
        let columns = b.arrange("columns", Transpose { axes: vec![1, 0, 2, 3] }, &[&cut]);
        let both = b.arrange("rows_and_columns", Concat { axis: 2 }, &[&rows, &columns]);
        let sequences = patches * 2 * SIDE;
        let shape = |shape: &[usize]| Reshape { shape: shape.iter().map(|&n| n as i64).collect() };
        let x = b.arrange("sequences1", shape(&[SIDE, sequences, UNITS]), &[&both]);
        let last = self.rnn(1, &x, sequences, 14);
        let rescale = self.up_down("ShL1", "ShR1");
        let summaries = self.builder.compute("summaries", Rescaling { rescale }, &[&last], bits(16));
        let summaries = self.builder.arrange("summary_steps", shape(&[patches, 2, SIDE, UNITS]), &[&summaries]);
        let wx = self.input_product(2, UNITS, &summaries);
        let b = &mut self.builder;
        // [step, patch, rows or columns, direction, unit]
        let steps = b.arrange("steps", Transpose { axes: vec![2, 0, 1, 3] }, &[&wx]);
        let forward = b.arrange("forward", shape(&[SIDE, patches, 2, 1, UNITS]), &[&steps]);
        let backward = b.arrange("backward", Reverse { axis: 0 }, &[&forward]);
        let both = b.arrange("directions", Concat { axis: 3 }, &[&forward, &backward]);
        let x = b.arrange("sequences2", shape(&[SIDE, 4 * patches, UNITS]), &[&both]);
        let last = self.rnn(2, &x, 4 * patches, 15);
        let [down, across] = self.patches;
        let states = self.builder.arrange("states", shape(&[down, across, 4 * UNITS]), &[&last]);
        let rescale = self.up_down("ShL2", "ShR2");
        let narrow = self.builder.compute("pooled", Rescaling { rescale }, &[&states], bits(8));
        let pad = Pad { padding: vec![[0, 1], [0, 1], [0, 0]], border: Border::Edge };
        self.builder.arrange("grid", pad, &[&narrow])
    }

    /// An inverted residual: 1x1 to more channels, 3x3 on each, 1x1 to few; each with batch normalisation.
    fn mbconv(&mut self, n: usize, input: &str) -> String {
        let mut define = |name: &str| self.constant("define", &format!("L{n}_{name}")).max(1) as usize;
        let [channels, wide, out, stride] = ["CIN", "CTEMP", "COUT", "HSTRIDE"].map(&mut define);
        // The last two blocks are narrow, and the last three end so.
        let sums = bits(if n >= 13 { 16 } else { 32 });
        let middle = bits(if n >= 13 { 8 } else { 16 });
        let last = bits(if n >= 12 { 8 } else { 16 });
        let name = |what: &str| format!("mb{n}_{what}");
        let constant = |what: &str| format!("L{n}_{what}");
        let matrix = |d: &mut Self, tensor: &str, rows: usize, columns: usize, rescale| {
            let weights = d.tensor(&constant(tensor), &[rows, columns], None);
            MatMul { weights, columns, rescale }
        };
        let clip = |d: &mut Self, i: usize| Clip {
            low: 0,
            high: d.constant("common", &constant(&format!("Limit{i}"))),
            rescale: d.up_down(&constant(&format!("ShLX{i}")), &constant(&format!("ShRX{i}"))),
        };
        let after_product =
            |d: &mut Self, i: usize| d.up_down(&constant(&format!("ShLU{i}")), &constant(&format!("ShRU{i}")));
        let rescale = after_product(self, 1);
        let op = matrix(self, "F1", channels, wide, rescale);
        let u = self.builder.compute(&name("u1"), op, &[input], sums);
        let v = self.normalised(n, 1, &u, wide, sums);
        let op = clip(self, 1);
        let x = self.builder.compute(&name("x1"), op, &[&v], middle);
        let rescale = after_product(self, 2);
        let weights = self.tensor(&constant("F2"), &[3, 3, 1, wide], Some([wide, 9]));
        let u = self.builder.compute(&name("u2"), conv3(weights, wide, stride, wide, rescale), &[&x], sums);
        let v = self.normalised(n, 2, &u, wide, sums);
        let op = clip(self, 2);
        let x = self.builder.compute(&name("x2"), op, &[&v], middle);
        let rescale = after_product(self, 3);
        let op = matrix(self, "F3", wide, out, rescale);
        let u = self.builder.compute(&name("u3"), op, &[&x], sums);
        let v = self.normalised(n, 3, &u, out, sums);
        let rescale = self.up_down(&constant("ShLW3"), &constant("ShRW3"));
        let skip = self.constants["shift"].get(constant("Scten1")).is_some();
        let scale = SCALES.iter().find(|(block, _)| *block == n).map_or(0, |s| s.1);
        let number = Number::new(last.bits, scale);
        if !skip {
            return self.builder.compute(&format!("mb{n}"), Rescaling { rescale }, &[&v], number);
        }
        let y = self.builder.compute(&name("y"), Rescaling { rescale }, &[&v], last);
        let both = constant("Scret");
        let mut term = |shift: &str| Term { minus: false, rescale: self.by(&[&constant(shift), &both]) };
        let terms = vec![term("Scten1"), term("Scten2")];
        self.builder.compute(&format!("mb{n}"), Add { terms, ..Add::default() }, &[input, &y], number)
    }

    /// Batch normalisation: `(u + B) W`.
    fn normalised(&mut self, n: usize, i: usize, u: &str, channels: usize, number: Number) -> String {
        let none = Rescale::default;
        let bias = self.tensor(&format!("L{n}_B{i}"), &[channels], None);
        let bias = Bias { bias, shape: None, operand: none(), rescale_bias: none(), rescale: none() };
        let t = self.builder.compute(&format!("mb{n}_t{i}"), bias, &[u], number);
        let weights = self.tensor(&format!("L{n}_W{i}"), &[channels], None);
        let scale = Scale { weights, shape: None, rescale: none() };
        self.builder.compute(&format!("mb{n}_v{i}"), scale, &[&t], number)
    }

    /// A detection head: two numbers of confidence and four of place for each cell, as vectors at scale 12.
    fn head(&mut self, n: usize, x: &str) -> (String, String) {
        let channels = [32, 32, 96, 128][n - 1];
        let mut x = x.to_string();
        if n < 4 {
            let shift = u32::try_from(self.constant("common", &format!("D{n}_ScaleOut"))).unwrap_or(0);
            let scale = -self.constant("common", &format!("D{n}_ScaleIn")) as i32;
            let normalise = L2Normalise { shift, rounding: self.rounding };
            x = self.builder.compute(&format!("head{n}_normalised"), normalise, &[&x], Number::new(16, scale - 1));
            let tensor = format!("D{n}NW");
            let weights = self.tensor(&tensor, &[channels], None);
            let scale = Scale { weights, shape: None, rescale: self.total(&tensor) };
            x = self.builder.compute(&format!("head{n}_weighted"), scale, &[&x], bits(16));
        }
        let mut part = |kind: &str, name: &str, filters: usize, number: Number| {
            let tensor = format!("D{n}{kind}");
            let weights = self.tensor(&format!("{tensor}W"), &[3, 3, channels, filters], None);
            let rescale = self.total(&format!("{tensor}W"));
            let conv = conv3(weights, filters, 1, 1, rescale);
            let y = self.builder.compute(&format!("head{n}_{name}_products"), conv, &[&x], number);
            self.biased(&format!("head{n}_{name}"), &format!("{tensor}B"), &y, filters, number)
        };
        // Heads differ in scale; 12 is that of the output.
        let (filters, number) = match n {
            1 => (4, Number::new(16, 12)),
            4 => (2, Number::new(8, 5)),
            _ => (2, Number::new(16, 13)),
        };
        let confidence = part("C", "conf", filters, number);
        let place = part("L", "loc", 4, Number::new(16, if n == 4 { 13 } else { 12 }));
        let out = Number::new(16, 12);
        let half = Rescaling { rescale: Rescale::by(1, Rounding::TowardZero) };
        let [down, across] = self.patches.map(|n| n as i64 + 1);
        let b = &mut self.builder;
        let confidence = match n {
            1 => {
                // The background is the largest of three.
                let of = |start, end| Slice { axis: 2, start, end: Some(end), step: 1 };
                let background = b.arrange("head1_backgrounds", of(0, 3), &[&confidence]);
                let background = b.arrange("head1_largest", Max { axis: 2 }, &[&background]);
                let background =
                    b.arrange("head1_background", Reshape { shape: vec![down, across, 1] }, &[&background]);
                let head = b.arrange("head1_head", of(3, 4), &[&confidence]);
                b.arrange("head1_pair", Concat { axis: 2 }, &[&background, &head])
            }
            4 => {
                let up = Rescaling { rescale: Rescale { left: 7, ..Rescale::default() } };
                b.compute("head4_conf_12", up, &[&confidence], out)
            }
            _ => b.compute(&format!("head{n}_conf_12"), half.clone(), &[&confidence], out),
        };
        let place = if n == 4 { b.compute("head4_loc_12", half, &[&place], out) } else { place };
        let mut flat =
            |name: &str, x: &str| b.arrange(&format!("head{n}_{name}_flat"), Reshape { shape: vec![-1] }, &[x]);
        (flat("conf", &confidence), flat("loc", &place))
    }
}

/// A convolution of 3x3 with a border of one zero.
fn conv3(weights: Parameter, filters: usize, stride: usize, groups: usize, rescale: Rescale) -> Conv {
    Conv {
        weights,
        filters,
        kernel: vec![3, 3],
        stride: vec![stride; 2],
        dilation: Vec::new(),
        padding: vec![[1, 1]; 2],
        groups,
        rescale,
    }
}
