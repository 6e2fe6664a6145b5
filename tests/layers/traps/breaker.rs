//! The circuit breaker, in stacks.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::join_all};
use steadfast::{
    BulkheadLayer, CircuitBreakerHandle, CircuitBreakerLayer, Classifier, ErrorKind, Event, FallbackLayer, LlmError,
    LlmRequest, LlmResponse, RetryWithJitterLayer, TimeoutLayer,
    events::CircuitState,
    layers::circuit_breaker::Window,
    provider_fn,
    providers::{Canned, Simulated, simulated::Fault},
};
use tokio::{
    sync::{Semaphore, broadcast},
    time::{Instant, advance, sleep},
};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use crate::traps::fixtures::{Does, Fake, ask, end, error, millis, secs, text};

/// Opens at the second failure in a row, for 10 s.
pub(crate) fn breaker() -> CircuitBreakerLayer {
    CircuitBreakerLayer::new("sonnet").consecutive_failures(2).cooldown(secs(10)).cooldown_jitter(0.0).seed(7)
}

/// Fails twice, then does what is said of the calls after that, counted from 0.
pub(crate) fn trips_then(does: impl Fn(usize) -> Does + Send + Sync + 'static) -> Fake {
    Fake::new(move |call| match call {
        0 | 1 => Does::Fails(ErrorKind::Server),
        later => does(later - 2),
    })
}

pub(crate) async fn trip<S>(llm: &S)
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError> + Clone,
{
    for _ in 0..2 {
        llm.clone().oneshot(ask()).await.unwrap_err();
    }
}

pub(crate) fn changes(events: &mut broadcast::Receiver<Event>) -> Vec<(CircuitState, CircuitState)> {
    std::iter::from_fn(|| events.try_recv().ok())
        .filter_map(|event| match event {
            Event::CircuitChanged { from, to, .. } => Some((from, to)),
            _ => None,
        })
        .collect()
}

// 1. liter-llm claims the probe's place when the future is polled and decides who owns it when it is called: stuck for
//    ever.
#[tokio::test(start_paused = true)]
async fn a_future_made_while_closed_and_dropped_after_the_cooldown_takes_no_probes_place() {
    let leaf = Fake::new(|call| match call {
        0..3 => Does::Hangs,
        3 | 4 => Does::Fails(ErrorKind::Server),
        _ => Does::Answers,
    });
    let layer = breaker();
    let circuit = layer.handle();
    let llm = ServiceBuilder::new()
        .layer(BulkheadLayer::new())
        .layer(RetryWithJitterLayer::new().max_attempts(1))
        .layer(layer)
        .service(leaf.clone());
    let early: Vec<_> = (0..3).map(|_| llm.clone().call(ask())).collect();
    // Asked for, but not even called while the circuit was closed.
    let idle = task::spawn(llm.clone().oneshot(ask()));
    trip(&llm).await;
    advance(secs(10)).await;
    for future in early {
        assert_pending!(task::spawn(future).poll());
    }
    drop(idle);
    llm.clone().oneshot(ask()).await.unwrap();
    assert_eq!((circuit.state(), leaf.calls()), (CircuitState::Closed, 6));
}

// 2. monix, opossum, resilience4j, linkerd: a probe that was cancelled is never given back; once for six days.
#[tokio::test(start_paused = true)]
async fn a_probe_dropped_before_its_answer_or_in_the_middle_of_it_makes_room_within_the_same_tick() {
    let leaf = trips_then(|call| match call {
        0 => Does::Hangs,
        1 | 2 => Does::Streams(vec![text(Duration::ZERO, "hel"), text(secs(5), "lo"), end(secs(5))]),
        _ => Does::Answers,
    });
    let layer = breaker();
    let circuit = layer.handle();
    let llm = ServiceBuilder::new().layer(BulkheadLayer::new()).layer(layer).service(leaf.clone());
    trip(&llm).await;
    advance(secs(10)).await;

    let mut before = task::spawn(llm.clone().oneshot(ask()));
    assert_pending!(before.poll());
    assert_eq!(llm.clone().oneshot(ask()).await.unwrap_err().kind(), ErrorKind::CircuitOpen);
    drop(before);

    let with_headers = llm.clone().oneshot(ask()).await.unwrap();
    assert_eq!(llm.clone().oneshot(ask()).await.unwrap_err().kind(), ErrorKind::CircuitOpen);
    drop(with_headers);

    let mut half_read = llm.clone().oneshot(ask()).await.unwrap();
    half_read.body_mut().frame().await.unwrap().unwrap();
    {
        let mut waiting = task::spawn(half_read.body_mut().frame());
        assert_pending!(waiting.poll());
    }
    drop(half_read);
    assert_eq!(circuit.state(), CircuitState::HalfOpen);

    llm.clone().oneshot(ask()).await.unwrap();
    assert_eq!((circuit.state(), leaf.calls()), (CircuitState::Closed, 6));
}

