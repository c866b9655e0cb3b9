//! How good an imported model is: its outputs against those of the network in floats, and the formats of its values.
//!
//! Everything is measured on the calibration items, with the definition of the integer graph
//! ([`evaluate_observed`]).

use super::convert::{Imported, Networks};
use super::network::ValueId;
use super::network::evaluate::evaluate;
use super::tensor::Tensor;
use crate::graph::evaluate::evaluate_observed;
use crate::graph::{self, Number};
use crate::model::client::{Client, Reals};
use crate::model::input::Array;
use crate::model::npy::Value;
use crate::model::{Description, Items};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

/// Items whose values inside of the network are compared.
const INSPECTED: usize = 16;
/// Items that are named as the worst.
const WORST: usize = 10;
/// Bounds of the classes of confidence.
const CONFIDENCE: [f64; 3] = [0.5, 0.9, 0.99];
/// A value further from the mean than so many deviations is an outlier.
const OUTLIER: f64 = 4.0;

/// The report.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Name of the model.
    pub model: String,
    /// What wrote the file.
    pub producer: String,
    /// Bits of weights and of activations.
    pub bits: [u32; 2],
    /// Calibration items.
    pub items: usize,
    /// Time steps of the longest; 0 where the network has no free time axis.
    pub steps: usize,
    /// The most time steps of a request.
    pub max_steps: usize,
    /// Numbers of the calibration items beyond the range of the input.
    pub saturated: usize,
    /// Outputs.
    pub outputs: Vec<Output>,
    /// The items with the largest errors.
    pub worst: Vec<Worst>,
    /// Values of the network.
    pub tensors: Vec<Format>,
    /// Values that were wrapped on the calibration items, and how many elements.
    pub wraps: BTreeMap<String, u64>,
    /// What a request costs.
    pub costs: Vec<Cost>,
    /// What a client learns.
    pub disclosed: Vec<String>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// An output against the network in floats.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// The largest and the mean difference of a number.
    pub largest_error: f64,
    /// The mean difference.
    pub mean_error: f64,
    /// Rows of which the class was compared: the largest entry, or of single numbers between 0 and 1 the side of one half.
    pub rows: usize,
    /// Share of them that agree.
    pub agreement: Option<f64>,
    /// The same for rows of which the network in floats was as confident.
    pub by_confidence: Vec<Confidence>,
    /// Share of items that are right, in floats and in integers, where labels were given.
    pub accuracy: Option<[f64; 2]>,
}

/// Rows of similar confidence of the network in floats.
#[derive(Clone, Debug, Serialize)]
pub struct Confidence {
    /// From this probability of the likeliest class.
    pub from: f64,
    /// Up to this.
    pub to: f64,
    /// Rows.
    pub rows: usize,
    /// Share that agrees.
    pub agreement: f64,
}

/// An item with a large error.
#[derive(Clone, Debug, Serialize)]
pub struct Worst {
    /// The item.
    pub item: usize,
    /// The output.
    pub output: String,
    /// The largest difference of a number.
    pub error: f64,
    /// Whether all classes agree.
    pub agrees: bool,
}

/// Format of a value, and how its numbers fit it.
#[derive(Clone, Debug, Serialize)]
pub struct Format {
    /// Its name in the model.
    pub name: String,
    /// Smallest number in floats.
    pub low: f32,
    /// Largest number in floats.
    pub high: f32,
    /// Bits of the integers.
    pub bits: u32,
    /// Their scale.
    pub scale: i32,
    /// How many times larger it may become before it wraps.
    pub headroom: f64,
    /// Largest difference to the floats on the first items; none where a value cannot be compared.
    pub error: Option<f64>,
    /// Share of the numbers that are far from the others.
    pub outliers: f64,
}

/// What a batch costs.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// Items.
    pub batch: usize,
    /// Online rounds.
    pub rounds: usize,
    /// Bytes of the online phase.
    pub bytes_online: u64,
    /// Bytes of all phases.
    pub bytes: u64,
    /// Estimate on a LAN.
    pub seconds: f64,
    /// Rounds and online bytes of each part of the network.
    pub layers: Vec<(String, usize, u64)>,
}

