//! Answers that are held whole, in a program that bounds its memory.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use bytes::Bytes;
use tower::ServiceExt;

use super::{STREAM, Scripted, anthropic};
use crate::{
    Classifier, CommitPoint, ErrorKind, LlmRequest,
    body::{AnswerMemory, AnswerRoom, CoverFuture, FREE_ANSWER, OutOfMemory},
    classify::{Count, Failover, Retry},
    error::ReachedLimit,
};

/// So many bytes, and those that are taken.
struct Room(usize, AtomicUsize);

impl AnswerRoom for Room {
    fn cover(self: Arc<Self>, covered: usize, bytes: usize, _: bool, _: Option<tokio::time::Instant>) -> CoverFuture {
        let taken = self.1.load(SeqCst) + bytes - covered;
        let full = OutOfMemory { message: "no room".into(), retry_after: Some(std::time::Duration::from_secs(1)) };
        Box::pin(std::future::ready(match taken <= self.0 {
            true => {
                self.1.store(taken, SeqCst);
                Ok(bytes)
            }
            false => Err(full),
        }))
    }

    fn give_back(&self, bytes: usize) {
        self.1.fetch_sub(bytes, SeqCst);
    }
}

/// An answer of this many letters: whole, or as events.
fn answer(letters: usize, events: bool) -> Scripted {
    let text = "x".repeat(letters);
    let body = match events {
        true => STREAM.replace("Hel", &text),
        false => format!(
            r#"{{"type":"message","role":"assistant","content":[{{"type":"text","text":"{text}"}}],"stop_reason":"end_turn"}}"#
        ),
    };
    let transport = if events { Scripted::events("") } else { Scripted::json("") };
    transport.pieces(body.as_bytes().chunks(1000).map(Bytes::copy_from_slice))
}

#[tokio::test]
async fn an_answer_that_is_held_whole_asks_for_room_and_a_stream_does_not() {
    const LETTERS: usize = 100_000;
    // True if the caller wants a stream; the part that is held; true if events come; true if room is needed.
    let rows = [
        (false, CommitPoint::FirstToken, false, true),
        (false, CommitPoint::FirstToken, true, true),
        (true, CommitPoint::Complete, true, true),
        (true, CommitPoint::FirstToken, true, false),
    ];
    for (stream, commit, events, needs) in rows {
        for (letters, limit) in [(LETTERS, 3 * LETTERS), (LETTERS, LETTERS / 2), (100, 0), (FREE_ANSWER / 4, 0)] {
            let what = format!("stream {stream}, {commit}, events {events}, {letters} of {limit}");
            let room = Arc::new(Room(limit, AtomicUsize::new(0)));
            let request = LlmRequest::prompt("hello").with_stream(stream);
            let request = request.with_extension(AnswerMemory::new(room.clone()));
            let leaf = anthropic(&answer(letters, events)).commit(commit);
            let fits = letters < LETTERS || limit > LETTERS || !needs;
            match leaf.oneshot(request).await {
                Ok(response) => {
                    assert!(fits, "{what}");
                    let taken = room.1.load(SeqCst);
                    let is_counted = needs && letters == LETTERS;
                    assert_eq!(taken >= LETTERS, is_counted, "{what}: {taken}");
                    assert!(response.text().await.unwrap().len() >= letters, "{what}");
                    // The room itself learns when a caller has its whole answer.
                    assert_eq!(room.1.load(SeqCst) > 0, is_counted && !stream, "{what}");
                }
                Err(error) => {
                    assert!(!fits, "{what}: {error}");
                    assert_eq!((error.kind(), room.1.load(SeqCst)), (ErrorKind::BulkheadFull, 0), "{what}");
                    assert_eq!(error.reached_limit(), Some(&ReachedLimit::Memory), "{what}");
                    let class = Classifier::default().classify(&error);
                    let neutral = (Retry::No, Failover::No, Count::Neutral);
                    assert_eq!((class.retry, class.failover, class.circuit), neutral, "{what}");
                }
            }
        }
    }
}
