//! A loop over the leading axis: LSTM, GRU, plain RNN and FastGRNN are bodies of it.
//!
//! Step `t` reads entry `t` of every operand (entry `n - 1 - t` if `reverse`), and the states that the step before made. The
//! body is a list of nodes; it may also read values from outside, which are the same in every step.

use super::{Operation, Place};
use crate::graph::{Node, Number, Tensor, ValueType, Weights};
use serde::{Deserialize, Serialize};

/// A state that a step hands to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Name of its value in the body.
    pub name: String,
    /// The value of the body that is the next step's state.
    pub next: String,
    /// Sizes of its axes.
    pub shape: Vec<usize>,
    /// Format; that of `next`.
    pub number: Number,
    /// The state before the first step: all elements this, or
    #[serde(default)]
    pub init: i64,
    /// a value from outside of the loop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// Which steps a loop hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Steps {
    /// The last one: of each item at its own length.
    Last,
    /// All of them, in the order of the operands' axis.
    Every,
}

/// A result of a loop, called `node.name` outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Yield {
    /// Name behind the node's.
    pub name: String,
    /// The value of the body.
    pub value: String,
    /// Of which steps.
    pub steps: Steps,
}

/// The loop. Operands are cut along their first axis; entry `t` of operand `i` is the value `slices[i]` of the body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scan {
    /// From the last entry to the first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reverse: bool,
    /// Names of the operands' entries in the body.
    pub slices: Vec<String>,
    /// States.
    pub states: Vec<State>,
    /// Results.
    pub yields: Vec<Yield>,
    /// The body.
    pub body: Vec<Node>,
}

impl Operation for Scan {
    // Loops are read by `graph::infer` and run by `graph::evaluate`, which know the values outside. What comes here stands
    // in the body of another loop.
    fn infer(&self, _: Place<'_>) -> Result<Vec<ValueType>, String> {
        Err("a loop inside of a loop".into())
    }

    fn clear(&self, _: Place<'_>, _: &[&Tensor], _: &Weights) -> Vec<Tensor> {
        unreachable!("a loop inside of a loop is refused")
    }
}
