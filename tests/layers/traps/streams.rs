//! Streams that are slow, break, or are dropped at odd moments.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use steadfast::{
    BulkheadLayer, CircuitBreakerLayer, CommitOnFirstTokenLayer, CommitPoint, ErrorKind, FallbackLayer, Frame, LlmBody,
    LlmError, LlmResponse, RetryWithJitterLayer, StreamEvent, TimeoutLayer,
    error::TimeoutLimit,
    events::CircuitState,
    layers::fallback::{FeaturePolicy, StreamBreak},
    provider_fn,
    providers::Canned,
};
use tokio::time::{Instant, sleep};
use tokio_test::{assert_pending, task};
use tower::{Layer, ServiceBuilder, ServiceExt};

use crate::traps::fixtures::{Does, Fake, ask, breaks, end, error, event, millis, secs, text};

// 30. livekit #6171, litellm #38610: keep-alives and a role without content pass for the first token.
#[tokio::test(start_paused = true)]
async fn pings_a_start_and_empty_deltas_are_no_first_token_and_reach_nobody() {
    let chatter = || {
        let start = StreamEvent::Start { id: Some("1".into()), model: None };
        let mut says = vec![event(secs(1), start), text(secs(1), "")];
        says.extend((0..100).map(|_| event(secs(1), StreamEvent::KeepAlive)));
        says
    };
    let primary = Fake::new(move |_| Does::Streams(chatter()));
    let second = Fake::new(|_| {
        let start = StreamEvent::Start { id: Some("2".into()), model: None };
        Does::Streams(vec![
            event(secs(1), start),
            event(secs(1), StreamEvent::KeepAlive),
            text(secs(1), "hello"),
            end(secs(1)),
        ])
    });
    let tier = |leaf: &Fake| {
        ServiceBuilder::new()
            .layer(TimeoutLayer::new(secs(90)).first_token(secs(10)))
            .layer(CommitOnFirstTokenLayer::new())
            .service(leaf.clone())
    };
    let llm = FallbackLayer::new("sonnet").tier("gpt", tier(&second)).layer(tier(&primary));
    let start = Instant::now();
    let mut answer = llm.oneshot(ask().with_stream(true)).await.unwrap();
    assert_eq!((answer.served_by().tier, start.elapsed(), primary.alive()), (Some("gpt"), secs(13), 0));
    assert_eq!(answer.attempts()[0].failure, Some(ErrorKind::Timeout));
    let first = answer.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(first.events()[0], StreamEvent::Start { id: Some("2".into()), model: None });
    assert_eq!(answer.text().await.unwrap(), "hello");
}

// 12. GATEWAY 4, 47: an error in the second event, under a 200, is a service error like any other.
#[tokio::test(start_paused = true)]
async fn an_error_before_the_first_token_is_retried_counted_and_failed_over() {
    let leaf = Fake::new(|_| {
        let start = StreamEvent::Start { id: None, model: None };
        Does::Streams(vec![event(Duration::ZERO, start), breaks(Duration::ZERO, ErrorKind::Overloaded)])
    });
    let layer = CircuitBreakerLayer::new("sonnet");
    let circuit = layer.handle();
    let llm = ServiceBuilder::new()
        .layer(FallbackLayer::new("sonnet").tier("gpt", Fake::answers()))
        .layer(RetryWithJitterLayer::new().seed(1))
        .layer(layer)
        .layer(CommitOnFirstTokenLayer::new())
        .service(leaf.clone());
    let answer = llm.oneshot(ask().with_stream(true)).await.unwrap();
    assert_eq!((answer.served_by().tier, answer.served_by().attempts), (Some("gpt"), 4));
    assert_eq!((leaf.calls(), circuit.consecutive_failures()), (3, 3));
}

