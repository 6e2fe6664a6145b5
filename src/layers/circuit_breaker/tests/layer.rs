//! Tests of the layer's promises beyond its state machine.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::time::{Instant, advance, sleep};
use tokio_test::{assert_pending, task};
use tower::{Layer as _, Service as _, ServiceBuilder, ServiceExt as _, limit::ConcurrencyLimitLayer};

use super::*;
use crate::{
    Event, Events, FallbackLayer, RetryWithJitterLayer, TimeoutLayer,
    events::{CircuitReason, CircuitState},
    layers::circuit_breaker::Window,
};

#[test]
fn everything_is_send_sync_clone_and_debug() {
    fn check<T: Send + Sync + Clone + std::fmt::Debug>() {}
    check::<CircuitBreakerLayer>();
    check::<CircuitBreaker<Strict>>();
    check::<CircuitBreakerHandle>();
    check::<Window>();
    fn sends<T: Send + std::fmt::Debug>(_: &T) {}
    let bench = Bench::new(layer(), Strict::new());
    let mut service = bench.service;
    sends(&service.call(LlmRequest::prompt("x")));
    fn spawns<T: Send + 'static>(_: &T) {}
    spawns(&bench.handle.probe_with(bench.leaf, LlmRequest::prompt("x"), SECOND));
}

#[tokio::test(start_paused = true)]
async fn request_and_response_pass_untouched() {
    let mut bench = Bench::new(layer(), Strict::new());
    let response =
        bench.service.call(LlmRequest::prompt("x").with_feature("chat").with_session("s")).await.expect("an answer");
    assert_eq!(response.text().await.expect("text"), "hello");
    let seen = bench.leaf.seen();
    assert_eq!((seen[0].feature(), seen[0].session()), (Some("chat"), Some("s")));
}

#[tokio::test(start_paused = true)]
async fn inner_error_arrives_as_it_was() {
    let cause = std::io::Error::other("wire cut");
    let mut bench = Bench::new(layer(), Strict::new().script([Err(server().with_source(cause))]));
    let error = bench.fails(ErrorKind::Server).await;
    assert!(std::error::Error::source(&error).expect("a cause").to_string().contains("wire cut"));
}

#[tokio::test(start_paused = true)]
async fn closed_circuit_allocates_nothing() {
    let layer = layer();
    let leaf = tower::service_fn(|_: LlmRequest| std::future::ready(Ok::<_, LlmError>(LlmResponse::from_text("hi"))));
    let mut service = layer.layer(leaf);
    let request = LlmRequest::prompt("x");
    let mut call = || {
        let future = std::pin::pin!(service.call(request.clone()));
        let mut idle = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(future.poll(&mut idle).is_ready());
    };
    call();
    let measured = allocation_counter::measure(|| (0..1000).for_each(|_| call()));
    assert_eq!(measured.count_total, 0);
}

#[tokio::test(start_paused = true)]
async fn services_of_one_layer_and_clones_share_the_circuit() {
    let layer = layer().consecutive_failures(2);
    let leaf = Strict::new().fails(2, server());
    let (mut one, mut two) = (layer.layer(leaf.clone()), layer.clone().layer(leaf.clone()));
    call(&mut one).await.expect_err("a failure");
    call(&mut two).await.expect_err("a failure");
    for service in [&mut one.clone(), &mut two, &mut layer.layer(leaf.clone())] {
        assert_eq!(call(service).await.expect_err("open").kind(), ErrorKind::CircuitOpen);
    }
    let mut other = layer.cooldown(SECOND).layer(leaf);
    call(&mut other).await.expect("a setting makes a layer of its own");
}

