//! What a client learned.

use super::Summary;
use crate::graph::Reveal;
use crate::model::Results;
use crate::model::results::Revealed;

/// What a client learned of its items, and what that cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    results: Results,
    summary: Option<Summary>,
}

impl Predictions {
    pub(super) fn new(results: Results, summary: Option<Summary>) -> Self {
        Self { results, summary }
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.results.outputs.first().map_or(0, |o| o.values.len().max(o.classes.len()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of each item, of the first output that has one class per item. Else see [`Predictions::outputs`].
    pub fn classes(&self) -> Option<Vec<usize>> {
        self.results.classes()
    }

    /// The names of these classes; the numbers, if they have no names.
    pub fn labels(&self) -> Option<Vec<String>> {
        let output = self.results.outputs.iter().find(|o| o.reveal != Reveal::Values)?;
        Some(self.classes()?.into_iter().map(|class| output.label(class)).collect())
    }

    /// What was learned of each output of the network.
    pub fn outputs(&self) -> impl ExactSizeIterator<Item = Output<'_>> {
        self.results.outputs.iter().map(Output)
    }

    /// The output of this name.
    pub fn output(&self, name: &str) -> Option<Output<'_>> {
        self.outputs().find(|o| o.name() == name)
    }

    /// What the request cost: rounds, bytes, times, correlations; `None` if it was computed in the clear.
    pub fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }

    /// As a table; `sirnn infer` writes the same.
    pub fn to_csv(&self) -> String {
        self.results.to_csv()
    }

    /// Whether both learned the same of their items, bit for bit, whatever it cost.
    pub fn agree(&self, other: &Self) -> bool {
        self.results == other.results
    }
}

/// What was learned of one output.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a>(&'a Revealed);

/// A row of an item's output: all of it, or one time step.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Row {
    /// The class, if it is revealed.
    pub class: Option<usize>,
    /// The scores or values, as real numbers; empty if the class alone is revealed.
    pub values: Vec<f64>,
}

impl<'a> Output<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.0.name
    }

    /// What is revealed of it.
    pub fn reveal(&self) -> Reveal {
        self.0.reveal
    }

    /// Names of the classes, if they have any.
    pub fn class_names(&self) -> &'a [String] {
        &self.0.labels
    }

    /// Shape of the values of the longest item.
    pub fn shape(&self) -> &'a [usize] {
        &self.0.shape
    }

    /// Whether the first axis is time: an item has as many rows as it has steps.
    pub fn is_per_step(&self) -> bool {
        self.0.timed
    }

    /// Values are integers times 2^-scale.
    pub fn scale(&self) -> i32 {
        self.0.number.scale
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.0.values.len().max(self.0.classes.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The classes of an item: one, or one for each row. Empty if values alone are revealed.
    ///
    /// # Panics
    /// If there is no such item.
    pub fn classes(&self, item: usize) -> &'a [usize] {
        assert!(item < self.len(), "item {item} of {}", self.len());
        self.0.classes.get(item).map_or(&[], Vec::as_slice)
    }

    /// The scores or values of an item as integers, last axis fastest. Empty if the class alone is revealed.
    ///
    /// # Panics
    /// If there is no such item.
    pub fn integers(&self, item: usize) -> &'a [i64] {
        assert!(item < self.len(), "item {item} of {}", self.len());
        self.0.values.get(item).map_or(&[], Vec::as_slice)
    }

    /// The same as real numbers.
    ///
    /// # Panics
    /// If there is no such item.
    pub fn reals(&self, item: usize) -> Vec<f64> {
        self.integers(item).iter().map(|&v| self.0.real(v)).collect()
    }

    /// The rows of an item: its time steps, if the output has one for each; else its rows of scores or values.
    ///
    /// # Panics
    /// If there is no such item.
    pub fn rows(&self, item: usize) -> Vec<Row> {
        let (classes, values) = (self.classes(item), self.reals(item));
        let width = self.0.shape.last().copied().unwrap_or(1).max(1);
        let count = classes.len().max(values.len().div_ceil(width));
        let row = |i: usize| Row {
            class: classes.get(i).copied(),
            values: values.chunks(width).nth(i).map_or_else(Vec::new, <[f64]>::to_vec),
        };
        (0..count).map(row).collect()
    }
}
