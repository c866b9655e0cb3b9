//! Models: a public description of a network, the server's weights, the client's inputs, and what is learned.
//!
//! | module | whose | content |
//! |---|---|---|
//! | [`description`] | both | `model.toml`: the graph of the network |
//! | [`client`] | client | what the client computes itself, in the clear |
//! | [`weights`] | server | `weights.safetensors`, checked against the description |
//! | [`input`] | client | items from `.npy` or `.csv`, and their lengths |
//! | [`results`] | client | what was revealed, as a table or as arrays; the same from the cleartext evaluator |
//! | [`npy`] | client | arrays in NumPy's format |
//!
//! Programs are made out of nothing but a [`Description`] and the public facts of a request: every bound in them is
//! public. What such a fact claims about the weights is checked when they are loaded ([`weights`]).

pub mod client;
pub mod description;
pub mod input;
pub mod npy;
pub mod results;
pub mod weights;

pub use crate::graph::Reveal;
pub use description::Description;
pub use input::Items;
pub use results::Results;
pub use weights::Model;

/// A model, a description or a file of inputs that cannot be used: where, and why. One line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct ModelError {
    /// File, field, node, tensor or line.
    pub place: String,
    /// The reason.
    pub what: String,
}

impl ModelError {
    pub(crate) fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        // Texts of other libraries may have several lines.
        let line = |s: String| s.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { place: line(place.into()), what: line(what.into()) }
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
