use futures_util::{StreamExt as _, stream};
use tokio_test::{assert_pending, assert_ready, task};

use super::*;
use crate::{
    Dialect,
    body::StreamEvent as E,
    chat::{Extra, ExtraOf, Part, Usage},
};

type Item = Result<Frame, LlmError>;

fn event(event: E) -> Item {
    Ok(Frame::event(event))
}

fn start() -> Item {
    event(E::Start { id: None, model: None })
}

fn thought(text: &str) -> Item {
    event(E::Reasoning { index: 0, text: text.into() })
}

fn ping() -> Item {
    event(E::KeepAlive)
}

fn finish(reason: FinishReason) -> Item {
    event(E::Finish(reason))
}

fn end() -> Item {
    event(E::End)
}

fn broken() -> Item {
    Err(LlmError::new(ErrorKind::Overloaded, "said under a 200"))
}

/// A commit over a stream that gives these items and then hangs.
fn commit(items: impl IntoIterator<Item = Item, IntoIter: Send + 'static>, point: CommitPoint) -> task::Spawn<Commit> {
    task::spawn(Commit::new(LlmBody::from_frames(stream::iter(items).chain(stream::pending())), point, None))
}

/// The kinds of the frames that are there at once.
fn there(body: &mut LlmBody) -> Vec<String> {
    let mut seen = Vec::new();
    let mut poll = || body.poll_frame(&mut Context::from_waker(std::task::Waker::noop()));
    while let Poll::Ready(Some(frame)) = poll() {
        seen.push(format!("{:?}", frame.expect("no frame is broken").events()[0]));
    }
    seen
}

#[test]
fn each_point_commits_on_its_own_event_and_on_none_before() {
    let steps = || [ping(), start(), thought("hm"), Ok(Frame::text("yes")), finish(FinishReason::Stop), end()];
    let points = [
        (CommitPoint::FirstEvent, 2),
        (CommitPoint::FirstToken, 3),
        (CommitPoint::FirstText, 4),
        (CommitPoint::Complete, 6),
    ];
    for (point, at) in points {
        assert_pending!(commit(steps().into_iter().take(at - 1), point).poll(), "{point:?}");
        let mut body = assert_ready!(commit(steps().into_iter().take(at), point).poll(), "{point:?}").unwrap();
        assert_eq!(there(&mut body).len(), at - 1, "all but the ping, {point:?}");
    }
}

#[test]
fn what_was_held_back_comes_first_and_the_rest_follows() {
    let items = [start(), Ok(Frame::text("a")), ping(), Ok(Frame::text("b")), finish(FinishReason::Stop), end()];
    let mut body = assert_ready!(commit(items, CommitPoint::FirstToken).poll()).unwrap();
    assert!(body.arrives_in_frames());
    assert_eq!(there(&mut body), ["Start", "Text(1 bytes)", "KeepAlive", "Text(1 bytes)", "Finish(Stop)", "End"]);
}

#[test]
fn empty_deltas_are_no_first_token() {
    let empty = || Ok(Frame::text(""));
    assert_pending!(commit([start(), empty(), thought(""), empty()], CommitPoint::FirstToken).poll());
    assert_pending!(commit([start(), thought("hm"), empty()], CommitPoint::FirstText).poll());
}

#[test]
fn a_tool_call_or_a_refusal_is_a_first_text() {
    let call = E::ToolCall { index: 0, id: "1".into(), name: "f".into(), opaque: None };
    for first in [call, E::Refusal { index: 0, text: "no".into() }] {
        assert!(assert_ready!(commit([start(), event(first)], CommitPoint::FirstText).poll()).is_ok());
    }
}

#[test]
fn an_error_before_the_point_is_the_calls_error() {
    for before in [vec![], vec![start()], vec![ping(), start(), Ok(Frame::text(""))]] {
        let items = before.into_iter().chain([broken()]);
        let error = assert_ready!(commit(items, CommitPoint::FirstToken).poll()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded);
    }
    let items = [start(), Ok(Frame::text("half")), broken()];
    assert!(assert_ready!(commit(items, CommitPoint::Complete).poll()).is_err());
}

