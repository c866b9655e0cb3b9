//! Target `tls`: see the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sirnn_fuzz::tls::check(data));
