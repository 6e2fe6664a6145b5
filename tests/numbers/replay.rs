//! Number 20: the same seed gives the same events, byte for byte; and a request that failed says all that was tried.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use steadfast::{
    BoxLlmService, BulkheadLayer, CircuitBreakerLayer, ErrorKind, Event, Events, FallbackLayer, LlmError, LlmRequest,
    ObserveLayer, RetryWithJitterLayer, TimeoutLayer,
    events::Subscriber,
    layers::fallback::StreamBreak,
    ledger::{Attempt, Next},
    providers::{
        Anthropic, OpenAi, Simulated,
        simulated::{Fault, FaultMix, Latency, Outage, server::InProcess},
    },
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::{ServiceBuilder, ServiceExt};

use crate::scaled;

const SECOND: Duration = Duration::from_secs(1);
/// How many requests a run has.
const REQUESTS: usize = 120;

/// What went wrong in one life of the two providers, by the seed.
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
    let pick = |mix: FaultMix, _| mix.with(random.f64() * 0.15, all[random.usize(..all.len())].clone());
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
struct Recorder(Arc<Mutex<String>>, Instant);

impl Subscriber for Recorder {
    fn event(&mut self, event: &Event) {
        let times: Vec<Instant> = match event {
            Event::RequestEnded(ended) => {
                let failures = ended.failures.iter().flat_map(|failures| failures.iter());
                failures.map(|failure| failure.begun).chain([ended.at]).collect()
            }
            Event::ModelSwitched { at, .. }
            | Event::ModelRecovered { at, .. }
            | Event::CircuitChanged { at, .. }
            | Event::AllTiersFailed { at, .. } => vec![*at],
            other => panic!("nobody sends this here: {other:?}"),
        };
        let mut text = format!("{event:?}");
        for time in times {
            text = text.replace(&format!("{time:?}"), &format!("{:?}", time - self.1));
        }
        writeln!(self.0.lock().unwrap(), "{text}").unwrap();
    }

    fn lost(&mut self, events: u64) {
        panic!("{events} were lost");
    }
}

/// What a run came to.
struct Run {
    log: String,
    /// How the failed requests failed.
    failed: Vec<LlmError>,
    /// The calls that the providers have seen, and those that the requests know of.
    seen: u64,
    known: usize,
}

fn sent(attempts: &[Attempt]) -> usize {
    attempts.iter().filter(|attempt| attempt.failure.is_some() && !attempt.is_local()).count()
}

async fn run(seed: u64) -> Run {
    let mut random = fastrand::Rng::with_seed(seed);
    let (start, events, log) = (Instant::now(), Events::new(), Arc::new(Mutex::new(String::new())));
    let following = events.follow(Recorder(log.clone(), start));
    let (first, second) = (provider("first", &mut random), provider("second", &mut random));
    let handles = [first.handle(), second.handle()];
    let tier = |name: &'static str, seed| {
        ServiceBuilder::new()
            .layer(RetryWithJitterLayer::new().seed(seed))
            .layer(CircuitBreakerLayer::new(name).cooldown(SECOND).seed(seed).events(events.clone()))
            .layer(TimeoutLayer::new(4 * SECOND).idle(SECOND))
    };
    let backup = tier("backup", seed + 1)
        .service(OpenAi::new("key").model("gpt").transport(InProcess::new(second)));
    let policy = [StreamBreak::Fail, StreamBreak::Restart, StreamBreak::Buffer][random.usize(..3)];
    let fallback = FallbackLayer::new("primary").events(events.clone()).stream_break(policy);
    let llm = ServiceBuilder::new()
        .layer(ObserveLayer::new(events.clone()))
        .layer(TimeoutLayer::new(8 * SECOND))
        .layer(BulkheadLayer::new().feature("chat", 30))
        .layer(fallback.tier("backup", backup))
        .layer(tier("primary", seed + 2).into_inner())
        .service(Anthropic::new("key").model("claude").transport(InProcess::new(first)));
    let llm = BoxLlmService::new(llm);

    let mut under_way = JoinSet::new();
    for number in 0..REQUESTS {
        sleep(SECOND.mul_f64(-random.f64().max(1e-9).ln() / 15.0)).await;
        let request = LlmRequest::prompt(format!("question {number}")).feature("chat").stream(random.bool()).explain();
        let llm = llm.clone();
        under_way.spawn(async move {
            let mut response = match llm.oneshot(request).await {
                Ok(response) => response,
                Err(error) => return (number, Err(error), 0),
            };
            let known = response.attempts().to_vec();
            while let Some(frame) = response.body_mut().frame().await {
                if let Err(error) = frame {
                    return (number, Err(error), sent(&known) + 1);
                }
            }
            (number, Ok(()), sent(&known) + 1)
        });
    }
    let (mut failed, mut known) = (Vec::new(), 0);
    while let Some(ended) = under_way.join_next().await {
        let (number, ended, of_response) = ended.unwrap();
        writeln!(log.lock().unwrap(), "{number} has ended: {}", ended.is_ok()).unwrap();
        match ended {
            Ok(()) => known += of_response,
            Err(error) => {
                known += sent(error.attempts()).max(of_response);
                failed.push(error);
            }
        }
    }
    sleep(SECOND).await;
    drop(following);
    let seen = handles.iter().map(|handle| handle.stats().calls).sum();
    Run { log: Arc::into_inner(log).map_or_else(String::new, |log| log.into_inner().unwrap()), failed, seen, known }
}