// 2. A probe whose answer somebody keeps and never reads would hold its place for ever.
#[tokio::test(start_paused = true)]
async fn a_probe_whose_stream_nobody_reads_is_replaced_and_its_late_end_changes_nothing() {
    let leaf = trips_then(|call| match call {
        0 => Does::Streams(vec![
            text(Duration::ZERO, "a"),
            crate::traps::fixtures::breaks(Duration::ZERO, ErrorKind::Server),
        ]),
        _ => Does::Answers,
    });
    let layer = breaker().probe_lease(secs(30));
    let circuit = layer.handle();
    let llm = ServiceBuilder::new().layer(TimeoutLayer::new(secs(5))).layer(layer).service(leaf);
    trip(&llm).await;
    advance(secs(10)).await;
    let kept = llm.clone().oneshot(ask()).await.unwrap();
    advance(secs(29)).await;
    assert_eq!(llm.clone().oneshot(ask()).await.unwrap_err().kind(), ErrorKind::CircuitOpen);
    advance(secs(1)).await;
    llm.clone().oneshot(ask()).await.unwrap();
    assert_eq!(circuit.state(), CircuitState::Closed);
    kept.text().await.unwrap_err();
    assert_eq!((circuit.state(), circuit.consecutive_failures()), (CircuitState::Closed, 0));
}

// 3, 4. resilience4j, kora: an ignored error eats the probe. failsafe, recloser: it counts as a success and closes.
#[tokio::test(start_paused = true)]
async fn a_probe_that_meets_a_callers_mistake_decides_nothing_and_the_next_call_is_the_probe() {
    let mistakes = [
        ErrorKind::ContextLength,
        ErrorKind::InvalidRequest,
        ErrorKind::NotFound,
        ErrorKind::TooLarge,
        ErrorKind::ContentPolicy,
        ErrorKind::Auth,
        ErrorKind::BulkheadFull,
    ];
    let leaf = trips_then(move |call| mistakes.get(call).map_or(Does::Answers, |kind| Does::Fails(*kind)));
    let layer = breaker();
    let (circuit, mut events) = (layer.handle(), layer.handle().subscribe());
    let llm = ServiceBuilder::new().layer(RetryWithJitterLayer::new()).layer(layer).service(leaf.clone());
    // The retry finds the circuit closed once and open the second time, so one request is enough to trip it.
    llm.clone().oneshot(ask()).await.unwrap_err();
    advance(secs(10)).await;
    use CircuitState::{Closed, HalfOpen, Open};
    for kind in mistakes {
        let seen = leaf.calls();
        assert_eq!(llm.clone().oneshot(ask()).await.unwrap_err().kind(), kind);
        assert_eq!((leaf.calls() - seen, circuit.state()), (1, HalfOpen), "{kind}");
    }
    llm.clone().oneshot(ask()).await.unwrap();
    assert_eq!(changes(&mut events), [(Closed, Open), (Open, HalfOpen), (HalfOpen, Closed)]);
}

