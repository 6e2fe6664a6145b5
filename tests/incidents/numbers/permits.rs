//! Number 7: callers who leave at any poll, of any number of clones, with every layer in the stack, leak nothing.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{
    StreamExt,
    future::join_all,
    stream::{self, FuturesUnordered},
};
use steadfast::{
    BoxLlmService, BudgetHandle, BudgetLayer, BulkheadHandle, BulkheadLayer, CacheLayer, CircuitBreakerHandle,
    CircuitBreakerLayer, CommitOnFirstTokenLayer, ErrorKind, Events, FallbackLayer, Frame, IdempotencyHandle,
    IdempotencyLayer, LlmBody, LlmError, LlmRequest, LlmResponse, ObserveLayer, RetryWithJitterLayer, RouteLayer,
    StreamEvent, TimeoutLayer,
    chat::{Chat, FinishReason, Message, Usage},
    layers::{
        budget::{AtCap, Cap, Period},
        bulkhead::Limits,
        fallback::{FeaturePolicy, StreamBreak},
        route::Rule,
    },
    prices::{Price, PriceTable, Usd},
};
use tokio::time::sleep;
use tower::{Service, ServiceBuilder, ServiceExt};

use crate::numbers::scaled;

const FEATURES: [(&str, usize); 3] = [("chat", 12), ("summary", 7), ("unknown", 5)];

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A provider that is unready, waits, fails, answers and breaks off as its seed says, and counts what of it is alive.
struct Shaky {
    shared: Arc<Shared>,
    random: fastrand::Rng,
}

#[derive(Default)]
struct Shared {
    alive: AtomicUsize,
    clones: AtomicUsize,
    /// From now on all is well.
    healthy: AtomicBool,
}

struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, SeqCst);
    }
}

impl Clone for Shaky {
    fn clone(&self) -> Self {
        let seed = self.shared.clones.fetch_add(1, SeqCst) as u64;
        Self { shared: self.shared.clone(), random: fastrand::Rng::with_seed(seed) }
    }
}

impl Shaky {
    fn new() -> Self {
        Self { shared: Arc::default(), random: fastrand::Rng::with_seed(7) }
    }
}

fn failure(random: &mut fastrand::Rng) -> LlmError {
    let kinds = [ErrorKind::Server, ErrorKind::Overloaded, ErrorKind::RateLimited, ErrorKind::Timeout];
    let error = LlmError::new(kinds[random.usize(..kinds.len())], "scripted");
    if random.u8(..) < 12 { error.with_retry_after(millis(random.u64(0..100))) } else { error }
}

impl Service<LlmRequest> for Shaky {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = Pin<Box<dyn Future<Output = Result<LlmResponse, LlmError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        match self.random.u8(..) {
            _ if self.shared.healthy.load(SeqCst) => Poll::Ready(Ok(())),
            0..5 => Poll::Ready(Err(failure(&mut self.random))),
            5..60 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: LlmRequest) -> Self::Future {
        self.shared.alive.fetch_add(1, SeqCst);
        let (alive, mut random) = (Alive(self.shared.clone()), self.random.fork());
        Box::pin(async move {
            let healthy = alive.0.healthy.load(SeqCst);
            if healthy {
                sleep(millis(100)).await;
            }
            for _ in 0..random.usize(0..4) * usize::from(!healthy) {
                sleep(millis(random.u64(0..40))).await;
                tokio::task::yield_now().await;
            }
            let usage = Usage::new(9, 9);
            let body = match random.u8(0..10) {
                _ if healthy || !request.is_stream() => {
                    let mut message = Message::assistant("whole");
                    message.usage = Some(usage);
                    return Ok(LlmResponse::from_message(message).with_model("provider", "large"));
                }
                0..2 => return Err(failure(&mut random)),
                _ => {
                    let (frames, breaks) = (random.usize(0..6), random.u8(0..4) == 0);
                    stream::unfold((0, random, alive), move |(at, mut random, alive)| async move {
                        sleep(millis(random.u64(0..20))).await;
                        let frame = match at {
                            _ if at < frames => Ok(Frame::text("word ")),
                            _ if at > frames => return None,
                            _ if breaks => Err(failure(&mut random)),
                            _ => Ok(Frame::events_of(vec![
                                StreamEvent::Usage(usage),
                                StreamEvent::Finish(FinishReason::Stop),
                                StreamEvent::End,
                            ])),
                        };
                        Some((frame, (at + 1, random, alive)))
                    })
                }
            };
            Ok(LlmResponse::new(LlmBody::from_frames(body)).with_model("provider", "large"))
        })
    }
}

