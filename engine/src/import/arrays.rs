//! Arrays from `.npy` files, and from `.npz` archives of them.

use super::ImportError;
use super::tensor::{Data, MAX_ELEMENTS, MAX_RANK, Tensor};
use crate::model::npy::{Npy, Value};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Most bytes of an array with its header.
const MAX_BYTES: u64 = (MAX_ELEMENTS as u64 + (1 << 14)) * 8;

/// Reads a `.npy` file.
///
/// # Errors
/// Names the file.
pub fn npy(path: &Path) -> Result<Tensor, ImportError> {
    let fail = |what: String| ImportError::file(path, what);
    let file = File::open(path).map_err(|e| fail(e.to_string()))?;
    tensor(file).map_err(fail)
}

/// Reads one array of a `.npz` archive.
///
/// # Errors
/// Names the file; if there is no such array, says which there are.
pub fn npz(path: &Path, name: &str) -> Result<Tensor, ImportError> {
    let fail = |what: String| ImportError::file(path, what);
    let file = File::open(path).map_err(|e| fail(e.to_string()))?;
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|e| fail(e.to_string()))?;
    let entry = format!("{name}.npy");
    if archive.index_for_name(&entry).is_none() {
        let known = archive.file_names().take(20).filter_map(Result::ok);
        let known: Vec<String> = known.map(|n| n.trim_end_matches(".npy").to_string()).collect();
        return Err(fail(format!("it has no array '{name}' but {}", known.join(", "))));
    }
    let array = archive.by_name(&entry).map_err(|e| fail(e.to_string()))?;
    tensor(array).map_err(|e| fail(format!("array '{name}': {e}")))
}

/// Reads all arrays of a `.npz` or `.safetensors` file.
///
/// # Errors
/// Names the file, and the array that is no array of numbers.
pub fn all(path: &Path) -> Result<BTreeMap<String, Tensor>, ImportError> {
    let fail = |what: String| ImportError::file(path, what);
    match path.extension().and_then(|e| e.to_str()) {
        Some("npz") => {
            let file = File::open(path).map_err(|e| fail(e.to_string()))?;
            let archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|e| fail(e.to_string()))?;
            let names: Vec<String> = archive.file_names().filter_map(Result::ok).map(|n| n.to_string()).collect();
            let names = names.iter().filter_map(|n| n.strip_suffix(".npy"));
            names.map(|name| Ok((name.to_string(), npz(path, name)?))).collect()
        }
        Some("safetensors") => {
            let mut bytes = Vec::new();
            let file = File::open(path).map_err(|e| fail(e.to_string()))?;
            file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| fail(e.to_string()))?;
            if bytes.len() as u64 > MAX_BYTES {
                return Err(fail(format!("a file of more than {MAX_BYTES} bytes")));
            }
            let file = SafeTensors::deserialize(&bytes).map_err(|e| fail(e.to_string()))?;
            let array = |(name, view): (&str, TensorView<'_>)| {
                let tensor = floats(&view).map_err(|what| fail(format!("array '{name}': {what}")))?;
                Ok((name.to_string(), tensor))
            };
            file.iter().map(array).collect()
        }
        _ => Err(fail("arrays are read from .npz and .safetensors files".into())),
    }
}

fn floats(view: &TensorView<'_>) -> Result<Tensor, String> {
    let bytes = view.data();
    let data = match view.dtype() {
        Dtype::F64 => bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(),
        Dtype::F32 => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|&b| half::f16::from_le_bytes(b).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|&b| half::bf16::from_le_bytes(b).to_f32()).collect(),
        other => return Err(format!("elements of type {other:?}, real numbers are expected")),
    };
    Tensor::floats(view.shape().to_vec(), data)
}

fn tensor(source: impl Read) -> Result<Tensor, String> {
    let mut bytes = Vec::new();
    source.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("an array of more than {MAX_ELEMENTS} elements"));
    }
    let array = Npy::parse(&bytes).map_err(|e| e.to_string())?;
    if array.values().len() > MAX_ELEMENTS || array.shape.len() > MAX_RANK {
        return Err(format!("an array of more than {MAX_ELEMENTS} elements or {MAX_RANK} axes"));
    }
    let data = if array.is_whole() {
        let whole = |n| if let Value::Whole(v) = n { Some(v) } else { None };
        Data::Int(array.values().filter_map(whole).collect())
    } else {
        let real = |n| if let Value::Real(v) = n { Some(v as f32) } else { None };
        Data::Float(array.values().filter_map(real).collect())
    };
    Tensor::new(array.shape, data)
}
