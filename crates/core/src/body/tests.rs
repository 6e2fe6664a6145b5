use std::{
    sync::{Arc, Mutex},
    task::Waker,
};

use futures_util::{StreamExt as _, stream};
use tokio::{
    sync::mpsc,
    time::{Duration, Instant, sleep},
};

use super::*;
use crate::{
    ErrorKind,
    body::admission::{Gate, SoFar, Ticket},
    chat::{FinishReason, Part},
    error::{Phase, TimeoutLimit},
};

type Item = Result<Frame, LlmError>;

fn text(text: &str) -> Item {
    Ok(Frame::text(text))
}

fn event(event: StreamEvent) -> Item {
    Ok(Frame::event(event))
}

fn end() -> Item {
    event(StreamEvent::End)
}

fn broken() -> Item {
    Err(LlmError::new(ErrorKind::Server, "it broke"))
}

fn body(frames: impl IntoIterator<Item = Item, IntoIter: Send + 'static>) -> LlmBody {
    LlmBody::from_frames(stream::iter(frames))
}

/// A provider that says each item so many seconds after the one before, whether or not anybody reads, then nothing.
fn provider(says: impl IntoIterator<Item = (u64, Item), IntoIter: Send + 'static>) -> LlmBody {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let says = says.into_iter();
    tokio::spawn(async move {
        for (gap, item) in says {
            sleep(Duration::from_secs(gap)).await;
            let _ = sender.send(item);
        }
        sender.closed().await;
    });
    LlmBody::from_frames(stream::poll_fn(move |cx| receiver.poll_recv(cx)))
}

fn limits(bytes: u64, progress: u64, ceiling: u64) -> IdleLimits {
    let limit = |seconds| (seconds > 0).then(|| Duration::from_secs(seconds));
    IdleLimits { bytes: limit(bytes), progress: limit(progress), ceiling: limit(ceiling) }
}

/// Reads to the end or the first error, and says after how many seconds it came.
async fn drain(mut body: LlmBody) -> (u64, Option<LlmError>) {
    let begun = Instant::now();
    let mut error = None;
    while let Some(frame) = body.frame().await {
        error = frame.err();
    }
    (begun.elapsed().as_secs(), error)
}

fn poll(body: &mut LlmBody) -> Poll<Option<Item>> {
    body.poll_frame(&mut Context::from_waker(Waker::noop()))
}

fn is_end(poll: &Poll<Option<Item>>) -> bool {
    matches!(poll, Poll::Ready(None))
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Heard {
    fn permit(self: &Arc<Self>) -> Permit {
        Permit::new(self.clone(), Ticket::default())
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Gate for Heard {
    fn settle(&self, ticket: &Ticket, outcome: Outcome<'_>) {
        self.settle_with(ticket, outcome, &SoFar::default);
    }

    fn settle_with<'a>(&self, _: &Ticket, outcome: Outcome<'_>, so_far: &dyn Fn() -> SoFar<'a>) {
        self.0.lock().unwrap().push(match outcome {
            Outcome::Answered => format!("answered {}", so_far().usage.map_or(0, Usage::total)),
            Outcome::Failed(error) => format!("failed {}", error.kind()),
            Outcome::Dropped => "dropped".to_owned(),
        });
    }
}

// ---- the end ----

#[tokio::test]
async fn the_end_is_fused_for_streams_and_complete_answers() {
    for mut body in [body([text("a"), end()]), LlmBody::from_text("a"), body([broken()])] {
        while body.frame().await.is_some() {}
        for _ in 0..3 {
            assert!(is_end(&poll(&mut body)));
        }
    }
}

#[tokio::test]
async fn a_stream_without_an_end_mark_is_broken() {
    let error = body([text("half an ans")]).text().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StreamBroken);
    let error = body([text("a"), event(StreamEvent::Finish(FinishReason::Stop))]).collect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StreamBroken, "a reason to finish is not the end mark");
    let error = body([]).collect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StreamBroken);
}

#[tokio::test]
async fn an_error_in_the_stream_comes_out_as_it_is() {
    assert_eq!(body([text("a"), broken()]).text().await.unwrap_err().kind(), ErrorKind::Server);
}

