//! The server's tensors, `weights.safetensors`, checked against the description.
//!
//! What a program relies on is checked here, whatever the weights' origin: every value is in its declared width, `zeta`
//! and `nu` are not negative, and `R(zeta 2^gate.scale, zeta.shift) + R(nu, nu.shift)` fits 16 signed bits, which bounds
//! `z` for every gate. Values are never shown: errors name the tensor, `Debug` its shape.

use super::description::{ACTIVATION_BITS, Description, Layer};
use super::fused::{Constants, Tables};
use super::input::read_bounded;
use super::{ModelError, require};
use crate::fixed::wrap;
use crate::program::signed;
use crate::protocols::truncation::Rounding;
use safetensors::{Dtype, SafeTensors};
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

/// Name of the file in a model directory.
pub const FILE: &str = "weights.safetensors";
/// Bytes of the file.
const MAX_FILE: u64 = 1 << 30;

/// One tensor, row-major.
struct Tensor {
    shape: Vec<usize>,
    values: Vec<i64>,
}

/// Tensors that fit a description.
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.tensors.iter().map(|(name, t)| (name, &t.shape))).finish()
    }
}

/// What the server has: the public description, complete, and the weights.
#[derive(Debug)]
pub struct Model {
    /// The public part.
    pub description: Description,
    /// The private part.
    pub weights: Weights,
}

impl Model {
    /// Reads a model directory. Columns that the description leaves out are taken from the weights.
    ///
    /// # Errors
    /// Names file and field or tensor.
    pub fn load(directory: &Path) -> Result<Self, ModelError> {
        let mut description = Description::load(directory)?;
        let weights = Weights::load(&directory.join(FILE), &mut description)?;
        Ok(Self { description, weights })
    }
}

impl Weights {
    /// Reads a file of tensors for `description`, whose missing columns are filled in.
    ///
    /// # Errors
    /// Names file and tensor.
    pub fn load(path: &Path, description: &mut Description) -> Result<Self, ModelError> {
        let bytes = read_bounded(path, MAX_FILE)?;
        Self::from_bytes(&bytes, description).map_err(|e| e.inside(&path.display().to_string()))
    }

    /// Reads the content of a safetensors file.
    ///
    /// # Errors
    /// Names the tensor.
    pub fn from_bytes(bytes: &[u8], description: &mut Description) -> Result<Self, ModelError> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| ModelError::new("safetensors", e.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, expected) in description.tensors()? {
            let place = format!("tensor '{name}'");
            let view = file.tensor(name).map_err(|_| ModelError::new(&place, "missing"))?;
            let dtype = match expected.bits {
                ..=8 => Dtype::I8,
                9..=16 => Dtype::I16,
                _ => Dtype::I32,
            };
            require(view.dtype() == dtype, &place, || {
                format!("type {:?}, {dtype:?} is expected for {} bits", view.dtype(), expected.bits)
            })?;
            let data = view.data();
            let values = match dtype {
                Dtype::I8 => data.iter().map(|&b| i64::from(b as i8)).collect(),
                Dtype::I16 => data.chunks_exact(2).map(|b| i64::from(i16::from_le_bytes([b[0], b[1]]))).collect(),
                _ => data.chunks_exact(4).map(|b| i64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect(),
            };
            tensors.insert(name.to_string(), Tensor { shape: view.shape().to_vec(), values });
        }
        for name in file.names() {
            require(tensors.contains_key(name), "safetensors", || {
                format!("tensor '{name}' is not named by the description")
            })?;
        }
        Self::fit(tensors, description)
    }

    /// Makes weights of flat row-major arrays by name. Shapes follow from the description and the lengths.
    ///
    /// # Errors
    /// Names the tensor.
    pub fn from_arrays(description: &mut Description, arrays: HashMap<String, Vec<i64>>) -> Result<Self, ModelError> {
        let mut columns = HashMap::<String, usize>::new();
        for (i, layer) in description.layer.iter().enumerate() {
            for (chain, width) in [(&layer.w, description.layer_inputs(i)), (&layer.u, layer.hidden)] {
                let mut rows = width as usize;
                for factor in chain {
                    let len = arrays.get(&factor.tensor).map_or(0, Vec::len);
                    rows = len / rows.max(1);
                    columns.insert(factor.tensor.clone(), rows);
                }
            }
        }
        let mut tensors = BTreeMap::new();
        for (name, values) in arrays {
            let shape = match (columns.get(&name), description.output.tensor == name) {
                (Some(&n), _) => vec![values.len().checked_div(n).unwrap_or(0), n],
                (None, true) => vec![values.len() / description.labels.len(), description.labels.len()],
                _ => vec![values.len()],
            };
            tensors.insert(name, Tensor { shape, values });
        }
        Self::fit(tensors, description)
    }

