//! Quotient of two shared values, the authors' approximation (paper V, `fixed::math::DivGeneral`).

use serde::{Deserialize, Serialize};

/// `a / b` for `b > 0`, of one shape or broadcast. The formats of operands and result give widths and scales.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Div {}
