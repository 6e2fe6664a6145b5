//! Bodies of Bedrock: event streams, their payloads, and requests and answers of Converse. The first byte chooses the
//! limit and how the rest is cut into pieces.
#![no_main]

#[path = "../../tests/wire/fuzz/bedrock.rs"]
mod bedrock;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((seed, bytes)) = data.split_first() {
        bedrock::event_stream(bytes, u64::from(*seed));
        bedrock::payloads(bytes, u64::from(*seed));
        bedrock::request(bytes);
    }
});
