//! Functions of one argument as in the authors' library, bit for bit (paper V; `fixed::math`).
//!
//! The formats of operand and result give widths and scales. Rounding inside is always down.

use serde::{Deserialize, Serialize};

/// `1 / (1 + e^-x)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sigmoid {}

/// Hyperbolic tangent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tanh {}

/// `e^-x` for `x >= 0`; a negative operand counts as 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exp {}

/// `1 / x` for `x` in `[1, 2)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reciprocal {}

/// `1 / sqrt(x)` for `x > 0`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rsqrt {}

/// `sqrt(x)` for `x > 0`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sqrt {}
