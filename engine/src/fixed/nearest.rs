//! Look-up tables of named functions, every entry rounded to nearest.

use super::Unsupported;

/// Format of a table's operand or result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    /// Width.
    pub bits: u32,
    /// `real = integer / 2^scale`.
    pub scale: i32,
    /// Whether the integers are in two's complement.
    pub signed: bool,
}

/// Names of all functions.
pub const NAMES: &[&str] = &[];

/// The table of `function`.
///
/// # Errors
/// No function of that name.
pub fn table(function: &str, _x: Format, _y: Format) -> Result<Vec<i64>, Unsupported> {
    Err(Unsupported { function: "table", what: format!("'{function}'; there are {}", NAMES.join(", ")) })
}
