//! Overlapping windows of an image `[height, width, channels]`: `[places, rows of a window, columns of a window, channels]`, places row by row.

use serde::{Deserialize, Serialize};

/// The windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patches {
    /// Height and width of a window.
    pub size: [usize; 2],
    /// Distance of windows, down and across.
    pub stride: [usize; 2],
}
