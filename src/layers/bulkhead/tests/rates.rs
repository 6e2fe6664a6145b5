//! Tests of requests and tokens in a minute.

use super::*;

fn chat(max_tokens: u32) -> LlmRequest {
    LlmRequest::from(Chat::new([Message::user("")]).max_tokens(max_tokens)).with_feature("chat")
}

/// A leaf whose answers took so many tokens.
fn uses(tokens: u64) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone {
    provider_fn(move |_| async move {
        let mut message = Message::assistant("hello");
        message.usage = Some(Usage::new(tokens, 0));
        Ok::<_, Infallible>(LlmResponse::from_message(message))
    })
}

#[tokio::test(start_paused = true)]
async fn a_request_over_the_rate_is_refused_with_the_exact_time_to_wait() {
    let layer = BulkheadLayer::new().feature("chat", Limits::new(9).requests_per_minute(Rate::from(60).burst(2)));
    let mut llm = layer.layer(Strict::new());
    assert!(llm.call(ask("chat")).await.is_ok() && llm.call(ask("chat")).await.is_ok());
    tokio::time::advance(Duration::from_millis(300)).await;
    let error = llm.call(ask("chat")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BulkheadFull);
    assert_eq!(error.message(), r#"feature "chat": over its rate of requests, 0 in flight (limit 9)"#);
    assert_eq!(error.retry_after(), Some(Duration::from_millis(700)));
    assert_eq!(layer.handle().in_flight("chat"), 0, "its place is free again");

    tokio::time::advance(Duration::from_nanos(699_999_999)).await;
    assert!(llm.call(ask("chat")).await.is_err(), "a nanosecond early");
    tokio::time::advance(Duration::from_nanos(1)).await;
    assert!(llm.call(ask("chat")).await.is_ok());
    assert!(llm.call(ask("other")).await.is_ok(), "no other feature is concerned");
}

#[tokio::test(start_paused = true)]
async fn a_rate_of_0_is_closed_and_no_time_is_worth_waiting_for() {
    let layer = BulkheadLayer::new().feature("chat", Limits::new(9).requests_per_minute(0).queue(5));
    let error = layer.layer(Strict::new()).call(ask("chat")).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::BulkheadFull, None));
}