// 28. The broken answer is let go of before the next tier is asked, however long that takes.
#[tokio::test(start_paused = true)]
async fn while_the_next_tier_is_asked_nothing_of_the_broken_stream_is_held() {
    let primary = Fake::new(|_| Does::Streams(vec![text(secs(1), "hel"), breaks(secs(1), ErrorKind::Server)]));
    let slow = Fake::answers_after(secs(20));
    let llm = FallbackLayer::new("sonnet")
        .tier("gpt", slow)
        .default_policy(FeaturePolicy::new().stream_break(StreamBreak::Restart))
        .layer(primary.clone());
    let answer = llm.oneshot(ask().with_stream(true)).await.unwrap();
    let read = tokio::spawn(answer.text());
    sleep(secs(10)).await;
    assert_eq!(primary.alive(), 0, "in the middle of the second tier's call");
    assert_eq!(read.await.unwrap().unwrap(), "hello");
}

// GATEWAY 13. litellm #32835: partial content, then the whole again, without a mark.
#[tokio::test(start_paused = true)]
async fn a_restart_is_marked_tells_each_circuit_and_ends_when_no_tier_is_left() {
    let cut = |name: &'static str| {
        Fake::new(move |_| Does::Streams(vec![text(secs(1), name), breaks(secs(1), ErrorKind::Server)]))
    };
    let (first, second) = (CircuitBreakerLayer::new("a"), CircuitBreakerLayer::new("b"));
    let (one, two) = (first.handle(), second.handle());
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(30)))
        .layer(RetryWithJitterLayer::new())
        .layer(
            FallbackLayer::new("a")
                .tier("b", second.layer(cut("b")))
                .default_policy(FeaturePolicy::new().stream_break(StreamBreak::Restart)),
        )
        .layer(first)
        .service(cut("a"));
    let mut answer = llm.oneshot(ask().with_stream(true)).await.unwrap();
    let mut seen = Vec::new();
    let failure = loop {
        match answer.body_mut().frame().await.unwrap() {
            Ok(frame) => seen.extend(frame.events().to_vec()),
            Err(error) => break error,
        }
    };
    let said = |name: &str| StreamEvent::Text { index: 0, text: name.into() };
    assert_eq!(seen, [said("a"), StreamEvent::Restarted { reason: ErrorKind::Server }, said("b")]);
    assert_eq!((failure.kind(), failure.attempts().len()), (ErrorKind::Server, 2));
    assert_eq!([one.consecutive_failures(), two.consecutive_failures()], [1, 1]);
    assert!(answer.body_mut().frame().await.is_none(), "and that is the end");
}

// 36, 37. Dropped after any number of polls, through every kind of break policy, a stream leaves nothing behind.
#[tokio::test(start_paused = true)]
async fn a_stream_dropped_after_any_number_of_polls_leaves_no_place_taken() {
    for policy in [StreamBreak::Fail, StreamBreak::Restart, StreamBreak::Buffer] {
        for polls in 0..40 {
            let leaf = Fake::new(|call| match call {
                0 => Does::Streams(vec![
                    text(millis(100), "a"),
                    text(millis(100), "b"),
                    breaks(millis(100), ErrorKind::Server),
                ]),
                1 => Does::FailsAfter(millis(100), error(ErrorKind::Server)),
                _ => Does::Streams(vec![text(millis(100), "c"), text(millis(100), "d"), end(millis(100))]),
            });
            let (bulkhead, breaker) = (BulkheadLayer::new().feature("chat", 1), CircuitBreakerLayer::new("a"));
            let (places, circuit) = (bulkhead.handle(), breaker.handle());
            let llm = ServiceBuilder::new()
                .layer(TimeoutLayer::new(secs(30)))
                .layer(bulkhead)
                .layer(
                    FallbackLayer::new("a")
                        .tier("b", leaf.clone())
                        .tier("c", leaf.clone())
                        .default_policy(FeaturePolicy::new().stream_break(policy)),
                )
                .layer(breaker)
                .layer(CommitOnFirstTokenLayer::new())
                .service(leaf.clone());
            let read = async {
                let mut body = llm.oneshot(ask().with_stream(true)).await?.into_body();
                while let Some(frame) = body.frame().await {
                    frame?;
                }
                Ok::<_, LlmError>(())
            };
            let mut read = task::spawn(read);
            for _ in 0..polls {
                if read.poll().is_ready() {
                    break;
                }
                tokio::time::advance(millis(25)).await;
            }
            drop(read);
            assert_eq!((places.in_flight("chat"), leaf.alive()), (0, 0), "{policy:?} after {polls} polls");
            assert_eq!(circuit.state(), CircuitState::Closed);
        }
    }
}

