//! A caller may leave at any await point, and in the middle of any body: nothing is held afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::stream;
use steadfast::{
    BulkheadLayer, CircuitBreakerLayer, ErrorKind, Event, Events, FallbackLayer, Frame, HedgeLayer, LlmBody, LlmError,
    LlmRequest, LlmResponse, MirrorLayer, ObserveLayer, RetryBudget, RetryWithJitterLayer, StreamEvent, TimeoutLayer,
    chat::FinishReason,
    events::{CircuitState, RequestOutcome, Subscriber},
    provider_fn,
};
use tokio::time::{sleep, timeout};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

/// Counts what is alive at the leaf: calls and streams.
#[derive(Clone, Default)]
struct Alive(Arc<AtomicUsize>);

struct Life(Arc<AtomicUsize>);

impl Alive {
    fn begin(&self) -> Life {
        self.0.fetch_add(1, SeqCst);
        Life(self.0.clone())
    }

    fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

fn failure(random: u64) -> LlmError {
    let kinds = [ErrorKind::Server, ErrorKind::Overloaded, ErrorKind::RateLimited, ErrorKind::Timeout];
    let error = LlmError::new(kinds[random as usize % kinds.len()], "scripted");
    if random.is_multiple_of(20) { error.with_retry_after(Duration::from_millis(random % 100)) } else { error }
}

/// A leaf that waits, fails, answers, and streams frames with pauses between them, which may break: as the seed says.
fn leaf(
    alive: Alive,
    seed: u64,
) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + 'static {
    let calls = Arc::new(AtomicUsize::new(0));
    provider_fn(move |_request| {
        let mut random = fastrand::Rng::with_seed(seed ^ calls.fetch_add(1, SeqCst) as u64);
        let life = alive.begin();
        async move {
            for _ in 0..random.usize(0..4) {
                sleep(Duration::from_millis(random.u64(0..40))).await;
                tokio::task::yield_now().await;
            }
            match random.u64(0..10) {
                0 => Err(failure(random.u64(..))),
                1..4 => Ok(LlmResponse::from_text("whole")),
                _ => {
                    let frames = random.usize(0..6);
                    let broken = random.u8(0..4) == 0;
                    let stream = stream::unfold((0, random, life), move |(at, mut random, life)| async move {
                        sleep(Duration::from_millis(random.u64(0..20))).await;
                        let frame = match at {
                            _ if at < frames => Ok(Frame::text("word ")),
                            _ if at > frames => return None,
                            _ if broken => Err(failure(random.u64(..))),
                            _ => {
                                let end = vec![StreamEvent::Finish(FinishReason::Stop), StreamEvent::End];
                                Ok(Frame::events_of(end))
                            }
                        };
                        Some((frame, (at + 1, random, life)))
                    });
                    Ok(LlmResponse::new(LlmBody::from_frames(stream)))
                }
            }
        }
    })
}

/// Counts the requests that were told, and those of them whose callers had left.
#[derive(Clone, Default)]
struct Told(Arc<AtomicUsize>, Arc<AtomicUsize>);

impl Subscriber for Told {
    fn event(&mut self, event: &Event) {
        if let Event::RequestEnded(ended) = event {
            self.0.fetch_add(1, SeqCst);
            self.1.fetch_add(usize::from(ended.outcome == RequestOutcome::Abandoned), SeqCst);
        }
    }

