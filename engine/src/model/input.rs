//! The client's items: one file for each input of the network, and their lengths.
//!
//! * `.npy`: an array `[items, shape..]` of `i1 i2 i4 i8 u1 u2 u4 f2 f4 f8`.
//! * `.csv`: an item per line, all its numbers, last axis fastest: of a time series all features of the first step first. A file of
//!   whole numbers alone holds integers; as soon as one number has a point or an exponent, all are reals.
//!
//! Integers are used as they are. A real `x` becomes the integer nearest to `x 2^scale`, ties to even. What does not fit the
//! input's width is an error, since it must not wrap.
//!
//! * `.wav`: one recording, PCM of 16 bits, one channel, at the rate that the description states; its samples in [-1, 1) fill the input, the last
//!   step filled up with zeros.
//!
//! Where the description says that users have real numbers (`client.reals`), whole numbers are real ones too, unless they are read as
//! integers of the input's format, and numbers beyond the range count as the nearest in it. Where it has a part that the client
//! computes itself, files hold what that part begins with.
//!
//! In such a model, an array of an item's own axes is one item. In one with an axis more the items lie along the first axis, or along
//! that which the description names; there may be yet another axis, of the items, before that.
//!
//! Time series may be shorter than the description allows; all items of a file have as many steps. Where they have lengths of their own, a
//! file of lengths says so, one per line, and what stands behind an item's own length is ignored: it counts as zeros, and is never
//! read. In `.csv` it may be missing.

use super::client::Reals;
use super::description::Description;
use super::npy::{Npy, Value};
use super::{ModelError, require};
use crate::graph::{Dim, Input, MAX_RANK, Tensor};
use std::{collections::HashMap, ops::Range, path::Path, path::PathBuf};

/// Bytes of a file of items.
const MAX_FILE: u64 = 1 << 32;
/// Bytes of a file of lengths.
const MAX_LENGTHS: u64 = 1 << 28;

/// Reads a file of at most `limit` bytes.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, ModelError> {
    crate::run::file::read(path, limit).map_err(|e| ModelError::new(path.display().to_string(), e.to_string()))
}

/// One input's numbers.
#[derive(Clone, PartialEq, Eq)]
struct Column {
    name: String,
    /// Of one item, at the number of steps that all have.
    shape: Vec<usize>,
    timed: bool,
    values: Vec<i64>,
}

/// Items as integers.
#[derive(Clone, PartialEq, Eq)]
pub struct Items {
    items: usize,
    /// Time steps; 0 where no input has a time axis.
    steps: usize,
    /// Of each item, if they differ.
    lengths: Option<Vec<usize>>,
    columns: Vec<Column>,
    /// Numbers that were beyond the range and count as the nearest in it.
    saturated: usize,
}

impl std::fmt::Debug for Items {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shapes = self.columns.iter().map(|c| (&c.name, &c.shape));
        f.debug_struct("Items").field("items", &self.items).field("shapes", &shapes.collect::<Vec<_>>()).finish()
    }
}

/// Where items are read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// What the user named: a file, a folder with a file `NAME.npy` or `NAME.csv` for each input, or `NAME=FILE` for each input.
    pub inputs: Vec<String>,
    /// A file of lengths.
    pub lengths: Option<PathBuf>,
}

impl Sources {
    /// One file or folder.
    pub fn one(path: &Path) -> Self {
        Self { inputs: vec![path.display().to_string()], lengths: None }
    }

    /// Fails early for files that cannot be read, whatever the inputs are.
    ///
    /// # Errors
    /// Names the file.
    pub fn check_readable(&self) -> Result<(), ModelError> {
        for path in self.all_files()? {
            let fail = |e: std::io::Error| ModelError::new(path.display().to_string(), e.to_string());
            crate::run::file::check_readable(&path).map_err(fail)?;
        }
        Ok(())
    }