// A frame's future that is dropped while it waits loses nothing.
#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_waiting_and_comes_back_misses_nothing() {
    let leaf =
        Fake::new(|_| Does::Streams((0..20).map(|n| text(secs(1), &n.to_string())).chain([end(secs(1))]).collect()));
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(30)))
        .layer(BulkheadLayer::new())
        .layer(
            FallbackLayer::new("a")
                .tier("b", Fake::answers())
                .default_policy(FeaturePolicy::new().stream_break(StreamBreak::Restart)),
        )
        .layer(CommitOnFirstTokenLayer::new())
        .service(leaf);
    let mut body = llm.oneshot(ask().with_stream(true)).await.unwrap().into_body();
    let mut said = String::new();
    loop {
        match tokio::time::timeout(millis(300), body.frame()).await {
            Ok(Some(frame)) => {
                for event in frame.unwrap().events() {
                    if let StreamEvent::Text { text, .. } = event {
                        said.push_str(text);
                    }
                }
            }
            Ok(None) => break,
            Err(_) => {}
        }
    }
    assert_eq!(said, (0..20).map(|n| n.to_string()).collect::<String>());
}

// GATEWAY 15: after the end there is an end, for ever, and nothing spins.
#[tokio::test(start_paused = true)]
async fn a_body_polled_after_its_end_is_at_its_end_through_all_layers() {
    for broken in [false, true] {
        let leaf = Fake::new(move |_| {
            let last = if broken { breaks(secs(1), ErrorKind::Server) } else { end(secs(1)) };
            Does::Streams(vec![text(secs(1), "a"), last])
        });
        for policy in [StreamBreak::Fail, StreamBreak::Restart] {
            let llm = ServiceBuilder::new()
                .layer(TimeoutLayer::new(secs(30)))
                .layer(BulkheadLayer::new())
                .layer(FallbackLayer::new("a").default_policy(FeaturePolicy::new().stream_break(policy)))
                .layer(CommitOnFirstTokenLayer::new())
                .service(leaf.clone());
            let mut body = llm.oneshot(ask().with_stream(true)).await.unwrap().into_body();
            while body.next().await.is_some() {}
            for _ in 0..100 {
                let mut again = task::spawn(body.frame());
                assert!(matches!(again.poll(), Poll::Ready(None)));
                assert!(!again.is_woken());
            }
        }
    }
}

// RELIABILITY bug 12: keep-alives re-arm the idle timer for ever; and the mirror, a slow reader is no silent provider.
#[tokio::test(start_paused = true)]
async fn a_stream_of_nothing_but_pings_ends_at_the_ceiling_and_fails_over_if_it_may() {
    let pinging = || {
        Fake::new(|_| {
            let pings = (0..10_000).map(|_| event(secs(5), StreamEvent::KeepAlive));
            Does::Streams([text(secs(1), "hel")].into_iter().chain(pings).collect())
        })
    };
    for (policy, text) in
        [(StreamBreak::Fail, None), (StreamBreak::Restart, Some("later")), (StreamBreak::Buffer, Some("later"))]
    {
        let tier = TimeoutLayer::new(secs(600)).idle(secs(20)).progress(secs(30), secs(120)).layer(pinging());
        let llm = FallbackLayer::new("a")
            .tier("b", Canned::text("later"))
            .default_policy(FeaturePolicy::new().stream_break(policy))
            .layer(tier);
        let start = Instant::now();
        let read = async { llm.oneshot(ask().with_stream(true)).await?.text().await };
        match (read.await, text) {
            (Ok(read), Some(text)) => assert_eq!(read, text, "{policy:?}"),
            (Err(error), None) => assert_eq!(error.timeout().unwrap().limit, TimeoutLimit::ProgressIdle),
            (read, _) => panic!("{policy:?}: {read:?}"),
        }
        assert!(start.elapsed() <= secs(122), "{policy:?}: {:?}", start.elapsed());
    }
}