#[tokio::test]
async fn an_error_after_the_point_is_the_readers() {
    let mut commit = commit([Ok(Frame::text("half")), broken()], CommitPoint::FirstToken);
    let body = assert_ready!(commit.poll()).unwrap();
    assert_eq!(body.collect().await.unwrap_err().kind(), ErrorKind::Overloaded);
}

#[test]
fn a_cut_before_the_point_is_a_broken_stream() {
    for items in [vec![], vec![start()], vec![start(), finish(FinishReason::Stop)]] {
        let body = LlmBody::from_frames(stream::iter(items));
        let error = assert_ready!(task::spawn(Commit::new(body, CommitPoint::FirstToken, None)).poll()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StreamBroken);
    }
}

#[tokio::test]
async fn a_body_that_was_read_to_its_end_has_nothing_to_commit() {
    let mut body = LlmBody::from_frames(stream::iter([Ok(Frame::text("a")), end()]));
    while body.frame().await.is_some() {}
    let error = Commit::new(body, CommitPoint::FirstToken, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StreamBroken);
}

#[test]
fn an_answer_of_reasoning_alone_is_empty_to_who_waits_for_text() {
    let items = [start(), thought("hm"), finish(FinishReason::Stop), end()];
    let error = assert_ready!(commit(items, CommitPoint::FirstText).poll()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EmptyAnswer);
}

#[test]
fn what_a_restart_discards_is_no_content() {
    let restarted = event(E::Restarted { reason: ErrorKind::StreamBroken });
    let items = [Ok(Frame::text("old")), finish(FinishReason::Length), restarted, end()];
    let error = assert_ready!(commit(items, CommitPoint::Complete).poll()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EmptyAnswer);
}

/// Polls as an executor would, and gives what came and how many polls it took.
fn drive(commit: &mut task::Spawn<Commit>) -> (Poll<Result<LlmBody, LlmError>>, usize) {
    for polls in 1.. {
        let poll = commit.poll();
        if poll.is_ready() || !commit.is_woken() {
            return (poll, polls);
        }
    }
    unreachable!("the range has no end")
}

/// The bytes of the keep-alives before the text that follows them.
fn kept_alive(pings: usize, ping: &'static str) -> String {
    let own = move || Ok(Frame::event(StreamEvent::KeepAlive).with_raw(Dialect::OpenAi, ping.into()));
    let pings = std::iter::repeat_with(own).take(pings);
    let (body, _) = drive(&mut commit(pings.chain([Ok(Frame::text("a"))]), CommitPoint::FirstToken));
    let mut body = assert_ready!(body).unwrap();
    let mut poll = || body.poll_frame(&mut Context::from_waker(std::task::Waker::noop()));
    let alive = assert_ready!(poll()).unwrap().unwrap();
    assert_eq!(alive.progress(), Progress::KeepAlive);
    assert_eq!(assert_ready!(poll()).unwrap().unwrap().progress(), Progress::Content);
    String::from_utf8(alive.raw().unwrap().1.to_vec()).unwrap()
}

#[test]
fn the_providers_own_pings_are_kept_however_many_came_before_the_first_token() {
    for pings in [1, 3, 700, 40_000] {
        assert_eq!(kept_alive(pings, ": OPENROUTER PROCESSING\n\n"), ": OPENROUTER PROCESSING\n\n".repeat(pings));
    }
}

#[test]
fn pings_that_no_memory_is_for_are_counted() {
    let kept = kept_alive(200_000, ": wait\n\n");
    let (pings, told) = kept.rsplit_once("\n\n: ").unwrap();
    assert!(kept.len() < HELD_ALIVE + 100, "{}", kept.len());
    let missing: usize = told.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(pings.len() + 2 + missing, 200_000 * ": wait\n\n".len());
    assert!(told.ends_with(" bytes of keep-alives are left out here\n\n"), "{told}");
}

