//! Convolution with filters of the server, channels last: `[height, width, channels]` or `[length, channels]`.

use super::Parameter;
use crate::graph::Rescale;
use serde::{Deserialize, Serialize};

/// `y = wrap(R(sum of products))`. Weights are `[kernel.., channels / groups, filters]`; filter `f` belongs to group
/// `f / (filters / groups)`. Padding is zero (for the nearest element, put a `pad` before).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv {
    /// The filters.
    pub weights: Parameter,
    /// Their number: channels of the result.
    pub filters: usize,
    /// Sizes of the kernel, one per spatial axis (1 or 2).
    pub kernel: Vec<usize>,
    /// Distance of places; by default 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stride: Vec<usize>,
    /// Distance of a kernel's taps; by default 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dilation: Vec<usize>,
    /// Zeros before and after each spatial axis; by default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub padding: Vec<[usize; 2]>,
    /// Parts of the channels that are mapped apart; as many as channels for a depthwise convolution.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub groups: usize,
    /// Of the exact sum.
    #[serde(default)]
    pub rescale: Rescale,
}

fn one() -> usize {
    1
}

fn is_one(n: &usize) -> bool {
    *n == 1
}