/// What an item gave.
struct Seen {
    float: Vec<Tensor>,
    fixed: Vec<Reals>,
    saturated: usize,
    wraps: BTreeMap<String, u64>,
    /// Of values inside: largest difference, and sums for outliers.
    values: HashMap<ValueId, Moments>,
}

/// Numbers of a value.
#[derive(Clone, Default)]
struct Moments {
    error: Option<f64>,
    numbers: Vec<f32>,
}

/// Measures a model. `labels` are the classes of the items.
///
/// # Errors
/// Labels that do not fit, or an item that cannot be computed.
pub fn measure(imported: &Imported, labels: Option<&[usize]>) -> Result<Report, String> {
    let description = &imported.model.description;
    if let Some(labels) = labels
        && labels.len() != imported.items.len()
    {
        return Err(format!("{} labels for {} items", labels.len(), imported.items.len()));
    }
    // The items are behind the client's own part.
    let client = Client { before: None, item_axis: BTreeMap::new(), ..description.client.clone() };
    let bare = Description { client, ..description.clone() };
    let seen = |(i, (at, item)): (usize, &(usize, Vec<Tensor>))| {
        look(imported, &bare, &imported.networks[*at], item, i < INSPECTED).map_err(|e| format!("item {i}: {e}"))
    };
    let seen = imported.items.par_iter().enumerate().map(seen).collect::<Result<Vec<Seen>, String>>()?;
    let mut report = Report {
        model: description.name.clone(),
        bits: [imported.widths.options.weights, imported.widths.options.activations],
        items: imported.items.len(),
        max_steps: description.graph.steps,
        saturated: seen.iter().map(|s| s.saturated).sum(),
        notes: imported.notes.clone(),
        ..Report::default()
    };
    if description.graph.steps > 0 {
        report.steps = imported.items.iter().map(|(_, i)| i[0].shape()[0]).max().unwrap_or(0);
    }
    for one in &seen {
        for (name, n) in &one.wraps {
            *report.wraps.entry(name.clone()).or_default() += n;
        }
    }
    // An output whose length follows that of the item.
    let most = description.graph.steps;
    let length = |steps: usize, k: usize| -> Result<usize, String> {
        let typed = description.typed(steps).map_err(|e| e.to_string())?;
        Ok(typed.ty(typed.outputs[k]).len())
    };
    for (k, output) in description.graph.outputs.iter().enumerate() {
        // Without an axis of its own, or with that of time alone, an output is one number.
        let axes = seen.first().map_or(0, |s| s.fixed[k].shape.len());
        let series = axes == 0 || (axes == 1 && most > 1 && length(most, k)? != length(most - 1, k)?);
        report.outputs.push(compare(k, &output.name, series, &seen, labels, &mut report.worst)?);
    }
    report
        .worst
        .sort_by(|a, b| (a.agrees, b.error).partial_cmp(&(b.agrees, a.error)).unwrap_or(std::cmp::Ordering::Equal));
    report.worst.truncate(WORST);
    report.tensors = formats(imported, &seen);
    Ok(report)
}

