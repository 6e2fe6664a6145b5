//! Number 10: the caller's deadline holds wherever the time goes: exactly in virtual time, and measured in real time on
//! a runtime that is loaded.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use steadfast::{
    BoxLlmService, BulkheadLayer, CircuitBreakerLayer, CommitOnFirstTokenLayer, ErrorKind, FallbackLayer, Frame,
    LlmBody, LlmError, LlmRequest, LlmResponse, RetryWithJitterLayer, StreamEvent, TimeoutLayer,
    layers::{
        bulkhead::Limits,
        fallback::{FeaturePolicy, StreamBreak},
    },
    provider_fn,
    providers::{OpenAi, Simulated, simulated::Fault, transport::HttpClient},
};
use steadfast_simulator::SimulatedServer;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use crate::numbers::scaled;

const HOUR: Duration = Duration::from_secs(3600);

/// The place where the time goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hang {
    /// The provider's client never becomes ready.
    Readiness,
    /// No place comes free.
    Queue,
    /// Nothing comes back.
    Call,
    /// Failures, until the wait before the next attempt would be too long.
    Backoff,
    /// A stream whose first token never comes, but signs of life do.
    FirstToken,
    /// An answer that is held back until it is whole, and never is.
    Held,
    /// The primary fails, and the tier after it says nothing.
    NextTier,
}

const HANGS: [Hang; 7] =
    [Hang::Readiness, Hang::Queue, Hang::Call, Hang::Backoff, Hang::FirstToken, Hang::Held, Hang::NextTier];

/// A client that is never ready.
#[derive(Clone)]
struct Unready;

impl Service<LlmRequest> for Unready {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = std::future::Pending<Result<LlmResponse, LlmError>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), LlmError>> {
        std::task::Poll::Pending
    }

    fn call(&mut self, _: LlmRequest) -> Self::Future {
        panic!("called without readiness")
    }
}

fn leaf(hang: Hang) -> BoxLlmService {
    let alive = || {
        Box::pin(stream::unfold((), |()| async {
            sleep(Duration::from_millis(20)).await;
            Some((Ok(Frame::event(StreamEvent::KeepAlive)), ()))
        }))
    };
    match hang {
        Hang::Readiness => BoxLlmService::new(Unready),
        Hang::Queue | Hang::Call => BoxLlmService::new(provider_fn(|_| std::future::pending::<Result<_, LlmError>>())),
        Hang::Backoff | Hang::NextTier => BoxLlmService::new(provider_fn(|_| async {
            sleep(Duration::from_millis(1)).await;
            Err::<LlmResponse, _>(LlmError::new(ErrorKind::Server, "down"))
        })),
        Hang::FirstToken => {
            let pings =
                provider_fn(move |_| async move { Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(alive()))) });
            BoxLlmService::new(CommitOnFirstTokenLayer::new().layer(pings))
        }
        Hang::Held => BoxLlmService::new(provider_fn(move |_| async move {
            let frames = stream::iter([Ok(Frame::text("half an "))]).chain(alive());
            Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(frames)))
        })),
    }
}

/// The stack of the first screen, with one place where the queue is what hangs. No tier but where one is asked for, so
/// that all of the time is the primary's.
fn stack(hang: Hang) -> BoxLlmService {
    let places = if hang == Hang::Queue { 1 } else { 100_000 };
    let bulkhead = Limits::new(places).queue(100_000).max_wait(HOUR);
    let tier = |leaf| {
        ServiceBuilder::new()
            .layer(RetryWithJitterLayer::new().seed(10))
            .layer(CircuitBreakerLayer::new("tier").consecutive_failures(u32::MAX))
            .layer(TimeoutLayer::new(HOUR))
            .service(leaf)
    };
    let policy = FeaturePolicy::new().min_useful(Duration::ZERO);
    let policy = if hang == Hang::Held { policy.stream_break(StreamBreak::Buffer) } else { policy };
    let fallback = FallbackLayer::new("primary").default_policy(policy);
    let primary = tier(leaf(hang));
    let llm =
        ServiceBuilder::new().layer(TimeoutLayer::new(HOUR)).layer(BulkheadLayer::new().feature("chat", bulkhead));
    match hang {
        Hang::NextTier => BoxLlmService::new(llm.layer(fallback.tier("next", tier(leaf(Hang::Call)))).service(primary)),
        Hang::Held => BoxLlmService::new(llm.layer(fallback).service(primary)),
        _ => BoxLlmService::new(llm.service(primary)),
    }
}

fn ask(hang: Hang, deadline: Duration) -> LlmRequest {
    let stream = matches!(hang, Hang::FirstToken | Hang::Held);
    LlmRequest::prompt("hello").with_feature("chat").with_stream(stream).with_timeout(deadline)
}

/// Takes the only place, where the queue is what hangs.
fn hold_the_place(hang: Hang, llm: &BoxLlmService) -> Option<tokio::task::JoinHandle<()>> {
    let held = llm.clone().oneshot(LlmRequest::prompt("held").with_feature("chat"));
    (hang == Hang::Queue).then(|| tokio::spawn(async move { drop(held.await) }))
}

/// Returns true for an error of time, or the provider's own failure if no time was left for more.
fn is_named(error: &LlmError) -> bool {
    matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Deadline | ErrorKind::Server)
}

