//! Entries of an axis by public index.

use serde::{Deserialize, Serialize};

/// Entry `i` of the result's axis is entry `indices[i]` of the operand's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gather {
    /// The axis.
    pub axis: usize,
    /// The entries.
    pub indices: Vec<u32>,
}
