//! Axes in another order.

use serde::{Deserialize, Serialize};

/// Axis `i` of the result is axis `axes[i]` of the operand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transpose {
    /// The permutation.
    pub axes: Vec<usize>,
}