    /// All files, of whatever inputs: those that were named, and of a folder those of its `.npy` and `.csv`, in the order of their names.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn all_files(&self) -> Result<Vec<PathBuf>, ModelError> {
        let named = |s: &String| match s.split_once('=') {
            Some((_, file)) if !Path::new(s).exists() => PathBuf::from(file),
            _ => PathBuf::from(s),
        };
        let mut all = Vec::new();
        for path in self.inputs.iter().map(named).chain(self.lengths.clone()) {
            if !path.is_dir() {
                all.push(path);
                continue;
            }
            let fail = |e: std::io::Error| ModelError::new(path.display().to_string(), e.to_string());
            let mut inside = Vec::new();
            for entry in std::fs::read_dir(&path).map_err(fail)? {
                inside.push(entry.map_err(fail)?.path());
            }
            inside.retain(|p| p.extension().is_some_and(|e| e == "npy" || e == "csv"));
            inside.sort();
            all.extend(inside);
        }
        Ok(all)
    }

    /// The file of each input.
    fn files(&self, inputs: &[Input]) -> Result<Vec<PathBuf>, ModelError> {
        let of = |name: &str, source: &str| source.strip_prefix(name)?.strip_prefix('=').map(PathBuf::from);
        let names = || inputs.iter().map(|i| i.name.as_str()).collect::<Vec<_>>().join(", ");
        if let [one] = &self.inputs[..]
            && inputs.iter().all(|i| of(&i.name, one).is_none())
        {
            let path = PathBuf::from(one);
            if !path.is_dir() {
                let what = || format!("the network has {} inputs ({}): say NAME=FILE for each", inputs.len(), names());
                require(inputs.len() == 1, one, what)?;
                return Ok(vec![path]);
            }
            let file = |input: &Input| {
                // A name of the network's, not of a folder elsewhere.
                let plain = !input.name.contains(['/', '\\']);
                let candidates = ["npy", "csv"].map(|kind| path.join(format!("{}.{kind}", input.name)));
                let found = candidates.into_iter().find(|c| plain && c.exists());
                found.ok_or_else(|| ModelError::new(one, format!("there is no {0}.npy or {0}.csv", input.name)))
            };
            return inputs.iter().map(file).collect();
        }
        if let Some(stray) = self.inputs.iter().find(|s| inputs.iter().all(|i| of(&i.name, s).is_none())) {
            return Err(ModelError::new(stray, format!("not NAME=FILE with one of the inputs {}", names())));
        }
        let file = |input: &Input| {
            let place = || format!("input '{}'", input.name);
            let mut files = self.inputs.iter().filter_map(|s| of(&input.name, s));
            let first = files.next().ok_or_else(|| ModelError::new(place(), "no file was named for it"))?;
            require(files.next().is_none(), &place(), || "two files were named for it".into())?;
            Ok(first)
        };
        inputs.iter().map(file).collect()
    }
}

/// An array in memory: an input's numbers for all items.
#[derive(Clone, Debug)]
pub struct Array {
    /// The input's name; may be left out where there is one input.
    pub name: Option<String>,
    /// `[items, shape..]`.
    pub shape: Vec<usize>,
    /// Last axis fastest.
    pub values: Vec<Value>,
    /// Time steps of each item, where they differ. What stands behind an item's own is not read.
    pub lengths: Option<Vec<usize>>,
}

/// Numbers of a file, before they are fitted to an input.
struct Numbers {
    items: usize,
    /// Of one item.
    shape: Vec<usize>,
    values: Vec<Value>,
}

/// What is expected of an item, for people.
fn expected(input: &Input, most: usize) -> String {
    let dim = |d: &Dim| match d {
        Dim::Size(n) => n.to_string(),
        Dim::Steps => format!("steps (1 to {most})"),
    };
    input.shape.iter().map(dim).collect::<Vec<_>>().join(", ")
}

fn timed(input: &Input) -> bool {
    input.shape.first() == Some(&Dim::Steps)
}

/// Sizes of the axes behind the time axis, or of all.
fn fixed(input: &Input) -> Vec<usize> {
    input.shape.iter().filter_map(|d| if let Dim::Size(n) = d { Some(*n) } else { None }).collect()
}

