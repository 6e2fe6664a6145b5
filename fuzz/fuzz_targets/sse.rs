//! SSE framing. The first byte chooses the limit and how the rest is cut into pieces.
#![no_main]

#[path = "../../tests/wire/fuzz/properties.rs"]
#[allow(dead_code, reason = "each target takes one")]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((seed, bytes)) = data.split_first() {
        properties::sse(bytes, u64::from(*seed));
    }
});