#[tokio::test]
async fn what_comes_after_the_end_mark_is_noise() {
    assert_eq!(body([text("a"), end(), broken()]).text().await.unwrap(), "a");
    assert_eq!(body([text("a"), end(), end(), text("b"), broken()]).text().await.unwrap(), "a");
}

#[tokio::test]
async fn nobody_waits_for_the_connection_to_close_after_the_end_mark() {
    let mut body = LlmBody::from_frames(stream::iter([end()]).chain(stream::pending()));
    assert!(body.frame().await.unwrap().is_ok());
    assert!(is_end(&poll(&mut body)));
    assert!(is_end(&poll(&mut body)));
}

#[tokio::test]
async fn a_finished_stream_is_polled_no_more() {
    // `unfold` panics when it is polled after its end.
    let frames = stream::unfold([end()].into_iter(), |mut items| async move { Some((items.next()?, items)) });
    let mut body = LlmBody::from_frames(Box::pin(frames));
    while body.frame().await.is_some() {}
    assert!(is_end(&poll(&mut body)));
}

// ---- whole answers ----

#[tokio::test]
async fn complete_and_streamed_answers_collect_to_the_same() {
    let streamed = body([text("hel"), text("lo"), event(StreamEvent::Finish(FinishReason::Stop)), end()]);
    assert_eq!(streamed.collect().await.unwrap(), LlmBody::from_text("hello").collect().await.unwrap());
    assert_eq!(LlmBody::from_text("hello").text().await.unwrap(), "hello");
    assert_eq!(LlmBody::from_message(Message::assistant("hello")).text().await.unwrap(), "hello");
}

#[tokio::test]
async fn text_leaves_reasoning_out() {
    let thought = event(StreamEvent::Reasoning { index: 0, text: "hm".into() });
    let said = event(StreamEvent::Text { index: 1, text: "yes".into() });
    assert_eq!(body([thought, said, end()]).text().await.unwrap(), "yes");
}

#[tokio::test]
async fn a_stream_of_texts_ends_with_its_texts() {
    let texts = LlmBody::from_text_stream(stream::iter(["a", "b"].map(|text| Ok(text.to_owned()))));
    let message = texts.collect().await.unwrap();
    assert_eq!((message.text().as_str(), message.finish), ("ab", Some(FinishReason::Stop)));

    let cut = [Ok("a".to_owned()), Err(LlmError::new(ErrorKind::Connect, "reset"))];
    let error = LlmBody::from_text_stream(stream::iter(cut)).collect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
}

#[tokio::test]
async fn a_complete_answer_is_one_frame_with_the_providers_bytes() {
    let raw = Bytes::from_static(b"{\"id\":1}");
    let mut body = LlmBody::from_wire(Dialect::OpenAi, raw.clone(), Message::assistant("a"));
    assert_eq!(body.wire(), Some((Dialect::OpenAi, &raw)));
    assert!(!body.arrives_in_frames());
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.raw(), Some((Dialect::OpenAi, &raw)));
    assert_eq!(frame.progress(), Progress::End);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn usage_is_the_last_that_was_told() {
    let usage = |output| event(StreamEvent::Usage(Usage::new(1, output)));
    let mut body = body([usage(1), usage(7), end()]);
    assert_eq!(body.usage(), None);
    while body.frame().await.is_some() {}
    assert_eq!(body.usage(), Some(Usage::new(1, 7)));
}

#[tokio::test]
async fn a_restarted_answer_forgets_what_came_before() {
    let frames = || {
        let restarted = event(StreamEvent::Restarted { reason: ErrorKind::StreamBroken });
        [event(StreamEvent::Usage(Usage::new(9, 9))), text("old"), restarted, text("new"), end()]
    };
    let message = body(frames()).collect().await.unwrap();
    assert_eq!((message.text().as_str(), message.usage), ("new", None));
    let mut body = body(frames());
    while body.frame().await.is_some() {}
    assert_eq!(body.usage(), None, "the tokens were those of the answer that broke");
}