/// The numbers of an array. `item_axis` is that of the items in an array with an axis more than an item, `Some(None)` if such an array
/// has them first and the network's own file has none; `None` if no other array is read than `[items, shape..]`.
fn from_array(
    shape: &[usize],
    values: Vec<Value>,
    input: &Input,
    most: usize,
    item_axis: Option<Option<usize>>,
) -> Result<Numbers, ModelError> {
    let fits = |shape: &[usize]| match input.shape.first() {
        Some(Dim::Steps) => shape.split_first().is_some_and(|(t, rest)| (1..=most).contains(t) && rest == fixed(input)),
        _ => shape == fixed(input),
    };
    let rank = input.shape.len();
    let mut own = shape.to_vec();
    let wrong = || {
        let what = format!("shape {shape:?}, [items, {}] is expected", expected(input, most));
        ModelError::new("array", what.replace(", ]", "]"))
    };
    let mut axis = 0;
    let (free, item_axis) = (item_axis.is_some(), item_axis.flatten());
    if shape.len() == rank && free {
        own.insert(0, 1);
    } else if shape.len() == rank + 1 {
        axis = item_axis.unwrap_or(0);
    } else if shape.len() == rank + 2 && item_axis.is_some_and(|a| own.get(a + 1) == Some(&1)) {
        own.remove(item_axis.unwrap_or(0) + 1);
    }
    if own.len() != rank + 1 || axis > rank {
        return Err(wrong());
    }
    let items = own.remove(axis);
    if !fits(&own) {
        return Err(wrong());
    }
    let values = if axis == 0 {
        values
    } else {
        // The items first.
        let inner: usize = own[axis..].iter().product();
        let outer: usize = own[..axis].iter().product();
        let at = |item: usize| (0..outer).flat_map(move |o| (o * items + item) * inner..(o * items + item + 1) * inner);
        (0..items).flat_map(at).map(|i| values[i]).collect()
    };
    Ok(Numbers { items, shape: own, values })
}

/// The numbers of a `.npy` file.
fn from_npy(bytes: &[u8], input: &Input, most: usize, item_axis: Option<Option<usize>>) -> Result<Numbers, ModelError> {
    let array = Npy::parse(bytes)?;
    require(array.shape.len() <= MAX_RANK + 2, "array", || format!("{} axes", array.shape.len()))?;
    from_array(&array.shape, array.values().collect(), input, most, item_axis)
}

/// The samples of a `.wav` file: one item.
fn from_wav(bytes: &[u8], input: &Input, most: usize, rate: Option<u32>) -> Result<Numbers, ModelError> {
    let fail = |what: String| ModelError::new("recording", what);
    let rate = rate.ok_or_else(|| fail("this model is not for recordings; it reads .npy and .csv files".into()))?;
    let reader = hound::WavReader::new(bytes).map_err(|e| fail(e.to_string()))?;
    let spec = reader.spec();
    if (spec.sample_format, spec.bits_per_sample, spec.channels) != (hound::SampleFormat::Int, 16, 1) {
        let (bits, channels) = (spec.bits_per_sample, spec.channels);
        return Err(fail(format!("{bits} bits and {channels} channels; PCM of 16 bits and one channel is expected")));
    }
    if spec.sample_rate != rate {
        return Err(fail(format!("{} samples per second, the model is for {rate}; resample it", spec.sample_rate)));
    }
    let sample =
        |s: hound::Result<i16>| s.map(|v| Value::Real(f64::from(v) / 32768.0)).map_err(|e| fail(e.to_string()));
    let mut values = reader.into_samples::<i16>().map(sample).collect::<Result<Vec<_>, _>>()?;
    let step: usize = fixed(input).iter().product();
    let n = if timed(input) { values.len().div_ceil(step).max(1) * step } else { step };
    let enough = values.len() <= n && n / step <= most.max(1);
    require(enough, "recording", || format!("{} samples, at most {} are expected", values.len(), step * most.max(1)))?;
    values.resize(n, Value::Real(0.0));
    let shape = if timed(input) { [&[n / step], &fixed(input)[..]].concat() } else { fixed(input) };
    Ok(Numbers { items: 1, shape, values })
}

