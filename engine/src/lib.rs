//! SIRNN engine.
#![forbid(unsafe_code)]
