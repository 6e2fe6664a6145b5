//! Properties of Bedrock's bodies, for any bytes. Shared with the cargo-fuzz target `event_stream`.

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use serde_json::value::RawValue;
use steadfast::{
    ErrorKind,
    providers::{
        bedrock::{
            converse,
            event_stream::{Damage, Decoder, HeaderValue, Message, encode},
            invoke,
        },
        sse,
    },
};
use tower::BoxError;

/// The most bytes of a message in these tests.
const LIMIT: usize = 64 << 10;

fn pieces(mut bytes: &[u8], longest: usize, rng: &mut fastrand::Rng) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(rng.usize(1..=bytes.len().min(longest)));
        pieces.push(Bytes::copy_from_slice(piece));
        bytes = rest;
    }
    pieces
}

fn messages(pieces: Vec<Bytes>) -> (Vec<Message>, Option<Damage>) {
    let (mut decoder, mut messages) = (Decoder::new(LIMIT), Vec::new());
    for piece in pieces {
        let longest = LIMIT + piece.len();
        decoder.push(piece);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(damage) => return (messages, Some(damage)),
            }
        }
        assert!(decoder.buffered() <= longest, "{} bytes are held", decoder.buffered());
    }
    (messages, decoder.finish().err())
}

/// Whatever the pieces: the same messages and the same damage; and what is written again is what came.
pub(crate) fn event_stream(bytes: &[u8], seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let whole = messages(vec![Bytes::copy_from_slice(bytes)]);
    for longest in [1, 7, 4096] {
        assert_eq!(messages(pieces(bytes, longest, &mut rng)), whole, "in pieces of up to {longest} bytes");
    }
    let again = whole.0.iter().flat_map(|message| {
        let headers: Vec<_> = message.headers().collect();
        encode(&headers, message.payload()).expect("it was encoded")
    });
    let again: Vec<u8> = again.collect();
    assert!(bytes.starts_with(&again), "what comes out is what went in");
    assert!(whole.1.is_some() || again.len() == bytes.len(), "nothing is lost");
}

const EVENTS: [&str; 8] = [
    "messageStart",
    "contentBlockStart",
    "contentBlockDelta",
    "contentBlockDelta",
    "contentBlockStop",
    "messageStop",
    "metadata",
    "chunk",
];

/// Any payloads in whole messages become whole events of Messages, or an error with a name.
pub(crate) fn payloads(bytes: &[u8], seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut body = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let event = *rng.choice(&EVENTS).expect("there are some");
        let (name, kind) = match rng.u8(..16) {
            0 => (":exception-type", "exception"),
            _ => (":event-type", "event"),
        };
        let headers = [(name, HeaderValue::Text(event)), (":message-type", HeaderValue::Text(kind))];
        body.extend(encode(&headers, line).expect("it is short"));
    }
    let of = |rng: &mut fastrand::Rng| stream::iter(pieces(&body, 4096, rng).into_iter().map(Ok));
    read(converse::sse(of(&mut rng), converse::AnswerHead::default().id("m")));
    read(invoke::sse(of(&mut rng)));
    if let Ok(answer) = converse::answer(bytes, &converse::AnswerHead::default()) {
        serde_json::from_slice::<&RawValue>(&answer).expect("it writes JSON");
    }
}

fn read(stream: impl Stream<Item = Result<Bytes, BoxError>> + Unpin) {
    let pieces = futures_util::FutureExt::now_or_never(stream.collect::<Vec<_>>()).expect("nothing is waited for");
    let failed = pieces.iter().filter(|piece| piece.is_err()).count();
    assert!(failed == 0 || failed == 1 && pieces.last().is_some_and(Result::is_err), "it ends with its failure");
    let mut decoder = sse::Decoder::new(1 << 24);
    pieces.into_iter().flatten().for_each(|piece| decoder.push(piece));
    while let Some(event) = decoder.next_event().expect("no limit") {
        assert!(event.has_data());
    }
    assert_eq!(decoder.buffered(), 0, "every event is whole");
}

/// A request becomes JSON, or an error with a name.
pub(crate) fn request(bytes: &[u8]) {
    match converse::request(bytes) {
        Ok(converted) => {
            serde_json::from_slice::<&RawValue>(&converted.body).expect("it writes JSON");
        }
        Err(error) => assert!(matches!(error.kind(), ErrorKind::InvalidRequest | ErrorKind::UnsupportedFeature)),
    }
}
