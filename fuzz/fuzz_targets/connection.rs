//! Requests on a connection: what is served is what a strict reader finds. The first byte chooses the pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((seed, bytes)) = data.split_first() {
        steadfast_gateway::fuzz::requests(bytes, u64::from(*seed));
    }
});