// 5. Polly, opossum, failsafe, recloser: 100 of 100 callers reach the backend at the end of the cooldown.
#[tokio::test(start_paused = true)]
async fn of_a_hundred_callers_at_the_end_of_the_cooldown_the_provider_sees_the_probes_and_nobody_is_lost() {
    let leaf = trips_then(|_| Does::AnswersAfter(secs(1)));
    let tier = ServiceBuilder::new()
        .layer(RetryWithJitterLayer::new().max_attempts(1))
        .layer(breaker().probes(3).probe_successes(3))
        .layer(TimeoutLayer::new(secs(5)))
        .service(leaf.clone());
    let llm = FallbackLayer::new("sonnet").tier("canned", Canned::text("later")).layer(tier);
    for _ in 0..2 {
        assert_eq!(llm.clone().oneshot(ask()).await.unwrap().served_by().tier, Some("canned"));
    }
    sleep(secs(10)).await;
    let answers = join_all((0..100).map(|_| llm.clone().oneshot(ask()))).await;
    let by_canned = answers.iter().filter(|answer| answer.as_ref().unwrap().served_by().tier == Some("canned")).count();
    assert_eq!((leaf.calls() - 2, by_canned), (3, 97));
    // The three have closed it, and everybody is back.
    let answers = join_all((0..100).map(|_| llm.clone().oneshot(ask()))).await;
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().served_by().tier == Some("sonnet")));
}

// 5. The same between threads, where counting and admitting may come apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_that_come_at_once_to_a_half_open_circuit_get_no_more_than_its_probes() {
    for _ in 0..20 {
        let (hold, calls) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let healthy = Arc::new(AtomicBool::new(false));
        let leaf = {
            let (hold, calls, healthy) = (hold.clone(), calls.clone(), healthy.clone());
            provider_fn(move |_| {
                let (hold, calls, healthy) = (hold.clone(), calls.clone(), healthy.load(SeqCst));
                async move {
                    calls.fetch_add(1, SeqCst);
                    if !healthy {
                        return Err(error(ErrorKind::Server));
                    }
                    let _ = hold.acquire().await;
                    Ok(LlmResponse::from_text("hello"))
                }
            })
        };
        // A cooldown of nothing: it is half-open as soon as somebody asks.
        let llm = ServiceBuilder::new()
            .layer(BulkheadLayer::new().default_limit(1000))
            .layer(breaker().cooldown(Duration::ZERO).probes(2).probe_successes(2))
            .service(leaf);
        trip(&llm).await;
        healthy.store(true, SeqCst);
        let barrier = Arc::new(Barrier::new(4));
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let (llm, barrier) = (llm.clone(), barrier.clone());
                std::thread::spawn(move || {
                    barrier.wait();
                    let mut pending = Vec::new();
                    let mut refused = 0;
                    for _ in 0..25 {
                        let mut future = task::spawn(llm.clone().oneshot(ask()));
                        if future.poll().is_ready() { refused += 1 } else { pending.push(future) }
                    }
                    (refused, pending)
                })
            })
            .collect();
        let joined: Vec<_> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
        let refused: usize = joined.iter().map(|(refused, _)| refused).sum();
        assert_eq!((calls.load(SeqCst) - 2, refused), (2, 98));
        hold.add_permits(100);
        for (_, pending) in joined {
            for mut future in pending {
                assert!(matches!(future.poll(), std::task::Poll::Ready(Ok(_))));
            }
        }
        llm.clone().oneshot(ask()).await.unwrap();
    }
}

// 6. tower-resilience, Polly: an answer from before the trip closes the half-open circuit, or opens it again.
#[tokio::test(start_paused = true)]
async fn a_stream_from_before_the_trip_decides_no_recovery_however_it_ends() {
    for ends_well in [true, false] {
        let last = if ends_well { end(secs(15)) } else { crate::traps::fixtures::breaks(secs(15), ErrorKind::Server) };
        let last = Arc::new(std::sync::Mutex::new(Some(last)));
        let leaf = Fake::new(move |call| match call {
            0 => Does::Streams(vec![text(Duration::ZERO, "slow"), last.lock().unwrap().take().unwrap()]),
            1 | 2 => Does::Fails(ErrorKind::Server),
            3 => Does::FailsAfter(secs(10), error(ErrorKind::Server)),
            _ => Does::Answers,
        });
        let layer = breaker();
        let circuit = layer.handle();
        let llm = ServiceBuilder::new().layer(layer).layer(BulkheadLayer::new()).service(leaf);
        let old = llm.clone().oneshot(ask()).await.unwrap();
        trip(&llm).await;
        sleep(secs(10)).await;
        let probe = tokio::spawn(llm.clone().oneshot(ask()));
        tokio::task::yield_now().await;
        assert_eq!(circuit.state(), CircuitState::HalfOpen);
        // The stream from before ends at 25 s (its clock runs while it is read), the probe at 20 s.
        let read = tokio::spawn(old.text());
        sleep(secs(5)).await;
        assert_eq!(circuit.state(), CircuitState::HalfOpen);
        probe.await.unwrap().unwrap_err();
        assert_eq!(circuit.state(), CircuitState::Open, "the probe's own failure counts");
        assert_eq!(read.await.unwrap().is_ok(), ends_well);
        assert_eq!(circuit.state(), CircuitState::Open);
        sleep(secs(10)).await;
        llm.clone().oneshot(ask()).await.unwrap();
        assert_eq!(circuit.state(), CircuitState::Closed);
    }
}

