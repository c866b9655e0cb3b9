//! SIRNN engine.
#![forbid(unsafe_code)]

pub mod explain;
pub mod fixed;
pub mod model;
pub mod ops;
pub mod pair;
pub mod plan;
pub mod planner;
pub mod program;
pub mod protocols;
pub mod run;
pub mod schedule;
pub mod service;
pub mod session;
pub mod speeds;
pub mod store;
pub mod trace;
