//! Numbers 1, 2, 4 and 5: how soon traffic leaves a primary that is down, that nobody notices, and how soon it is back.
//! The whole outage of 450,000 requests is `tests/incidents/outages.rs`.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use steadfast::{
    BulkheadLayer, CircuitBreakerLayer, ErrorKind, Event, FallbackLayer, LlmError, LlmRequest, LlmResponse,
    RetryWithJitterLayer, TimeoutLayer, events::CircuitState, provider_fn,
};
use tokio::{
    sync::broadcast,
    time::{Instant, sleep},
};
use tower::{Service, ServiceBuilder};

use crate::{
    common::scenario::{Report, run},
    numbers::{full, scaled},
    outages::most_probes,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const LATENCY: Duration = Duration::from_millis(300);
/// The primary's circuit looks again after this.
const INTERVAL: Duration = Duration::from_secs(15);

/// The primary's behaviour at a time since the start.
enum Does {
    Answers,
    Fails(Duration),
    Hangs,
}

/// A call that the primary has seen, in time since the start.
#[derive(Clone, Copy, Debug)]
struct Seen {
    begun: Duration,
    /// The time of its failure, or of its answer: `None` while it hangs.
    failed: Option<Duration>,
    answered: Option<Duration>,
}

/// The calls that the primary has seen, in their order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Seen>>>);

impl Log {
    fn calls(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }
}

fn primary(
    log: &Log,
    start: Instant,
    does: impl Fn(Duration) -> Does + Clone + Send + Sync + 'static,
) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + 'static {
    let log = log.clone();
    provider_fn(move |_| {
        let (log, begun) = (log.clone(), start.elapsed());
        let number = {
            let mut calls = log.0.lock().unwrap();
            calls.push(Seen { begun, failed: None, answered: None });
            calls.len() - 1
        };
        let does = does(begun);
        async move {
            match does {
                Does::Answers => {
                    sleep(LATENCY).await;
                    log.0.lock().unwrap()[number].answered = Some(start.elapsed());
                    Ok(LlmResponse::from_text("answer"))
                }
                Does::Fails(after) => {
                    sleep(after).await;
                    log.0.lock().unwrap()[number].failed = Some(start.elapsed());
                    Err(LlmError::new(ErrorKind::Server, "down"))
                }
                Does::Hangs => std::future::pending().await,
            }
        }
    })
}

fn well()
-> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + 'static {
    provider_fn(|_| async {
        sleep(LATENCY).await;
        Ok::<_, LlmError>(LlmResponse::from_text("answer"))
    })
}

/// The result of a drill.
struct Drill {
    report: Report,
    calls: Vec<Seen>,
    /// The times of the primary's circuit's changes, with the new states.
    changes: Vec<(Duration, CircuitState)>,
}

/// The places of the primary, where it has its own.
const PLACES: usize = 20;
/// The limit of an attempt to its first token.
const FIRST_TOKEN: Duration = Duration::from_secs(10);

/// The stack of the first screen around such a primary and a backup that is well.
async fn drill(
    per_second: u32,
    lasts: Duration,
    stream: bool,
    breaker: CircuitBreakerLayer,
    does: impl Fn(Duration) -> Does + Clone + Send + Sync + 'static,
) -> Drill {
    let (start, log, circuit) = (Instant::now(), Log::default(), breaker.handle());
    let mut heard = circuit.subscribe();
    let backup = ServiceBuilder::new()
        .layer(RetryWithJitterLayer::new().seed(1))
        .layer(CircuitBreakerLayer::new("backup").seed(1))
        .layer(TimeoutLayer::new(30 * SECOND))
        .service(well());
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(90 * SECOND))
        .layer(BulkheadLayer::new().feature("chat", 2000))
        .layer(FallbackLayer::new("primary").tier("backup", backup))
        .layer(RetryWithJitterLayer::new().seed(2))
        .layer(breaker)
        .layer(BulkheadLayer::new().feature("chat", PLACES))
        .layer(TimeoutLayer::new(30 * SECOND).first_token(FIRST_TOKEN))
        .service(primary(&log, start, does));
    let changes = tokio::spawn(async move {
        let mut changes = Vec::new();
        loop {
            match heard.recv().await {
                Ok(Event::CircuitChanged { to, at, .. }) => changes.push((at - start, to)),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(lost)) => panic!("{lost} events were lost"),
                Err(broadcast::error::RecvError::Closed) => return changes,
            }
        }
    });
    let report = run(llm, start, per_second, lasts, stream).await;
    drop(circuit);
    Drill { report, calls: log.calls(), changes: changes.await.unwrap() }
}