#[test]
fn debug_shows_no_text() {
    let secret = || "secret".to_owned();
    let opaque = crate::chat::Opaque { dialect: Dialect::Gemini, token: secret(), redacted: false };
    let frame = Frame::events_of(vec![
        StreamEvent::Text { index: 0, text: secret() },
        StreamEvent::Signature { index: 0, opaque },
        StreamEvent::Arguments { index: 0, json: secret() },
        StreamEvent::Part { index: 0, part: Part::Text(secret()) },
    ])
    .with_raw(Dialect::OpenAi, Bytes::from_static(b"secret"));
    let shown = format!("{frame:?} {:?}", frame.events());
    assert!(!shown.contains("secret"), "{shown}");
    assert!(shown.contains("Text(6 bytes)"), "{shown}");
    assert_eq!(format!("{:?}", body([Ok(frame)])), "LlmBody::Stream");
    assert_eq!(format!("{:?}", LlmBody::from_text("secret")), "LlmBody::Complete");
}

#[test]
fn what_a_frame_holds_is_counted_whatever_its_kind() {
    let big = || "x".repeat(10_000);
    let opaque = || crate::chat::Opaque { dialect: Dialect::Gemini, token: big(), redacted: false };
    let media = crate::chat::Media::Base64 { media_type: "image/png".into(), data: big() };
    let events = [
        StreamEvent::Text { index: 0, text: big() },
        StreamEvent::Refusal { index: 0, text: big() },
        StreamEvent::Reasoning { index: 0, text: big() },
        StreamEvent::Signature { index: 0, opaque: opaque() },
        StreamEvent::ToolCall { index: 0, id: big(), name: String::new(), opaque: None },
        StreamEvent::ToolCall { index: 0, id: String::new(), name: big(), opaque: None },
        StreamEvent::ToolCall { index: 0, id: String::new(), name: String::new(), opaque: Some(opaque()) },
        StreamEvent::Arguments { index: 0, json: big() },
        StreamEvent::Part { index: 0, part: Part::Image(crate::chat::Image { media }) },
        StreamEvent::Part {
            index: 0,
            part: Part::Other { dialect: Dialect::OpenAi, value: serde_json::Value::from(big()).into() },
        },
        StreamEvent::Start { id: Some(big()), model: None },
    ];
    for event in events {
        let name = format!("{event:?}");
        assert!(Frame::event(event).size() >= 10_000, "{name}");
    }
    let many = Frame::events_of(vec![StreamEvent::Other; 1000]);
    assert!(many.size() >= 1000 * size_of::<StreamEvent>());
}

// ---- permits ----

#[tokio::test]
async fn a_permit_is_settled_at_the_end_event_once() {
    let gate = Arc::new(Heard::default());
    let mut body = body([text("a"), event(StreamEvent::Usage(Usage::new(2, 3))), end()]);
    body.hold_permit(&mut gate.permit());
    body.frame().await.unwrap().unwrap();
    body.frame().await.unwrap().unwrap();
    assert_eq!(gate.all(), [""; 0]);
    body.frame().await.unwrap().unwrap();
    assert_eq!(gate.all(), ["answered 5"], "before the reader asks for more");
    assert!(body.frame().await.is_none());
    drop(body);
    assert_eq!(gate.all(), ["answered 5"]);
}

#[tokio::test]
async fn every_permit_of_a_broken_stream_hears_the_failure_once() {
    for (frames, heard) in [
        (vec![text("a"), broken()], "failed server"),
        (vec![text("a")], "failed stream_broken"),
        (vec![], "failed stream_broken"),
    ] {
        let gate = Arc::new(Heard::default());
        let mut body = body(frames);
        body.hold_permit(&mut gate.permit());
        body.hold_permit(&mut gate.permit());
        while body.frame().await.is_some() {}
        drop(body);
        assert_eq!(gate.all(), [heard; 2]);
    }
}

#[tokio::test]
async fn a_body_dropped_half_read_drops_its_permits() {
    let gate = Arc::new(Heard::default());
    let mut body = body([text("a"), text("b"), end()]);
    for _ in 0..8 {
        body.hold_permit(&mut gate.permit());
    }
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(gate.all(), ["dropped"; 8]);
}