/// One item, in floats and in integers.
fn look(
    imported: &Imported,
    bare: &Description,
    networks: &Networks,
    item: &[Tensor],
    inside: bool,
) -> Result<Seen, String> {
    let array = |(input, t): (&graph::Input, &Tensor)| Array {
        name: Some(input.name.clone()),
        shape: [&[1], t.shape()].concat(),
        values: t.to_floats().iter().map(|&v| Value::Real(v.into())).collect(),
        lengths: None,
    };
    let arrays = bare.graph.inputs.iter().zip(item).map(array).collect();
    let items = Items::from_arrays(bare, arrays).map_err(|e| e.to_string())?;
    let typed = bare.typed(items.steps()).map_err(|e| e.to_string())?;
    let by_name: HashMap<&str, (ValueId, Number)> =
        imported.values.iter().map(|(id, (name, number))| (name.as_str(), (*id, *number))).collect();
    let mut fixed: HashMap<ValueId, Vec<f64>> = HashMap::new();
    let mut wraps = BTreeMap::new();
    let weights = &imported.model.weights;
    let outputs = evaluate_observed(&typed, weights, &items.item(0), &mut |id, value, exact| {
        let (lo, hi) = typed.ty(id).number.range();
        let wrapped = exact.data.iter().filter(|&&v| !(lo..=hi).contains(&v.into())).count();
        if wrapped > 0 {
            *wraps.entry(typed.name(id).to_string()).or_insert(0) += wrapped as u64;
        }
        let name = typed.name(id).rsplit('/').next().unwrap_or_default();
        if inside && let Some((id, number)) = by_name.get(name) {
            let flat = vec![0];
            let finer = imported.channels.get(id).unwrap_or(&flat);
            let units: Vec<f64> = finer.iter().map(|f| 2f64.powi(-number.scale - f)).collect();
            let reals = value.data.iter().enumerate().map(|(i, &v)| v as f64 * units[i % units.len()]);
            fixed.entry(*id).or_default().extend(reals);
        }
    });
    let real = |(t, id): (graph::Tensor, &graph::ValueId)| {
        let unit = 2f64.powi(-typed.ty(*id).number.scale);
        Reals { shape: t.shape, data: t.data.iter().map(|&v| v as f64 * unit).collect() }
    };
    let mut outputs: Vec<Reals> = outputs.into_iter().zip(&typed.outputs).map(real).collect();
    if bare.client.after.is_some() {
        outputs = bare.client.after(&typed, outputs).map_err(|e| e.to_string())?;
    }
    // What the client does not compute from what is revealed is not compared.
    let reference = if bare.client.after.is_some() { &networks.full } else { &networks.private };
    let mut float = evaluate(reference, item, &mut |_, _| {})?;
    for (float, fixed) in float.iter_mut().zip(&outputs) {
        *float = float.reshaped(fixed.shape.clone())?;
    }
    let mut values: HashMap<ValueId, Moments> = HashMap::new();
    if inside {
        evaluate(&networks.private, item, &mut |id, t| {
            if imported.values.contains_key(&id) {
                values.entry(id).or_default().numbers.extend(t.to_floats());
            }
        })?;
        for (id, moments) in &mut values {
            let Some(fixed) = fixed.get(id).filter(|f| f.len() == moments.numbers.len()) else { continue };
            let pairs = fixed.iter().zip(&moments.numbers);
            moments.error = Some(pairs.map(|(a, &b)| (a - f64::from(b)).abs()).fold(0.0, f64::max));
        }
    }
    Ok(Seen { float, fixed: outputs, saturated: items.saturated(), wraps, values })
}

