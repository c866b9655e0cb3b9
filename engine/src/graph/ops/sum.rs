//! Sums and means over axes, which vanish from the shape.

use crate::graph::Rescale;
use crate::protocols::shift::Rounding;
use serde::{Deserialize, Serialize};

/// `y = wrap(R(sum over axes))`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sum {
    /// The axes, in increasing order.
    pub axes: Vec<usize>,
    /// Of the exact sum.
    #[serde(default, skip_serializing_if = "Rescale::is_identity")]
    pub rescale: Rescale,
}

/// `y = wrap(round(sum over axes / number of elements))`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mean {
    /// The axes, in increasing order.
    pub axes: Vec<usize>,
    /// How the quotient is rounded.
    #[serde(default)]
    pub rounding: Rounding,
}
