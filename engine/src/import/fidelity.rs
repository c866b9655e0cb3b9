//! How far a network of integers is from the network in floats that it was made of: every tensor in every step, and the
//! outputs.

use super::network::evaluate::evaluate;
use super::network::{Network, ValueId};
use super::quantise::Quantised;
use super::tensor::Tensor;
use crate::graph::evaluate::evaluate_observed;
use crate::graph::{self, Number};
use std::collections::{BTreeMap, HashMap};

/// A tensor of the graph against the value of the float network that it stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorFidelity {
    /// The value of the float network.
    pub value: ValueId,
    /// Name in the graph; of one inside of a loop, `loop/name`.
    pub name: String,
    /// Its format.
    pub number: Number,
    /// Smallest and largest element in floats.
    pub range: (f32, f32),
    /// Elements compared.
    pub elements: usize,
    /// Elements that did not fit their width before they were wrapped.
    pub wraps: usize,
    /// The largest number of the format by the largest magnitude that was seen before wrapping: below 1 it wrapped.
    pub headroom: f64,
    /// Largest difference.
    pub largest_error: f64,
    /// Root of the mean square of the differences.
    pub error: f64,
    /// Root of the mean square of the float elements.
    pub signal: f64,
}

impl TensorFidelity {
    /// Signal to noise in decibels.
    pub fn snr(&self) -> f64 {
        20.0 * (self.signal / self.error).log10()
    }
}

/// An output of both networks for one item.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// Of the network in floats.
    pub float: Vec<f64>,
    /// Of the network of integers, as reals.
    pub fixed: Vec<f64>,
}

/// Both networks on some items.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fidelity {
    /// Tensors in the order in which they are computed.
    pub tensors: Vec<TensorFidelity>,
    /// Outputs of every item, in the order of the network's outputs.
    pub outputs: Vec<Vec<Pair>>,
    /// Numbers in a row of each output: the size of its last axis.
    pub rows: Vec<usize>,
}