/// The numbers of a `.csv` file, items filled up with zeros to the longest.
fn from_csv(text: &str, input: &Input, most: usize, lengths: Option<&[usize]>) -> Result<Numbers, ModelError> {
    let step: usize = fixed(input).iter().product();
    let mut rows: Vec<(usize, Vec<(&str, f64)>)> = Vec::new();
    // Some programs begin a text with a byte-order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let mut row = Vec::new();
        for (column, token) in line.split(',').map(str::trim).enumerate() {
            let number = token.parse::<f64>().map_err(|_| {
                let shown: String = token.chars().take(20).collect();
                ModelError::new(format!("line {}, number {}", i + 1, column + 1), format!("{shown:?} is no number"))
            })?;
            row.push((token, number));
        }
        rows.push((i + 1, row));
    }
    let longest = rows.iter().map(|(_, row)| row.len()).max().unwrap_or(step);
    for (item, (line, row)) in rows.iter().enumerate() {
        let steps = row.len() / step;
        let fits = if timed(input) {
            let own = lengths.and_then(|l| l.get(item)).is_some_and(|&own| steps >= own);
            row.len() == steps * step && (1..=most).contains(&steps) && (row.len() == rows[0].1.len() || own)
        } else {
            row.len() == step
        };
        require(fits, &format!("line {line}"), || {
            let found = row.len();
            match timed(input) {
                true if found == steps * step && (1..=most).contains(&steps) => {
                    format!("{found} numbers, but line {} has {}: say --lengths", rows[0].0, rows[0].1.len())
                }
                true => format!("{found} numbers, 1 to {most} steps of {step} are expected"),
                false => format!("{found} numbers, {step} are expected"),
            }
        })?;
    }
    let shape = if timed(input) { [&[longest / step], &fixed(input)[..]].concat() } else { fixed(input) };
    let whole = rows.iter().flat_map(|(_, row)| row).all(|(token, _)| token.parse::<i64>().is_ok());
    let value = |&(token, real): &(&str, f64)| match token.parse() {
        Ok(v) if whole => Value::Whole(v),
        _ => Value::Real(real),
    };
    let zero = if whole { Value::Whole(0) } else { Value::Real(0.0) };
    let filled = |(_, row): &(usize, Vec<(&str, f64)>)| {
        let behind = std::iter::repeat_n(zero, longest - row.len());
        row.iter().map(value).chain(behind).collect::<Vec<_>>()
    };
    Ok(Numbers { items: rows.len(), shape, values: rows.iter().flat_map(filled).collect() })
}

/// Integers of an input's format; zeros behind an item's own length.
fn quantise(
    numbers: Numbers,
    input: &Input,
    lengths: Option<&[usize]>,
    saturated: Option<&mut usize>,
) -> Result<Column, ModelError> {
    let Numbers { shape, values, .. } = numbers;
    let (lo, hi) = input.number.range();
    let (bits, scale) = (input.number.bits, input.number.scale);
    let factor = 2f64.powi(scale);
    let place = |i: usize| {
        let n: usize = shape.iter().product();
        let mut rest = i % n;
        let mut at = vec![0; shape.len()];
        for (at, &size) in at.iter_mut().zip(&shape).rev() {
            *at = rest % size;
            rest /= size;
        }
        match (at.as_slice(), timed(input)) {
            ([step, feature], true) => format!("item {}, step {step}, feature {feature}", i / n),
            _ => format!("item {}, element {at:?}", i / n),
        }
    };
    let step: usize = fixed(input).iter().product();
    let padding = |i: usize| {
        let steps = if timed(input) { shape[0] } else { return false };
        lengths.and_then(|l| l.get(i / step / steps)).is_some_and(|&own| i / step % steps >= own)
    };
    let saturates = saturated.is_some();
    let mut beyond = 0;
    let one = |(i, number): (usize, Value)| match number {
        _ if padding(i) => Ok(0),
        Value::Whole(v) if (lo..=hi).contains(&v.into()) => Ok(v),
        Value::Whole(v) => Err(ModelError::new(place(i), format!("{v} does not fit {bits} bits"))),
        Value::Real(x) if !x.is_finite() => Err(ModelError::new(place(i), format!("{x} is not a finite number"))),
        Value::Real(x) => {
            let nearest = (x * factor).round_ties_even();
            // The bounds of wide formats are rounded up by the conversion: compare integers.
            let fits = nearest.abs() < 2f64.powi(64) && (lo..=hi).contains(&(nearest as i128));
            let what = || format!("{x} does not fit {bits} bits at scale {scale}");
            if saturates && !fits {
                beyond += 1;
                return Ok(nearest.clamp(lo as f64, hi as f64) as i64);
            }
            if fits { Ok(nearest as i64) } else { Err(ModelError::new(place(i), what())) }
        }
    };
    let values = values.into_iter().enumerate().map(one).collect::<Result<_, _>>()?;
    if let Some(saturated) = saturated {
        *saturated += beyond;
    }
    Ok(Column { name: input.name.clone(), timed: timed(input), shape, values })
}

