//! Models: a public description, the server's weights, the client's inputs, and the program that both parties run.
//!
//! | module | whose | content |
//! |---|---|---|
//! | [`description`] | both | `model.toml`: shapes, widths, shifts and scales |
//! | [`weights`] | server | `weights.safetensors`, checked against the description |
//! | [`input`] | client | items from `.npy` or `.csv`, batches, the table of results |
//! | [`npy`] | both | arrays of numbers in NumPy's format |
//! | [`fastgrnn`] | both | a layer's step and its chains of products |
//! | [`fused`] | both | a layer's step as one look-up |
//!
//! [`build`] makes a program out of nothing but a [`Description`]: every bound in it is a public fact. What such a
//! fact claims about the weights is checked when they are loaded ([`weights`]).

pub mod description;
pub mod fastgrnn;
pub mod fused;
pub mod input;
pub mod npy;
pub mod weights;

pub use description::{Description, Reveal};
pub use fastgrnn::{Extra, build, build_with};
pub use input::{Items, Results};

pub use weights::{Model, Weights};

/// A model, a description or a file of inputs that cannot be used: where, and why. One line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct ModelError {
    /// File, field, tensor or line.
    pub place: String,
    /// The reason.
    pub what: String,
}

impl ModelError {
    pub(crate) fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        // Texts of other libraries may have several lines.
        let line = |s: String| s.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { place: place.into(), what: line(what.into()) }
    }

    /// The same error inside of `place`.
    pub(crate) fn inside(self, place: &str) -> Self {
        Self { place: format!("{place}: {}", self.place), what: self.what }
    }
}

/// Refuses unless `holds`.
fn require(holds: bool, place: &str, what: impl FnOnce() -> String) -> Result<(), ModelError> {
    if holds { Ok(()) } else { Err(ModelError::new(place, what())) }
}

#[cfg(test)]
mod tests;
