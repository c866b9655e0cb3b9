//! What was revealed, item by item, whoever computed it: two parties, or the cleartext evaluator.
//!
//! As a table (`.csv`): a network with one output that is one row of scores per item has a line per item; all others a line per
//! number. As arrays (`.npy`): reals `[items, shape..]`, classes as integers; the first output in the file that was named, the
//! others beside it. Steps behind an item's own length are NaN, and class -1.

use super::client::Reals;
use super::description::Description;
use super::input::Items;
use super::{ModelError, npy, require};
use crate::graph::{Number, Reveal, Tensor, Weights, evaluate};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What the client learned of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revealed {
    /// The output's name.
    pub name: String,
    /// What is revealed of it.
    pub reveal: Reveal,
    /// Names of the classes, or none.
    pub labels: Vec<String>,
    /// Format of the values.
    pub number: Number,
    /// Shape of one item's values at the request's number of steps.
    pub shape: Vec<usize>,
    /// Whether the first axis is the time axis: an item has as many entries as its own length.
    pub timed: bool,
    /// The values of each item, last axis fastest; none if the class alone is revealed.
    pub values: Vec<Vec<i64>>,
    /// The classes of each item, one for each row of values; none if values alone are revealed.
    pub classes: Vec<Vec<usize>>,
}

impl Revealed {
    /// Shape of an item of `steps` steps.
    fn shape_of(&self, steps: usize) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if self.timed {
            shape[0] = steps;
        }
        shape
    }

    /// Number of classes.
    pub fn class_count(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Name of a class.
    pub fn label(&self, class: usize) -> String {
        self.labels.get(class).cloned().unwrap_or_else(|| class.to_string())
    }

    /// Whether an item is one row of scores, or its class.
    fn is_a_row(&self) -> bool {
        self.reveal != Reveal::Values && self.shape.len() == 1 && !self.timed
    }

    /// A value as a real number.
    pub fn real(&self, value: i64) -> f64 {
        value as f64 * 2f64.powi(-self.number.scale)
    }
}

/// What the client made of what it learned, itself: a result of the description's part `client.after`.
#[derive(Clone, Debug, PartialEq)]
pub struct Computed {
    /// Its name.
    pub name: String,
    /// Shape of one item's values at the request's number of steps.
    pub shape: Vec<usize>,
    /// The values of each item, last axis fastest.
    pub values: Vec<Vec<f64>>,
}

/// What the client learned of all outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Results {
    /// The outputs, in the description's order.
    pub outputs: Vec<Revealed>,
    /// What the client made of them, in the order of the description's part; files and tables show these, where there are any, instead of
    /// the outputs' values.
    pub computed: Vec<Computed>,
    /// Number of the first item in tables.
    first: usize,
}