#[test]
fn a_complete_answer_settles_a_permit_at_once() {
    let gate = Arc::new(Heard::default());
    let mut message = Message::assistant("a");
    message.usage = Some(Usage::new(1, 1));
    let mut body = LlmBody::from_message(message);
    body.hold_permit(&mut gate.permit());
    assert_eq!(gate.all(), ["answered 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_permit_of_a_silent_stream_hears_of_the_timeout() {
    let gate = Arc::new(Heard::default());
    let mut body = provider([(1, text("a"))]);
    body.hold_permit(&mut gate.permit());
    body.limit_idle(&limits(5, 0, 0));
    assert_eq!(drain(body).await.0, 6);
    assert_eq!(gate.all(), ["failed timeout"]);
}

// ---- silences ----

fn fired(error: Option<LlmError>) -> (TimeoutLimit, Duration) {
    let timed_out = error.expect("the stream fell silent").timeout().expect("a limit of ours fired");
    assert_eq!(timed_out.phase, Phase::Body);
    (timed_out.limit, timed_out.after)
}

#[tokio::test(start_paused = true)]
async fn byte_idle_fires_when_nothing_comes() {
    let mut body = provider([(3, text("a")), (9, text("b"))]);
    body.limit_idle(&limits(10, 0, 0));
    let (after, error) = drain(body).await;
    assert_eq!((after, fired(error)), (22, (TimeoutLimit::ByteIdle, Duration::from_secs(10))));
}

#[tokio::test(start_paused = true)]
async fn progress_idle_fires_when_silent() {
    let mut body = provider([(1, text("a"))]);
    body.limit_idle(&limits(60, 10, 300));
    let (after, error) = drain(body).await;
    assert_eq!((after, fired(error)), (11, (TimeoutLimit::ProgressIdle, Duration::from_secs(10))));
}

#[tokio::test(start_paused = true)]
async fn a_silence_over_equal_limits_is_one_of_bytes() {
    let mut body = provider([(1, text("a"))]);
    body.limit_idle(&limits(60, 60, 300));
    assert_eq!(fired(drain(body).await.1), (TimeoutLimit::ByteIdle, Duration::from_secs(60)));
}

#[tokio::test(start_paused = true)]
async fn keep_alives_stretch_to_the_ceiling_and_no_further() {
    let pings = (0..1000).map(|_| (4, event(StreamEvent::KeepAlive)));
    let mut body = provider([(1, text("a"))].into_iter().chain(pings));
    body.limit_idle(&limits(5, 10, 60));
    let (after, error) = drain(body).await;
    assert_eq!((after, fired(error)), (61, (TimeoutLimit::ProgressIdle, Duration::from_secs(60))));
}

#[tokio::test(start_paused = true)]
async fn keep_alives_and_empty_deltas_do_not_count_as_progress_but_content_does() {
    let empty = || event(StreamEvent::Text { index: 0, text: String::new() });
    let says = [(8, empty()), (8, text("a")), (8, empty()), (8, event(StreamEvent::KeepAlive)), (8, empty())];
    let mut body = provider(says);
    body.limit_idle(&limits(0, 10, 20));
    let (after, error) = drain(body).await;
    assert_eq!((after, fired(error)), (36, (TimeoutLimit::ProgressIdle, Duration::from_secs(20))));
}

#[tokio::test(start_paused = true)]
async fn keep_alives_from_before_the_content_stretch_nothing_after_it() {
    let mut body = provider([(1, event(StreamEvent::KeepAlive)), (1, text("a"))]);
    body.limit_idle(&limits(0, 10, 300));
    let (after, error) = drain(body).await;
    assert_eq!((after, fired(error)), (12, (TimeoutLimit::ProgressIdle, Duration::from_secs(10))));
}

#[tokio::test(start_paused = true)]
async fn keep_alives_satisfy_byte_idle() {
    let pings = (0..20).map(|_| (4, event(StreamEvent::KeepAlive)));
    let mut body = provider(pings.chain([(1, end())]));
    body.limit_idle(&limits(5, 0, 0));
    let (after, error) = drain(body).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(after, 81);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_not_a_silent_provider() {
    let says = [(0, text("a")), (1, event(StreamEvent::KeepAlive)), (1, text("b")), (1, event(StreamEvent::KeepAlive))];
    let mut body = provider(says.into_iter().chain([(1, text("c")), (1, end())]));
    body.limit_idle(&limits(5, 5, 5));
    while let Some(frame) = body.frame().await {
        frame.unwrap();
        sleep(Duration::from_secs(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_left_in_the_middle_of_a_wait_is_not_a_silent_provider() {
    let says = [(1, text("a")), (2, event(StreamEvent::KeepAlive)), (200, text("b")), (1, end())];
    let mut body = provider(says);
    body.limit_idle(&limits(0, 60, 150));
    body.frame().await.unwrap().unwrap();
    assert!(poll(&mut body).is_pending());
    // Other work takes the reader's time; the keep-alive has long arrived when the reader returns.
    sleep(Duration::from_secs(190)).await;
    while let Some(frame) = body.frame().await {
        frame.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_in_small_pieces_is_one_wait() {
    let mut body = provider([(1, text("a"))]);
    body.limit_idle(&limits(10, 0, 0));
    body.frame().await.unwrap().unwrap();
    let begun = Instant::now();
    let error = loop {
        if let Ok(frame) = tokio::time::timeout(Duration::from_secs(3), body.frame()).await {
            break frame.unwrap().unwrap_err();
        }
    };
    assert_eq!((begun.elapsed().as_secs(), error.kind()), (10, ErrorKind::Timeout));
}

#[tokio::test(start_paused = true)]
async fn the_nearest_of_two_limits_wins() {
    for (one, two) in [(10, 50), (50, 10), (0, 10), (10, 0)] {
        let mut body = provider([]);
        body.limit_idle(&limits(one, 0, 0));
        body.limit_idle(&limits(two, 0, 0));
        assert_eq!(drain(body).await.0, 10);
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_there_wins_over_the_timer() {
    let frames = stream::iter([text("a"), end()]).then(|frame| async {
        sleep(Duration::from_secs(10)).await;
        frame
    });
    let mut body = LlmBody::from_frames(frames);
    body.limit_idle(&limits(10, 10, 10));
    assert!(drain(body).await.1.is_none());
}

#[tokio::test(start_paused = true)]
async fn limits_at_the_edges_of_a_duration_are_safe() {
    let mut body = provider([(1, text("a")), (1, end())]);
    let limits = |limit| IdleLimits { bytes: Some(limit), progress: Some(limit), ceiling: Some(limit) };
    body.limit_idle(&limits(Duration::MAX));
    assert!(drain(body).await.1.is_none());

    let mut body = provider([(1, text("a")), (1, end())]);
    body.limit_idle(&limits(Duration::ZERO));
    assert_eq!(drain(body).await.1.unwrap().kind(), ErrorKind::Timeout);
}

// ---- what it costs ----

#[test]
fn a_stream_costs_a_constant_number_of_allocations() {
    let cost = |n: usize| {
        let frames: Vec<Item> = (0..n).map(|_| text("a token")).chain([end()]).collect();
        allocation_counter::measure(move || {
            let mut body = LlmBody::from_frames(stream::iter(frames));
            while let Poll::Ready(Some(frame)) = poll(&mut body) {
                frame.unwrap();
            }
        })
        .count_total
    };
    assert_eq!(cost(10), cost(1000));
    assert!(cost(10) <= 2, "{}", cost(10));
}

#[test]
fn what_layers_add_to_a_stream_allocates_nothing() {
    let mut body = body([text("a"), end()]);
    let gate = Arc::new(Heard::default());
    let measured = allocation_counter::measure(|| {
        for _ in 0..6 {
            body.hold_permit(&mut gate.permit());
        }
        body.limit_idle(&limits(10, 10, 10));
    });
    assert_eq!(measured.count_total, 0);
}