/// What the client's part makes of the numbers of all items, each cut to its own length; zeros behind it.
fn before(
    numbers: Vec<(Numbers, String)>,
    description: &Description,
    lengths: Option<&[usize]>,
) -> Result<Vec<(Numbers, String)>, ModelError> {
    let (graph, client) = (&description.graph, &description.client);
    let inputs = client.inputs(graph);
    let items = numbers[0].0.items;
    for (n, place) in &numbers {
        require(n.items == items, place, || format!("{} items, but {} has {items}", n.items, numbers[0].1))?;
    }
    let steps = numbers.iter().zip(inputs).find(|(_, i)| timed(i)).map_or(0, |((n, _), _)| n.shape[0]);
    let mut results: Vec<(Vec<usize>, Vec<Value>)> = vec![(Vec::new(), Vec::new()); graph.inputs.len()];
    for item in 0..items {
        let own = lengths.and_then(|l| l.get(item).copied()).filter(|n| (1..=steps).contains(n)).unwrap_or(steps);
        let cut = |((n, place), input): (&(Numbers, String), &Input)| {
            let mut shape = n.shape.clone();
            let len: usize = shape.iter().product();
            if timed(input) {
                require(shape[0] >= own, place, || format!("{} steps, but another input has {steps}", n.shape[0]))?;
                shape[0] = own;
            }
            let taken = shape.iter().product();
            let real = |v: &Value| match *v {
                Value::Real(x) => x,
                Value::Whole(v) => v as f64,
            };
            let data: Vec<f64> = n.values[item * len..][..taken].iter().map(real).collect();
            let finite = data.iter().all(|x| x.is_finite());
            require(finite, place, || format!("item {item} has a number that is not finite"))?;
            Ok(Reals { shape, data })
        };
        let given = numbers.iter().zip(inputs).map(cut).collect::<Result<Vec<_>, ModelError>>()?;
        let made = client.before(graph, own, given).map_err(|e| e.inside(&format!("item {item}")))?;
        for ((reals, input), (shape, values)) in made.into_iter().zip(&graph.inputs).zip(&mut results) {
            *shape = if timed(input) { [&[steps], &fixed(input)[..]].concat() } else { fixed(input) };
            let n: usize = shape.iter().product();
            let fits = if timed(input) {
                reals.shape[0] == own && reals.shape[1..] == shape[1..]
            } else {
                reals.shape == *shape
            };
            require(fits, &format!("input '{}'", input.name), || {
                format!("shape {:?} of the client's part", reals.shape)
            })?;
            let real = reals.data.into_iter().map(Value::Real);
            values.extend(real.chain(std::iter::repeat(Value::Real(0.0))).take(n));
        }
    }
    let place = |input: &Input| format!("input '{}'", input.name);
    let numbers = results.into_iter().zip(&graph.inputs);
    Ok(numbers.map(|((shape, values), input)| (Numbers { items, shape, values }, place(input))).collect())
}

/// One length per line.
fn read_lengths(path: &Path) -> Result<Vec<usize>, ModelError> {
    let place = path.display().to_string();
    let bytes = read_bounded(path, MAX_LENGTHS)?;
    let text = std::str::from_utf8(&bytes).map_err(|e| ModelError::new(&place, e.to_string()))?;
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, l)| !l.is_empty());
    lines
        .map(|(i, line)| {
            line.parse().map_err(|_| {
                let shown: String = line.chars().take(20).collect();
                ModelError::new(format!("{place}: line {}", i + 1), format!("{shown:?} is no length"))
            })
        })
        .collect()
}