impl Drill {
    fn opened(&self) -> Duration {
        let opened = self.changes.iter().find(|(_, to)| *to == CircuitState::Open);
        opened.expect("the circuit has opened").0
    }

    /// Returns the number of calls that were under way at a time.
    fn in_flight(&self, at: Duration) -> usize {
        let under_way = |call: &&Seen| call.begun <= at && call.failed.or(call.answered).is_none_or(|end| end > at);
        self.calls.iter().filter(under_way).count()
    }
}

/// Number 4, where it says that it fails: after five failures nothing more is sent, however many are on their way.
#[tokio::test(start_paused = true)]
async fn a_primary_that_fails_is_left_after_five_failures() {
    const BEGINS: Duration = Duration::from_secs(5);
    for per_second in [2, 50, 200] {
        for fails_after in [Duration::ZERO, Duration::from_millis(50), Duration::from_secs(2)] {
            // No probe goes before the end.
            let breaker = CircuitBreakerLayer::new("primary").cooldown(MINUTE).seed(4);
            let does = move |at| if at < BEGINS { Does::Answers } else { Does::Fails(fails_after) };
            let drill = drill(per_second, BEGINS + 20 * SECOND, false, breaker, does).await;
            let opened = drill.opened();
            let failed = drill.calls.iter().filter(|call| call.failed.is_some_and(|at| at <= opened)).count();
            // Answers to what was sent before still come in between: until the last of them, it is not all that fails.
            let last_answer = drill.calls.iter().filter_map(|call| call.answered).filter(|at| *at <= opened).max();
            let since = |at: Duration| last_answer < Some(at) && at <= opened;
            let in_a_row = drill.calls.iter().filter(|call| call.failed.is_some_and(since)).count();
            let on_their_way = drill.in_flight(opened);
            let sent = drill.calls.iter().filter(|call| call.begun >= BEGINS).count();
            println!(
                "number 4: {per_second} a second that fail after {fails_after:?}: {failed} failures, {in_a_row} of them since \
                 the last answer, and {on_their_way} on their way at the switch {:?} after it began; of {} requests {} lost",
                opened - BEGINS,
                drill.report.requests,
                drill.report.lost
            );
            // Those of one moment of 60 ms count as one.
            assert!(in_a_row <= 5 + per_second as usize / 2, "{in_a_row} failures before the switch");
            let answers_end = LATENCY + SECOND / per_second;
            // All twenty places may fail in one moment: then the facts come with the next calls in them.
            let moments = Duration::from_millis(240) + 2 * fails_after;
            assert!(opened - BEGINS <= answers_end + 5 * SECOND / per_second + fails_after + moments, "{opened:?}");
            assert!(sent <= failed + on_their_way, "{sent} were sent, and {failed} + {on_their_way} are accounted for");
            assert_eq!(drill.report.lost, 0);
        }
    }
}

/// Number 4, where it says nothing: no more than its places hang, the first-token limit ends them and opens the
/// circuit.
#[tokio::test(start_paused = true)]
async fn a_primary_that_hangs_holds_its_places_and_no_request() {
    const BEGINS: Duration = Duration::from_secs(5);
    for per_second in [5, 50] {
        let breaker = CircuitBreakerLayer::new("primary").seed(4);
        let does = move |at| if at < BEGINS { Does::Answers } else { Does::Hangs };
        let drill = drill(per_second, BEGINS + 30 * SECOND, true, breaker, does).await;
        let opened = drill.opened();
        let hung = drill.calls.iter().filter(|call| call.begun >= BEGINS).count();
        println!(
            "number 4: {per_second} a second that hang: {hung} hung, open {:?} after the first; of {} requests {} lost, the \
             slowest after {:?}",
            opened - BEGINS,
            drill.report.requests,
            drill.report.lost,
            drill.report.slowest
        );
        // Of the five that time out first, each but the last leaves its place to another.
        assert!(hung <= PLACES + 4, "{hung}");
        assert!(opened - BEGINS <= FIRST_TOKEN + 5 * SECOND / per_second, "{opened:?}");
        assert!(drill.report.slowest <= FIRST_TOKEN + LATENCY, "{:?}", drill.report.slowest);
        assert_eq!(drill.report.lost, 0);
    }
}