/// Every layer, and what tells whether anything is held.
struct Stack {
    llm: BoxLlmService,
    leaves: [Arc<Shared>; 3],
    places: BulkheadHandle,
    budget: BudgetHandle,
    keys: IdempotencyHandle,
    circuits: [CircuitBreakerHandle; 3],
}

fn stack() -> Stack {
    let leaves = [Shaky::new(), Shaky::new(), Shaky::new()];
    let shared = leaves.each_ref().map(|leaf| leaf.shared.clone());
    let breakers = ["primary", "backup", "small"]
        .map(|name| CircuitBreakerLayer::new(name).consecutive_failures(20).cooldown(millis(50)).seed(1));
    let circuits = breakers.each_ref().map(CircuitBreakerLayer::handle);
    let mut tiers = breakers.into_iter().zip(leaves).zip(1..).map(|((breaker, leaf), seed)| {
        let tier = ServiceBuilder::new()
            .layer(RetryWithJitterLayer::new().seed(seed))
            .layer(CommitOnFirstTokenLayer::new())
            .layer(breaker)
            .layer(TimeoutLayer::new(millis(150)).first_token(millis(120)).idle(millis(18)))
            .service(leaf);
        BoxLlmService::new(tier)
    });
    let [primary, backup, small] = std::array::from_fn(|_| tiers.next().expect("three tiers"));

    let limits = |limit| Limits::new(limit).queue(20).max_wait(millis(30));
    let [chat, summary, unknown] = FEATURES;
    let bulkhead = BulkheadLayer::new()
        .feature(chat.0, limits(chat.1))
        .feature(summary.0, limits(summary.1))
        .default_limit(limits(unknown.1));
    let prices = PriceTable::empty().with("large", Price::dollars(1.0, 1.0).unwrap());
    let cap = Cap::new("all", Usd::from_dollars(1e6).unwrap(), Period::Month).at_cap(AtCap::Warn);
    let budget = BudgetLayer::new(prices).cap(cap);
    let idempotency = IdempotencyLayer::new().grace(Duration::ZERO).ttl(millis(200));
    let (places, money, keys) = (bulkhead.handle(), budget.handle(), idempotency.handle());
    let llm = ServiceBuilder::new()
        .layer(ObserveLayer::new(Events::new()))
        .layer(TimeoutLayer::new(millis(400)))
        .layer(idempotency)
        .layer(CacheLayer::new().ttl(millis(50)))
        .layer(budget)
        .layer(bulkhead)
        .layer(RouteLayer::new().rule(Rule::new("short").feature("summary"), small))
        .layer(
            FallbackLayer::new("primary")
                .tier("backup", backup)
                .default_policy(FeaturePolicy::new().stream_break(StreamBreak::Restart))
                .feature("unknown", FeaturePolicy::new().stream_break(StreamBreak::Buffer)),
        )
        .service(primary);
    Stack { llm: BoxLlmService::new(llm), leaves: shared, places, budget: money, keys, circuits }
}

