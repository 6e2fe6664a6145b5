//! Number 20: the same seed gives the same events, byte for byte; and a request that failed says all that was tried.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::Request;
use http_body_util::{BodyExt, Full};
use steadfast::{
    BoxLlmService, BulkheadLayer, CircuitBreakerLayer, ErrorKind, Event, Events, FallbackLayer, LlmError, LlmRequest,
    ObserveLayer, RetryWithJitterLayer, TimeoutLayer,
    events::Subscriber,
    layers::fallback::{FeaturePolicy, StreamBreak},
    ledger::{Attempt, Next},
    providers::{
        Anthropic, OpenAi, Simulated,
        simulated::{Fault, FaultMix, Latency, Outage},
    },
};
use steadfast_simulator::InProcess;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

use crate::numbers::scaled;

const SECOND: Duration = Duration::from_secs(1);
/// The number of requests in a run.
const REQUESTS: usize = 120;

/// Returns the faults in one life of the two providers, by the seed.
fn faults(random: &mut fastrand::Rng) -> FaultMix {
    let all = [
        Fault::ServerError,
        Fault::BadGateway,
        Fault::Overloaded,
        Fault::RateLimited { retry_after: Some(SECOND) },
        Fault::RateLimited { retry_after: None },
        Fault::ComeBackLater,
        Fault::InsufficientQuota,
        Fault::Unauthorized,
        Fault::BadRequest,
        Fault::ContextLength,
        Fault::Status(530),
        Fault::Refused,
        Fault::Hang,
        Fault::Slow(3 * SECOND),
        Fault::Empty,
        Fault::CutAfter(3),
        Fault::TruncatedAfter(0),
        Fault::MalformedAfter(1),
        Fault::StallAfter(2),
        Fault::ErrorEventAfter(0),
        Fault::HtmlPage,
    ];
    let pick = |mix: FaultMix, _| mix.with(random.f64() * 0.1, all[random.usize(..all.len())].clone());
    (0..5).fold(FaultMix::new(), pick)
}

fn provider(name: &str, random: &mut fastrand::Rng) -> Simulated {
    let worse = Outage::new(2 * SECOND, 6 * SECOND, faults(random).with(0.6, Fault::ServerError));
    Simulated::new(name)
        .seed(random.u64(..))
        .latency(Latency::percentiles(SECOND / 5, 2 * SECOND))
        .pace(SECOND / 50)
        .tokens(1..=12)
        .fault_mix(faults(random))
        .outages([worse])
}

/// Writes down every event, with the times since the start in place of the times.
struct Recorder {
    start: Instant,
    log: Arc<Mutex<String>>,
}

impl Subscriber for Recorder {
    fn event(&mut self, event: &Event) {
        let times: Vec<Instant> = match event {
            Event::RequestEnded(ended) => {
                let failures = ended.failures.iter().flat_map(|failures| failures.iter());
                failures.map(|failure| failure.begun).chain([ended.at]).collect()
            }
            Event::ModelSwitched { at, failure, .. } | Event::CircuitChanged { at, failure, .. } => {
                failure.iter().map(|failure| failure.at).chain([*at]).collect()
            }
            Event::ModelRecovered { at, .. } | Event::LateResult { at, .. } | Event::AllTiersFailed { at, .. } => {
                vec![*at]
            }
            other => panic!("nobody sends this here: {other:?}"),
        };
        let mut text = format!("{event:?}");
        for time in times {
            text = text.replace(&format!("{time:?}"), &format!("{:?}", time - self.start));
        }
        writeln!(self.log.lock().unwrap(), "{text}").unwrap();
    }

    fn lost(&mut self, events: u64) {
        panic!("{events} were lost");
    }
}

/// A request that failed.
struct Failed {
    error: LlmError,
    /// The record: the error's, or the answer's if it had begun and no layer went on.
    record: Vec<Attempt>,
    /// The number of its calls that the providers have seen, and of those that its record accounts for.
    seen: usize,
    known: usize,
}

