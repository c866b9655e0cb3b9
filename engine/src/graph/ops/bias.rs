//! `y = wrap(R(R_x(x) + R_b(bias)))`: a vector of the server, broadcast.

use super::Parameter;
use crate::graph::Rescale;
use serde::{Deserialize, Serialize};

/// The sum with a vector of the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bias {
    /// The vector.
    pub bias: Parameter,
    /// Its shape, broadcast to the operand's (numpy's rule: aligned at the last axis, sizes equal or 1); by default one per
    /// channel of the last axis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<usize>>,
    /// Of the operand before the sum, not wrapped.
    #[serde(default, skip_serializing_if = "Rescale::is_identity")]
    pub operand: Rescale,
    /// Of the vector before the sum: the server does that in the clear. Not per channel.
    #[serde(default, skip_serializing_if = "Rescale::is_identity")]
    pub rescale_bias: Rescale,
    /// Of the exact sum.
    #[serde(default, skip_serializing_if = "Rescale::is_identity")]
    pub rescale: Rescale,
}
