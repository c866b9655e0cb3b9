//! The server's tensors, `weights.safetensors`, checked against the description.
//!
//! What a program relies on is checked here, whatever the weights' origin: every tensor that a node names is there, in its
//! shape, its elements within their declared width and public bounds. Which values cannot wrap the server proves from
//! its weights and adds to the description (`Graph::fits`). Elements are never shown: errors name the tensor.

use super::description::Description;
use super::input::read_bounded;
use super::{ModelError, client, description, require};
use crate::compile::prove;
use crate::graph::{Graph, Tensor, Weights};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
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

    /// Writes a model directory with further files, as a whole or not at all: a directory beside it takes its place when all is there.
    ///
    /// # Errors
    /// There is something else than a model, or a model with files of other kinds, which would be lost; or it cannot be written.
    pub fn save(&self, directory: &Path, more: &[(&str, Vec<u8>)]) -> Result<(), ModelError> {
        check_target(directory, more)?;
        let place = |e: std::io::Error| ModelError::new(directory.display().to_string(), e.to_string());
        let fits = Vec::new();
        let graph = Graph { fits, ..self.description.graph.clone() };
        let public = Description { graph, ..self.description.clone() };
        let mut files = vec![(description::FILE, public.to_toml().into_bytes())];
        files.push((FILE, to_bytes(&self.description, &self.weights)?));
        let tensors = self.description.client.constants.bytes();
        if !tensors.is_empty() {
            files.push((client::FILE, tensors.to_vec()));
        }
        let parent = crate::run::file::folder(directory);
        std::fs::create_dir_all(parent).map_err(place)?;
        let name = directory.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let beside = |what: &str| parent.join(format!(".{name}.{what}-{}", std::process::id()));
        let (new, old) = (beside("new"), beside("old"));
        let write = || -> std::io::Result<()> {
            std::fs::create_dir(&new)?;
            let more = more.iter().map(|(name, bytes)| (*name, bytes));
            for (name, bytes) in files.iter().map(|(name, bytes)| (*name, bytes)).chain(more) {
                crate::run::file::write(&new.join(name), bytes)?;
            }
            if directory.exists() {
                std::fs::rename(directory, &old)?;
            }
            std::fs::rename(&new, directory)
        };
        let written = write();
        if written.is_err() {
            let _ = std::fs::remove_dir_all(&new);
            if old.exists() && !directory.exists() {
                let _ = std::fs::rename(&old, directory);
            }
        }
        let _ = std::fs::remove_dir_all(&old);
        written.map_err(place)
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

/// Refuses to write a model where that would lose something else.
///
/// # Errors
/// Says what is there.
pub fn check_target(directory: &Path, more: &[(&str, Vec<u8>)]) -> Result<(), ModelError> {
    let place = directory.display().to_string();
    let fail = |what: String| Err(ModelError::new(&place, what));
    if directory.file_name().is_none() {
        return fail("not the name of a folder".into());
    }
    let Ok(entries) = std::fs::read_dir(directory) else {
        return if std::fs::symlink_metadata(directory).is_ok() {
            fail("it is there, and no folder".into())
        } else {
            Ok(())
        };
    };
    let names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    let own = |name: &String| {
        [description::FILE, FILE, client::FILE].contains(&name.as_str()) || more.iter().any(|(other, _)| other == name)
    };
    match names.iter().find(|name| !own(name)) {
        _ if names.is_empty() => Ok(()),
        _ if !names.iter().any(|n| n == description::FILE) => {
            fail("it is there, and no model: name another folder".into())
        }
        Some(name) => fail(format!("this model's folder has another file, '{name}': move it, or name another folder")),
        None => Ok(()),
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

/// The content of a safetensors file with these weights.
///
/// # Errors
/// A tensor that is missing.
pub fn to_bytes(description: &Description, weights: &Weights) -> Result<Vec<u8>, ModelError> {
    let typed = description.typed(description.graph.steps)?;
    let mut data = Vec::new();
    for (name, spec) in &typed.parameters {
        let tensor = weights.get(name).ok_or_else(|| ModelError::new(format!("tensor '{name}'"), "missing"))?;
        let dtype = storage(spec.bits);
        let size = if dtype == Dtype::I8 { 1 } else { dtype.bitsize() / 8 };
        let bytes: Vec<u8> = tensor.data.iter().flat_map(|v| v.to_le_bytes()[..size].to_vec()).collect();
        data.push((name, dtype, &tensor.shape, bytes));
    }
    let fail = |e: safetensors::SafeTensorError| ModelError::new("safetensors", e.to_string());
    let view = |(name, dtype, shape, bytes)| Ok((name, TensorView::new(dtype, Vec::clone(shape), bytes)?));
    let views = data.iter().map(|(name, dtype, shape, bytes)| view((*name, *dtype, *shape, &bytes[..])));
    safetensors::serialize(views.collect::<Result<Vec<_>, _>>().map_err(fail)?, None).map_err(fail)
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
