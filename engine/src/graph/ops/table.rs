//! Any function of at most 16 bits, given by name, rounded to nearest: error at most half a unit in the last place. Values beyond
//! the result's width saturate; points outside of the function's domain take the nearest point of it.

use serde::{Deserialize, Serialize};

/// The function of a public table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Its name: `sigmoid`, `tanh`, `exp`, `log`, `gelu`, `silu`, `softplus`, `elu`, `erf`, `sin`, `cos`, `reciprocal`,
    /// `rsqrt`, `sqrt`, `square`.
    pub function: String,
}
