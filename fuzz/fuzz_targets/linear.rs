//! Target `linear`: see the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sirnn_fuzz::linear::check(data));