// 7. Polly #218, openab: each late failure tells of the opening again and puts the reopening off.
#[tokio::test(start_paused = true)]
async fn failures_that_come_in_while_open_neither_prolong_the_outage_nor_are_told_again() {
    let leaf = Fake::new(|call| match call {
        0..30 => Does::FailsAfter(millis(100 * call as u64), error(ErrorKind::Server)),
        _ => Does::Answers,
    });
    let layer = breaker();
    let (circuit, mut events) = (layer.handle(), layer.handle().subscribe());
    let llm = ServiceBuilder::new().layer(BulkheadLayer::new()).layer(layer).service(leaf);
    let start = Instant::now();
    let calls = join_all((0..30).map(|_| llm.clone().oneshot(ask())));
    assert!(calls.await.iter().all(Result::is_err));
    assert_eq!(changes(&mut events), [(CircuitState::Closed, CircuitState::Open)]);
    assert_eq!(circuit.earliest_probe(), Some(start + millis(100) + secs(10)));
    tokio::time::sleep_until(start + millis(100) + secs(10)).await;
    llm.clone().oneshot(ask()).await.unwrap();
}

// 8. tower-resilience [R5]: after N successes it takes N failures, for the window never lets go of anything.
#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_successes_do_not_delay_the_opening() {
    let sick = Arc::new(AtomicBool::new(false));
    let leaf = {
        let sick = sick.clone();
        provider_fn(move |_| {
            std::future::ready(match sick.load(SeqCst) {
                true => Err(error(ErrorKind::Server)),
                false => Ok(LlmResponse::from_text("hello")),
            })
        })
    };
    let layer = breaker().consecutive_failures(0).failure_rate(0.5, Window::last_calls(100));
    let circuit = layer.handle();
    let mut llm = ServiceBuilder::new().layer(TimeoutLayer::new(secs(5))).layer(layer).service(leaf);
    for _ in 0..100_000 {
        llm.call(ask()).await.unwrap();
    }
    sick.store(true, SeqCst);
    let mut failures = 0;
    while circuit.state() == CircuitState::Closed {
        llm.call(ask()).await.unwrap_err();
        failures += 1;
    }
    assert_eq!(failures, 50);
}

// 9. liter-llm [R9]: 22, 40, 80 .. 640 ms, although each outage was followed by a full recovery.
#[tokio::test(start_paused = true)]
async fn each_outage_begins_at_the_first_cooldown_again() {
    let simulated = Simulated::new("sonnet");
    let handle = simulated.handle();
    let layer = breaker().cooldown_growth(2.0, secs(600));
    let circuit = layer.handle();
    let llm = ServiceBuilder::new().layer(layer).service(simulated);
    for _ in 0..6 {
        handle.fail(Fault::ServerError);
        trip(&llm).await;
        let mut cooldowns = Vec::new();
        for _ in 0..3 {
            let wait = circuit.earliest_probe().unwrap() - Instant::now();
            cooldowns.push(wait.as_secs());
            advance(wait).await;
            llm.clone().oneshot(ask()).await.unwrap_err();
        }
        assert_eq!(cooldowns, [10, 20, 40]);
        handle.heal();
        advance(circuit.earliest_probe().unwrap() - Instant::now()).await;
        llm.clone().oneshot(ask()).await.unwrap();
        // A failure that comes sooner is a relapse, and the circuit closes later.
        advance(secs(3600)).await;
    }
}