impl Stack {
    /// Returns the permits that are still held.
    fn held(&self) -> String {
        let places = FEATURES.map(|(feature, _)| (self.places.in_flight(feature), self.places.queued(feature)));
        let circuits = self.circuits.each_ref().map(CircuitBreakerHandle::in_flight);
        let alive = self.leaves.each_ref().map(|leaf| leaf.alive.load(SeqCst));
        let held = (places, circuits, alive, self.budget.reserved("all"), self.keys.under_way());
        if held == ([(0, 0); 3], [0; 3], [0; 3], Usd::ZERO, 0) { String::new() } else { format!("{held:?}") }
    }
}

/// Drops its future after so many polls that found nothing. Tells whether it did.
struct Leaves<F> {
    future: Option<Pin<Box<F>>>,
    polls: usize,
}

impl<F: Future<Output = ()>> Future for Leaves<F> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        if self.polls > 0 {
            self.polls -= 1;
            let future = self.future.as_mut().expect("not polled after its end");
            if future.as_mut().poll(cx).is_ready() {
                return Poll::Ready(false);
            }
        }
        if self.polls > 0 {
            return Poll::Pending;
        }
        self.future = None;
        Poll::Ready(true)
    }
}

fn ask(random: &mut fastrand::Rng) -> LlmRequest {
    let question = format!("question {}", random.u32(..200));
    let chat = Chat::new([Message::user(question)]).model("large").max_tokens(100);
    let request = LlmRequest::from(chat).with_feature(FEATURES[random.usize(..3)].0).with_stream(random.u8(0..4) > 0);
    match random.u8(0..8) {
        0 => request.with_idempotency_key(format!("key {}", random.u8(0..4))),
        _ => request,
    }
}

#[tokio::test(start_paused = true)]
async fn callers_who_leave_at_any_poll_leak_no_place_probe_or_reservation() {
    let (leaving, mut left, mut ended, mut rounds) = (scaled(3_000, 1_000_000), 0, 0, 0);
    let stack = stack();
    let mut random = fastrand::Rng::with_seed(7);
    while left < leaving {
        let mut calls = FuturesUnordered::new();
        for _ in 0..random.usize(1..=64) {
            let mut llm = stack.llm.clone();
            llm.ready().await.unwrap();
            if random.u8(0..16) == 0 {
                // A clone that was ready and is never called.
                continue;
            }
            // Called, and then perhaps never polled.
            let call = llm.call(ask(&mut random));
            let read = async move {
                let Ok(mut response) = call.await else { return };
                while let Some(Ok(_)) = response.body_mut().frame().await {}
            };
            calls.push(Leaves { future: Some(Box::pin(read)), polls: random.usize(0..24) });
        }
        while let Some(one_left) = calls.next().await {
            left += usize::from(one_left);
            ended += usize::from(!one_left);
        }
        drop(calls);
        rounds += 1;
        // The work for a key ends with the last caller who waited for it, in a task of its own.
        sleep(millis(1)).await;
        assert_eq!(stack.held(), "", "after {rounds} rounds");
    }
    println!("number 7: {left} left, {ended} stayed to the end, in {rounds} rounds of 1 to 64 clones: nothing is held");
    assert!(ended > left / 10, "some get far: {ended}");

    // The stack has as many places as configured: so many requests are served at once, and one more is not.
    stack.leaves.iter().for_each(|leaf| leaf.healthy.store(true, SeqCst));
    sleep(Duration::from_secs(1)).await;
    for circuit in &stack.circuits {
        circuit.reset();
    }
    for (feature, limit) in FEATURES {
        let calls = (0..=limit).map(|number| {
            let request = LlmRequest::prompt(format!("{feature} {number}")).with_feature(feature);
            stack.llm.clone().oneshot(request)
        });
        let answers = join_all(calls).await;
        let refused: Vec<_> = answers.into_iter().filter_map(Result::err).map(|error| error.kind()).collect();
        assert_eq!(refused, [ErrorKind::BulkheadFull], "{feature}: one more than {limit}");
    }
    assert_eq!(stack.held(), "");
}
