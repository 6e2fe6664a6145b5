//! Streams: read along, read to their end, cut.

use std::time::Duration;

use steadfast::{CacheReason, ErrorKind, IdempotencyLayer};
use tokio::time::{Instant, sleep};
use tower::Layer;

use crate::{
    cache::provider::{Provider, call, frames, text},
    idempotency::{SECOND, ask, stream},
};

#[tokio::test(start_paused = true)]
async fn a_follower_reads_a_stream_from_its_beginning_and_then_live() {
    let provider = Provider::new().pace(SECOND).frames(6);
    let layer = IdempotencyLayer::new();
    let llm = layer.layer(provider.service());
    let mut first = call(&llm, stream()).await.unwrap();
    for _ in 0..3 {
        first.body_mut().frame().await.unwrap().unwrap();
    }
    let mut second = call(&llm, stream()).await.unwrap();
    assert_eq!(second.cached().unwrap().reason, CacheReason::Shared);
    let begun = Instant::now();
    for _ in 0..3 {
        second.body_mut().frame().await.unwrap().unwrap();
    }
    assert_eq!(begun.elapsed(), Duration::ZERO, "what was said is there at once");
    // The follower is faster than the one who called, and a third wants it whole.
    let (rest, whole) = tokio::join!(frames(second), call(&llm, ask()));
    assert_eq!(rest.0.len(), 4);
    let whole = whole.unwrap().text().await.unwrap();
    assert_eq!(whole, "0 of 1, 1 of 1, 2 of 1, 3 of 1, 4 of 1, 5 of 1");
    // The one who called is slower than all, and reads on at its own pace.
    sleep(100 * SECOND).await;
    assert_eq!(frames(first).await.0, rest.0);
    let replayed = call(&llm, stream()).await.unwrap();
    assert_eq!((replayed.cached().unwrap().reason, replayed.body().arrives_in_frames()), (CacheReason::Replayed, true));
    assert_eq!((frames(replayed).await.0.len(), provider.calls(), layer.handle().under_way()), (7, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_all_have_left_is_read_to_its_end_for_the_retry() {
    let provider = Provider::new().pace(SECOND).frames(20);
    let layer = IdempotencyLayer::new().grace(60 * SECOND);
    let llm = layer.layer(provider.service());
    let mut first = call(&llm, stream()).await.unwrap();
    first.body_mut().frame().await.unwrap().unwrap();
    drop(first);
    sleep(5 * SECOND).await;
    // One who comes back reads along, and leaves again.
    let mut back = call(&llm, stream()).await.unwrap();
    back.body_mut().frame().await.unwrap().unwrap();
    drop(back);
    sleep(60 * SECOND).await;
    assert_eq!((provider.running(), layer.handle().under_way(), layer.handle().stats().late), (0, 0, 1));
    assert!(text(&llm, ask()).await.ends_with("19 of 1"));
    assert_eq!(provider.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_end_is_left_when_the_grace_is_over() {
    let provider = Provider::new().pace(50 * SECOND).frames(20);
    let layer = IdempotencyLayer::new().grace(60 * SECOND);
    let llm = layer.layer(provider.service());
    drop(call(&llm, stream()).await.unwrap());
    sleep(61 * SECOND).await;
    assert_eq!((provider.running(), layer.handle().under_way()), (0, 0));
    assert!(text(&llm, stream()).await.ends_with("19 of 2"));
}

#[tokio::test(start_paused = true)]
async fn a_cut_stream_is_the_same_honest_error_for_all_and_nothing_is_kept() {
    let provider = Provider::new().pace(SECOND).breaks();
    let layer = IdempotencyLayer::new();
    let llm = layer.layer(provider.service());
    let first = call(&llm, stream()).await.unwrap();
    let second = call(&llm, stream()).await.unwrap();
    let (first, second, whole) = tokio::join!(first.text(), second.text(), call(&llm, ask()));
    for error in [first.unwrap_err(), second.unwrap_err(), whole.unwrap_err()] {
        assert_eq!((error.kind(), error.message()), (ErrorKind::StreamBroken, "to order"));
    }
    sleep(SECOND).await;
    assert_eq!((layer.handle().stats().kept, layer.handle().under_way()), (0, 0));
    drop(call(&llm, stream()).await.unwrap());
    assert_eq!(provider.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_too_large_to_keep_reaches_its_reader_whole_and_frees_the_key() {
    let provider = Provider::new().pace(SECOND).frames(50);
    let layer = IdempotencyLayer::new().max_answer(200);
    let llm = layer.layer(provider.service());
    let first = call(&llm, stream()).await.unwrap();
    let (first, again) = tokio::join!(frames(first), async {
        sleep(30 * SECOND).await;
        assert_eq!(layer.handle().under_way(), 0, "nothing is held for a retry that could not have it");
        call(&llm, stream()).await.unwrap()
    });
    assert_eq!((first.0.len(), again.cached(), provider.calls()), (51, None, 2));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_what_nobody_reads_and_waits_for_who_does() {
    let provider = Provider::new().pace(SECOND).frames(20);
    let layer = IdempotencyLayer::new();
    let llm = layer.layer(provider.service());
    drop(call(&llm, stream()).await.unwrap());
    let read = call(&llm, stream().with_idempotency_key("k-2")).await.unwrap();
    assert_eq!(provider.running(), 2);
    let (handle, begun) = (layer.handle(), Instant::now());
    tokio::join!(handle.close(), frames(read), async {
        sleep(SECOND).await;
        assert_eq!(provider.running(), 1);
    });
    assert_eq!((provider.running(), begun.elapsed()), (0, 21 * SECOND));
    // The stream that was left has given its key back; the one that was read is kept.
    assert!(text(&llm, stream().with_idempotency_key("k-2")).await.ends_with("19 of 2"));
    assert!(text(&llm, stream()).await.ends_with("19 of 3"));
}
