//! Fixed-point arithmetic in the clear: what the secure protocols have to compute, bit for bit.
//!
//! A number is a two's complement integer of some bitwidth; the real value is `integer / 2^scale`. Everything here works
//! on true integers (`i128`) and says which range they stay in; [`wrap`] puts a result back into a bitwidth.
//!
//! * [`number`]: the same formula on integers (the value) and on intervals (the proven range of each intermediate).
//! * [`tables`]: look-up tables from integer arithmetic alone, so that both parties have the same on every platform.
//! * [`steps`]: the records of intermediates.
//! * [`nearest`]: look-up tables of any function by name, rounded to nearest.
//! * [`math`]: exp, reciprocal, division, sigmoid, tanh, square root and its inverse, as small steps that the protocols
//!   mirror one by one.
//!
//! The functions of [`math`] are those of SIRNN (Rathee et al., IEEE S&P 2021, section V), in the exact form of the authors' library
//! (SCI, `cleartext_library_fixed` and `math-functions`).

pub mod math;
pub mod nearest;
pub mod number;
pub mod steps;
pub mod tables;

pub use number::{Interval, Number, floor_shift, msnzb, toward_zero_shift, wrap};

/// Parameters outside of what a function is defined for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{function} is not defined for {what}")]
pub struct Unsupported {
    /// The function.
    pub function: &'static str,
    /// The offending parameter and its limits.
    pub what: String,
}

fn require(function: &'static str, holds: bool, what: impl FnOnce() -> String) -> Result<(), Unsupported> {
    if holds { Ok(()) } else { Err(Unsupported { function, what: what() }) }
}
