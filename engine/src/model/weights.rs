//! The server's tensors, `weights.safetensors`, checked against the description.
//!
//! What a program relies on is checked here, whatever the weights' origin: every tensor that a node names is there, in its
//! shape, its elements within their declared width and public bounds. Which values cannot wrap the server proves from
//! its weights and adds to the description (`Graph::fits`). Elements are never shown: errors name the tensor.

use super::description::Description;
use super::input::read_bounded;
use super::{ModelError, require};
use crate::compile::prove;
use crate::graph::{Tensor, Weights};
use safetensors::{Dtype, SafeTensors};
use std::path::Path;

/// Name of the file in a model directory.
pub const FILE: &str = "weights.safetensors";
/// Bytes of the file.
const MAX_FILE: u64 = 1 << 30;

/// What the server has: the public description, with what the weights prove, and the weights.
#[derive(Debug)]
pub struct Model {
    /// The public part.
    pub description: Description,
    /// The private part.
    pub weights: Weights,
}

impl Model {
    /// Reads a model directory.
    ///
    /// # Errors
    /// Names file and node or tensor.
    pub fn load(directory: &Path) -> Result<Self, ModelError> {
        let description = Description::load(directory)?;
        let path = directory.join(FILE);
        let bytes = read_bounded(&path, MAX_FILE)?;
        let weights = parse(&bytes, &description).map_err(|e| e.inside(&path.display().to_string()))?;
        Self::new(description, weights)
    }

    /// A model of a description and tensors by name.
    ///
    /// # Errors
    /// Names the tensor that is missing, that no node names, or that has another shape, width or bound than declared; or the value
    /// that the description says cannot wrap, if the weights do not prove it.
    pub fn new(mut description: Description, weights: Weights) -> Result<Self, ModelError> {
        check(&description, &weights)?;
        let proved = prove(&description.graph, &weights);
        if let Some(claimed) = description.graph.fits.iter().find(|name| !proved.contains(name)) {
            return Err(ModelError::new(format!("fits: '{claimed}'"), "the weights do not prove it"));
        }
        description.graph.fits = proved;
        Ok(Self { description, weights })
    }
}

/// The type in which a tensor of some width is stored.
fn storage(bits: u32) -> Dtype {
    match bits {
        ..=8 => Dtype::I8,
        9..=16 => Dtype::I16,
        _ => Dtype::I32,
    }
}

/// Reads the content of a safetensors file.
///
/// # Errors
/// Names the tensor.
pub fn parse(bytes: &[u8], description: &Description) -> Result<Weights, ModelError> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| ModelError::new("safetensors", e.to_string()))?;
    let typed = description.typed(description.graph.steps)?;
    let mut weights = Weights::new();
    for (name, expected) in &typed.parameters {
        let place = format!("tensor '{name}'");
        let view = file.tensor(name).map_err(|_| ModelError::new(&place, "missing"))?;
        let dtype = storage(expected.bits);
        require(view.dtype() == dtype, &place, || {
            format!("type {:?}, {dtype:?} is expected for {} bits", view.dtype(), expected.bits)
        })?;
        require(view.shape() == expected.shape, &place, || {
            format!("shape {:?}, {:?} is expected", view.shape(), expected.shape)
        })?;
        let data = view.data();
        let elements = match dtype {
            Dtype::I8 => data.iter().map(|&b| i64::from(b as i8)).collect(),
            Dtype::I16 => data.chunks_exact(2).map(|b| i64::from(i16::from_le_bytes([b[0], b[1]]))).collect(),
            _ => data.chunks_exact(4).map(|b| i64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect(),
        };
        weights.insert(name.clone(), Tensor::new(expected.shape.clone(), elements));
    }
    for name in file.names() {
        require(weights.contains_key(name), "safetensors", || {
            format!("tensor '{name}' is not named by the description")
        })?;
    }
    Ok(weights)
}

/// Makes weights of flat row-major arrays by name, in the shapes that the description declares.
///
/// # Errors
/// An array that is missing, or of another length.
pub fn from_arrays(
    description: &Description,
    mut arrays: std::collections::HashMap<String, Vec<i64>>,
) -> Result<Weights, ModelError> {
    let typed = description.typed(description.graph.steps)?;
    let tensor = |(name, spec): (&String, &crate::graph::ops::ParameterSpec)| {
        let place = format!("tensor '{name}'");
        let data = arrays.remove(name).ok_or_else(|| ModelError::new(&place, "missing"))?;
        require(data.len() == spec.shape.iter().product::<usize>(), &place, || {
            format!("{} elements, shape {:?} is expected", data.len(), spec.shape)
        })?;
        Ok((name.clone(), Tensor::new(spec.shape.clone(), data)))
    };
    let weights = typed.parameters.iter().map(tensor).collect::<Result<Weights, ModelError>>()?;
    match arrays.keys().next() {
        Some(name) => Err(ModelError::new("weights", format!("tensor '{name}' is not named by the description"))),
        None => Ok(weights),
    }
}

/// Checks tensors against the description.
fn check(description: &Description, weights: &Weights) -> Result<(), ModelError> {
    let typed = description.typed(description.graph.steps)?;
    for name in weights.keys() {
        require(typed.parameters.contains_key(name), "weights", || {
            format!("tensor '{name}' is not named by the description")
        })?;
    }
    for (name, spec) in &typed.parameters {
        let place = format!("tensor '{name}'");
        let tensor = weights.get(name).ok_or_else(|| ModelError::new(&place, "missing"))?;
        require(tensor.shape == spec.shape, &place, || {
            format!("shape {:?}, {:?} is expected", tensor.shape, spec.shape)
        })?;
        let within = |(lo, hi): (i128, i128)| tensor.data.iter().all(|&v| (lo..=hi).contains(&i128::from(v)));
        require(within(crate::program::signed(spec.bits)), &place, || {
            format!("an element does not fit {} bits", spec.bits)
        })?;
        let (lo, hi) = spec.range;
        require(within(spec.range), &place, || format!("an element is not within the declared bounds {lo} to {hi}"))?;
    }
    Ok(())
}
