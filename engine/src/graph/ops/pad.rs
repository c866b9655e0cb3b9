//! A border around a tensor.

use serde::{Deserialize, Serialize};

/// What a border consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Border {
    /// Zeros.
    #[default]
    Zero,
    /// The nearest element.
    Edge,
}

/// The border.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pad {
    /// Entries before and after, one pair per axis.
    pub padding: Vec<[usize; 2]>,
    /// What it consists of.
    #[serde(default)]
    pub border: Border,
}