/// The first of the largest.
fn first_maximum(row: &[i64]) -> usize {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

fn quoted(s: &str) -> String {
    if s.contains([',', '"', '\n', '\r']) { format!("\"{}\"", s.replace('"', "\"\"")) } else { s.to_string() }
}

impl Results {
    /// None yet, for items of up to `steps` time steps.
    ///
    /// # Errors
    /// If the description is not for as many.
    pub fn new(description: &Description, steps: usize) -> Result<Self, ModelError> {
        let typed = description.typed(steps)?;
        let revealed = |(output, &value): (&crate::graph::Output, _)| {
            let ty = typed.ty(value);
            Revealed {
                name: output.name.clone(),
                reveal: output.reveal,
                labels: output.labels.clone(),
                number: ty.number,
                shape: ty.shape.clone(),
                timed: ty.timed,
                values: Vec::new(),
                classes: Vec::new(),
            }
        };
        let outputs = description.graph.outputs.iter().zip(&typed.outputs).map(revealed).collect();
        Ok(Self { outputs, computed: Vec::new(), first: 0 })
    }

    /// The same, of items that are not the first of their job: tables count from `first`.
    pub fn numbered_from(self, first: usize) -> Self {
        Self { first, ..self }
    }

    /// What the cleartext evaluator says: the definition of correct. Items are evaluated side by side.
    ///
    /// # Errors
    /// If an item is too short or too long for the network.
    pub fn evaluate(description: &Description, weights: &Weights, items: &Items) -> Result<Self, ModelError> {
        let mut results = Self::new(description, items.steps())?;
        let mut typed = BTreeMap::new();
        for item in 0..items.len() {
            if let std::collections::btree_map::Entry::Vacant(entry) = typed.entry(items.length(item)) {
                entry.insert(description.typed(items.length(item))?);
            }
        }
        let one = |item: usize| evaluate(&typed[&items.length(item)], weights, &items.item(item));
        let all: Vec<Vec<Tensor>> = (0..items.len()).into_par_iter().map(one).collect();
        for item in all {
            for (output, tensor) in results.outputs.iter_mut().zip(item) {
                if output.reveal != Reveal::Values {
                    let rows = tensor.data.chunks(output.shape.last().copied().unwrap_or(1));
                    output.classes.push(rows.map(first_maximum).collect());
                }
                if output.reveal != Reveal::Class {
                    output.values.push(tensor.data);
                }
            }
        }
        let lengths: Vec<usize> = (0..items.len()).map(|item| items.length(item)).collect();
        results.finish(description, &lengths)?;
        Ok(results)
    }

    /// Computes what the client makes of the outputs itself; `lengths` are the numbers of time steps of all items. Without effect where
    /// the description says nothing.
    ///
    /// # Errors
    /// Results that are no finite numbers.
    pub fn finish(&mut self, description: &Description, lengths: &[usize]) -> Result<(), ModelError> {
        let Some(after) = &description.client.after else { return Ok(()) };
        let mut computed: Vec<Computed> = Vec::new();
        for (item, &steps) in lengths.iter().enumerate() {
            let typed = description.typed(steps)?;
            let reals = |o: &Revealed| {
                let shape = o.shape_of(steps);
                let data = match o.reveal {
                    Reveal::Class => vec![0.0; shape.iter().product()],
                    _ => o.values[item].iter().map(|&v| o.real(v)).collect(),
                };
                Reals { shape, data }
            };
            let given = self.outputs.iter().map(reals).collect();
            let made = description.client.after(&typed, given).map_err(|e| e.inside(&format!("item {item}")))?;
            for (i, (made, output)) in made.into_iter().zip(&after.outputs).enumerate() {
                if computed.len() <= i {
                    computed.push(Computed {
                        name: output.name.clone(),
                        shape: made.shape.clone(),
                        values: Vec::new(),
                    });
                }
                let all = &mut computed[i];
                // The longest item's shape is that of all.
                if made.shape.iter().product::<usize>() > all.shape.iter().product() {
                    all.shape = made.shape;
                }
                all.values.push(made.data);
            }
        }
        self.computed = computed;
        Ok(())
    }

    /// Adds a batch of items, `lengths` their numbers of time steps: the outputs of a program by name.
    ///
    /// # Errors
    /// If an output is missing or cannot be one of this model's, which a wrong peer can bring about.
    pub fn add(&mut self, lengths: &[usize], outputs: &BTreeMap<String, Vec<i128>>) -> Result<(), ModelError> {
        let find = |name: &str| {
            let place = format!("output '{name}'");
            outputs.get(name).map(|v| (v, place.clone())).ok_or_else(|| ModelError::new(place, "missing"))
        };
        let mut added = Vec::new();
        for output in &self.outputs {
            let elements = |&steps: &usize| output.shape_of(steps).iter().product::<usize>();
            let all: Vec<usize> = lengths.iter().map(elements).collect();
            let classes = output.class_count();
            let (mut values, mut indices) = (Vec::new(), Vec::new());
            if output.reveal != Reveal::Class {
                let (found, place) = find(&output.name)?;
                require(found.len() == all.iter().sum::<usize>(), &place, || "of another length than expected".into())?;
                let mut rest = found.as_slice();
                for &n in &all {
                    let (own, behind) = rest.split_at(n);
                    // A ring with slack can hold more.
                    values.push(own.iter().map(|&v| output.number.wrap(v) as i64).collect());
                    rest = behind;
                }
            }
            if output.reveal != Reveal::Values {
                let (found, place) = find(&format!("{}.class", output.name))?;
                let n = all.iter().sum::<usize>() / classes;
                require(found.len() == n, &place, || "of another length than expected".into())?;
                let mut rest = found.as_slice();
                for &n in &all {
                    let (own, behind) = rest.split_at(n / classes);
                    let class = |&c: &i128| usize::try_from(c).ok().filter(|&c| c < classes);
                    let own: Option<Vec<usize>> = own.iter().map(class).collect();
                    let what = || ModelError::new(&place, format!("a number outside 0..{classes}"));
                    indices.push(own.ok_or_else(what)?);
                    rest = behind;
                }
            }
            added.push((values, indices));
        }
        for (output, (values, classes)) in self.outputs.iter_mut().zip(added) {
            output.values.extend(values);
            output.classes.extend(classes);
        }
        Ok(())
    }

    /// The class of each item, of the first output that has one class per item.
    pub fn classes(&self) -> Option<Vec<usize>> {
        let output = self.outputs.iter().find(|o| o.reveal != Reveal::Values)?;
        output.classes.iter().map(|c| if let [c] = c[..] { Some(c) } else { None }).collect()
    }

    /// What the first output says of each item: its values, or else its classes.
    pub fn rows(&self) -> Vec<Vec<i64>> {
        let first = &self.outputs[0];
        match first.reveal {
            Reveal::Class => first.classes.iter().map(|c| c.iter().map(|&c| c as i64).collect()).collect(),
            _ => first.values.clone(),
        }
    }

    /// The table. One row of scores per item: item, label, class, then each class's score as an integer and as a real number.
    /// Else, for each number: output, item, position, the integer, and the real number; of classes (`output.class`) the label.
    pub fn to_csv(&self) -> String {
        match (&self.outputs[..], &self.computed[..]) {
            ([one], []) if one.is_a_row() => rows_csv(one, self.first),
            (all, []) => numbers_csv(all, self.first),
            (outputs, all) => reals_csv(all, outputs, self.first),
        }
    }

    /// The arrays: name of the output and content of a `.npy` file.
    pub fn to_npy(&self) -> Vec<(&str, Vec<u8>)> {
        if !self.computed.is_empty() {
            return self.computed.iter().map(|c| (c.name.as_str(), padded(&c.shape, &c.values))).collect();
        }
        self.outputs.iter().map(|o| (o.name.as_str(), array(o))).collect()
    }

    /// Files and their content, for a file that the user named: `FILE.npy` and `FILE.NAME.npy` for all outputs but the first, or
    /// one table.
    pub fn files(&self, path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        if path.extension().is_none_or(|e| e != "npy") {
            return vec![(path.to_path_buf(), self.to_csv().into_bytes())];
        }
        let place = |(i, name): (usize, &str)| match i {
            0 => path.to_path_buf(),
            // The name is the server's: it must not lead to another folder.
            _ => path.with_extension(format!("{}.npy", name.replace(|c: char| !c.is_alphanumeric() && c != '-', "_"))),
        };
        self.to_npy().into_iter().enumerate().map(|(i, (name, bytes))| (place((i, name)), bytes)).collect()
    }
}

/// The records of a table, with their ends; what is quoted may have several lines.
fn records(text: &str) -> Vec<&str> {
    let (mut all, mut start, mut inside) = (Vec::new(), 0, false);
    for (i, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => inside = !inside,
            b'\n' if !inside => {
                all.push(&text[start..=i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    all
}

/// The first field of a record.
fn first_field(record: &str) -> &str {
    let mut inside = false;
    let end = record.bytes().position(|byte| {
        inside ^= byte == b'"';
        byte == b',' && !inside
    });
    &record[..end.unwrap_or(record.len())]
}

/// The table of all items of a job from those of its parts, in order.
///
/// # Errors
/// They are not tables of the same outputs.
pub fn join_csv(parts: &[&[u8]]) -> Result<Vec<u8>, ModelError> {
    let place = |i: usize| format!("part {i}");
    let mut header = None;
    // A table of rows is one block; else there is one for each output, all its items together.
    let mut blocks: Vec<(&str, Vec<&str>)> = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        let text = std::str::from_utf8(part).map_err(|e| ModelError::new(place(i), e.to_string()))?;
        let mut lines = records(text).into_iter();
        let own = lines.next().unwrap_or_default();
        require(*header.get_or_insert(own) == own, &place(i), || "another header than part 0".into())?;
        let rows = own.starts_with("item,");
        for line in lines {
            let name = if rows { "" } else { first_field(line) };
            match blocks.iter_mut().find(|(known, _)| *known == name) {
                Some((_, lines)) => lines.push(line),
                None => blocks.push((name, vec![line])),
            }
        }
    }
    let lines = blocks.iter().flat_map(|(_, lines)| lines).copied();
    Ok(header.into_iter().chain(lines).collect::<String>().into_bytes())
}

/// The array of all items of a job from those of its parts, in order.
///
/// # Errors
/// They are not arrays of the same output.
pub fn join_npy(parts: &[&[u8]]) -> Result<Vec<u8>, ModelError> {
    let arrays = parts.iter().map(|part| npy::Npy::parse(part)).collect::<Result<Vec<_>, _>>()?;
    let whole = arrays.iter().all(npy::Npy::is_whole);
    let Some(rest) = arrays.first().and_then(|a| a.shape.get(1..)) else {
        return Err(ModelError::new("parts", "there are no items in them"));
    };
    let same = |a: &npy::Npy<'_>| a.shape.get(1..) == Some(rest) && a.is_whole() == whole;
    require(arrays.iter().all(same), "parts", || "arrays of different shapes or types".into())?;
    let items: usize = arrays.iter().map(|a| a.shape[0]).sum();
    let shape = [&[items], rest].concat();
    let values = arrays.iter().flat_map(npy::Npy::values);
    Ok(match whole {
        true => {
            npy::integers(&shape, &values.map(|v| if let npy::Value::Whole(n) = v { n } else { 0 }).collect::<Vec<_>>())
        }
        false => {
            npy::reals(&shape, &values.map(|v| if let npy::Value::Real(x) = v { x } else { 0.0 }).collect::<Vec<_>>())
        }
    })
}

/// A line per item.
fn rows_csv(output: &Revealed, first: usize) -> String {
    let mut csv = String::from("item,label,class");
    if output.reveal == Reveal::Scores {
        for kind in ["integer", "score"] {
            for class in 0..output.class_count() {
                let _ = write!(csv, ",{}", quoted(&format!("{kind} {}", output.label(class))));
            }
        }
    }
    csv.push('\n');
    for (item, classes) in output.classes.iter().enumerate() {
        let class = classes[0];
        let _ = write!(csv, "{},{},{class}", first + item, quoted(&output.label(class)));
        if let Some(values) = output.values.get(item) {
            for v in values {
                let _ = write!(csv, ",{v}");
            }
            for &v in values {
                let _ = write!(csv, ",{}", output.real(v));
            }
        }
        csv.push('\n');
    }
    csv
}

/// `2:0:1` for element `i` of a tensor whose last axes have these sizes.
fn position(mut i: usize, shape: &[usize]) -> String {
    let mut at = vec![String::new(); shape.len()];
    for (k, at) in at.iter_mut().enumerate().rev() {
        // The first axis takes what is left: it is as long as the item.
        *at = if k == 0 { i } else { i % shape[k] }.to_string();
        i /= shape[k].max(1);
    }
    at.join(":")
}

/// A line per number.
fn numbers_csv(outputs: &[Revealed], first: usize) -> String {
    let mut csv = String::from("output,item,position,integer,value\n");
    for output in outputs {
        let name = quoted(&output.name);
        for (item, values) in output.values.iter().enumerate() {
            for (i, &v) in values.iter().enumerate() {
                let _ = writeln!(csv, "{name},{},{},{v},{}", first + item, position(i, &output.shape), output.real(v));
            }
        }
        class_lines(&mut csv, output, first);
    }
    csv
}

/// A line per class, in a table of numbers.
fn class_lines(csv: &mut String, output: &Revealed, first: usize) {
    let name = quoted(&format!("{}.class", output.name));
    let leading = output.shape.split_last().map_or(&[][..], |s| s.1);
    for (item, classes) in output.classes.iter().enumerate() {
        for (i, &class) in classes.iter().enumerate() {
            let label = quoted(&output.label(class));
            let _ = writeln!(csv, "{name},{},{},{class},{label}", first + item, position(i, leading));
        }
    }
}

fn array(output: &Revealed) -> Vec<u8> {
    if output.reveal == Reveal::Class {
        let leading = &output.shape[..output.shape.len().saturating_sub(1)];
        let n: usize = leading.iter().product();
        let padded = |c: &Vec<usize>| {
            let own: Vec<i64> = c.iter().map(|&c| c as i64).collect();
            own.into_iter().chain(std::iter::repeat(-1)).take(n).collect::<Vec<_>>()
        };
        let data: Vec<i64> = output.classes.iter().flat_map(padded).collect();
        npy::integers(&[&[output.classes.len()], leading].concat(), &data)
    } else {
        let values: Vec<Vec<f64>> = output.values.iter().map(|v| v.iter().map(|&v| output.real(v)).collect()).collect();
        padded(&output.shape, &values)
    }
}

/// An array of the values of all items, NaN behind an item's own length.
fn padded(shape: &[usize], values: &[Vec<f64>]) -> Vec<u8> {
    let n: usize = shape.iter().product();
    let all = values.iter().flat_map(|v| v.iter().copied().chain(std::iter::repeat(f64::NAN)).take(n));
    npy::reals(&[&[values.len()], shape].concat(), &all.collect::<Vec<f64>>())
}

/// A line per number that the client computed itself, which has no integer; and the classes.
fn reals_csv(computed: &[Computed], outputs: &[Revealed], first: usize) -> String {
    let mut csv = String::from("output,item,position,integer,value\n");
    for output in computed {
        let name = quoted(&output.name);
        for (item, values) in output.values.iter().enumerate() {
            for (i, v) in values.iter().enumerate() {
                let _ = writeln!(csv, "{name},{},{},,{v}", first + item, position(i, &output.shape));
            }
        }
    }
    outputs.iter().for_each(|output| class_lines(&mut csv, output, first));
    csv
}