#[tokio::test(start_paused = true)]
async fn tokens_are_charged_by_estimate_and_corrected_by_use() {
    let limits = Limits::new(9).tokens_per_minute(600);
    let mut llm = BulkheadLayer::new().feature("chat", limits).layer(uses(100));
    // Each is charged 500 at first, and 100 in the end.
    for _ in 0..2 {
        assert!(llm.call(chat(500)).await.is_ok());
    }
    let error = llm.call(chat(500)).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(10 * SECOND), "400 are left, and 10 come in a second");
    assert!(llm.call(chat(400)).await.is_ok());

    // More was used than estimated: the rest is owed.
    let mut llm = BulkheadLayer::new().feature("chat", limits).layer(uses(900));
    assert!(llm.call(chat(100)).await.is_ok());
    let error = llm.call(chat(100)).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(40 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_charged_when_its_usage_is_known() {
    let (response, feed) = streamed();
    let response = std::sync::Mutex::new(Some(response));
    let response = std::sync::Arc::new(response);
    let leaf = provider_fn(move |_| {
        let response = response.lock().unwrap().take();
        async move { response.ok_or_else(|| LlmError::new(ErrorKind::Other, "no more")) }
    })
    .inner_commits();
    let mut llm = BulkheadLayer::new().feature("chat", Limits::new(9).tokens_per_minute(600)).layer(leaf);
    let mut response = llm.call(chat(600)).await.unwrap();
    feed.send(Ok(Frame::text("hello"))).unwrap();
    response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(llm.call(chat(60)).await.unwrap_err().kind(), ErrorKind::BulkheadFull);
    feed.send(Ok(Frame::events_of(vec![StreamEvent::Usage(Usage::new(300, 240)), StreamEvent::End]))).unwrap();
    response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(llm.call(chat(60)).await.unwrap_err().kind(), ErrorKind::Other, "it came through to the leaf");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_left_or_breaks_is_charged_with_what_came() {
    let left = |events: Vec<Result<StreamEvent, ErrorKind>>| async move {
        let (response, feed) = streamed();
        let response = std::sync::Arc::new(std::sync::Mutex::new(Some(response)));
        let leaf = provider_fn(move |_| {
            let response = response.lock().unwrap().take();
            async move { response.ok_or_else(|| LlmError::new(ErrorKind::Other, "no more")) }
        })
        .inner_commits();
        let mut llm = BulkheadLayer::new().feature("chat", Limits::new(9).tokens_per_minute(6000)).layer(leaf);
        let mut response = llm.call(chat(1000)).await.unwrap();
        for event in events {
            feed.send(event.map(Frame::event).map_err(|kind| LlmError::new(kind, "scripted"))).unwrap();
            let _ = response.body_mut().frame().await;
        }
        drop(response);
        // The time until the bucket is full again: a hundred tokens come in a second.
        llm.call(chat(6000)).await.unwrap_err().retry_after().unwrap_or_default()
    };
    let said = |tokens: usize| Ok(StreamEvent::Text { index: 0, text: "word".repeat(tokens) });
    let told = || Ok(StreamEvent::Usage(Usage::new(200, 1)));
    assert_eq!(left(vec![told(), said(80_000)]).await, 802 * SECOND);
    assert_eq!(left(vec![said(80_000)]).await, 800 * SECOND);
    assert_eq!(left(vec![said(80_000), Err(ErrorKind::StreamBroken)]).await, 800 * SECOND);
    assert_eq!(left(vec![said(100)]).await, SECOND, "the rest of what was charged comes back");
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_costs_nothing_and_what_was_sent_does() {
    let limits = Limits::new(9).requests_per_minute(1).tokens_per_minute(600);
    let sent_by = |kind: ErrorKind| {
        let mut llm =
            BulkheadLayer::new().feature("chat", limits).layer(Strict::new().fails(1, LlmError::new(kind, "")));
        async move {
            assert_eq!(llm.call(chat(600)).await.unwrap_err().kind(), kind);
            llm.call(chat(600)).await.is_err()
        }
    };
    for kind in [ErrorKind::CircuitOpen, ErrorKind::Budget, ErrorKind::Deadline, ErrorKind::Connect] {
        assert!(!sent_by(kind).await, "{kind}");
    }
    for kind in [ErrorKind::RateLimited, ErrorKind::Timeout, ErrorKind::Server] {
        assert!(sent_by(kind).await, "{kind}");
    }
    // The provider counts the request that it refuses, and no tokens of an answer that it did not write.
    let limits = Limits::new(9).tokens_per_minute(600);
    for (kind, returns) in [(ErrorKind::InvalidRequest, true), (ErrorKind::NotFound, true), (ErrorKind::Server, false)]
    {
        let leaf = Strict::new().fails(1, LlmError::new(kind, ""));
        let mut llm = BulkheadLayer::new().feature("chat", limits).layer(leaf);
        assert_eq!(llm.call(chat(600)).await.unwrap_err().kind(), kind);
        assert_eq!(llm.call(chat(600)).await.is_ok(), returns, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_before_it_was_sent_it_costs_nothing() {
    let limits = Limits::new(9).requests_per_minute(1).tokens_per_minute(600);
    let mut llm = BulkheadLayer::new().feature("chat", limits).layer(Strict::new().pending(2).takes(SECOND));
    let mut readying = task::spawn(llm.call(chat(600)));
    assert_pending!(readying.poll());
    drop(readying);
    let mut calling = task::spawn(llm.call(chat(600)));
    for _ in 0..3 {
        assert_pending!(calling.poll());
    }
    drop(calling);
    assert_eq!(llm.call(chat(600)).await.unwrap_err().kind(), ErrorKind::BulkheadFull, "that one was sent");
}

#[tokio::test(start_paused = true)]
async fn with_a_queue_requests_are_paced_in_order() {
    let limits = Limits::new(9).requests_per_minute(Rate::from(60).burst(1)).queue(5).max_wait(3 * SECOND);
    let mut llm = BulkheadLayer::new().feature("chat", limits).layer(Strict::new());
    let begun = Instant::now();
    let calls: Vec<_> = (0..4).map(|_| llm.call(ask("chat"))).collect();
    let over = llm.call(ask("chat")).await.unwrap_err();
    assert_eq!(over.retry_after(), Some(4 * SECOND), "longer than it may wait: refused at once");
    let no_time = llm.call(ask("chat").with_timeout(SECOND)).await.unwrap_err();
    assert_eq!((no_time.kind(), begun.elapsed()), (ErrorKind::BulkheadFull, Duration::ZERO));
    for (n, call) in (0..).zip(calls) {
        call.await.unwrap();
        assert_eq!(begun.elapsed(), n * SECOND);
    }
    assert_eq!(llm.handle().in_flight("chat"), 0);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_its_pause_gives_its_share_back() {
    let limits = Limits::new(9).requests_per_minute(Rate::from(60).burst(1)).queue(5);
    let mut llm = BulkheadLayer::new().feature("chat", limits).layer(Strict::new());
    llm.call(ask("chat")).await.unwrap();
    for _ in 0..100 {
        assert_pending!(task::spawn(llm.call(ask("chat"))).poll());
    }
    let begun = Instant::now();
    llm.call(ask("chat")).await.unwrap();
    assert_eq!(begun.elapsed(), SECOND);
    assert_eq!(llm.handle().in_flight("chat"), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waited_for_a_place_is_paced_too() {
    let limits = Limits::new(1).requests_per_minute(Rate::from(6).burst(1)).queue(5).max_wait(60 * SECOND);
    let mut llm = BulkheadLayer::new().feature("chat", limits).layer(Strict::new().takes(SECOND));
    let begun = Instant::now();
    let (one, two) = (tokio::spawn(llm.call(ask("chat"))), tokio::spawn(llm.call(ask("chat"))));
    one.await.unwrap().unwrap();
    assert_eq!(begun.elapsed(), SECOND);
    two.await.unwrap().unwrap();
    assert_eq!(begun.elapsed(), 11 * SECOND, "ten seconds after the first, then its own");
}
