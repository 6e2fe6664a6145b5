//! Tests of limits that a request brings along.

use std::error::Error as _;

use super::*;

fn limits(limits: Limits) -> CallerLimits {
    CallerLimits::new(BulkheadLayer::new().default_limit(limits))
}

fn reached(error: &LlmError) -> bool {
    error.source().is_some_and(|source| source.is::<CallerLimitReached>())
}

#[tokio::test(start_paused = true)]
async fn each_caller_has_its_own_places_and_who_brings_no_limits_has_none() {
    let mut llm = CallerBulkheadLayer::new().layer(Silent);
    let (ada, bob) = (limits(Limits::new(1)), limits(Limits::new(1)));
    let mut running = task::spawn(llm.call(ask("chat").with_extension(ada.clone())));
    assert_pending!(running.poll());
    let refused = llm.call(ask("chat").with_extension(ada.clone())).await.unwrap_err();
    assert_eq!((refused.kind(), reached(&refused)), (ErrorKind::BulkheadFull, true));
    for others in [ask("chat").with_extension(bob), ask("chat"), ask("chat")] {
        assert_pending!(task::spawn(llm.call(others)).poll());
    }
    drop(running);
    assert_pending!(task::spawn(llm.call(ask("chat").with_extension(ada))).poll());
}

#[tokio::test(start_paused = true)]
async fn a_place_is_held_until_the_answer_ends_and_a_rate_knows_the_wait() {
    let (response, feed) = streamed();
    let response = std::sync::Arc::new(std::sync::Mutex::new(Some(response)));
    let leaf = provider_fn(move |_| {
        let response = response.lock().unwrap().take();
        async move { response.ok_or_else(|| LlmError::new(ErrorKind::Server, "no more")) }
    })
    .inner_commits();
    let mut llm = CallerBulkheadLayer::new().layer(leaf);
    let own = limits(Limits::new(1).requests_per_minute(2));
    let mut response = llm.call(ask("chat").with_extension(own.clone())).await.unwrap();
    assert!(reached(&llm.call(ask("chat").with_extension(own.clone())).await.unwrap_err()));
    feed.send(Ok(Frame::event(StreamEvent::End))).unwrap();
    response.body_mut().frame().await.unwrap().unwrap();
    let failed = llm.call(ask("chat").with_extension(own.clone())).await.unwrap_err();
    assert_eq!((failed.kind(), reached(&failed)), (ErrorKind::Server, false), "its place was free");
    let refused = llm.call(ask("chat").with_extension(own)).await.unwrap_err();
    assert_eq!((reached(&refused), refused.retry_after()), (true, Some(30 * SECOND)));
}

#[tokio::test(start_paused = true)]
async fn shared_limits_hold_above_each_callers_own() {
    let mut llm = CallerBulkheadLayer::new().layer(Silent);
    let layer = |limits| BulkheadLayer::new().default_limit(limits);
    let (own, shared) = (layer(Limits::new(1).tokens_per_minute(1_000_000)), layer(Limits::new(2)));
    let (tokens, places) = (own.handle(), shared.handle());
    let ada = CallerLimits::new(own).within(shared.clone());
    let (bob, eve) = (CallerLimits::shared(shared.clone()), limits(Limits::new(9)).within(shared));
    let ask = |limits: &CallerLimits| ask("chat").with_extension(limits.clone());
    let in_flight = |handle: &BulkheadHandle| handle.snapshot().iter().map(|load| load.in_flight).sum::<usize>();
    let source = |error: &LlmError| *error.source().unwrap().downcast_ref::<CallerLimitReached>().unwrap();

    let mut of_ada = task::spawn(llm.call(ask(&ada)));
    assert_pending!(of_ada.poll());
    // Her own limit comes first, and takes nothing of the others'.
    let refused = llm.call(ask(&ada)).await.unwrap_err();
    assert_eq!((source(&refused).is_shared(), in_flight(&places)), (false, 1));
    let mut of_bob = task::spawn(llm.call(ask(&bob)));
    assert_pending!(of_bob.poll());
    for limits in [&bob, &eve] {
        let refused = llm.call(ask(limits)).await.unwrap_err();
        assert_eq!((refused.kind(), source(&refused).is_shared()), (ErrorKind::BulkheadFull, true));
    }
    // A caller that leaves gives both places back; a refusal above gives back what the caller's own limits took.
    drop(of_ada);
    assert_eq!((in_flight(&tokens), in_flight(&places)), (0, 1));
    let mut of_eve = task::spawn(llm.call(ask(&eve)));
    assert_pending!(of_eve.poll());
    let left = |handle: &BulkheadHandle| handle.default_levels()[1].unwrap().left;
    let before = left(&tokens);
    assert!(source(&llm.call(ask(&ada)).await.unwrap_err()).is_shared());
    assert_eq!((in_flight(&tokens), left(&tokens)), (0, before));
}
