//! Multipart forms: every reader finds the same model. The first byte chooses the pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((seed, bytes)) = data.split_first() {
        steadfast_gateway::fuzz::form(bytes, u64::from(*seed));
    }
});