impl Items {
    /// Reads files.
    ///
    /// # Errors
    /// Names the file, and the number that is wrong.
    pub fn load(sources: &Sources, description: &Description) -> Result<Self, ModelError> {
        Self::load_as(sources, description, false)
    }

    /// The same; with `integers`, whole numbers are integers of the network's inputs, whatever the description says.
    ///
    /// # Errors
    /// As [`Items::load`]; or the client's part computes real numbers, which integers are not.
    pub fn load_as(sources: &Sources, description: &Description, integers: bool) -> Result<Self, ModelError> {
        let (graph, client) = (&description.graph, &description.client);
        let lengths = sources.lengths.as_deref().map(read_lengths).transpose()?;
        let inputs = client.inputs(graph);
        let files = sources.files(inputs)?;
        let numbers = |(path, input): (&PathBuf, &Input)| {
            let place = path.display().to_string();
            let bytes = read_bounded(path, MAX_FILE)?;
            let axis = client.item_axis_of(&input.name);
            let numbers = match path.extension().and_then(|e| e.to_str()) {
                Some("npy") => from_npy(&bytes, input, graph.steps, axis),
                Some("csv") => std::str::from_utf8(&bytes)
                    .map_err(|e| ModelError::new("text", e.to_string()))
                    .and_then(|text| from_csv(text, input, graph.steps, lengths.as_deref())),
                Some("wav") => from_wav(&bytes, input, graph.steps, client.rate),
                _ => return Err(ModelError::new(place, "items are read from .npy, .csv and .wav files")),
            };
            Ok((numbers.map_err(|e| e.inside(&place))?, place))
        };
        let numbers = files.iter().zip(inputs).map(numbers).collect::<Result<Vec<_>, ModelError>>()?;
        Self::from_numbers(numbers, description, lengths, integers)
    }

    /// Reads the content of a `.npy` file, for a network with one input.
    ///
    /// # Errors
    /// As [`Items::load`].
    pub fn from_npy(bytes: &[u8], description: &Description) -> Result<Self, ModelError> {
        Self::from_one(description, |input, most, axis| from_npy(bytes, input, most, axis))
    }

    /// Reads the content of a `.csv` file, for a network with one input.
    ///
    /// # Errors
    /// As [`Items::load`].
    pub fn from_csv(text: &str, description: &Description) -> Result<Self, ModelError> {
        Self::from_one(description, |input, most, _| from_csv(text, input, most, None))
    }

    fn from_one(
        description: &Description,
        read: impl FnOnce(&Input, usize, Option<Option<usize>>) -> Result<Numbers, ModelError>,
    ) -> Result<Self, ModelError> {
        let client = &description.client;
        let [input] = client.inputs(&description.graph) else {
            return Err(ModelError::new("items", "the network has several inputs"));
        };
        let axis = client.item_axis_of(&input.name);
        let numbers = read(input, description.graph.steps, axis)?;
        Self::from_numbers(vec![(numbers, "items".into())], description, None, false)
    }

    /// Fits numbers to the network's inputs, through the part that the client computes itself.
    fn from_numbers(
        mut numbers: Vec<(Numbers, String)>,
        description: &Description,
        lengths: Option<Vec<usize>>,
        integers: bool,
    ) -> Result<Self, ModelError> {
        let (graph, client) = (&description.graph, &description.client);
        let reals = (client.reals && !integers) || client.before.is_some();
        if integers && client.before.is_some() {
            let what = "this model's client computes with real numbers first; integers cannot be given to it";
            return Err(ModelError::new("items", what));
        }
        if reals {
            let real = |v: &Value| if let Value::Whole(v) = *v { Value::Real(v as f64) } else { *v };
            numbers.iter_mut().for_each(|(n, _)| n.values = n.values.iter().map(real).collect());
        }
        if client.before.is_some() {
            numbers = before(numbers, description, lengths.as_deref())?;
        }
        let mut saturated = 0;
        let column = |((numbers, place), input): ((Numbers, String), &Input)| {
            let items = numbers.items;
            let count = reals.then_some(&mut saturated);
            let column = quantise(numbers, input, lengths.as_deref(), count).map_err(|e| e.inside(&place))?;
            Ok((place, items, column))
        };
        let columns = numbers.into_iter().zip(&graph.inputs).map(column).collect::<Result<Vec<_>, ModelError>>()?;
        Ok(Self { saturated, ..Self::join(columns, lengths)? })
    }

