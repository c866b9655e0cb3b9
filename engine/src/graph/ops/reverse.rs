//! An axis in reverse order. The time axis of a request is reversed within each item's own length.

use serde::{Deserialize, Serialize};

/// The reversal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reverse {
    /// The axis.
    pub axis: usize,
}
