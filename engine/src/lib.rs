//! SIRNN engine.
#![forbid(unsafe_code)]

pub mod fixed;
pub mod program;
pub mod protocols;
