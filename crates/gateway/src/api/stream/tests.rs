use std::sync::Arc;

use futures_core::Stream;
use futures_util::StreamExt as _;
use http_body_util::BodyExt;
use steadfast::providers::simulated::{Fault, Simulated};
use tower::ServiceExt;

use super::*;
use crate::api::records::Records;

const SILENCE: Duration = Duration::from_secs(15);
const DIALECTS: [Dialect; 2] = [Dialect::Anthropic, Dialect::OpenAi];

struct Fixture {
    records: Records,
    cut: CancellationToken,
}

impl Fixture {
    fn new() -> Self {
        Self { records: Records::new(4, Arc::default()), cut: CancellationToken::new() }
    }

    async fn reading(&self, dialect: Dialect, body: LlmBody) -> EventStream {
        let mut response = LlmResponse::new(body);
        let first = response.body_mut().frame().await.unwrap().unwrap();
        let limits =
            StreamLimits { dialect, is_array: false, keep_alive: SILENCE, mark: false, notices: false, cut: &self.cut };
        let entry = self.records.begin(dialect);
        EventStream::started(
            ResponseStart::new(response, first),
            StreamEncoder::new(dialect),
            entry,
            StreamRecords::default(),
            &limits,
        )
    }

    fn calling(&self, dialect: Dialect, provider: Simulated) -> EventStream {
        let call: PendingCall = Box::pin(async move {
            let mut response = provider.oneshot(steadfast::LlmRequest::prompt("hello").with_stream(true)).await?;
            let first = response.body_mut().frame().await.unwrap()?;
            Ok(ResponseStart::new(response, first))
        });
        let limits =
            StreamLimits { dialect, is_array: false, keep_alive: SILENCE, mark: false, notices: false, cut: &self.cut };
        EventStream::pending(call, StreamEncoder::new(dialect), self.records.begin(dialect), &limits)
    }

    fn outcome(&self) -> String {
        self.records.newest(1, |_| true)[0].json(true)["outcome"].as_str().unwrap().to_owned()
    }
}

fn body(frames: impl Stream<Item = Result<Frame, LlmError>> + Send + 'static) -> LlmBody {
    LlmBody::from_frames(frames)
}

/// A token, and then nothing for ever.
fn stalled() -> LlmBody {
    body(futures_util::stream::iter([Ok(Frame::text("Hello"))]).chain(futures_util::stream::pending()))
}

async fn next(events: &mut Pin<Box<EventStream>>) -> Option<String> {
    let frame = events.frame().await?.unwrap();
    Some(String::from_utf8(frame.into_data().unwrap().into()).unwrap())
}

