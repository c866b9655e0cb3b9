//! Rows of the last axis divided by their Euclidean length (the authors' NormaliseL2): with `s` the operand's scale,
//! `ss = sum floor(x^2 / 2^(2 shift))`, `inv = rsqrt(ss)` from scale `2 (s - shift)` to scale `shift - 1` in
//! `2 bits - 2 shift + ceil(log2 channels)` bits, `y = wrap(R(x inv, shift))` of scale `s - 1`.

use crate::protocols::shift::Rounding;
use serde::{Deserialize, Serialize};

/// The normalisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct L2Normalise {
    /// See the module.
    pub shift: u32,
    /// Of the last shift.
    #[serde(default)]
    pub rounding: Rounding,
}