    /// Takes arrays, one for each input.
    ///
    /// # Errors
    /// Names the input, and the number that is wrong.
    pub fn from_arrays(description: &Description, arrays: Vec<Array>) -> Result<Self, ModelError> {
        let inputs = description.client.inputs(&description.graph);
        let names = || inputs.iter().map(|i| format!("'{}'", i.name)).collect::<Vec<_>>().join(", ");
        if let Some(stray) =
            arrays.iter().filter_map(|a| a.name.as_ref()).find(|name| inputs.iter().all(|i| i.name != **name))
        {
            return Err(ModelError::new("inputs", format!("there is none called '{stray}', only {}", names())));
        }
        require(arrays.len() == inputs.len(), "inputs", || {
            format!("{} arrays, the network has the inputs {}", arrays.len(), names())
        })?;
        let mut lengths: Option<Vec<usize>> = None;
        for own in arrays.iter().filter_map(|a| a.lengths.as_ref()) {
            let same = lengths.as_ref().is_none_or(|l| l == own);
            require(same, "lengths", || "items are of other lengths in one input than in another".into())?;
            lengths = Some(own.clone());
        }
        let mut arrays: Vec<Option<Array>> = arrays.into_iter().map(Some).collect();
        let mut numbers = Vec::new();
        for input in inputs {
            let place = format!("input '{}'", input.name);
            let own = |a: &Option<Array>| match a {
                Some(Array { name: Some(name), .. }) => *name == input.name,
                Some(_) => inputs.len() == 1,
                None => false,
            };
            let array = arrays.iter_mut().find(|a| own(a)).and_then(Option::take);
            let Array { shape, values, .. } =
                array.ok_or_else(|| ModelError::new(&place, "no array has its name, or two have another's"))?;
            require(shape.iter().try_fold(1usize, |n, &m| n.checked_mul(m)) == Some(values.len()), &place, || {
                format!("{} numbers for shape {shape:?}", values.len())
            })?;
            let axis = description.client.item_axis_of(&input.name);
            let own = from_array(&shape, values, input, description.graph.steps, axis);
            numbers.push((own.map_err(|e| e.inside(&place))?, place));
        }
        Self::from_numbers(numbers, description, lengths, false)
    }

    /// Takes integers, for each input `[items, shape..]`, of `steps` time steps each, and their lengths.
    ///
    /// # Errors
    /// Numbers that do not fit, or that are no whole number of items.
    pub fn from_integers(
        description: &Description,
        steps: usize,
        values: &[Vec<i64>],
        lengths: Option<Vec<usize>>,
    ) -> Result<Self, ModelError> {
        let inputs = &description.graph.inputs;
        require(values.len() == inputs.len(), "items", || format!("{} inputs for {}", values.len(), inputs.len()))?;
        let column = |(values, input): (&Vec<i64>, &Input)| {
            let place = format!("input '{}'", input.name);
            let shape = if timed(input) { [&[steps], &fixed(input)[..]].concat() } else { fixed(input) };
            let n: usize = shape.iter().product();
            require(n > 0 && values.len().is_multiple_of(n), &place, || {
                format!("{} numbers, {n} per item are expected", values.len())
            })?;
            let numbers =
                Numbers { items: values.len() / n, shape, values: values.iter().map(|&v| Value::Whole(v)).collect() };
            Ok((
                place.clone(),
                numbers.items,
                quantise(numbers, input, lengths.as_deref(), None).map_err(|e| e.inside(&place))?,
            ))
        };
        Self::join(values.iter().zip(inputs).map(column).collect::<Result<_, ModelError>>()?, lengths)
    }

