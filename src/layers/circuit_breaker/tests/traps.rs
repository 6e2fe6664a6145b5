//! Failures of other breakers, each as a sentence with its test.

use std::{pin::pin, task::Poll};

use tokio_test::{assert_pending, task};
use tower::{Layer as _, Service as _};

use super::*;
use crate::{Classifier, Event, classify::Count, events::CircuitState};

#[tokio::test(start_paused = true)]
async fn future_built_while_closed_and_dropped_after_the_cooldown_leaves_room_for_the_probe() {
    let leaf = Strict::new().takes(SECOND).script([Ok(()), Err(server())]);
    let mut bench = Bench::new(layer().consecutive_failures(1), leaf);
    let mut built_while_closed = task::spawn(bench.service.call(LlmRequest::prompt("x")));
    bench.fails(ErrorKind::Server).await;
    tokio::time::advance(COOLDOWN).await;
    assert_pending!(built_while_closed.poll());
    drop(built_while_closed);
    bench.answers().await;
    assert_eq!(bench.handle.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn dropped_probe_frees_its_place_at_once() {
    let mut bench = Bench::opened(layer(), Strict::new().takes(SECOND)).await;
    tokio::time::advance(COOLDOWN).await;
    for polls in 0..20 {
        let mut probe = task::spawn(bench.service.call(LlmRequest::prompt("x")));
        for _ in 0..polls % 3 {
            assert_pending!(probe.poll());
        }
        bench.fails(ErrorKind::CircuitOpen).await;
        drop(probe);
        assert_eq!(bench.handle.state(), CircuitState::HalfOpen);
    }
    bench.answers().await;
}

#[tokio::test(start_paused = true)]
async fn probe_dropped_while_the_inner_service_is_not_ready_frees_its_place() {
    let never_ready = Strict::new().pending(usize::MAX).fails_readiness(1);
    let mut bench = Bench::new(layer().consecutive_failures(1), never_ready);
    bench.fails(ErrorKind::Other).await;
    tokio::time::advance(COOLDOWN).await;
    for _ in 0..10 {
        let mut probe = task::spawn(bench.service.call(LlmRequest::prompt("x")));
        assert_pending!(probe.poll());
        bench.fails(ErrorKind::CircuitOpen).await;
    }
    assert_eq!(bench.leaf.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn probe_that_never_ends_is_replaced_after_its_lease() {
    let mut bench = Bench::opened(layer().probe_lease(10 * SECOND), Strict::new().takes(1000 * SECOND)).await;
    tokio::time::advance(COOLDOWN).await;
    let mut stuck = task::spawn(bench.service.call(LlmRequest::prompt("x")));
    assert_pending!(stuck.poll());
    tokio::time::advance(10 * SECOND).await;
    let mut replacement = task::spawn(bench.service.call(LlmRequest::prompt("x")));
    assert_pending!(replacement.poll());
    assert_eq!(bench.leaf.running(), 2);
    bench.fails(ErrorKind::CircuitOpen).await;
}

#[tokio::test(start_paused = true)]
async fn neutral_error_of_a_probe_frees_its_place_and_the_next_call_is_a_probe() {
    let kinds = [ErrorKind::NotFound, ErrorKind::BulkheadFull, ErrorKind::Deadline, ErrorKind::UnsupportedFeature];
    let mut bench = Bench::opened(layer(), Strict::new()).await;
    bench.leaf = bench.leaf.script(kinds.map(|kind| Err(error(kind))));
    tokio::time::advance(COOLDOWN).await;
    for kind in kinds {
        bench.fails(kind).await;
        assert_eq!(bench.handle.state(), CircuitState::HalfOpen);
    }
    assert_eq!(crowd(&bench.service, 10).await, 10, "the first of them closed it");
}

#[tokio::test(start_paused = true)]
async fn invalid_request_of_a_probe_does_not_close() {
    let kinds =
        [ErrorKind::InvalidRequest, ErrorKind::TooLarge, ErrorKind::ContextLength, ErrorKind::Refusal, ErrorKind::Auth];
    let mut bench = Bench::opened(layer(), Strict::new()).await;
    bench.leaf = bench.leaf.script(kinds.map(|kind| Err(error(kind))));
    tokio::time::advance(COOLDOWN).await;
    for kind in kinds {
        bench.fails(kind).await;
        assert_eq!(bench.handle.state(), CircuitState::HalfOpen);
    }
}

#[tokio::test(start_paused = true)]
async fn hundred_callers_at_the_end_of_the_cooldown_make_exactly_the_probes() {
    for probes in [1, 3] {
        let bench = Bench::opened(layer().probes(probes), Strict::new().takes(SECOND)).await;
        tokio::time::advance(COOLDOWN).await;
        assert_eq!(crowd(&bench.service, 100).await, probes as usize);
        assert_eq!(bench.leaf.calls(), 1 + probes as usize);
        assert_eq!(bench.handle.state(), CircuitState::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn stale_success_does_not_close_and_stale_failure_does_not_open() {
    for stale in [Ok(()), Err(server())] {
        let leaf = Strict::new().takes(SECOND).script([stale, Err(server())]);
        let mut bench = Bench::new(layer().consecutive_failures(1), leaf);
        let mut slow = task::spawn(bench.service.call(LlmRequest::prompt("slow")));
        assert_pending!(slow.poll());
        bench.fails(ErrorKind::Server).await;
        tokio::time::advance(COOLDOWN).await;
        let mut probe = task::spawn(bench.service.call(LlmRequest::prompt("probe")));
        assert_pending!(probe.poll());

        assert!(slow.poll().is_ready());
        assert_eq!(bench.handle.state(), CircuitState::HalfOpen);
        tokio::time::advance(SECOND).await;
        assert!(probe.poll().is_ready());
        assert_eq!(bench.handle.state(), CircuitState::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn late_failures_neither_extend_the_outage_nor_tell_of_it_again() {
    let leaf = Strict::new().takes(SECOND).fails(50, server());
    let bench = Bench::new(layer().consecutive_failures(1), leaf);
    let mut events = bench.handle.subscribe();
    let reopens = tokio::time::Instant::now() + SECOND + COOLDOWN;
    assert_eq!(crowd(&bench.service, 50).await, 50);
    assert_eq!(bench.handle.earliest_probe(), Some(reopens));
    let Ok(Event::CircuitChanged { to: CircuitState::Open, .. }) = events.try_recv() else {
        panic!("opened");
    };
    let rest: Vec<Event> = std::iter::from_fn(|| events.try_recv().ok()).collect();
    assert!(rest.iter().all(|event| matches!(event, Event::LateResult { .. })), "told once: {rest:?}");
}

#[tokio::test(start_paused = true)]
async fn second_outage_begins_at_the_base_cooldown() {
    let growing = layer().cooldown_growth(4.0, 100 * COOLDOWN).cooldown_jitter(0.0);
    let mut bench = Bench::opened(growing, Strict::new()).await;
    bench.leaf = bench.leaf.script([Err(server()), Ok(()), Err(server())]);
    tokio::time::advance(COOLDOWN).await;
    bench.fails(ErrorKind::Server).await;
    assert_eq!(bench.fails(ErrorKind::CircuitOpen).await.retry_after(), Some(4 * COOLDOWN));
    tokio::time::advance(4 * COOLDOWN).await;
    bench.answers().await;
    bench.fails(ErrorKind::Server).await;
    assert_eq!(bench.fails(ErrorKind::CircuitOpen).await.retry_after(), Some(COOLDOWN));
}

#[tokio::test(start_paused = true)]
async fn callers_mistakes_do_not_count_and_a_500_about_a_parameter_does() {
    let mistakes = [
        ErrorKind::InvalidRequest,
        ErrorKind::NotFound,
        ErrorKind::TooLarge,
        ErrorKind::ContextLength,
        ErrorKind::ContentPolicy,
        ErrorKind::Auth,
    ];
    let mut bench = Bench::new(layer(), Strict::new());
    for kind in mistakes {
        bench.leaf = bench.leaf.fails(20, error(kind));
        for _ in 0..20 {
            bench.fails(kind).await;
        }
        assert_eq!(bench.handle.state(), CircuitState::Closed, "{kind}");
    }
    bench.leaf = bench.leaf.fails(5, LlmError::new(ErrorKind::Server, "unsupported parameter"));
    for _ in 0..5 {
        bench.fails(ErrorKind::Server).await;
    }
    assert_eq!(bench.handle.state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn forced_open_circuit_rejects_at_once_over_a_service_that_is_never_ready() {
    let mut bench = Bench::new(layer(), Strict::new().pending(usize::MAX));
    bench.handle.force_open();
    let error = bench.fails(ErrorKind::CircuitOpen).await;
    assert_eq!(error.retry_after(), None);
    assert_eq!((bench.leaf.polled_ready(), bench.leaf.calls()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn open_circuit_never_touches_the_inner_service() {
    let mut bench = Bench::opened(layer(), Strict::new()).await;
    let touched = (bench.leaf.polled_ready(), bench.leaf.calls());
    for _ in 0..100 {
        bench.fails(ErrorKind::CircuitOpen).await;
    }
    assert_eq!((bench.leaf.polled_ready(), bench.leaf.calls()), touched);
}

#[tokio::test(start_paused = true)]
async fn panicking_classifier_disables_no_later_call() {
    let panics_at_400 = Classifier::overridden(|error, class| {
        assert_ne!(error.kind(), ErrorKind::InvalidRequest, "a bug in the callback");
        class
    });
    let mut bench = Bench::opened(layer().classifier(panics_at_400), Strict::new()).await;
    bench.leaf = bench.leaf.fails(1, error(ErrorKind::InvalidRequest));
    tokio::time::advance(COOLDOWN).await;
    let mut service = bench.service.clone();
    let probe = tokio::spawn(async move { call(&mut service).await.map(drop) }).await;
    assert!(probe.expect_err("panicked").is_panic());
    bench.answers().await;
    assert_eq!(bench.handle.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn panicking_provider_frees_the_place_of_its_probe() {
    let layer = layer().consecutive_failures(1);
    let handle = layer.handle();
    let mut calls = 0;
    let leaf = crate::provider_fn(move |_| {
        calls += 1;
        let call = calls;
        async move {
            assert_ne!(call, 2, "a bug in the leaf");
            if call == 1 { Err(server()) } else { Ok(LlmResponse::from_text("hello")) }
        }
    });
    // One instance for all calls, since the closure counts its own.
    let mut service = layer.layer(leaf);
    service.call(LlmRequest::prompt("x")).await.expect_err("opens it");
    tokio::time::advance(COOLDOWN).await;
    let probe = tokio::spawn(service.call(LlmRequest::prompt("x"))).await;
    assert!(probe.expect_err("panicked").is_panic());
    assert_eq!(handle.state(), CircuitState::HalfOpen);
    service.call(LlmRequest::prompt("x")).await.expect("an answer");
    assert_eq!(handle.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn readiness_failure_counts_and_the_service_goes_on() {
    let mut bench = Bench::new(layer().consecutive_failures(2), Strict::new().fails_readiness(2));
    bench.fails(ErrorKind::Other).await;
    bench.fails(ErrorKind::Other).await;
    bench.fails(ErrorKind::CircuitOpen).await;
    tokio::time::advance(COOLDOWN).await;
    bench.answers().await;
}

#[tokio::test(start_paused = true)]
async fn waiting_call_does_not_wake_itself() {
    let mut bench = Bench::new(layer(), Strict::new().takes(SECOND));
    let mut call = task::spawn(bench.service.call(LlmRequest::prompt("x")));
    assert_pending!(call.poll());
    for _ in 0..10 {
        tokio::task::yield_now().await;
        assert!(!call.is_woken());
    }
    bench.handle.force_open();
    let mut refused = pin!(bench.service.call(LlmRequest::prompt("x")));
    let mut idle = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(matches!(refused.as_mut().poll(&mut idle), Poll::Ready(Err(_))));
}

#[tokio::test(start_paused = true)]
async fn steady_fifth_of_failures_is_no_outage_by_rate() {
    let by_rate =
        layer().consecutive_failures(0).failure_rate(0.5, crate::layers::circuit_breaker::Window::last_calls(100));
    let fifth = Classifier::overridden(|_, mut class| {
        class.circuit = Count::Failure;
        class
    });
    let leaf = Strict::new().script((0..5000).map(|n| if n % 5 == 0 { Err(server()) } else { Ok(()) }));
    let mut bench = Bench::new(by_rate.classifier(fifth), leaf);
    for _ in 0..5000 {
        let _ = bench.call().await;
    }
    assert_eq!(bench.leaf.calls(), 5000);
}