#[tokio::test(start_paused = true)]
async fn rejection_says_which_circuit_why_and_when_to_come_back() {
    let mut bench = Bench::opened(layer(), Strict::new()).await;
    advance(20 * SECOND).await;
    let error = bench.fails(ErrorKind::CircuitOpen).await;
    assert_eq!(error.retry_after(), Some(40 * SECOND));
    assert!(error.to_string().contains("circuit sonnet is open after too many failures in a row"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn call_dropped_at_every_await_point_leaves_nothing_behind() {
    for probes in [1, 4] {
        let leaf = Strict::new().pending(3).takes(SECOND);
        let mut bench = Bench::opened(layer().probes(probes), leaf).await;
        advance(COOLDOWN).await;
        let mut rng = fastrand::Rng::with_seed(9);
        for _ in 0..2000 {
            let mut calls: Vec<_> = (0..8).map(|_| task::spawn(bench.service.call(LlmRequest::prompt("x")))).collect();
            for call in &mut calls {
                for _ in 0..rng.usize(0..7) {
                    if call.poll().is_ready() {
                        break;
                    }
                }
            }
            rng.shuffle(&mut calls);
        }
        assert_eq!(bench.leaf.running(), 0);
        assert_eq!(bench.handle.state(), CircuitState::HalfOpen);
        // Every place is free.
        assert_eq!(crowd(&bench.service, 100).await, probes as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn pending_inner_service_is_waited_for_and_wakes() {
    let layer = layer();
    let stack = ServiceBuilder::new().layer(layer).layer(ConcurrencyLimitLayer::new(1));
    let mut service = stack.service(Strict::new().takes(SECOND));
    let mut first = task::spawn(service.call(LlmRequest::prompt("a")));
    assert_pending!(first.poll());
    let mut second = task::spawn(service.call(LlmRequest::prompt("b")));
    assert_pending!(second.poll());
    drop(first);
    assert!(second.is_woken());
    second.await.expect("an answer");
}

#[tokio::test(start_paused = true)]
async fn caller_who_leaves_says_nothing() {
    let mut bench = Bench::new(layer(), Strict::new().takes(SECOND));
    for _ in 0..100 {
        let mut call = task::spawn(bench.service.call(LlmRequest::prompt("x")));
        assert_pending!(call.poll());
    }
    assert_eq!((bench.handle.state(), bench.handle.consecutive_failures()), (CircuitState::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn hang_inside_of_the_attempts_timeout_opens() {
    let layer = layer();
    let stack = ServiceBuilder::new().layer(layer.clone()).layer(TimeoutLayer::new(30 * SECOND));
    let service = stack.service(Strict::new().takes(10_000 * SECOND));
    let call = || service.clone().oneshot(LlmRequest::prompt("x"));
    assert!(join_all((0..5).map(|_| call())).await.iter().all(Result::is_err));
    assert_eq!(call().await.expect_err("open").kind(), ErrorKind::CircuitOpen);
}

#[tokio::test(start_paused = true)]
async fn hang_that_a_fallback_or_a_timeout_further_out_cuts_off_opens() {
    let layer = layer();
    let hanging = layer.layer(Strict::new().takes(10_000 * SECOND));
    let fallback = FallbackLayer::new("a").tier("b", Strict::new()).layer(hanging.clone());
    for _ in 0..5 {
        let request = LlmRequest::prompt("x").with_timeout(20 * SECOND);
        let served = fallback.clone().oneshot(request).await.expect("the other tier answers");
        assert_eq!(served.served_by().tier, Some("b"));
    }
    assert_eq!(layer.handle().state(), CircuitState::Open);

    layer.handle().reset();
    let timeout = TimeoutLayer::new(20 * SECOND).layer(hanging);
    assert!(
        join_all((0..5).map(|_| timeout.clone().oneshot(LlmRequest::prompt("x")))).await.iter().all(Result::is_err)
    );
    assert_eq!(layer.handle().state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn callers_who_leave_before_their_time_is_up_do_not_open() {
    let layer = layer();
    let hanging = layer.layer(Strict::new().takes(10_000 * SECOND));
    for _ in 0..20 {
        let call = hanging.clone().oneshot(LlmRequest::prompt("x").with_timeout(20 * SECOND));
        assert!(tokio::time::timeout(19 * SECOND, call).await.is_err());
    }
    assert_eq!(layer.handle().state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn impatient_caller_does_not_open_and_a_patient_one_does() {
    use CircuitState::{Closed, Open};
    for (patience, expected) in [(SECOND / 2, Closed), (2 * SECOND, Open), (20 * SECOND, Open)] {
        let layer = layer();
        let stack = ServiceBuilder::new().layer(layer.clone()).layer(TimeoutLayer::new(30 * SECOND));
        let service = stack.service(Strict::new().takes(10_000 * SECOND));
        for _ in 0..5 {
            let request = LlmRequest::prompt("x").with_timeout(patience);
            service.clone().oneshot(request).await.expect_err("too late");
        }
        assert_eq!(layer.handle().state(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_at_once_and_by_all() {
    for kind in [ErrorKind::RateLimited, ErrorKind::Overloaded] {
        let asked = error(kind).with_retry_after(17 * SECOND);
        let mut bench = Bench::new(layer(), Strict::new().script([Err(asked)]));
        bench.fails(kind).await;
        let refused = bench.fails(ErrorKind::CircuitOpen).await;
        assert_eq!(refused.retry_after(), Some(17 * SECOND));
        assert_eq!(bench.handle.state(), CircuitState::Open);
        advance(17 * SECOND).await;
        assert_eq!(crowd(&bench.service, 50).await, 50, "no probe first: nothing was broken");
    }
}

#[tokio::test(start_paused = true)]
async fn rate_limits_without_a_time_open_after_five() {
    let mut bench = Bench::new(layer(), Strict::new().fails(5, error(ErrorKind::RateLimited)));
    for _ in 0..5 {
        bench.fails(ErrorKind::RateLimited).await;
    }
    bench.fails(ErrorKind::CircuitOpen).await;
}

#[tokio::test(start_paused = true)]
async fn false_quota_errors_for_twelve_hours_are_survived_without_a_restart() {
    let mut bench = Bench::new(layer(), Strict::new().fails(12 * 60, error(ErrorKind::QuotaExhausted)));
    bench.fails(ErrorKind::QuotaExhausted).await;
    let mut minutes = 0;
    loop {
        bench.fails(ErrorKind::CircuitOpen).await;
        advance(60 * SECOND).await;
        minutes += 1;
        if bench.call().await.is_ok() {
            break;
        }
    }
    assert_eq!(minutes, 12 * 60);
    assert_eq!(bench.handle.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn refused_key_opens_only_where_it_has_worked() {
    let mut bench = Bench::new(layer(), Strict::new().fails(10, error(ErrorKind::Auth)));
    for _ in 0..10 {
        bench.fails(ErrorKind::Auth).await;
    }
    bench.answers().await;
    bench.leaf = bench.leaf.fails(1, error(ErrorKind::Auth));
    bench.fails(ErrorKind::Auth).await;
    assert_eq!(bench.fails(ErrorKind::CircuitOpen).await.retry_after(), Some(60 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn storm_of_invalid_requests_opens_and_one_callers_bug_does_not() {
    for (different, expected) in [(false, CircuitState::Closed), (true, CircuitState::Open)] {
        let mut bench = Bench::new(layer(), Strict::new().fails(20, error(ErrorKind::InvalidRequest)));
        let mut events = bench.handle.subscribe();
        for n in 0..20 {
            bench.service.call(question(if different { n } else { 0 })).await.expect_err("invalid");
        }
        assert_eq!(bench.handle.state(), expected);
        if different {
            // Its probes are not their callers' mistakes.
            bench.leaf = bench.leaf.fails(1, error(ErrorKind::InvalidRequest));
            advance(COOLDOWN).await;
            let unmasked = bench.fails(ErrorKind::Server).await;
            let source = std::error::Error::source(&unmasked).expect("the error as it came");
            assert!(source.to_string().contains("invalid"), "{source}");
            assert_eq!(unmasked.should_retry(), Some(false));
            assert_eq!(bench.handle.state(), CircuitState::Open);
        }
        let told = match events.try_recv() {
            Ok(Event::CircuitChanged { reason, .. }) => Some(reason),
            _ => None,
        };
        assert_eq!(told, different.then_some(CircuitReason::InvalidRequestStorm));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_tried_inside_stays_on_record_where_a_storm_is_told_as_the_providers() {
    let leaf = Strict::new().fails(19, error(ErrorKind::InvalidRequest));
    let mut llm = layer().layer(RetryWithJitterLayer::new().seed(1).layer(leaf.clone()));
    let mut ask = async |n| llm.call(question(n)).await.expect_err("a failure");
    for n in 0..19 {
        assert_eq!(ask(n).await.kind(), ErrorKind::InvalidRequest);
    }
    let _ = leaf.fails(1, server()).fails(1, error(ErrorKind::InvalidRequest));
    let unmasked = ask(19).await;
    assert_eq!(unmasked.kind(), ErrorKind::Server);
    let tried: Vec<_> = unmasked.attempts().iter().map(|attempt| attempt.failure).collect();
    assert_eq!(tried, [Some(ErrorKind::Server), Some(ErrorKind::InvalidRequest)]);
}

#[tokio::test(start_paused = true)]
async fn last_resort_ignores_the_circuit_and_says_nothing_to_it() {
    let mut bench = Bench::opened(layer(), Strict::new()).await;
    let mut request = LlmRequest::prompt("x");
    request.context_mut().last_resort = true;
    bench.service.call(request.clone()).await.expect("an answer");
    assert_eq!(bench.handle.state(), CircuitState::Open);
    bench.handle.force_open();
    bench.service.call(request).await.expect("an answer");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_on_record_with_the_time_since_its_call_began() {
    let mut bench = Bench::new(layer(), Strict::new());
    bench.handle.force_open();
    let mut request = LlmRequest::prompt("x");
    let begun = *request.context_mut().begun.insert(Instant::now());
    advance(SECOND).await;
    let refusal = bench.service.call(request).await.expect_err("open");
    let [step] = refusal.attempts() else { panic!("{:?}", refusal.attempts()) };
    assert_eq!((step.begun, step.took), (begun, SECOND));
    assert_eq!((step.failure, step.message.as_str()), (Some(ErrorKind::CircuitOpen), refusal.message()));
}

#[tokio::test(start_paused = true)]
async fn each_change_is_told_once_with_its_reason() {
    let events = Events::new();
    let mut heard = events.subscribe();
    let mut bench = Bench::opened(layer().events(events), Strict::new()).await;
    bench.leaf = bench.leaf.script([Err(server())]);
    advance(COOLDOWN).await;
    bench.fails(ErrorKind::Server).await;
    advance(COOLDOWN).await;
    bench.answers().await;
    bench.handle.force_open();
    bench.handle.force_open();
    bench.handle.reset();

    use {CircuitReason::*, CircuitState::*};
    let expected = [
        (Closed, Open, Failures),
        (Open, HalfOpen, Cooldown),
        (HalfOpen, Open, ProbeFailed),
        (Open, HalfOpen, Cooldown),
        (HalfOpen, Closed, Recovered),
        (Closed, Open, Forced),
        (Open, Closed, Forced),
    ];
    for change in expected {
        if change.2 == Forced {
            assert!(matches!(heard.try_recv(), Ok(Event::Operated { .. })), "{change:?}");
        }
        let Ok(Event::CircuitChanged { circuit, from, to, reason, .. }) = heard.try_recv() else {
            panic!("{change:?}");
        };
        assert_eq!((from, to, reason), change);
        assert_eq!(&*circuit, "sonnet");
    }
    assert!(heard.try_recv().is_err());
}

fn of_model(model: &str) -> LlmRequest {
    crate::Chat::new([]).model(model).into()
}

fn keyed(capacity: usize) -> CircuitBreakerLayer {
    layer().consecutive_failures(1).keyed(|request| request.model().unwrap_or_default().into(), capacity)
}

#[tokio::test(start_paused = true)]
async fn keyed_circuits_open_one_by_one() {
    let layer = keyed(10);
    let leaf = Strict::new().script([Err(server())]);
    let mut service = layer.layer(leaf);
    service.call(of_model("a")).await.expect_err("a failure");
    assert_eq!(service.call(of_model("a")).await.expect_err("open").kind(), ErrorKind::CircuitOpen);
    service.call(of_model("b")).await.expect("an answer");
    let mut states = layer.states();
    states.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(states, [("a".into(), CircuitState::Open), ("b".into(), CircuitState::Closed)]);
    assert_eq!(&*layer.handle_for("a").name(), "sonnet/a");
    layer.handle_for("a").reset();
    service.call(of_model("a")).await.expect("an answer");
}

#[tokio::test(start_paused = true)]
async fn keys_are_bounded_and_an_open_circuit_is_forgotten_last() {
    let layer = keyed(4);
    let leaf = Strict::new().script([Err(server())]);
    let mut service = layer.layer(leaf);
    service.call(of_model("broken")).await.expect_err("a failure");
    for n in 0..100 {
        service.call(of_model(&format!("model {n}"))).await.expect("an answer");
    }
    assert_eq!(layer.states().len(), 4);
    assert_eq!(layer.handle_for("broken").state(), CircuitState::Open);
    // The least recently used goes first.
    service.call(of_model("model 97")).await.expect("an answer");
    service.call(of_model("new")).await.expect("an answer");
    let keys: Vec<_> = layer.states().into_iter().map(|(key, _)| key).collect();
    assert!(keys.contains(&"model 97".into()) && !keys.contains(&"model 98".into()), "{keys:?}");
}

#[tokio::test(start_paused = true)]
async fn active_probe_closes_early() {
    let bench = Bench::opened(layer().cooldown(3600 * SECOND), Strict::new().takes(SECOND)).await;
    let probed = Strict::new().fails(2, server());
    let probe = tokio::spawn(bench.handle.probe_with(probed.clone(), LlmRequest::prompt("ping"), 10 * SECOND));
    sleep(25 * SECOND).await;
    assert_eq!((probed.calls(), bench.handle.state()), (2, CircuitState::Open));
    sleep(6 * SECOND).await;
    assert_eq!((probed.calls(), bench.handle.state()), (3, CircuitState::Closed));
    sleep(100 * SECOND).await;
    assert_eq!(probed.calls(), 3, "a closed circuit is not probed");
    probe.abort();
}

#[tokio::test(start_paused = true)]
async fn active_probe_ends_with_its_circuit() {
    let bench = Bench::opened(layer(), Strict::new()).await;
    let hangs = Strict::new().takes(100_000 * SECOND);
    let probe = tokio::spawn(bench.handle.probe_with(hangs, LlmRequest::prompt("ping"), SECOND));
    sleep(10 * SECOND).await;
    drop(bench);
    tokio::time::timeout(60 * SECOND, probe).await.expect("ended").expect("without a panic");
}

#[tokio::test(start_paused = true)]
async fn active_probe_does_not_undo_what_was_done_by_hand() {
    let bench = Bench::new(layer(), Strict::new());
    bench.handle.force_open();
    let probed = Strict::new();
    let probe = tokio::spawn(bench.handle.probe_with(probed.clone(), LlmRequest::prompt("ping"), SECOND));
    sleep(10 * SECOND).await;
    assert_eq!((probed.calls(), bench.handle.state()), (0, CircuitState::Open));
    probe.abort();
}

#[tokio::test(start_paused = true)]
async fn settings_at_their_edges_are_plain() {
    let edges = layer()
        .consecutive_failures(0)
        .probes(0)
        .probe_successes(0)
        .cooldown(Duration::ZERO)
        .cooldown_growth(f64::NAN, Duration::ZERO)
        .cooldown_jitter(f64::NAN)
        .failure_rate(f64::NAN, Window::last_calls(0))
        .slow_calls(Duration::MAX, -1.0, Window::last(Duration::ZERO))
        .latch(Duration::ZERO)
        .max_throttle(Duration::ZERO)
        .probe_lease(Duration::ZERO)
        .keyed(|_| "".into(), 0);
    let limited = error(ErrorKind::RateLimited).with_retry_after(SECOND);
    let script = [Err(server()), Err(limited), Err(error(ErrorKind::QuotaExhausted)), Ok(()), Ok(())];
    let mut bench = Bench::new(edges, Strict::new().script(script));
    for _ in 0..5 {
        let _ = bench.call().await;
    }
    assert_eq!(bench.leaf.calls(), 5, "a cooldown of nothing is over at once");
    assert_eq!(bench.handle.state(), CircuitState::Closed);
}

#[test]
fn probes_never_exceed_their_number_between_threads() {
    let rt = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _clock = rt.enter();
    const PROBES: usize = 2;
    let layer =
        layer().consecutive_failures(1).cooldown(Duration::ZERO).probes(PROBES as u32).probe_successes(u32::MAX);
    let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let leaf = {
        let (under_way, most) = (under_way.clone(), most.clone());
        tower::service_fn(move |_: LlmRequest| {
            most.fetch_max(under_way.fetch_add(1, SeqCst) + 1, SeqCst);
            let under_way = under_way.clone();
            std::future::poll_fn(move |_| {
                under_way.fetch_sub(1, SeqCst);
                std::task::Poll::Ready(Err::<LlmResponse, _>(error(ErrorKind::NotFound)))
            })
        })
    };
    let service = layer.layer(leaf);
    // Half-open: the cooldown of zero is over, and neutral probes decide nothing.
    let circuit = layer.handle();
    let mut opener =
        layer.layer(tower::service_fn(|_: LlmRequest| std::future::ready(Err::<LlmResponse, _>(server()))));
    let mut idle = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(std::pin::pin!(opener.call(LlmRequest::prompt("x"))).poll(&mut idle).is_ready());

    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut service = service.clone();
            scope.spawn(move || {
                let mut idle = std::task::Context::from_waker(std::task::Waker::noop());
                for _ in 0..50_000 {
                    let call = std::pin::pin!(service.call(LlmRequest::prompt("x")));
                    assert!(call.poll(&mut idle).is_ready());
                }
            });
        }
    });
    assert!((1..=PROBES).contains(&most.load(SeqCst)), "{most:?}");
    assert_eq!(circuit.state(), CircuitState::HalfOpen);
    assert_eq!(circuit.earliest_probe().map(|at| at <= Instant::now()), Some(true), "all places are free");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_nobody_reads_allocates_the_error_alone() {
    let mut bench = Bench::opened(layer(), Strict::new()).await;
    let request = LlmRequest::prompt("hello");
    let measured = allocation_counter::measure(|| {
        let mut idle = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(std::pin::pin!(bench.service.call(request.clone())).poll(&mut idle).is_ready());
    });
    assert_eq!(measured.count_total, 1);
    let refused = bench.fails(ErrorKind::CircuitOpen).await;
    assert_eq!(refused.message(), "circuit sonnet is open after too many failures in a row");
    assert_eq!(refused.clone().message(), refused.message());
}