/// The result of a run.
struct Run {
    log: String,
    failed: Vec<Failed>,
}

/// The calls that the providers have seen, by the number of the request.
type Seen = Arc<Mutex<Vec<usize>>>;

/// A provider's protocol, with its calls counted.
fn counted(
    provider: Simulated,
    seen: &Seen,
) -> impl Service<
    Request<Full<Bytes>>,
    Response = <InProcess as Service<Request<Full<Bytes>>>>::Response,
    Error = BoxError,
    Future: Send,
> + Clone
+ Send
+ Sync
+ 'static {
    let seen = seen.clone();
    InProcess::new(provider).map_request(move |request: Request<Full<Bytes>>| {
        let body = request.body().clone().collect().now_or_never().unwrap().unwrap().to_bytes();
        let text = std::str::from_utf8(&body).unwrap();
        let number = text.split_once("question ").unwrap().1.split(|next: char| !next.is_ascii_digit()).next();
        seen.lock().unwrap()[number.unwrap().parse::<usize>().unwrap()] += 1;
        request
    })
}

async fn run(seed: u64) -> Run {
    let mut random = fastrand::Rng::with_seed(seed);
    let (start, events, log) = (Instant::now(), Events::new(), Arc::new(Mutex::new(String::new())));
    let subscription = events.follow(Recorder { start, log: log.clone() });
    let (first, second) = (provider("first", &mut random), provider("second", &mut random));
    let seen = Seen::new(Mutex::new(vec![0; REQUESTS]));
    let tier = |name: &'static str, seed| {
        ServiceBuilder::new()
            .layer(RetryWithJitterLayer::new().seed(seed))
            .layer(
                CircuitBreakerLayer::new(name).cooldown(SECOND / 2).latch(SECOND / 2).seed(seed).events(events.clone()),
            )
            .layer(TimeoutLayer::new(4 * SECOND).idle(SECOND))
    };
    let backup = tier("backup", seed + 1).service(OpenAi::new("key").model("gpt").transport(counted(second, &seen)));
    let policy = [StreamBreak::Fail, StreamBreak::Restart, StreamBreak::Buffer][random.usize(..3)];
    let fallback =
        FallbackLayer::new("primary").events(events.clone()).default_policy(FeaturePolicy::new().stream_break(policy));
    let llm = ServiceBuilder::new()
        .layer(ObserveLayer::new(events.clone()))
        .layer(TimeoutLayer::new(8 * SECOND))
        .layer(BulkheadLayer::new().feature("chat", 30))
        .layer(fallback.tier("backup", backup))
        .layer(tier("primary", seed + 2).into_inner())
        .service(Anthropic::new("key").model("claude").transport(counted(first, &seen)));
    let llm = BoxLlmService::new(llm);

    let mut under_way = JoinSet::new();
    for number in 0..REQUESTS {
        sleep(SECOND.mul_f64(-random.f64().max(1e-9).ln() / 15.0)).await;
        let request = LlmRequest::prompt(format!("question {number}")).with_feature("chat").with_stream(random.bool());
        let llm = llm.clone();
        under_way.spawn(async move {
            let (error, before) = match llm.oneshot(request).await {
                Err(error) => (error, None),
                Ok(response) => {
                    assert!(response.served_by().provider.is_some());
                    let before = response.attempts().to_vec();
                    match response.collect().await {
                        Ok(_) => return (number, None),
                        Err(error) => (error, Some(before)),
                    }
                }
            };
            let sent = |record: &[Attempt]| record.iter().filter(|attempt| !attempt.is_local()).count();
            let record = match before {
                // The answer broke off where nobody was to go on: it is the error itself that tells of it.
                Some(before) if error.attempts().is_empty() => (sent(&before) + 1, before),
                _ => (sent(error.attempts()), error.attempts().to_vec()),
            };
            (number, Some((error, record)))
        });
    }
    let mut failed = Vec::new();
    while let Some(ended) = under_way.join_next().await {
        let (number, ended) = ended.unwrap();
        writeln!(log.lock().unwrap(), "{number} has ended: {}", ended.is_none()).unwrap();
        let seen = seen.lock().unwrap()[number];
        failed.extend(ended.map(|(error, (known, record))| Failed { error, record, seen, known }));
    }
    sleep(SECOND).await;
    drop(subscription);
    let log = std::mem::take(&mut *log.lock().unwrap());
    Run { log, failed }
}

