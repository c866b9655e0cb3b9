//! The client's side: items from a file, batches in the program's layout, and the table of results.
//!
//! * `.npy`: an array `[items, steps, features]`, little endian, C order, of `i1 i2 i4 i8 u1 u2 u4 f2 f4 f8`.
//! * `.csv`: an item per line, `steps * features` numbers, all features of the first step first. A file of whole
//!   numbers alone holds integers; as soon as one number has a point or an exponent, all are reals.
//!
//! Integers are used as they are. A real `x` becomes the integer nearest to `x 2^scale`, ties to even. What does not fit the
//! input's width is an error, since it must not wrap.

use super::description::Description;
use super::npy::{Npy, Number};
use super::{ModelError, require};
use crate::fixed::wrap;
use crate::program::signed;
use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{Read, Write as _},
    ops::Range,
    path::Path,
};

/// Bytes of a file of items.
const MAX_FILE: u64 = 1 << 32;

/// Reads a file of at most `limit` bytes.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, ModelError> {
    let place = path.display().to_string();
    let fail = |e: std::io::Error| ModelError::new(&place, e.to_string());
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(fail)?.take(limit + 1).read_to_end(&mut bytes).map_err(fail)?;
    require(bytes.len() as u64 <= limit, &place, || format!("more than {limit} bytes"))?;
    Ok(bytes)
}

/// Items as integers, `[items, steps, features]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Items {
    steps: usize,
    features: usize,
    values: Vec<i32>,
}

impl std::fmt::Debug for Items {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Items [{}, {}, {}]", self.len(), self.steps, self.features)
    }
}

impl Items {
    /// Reads a `.npy` or `.csv` file.
    ///
    /// # Errors
    /// Names the file, and item, step and feature where a number is wrong.
    pub fn load(path: &Path, description: &Description) -> Result<Self, ModelError> {
        let place = path.display().to_string();
        let bytes = read_bounded(path, MAX_FILE)?;
        let items = match path.extension().and_then(|e| e.to_str()) {
            Some("npy") => Self::from_npy(&bytes, description),
            Some("csv") => std::str::from_utf8(&bytes)
                .map_err(|e| ModelError::new("text", e.to_string()))
                .and_then(|text| Self::from_csv(text, description)),
            _ => return Err(ModelError::new(place, "items are read from .npy and .csv files")),
        };
        items.map_err(|e| e.inside(&place))
    }

    /// Reads the content of a `.npy` file.
    ///
    /// # Errors
    /// As [`Items::load`].
    pub fn from_npy(bytes: &[u8], description: &Description) -> Result<Self, ModelError> {
        let array = Npy::parse(bytes)?;
        let (steps, features) = (description.steps as usize, description.features as usize);
        require(array.shape.len() == 3 && array.shape[1..] == [steps, features], "array", || {
            format!("shape {:?}, [items, {steps}, {features}] is expected", array.shape)
        })?;
        Self::quantize(description, array.numbers(), array.len())
    }

    /// Reads the content of a `.csv` file.
    ///
    /// # Errors
    /// As [`Items::load`].
    pub fn from_csv(text: &str, description: &Description) -> Result<Self, ModelError> {
        let expected = description.item_len();
        let mut numbers: Vec<(&str, f64)> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let start = numbers.len();
            for (column, token) in line.split(',').map(str::trim).enumerate() {
                let number = token.parse::<f64>().map_err(|_| {
                    let shown: String = token.chars().take(20).collect();
                    ModelError::new(format!("line {}, number {}", i + 1, column + 1), format!("{shown:?} is no number"))
                })?;
                numbers.push((token, number));
            }
            let found = numbers.len() - start;
            require(found == expected, &format!("line {}", i + 1), || {
                let (steps, features) = (description.steps, description.features);
                format!("{found} numbers, {steps} steps of {features} are expected")
            })?;
        }
        let n = numbers.len();
        let whole: Option<Vec<i64>> = numbers.iter().map(|(token, _)| token.parse().ok()).collect();
        match whole {
            Some(whole) => Self::quantize(description, whole.into_iter().map(Number::Whole), n),
            None => Self::quantize(description, numbers.into_iter().map(|(_, v)| Number::Real(v)), n),
        }
    }

    /// Takes integers, `[items, steps, features]`.
    ///
    /// # Errors
    /// If there is no whole number of items, or one does not fit.
    pub fn from_integers(values: &[i64], description: &Description) -> Result<Self, ModelError> {
        require(values.len().is_multiple_of(description.item_len()), "items", || {
            format!("{} numbers, {} per item are expected", values.len(), description.item_len())
        })?;
        Self::quantize(description, values.iter().map(|&v| Number::Whole(v)), values.len())
    }

    fn quantize(
        description: &Description,
        numbers: impl Iterator<Item = Number>,
        n: usize,
    ) -> Result<Self, ModelError> {
        let (steps, features) = (description.steps as usize, description.features as usize);
        let (lo, hi) = signed(description.input.bits);
        let factor = 2f64.powi(description.input.scale);
        let mut values = Vec::with_capacity(n);
        for (i, number) in numbers.enumerate() {
            let place = || {
                let (item, step, feature) = (i / features / steps, i / features % steps, i % features);
                format!("item {item}, step {step}, feature {feature}")
            };
            let value = match number {
                Number::Whole(v) if (lo..=hi).contains(&v.into()) => v as i32,
                Number::Whole(v) => {
                    return Err(ModelError::new(place(), format!("{v} does not fit {} bits", description.input.bits)));
                }
                Number::Real(x) if !x.is_finite() => {
                    return Err(ModelError::new(place(), format!("{x} is not a finite number")));
                }
                Number::Real(x) => {
                    let nearest = (x * factor).round_ties_even();
                    if nearest < lo as f64 || nearest > hi as f64 {
                        let what = format!(
                            "{x} does not fit {} bits at scale {}",
                            description.input.bits, description.input.scale
                        );
                        return Err(ModelError::new(place(), what));
                    }
                    nearest as i32
                }
            };
            values.push(value);
        }
        Ok(Self { steps, features, values })
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.values.len() / (self.steps * self.features)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The items of a range as the program's input `x`: `[steps, batch, features]`.
    ///
    /// # Panics
    /// If the range goes beyond the last item.
    pub fn batch(&self, range: Range<usize>) -> Vec<i128> {
        assert!(range.end <= self.len(), "items {range:?} of {}", self.len());
        let mut out = Vec::with_capacity(range.len() * self.steps * self.features);
        for step in 0..self.steps {
            for item in range.clone() {
                let from = (item * self.steps + step) * self.features;
                out.extend(self.values[from..from + self.features].iter().map(|&v| i128::from(v)));
            }
        }
        out
    }

    /// The client's inputs of a program for the items of a range.
    ///
    /// # Panics
    /// As [`Items::batch`].
    pub fn inputs(&self, range: Range<usize>) -> HashMap<String, Vec<i128>> {
        HashMap::from([("x".to_string(), self.batch(range))])
    }
}