    /// Joins the columns of all inputs. Nothing behind an item's own length is kept.
    fn join(columns: Vec<(String, usize, Column)>, lengths: Option<Vec<usize>>) -> Result<Self, ModelError> {
        let (first, items) = (columns[0].0.clone(), columns[0].1);
        for (place, n, _) in &columns {
            require(*n == items, place, || format!("{n} items, but {first} has {items}"))?;
        }
        let series: Vec<(&str, usize)> =
            columns.iter().filter(|(_, _, c)| c.timed).map(|(place, _, c)| (place.as_str(), c.shape[0])).collect();
        let most = series.iter().map(|s| s.1).max().unwrap_or(0);
        if lengths.is_none() {
            for (place, steps) in &series {
                require(*steps == most, place, || format!("{steps} steps, but another input has {most}"))?;
            }
        }
        if let Some(lengths) = &lengths {
            require(most > 0, "lengths", || "no input has a time axis".into())?;
            require(lengths.len() == items, "lengths", || format!("{} lengths for {items} items", lengths.len()))?;
            let shortest = series.iter().map(|s| s.1).min().unwrap_or(0);
            for (item, &length) in lengths.iter().enumerate() {
                require((1..=shortest).contains(&length), "lengths", || {
                    format!("item {item}: {length}, but the input has {shortest} steps")
                })?;
            }
        }
        // As many steps as the longest item needs, and no lengths where all have as many.
        let steps = lengths.as_ref().map_or(most, |l| l.iter().copied().max().unwrap_or(most));
        let lengths = lengths.filter(|l| l.iter().any(|&n| n != steps));
        let cut = |mut column: Column| {
            if column.timed {
                let step: usize = column.shape[1..].iter().product();
                let (old, own) = (column.shape[0] * step, |item: usize| lengths.as_ref().map_or(steps, |l| l[item]));
                let values = column.values.chunks(old).enumerate();
                let zeros = |item| std::iter::repeat_n(0, (steps - own(item)) * step);
                column.values =
                    values.flat_map(|(item, all)| all[..own(item) * step].iter().copied().chain(zeros(item))).collect();
                column.shape[0] = steps;
            }
            column
        };
        let columns = columns.into_iter().map(|(_, _, column)| cut(column)).collect();
        Ok(Self { items, steps, lengths, columns, saturated: 0 })
    }

    /// How many numbers were beyond the range of an input and count as the nearest in it.
    pub fn saturated(&self) -> usize {
        self.saturated
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.items
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// Time steps of the longest; 0 where no input has a time axis.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Length of each item, if they differ.
    pub fn lengths(&self) -> Option<&[usize]> {
        self.lengths.as_deref()
    }

    /// The first `n` items, or all if there are fewer.
    pub fn first(&self, n: usize) -> Self {
        self.slice(0..n.min(self.items))
    }

    /// The items of a range, with as many steps as all have.
    ///
    /// # Panics
    /// If the range goes beyond the last item.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let cut = |c: &Column| {
            let n = c.shape.iter().product::<usize>();
            Column { values: c.values[range.start * n..range.end * n].to_vec(), ..c.clone() }
        };
        let lengths = self.lengths.as_ref().map(|l| l[range.clone()].to_vec());
        let columns = self.columns.iter().map(cut).collect();
        Self { items: range.len(), steps: self.steps, lengths, columns, saturated: self.saturated }
    }

    /// The client's inputs of a program for the items of a range: `[items, shape..]` each.
    ///
    /// # Panics
    /// If the range goes beyond the last item.
    pub fn inputs(&self, range: Range<usize>) -> HashMap<String, Vec<i128>> {
        assert!(range.end <= self.items, "items {range:?} of {}", self.items);
        let column = |c: &Column| {
            let n: usize = c.shape.iter().product();
            let values = &c.values[range.start * n..range.end * n];
            (c.name.clone(), values.iter().map(|&v| v.into()).collect())
        };
        self.columns.iter().map(column).collect()
    }

    /// Time steps of an item: its own length.
    pub fn length(&self, item: usize) -> usize {
        self.lengths.as_ref().map_or(self.steps, |l| l[item])
    }

    /// The inputs of one item for the cleartext evaluator, cut to its own length.
    pub fn item(&self, item: usize) -> Vec<Tensor> {
        let tensor = |c: &Column| {
            let n: usize = c.shape.iter().product();
            let mut shape = c.shape.clone();
            if c.timed {
                shape[0] = self.length(item);
            }
            let len = shape.iter().product::<usize>();
            Tensor::new(shape, c.values[item * n..item * n + len].to_vec())
        };
        self.columns.iter().map(tensor).collect()
    }
}
