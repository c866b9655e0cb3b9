//! Fuzzing: generators of programs and bytes, and the oracles that judge what comes of them.
//!
//! Each target is a function of bytes here and a few lines of glue in `fuzz_targets/`. It returns if all is well, or if the bytes
//! stand for nothing that can be built; it panics if it has found a bug. With `FUZZ_SHOW=1` it says what it does.
//!
//! | module | targets | oracle |
//! |---|---|---|
//! | [`programs`] | `programs` | cleartext = ideal machine, every call and range checked = instruction forms = oblivious transfer |
//! | [`instructions`] | `instructions` | the same below the protocols: an instruction's definition = its form |
//! | [`frames`] | `frames` | whatever a peer sends: an error or some result, soon |
//! | [`files`] | `description`, `weights`, `inputs` | an error or a value that can be used, and that survives being written and read |
//! | [`graphs`] | `graphs` | random graphs with weights: the evaluator, item by item = ideal machine = forms, with and without tables |
//! | [`linear`] | `linear` | whatever a peer sends for products from ring-LWE: an error or some share |
//! | [`handshake`] | `handshake` | server and client against a peer that says anything |
//! | [`tls`] | `tls` | records that somebody changes, messages in any pieces inside TLS: what is read is what was sent, or an error |
//! | [`config`] | `config` | configuration files: an error of one line, or settings |
//! | [`store`] | `store` | damage to a store is noticed; records that were forged are errors or other correlations |
#![forbid(unsafe_code)]

pub mod config;
pub mod files;
pub mod frames;
pub mod graphs;
pub mod handshake;
pub mod instructions;
pub mod linear;
pub mod oracle;
pub mod programs;
pub mod source;
pub mod store;
pub mod tls;