// A user's own stream that panics takes only its own answer with it.
#[tokio::test(start_paused = true)]
async fn a_stream_that_panics_gives_back_what_its_answer_held() {
    let leaf = provider_fn(|_| async {
        let frames = stream::iter(0..3).map(|n| if n < 2 { Ok(Frame::text("a")) } else { panic!("in a stream") });
        Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(frames)))
    });
    let bulkhead = BulkheadLayer::new().feature("chat", 1);
    let places = bulkhead.handle();
    let llm = ServiceBuilder::new()
        .layer(bulkhead)
        .layer(FallbackLayer::new("a").default_policy(FeaturePolicy::new().stream_break(StreamBreak::Restart)))
        .layer(CircuitBreakerLayer::new("a"))
        .service(leaf);
    for _ in 0..20 {
        let answer = llm.clone().oneshot(ask().with_stream(true)).await.unwrap();
        assert!(tokio::spawn(answer.text()).await.unwrap_err().is_panic());
        assert_eq!(places.in_flight("chat"), 0);
    }
}

// A stream that polls something of the stack when it is dropped must not meet a lock that is held.
#[tokio::test(start_paused = true)]
async fn a_stream_whose_drop_looks_at_the_stack_does_not_deadlock() {
    type Look = Arc<Mutex<Option<Box<dyn Fn() + Send>>>>;
    struct Looks(Look);
    impl Stream for Looks {
        type Item = Result<Frame, LlmError>;
        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Pending
        }
    }
    impl Drop for Looks {
        fn drop(&mut self) {
            if let Some(look) = &*self.0.lock().unwrap() {
                look();
            }
        }
    }
    let look = Look::default();
    let leaf = {
        let look = look.clone();
        provider_fn(move |_| {
            let frames = Looks(look.clone());
            async { Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(frames))) }
        })
        .inner_commits()
    };
    let (bulkhead, breaker) =
        (BulkheadLayer::new().feature("chat", 1), CircuitBreakerLayer::new("a").consecutive_failures(1));
    let (places, circuit) = (bulkhead.handle(), breaker.handle());
    *look.lock().unwrap() = Some(Box::new(move || {
        places.set_limit("chat", 3).unwrap();
        circuit.force_open();
        circuit.reset();
        assert_eq!(circuit.state(), CircuitState::Closed);
    }));
    let llm = ServiceBuilder::new().layer(TimeoutLayer::new(secs(5))).layer(bulkhead).layer(breaker).service(leaf);
    let mut answer = llm.clone().oneshot(ask().with_stream(true)).await.unwrap();
    assert_pending!(task::spawn(answer.body_mut().frame()).poll());
    drop(answer);
    assert!(llm.oneshot(ask().with_stream(true)).await.unwrap().text().await.is_err(), "idle");
}

// The commit point holds an answer back; who leaves meanwhile is gone at once.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_held_back_is_let_go_of_with_its_caller() {
    let leaf = Fake::new(|_| Does::Streams(vec![text(secs(1), "a"), text(secs(100), "b"), end(secs(1))]));
    let llm = ServiceBuilder::new()
        .layer(BulkheadLayer::new())
        .layer(CommitOnFirstTokenLayer::new().at(CommitPoint::Complete))
        .service(leaf.clone());
    assert!(tokio::time::timeout(secs(50), llm.oneshot(ask().with_stream(true))).await.is_err());
    assert_eq!(leaf.alive(), 0);
}
