//! `y = wrap(R(A B))` of two shared values: `[.., n, k]` times `[.., k, m]`, leading axes equal.

use crate::graph::Rescale;
use serde::{Deserialize, Serialize};

/// The product of two matrices of shared values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatMulShared {
    /// Of the exact sum.
    #[serde(default)]
    pub rescale: Rescale,
}
