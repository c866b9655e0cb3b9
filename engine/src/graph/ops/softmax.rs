//! Softmax along the last axis: `e_i = exp(-(max - x_i))`, `y_i = e_i / sum e`, by the functions of `exp` and `div`.

use serde::{Deserialize, Serialize};

/// Softmax.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Softmax {}
