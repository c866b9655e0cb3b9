//! `y = wrap(R(a b))`: element-wise product of two shared values, broadcast (numpy's rule).

use crate::graph::Rescale;
use serde::{Deserialize, Serialize};

/// The element-wise product.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mul {
    /// Of the exact product.
    #[serde(default)]
    pub rescale: Rescale,
}