/// The first largest of a row.
fn largest(row: &[f64]) -> usize {
    (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

impl Fidelity {
    /// The part of the decisions in which both networks are the same: of an output of probabilities, each on the same side of one half;
    /// of any other, the largest of each row, or the sign where a row is one number.
    pub fn agreement(&self) -> f64 {
        let (mut same, mut all) = (0usize, 0usize);
        for (pair, row) in self.outputs.iter().flat_map(|item| item.iter().zip(&self.rows)) {
            let rows = || pair.float.chunks(*row).zip(pair.fixed.chunks(*row));
            let sum_to_one = *row > 1 && rows().all(|(float, _)| (float.iter().sum::<f64>() - 1.0).abs() < 1e-3);
            let probabilities = pair.float.iter().all(|v| (0.0..=1.0).contains(v)) && !sum_to_one;
            let limit = if probabilities { 0.5 } else { 0.0 };
            if probabilities || *row == 1 {
                same += pair.float.iter().zip(&pair.fixed).filter(|(a, b)| (**a > limit) == (**b > limit)).count();
                all += pair.float.len();
            } else {
                same += rows().filter(|(a, b)| largest(a) == largest(b)).count();
                all += rows().len();
            }
        }
        same as f64 / all.max(1) as f64
    }

    /// Refuses wraps.
    ///
    /// # Errors
    /// Names the first tensor that wrapped, and how many elements of it did.
    pub fn without_wraps(&self) -> Result<(), String> {
        match self.tensors.iter().find(|t| t.wraps > 0) {
            None => Ok(()),
            Some(t) => Err(format!(
                "tensor '{}' of {} bits wraps around in {} of {} elements; it reaches {:.2} times what fits",
                t.name,
                t.number.bits,
                t.wraps,
                t.elements,
                1.0 / t.headroom
            )),
        }
    }
}

/// What is collected of a tensor.
#[derive(Clone, Copy, Debug)]
struct Sums {
    range: (f32, f32),
    elements: usize,
    wraps: usize,
    reach: f64,
    largest_error: f64,
    error: f64,
    signal: f64,
}

impl Default for Sums {
    fn default() -> Self {
        let range = (f32::INFINITY, f32::NEG_INFINITY);
        Self { range, elements: 0, wraps: 0, reach: 0.0, largest_error: 0.0, error: 0.0, signal: 0.0 }
    }
}

/// Computes both networks on `items`, each with the inputs in the order of the network's.
///
/// # Errors
/// If an item does not fit the network, or an input of it is no finite number or not in the range of its format.
pub fn compare(network: &Network, quantised: &Quantised, items: &[Vec<Tensor>]) -> Result<Fidelity, String> {
    let typed = quantised.graph.infer(quantised.steps(network)).map_err(|e| e.to_string())?;
    // Names of bodies are unique without the loop's name in front.
    let own = |name: &str| name.rsplit('/').next().unwrap_or_default().to_string();
    let ids: HashMap<String, graph::ValueId> =
        typed.values.iter().enumerate().map(|(i, v)| (own(&v.name), graph::ValueId(i as u32))).collect();
    // Several values of the float network may have become one: the last is what it stands for.
    let pairs: BTreeMap<graph::ValueId, ValueId> = quantised
        .values
        .iter()
        .filter_map(|(&value, (name, _))| Some((*ids.get(&own(name))?, value)))
        .fold(BTreeMap::new(), |mut all, (id, value)| {
            all.entry(id).and_modify(|v: &mut ValueId| *v = value.max(*v)).or_insert(value);
            all
        });
    let mut sums: BTreeMap<graph::ValueId, Sums> = BTreeMap::new();
    let mut outputs = Vec::new();
    for item in items {
        let mut floats: HashMap<ValueId, Vec<Tensor>> = HashMap::new();
        let float = evaluate(network, item, &mut |id, value| floats.entry(id).or_default().push(value.clone()))?;
        let inputs = quantised.inputs(item)?;
        let mut seen: HashMap<graph::ValueId, usize> = HashMap::new();
        let fixed = evaluate_observed(&typed, &quantised.weights, &inputs, &mut |id, value, exact| {
            let ty = typed.ty(id);
            let sums = sums.entry(id).or_default();
            let (lo, hi) = ty.number.range();
            for &x in &exact.data {
                sums.wraps += usize::from(!(lo..=hi).contains(&x.into()));
                let reach = if x < 0 { x as f64 / lo.min(-1) as f64 } else { x as f64 / hi as f64 };
                sums.reach = sums.reach.max(reach);
            }
            let Some(network) = pairs.get(&id) else { return };
            let Some(float) = floats.get(network) else { return };
            let nth = seen.entry(id).or_default();
            let Some(Ok(float)) = float.get(*nth).map(Tensor::as_floats) else { return };
            *nth += 1;
            let flat = vec![0];
            let finer = quantised.channels.get(network).unwrap_or(&flat);
            let units: Vec<f64> = finer.iter().map(|f| 2f64.powi(-ty.number.scale - f)).collect();
            for (i, (&f, &x)) in float.iter().zip(&value.data).enumerate() {
                let difference = (f64::from(f) - x as f64 * units[i % units.len()]).abs();
                sums.range = (sums.range.0.min(f), sums.range.1.max(f));
                sums.largest_error = sums.largest_error.max(difference);
                sums.error += difference * difference;
                sums.signal += f64::from(f) * f64::from(f);
            }
            sums.elements += float.len();
        });
        let pair = |((float, fixed), id): ((&Tensor, graph::Tensor), &graph::ValueId)| {
            let unit = 2f64.powi(-typed.ty(*id).number.scale);
            let float = float.as_floats()?.iter().map(|&v| v.into()).collect();
            Ok(Pair { float, fixed: fixed.data.iter().map(|&v| v as f64 * unit).collect() })
        };
        outputs.push(float.iter().zip(fixed).zip(&typed.outputs).map(pair).collect::<Result<_, String>>()?);
    }
    let tensors = sums.into_iter().filter_map(|(id, sums)| {
        let n = sums.elements.max(1) as f64;
        Some(TensorFidelity {
            value: *pairs.get(&id)?,
            name: typed.name(id).to_string(),
            number: typed.ty(id).number,
            range: sums.range,
            elements: sums.elements,
            wraps: sums.wraps,
            headroom: 1.0 / sums.reach,
            largest_error: sums.largest_error,
            error: (sums.error / n).sqrt(),
            signal: (sums.signal / n).sqrt(),
        })
    });
    let row = |(_, id): &(String, ValueId)| network.shape(*id).last().copied().unwrap_or(1).max(1);
    Ok(Fidelity { tensors: tensors.collect(), outputs, rows: network.outputs.iter().map(row).collect() })
}