#[test]
fn pings_before_the_first_token_are_waited_out_and_not_kept() {
    let pings = std::iter::repeat_with(ping).take(100_000);
    let (body, _) = drive(&mut commit(pings.chain([Ok(Frame::text("a"))]), CommitPoint::FirstEvent));
    assert_eq!(there(&mut assert_ready!(body).unwrap()), ["Text(1 bytes)"]);

    let pings = std::iter::repeat_with(ping).take(100_000);
    let mut waiting = commit(pings, CommitPoint::Complete);
    assert_pending!(drive(&mut waiting).0);
    assert_eq!(waiting.held.capacity(), 0);
}

#[test]
fn a_flood_that_never_pauses_lets_others_run() {
    let mut flooded = commit(std::iter::repeat_with(ping), CommitPoint::FirstToken);
    assert_pending!(flooded.poll());
    assert!(flooded.is_woken(), "it goes on in its next turn");
}

#[test]
fn a_flood_of_empty_events_is_no_first_token_and_takes_bounded_memory() {
    let raw = bytes::Bytes::from(vec![b'x'; 64 * 1024]);
    let empty = move || Ok(Frame::text("").with_raw(Dialect::OpenAi, raw.clone()));
    for point in [CommitPoint::FirstToken, CommitPoint::FirstText] {
        let mut waiting = commit(std::iter::repeat_with(empty.clone()).take(10_000), point);
        assert_pending!(drive(&mut waiting).0);
        assert!(waiting.bytes < HELD + 128 * 1024, "{}", waiting.bytes);
    }
}

#[test]
fn what_a_flood_says_is_kept_when_its_empty_events_are_not() {
    let raw = bytes::Bytes::from(vec![b'x'; 64 * 1024]);
    let empty = Frame::text("").with_raw(Dialect::OpenAi, raw.clone());
    let extra = Extra::new(Dialect::OpenAi, serde_json::Map::new());
    let part = StreamEvent::Part { index: 0, part: Part::Extra { of: ExtraOf::Part, extra } };
    let saying = [part, StreamEvent::Usage(Usage::new(5, 7))]
        .map(|event| Frame::event(event).with_raw(Dialect::OpenAi, raw.clone()));
    let frames = std::iter::repeat_n(empty.clone(), 100).chain(saying.clone()).chain([empty, Frame::text("a")]);
    let (body, _) = drive(&mut commit(frames.map(Ok), CommitPoint::FirstToken));
    let there = there(&mut assert_ready!(body).unwrap());
    assert!(there.len() < 25, "{}", there.len());
    assert!(there[there.len() - 3].contains("Part"), "{there:?}");
    assert!(there[there.len() - 2].contains("Usage"), "{there:?}");

    let flood = std::iter::repeat_n(saying[1].clone(), 2000).map(Ok);
    let error = assert_ready!(drive(&mut commit(flood, CommitPoint::FirstToken)).0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
}

#[test]
fn reasoning_is_held_back_up_to_a_limit_of_bytes() {
    let long = || thought(&"x".repeat(64 * 1024));
    assert_pending!(commit(std::iter::repeat_with(long).take(15), CommitPoint::FirstText).poll());
    let mut body = assert_ready!(commit(std::iter::repeat_with(long).take(17), CommitPoint::FirstText).poll()).unwrap();
    assert_eq!(there(&mut body).len(), 17);
}

#[test]
fn a_whole_answer_over_its_limit_is_malformed() {
    let raw = bytes::Bytes::from(vec![0; 1024 * 1024]);
    let long = move || Ok(Frame::text("x").with_raw(Dialect::OpenAi, raw.clone()));
    assert_pending!(drive(&mut commit(std::iter::repeat_with(long.clone()).take(63), CommitPoint::Complete)).0);
    let (result, _) = drive(&mut commit(std::iter::repeat_with(long).take(65), CommitPoint::Complete));
    let error = assert_ready!(result).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.message().contains("67108864"), "{error}");
}
