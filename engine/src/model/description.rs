//! The public part of a model, `model.toml`: all that both parties know (format 1, `tools/README.md`).
//!
//! The client gets it from the server and takes it as untrusted: [`Description::parse`] bounds every number before
//! anything is computed or allocated from it, and no text makes it panic.

use super::{ModelError, require};
use crate::program::signed;
use crate::protocols::truncation::Rounding;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, ops::RangeInclusive, path::Path};

/// Version of the format.
pub const FORMAT: u32 = 1;
/// Name of the file in a model directory.
pub const FILE: &str = "model.toml";
/// Width of the activations' inputs and outputs, and of `zeta (1 - g) + nu`.
pub const ACTIVATION_BITS: u32 = 16;

/// Bytes of a description's text.
pub const MAX_TEXT: usize = 1 << 19;
const MAX_LAYERS: usize = 8;
const MAX_FACTORS: usize = 4;
const MAX_LABELS: usize = 4096;
const MAX_NAME: usize = 64;
const STEPS: RangeInclusive<u32> = 1..=1 << 16;
const UNITS: RangeInclusive<u32> = 1..=1 << 13;
const BITS: RangeInclusive<u32> = 2..=32;
const SHIFT: RangeInclusive<u32> = 0..=63;
const SCALE: RangeInclusive<i32> = -64..=64;
/// Results of sigmoid and tanh reach 2^scale and have to fit with sign in 16 bits.
const ACTIVATION_SCALE: RangeInclusive<u32> = 2..=14;
/// Elements of a matrix, and of an item over all steps at any place of the network.
const MAX_ELEMENTS: u64 = 1 << 24;

/// What the client learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reveal {
    /// Scores and class.
    Scores,
    /// The class alone.
    Class,
}

/// A model's public program. Fields are those of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// [`FORMAT`].
    pub format: u32,
    /// Name for reports.
    pub name: String,
    /// Time steps of an item.
    pub steps: u32,
    /// Values per step.
    pub features: u32,
    /// Of every `shift`.
    pub rounding: Rounding,
    /// One name per class.
    pub labels: Vec<String>,
    /// What the client learns.
    pub reveal: Reveal,
    /// The client's numbers.
    pub input: Input,
    /// Recurrent layers, the first reads the input.
    pub layer: Vec<Layer>,
    /// The classifier on the last state.
    pub output: Output,
}

/// The client's numbers: signed, real value `integer / 2^scale`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Width.
    pub bits: u32,
    /// Scale.
    pub scale: i32,
}

/// Kind of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// FastGRNN.
    Fastgrnn,
}

/// A recurrent layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Which cell.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Units.
    pub hidden: u32,
    /// Products from the input.
    pub w: Vec<Factor>,
    /// Products from the state.
    pub u: Vec<Factor>,
    /// Pre-activation.
    pub pre: Pre,
    /// `g = sigmoid(.)`.
    pub gate: Activation,
    /// `h~ = tanh(.)`.
    pub candidate: Activation,
    /// Never negative.
    pub zeta: Scaled,
    /// Never negative.
    pub nu: Scaled,
    /// `h'`.
    pub state: State,
}

/// A link of a chain of products: `y = wrap_out(R(floor(x M / 2^floor), shift) << left)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Factor {
    /// Name of the matrix `[in, out]`.
    pub tensor: String,
    /// Width of its elements.
    pub bits: u32,
    /// Bits dropped rounding down.
    pub floor: u32,
    /// Bits dropped by the rounding mode.
    pub shift: u32,
    /// Bits moved up.
    pub left: u32,
    /// Width of the result.
    pub out: u32,
    /// Columns of the matrix. Not needed for the last of a chain (the hidden units); where it is missing else, the
    /// server takes it from the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<u32>,
}

/// `c = wrap_bits(R(a, shift_w) + R(b, shift_u))`; an activation's input is `wrap_16((c + bias) << left)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pre {
    /// Width of `c`.
    pub bits: u32,
    /// Rescale of the input's chain.
    pub shift_w: u32,
    /// Rescale of the state's chain.
    pub shift_u: u32,
    /// Bits moved up.
    pub left: u32,
    /// Scale of the activations' inputs.
    pub scale: u32,
    /// Width of both biases.
    pub bias_bits: u32,
    /// Name of the gate's bias.
    pub gate_bias: String,
    /// Name of the candidate's bias.
    pub candidate_bias: String,
}

/// An activation's result, 16 bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activation {
    /// Its scale.
    pub scale: u32,
}

