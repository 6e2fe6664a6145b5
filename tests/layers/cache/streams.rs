//! Streams are kept as streams.

use std::time::Duration;

use steadfast::{
    CacheLayer, CacheReason, ErrorKind, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, StreamEvent, provider_fn,
};
use tower::Layer;

use crate::cache::provider::{Provider, call, frames, text};

fn ask() -> LlmRequest {
    LlmRequest::prompt("hello").with_stream(true)
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_replayed_frame_by_frame_and_byte_by_byte() {
    let provider = Provider::new().pace(Duration::from_secs(1));
    let layer = CacheLayer::new();
    let llm = layer.layer(provider.service());
    let first = call(&llm, ask()).await.unwrap();
    assert!(first.cached().is_none());
    let first = frames(first).await;
    let again = call(&llm, ask()).await.unwrap();
    assert!(again.body().arrives_in_frames());
    assert_eq!(frames(again).await, first);
    assert_eq!((first.0.len(), provider.calls(), provider.running()), (4, 1, 0));
    assert!(layer.handle().bytes() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_answers_who_wants_it_whole_and_the_other_way_round() {
    let provider = Provider::new();
    let llm = CacheLayer::new().layer(provider.service());
    let said = text(&llm, ask()).await;
    let whole = call(&llm, ask().with_stream(false)).await.unwrap();
    assert!(!whole.body().arrives_in_frames());
    assert!(whole.usage().is_some());
    assert_eq!(whole.text().await.unwrap(), said);

    let other = || LlmRequest::prompt("another");
    let said = text(&llm, other()).await;
    let streamed = call(&llm, other().with_stream(true)).await.unwrap();
    let (bytes, events) = frames(streamed).await;
    assert!(bytes.is_empty(), "a whole answer's bytes are not a stream's");
    assert!(events.contains(&StreamEvent::Text { index: 0, text: said }) && events.contains(&StreamEvent::End));
    assert_eq!(provider.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_left_half_read_is_not_kept_and_holds_nothing() {
    let provider = Provider::new().pace(Duration::from_secs(1));
    let layer = CacheLayer::new();
    let llm = layer.layer(provider.service());
    let mut half = call(&llm, ask()).await.unwrap();
    half.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(provider.running(), 1);
    drop(half);
    assert_eq!((provider.running(), layer.handle().len()), (0, 0));
    assert!(text(&llm, ask()).await.ends_with("of 2"));
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_it_streams_reads_along_from_the_beginning() {
    let provider = Provider::new().pace(Duration::from_secs(1));
    let llm = CacheLayer::new().layer(provider.service());
    let mut first = call(&llm, ask()).await.unwrap();
    first.body_mut().frame().await.unwrap().unwrap();
    let second = call(&llm, ask()).await.unwrap();
    assert_eq!(second.cached().unwrap().reason, CacheReason::Shared);
    assert_eq!(second.served_by().to_string(), "openai (gpt-4o, 1 attempt)");
    let (rest, whole) = tokio::join!(frames(first), frames(second));
    assert_eq!((rest.0.len(), whole.0.len()), (3, 4));
    assert_eq!(&whole.0[1..], rest.0);
    assert_eq!(text(&llm, ask()).await, "0 of 1, 1 of 1, 2 of 1");
    assert_eq!(provider.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_reads_along_is_not_held_up_by_one_who_is_slow_or_leaves() {
    for leaves in [false, true] {
        let provider = Provider::new().pace(Duration::from_secs(1));
        let llm = CacheLayer::new().layer(provider.service());
        let mut first = call(&llm, ask()).await.unwrap();
        first.body_mut().frame().await.unwrap().unwrap();
        // It waits for the next frame, so that it is the one whom the stream would wake.
        let mut waiting = tokio_test::task::spawn(async move {
            first.body_mut().frame().await;
            first
        });
        assert!(waiting.poll().is_pending());
        let second = call(&llm, ask()).await.unwrap();
        if leaves {
            drop(waiting);
            assert_eq!(text(&llm, ask().with_stream(false)).await, "0 of 1, 1 of 1, 2 of 1");
            assert_eq!(frames(second).await.0.len(), 4);
        } else {
            assert_eq!(frames(second).await.0.len(), 4, "though nobody polls the first any more");
            drop(waiting);
        }
        assert_eq!((provider.calls(), provider.running()), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_breaks_for_all_who_read_it_and_is_not_kept() {
    let provider = Provider::new().breaks().pace(Duration::from_secs(1));
    let layer = CacheLayer::new();
    let llm = layer.layer(provider.service());
    let first = call(&llm, ask()).await.unwrap();
    let (second, whole) = (call(&llm, ask()).await.unwrap(), call(&llm, ask().with_stream(false)));
    let (first, second, whole) = tokio::join!(first.text(), second.text(), whole);
    for error in [first.unwrap_err(), second.unwrap_err(), whole.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::StreamBroken);
    }
    assert_eq!((provider.calls(), layer.handle().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_began_anew_is_handed_on_and_not_kept() {
    let leaf = provider_fn(|_| {
        let events = [
            StreamEvent::Text { index: 0, text: "half".into() },
            StreamEvent::Restarted { reason: ErrorKind::StreamBroken },
            StreamEvent::Text { index: 0, text: "whole".into() },
            StreamEvent::End,
        ];
        let frames = futures_util::stream::iter(events.map(|event| Ok(Frame::event(event))));
        std::future::ready(Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(frames))))
    });
    let layer = CacheLayer::new();
    assert_eq!(text(&layer.layer(leaf), ask()).await, "whole");
    assert_eq!(layer.handle().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_falls_far_behind_in_a_large_answer_gets_an_error() {
    let provider = Provider::new().frames(500);
    let llm = CacheLayer::new().max_answer(10_000).layer(provider.service());
    let mut slow = call(&llm, ask()).await.unwrap();
    slow.body_mut().frame().await.unwrap().unwrap();
    let quick = call(&llm, ask()).await.unwrap();
    assert_eq!(frames(quick).await.0.len(), 501);
    let error = slow.text().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StreamBroken);
    assert!(error.message().contains("fell too far behind"), "{error}");
}

/// On real threads: whoever reads finds each frame, in order, whoever else reads, waits or leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_threads_read_one_stream_and_leave_it_as_they_like() {
    for round in 0..100 {
        let leaf = provider_fn(|_| async {
            let frames = futures_util::stream::unfold(0_u32, |place| async move {
                // Pending each time, and woken from another thread now and then.
                match place % 3 {
                    0 => tokio::task::yield_now().await,
                    _ => drop(tokio::spawn(async {}).await),
                }
                let frame = match place {
                    0..20 => Frame::text(format!("{place} ")),
                    20 => Frame::event(StreamEvent::End),
                    _ => return None,
                };
                Some((Ok(frame), place + 1))
            });
            Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(frames)))
        });
        let llm = CacheLayer::new().layer(leaf);
        let readers: Vec<_> = (0..24)
            .map(|reader| {
                let llm = llm.clone();
                tokio::spawn(async move {
                    let mut response = call(&llm, ask()).await.unwrap();
                    if reader % 4 == 0 {
                        for _ in 0..(reader + round) % 21 {
                            response.body_mut().frame().await;
                        }
                        return None;
                    }
                    Some(response.text().await.unwrap())
                })
            })
            .collect();
        let whole: String = (0..20).map(|place| format!("{place} ")).collect();
        for reader in readers {
            let read = tokio::time::timeout(Duration::from_secs(60), reader).await.expect("nobody waits for ever");
            assert!(read.unwrap().is_none_or(|read| read == whole));
        }
    }
}
