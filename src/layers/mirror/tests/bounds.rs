//! Tests of the number of mirrored requests under way, and of their end.

use super::*;
use crate::providers::Canned;
use tokio::runtime::Handle;
use tower::Layer;

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn beyond_the_bound_requests_are_answered_and_counted_but_not_mirrored() {
    let candidate = Strict::new().takes(SECOND * 10);
    let (layer, told, handle) = mirror(candidate.clone());
    let events = Events::new();
    let mut heard = events.subscribe();
    let llm = layer.events(events).layer(Canned::text("hello"));
    for _ in 0..25 {
        llm.clone().oneshot(prompt()).await.unwrap();
    }
    sleep(SECOND).await;
    assert_eq!(not_compared(&mut heard), [ComparisonSkipReason::Full; 15]);
    assert_eq!((handle.under_way(), candidate.running(), handle.stats().full), (10, 10, 15));
    ended(&handle).await;
    llm.oneshot(prompt()).await.unwrap();
    ended(&handle).await;
    assert_eq!((told.all().len(), candidate.calls(), tasks()), (11, 11, 0));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_keeps_its_body_unread_keeps_no_place_for_ever() {
    let (layer, told, handle) = mirror(Strict::new().takes(SECOND * 3));
    let events = Events::new();
    let mut heard = events.subscribe();
    let layer = layer.timeout(SECOND * 5).events(events);
    let mut response = layer.layer(streams(SECOND, SECOND, hello())).oneshot(prompt()).await.unwrap();
    sleep(SECOND * 6).await;
    assert_eq!(handle.under_way(), 1);
    sleep(SECOND * 3).await;
    assert_eq!((handle.under_way(), handle.stats().unpaired, told.all().len()), (0, 1, 0));
    assert_eq!(not_compared(&mut heard), [ComparisonSkipReason::Unpaired]);
    let mut text = 0;
    while let Some(frame) = response.body_mut().frame().await {
        text += usize::from(frame.unwrap().progress() >= crate::Progress::Content);
    }
    assert_eq!(text, 3, "and reads on as if nothing were");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_layer_ends_nothing_and_closing_it_everything() {
    let candidate = Strict::new().takes(SECOND * 30);
    let (layer, told, handle) = mirror(candidate.clone());
    layer.layer(Canned::text("hello")).oneshot(prompt()).await.unwrap();
    drop(layer);
    let one = told.one(&handle).await;
    assert_eq!(one.candidate.took, SECOND * 30);

    let (layer, told, handle) = mirror(candidate.clone());
    let llm = layer.layer(streams(SECOND, SECOND, hello()));
    let response = llm.clone().oneshot(prompt()).await.unwrap();
    assert_eq!((candidate.running(), handle.under_way()), (1, 1));
    handle.close().await;
    assert_eq!((candidate.running(), handle.under_way(), tasks()), (0, 0, 0));
    assert_eq!(response.text().await.unwrap(), "hello");
    assert_eq!(llm.oneshot(prompt()).await.unwrap().text().await.unwrap(), "hello");
    assert_eq!((told.all().len(), candidate.calls(), handle.stats().full), (0, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn one_that_takes_the_place_of_another_shares_its_places_and_counts() {
    let candidate = Strict::new().takes(SECOND * 30);
    let (before, told, handle) = mirror(candidate.clone());
    before.layer(Canned::text("hello")).oneshot(prompt()).await.unwrap();
    let after = told.hears(MirrorLayer::new(candidate).share(1.0).max_in_flight(1).state(&handle));
    let llm = after.layer(Canned::text("hello"));
    llm.clone().oneshot(prompt()).await.unwrap();
    assert_eq!((handle.under_way(), handle.stats().full), (1, 1));
    ended(&handle).await;
    llm.oneshot(prompt()).await.unwrap();
    ended(&handle).await;
    assert_eq!((told.all().len(), after.handle().stats().compared), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_slow_sink_keeps_its_place_so_that_no_queue_grows() {
    let gate = Arc::new(Mutex::new(0));
    let seen = gate.clone();
    let layer = MirrorLayer::new(Canned::text("hello")).share(1.0);
    let handle = layer.handle();
    let under_way = handle.clone();
    let layer = layer.compare(move |_| *seen.lock().unwrap() += under_way.under_way());
    layer.layer(Canned::text("hello")).oneshot(prompt()).await.unwrap();
    ended(&handle).await;
    assert_eq!(*gate.lock().unwrap(), 1, "while it is told, the request is under way");
}

#[tokio::test(start_paused = true)]
async fn a_mirror_inside_of_a_candidate_leaves_the_copy_alone() {
    let innermost = Strict::new();
    let (inner, told_inner, _) = mirror(innermost.clone());
    let (layer, told, handle) = mirror(inner.layer(Canned::text("hello")));
    layer.layer(Canned::text("hello")).oneshot(prompt()).await.unwrap();
    ended(&handle).await;
    assert_eq!((told.all().len(), told_inner.all().len(), innermost.calls()), (1, 0, 0));
}