/// A vector with a rescale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaled {
    /// Name.
    pub tensor: String,
    /// Width.
    pub bits: u32,
    /// Rescale.
    pub shift: u32,
}

/// `h' = wrap_bits(R(g h, gate_shift) + R(wrap_16(R(z h~, candidate_shift)), out_shift))`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Width.
    pub bits: u32,
    /// Scale.
    pub scale: i32,
    /// Rescale of `g h`.
    pub gate_shift: u32,
    /// First rescale of `z h~`.
    pub candidate_shift: u32,
    /// Second rescale of `z h~`.
    pub out_shift: u32,
    /// No state of any input leaves `bits` bits in the model's steps. The server adds it where its weights prove it
    /// (`super::fused`); it need not be in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fits: Option<bool>,
}

impl State {
    /// Whether the state is known not to wrap.
    pub fn fits(&self) -> bool {
        self.fits == Some(true)
    }
}

/// `scores = wrap_out(R(floor(h M / 2^floor), shift) + R(bias, bias.shift))`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Name of the matrix `[hidden, classes]`.
    pub tensor: String,
    /// Width of its elements.
    pub bits: u32,
    /// Bits dropped rounding down.
    pub floor: u32,
    /// Bits dropped by the rounding mode.
    pub shift: u32,
    /// Width of the scores.
    pub out: u32,
    /// Scale of the scores.
    pub scale: i32,
    /// The bias.
    pub bias: Scaled,
}

/// A tensor that a description names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Width of its elements.
    pub bits: u32,
    /// Dimensions; `None` where only the weights tell.
    pub shape: Vec<Option<u32>>,
}

impl Layer {
    /// The matrices of a chain that reads `width` values: rows and columns.
    pub fn shapes<'a>(
        &'a self,
        chain: &'a [Factor],
        width: u32,
    ) -> impl Iterator<Item = (Option<u32>, Option<u32>)> + 'a {
        chain.iter().enumerate().scan(Some(width), move |rows, (i, factor)| {
            let columns = if i + 1 == chain.len() { Some(self.hidden) } else { factor.columns };
            Some((std::mem::replace(rows, columns), columns))
        })
    }

    /// The largest `zeta` for which `R(zeta 2^gate.scale, zeta.shift)` fits 16 bits.
    pub fn max_zeta(&self) -> i128 {
        let fits = ((1i128 << (ACTIVATION_BITS - 1 + self.zeta.shift)) - 1) >> self.gate.scale;
        fits.min(signed(self.zeta.bits).1)
    }

    /// The largest rescaled `nu` that fits 16 bits.
    pub fn max_nu(&self) -> i128 {
        (signed(self.nu.bits).1 >> self.nu.shift).min(signed(ACTIVATION_BITS).1)
    }

    /// The largest `z = R(zeta (2^gate.scale - g), zeta.shift) + R(nu, nu.shift)`.
    pub fn max_z(&self) -> i128 {
        let product = (self.max_zeta() << self.gate.scale) >> self.zeta.shift;
        (product + self.max_nu()).min(signed(ACTIVATION_BITS).1)
    }
}

