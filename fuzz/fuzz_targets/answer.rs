//! The decoders of answers, streamed or whole, and of errors. The first byte chooses the dialect, the form and the
//! status, the second one the pieces.
#![no_main]

#[path = "../../tests/wire/fuzz/properties.rs"]
#[allow(dead_code, reason = "each target takes one")]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let [choice, seed, bytes @ ..] = data else { return };
    let dialect = properties::DIALECTS[usize::from(choice % 4)];
    let (stream, status) = match choice / 4 % 8 {
        0..4 => (true, 200),
        4..6 => (false, 200),
        6 => (false, 429),
        _ => (false, 500),
    };
    properties::answer(dialect, bytes, stream, status, u64::from(*seed));
});