    /// Completes the description and checks everything.
    fn fit(tensors: BTreeMap<String, Tensor>, description: &mut Description) -> Result<Self, ModelError> {
        let mut complete = description.clone();
        for layer in &mut complete.layer {
            for chain in [&mut layer.w, &mut layer.u] {
                let inner = chain.len() - 1;
                for factor in &mut chain[..inner] {
                    if factor.columns.is_none() {
                        let columns = tensors.get(&factor.tensor).and_then(|t| t.shape.get(1).copied());
                        factor.columns = columns.and_then(|n| u32::try_from(n).ok());
                    }
                }
            }
        }
        complete.validate()?;
        let expected = complete.tensors()?;
        for name in tensors.keys() {
            require(expected.contains_key(name.as_str()), "weights", || {
                format!("tensor '{name}' is not named by the description")
            })?;
        }
        for (name, expected) in expected {
            let place = format!("tensor '{name}'");
            let tensor = tensors.get(name).ok_or_else(|| ModelError::new(&place, "missing"))?;
            let shape: Vec<Option<u32>> = tensor.shape.iter().map(|&n| u32::try_from(n).ok()).collect();
            let show = |shape: &[Option<u32>]| {
                shape.iter().map(|n| n.map_or("?".into(), |n| n.to_string())).collect::<Vec<_>>().join(", ")
            };
            let elements = tensor.shape.iter().try_fold(1usize, |n, &m| n.checked_mul(m));
            require(shape == expected.shape && elements == Some(tensor.values.len()), &place, || {
                format!("shape [{}], [{}] is expected", show(&shape), show(&expected.shape))
            })?;
            let (lo, hi) = signed(expected.bits);
            require(tensor.values.iter().all(|&v| (lo..=hi).contains(&v.into())), &place, || {
                format!("a value does not fit {} bits", expected.bits)
            })?;
        }
        let weights = Self { tensors };
        weights.check_mix(&complete)?;
        weights.prove_states(&mut complete)?;
        *description = complete;
        Ok(weights)
    }

    /// `zeta (1 - g) + nu` is in `[0, 2^15)` for every gate.
    fn check_mix(&self, description: &Description) -> Result<(), ModelError> {
        for layer in &description.layer {
            for v in [&layer.zeta, &layer.nu] {
                let place = format!("tensor '{}'", v.tensor);
                require(self.values(&v.tensor)[0] >= 0, &place, || "negative; FastGRNN's zeta and nu are not".into())?;
            }
            let zeta = (i128::from(self.values(&layer.zeta.tensor)[0]) << layer.gate.scale) >> layer.zeta.shift;
            let nu = i128::from(self.values(&layer.nu.tensor)[0]) >> layer.nu.shift;
            let place = format!("tensors '{}' and '{}'", layer.zeta.tensor, layer.nu.tensor);
            require(zeta + nu <= signed(ACTIVATION_BITS).1, &place, || {
                format!("zeta (1 - g) + nu does not fit {ACTIVATION_BITS} bits for every g")
            })?;
        }
        Ok(())
    }

    /// Adds to the description which layers' states cannot wrap. A file that claims more than the weights hold is refused.
    fn prove_states(&self, description: &mut Description) -> Result<(), ModelError> {
        let (rounding, steps) = (description.rounding, description.steps);
        for (i, layer) in description.layer.iter_mut().enumerate() {
            let fits = self.tables(layer, rounding).is_some_and(|t| t.state_fits(layer, rounding, steps));
            require(fits || !layer.state.fits(), &format!("layer {i}: state.fits"), || {
                "the weights do not prove it".into()
            })?;
            layer.state.fits = Some(fits);
        }
        Ok(())
    }

    /// A layer's fused tables, if its pre-activation is narrow enough.
    fn tables(&self, layer: &Layer, rounding: Rounding) -> Option<Tables> {
        let bias = |name: &str| self.bias(layer, name);
        let constants = Constants {
            gate_bias: &bias(&layer.pre.gate_bias),
            candidate_bias: &bias(&layer.pre.candidate_bias),
            zeta: self.values(&layer.zeta.tensor)[0].into(),
            nu: rounding.apply(self.values(&layer.nu.tensor)[0].into(), layer.nu.shift),
        };
        Tables::new(layer, rounding, &constants)
    }

    /// A bias, wrapped to the bits of the pre-activation that matter.
    fn bias(&self, layer: &Layer, name: &str) -> Vec<i128> {
        let significant = ACTIVATION_BITS - layer.pre.left;
        self.values(name).iter().map(|&v| wrap(v.into(), significant, true)).collect()
    }

    fn values(&self, name: &str) -> &[i64] {
        &self.tensors[name].values
    }

    /// The server's inputs of the program that [`super::build`] makes: matrices as they are, vectors rescaled and wrapped
    /// to the ring in which they are added.
    pub fn inputs(&self, description: &Description) -> HashMap<String, Vec<i128>> {
        let rounding = description.rounding;
        let whole = |name: &str| self.values(name).iter().map(|&v| i128::from(v)).collect::<Vec<_>>();
        let rescaled = |name: &str, shift| whole(name).into_iter().map(move |v| rounding.apply(v, shift));
        let mut inputs = HashMap::new();
        for (i, layer) in description.layer.iter().enumerate() {
            let mut add = |part: &str, values| inputs.insert(format!("layer{i}.{part}"), values);
            for (letter, chain) in [("w", &layer.w), ("u", &layer.u)] {
                for (j, factor) in chain.iter().enumerate() {
                    add(&format!("{letter}{j}"), whole(&factor.tensor));
                }
            }
            // A program uses the tables or what they are made of; the other inputs it does not declare.
            if let Some(tables) = self.tables(layer, rounding) {
                add("gate_table", tables.gate);
                add("update_table", tables.update);
            }
            add("gate_bias", self.bias(layer, &layer.pre.gate_bias));
            add("candidate_bias", self.bias(layer, &layer.pre.candidate_bias));
            add("zeta", whole(&layer.zeta.tensor));
            add("nu", rescaled(&layer.nu.tensor, layer.nu.shift).collect());
        }
        let out = &description.output;
        inputs.insert("output.weights".into(), whole(&out.tensor));
        let bias = rescaled(&out.bias.tensor, out.bias.shift).map(|v| wrap(v, out.out, true)).collect();
        inputs.insert("output.bias".into(), bias);
        inputs
    }
}