/// Number 5: D5a, four minutes of 530s, wherever between two looks they end.
#[tokio::test(start_paused = true)]
async fn d5a_all_traffic_is_back_within_one_interval_and_one_probe() {
    let per_second = if full() { 50 } else { 10 };
    let arrival = SECOND / per_second;
    let (begins, endings) = (20 * SECOND, scaled(4, 60));
    let mut worst = Duration::ZERO;
    for ending in 0..endings {
        let ends = begins + 4 * MINUTE + INTERVAL * ending as u32 / endings as u32;
        let breaker = CircuitBreakerLayer::new("primary").cooldown(INTERVAL).seed(ending as u64);
        let does = move |at| match (begins..ends).contains(&at) {
            true => Does::Fails(Duration::from_millis(50)),
            false => Does::Answers,
        };
        let drill = drill(per_second, ends + MINUTE, false, breaker, does).await;
        assert_eq!(drill.report.lost, 0);
        // The last that the backup served was sent before the probe had answered.
        let back = drill.report.last_served_by("backup").unwrap() - LATENCY - ends;
        worst = worst.max(back);
        assert!(back <= INTERVAL + arrival + LATENCY, "{back:?} after the end");
    }
    println!("number 5: D5a with {endings} ends: all traffic back after {worst:.2?} at most");
}

/// Number 5: after hours, when each look is five minutes after the one before.
#[tokio::test(start_paused = true)]
async fn after_a_long_outage_all_traffic_is_back_within_six_minutes() {
    let per_second = if full() { 50 } else { 1 };
    let mut worst = Duration::ZERO;
    for seed in 0..scaled(1, 5) as u64 {
        let (begins, ends) = (MINUTE, MINUTE * 141 + 61 * SECOND * seed as u32);
        let breaker = CircuitBreakerLayer::new("primary")
            .cooldown(INTERVAL)
            .cooldown_growth(2.0, 5 * MINUTE)
            .cooldown_jitter(0.2)
            .seed(seed);
        let does = move |at| match (begins..ends).contains(&at) {
            true => Does::Fails(Duration::from_millis(50)),
            false => Does::Answers,
        };
        let drill = drill(per_second, ends + 7 * MINUTE, false, breaker, does).await;
        assert_eq!(drill.report.lost, 0);
        let probes = drill.changes.iter().filter(|(_, to)| *to == CircuitState::HalfOpen).count();
        assert!(probes <= 50, "they grow apart: {probes} looks");
        let back = drill.report.last_served_by("backup").unwrap() - ends;
        worst = worst.max(back);
        assert!(back <= 6 * MINUTE, "{back:?} after the end");
    }
    println!("number 5: after 140 minutes: all traffic back after {worst:.2?} at most");
}

/// Numbers 1 and 2: D6. Failures come in over two hours, as the names' caches expire, and then nothing works.
#[tokio::test(start_paused = true)]
async fn d6_failures_that_ramp_in_lose_nobody() {
    let per_second = if full() { 50 } else { 1 };
    let (begins, all, ends) = (MINUTE, MINUTE * 121, MINUTE * 271);
    let random = Arc::new(Mutex::new(fastrand::Rng::with_seed(6)));
    let does = move |at: Duration| {
        let share = (at.saturating_sub(begins)).as_secs_f64() / (all - begins).as_secs_f64();
        match at < ends && random.lock().unwrap().f64() < share {
            true => Does::Fails(Duration::from_millis(50)),
            false => Does::Answers,
        }
    };
    let breaker = CircuitBreakerLayer::new("primary").seed(6);
    let drill = drill(per_second, ends + 2 * MINUTE, false, breaker, does).await;
    let down = drill.calls.iter().filter(|call| (all..ends).contains(&call.begun)).count();
    let asked = (ends - all).as_secs_f64() * f64::from(per_second);
    let amplification = 1.0 + down as f64 / asked;
    println!(
        "numbers 1 and 2: D6: {} requests, lost {}, amplification once all is down {amplification:.5}",
        drill.report.requests, drill.report.lost
    );
    assert_eq!(drill.report.lost, 0);
    let most = 5 + most_probes(ends - all, Duration::ZERO);
    assert!(down <= most, "only probes: {down} of {most}");
    assert!(!full() || amplification <= 1.001, "{amplification}");
}
