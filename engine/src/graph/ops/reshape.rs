//! The same elements, in the same order, under another shape.

use serde::{Deserialize, Serialize};

/// The new shape. At most one size is -1: it follows from the others, so that a time axis may pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reshape {
    /// Sizes of the axes.
    pub shape: Vec<i64>,
}