fn argmax(row: &[f64]) -> usize {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

/// The probability of the likeliest class, of a row of probabilities or of scores.
fn confidence(row: &[f64]) -> f64 {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = row.iter().sum();
    if row.iter().all(|&v| (0.0..=1.0).contains(&v)) && (sum - 1.0).abs() < 1e-3 {
        return largest;
    }
    1.0 / row.iter().map(|v| (v - largest).exp()).sum::<f64>()
}

fn compare(
    k: usize,
    name: &str,
    series: bool,
    seen: &[Seen],
    labels: Option<&[usize]>,
    worst: &mut Vec<Worst>,
) -> Result<Output, String> {
    let mut output = Output { name: name.into(), ..Output::default() };
    let (mut numbers, mut sum) = (0usize, 0.0);
    let mut rows: Vec<(f64, bool)> = Vec::new();
    let mut right = [0usize; 2];
    let unit = |v: &f64| (0.0..=1.0).contains(v);
    let probabilities = seen.iter().all(|s| s.float[k].to_floats().iter().map(|&v| f64::from(v)).all(|v| unit(&v)));
    for (item, s) in seen.iter().enumerate() {
        let fixed = &s.fixed[k];
        let float: Vec<f64> = s.float[k].to_floats().iter().map(|&v| f64::from(v)).collect();
        let errors = float.iter().zip(&fixed.data).map(|(a, b)| (a - b).abs());
        let error = errors.clone().fold(0.0, f64::max);
        sum += errors.sum::<f64>();
        numbers += float.len();
        output.largest_error = output.largest_error.max(error);
        let before = rows.len();
        let width = if series { 1 } else { fixed.shape.last().copied().unwrap_or(1).max(1) };
        for (a, b) in float.chunks(width).zip(fixed.data.chunks(width)) {
            if width > 1 {
                rows.push((confidence(a), argmax(a) == argmax(b)));
            } else if probabilities {
                rows.push((0.5 + (a[0] - 0.5).abs(), (a[0] > 0.5) == (b[0] > 0.5)));
            }
        }
        let agrees = rows[before..].iter().all(|r| r.1);
        worst.push(Worst { item, output: name.into(), error, agrees });
        if let (Some(labels), true) = (labels, k == 0) {
            if fixed.data.len() != width || width < 2 {
                return Err(format!("labels: the output '{name}' has no single class for an item"));
            }
            if labels[item] >= width {
                return Err(format!("labels: item {item} has class {}, the network {width} classes", labels[item]));
            }
            right[0] += usize::from(argmax(&float) == labels[item]);
            right[1] += usize::from(argmax(&fixed.data) == labels[item]);
        }
    }
    output.mean_error = sum / numbers.max(1) as f64;
    output.rows = rows.len();
    let share = |of: &[&(f64, bool)]| of.iter().filter(|r| r.1).count() as f64 / of.len().max(1) as f64;
    if !rows.is_empty() {
        output.agreement = Some(share(&rows.iter().collect::<Vec<_>>()));
        let ends: Vec<f64> = [0.0].into_iter().chain(CONFIDENCE).chain([1.0]).collect();
        for ends in ends.windows(2) {
            let last = ends[1] == 1.0;
            let of: Vec<&(f64, bool)> = rows.iter().filter(|r| r.0 >= ends[0] && (r.0 < ends[1] || last)).collect();
            if !of.is_empty() {
                let (rows, agreement) = (of.len(), share(&of));
                output.by_confidence.push(Confidence { from: ends[0], to: ends[1], rows, agreement });
            }
        }
    }
    if labels.is_some() && k == 0 {
        output.accuracy = Some(right.map(|n| n as f64 / seen.len() as f64));
    }
    Ok(output)
}

fn formats(imported: &Imported, seen: &[Seen]) -> Vec<Format> {
    let mut ids: Vec<&ValueId> = imported.values.keys().collect();
    ids.sort();
    let mut out = Vec::new();
    for id in ids {
        let (name, number) = &imported.values[id];
        let (low, high) = imported.ranges.of(*id);
        let all: Vec<f64> =
            seen.iter().filter_map(|s| s.values.get(id)).flat_map(|m| &m.numbers).map(|&v| f64::from(v)).collect();
        if all.is_empty() {
            continue;
        }
        let errors: Vec<f64> = seen.iter().filter_map(|s| s.values.get(id)?.error).collect();
        let n = all.len() as f64;
        let mean = all.iter().sum::<f64>() / n;
        let deviation = (all.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        let far = all.iter().filter(|v| (*v - mean).abs() > OUTLIER * deviation).count() as f64;
        let largest = number.range().1 as f64 * 2f64.powi(-number.scale);
        let magnitude = f64::from(low.abs().max(high.abs()));
        out.push(Format {
            name: name.clone(),
            low,
            high,
            bits: number.bits,
            scale: number.scale,
            headroom: if magnitude > 0.0 { largest / magnitude } else { f64::MAX },
            error: errors.into_iter().reduce(f64::max),
            outliers: far / n,
        });
    }
    out
}

impl Report {
    /// The short table for the terminal.
    pub fn short(&self) -> String {
        let mut text = String::new();
        let steps = match (self.steps, self.max_steps) {
            (0, _) => String::new(),
            (own, most) => format!(" of {own} steps (requests may have up to {most})"),
        };
        let [weights, activations] = self.bits;
        let _ = writeln!(text, "{}: weights of {weights} bits, activations of {activations}", self.model);
        let _ = writeln!(text, "measured on {} calibration items{steps}", self.items);
        let _ = writeln!(
            text,
            "{:<24} {:>13} {:>13} {:>10} {:>8}",
            "output", "largest error", "mean error", "same class", "rows"
        );
        for o in &self.outputs {
            let agreement = o.agreement.map_or("-".into(), |a| format!("{:.2} %", a * 100.0));
            let _ = writeln!(
                text,
                "{:<24} {:>13.6} {:>13.6} {agreement:>10} {:>8}",
                o.name, o.largest_error, o.mean_error, o.rows
            );
            if let Some([float, fixed]) = o.accuracy {
                let _ = writeln!(text, "  right: {:.2} % in floats, {:.2} % in integers", float * 100.0, fixed * 100.0);
            }
        }
        for cost in &self.costs {
            let _ = writeln!(
                text,
                "batch {:<4} {:>7} rounds, {:>10.3} MB online, {:>10.3} MB in all, about {:.2} s on a LAN",
                cost.batch,
                cost.rounds,
                cost.bytes_online as f64 / 1e6,
                cost.bytes as f64 / 1e6,
                cost.seconds
            );
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        text
    }

    /// The report for people.
    pub fn markdown(&self) -> String {
        let mut text = format!("# {}\n\n```\n{}```\n", self.model, self.short());
        text.push_str("\nErrors are differences between the network in floats and the model's integers, on the calibration items.\n");
        for o in self.outputs.iter().filter(|o| !o.by_confidence.is_empty()) {
            let _ = writeln!(
                text,
                "\n## Agreement of `{}`\n\n| confidence in floats | rows | same class |\n|---|---|---|",
                o.name
            );
            for c in &o.by_confidence {
                let _ = writeln!(text, "| {} to {} | {} | {:.2} % |", c.from, c.to, c.rows, c.agreement * 100.0);
            }
        }
        text.push_str("\n## Worst items\n\n| item | output | largest error | same class |\n|---|---|---|---|\n");
        for w in &self.worst {
            let _ = writeln!(
                text,
                "| {} | `{}` | {:.6} | {} |",
                w.item,
                w.output,
                w.error,
                if w.agrees { "yes" } else { "no" }
            );
        }
        text.push_str("\n## Values\n\nHeadroom: how many times larger a value may become before it wraps. Error: largest difference on the first items.\n");
        let _ = writeln!(text, "Outliers: share of numbers more than {OUTLIER} standard deviations from the mean.\n");
        text.push_str("| value | smallest | largest | bits | scale | headroom | error | outliers |\n|---|---|---|---|---|---|---|---|\n");
        for t in &self.tensors {
            let error = t.error.map_or("-".into(), |e| format!("{e:.6}"));
            let headroom = if t.headroom > 1e6 { "-".into() } else { format!("{:.2}", t.headroom) };
            let _ = writeln!(
                text,
                "| `{}` | {:.4} | {:.4} | {} | {} | {headroom} | {error} | {:.4} % |",
                t.name,
                t.low,
                t.high,
                t.bits,
                t.scale,
                t.outliers * 100.0
            );
        }
        for cost in &self.costs {
            let _ =
                writeln!(text, "\n## Cost of {} items\n\n| part | rounds | bytes online |\n|---|---|---|", cost.batch);
            for (name, rounds, bytes) in &cost.layers {
                let _ = writeln!(text, "| `{name}` | {rounds} | {bytes} |");
            }
        }
        text.push_str("\n## What a client learns\n\n");
        for line in &self.disclosed {
            let _ = writeln!(text, "* {line}");
        }
        if !self.wraps.is_empty() {
            text.push_str("\n## Wrapped\n\n| value | elements |\n|---|---|\n");
            for (name, n) in &self.wraps {
                let _ = writeln!(text, "| `{name}` | {n} |");
            }
        }
        text
    }
}
