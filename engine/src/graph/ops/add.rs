//! `wrap(R(sum_i sign_i R_i(x_i) + constant))`: a sum of several values, each with a rescale of its own, then a joint one.

use crate::graph::Rescale;
use serde::{Deserialize, Serialize};

/// The sum. Operands have one shape, or are broadcast to it (numpy's rule).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// How each operand enters; by default as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub terms: Vec<Term>,
    /// A public number that is added to every element.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub constant: i64,
    /// Of the exact sum.
    #[serde(default, skip_serializing_if = "Rescale::is_identity")]
    pub rescale: Rescale,
}

/// How an operand enters a sum. What is subtracted is negated *before* its rescale.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// Subtracted instead of added.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub minus: bool,
    /// Of the operand, not wrapped.
    #[serde(default, skip_serializing_if = "Rescale::is_identity")]
    pub rescale: Rescale,
}

fn is_zero(x: &i64) -> bool {
    *x == 0
}
