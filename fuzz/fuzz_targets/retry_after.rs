//! Retry-After in its headers and in texts: each line is a header, named by its first byte.
#![no_main]

#[path = "../../tests/wire/fuzz/properties.rs"]
#[allow(dead_code, reason = "each target takes one")]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::retry(data));
