//! The purpose of hedging: the tail of the first tokens, for a twentieth of the calls.
//!
//! Number 19 of what a failover layer must survive: extra calls at most 5 %, the 99th percentile of the time to the
//! first token cut by half or more where answers are log-normal and one in a hundred stalls, and the loser dropped
//! within 10 ms. `STEADFAST_SCALE=full` asks 450,000 times in place of 10,000.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::stream;
use steadfast::{
    CircuitBreakerLayer, Frame, HedgeLayer, LlmBody, LlmError, LlmRequest, LlmResponse, RetryWithJitterLayer,
    StreamEvent, TimeoutLayer, chat::FinishReason, events::CircuitState, layers::hedge::HedgeStats, provider_fn,
    providers::simulated::Latency,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::{Service, ServiceBuilder, ServiceExt};

/// The times at which calls of a request were dropped before they had answered.
#[derive(Clone, Default)]
struct Dropped(Arc<Mutex<Vec<Instant>>>);

struct Call(Option<Dropped>);

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(dropped) = &self.0 {
            dropped.0.lock().unwrap().push(Instant::now());
        }
    }
}

/// A provider of streams: log-normal to the first token, with a median of 600 ms and a 99th percentile of 2 s; and one
/// call of each hundred stalls for 30 s.
fn provider(
    seed: u64,
) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + 'static {
    let usual = Latency::percentiles(Duration::from_millis(600), Duration::from_secs(2));
    let state = Arc::new(Mutex::new((fastrand::Rng::with_seed(seed), 0, 0)));
    provider_fn(move |request: LlmRequest| {
        let takes = {
            let (random, calls, stalls) = &mut *state.lock().unwrap();
            if *calls % 100 == 0 {
                *stalls = *calls + random.u64(0..100);
            }
            let stall = if *calls == *stalls { Duration::from_secs(30) } else { Duration::ZERO };
            *calls += 1;
            usual.sample(random) + stall
        };
        let call = Call(request.extensions().get::<Dropped>().cloned());
        async move {
            let mut call = call;
            sleep(takes).await;
            call.0 = None;
            let end = vec![StreamEvent::Finish(FinishReason::Stop), StreamEvent::End];
            let frames = [Ok(Frame::text("hello")), Ok(Frame::events_of(end))];
            Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(stream::iter(frames))))
        }
    })
}

/// One tier's stack.
fn tier(
    circuit: &CircuitBreakerLayer,
    seed: u64,
) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + 'static {
    ServiceBuilder::new()
        .layer(RetryWithJitterLayer::new().seed(seed))
        .layer(circuit.clone())
        .layer(TimeoutLayer::new(Duration::from_secs(60)))
        .service(provider(seed))
}

#[derive(Default)]
struct Measured {
    first_tokens: Vec<Duration>,
    /// The longest time from an answer until its loser was dropped.
    loser: Duration,
    losers: usize,
}

impl Measured {
    /// Returns the time that this share of the requests stays below.
    fn quantile(&self, share: f64) -> Duration {
        self.first_tokens[(self.first_tokens.len() as f64 * share) as usize]
    }
}

/// Fifty requests a second.
async fn ask<S>(llm: S, requests: usize) -> Measured
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + 'static,
{
    let mut asked = JoinSet::new();
    let mut measured = Measured::default();
    for _ in 0..requests {
        let llm = llm.clone();
        asked.spawn(async move {
            let dropped = Dropped::default();
            let request = LlmRequest::prompt("hello").with_stream(true).with_extension(dropped.clone());
            let begun = Instant::now();
            let response = llm.oneshot(request).await.unwrap();
            let (answered, took) = (Instant::now(), begun.elapsed());
            assert_eq!(response.text().await.unwrap(), "hello");
            let dropped = dropped.0.lock().unwrap().clone();
            (took, dropped.into_iter().map(|at| at.max(answered) - at.min(answered)).collect::<Vec<_>>())
        });
        sleep(Duration::from_millis(20)).await;
        while let Some(done) = asked.try_join_next() {
            measured.take(done.unwrap());
        }
    }
    while let Some(done) = asked.join_next().await {
        measured.take(done.unwrap());
    }
    measured.first_tokens.sort_unstable();
    measured
}

impl Measured {
    fn take(&mut self, (took, losers): (Duration, Vec<Duration>)) {
        self.first_tokens.push(took);
        self.losers += losers.len();
        self.loser = losers.into_iter().fold(self.loser, Duration::max);
    }
}

fn requests() -> usize {
    if std::env::var("STEADFAST_SCALE").as_deref() == Ok("full") { 450_000 } else { 10_000 }
}

fn holds(name: &str, plain: &Measured, hedged: &Measured, stats: HedgeStats) {
    let all = hedged.first_tokens.len();
    println!(
        "{name}: {all} requests, p50 {:?} -> {:?}, p99 {:?} -> {:?}, p99.9 {:?} -> {:?}; extra {:.2} %, won {}, losers {}",
        plain.quantile(0.5),
        hedged.quantile(0.5),
        plain.quantile(0.99),
        hedged.quantile(0.99),
        plain.quantile(0.999),
        hedged.quantile(0.999),
        stats.extra_load() * 100.0,
        stats.won,
        hedged.losers,
    );
    assert!(stats.extra_load() <= 0.05 && stats.calls == all as u64, "{stats:?}");
    assert!(hedged.quantile(0.99) * 2 <= plain.quantile(0.99), "the 99th percentile");
    assert!(hedged.quantile(0.5) <= plain.quantile(0.5).mul_f64(1.05), "and the median stays");
    assert_eq!(hedged.losers as u64, stats.sent, "of each two calls one is dropped");
    assert!(hedged.loser <= Duration::from_millis(10), "{:?}", hedged.loser);
}

#[tokio::test(start_paused = true)]
async fn a_twentieth_more_calls_cut_the_99th_percentile_by_half_and_more() {
    let circuits = ["sonnet", "gpt"].map(CircuitBreakerLayer::new);
    let plain = ask(tier(&circuits[0], 1), requests()).await;

    let hedge = HedgeLayer::new("sonnet").tier("gpt", tier(&circuits[1], 2));
    let handle = hedge.handle();
    let hedged = ask(ServiceBuilder::new().layer(hedge).service(tier(&circuits[0], 1)), requests()).await;
    holds("another tier", &plain, &hedged, handle.stats());

    let hedge = HedgeLayer::new("sonnet");
    let handle = hedge.handle();
    let hedged = ask(ServiceBuilder::new().layer(hedge).service(tier(&circuits[0], 3)), requests()).await;
    holds("the same service", &plain, &hedged, handle.stats());
    assert!(circuits.iter().all(|circuit| circuit.handle().state() == CircuitState::Closed), "nobody is down");
}