// 10. seatbelt needs a special probe, since its rates never have enough calls.
#[tokio::test(start_paused = true)]
async fn one_request_a_minute_is_enough_to_trip_by_rate_and_to_recover() {
    let simulated = Simulated::new("sonnet");
    let handle = simulated.handle();
    let layer = breaker()
        .consecutive_failures(0)
        .failure_rate(0.5, Window::last(secs(3600)).minimum_calls(3))
        .cooldown(secs(90))
        .probe_successes(2);
    let circuit = layer.handle();
    let llm = ServiceBuilder::new().layer(layer).service(simulated);
    handle.fail(Fault::Unavailable);
    for _ in 0..4 {
        llm.clone().oneshot(ask()).await.unwrap_err();
        advance(secs(60)).await;
    }
    assert_eq!(circuit.state(), CircuitState::Open);
    handle.heal();
    let mut requests = 0;
    while circuit.state() != CircuitState::Closed {
        advance(secs(60)).await;
        let _ = llm.clone().oneshot(ask()).await;
        requests += 1;
    }
    assert!(requests <= 3, "{requests}");
}

// 11. helm-api: a 400 tripped the breaker. librefang: a 500 with the words of a 400 was let off.
#[tokio::test(start_paused = true)]
async fn callers_errors_never_move_the_circuit_and_a_500_does_whatever_it_says() {
    let kinds = [
        ErrorKind::InvalidRequest,
        ErrorKind::NotFound,
        ErrorKind::TooLarge,
        ErrorKind::ContextLength,
        ErrorKind::UnsupportedFeature,
        ErrorKind::ContentPolicy,
        ErrorKind::Refusal,
    ];
    let leaf = Fake::new(move |call| Does::Fails(kinds[call % kinds.len()]));
    let layer = breaker().failure_rate(0.1, Window::last_calls(10));
    let circuit = layer.handle();
    let llm = layer.layer(leaf);
    for _ in 0..700 {
        // One and the same wrong request, over and over.
        llm.clone().oneshot(ask()).await.unwrap_err();
    }
    assert_eq!((circuit.state(), circuit.consecutive_failures()), (CircuitState::Closed, 0));

    let words = LlmError::new(ErrorKind::Server, "unsupported parameter: invalid request (400), context length");
    let layer = breaker();
    let circuit = layer.handle();
    let llm = layer.layer(Fake::fails_with(words.with_status(http::StatusCode::INTERNAL_SERVER_ERROR)));
    trip(&llm).await;
    assert_eq!(circuit.state(), CircuitState::Open);
}

// 12. ai-gateway, anthropic-sdk #1258, clicky: an error inside a 200 counts as a success; GATEWAY 27: a truncation,
//     too.
#[tokio::test(start_paused = true)]
async fn each_stream_that_breaks_is_one_failure_in_each_circuit_decided_at_its_end() {
    for fault in [Fault::ErrorEventAfter(3), Fault::TruncatedAfter(3), Fault::CutAfter(3), Fault::StallAfter(3)] {
        let (inner, outer) = (breaker().consecutive_failures(5), breaker().consecutive_failures(5));
        let (inside, outside) = (inner.handle(), outer.handle());
        let llm = ServiceBuilder::new()
            .layer(outer)
            .layer(RetryWithJitterLayer::new())
            .layer(inner)
            .layer(TimeoutLayer::new(secs(30)).idle(secs(5)))
            .service(Simulated::new("sonnet").fault_mix(fault.clone()));
        for failures in 1..=5 {
            let mut response = llm.clone().oneshot(ask().with_stream(true)).await.unwrap();
            response.body_mut().frame().await.unwrap().unwrap();
            assert_eq!(inside.consecutive_failures(), failures - 1, "{fault}: it is too early to say");
            response.text().await.unwrap_err();
            let now = [&inside, &outside].map(CircuitBreakerHandle::consecutive_failures);
            assert_eq!(now, if failures < 5 { [failures; 2] } else { [0; 2] }, "{fault}");
        }
        assert_eq!([inside.state(), outside.state()], [CircuitState::Open; 2], "{fault}");
    }
}