/// What is missing in the record of a failed request.
fn unexplained(error: &LlmError) -> Vec<String> {
    let attempts = error.attempts();
    let mut missing = Vec::new();
    if attempts.is_empty() {
        missing.push("no attempt is listed".to_owned());
    }
    // What never came to an answer of HTTP has no status.
    let without_status = [ErrorKind::Timeout, ErrorKind::Connect];
    for (place, attempt) in attempts.iter().enumerate() {
        let mut must = |what: &str, holds: bool| {
            if !holds {
                missing.push(format!("{place}: {what}: {attempt:?}"));
            }
        };
        must("its tier", attempt.tier.is_some());
        must("its class", attempt.failure.is_some());
        must("its reason", !attempt.message.is_empty());
        let last = place + 1 == attempts.len();
        must("what was done next", last || attempt.next != Next::GaveUp);
        if let (Next::Retried { after }, Some(next)) = (attempt.next, attempts.get(place + 1)) {
            must("its delay", next.begun >= attempt.begun + attempt.took + after);
        }
        if !attempt.is_local() {
            must("its provider", attempt.provider.is_some());
            let has_none = attempt.failure.is_some_and(|kind| without_status.contains(&kind));
            must("its status", attempt.status.is_some() || has_none);
        }
    }
    missing
}

#[test]
fn the_same_seed_gives_the_same_events_and_every_failure_is_explained() {
    let seeds = scaled(12, 1000);
    let virtually = |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(seed))
    };
    let (mut same, mut bytes, mut failed, mut explained, mut seen) = (0, 0, 0, 0, 0);
    let mut kinds = BTreeMap::<_, usize>::new();
    let mut missing = Vec::new();
    for seed in 0..seeds as u64 {
        let (one, other) = (virtually(seed), virtually(seed));
        bytes += one.log.len();
        match one.log.lines().zip(other.log.lines()).find(|(one, other)| one != other) {
            None if one.log.len() == other.log.len() && !one.log.is_empty() => same += 1,
            differs => missing.push(format!("seed {seed} is not the same again: {differs:#?}")),
        }
        if one.seen != one.known as u64 {
            missing.push(format!("seed {seed}: {} calls, {} are known", one.seen, one.known));
        }
        seen += one.seen;
        failed += one.failed.len();
        for error in &one.failed {
            *kinds.entry(error.kind().name()).or_default() += 1;
            let of_this = unexplained(error);
            explained += usize::from(of_this.is_empty());
            missing.extend(of_this.into_iter().map(|what| format!("seed {seed}: {what}")));
        }
    }
    println!(
        "number 20: {same} of {seeds} seeds twice the same, {} KB of events; {failed} of {} requests failed ({kinds:?}), \
         {explained} explained in full; {seen} calls",
        bytes >> 10,
        seeds * REQUESTS
    );
    missing.truncate(20);
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert_eq!((same, explained), (seeds, failed));
    assert!(failed > seeds, "too few to tell: {failed}");
}
