//! Requests decoded, and translated to the other dialects. The first byte chooses the dialect.
#![no_main]

#[path = "../../tests/wire/fuzz/properties.rs"]
#[allow(dead_code, reason = "each target takes one")]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((choice, bytes)) = data.split_first() {
        properties::request(properties::DIALECTS[usize::from(choice % 4)], bytes);
    }
});
