//! Numbers 12 and 13: an answer is the same in whatever pieces it comes, and one that is cut is never a short answer.
//!
//! `tests/streams/cuts.rs` cuts recorded streams. `tests/wire/fuzz` and `fuzz/` see to it that no bytes make a reader
//! panic, or hold more than its limits.

use std::collections::BTreeMap;

use steadfast::{Dialect, ErrorKind};

use super::{ask, is_whole, wire::Answer};
use crate::numbers::scaled;

const DIALECTS: [Dialect; 3] = [Dialect::Anthropic, Dialect::OpenAi, Dialect::Gemini];

#[tokio::test(start_paused = true)]
async fn an_answer_is_the_same_in_whatever_pieces_it_comes() {
    let (splits, mut equal, mut pieces) = (scaled(600, 100_000), 0, 0);
    let mut random = fastrand::Rng::with_seed(13);
    for split in 0..splits {
        let stream = random.u8(0..4) > 0;
        let answer = Answer::healthy(DIALECTS[split % 3], stream).cut_up(&mut random);
        pieces += answer.pieces();
        let (message, _) = ask(DIALECTS[split % 3], answer, stream).await;
        equal += usize::from(message.is_ok_and(|message| is_whole(&message)));
    }
    println!("number 13: {splits} answers in {pieces} pieces: {equal} as they are");
    assert_eq!(equal, splits);
}

#[tokio::test(start_paused = true)]
async fn a_stream_cut_at_any_byte_is_broken_or_whole() {
    let (cuts, mut whole, mut broken) = (scaled(600, 300_000), 0, BTreeMap::<_, usize>::new());
    let mut random = fastrand::Rng::with_seed(12);
    for cut in 0..cuts {
        let dialect = DIALECTS[cut % 3];
        let (answer, length) = Answer::healthy(dialect, true).cut_up(&mut random).cut_off(&mut random);
        match ask(dialect, answer, true).await.0 {
            Ok(message) => {
                assert!(is_whole(&message), "{dialect}: a short answer of {length} bytes: {message:?}");
                whole += 1;
            }
            Err(error) => {
                let before_its_first_token = error.kind() == ErrorKind::EmptyAnswer;
                assert!(before_its_first_token || error.kind() == ErrorKind::StreamBroken, "{dialect}: {error:?}");
                *broken.entry(error.kind().name()).or_default() += 1;
            }
        }
    }
    println!(
        "number 12: {cuts} cuts of three protocols: {whole} were the whole answer, the others failures: {broken:?}"
    );
    assert!(whole * 5 < cuts, "most are cut before their end: {whole}");
}
