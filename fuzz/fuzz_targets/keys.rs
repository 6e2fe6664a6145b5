//! Files of keys: no part of one gives a key more than the whole.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        steadfast_gateway::fuzz::keys(text);
    }
});