/// In virtual time: at the deadline, and not a moment later.
#[tokio::test(start_paused = true)]
async fn wherever_the_time_goes_the_deadline_ends_it() {
    for hang in HANGS {
        let llm = stack(hang);
        let held = hold_the_place(hang, &llm);
        tokio::task::yield_now().await;
        for millis in [10, 50, 333, 10_000] {
            let (deadline, begun) = (Duration::from_millis(millis), Instant::now());
            let error = llm.clone().oneshot(ask(hang, deadline)).await.map(drop).unwrap_err();
            let took = begun.elapsed();
            assert!(is_named(&error), "{hang:?}: {error:?}");
            assert!(took <= deadline, "{hang:?}: {took:?} of {deadline:?}");
            // A stack whose attempts fail may give up before; a hang lasts until the deadline.
            assert!(hang == Hang::Backoff || took == deadline, "{hang:?}: {took:?} of {deadline:?}");
        }
        held.inspect(tokio::task::JoinHandle::abort);
    }
}

/// Work that is none of ours, on the same threads: slices of half a millisecond, and a pause of the same length.
async fn load(stop: Arc<AtomicBool>) {
    while !stop.load(SeqCst) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(500) {
            std::hint::spin_loop();
        }
        sleep(Duration::from_micros(500)).await;
    }
}

/// A leaf that speaks HTTP to a server with this fault.
async fn over_http(fault: Fault) -> (SimulatedServer, BoxLlmService) {
    let server = SimulatedServer::start(Simulated::new("slow").fault_mix(fault)).await.unwrap();
    let leaf = OpenAi::new("key").model("m").base_url(&format!("{}/v1", server.base_url())).unwrap();
    let leaf = leaf.transport(HttpClient::new().no_proxy());
    (server, BoxLlmService::new(ServiceBuilder::new().layer(TimeoutLayer::new(HOUR)).service(leaf)))
}

/// In real time on two threads that have other work too: by how much callers wait longer than they said. Printed, and
/// in `BENCHMARKS.md`: a test that asserts real times fails on a busy machine.
#[test]
fn the_deadline_is_measured_in_real_time() {
    let (requests, at_once) = (scaled(1_000, 100_000), scaled(100, 1_000));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut overruns = runtime.block_on(async {
        let stop = Arc::new(AtomicBool::new(false));
        let loads: Vec<_> = (0..2).map(|_| tokio::spawn(load(stop.clone()))).collect();
        let mut phases: Vec<(&str, Hang, BoxLlmService)> = Vec::new();
        let mut servers = Vec::new();
        for (name, hang, fault) in [
            ("HTTP, before the head", Hang::Call, Fault::Hang),
            ("HTTP, in the body", Hang::Call, Fault::StallAfter(2)),
            (
                "HTTP, before the first token",
                Hang::FirstToken,
                Fault::KeepAlivesOnly { every: Duration::from_millis(50) },
            ),
        ] {
            let (server, llm) = over_http(fault).await;
            servers.push(server);
            phases.push((name, hang, llm));
        }
        let names = ["readiness", "queue", "call", "backoff", "first token", "held back", "next tier"];
        phases.extend(HANGS.into_iter().zip(names).map(|(hang, name)| (name, hang, stack(hang))));
        let held: Vec<_> = phases.iter().filter_map(|(_, hang, llm)| hold_the_place(*hang, llm)).collect();
        let mut overruns: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
        let (share, each) = (at_once / phases.len(), requests / phases.len());
        let mut callers = tokio::task::JoinSet::new();
        for (name, hang, llm) in phases {
            for caller in 0..share {
                let llm = llm.clone();
                callers.spawn(async move {
                    let mut random = fastrand::Rng::with_seed(caller as u64);
                    let mut overruns = Vec::new();
                    for _ in 0..each / share {
                        let deadline = Duration::from_millis(random.u64(100..400));
                        let begun = Instant::now();
                        let answered = llm.clone().oneshot(ask(hang, deadline)).await;
                        overruns.push(begun.elapsed().saturating_sub(deadline));
                        let error = answered.map(drop).unwrap_err();
                        assert!(is_named(&error), "{name}: {error:?}");
                    }
                    (name, overruns)
                });
            }
        }
        while let Some(caller) = callers.join_next().await {
            let (name, of_caller) = caller.unwrap();
            overruns.entry(name).or_default().extend(of_caller);
        }
        stop.store(true, SeqCst);
        for load in loads {
            load.await.unwrap();
        }
        held.iter().for_each(tokio::task::JoinHandle::abort);
        overruns
    });
    let all: Vec<_> = overruns.values().flatten().copied().collect();
    overruns.insert("all", all);
    for (name, overruns) in &mut overruns {
        overruns.sort();
        let at = |share: f64| overruns[((overruns.len() - 1) as f64 * share) as usize];
        println!(
            "number 10: {name}: {} requests, over their deadline by {:.1?} at the median, {:.1?} at p99, {:.1?} at p99.9, \
             {:.1?} at most; {} by more than 250 ms",
            overruns.len(),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0),
            overruns.iter().filter(|overrun| **overrun > Duration::from_millis(250)).count()
        );
    }
    assert!(overruns["all"].len() >= requests * 9 / 10, "every phase was asked");
}
