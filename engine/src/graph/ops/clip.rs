//! ReLU, and limits: ReLU6, hard tanh, hard sigmoid. `y = wrap(R(min(max(x, low), high)))`.

use crate::graph::Rescale;
use serde::{Deserialize, Serialize};

/// `max(x, 0)`, rescaled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relu {
    /// Afterwards.
    #[serde(default, skip_serializing_if = "Rescale::is_identity")]
    pub rescale: Rescale,
}

/// `min(max(x, low), high)`, rescaled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clip {
    /// The lower limit, an integer at the operand's scale.
    pub low: i64,
    /// The upper limit, an integer at the operand's scale.
    pub high: i64,
    /// Afterwards.
    #[serde(default, skip_serializing_if = "Rescale::is_identity")]
    pub rescale: Rescale,
}
