//! Values one after the other along an axis. They have one format.

use serde::{Deserialize, Serialize};

/// The concatenation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concat {
    /// The axis.
    pub axis: usize,
}