/// What the client learned, item by item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// Index of each item's class.
    pub classes: Vec<usize>,
    /// Scores of each item as integers, if the model reveals them.
    pub scores: Vec<Vec<i128>>,
}

impl Results {
    /// Adds a batch: the outputs of the program by name.
    ///
    /// # Errors
    /// If an output is missing or cannot be one of this model's, which a wrong peer can bring about.
    pub fn add(&mut self, description: &Description, outputs: &[(String, Vec<i128>)]) -> Result<(), ModelError> {
        let classes = description.labels.len();
        let find = |name: &str| outputs.iter().find(|(n, _)| n == name).map(|(_, v)| v);
        let class = find("class").ok_or_else(|| ModelError::new("output 'class'", "missing"))?;
        let all: Option<Vec<usize>> = class.iter().map(|&c| usize::try_from(c).ok().filter(|&c| c < classes)).collect();
        let all = all.ok_or_else(|| ModelError::new("output 'class'", format!("a number outside 0..{classes}")))?;
        if let Some(scores) = find("scores") {
            require(scores.len() == all.len() * classes, "output 'scores'", || {
                "of another length than expected".into()
            })?;
            // A ring with slack can hold more.
            let scores =
                scores.chunks(classes).map(|row| row.iter().map(|&v| wrap(v, description.output.out, true)).collect());
            self.scores.extend(scores);
        }
        self.classes.extend(all);
        Ok(())
    }

    /// The table: item, label, class, then each class's score as an integer and as a real number.
    pub fn to_csv(&self, description: &Description) -> String {
        let quoted = |s: &str| {
            if s.contains([',', '"']) { format!("\"{}\"", s.replace('"', "\"\"")) } else { s.to_string() }
        };
        let mut csv = String::from("item,label,class");
        if !self.scores.is_empty() {
            for kind in ["integer", "score"] {
                for label in &description.labels {
                    let _ = write!(csv, ",{}", quoted(&format!("{kind} {label}")));
                }
            }
        }
        csv.push('\n');
        let unit = 2f64.powi(-description.output.scale);
        for (item, &class) in self.classes.iter().enumerate() {
            let _ = write!(csv, "{item},{},{class}", quoted(&description.labels[class]));
            if let Some(scores) = self.scores.get(item) {
                for s in scores {
                    let _ = write!(csv, ",{s}");
                }
                for &s in scores {
                    let _ = write!(csv, ",{}", s as f64 * unit);
                }
            }
            csv.push('\n');
        }
        csv
    }

    /// Writes the table. The file is complete or is not there: it is written beside its place and renamed.
    ///
    /// # Errors
    /// Names the file.
    pub fn write(&self, path: &Path, description: &Description) -> Result<(), ModelError> {
        let fail = |e: std::io::Error| ModelError::new(path.display().to_string(), e.to_string());
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}.part", std::process::id()));
        let part = path.with_file_name(name);
        let written = std::fs::File::create(&part)
            .and_then(|mut file| file.write_all(self.to_csv(description).as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| std::fs::rename(&part, path));
        written.map_err(|e| {
            let _ = std::fs::remove_file(&part);
            fail(e)
        })
    }
}
