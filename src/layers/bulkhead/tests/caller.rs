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