fn sign(dialect: Dialect) -> String {
    String::from_utf8(sign_of_life(dialect, false).into()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_shows_signs_of_life_and_no_more_than_needed() {
    for dialect in DIALECTS {
        let fixture = Fixture::new();
        let mut events = Box::pin(fixture.reading(dialect, stalled()).await);
        assert!(next(&mut events).await.unwrap().contains("Hello"));
        for _ in 0..4 {
            let before = Instant::now();
            assert_eq!(next(&mut events).await.unwrap(), sign(dialect));
            assert_eq!(before.elapsed(), SILENCE);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_flows_needs_no_sign_of_life() {
    let slow = Simulated::new("slow").pace(SILENCE - Duration::from_secs(1)).tokens(8..=8);
    let response = slow.oneshot(steadfast::LlmRequest::prompt("hello").with_stream(true)).await.unwrap();
    let fixture = Fixture::new();
    let events = fixture.reading(Dialect::Anthropic, response.into_body()).await;
    let whole = Box::pin(events).collect().await.unwrap().to_bytes();
    let whole = std::str::from_utf8(&whole).unwrap();
    assert!(whole.ends_with("data: {\"type\":\"message_stop\"}\n\n") && !whole.contains("ping"), "{whole}");
    assert_eq!(fixture.outcome(), "answered");
}

#[tokio::test(start_paused = true)]
async fn events_that_are_there_together_go_out_together_and_others_do_not_wait() {
    let paced = |pause: Option<Duration>| {
        let words = ["one ", "two ", "three "].map(Frame::text).into_iter().chain([Frame::event(StreamEvent::End)]);
        body(futures_util::stream::unfold(words, move |mut words| async move {
            // A connection that hands over one event at a time yields like this.
            match pause {
                None => tokio::task::yield_now().await,
                Some(pause) => sleep(pause).await,
            }
            words.next().map(|word| (Ok(word), words))
        }))
    };
    for dialect in DIALECTS {
        let fixture = Fixture::new();
        let mut events = Box::pin(fixture.reading(dialect, paced(None)).await);
        let all = next(&mut events).await.unwrap();
        assert!(["one", "two", "three"].iter().all(|word| all.contains(word)), "{all}");
        assert_eq!(next(&mut events).await, None);

        let mut events = Box::pin(fixture.reading(dialect, paced(Some(Duration::from_millis(1)))).await);
        for word in ["one", "two", "three"] {
            assert!(next(&mut events).await.unwrap().contains(word));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_goes_out_in_pieces_of_bounded_size() {
    let flood = futures_util::stream::repeat_with(|| Ok(Frame::text("word ".repeat(100)))).take(1000);
    let fixture = Fixture::new();
    let mut events = Box::pin(fixture.reading(Dialect::OpenAi, body(flood)).await);
    for _ in 0..10 {
        let piece = next(&mut events).await.unwrap();
        assert!((BATCH_BYTES..BATCH_BYTES + 2048).contains(&piece.len()), "{}", piece.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_waits_has_a_sign_at_once_and_then_the_answer() {
    for dialect in DIALECTS {
        let fixture = Fixture::new();
        let late = Simulated::new("late").latency(Duration::from_secs(40)).reply("Hello at last");
        let mut events = Box::pin(fixture.calling(dialect, late));
        let begun = Instant::now();
        let mut signs = Vec::new();
        let first = loop {
            let text = next(&mut events).await.unwrap();
            if text != sign(dialect) {
                break text;
            }
            signs.push(begun.elapsed().as_secs());
        };
        assert_eq!(signs, [0, 15, 30]);
        assert_eq!(begun.elapsed().as_secs(), 40);
        assert!(first.contains(if dialect == Dialect::Anthropic { "message_start" } else { "\"role\"" }), "{first}");
        while next(&mut events).await.is_some() {}
        assert_eq!(fixture.outcome(), "answered");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_the_head_is_an_event_and_the_end() {
    for dialect in DIALECTS {
        let fixture = Fixture::new();
        let late = Simulated::new("late").latency(Duration::from_secs(1)).fault_mix(Fault::Overloaded);
        let mut events = Box::pin(fixture.calling(dialect, late));
        assert_eq!(next(&mut events).await.unwrap(), sign(dialect));
        let error = next(&mut events).await.unwrap();
        assert!(error.contains("overloaded_error"), "{error}");
        assert_eq!(next(&mut events).await, None);
        assert_eq!(fixture.outcome(), "failed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_cut_ends_with_an_error_and_no_end_mark() {
    for dialect in DIALECTS {
        let fixture = Fixture::new();
        let mut events = Box::pin(fixture.reading(dialect, stalled()).await);
        next(&mut events).await.unwrap();
        fixture.cut.cancel();
        let error = next(&mut events).await.unwrap();
        assert!(error.contains("\"error\"") && error.contains("stopping"), "{error}");
        assert_eq!((next(&mut events).await, fixture.outcome().as_str()), (None, "broken"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_begins_anew_is_not_told_twice() {
    let again = StreamEvent::Restarted { reason: ErrorKind::StreamBroken };
    let frames = [Frame::text("Hello"), Frame::event(again), Frame::text("Hello"), Frame::event(StreamEvent::End)];
    for dialect in DIALECTS {
        let fixture = Fixture::new();
        let events = fixture.reading(dialect, body(futures_util::stream::iter(frames.clone().map(Ok)))).await;
        let whole = Box::pin(events).collect().await.unwrap().to_bytes();
        let whole = std::str::from_utf8(&whole).unwrap();
        assert_eq!(whole.matches("Hello").count(), 1, "{whole}");
        assert!(whole.contains("\"error\"") && !whole.contains("message_stop") && !whole.contains("[DONE]"), "{whole}");
        assert_eq!(fixture.outcome(), "broken");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stream_drops_the_call_and_says_that_its_caller_left() {
    let provider = Simulated::new("slow").latency(Duration::from_secs(40));
    let handle = provider.handle();
    let fixture = Fixture::new();
    let mut events = Box::pin(fixture.calling(Dialect::OpenAi, provider));
    next(&mut events).await.unwrap();
    next(&mut events).await.unwrap();
    assert_eq!(handle.stats().in_flight, 1);
    drop(events);
    assert_eq!((handle.stats().in_flight, handle.stats().cancelled), (0, 1));
    assert_eq!(fixture.outcome(), "abandoned");
}
