//! Largest value along an axis, and its index (the first, where several are largest).

use serde::{Deserialize, Serialize};

/// The largest value; the axis vanishes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Max {
    /// The axis.
    pub axis: usize,
}

/// The index of the largest value, unsigned; the axis vanishes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArgMax {
    /// The axis.
    pub axis: usize,
}