impl Description {
    /// Reads a description.
    ///
    /// # Errors
    /// One line that names the field, or the line of the text.
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        require(text.len() <= MAX_TEXT, "text", || format!("{} bytes, {MAX_TEXT} are allowed", text.len()))?;
        let description: Self = toml::from_str(text).map_err(|e| {
            let line =
                e.span().map_or(0, |s| text.as_bytes().iter().take(s.start).filter(|&&b| b == b'\n').count()) + 1;
            ModelError::new(format!("line {line}"), e.message())
        })?;
        description.validate()?;
        Ok(description)
    }

    /// Reads the bytes that a peer sent.
    ///
    /// # Errors
    /// As [`Description::parse`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        require(bytes.len() <= MAX_TEXT, "text", || format!("{} bytes, {MAX_TEXT} are allowed", bytes.len()))?;
        Self::parse(std::str::from_utf8(bytes).map_err(|e| ModelError::new("text", e.to_string()))?)
    }

    /// Reads `model.toml` in `directory`.
    ///
    /// # Errors
    /// Also if the file cannot be read.
    pub fn load(directory: &Path) -> Result<Self, ModelError> {
        let path = directory.join(FILE);
        let place = path.display().to_string();
        let bytes = super::input::read_bounded(&path, MAX_TEXT as u64)?;
        Self::from_bytes(&bytes).map_err(|e| e.inside(&place))
    }

    /// The text that [`Description::parse`] reads.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("numbers, strings and tables")
    }

    /// Number of classes.
    pub fn classes(&self) -> u32 {
        self.labels.len() as u32
    }

    /// Values of an item.
    pub fn item_len(&self) -> usize {
        self.steps as usize * self.features as usize
    }

    /// Width of a layer's input.
    pub fn layer_inputs(&self, layer: usize) -> u32 {
        if layer == 0 { self.features } else { self.layer[layer - 1].hidden }
    }

    /// Every tensor that the description names.
    ///
    /// # Errors
    /// If one name stands for tensors of different kinds.
    pub fn tensors(&self) -> Result<BTreeMap<&str, Tensor>, ModelError> {
        let mut all = BTreeMap::<&str, Tensor>::new();
        let mut add = |name, bits, shape: Vec<Option<u32>>| {
            let tensor = Tensor { bits, shape };
            match all.insert(name, tensor.clone()) {
                Some(other) if other != tensor => {
                    Err(ModelError::new(format!("tensor '{name}'"), "used twice, with different widths or shapes"))
                }
                _ => Ok(()),
            }
        };
        for (i, layer) in self.layer.iter().enumerate() {
            let chains = [(&layer.w, self.layer_inputs(i)), (&layer.u, layer.hidden)];
            for (chain, width) in chains {
                for (factor, (rows, columns)) in chain.iter().zip(layer.shapes(chain, width)) {
                    add(&factor.tensor, factor.bits, vec![rows, columns])?;
                }
            }
            for bias in [&layer.pre.gate_bias, &layer.pre.candidate_bias] {
                add(bias, layer.pre.bias_bits, vec![Some(layer.hidden)])?;
            }
            for scalar in [&layer.zeta, &layer.nu] {
                add(&scalar.tensor, scalar.bits, vec![Some(1)])?;
            }
        }
        let (out, classes) = (&self.output, self.classes());
        add(&out.tensor, out.bits, vec![Some(self.layer_inputs(self.layer.len())), Some(classes)])?;
        add(&out.bias.tensor, out.bias.bits, vec![Some(classes)])?;
        Ok(all)
    }

    /// Fails if the shape of a matrix is not known: the description is not enough to build a program.
    pub fn require_complete(&self) -> Result<(), ModelError> {
        for (i, layer) in self.layer.iter().enumerate() {
            for (name, chain) in [("w", &layer.w), ("u", &layer.u)] {
                for (j, factor) in chain.iter().enumerate().take(chain.len() - 1) {
                    let field = format!("layer[{i}].{name}[{j}].columns");
                    require(factor.columns.is_some(), &field, || {
                        "missing, and there are no weights to take it from".into()
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Checks every field.
    ///
    /// # Errors
    /// Names the first that is wrong.
    pub fn validate(&self) -> Result<(), ModelError> {
        require(self.format == FORMAT, "format", || format!("{}, this program reads {FORMAT}", self.format))?;
        text("name", &self.name)?;
        within("steps", self.steps, &STEPS)?;
        within("features", self.features, &UNITS)?;
        let classes = self.labels.len();
        require((1..=MAX_LABELS).contains(&classes), "labels", || {
            format!("{classes} classes, 1..={MAX_LABELS} are allowed")
        })?;
        for label in &self.labels {
            text("labels", label)?;
        }
        within("input.bits", self.input.bits, &BITS)?;
        within("input.scale", self.input.scale, &SCALE)?;
        sequence("features", self.steps, self.features)?;
        let layers = self.layer.len();
        require((1..=MAX_LAYERS).contains(&layers), "layer", || {
            format!("{layers} layers, 1..={MAX_LAYERS} are allowed")
        })?;
        for (i, layer) in self.layer.iter().enumerate() {
            self.validate_layer(i, layer).map_err(|e| ModelError { place: format!("layer[{i}].{}", e.place), ..e })?;
        }
        let out = &self.output;
        text("output.tensor", &out.tensor)?;
        within("output.bits", out.bits, &BITS)?;
        shifts("output", out.floor, out.shift)?;
        within("output.out", out.out, &BITS)?;
        within("output.scale", out.scale, &SCALE)?;
        scaled("output.bias", &out.bias)?;
        matrix("output", Some(self.layer_inputs(layers)), Some(self.classes()))?;
        self.tensors()?;
        Ok(())
    }

    fn validate_layer(&self, index: usize, layer: &Layer) -> Result<(), ModelError> {
        within("hidden", layer.hidden, &UNITS)?;
        for (name, chain, width) in [("w", &layer.w, self.layer_inputs(index)), ("u", &layer.u, layer.hidden)] {
            let n = chain.len();
            require((1..=MAX_FACTORS).contains(&n), name, || format!("{n} products, 1..={MAX_FACTORS} are allowed"))?;
            for (i, (factor, (rows, columns))) in chain.iter().zip(layer.shapes(chain, width)).enumerate() {
                let field = |part: &str| format!("{name}[{i}]{part}");
                text(&field(".tensor"), &factor.tensor)?;
                within(&field(".bits"), factor.bits, &BITS)?;
                shifts(&field(""), factor.floor, factor.shift)?;
                within(&field(".out"), factor.out, &BITS)?;
                within(&field(".left"), factor.left, &(0..=factor.out - 1))?;
                if let Some(stated) = factor.columns {
                    within(&field(".columns"), stated, &UNITS)?;
                    require(columns == Some(stated), &field(".columns"), || {
                        format!("{stated}, but the last product has one column per hidden unit ({})", layer.hidden)
                    })?;
                }
                matrix(&field(""), rows, columns)?;
                sequence(&field(".columns"), self.steps, columns.unwrap_or(1))?;
            }
        }
        let pre = &layer.pre;
        within("pre.bits", pre.bits, &BITS)?;
        within("pre.shift_w", pre.shift_w, &SHIFT)?;
        within("pre.shift_u", pre.shift_u, &SHIFT)?;
        // At least 2 significant bits.
        within("pre.left", pre.left, &(0..=ACTIVATION_BITS - 2))?;
        within("pre.scale", pre.scale, &(0..=62))?;
        within("pre.bias_bits", pre.bias_bits, &BITS)?;
        text("pre.gate_bias", &pre.gate_bias)?;
        text("pre.candidate_bias", &pre.candidate_bias)?;
        within("gate.scale", layer.gate.scale, &ACTIVATION_SCALE)?;
        within("candidate.scale", layer.candidate.scale, &ACTIVATION_SCALE)?;
        scaled("zeta", &layer.zeta)?;
        scaled("nu", &layer.nu)?;
        let state = &layer.state;
        within("state.bits", state.bits, &BITS)?;
        within("state.scale", state.scale, &SCALE)?;
        within("state.gate_shift", state.gate_shift, &SHIFT)?;
        shifts_named("state", "candidate_shift", state.candidate_shift, "out_shift", state.out_shift)
    }
}

fn within<T: PartialOrd + std::fmt::Display>(
    field: &str,
    value: T,
    range: &RangeInclusive<T>,
) -> Result<(), ModelError> {
    require(range.contains(&value), field, || format!("{value} is not in {}..={}", range.start(), range.end()))
}

/// A name: it is shown, and written to tables.
fn text(field: &str, value: &str) -> Result<(), ModelError> {
    require((1..=MAX_NAME).contains(&value.len()), field, || {
        format!("{} bytes, 1..={MAX_NAME} are allowed", value.len())
    })?;
    require(!value.chars().any(char::is_control), field, || "control characters are not allowed".into())
}

fn shifts(field: &str, floor: u32, shift: u32) -> Result<(), ModelError> {
    shifts_named(field, "floor", floor, "shift", shift)
}

fn shifts_named(field: &str, first: &str, a: u32, second: &str, b: u32) -> Result<(), ModelError> {
    within(&format!("{field}.{first}"), a, &SHIFT)?;
    within(&format!("{field}.{second}"), b, &SHIFT)?;
    within(&format!("{field}.{first} + {second}"), a + b, &SHIFT)
}

fn scaled(field: &str, v: &Scaled) -> Result<(), ModelError> {
    text(&format!("{field}.tensor"), &v.tensor)?;
    within(&format!("{field}.bits"), v.bits, &BITS)?;
    within(&format!("{field}.shift"), v.shift, &SHIFT)
}

fn matrix(field: &str, rows: Option<u32>, columns: Option<u32>) -> Result<(), ModelError> {
    let n = u64::from(rows.unwrap_or(1)) * u64::from(columns.unwrap_or(1));
    require(n <= MAX_ELEMENTS, field, || format!("a matrix of {n} elements, {MAX_ELEMENTS} are allowed"))
}

fn sequence(field: &str, steps: u32, width: u32) -> Result<(), ModelError> {
    let n = u64::from(steps) * u64::from(width);
    require(n <= MAX_ELEMENTS, field, || format!("{n} values over all steps, {MAX_ELEMENTS} are allowed"))
}