/// Returns the facts that are missing in the record of a failed request.
fn unexplained(failed: &Failed) -> Vec<String> {
    let (error, attempts) = (&failed.error, &failed.record);
    let mut missing = Vec::new();
    if failed.seen != failed.known {
        missing.push(format!("{} calls, and {} in the record: {error:?}", failed.seen, failed.known));
    }
    // Whose it was where its answer had begun, the answer has said.
    if error.attempts().is_empty() && error.status().is_none() && error.timeout().is_none() {
        missing.push(format!("a broken answer that does not say how: {error:?}"));
    }
    // A call that never had an answer of HTTP has no status.
    let without_status = [ErrorKind::Timeout, ErrorKind::Connect];
    for (place, attempt) in attempts.iter().enumerate() {
        let mut must = |what: &str, holds: bool| {
            if !holds {
                missing.push(format!("{place}: {what}: {attempt:?}, and after it {:?}", attempts.get(place + 1)));
            }
        };
        // The limit of a feature is outside of all tiers.
        must("its tier", attempt.tier.is_some() || attempt.failure == Some(ErrorKind::BulkheadFull));
        must("its class", attempt.failure.is_some());
        must("its reason", attempt.message != "");
        let last = place + 1 == attempts.len();
        must("what was done next", last || attempt.next != Next::GaveUp);
        if let (Next::Retried { after }, Some(next)) = (attempt.next, attempts.get(place + 1)) {
            must("its delay", next.begun >= attempt.begun + attempt.took + after);
        }
        if !attempt.is_local() {
            // Our own limit may end a call before anything comes; then its tier names the provider.
            let silent =
                attempt.failure == Some(ErrorKind::Timeout) && !attempt.message.as_str().contains("of the stream");
            must("its provider", attempt.provider.is_some() || silent);
            let has_none = attempt.failure.is_some_and(|kind| without_status.contains(&kind));
            must("its status", attempt.status.is_some() || has_none);
        }
    }
    missing
}

#[test]
fn the_same_seed_gives_the_same_events_and_every_failure_is_explained() {
    let seeds = scaled(6, 1000);
    let virtually = |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(seed))
    };
    let (mut same, mut bytes, mut failed, mut explained, mut calls) = (0, 0, 0, 0, 0);
    let mut kinds = BTreeMap::<_, usize>::new();
    let mut missing = Vec::new();
    for seed in 0..seeds as u64 {
        let (one, other) = (virtually(seed), virtually(seed));
        bytes += one.log.len();
        match one.log.lines().zip(other.log.lines()).find(|(one, other)| one != other) {
            None if one.log.len() == other.log.len() && !one.log.is_empty() => same += 1,
            differs => missing.push(format!("seed {seed} is not the same again: {differs:#?}")),
        }
        failed += one.failed.len();
        for one in &one.failed {
            calls += one.seen;
            *kinds.entry(one.error.kind().name()).or_default() += 1;
            let of_this = unexplained(one);
            explained += usize::from(of_this.is_empty());
            missing.extend(of_this.into_iter().map(|what| format!("seed {seed}: {what}")));
        }
    }
    println!(
        "number 20: {same} of {seeds} seeds twice the same, {} KB of events; {failed} of {} requests failed ({kinds:?}), \
         {explained} of them with every one of their {calls} attempts",
        bytes >> 10,
        seeds * REQUESTS
    );
    missing.truncate(20);
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert_eq!((same, explained), (seeds, failed));
    assert!(failed > seeds, "too few to tell: {failed}");
}