    fn lost(&mut self, events: u64) {
        panic!("{events} were lost");
    }
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_callers_who_leave_holds_nothing_afterwards() {
    const LEAVES: usize = 100_000;
    const AT_ONCE: usize = 200;
    let (primary, backup) = (Alive::default(), Alive::default());
    let bulkhead =
        BulkheadLayer::new().feature("chat", 70).feature("summary", 50).queue(100).max_wait(Duration::from_millis(30));
    let circuits = [
        CircuitBreakerLayer::new("primary").consecutive_failures(20).cooldown(Duration::from_millis(50)),
        CircuitBreakerLayer::new("backup").consecutive_failures(20).cooldown(Duration::from_millis(50)),
    ];
    let (places, kept) = (bulkhead.handle(), circuits.clone());
    let [primary_circuit, backup_circuit] = circuits;
    let backup_stack = ServiceBuilder::new()
        .layer(RetryWithJitterLayer::new().seed(1))
        .layer(backup_circuit)
        .layer(TimeoutLayer::new(Duration::from_millis(100)).idle(Duration::from_millis(18)))
        .service(leaf(backup.clone(), 11));
    let budget = RetryBudget::with_limits(0.5, 1.0, 100).unwrap();
    let hedge = HedgeLayer::new("primary").tier("backup", backup_stack.clone()).after(Duration::from_millis(25));
    let hedge = hedge.extra(0.3).budget(budget.clone());
    let hedges = hedge.handle();
    let (events, told) = (Events::new(), Told::default());
    let subscription = events.follow(told.clone());
    let llm = ServiceBuilder::new()
        .layer(ObserveLayer::new(events))
        .layer(TimeoutLayer::new(Duration::from_millis(400)))
        .layer(bulkhead)
        .layer(FallbackLayer::new("primary").tier("backup", backup_stack))
        .layer(hedge)
        .layer(RetryWithJitterLayer::new().seed(2).budget(budget))
        .layer(primary_circuit)
        .layer(TimeoutLayer::new(Duration::from_millis(100)).idle(Duration::from_millis(18)))
        .service(leaf(primary.clone(), 7));

    let asked = Arc::new(AtomicUsize::new(0));
    // The number of callers who left while their call was under way, and in the middle of a body.
    let (left_calls, left_bodies) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..AT_ONCE {
        let (llm, asked) = (llm.clone(), asked.clone());
        let (left_calls, left_bodies) = (left_calls.clone(), left_bodies.clone());
        tasks.spawn(async move {
            let mut random = fastrand::Rng::with_seed(caller as u64);
            let mut left = 0;
            while left < LEAVES / AT_ONCE {
                let feature = ["chat", "summary", "unknown"][random.usize(0..3)];
                let request = LlmRequest::prompt("hello").with_feature(feature).with_stream(true);
                let patience = Duration::from_millis(random.u64(0..100));
                let most_frames = random.usize(0..8);
                let call = async {
                    asked.fetch_add(1, SeqCst);
                    let mut response = llm.clone().oneshot(request).await?;
                    for _ in 0..most_frames {
                        match response.body_mut().frame().await {
                            Some(frame) => drop(frame?),
                            None => return Ok(true),
                        }
                    }
                    Ok::<_, LlmError>(!response.body().arrives_in_frames())
                };
                match timeout(patience, call).await {
                    Ok(Ok(true)) => {}
                    Ok(Ok(false)) => {
                        left += 1;
                        left_bodies.fetch_add(1, SeqCst);
                    }
                    // Time passes for those who are refused, too.
                    Ok(Err(_)) => sleep(Duration::from_millis(random.u64(0..20))).await,
                    Err(_) => {
                        left += 1;
                        left_calls.fetch_add(1, SeqCst);
                    }
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let (left_calls, left_bodies) = (left_calls.load(SeqCst), left_bodies.load(SeqCst));
    println!("left: {left_calls} calls or bodies while waiting, {left_bodies} bodies half read");
    assert!(left_calls + left_bodies >= LEAVES && left_calls > LEAVES / 4 && left_bodies > LEAVES / 20);

    for feature in ["chat", "summary", "unknown"] {
        assert_eq!((places.in_flight(feature), places.queued(feature)), (0, 0), "{feature}");
    }
    assert_eq!((primary.count(), backup.count()), (0, 0), "no call and no stream is alive");
    let hedges = hedges.stats();
    println!("{hedges:?}");
    assert!(hedges.won > 1000 && hedges.sent > hedges.won && hedges.extra_load() <= 0.3);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(told.0.load(SeqCst), asked.load(SeqCst), "each request is told once");
    assert!((LEAVES / 2..=left_calls + left_bodies).contains(&told.1.load(SeqCst)), "and whose caller had left");
    drop((subscription, llm));
    tokio::task::yield_now().await;
    let alive_tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert_eq!(alive_tasks, 0, "the layers leave no task behind");

    // Every probe's place is back too: after its cooldown each circuit admits a probe, and closes on its success.
    let healthy = provider_fn(|_| async { Ok::<_, LlmError>(LlmResponse::from_text("healthy")) });
    for circuit in kept {
        for _ in 0..50 {
            sleep(Duration::from_millis(100)).await;
            let _ = circuit.layer(healthy).oneshot(LlmRequest::prompt("hello")).await;
        }
        assert_eq!(circuit.handle().state(), CircuitState::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_callers_who_leave_beside_a_candidate_leaves_nothing_behind() {
    const LEAVES: usize = 10_000;
    const AT_ONCE: usize = 100;
    let (primary, candidate) = (Alive::default(), Alive::default());
    let told = Arc::new(AtomicUsize::new(0));
    let counted = told.clone();
    let mirror = MirrorLayer::new(leaf(candidate.clone(), 3))
        .share(0.5)
        .seed(1)
        .max_in_flight(60)
        .timeout(Duration::from_millis(70))
        .compare(move |_| _ = counted.fetch_add(1, SeqCst));
    let mirrored = mirror.handle();
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_millis(400)))
        .layer(mirror)
        .layer(TimeoutLayer::new(Duration::from_millis(100)).idle(Duration::from_millis(18)))
        .service(leaf(primary.clone(), 7));
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..AT_ONCE {
        let (llm, under_way) = (llm.clone(), mirrored.clone());
        tasks.spawn(async move {
            let mut random = fastrand::Rng::with_seed(caller as u64);
            for _ in 0..LEAVES / AT_ONCE {
                let patience = Duration::from_millis(random.u64(0..100));
                let most_frames = random.usize(0..8);
                let call = async {
                    let mut response = llm.clone().oneshot(LlmRequest::prompt("hello").with_stream(true)).await.ok()?;
                    for _ in 0..most_frames {
                        response.body_mut().frame().await?.ok()?;
                    }
                    Some(())
                };
                let _ = timeout(patience, call).await;
                assert!(under_way.under_way() <= 60);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(primary.count(), 0, "no call and no stream of a caller is alive");
    drop(llm);
    sleep(Duration::from_secs(1)).await;
    let stats = mirrored.stats();
    assert_eq!((candidate.count(), mirrored.under_way()), (0, 0));
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0, "each task has ended by itself");
    assert_eq!((stats.mirrored, stats.refused, stats.panicked), (stats.compared + stats.unpaired, 0, 0));
    assert_eq!(told.load(SeqCst) as u64, stats.compared);
    assert!(stats.compared > LEAVES as u64 / 10 && stats.full > 0, "{stats:?}");
}
