//! Tests of internals: no call and no reader is left behind.

use std::time::Duration;

use tokio_test::task;
use tower::{Layer, ServiceExt};

use super::{CacheHandle, CacheLayer};
use crate::{ErrorKind, LlmError, LlmRequest, layers::testing::Strict};

fn under_way(handle: &CacheHandle) -> usize {
    handle.shared.flights.len()
}

fn ask() -> LlmRequest {
    LlmRequest::prompt("hello")
}

#[tokio::test(start_paused = true)]
async fn however_a_call_ends_it_is_under_way_no_longer() {
    let layer = CacheLayer::new();
    let handle = layer.handle();
    let fails = Strict::new().fails(1, LlmError::new(ErrorKind::Server, "")).takes(Duration::from_secs(1));
    let llm = layer.layer(fails.clone());
    llm.clone().oneshot(ask()).await.unwrap_err();
    assert_eq!(under_way(&handle), 0, "it failed");
    llm.clone().oneshot(ask()).await.unwrap();
    assert_eq!((under_way(&handle), handle.len()), (0, 1), "it answered");
    handle.clear();

    let mut leader = task::spawn(llm.clone().oneshot(ask()));
    let mut followers: Vec<_> = (0..5).map(|_| task::spawn(llm.clone().oneshot(ask()))).collect();
    assert!(leader.poll().is_pending() && followers.iter_mut().all(|follower| follower.poll().is_pending()));
    assert_eq!((under_way(&handle), fails.running()), (1, 1));
    drop(followers.split_off(2));
    drop(leader);
    assert_eq!((under_way(&handle), fails.running()), (1, 0), "two wait for somebody to call");
    assert!(followers.iter_mut().all(|follower| follower.poll().is_pending()));
    assert_eq!(fails.running(), 1, "one does");
    drop(followers);
    assert_eq!((under_way(&handle), fails.running()), (0, 0), "all have left");
}

#[tokio::test(start_paused = true)]
async fn a_service_is_called_only_when_it_is_ready_and_its_place_is_its_own() {
    let strict = Strict::new().pending(3);
    let llm = CacheLayer::new().layer(strict.clone());
    let both = tokio::join!(llm.clone().oneshot(ask()), llm.clone().oneshot(ask()));
    both.0.unwrap();
    both.1.unwrap();
    assert_eq!(strict.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_dropped_before_its_first_poll_leaves_nothing() {
    let layer = CacheLayer::new();
    let handle = layer.handle();
    let mut llm = layer.layer(Strict::new());
    for _ in 0..3 {
        let ready = llm.ready().await.unwrap();
        drop(tower::Service::call(ready, ask()));
        assert_eq!(under_way(&handle), 0);
    }
    llm.oneshot(ask()).await.unwrap();
}
