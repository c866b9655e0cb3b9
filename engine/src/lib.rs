//! SIRNN engine.
#![forbid(unsafe_code)]

pub mod compile;
pub mod fixed;
pub mod graph;
#[cfg(feature = "import")]
pub mod import;
pub mod model;
pub mod plan;
pub mod program;
pub mod protocols;
pub mod run;
pub mod service;