// 13, 14. tower-resilience #381 polls the inner readiness first; tower-llm makes the inner future first.
#[tokio::test(start_paused = true)]
async fn an_open_circuit_touches_nothing_inside_and_answers_at_once() {
    #[derive(Clone)]
    struct Untouchable;
    impl Service<LlmRequest> for Untouchable {
        type Response = LlmResponse;
        type Error = LlmError;
        type Future = std::future::Ready<Result<LlmResponse, LlmError>>;
        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), LlmError>> {
            panic!("readied")
        }
        fn call(&mut self, _: LlmRequest) -> Self::Future {
            panic!("called")
        }
    }
    let layer = breaker();
    layer.handle().force_open();
    let tier = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(30)))
        .layer(RetryWithJitterLayer::new())
        .layer(layer)
        .layer(BulkheadLayer::new())
        .service(Untouchable);
    let start = Instant::now();
    let llm = FallbackLayer::new("sonnet").tier("canned", Canned::text("later")).layer(tier);
    for _ in 0..100 {
        let answer = llm.clone().oneshot(ask()).await.unwrap();
        assert_eq!((answer.served_by().tier, answer.served_by().attempts), (Some("canned"), 1));
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
}

// 15. seatbelt: a lock poisoned by a panic in somebody's callback makes each later call panic.
#[tokio::test(start_paused = true)]
async fn a_panic_in_foreign_code_disables_no_later_call() {
    let armed = Arc::new(AtomicUsize::new(0));
    let bomb = |armed: &Arc<AtomicUsize>| {
        let armed = armed.clone();
        move || {
            if armed.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
                panic!("in a callback");
            }
        }
    };
    let (classify, key) = (bomb(&armed), bomb(&armed));
    let table = Classifier::overridden(move |_, class| {
        classify();
        class
    });
    let leaf = Fake::new(|call| match call % 4 {
        0 => Does::Panics,
        1 | 2 => Does::Fails(ErrorKind::Server),
        _ => Does::Answers,
    });
    let bulkhead = BulkheadLayer::new().feature("chat", 1);
    let places = bulkhead.handle();
    let keyed = breaker().consecutive_failures(0).classifier(table.clone()).keyed(
        move |_| {
            key();
            "sonnet".into()
        },
        10,
    );
    let circuit = keyed.handle_for("sonnet");
    let llm = ServiceBuilder::new()
        .layer(bulkhead)
        .layer(FallbackLayer::new("sonnet").tier("canned", Canned::text("later")).classifier(table.clone()))
        .layer(RetryWithJitterLayer::new().max_attempts(2).classifier(table))
        .layer(keyed)
        .service(leaf);
    let mut panicked = 0;
    for round in 0..200 {
        armed.store(round % 5, SeqCst);
        let call = AssertUnwindSafe(llm.clone().oneshot(ask())).catch_unwind().await;
        panicked += usize::from(call.is_err());
        assert_eq!(places.in_flight("chat"), 0, "round {round}");
    }
    assert!(panicked > 50, "{panicked}");
    armed.store(0, SeqCst);
    let calls = join_all((0..8).map(|_| {
        let llm = llm.clone();
        async move { AssertUnwindSafe(llm.oneshot(ask())).catch_unwind().await }
    }));
    // One place: some are refused; that they come back at all is the point.
    assert_eq!(calls.await.len(), 8);
    assert_eq!(circuit.state(), CircuitState::Closed);
}

// 15. A probe whose leaf panics has given its place back.
#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_leaves_room_for_the_next() {
    let leaf = trips_then(|call| if call < 3 { Does::Panics } else { Does::Answers });
    let layer = breaker();
    let circuit = layer.handle();
    let llm = ServiceBuilder::new().layer(TimeoutLayer::new(secs(5))).layer(layer).service(leaf);
    trip(&llm).await;
    advance(secs(10)).await;
    for _ in 0..3 {
        assert!(tokio::spawn(llm.clone().oneshot(ask())).await.unwrap_err().is_panic());
    }
    llm.clone().oneshot(ask()).await.unwrap();
    assert_eq!(circuit.state(), CircuitState::Closed);
}
