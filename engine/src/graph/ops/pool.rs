//! Windows of an image or a series, channels last: `[height, width, channels]` or `[length, channels]`.

use crate::protocols::shift::Rounding;
use serde::{Deserialize, Serialize};

/// Largest value of each window, channel by channel. Padding never wins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxPool {
    /// Sizes of a window, one per spatial axis (1 or 2).
    pub size: Vec<usize>,
    /// Distance of windows; by default their size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stride: Vec<usize>,
    /// Padding before and after each spatial axis; by default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub padding: Vec<[usize; 2]>,
}

/// `wrap(round(sum of the window / its number of places))`; padding counts as zeros.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvgPool {
    /// Sizes of a window, one per spatial axis (1 or 2).
    pub size: Vec<usize>,
    /// Distance of windows; by default their size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stride: Vec<usize>,
    /// Zeros before and after each spatial axis; by default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub padding: Vec<[usize; 2]>,
    /// How the quotient is rounded.
    #[serde(default)]
    pub rounding: Rounding,
}
