//! `y = wrap(R(x * w))`: a vector of the server, broadcast: batch normalisation, FastGRNN's `zeta`.

use super::Parameter;
use crate::graph::Rescale;
use serde::{Deserialize, Serialize};

/// The product with a vector of the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// The vector.
    pub weights: Parameter,
    /// Its shape, broadcast to the operand's (numpy's rule: aligned at the last axis, sizes equal or 1); by default one per
    /// channel of the last axis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<usize>>,
    /// Of the exact product.
    #[serde(default, skip_serializing_if = "Rescale::is_identity")]
    pub rescale: Rescale,
}
