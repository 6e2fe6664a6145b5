//! Readiness, and what the types promise.

use std::{
    cell::Cell,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::{
    FutureExt, StreamExt,
    future::{Either, join_all},
    stream::FuturesUnordered,
};
use steadfast::{
    BoxLlmService, BudgetLayer, BulkheadLayer, CircuitBreakerLayer, CommitOnFirstTokenLayer, ErrorKind, Events,
    FallbackLayer, HedgeLayer, LlmError, LlmRequest, LlmResponse, MirrorLayer, ObserveLayer, RetryWithJitterLayer,
    RouteLayer, TimeoutLayer,
    layers::{
        budget::{Cap, Period},
        bulkhead::Limits,
        route::Rule,
    },
    prices::Usd,
    provider_fn,
    providers::Canned,
};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, util::BoxCloneSyncService};

use crate::{
    common::testing::Strict,
    traps::fixtures::{Borrowing, Does, Fake, NeverReady, ask, error, millis, secs},
};

pub(super) type Wrap = fn(BoxLlmService) -> BoxLlmService;

/// Each layer alone around a service.
pub(super) const LAYERS: &[(&str, Wrap)] = &[
    ("timeout", |inner| BoxCloneSyncService::new(TimeoutLayer::new(secs(60)).layer(inner))),
    ("retry", |inner| BoxCloneSyncService::new(RetryWithJitterLayer::new().seed(1).layer(inner))),
    ("circuit breaker", |inner| BoxCloneSyncService::new(CircuitBreakerLayer::new("sonnet").layer(inner))),
    ("bulkhead", |inner| BoxCloneSyncService::new(BulkheadLayer::new().feature("chat", 64).layer(inner))),
    ("fallback", |inner| {
        BoxCloneSyncService::new(FallbackLayer::new("sonnet").tier("canned", Canned::text("later")).layer(inner))
    }),
    ("commit", |inner| BoxCloneSyncService::new(CommitOnFirstTokenLayer::new().layer(inner))),
    ("hedge", |inner| {
        let hedge = HedgeLayer::new("sonnet").after(millis(1)).extra(1.0);
        BoxCloneSyncService::new(hedge.layer(inner))
    }),
    ("mirror", |inner| BoxCloneSyncService::new(MirrorLayer::new(Canned::text("later")).share(1.0).layer(inner))),
    ("route", |inner| {
        let rule = Rule::new("none").when(|_| false);
        BoxCloneSyncService::new(RouteLayer::new().rule(rule, Canned::text("later")).layer(inner))
    }),
    ("budget", |inner| {
        let cap = Cap::new("all", Usd::from_dollars(1e6).unwrap(), Period::Day);
        BoxCloneSyncService::new(BudgetLayer::default().cap(cap).layer(inner))
    }),
    ("observe", |inner| BoxCloneSyncService::new(ObserveLayer::new(Events::new()).layer(inner))),
    ("validate", |inner| BoxCloneSyncService::new(steadfast::ValidateLayer::new().layer(inner))),
    ("cache", |inner| BoxCloneSyncService::new(steadfast::CacheLayer::new().layer(inner))),
    ("idempotency", |inner| BoxCloneSyncService::new(steadfast::IdempotencyLayer::new().layer(inner))),
];

pub(super) fn boxed<S>(leaf: S) -> BoxLlmService
where
    S: Service<LlmRequest, Response = LlmResponse, Error: Into<LlmError>, Future: Send> + Clone + Send + Sync + 'static,
{
    BoxCloneSyncService::new(leaf.map_err(Into::into))
}

// 16. tower #547, tonic #545, tower-resilience #286: a clone is called that nobody has polled.
#[tokio::test(start_paused = true)]
async fn each_layer_twice_over_asks_for_readiness_before_each_attempt_on_that_very_instance() {
    for &(name, wrap) in LAYERS {
        // Unready for three polls each time, failing in passing, unready for good once.
        let leaf = Strict::new().pending(3).fails(7, error(ErrorKind::Server)).fails_readiness(1);
        let llm = ServiceBuilder::new()
            .layer(RetryWithJitterLayer::new().max_attempts(8).seed(3))
            .service(wrap(wrap(boxed(leaf.clone()))));
        for answer in join_all((0..20).map(|_| llm.clone().oneshot(ask()))).await {
            let _ = answer;
        }
        assert!(leaf.calls() > 1, "{name}");
        assert_eq!(leaf.running(), 0, "{name}");
    }
}

// 16. The same where a tier of a fallback is what is not ready, and where the same instance is called again and again.
#[tokio::test(start_paused = true)]
async fn one_instance_called_many_times_keeps_the_contract_in_the_primary_and_in_every_tier() {
    let (first, second) = (Strict::new().pending(2), Strict::new().pending(3).takes(millis(10)));
    let first = first.fails(50, error(ErrorKind::Server));
    let mut llm = ServiceBuilder::new()
        .layer(BulkheadLayer::new().feature("chat", Limits::new(2).queue(100)))
        .layer(FallbackLayer::new("sonnet").tier("gpt", second.clone()))
        .layer(CircuitBreakerLayer::new("sonnet").consecutive_failures(0))
        .service(first.clone());
    let mut calls = Vec::new();
    for _ in 0..50 {
        llm.ready().await.unwrap();
        calls.push(llm.call(ask()));
    }
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    assert_eq!((first.calls(), second.calls()), (50, 50));
}

// 17. tower #408: idle clones that were polled ready sit on what they reserved.
#[tokio::test(start_paused = true)]
async fn a_thousand_clones_that_are_ready_and_parked_keep_nobody_waiting() {
    for &(name, wrap) in LAYERS {
        let inner = ConcurrencyLimitLayer::new(1).layer(Fake::answers_after(millis(10)));
        let llm = wrap(boxed(inner));
        let mut parked = Vec::new();
        for _ in 0..1000 {
            let mut clone = llm.clone();
            clone.ready().await.unwrap();
            parked.push(clone);
        }
        let answer = tokio::time::timeout(secs(1), llm.oneshot(ask())).await;
        assert!(answer.is_ok(), "{name}");
        // The parked services are still good.
        let calls = parked.iter_mut().take(5).map(|clone| clone.call(ask()));
        assert!(join_all(calls).await.iter().all(Result::is_ok), "{name}");
    }
}

// 37, the reverse: linkerd #751. A future that has failed and is still held holds nothing of what was inside.
#[tokio::test(start_paused = true)]
async fn a_future_that_has_failed_but_is_still_held_holds_no_place_of_a_limit_further_in() {
    for &(name, wrap) in LAYERS {
        let leaf = Fake::new(|call| if call == 0 { Does::Fails(ErrorKind::InvalidRequest) } else { Does::Answers });
        // Not `boxed`, whose `map_err` lets go of what has ended.
        let llm = wrap(BoxCloneSyncService::new(ConcurrencyLimitLayer::new(1).layer(leaf)));
        let mut held = task::spawn(llm.clone().call_ready(ask()));
        assert_ready!(held.poll()).unwrap_err();
        let mut next = task::spawn(llm.clone().call_ready(ask()));
        assert!(next.poll().is_ready(), "{name}: the next one waits for a future that has failed");
    }
}

trait CallReady: Service<LlmRequest> {
    /// Calls a service that is always ready.
    fn call_ready(self, request: LlmRequest) -> Self::Future;
}

impl<S: Service<LlmRequest>> CallReady for S {
    fn call_ready(mut self, request: LlmRequest) -> S::Future {
        let ready = self.poll_ready(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(ready, Poll::Ready(Ok(()))));
        self.call(request)
    }
}

// 18. tower's steer and hedge, liter-llm: all backends must be ready, and a primary that is not skips the fallback.
#[tokio::test(start_paused = true)]
async fn only_the_tier_whose_turn_it_is_is_readied() {
    let polls = Arc::new(AtomicUsize::new(0));
    let llm = FallbackLayer::new("sonnet").tier("gpt", NeverReady(polls.clone())).layer(Fake::answers());
    for _ in 0..10 {
        llm.clone().oneshot(ask()).await.unwrap();
    }
    assert_eq!(polls.load(SeqCst), 0);

    // Never ready as the primary: within its slice of the time the next tier has answered.
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(30)))
        .layer(FallbackLayer::new("sonnet").tier("gpt", Fake::answers()))
        .layer(RetryWithJitterLayer::new())
        .service(NeverReady(polls));
    let start = Instant::now();
    let answer = llm.oneshot(ask()).await.unwrap();
    assert_eq!((answer.served_by().tier, start.elapsed()), (Some("gpt"), secs(20)));

    // Its readiness fails.
    let broken = Strict::new().fails_readiness(usize::MAX);
    let llm = FallbackLayer::new("sonnet").tier("gpt", Fake::answers()).layer(broken);
    assert_eq!(llm.oneshot(ask()).await.unwrap().served_by().tier, Some("gpt"));
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

// 19. tower-resilience #365, #367: a saturated layer wakes itself, or arms a timer of a millisecond.
#[tokio::test(start_paused = true)]
async fn a_saturated_stack_does_not_wake_itself() {
    let inner = ConcurrencyLimitLayer::new(1).layer(Fake::hangs());
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(3600)))
        .layer(BulkheadLayer::new().feature("chat", Limits::new(4).queue(100).max_wait(Duration::MAX)))
        .layer(FallbackLayer::new("sonnet").tier("canned", Canned::text("later")))
        .layer(RetryWithJitterLayer::new())
        .layer(CircuitBreakerLayer::new("sonnet"))
        .layer(TimeoutLayer::new(secs(3600)))
        .service(inner);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut calls: Vec<_> = (0..20).map(|_| Box::pin(llm.clone().oneshot(ask()))).collect();
    for call in &mut calls {
        assert!(call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    for _ in 0..600 {
        advance(millis(100)).await;
    }
    assert_eq!(woken.0.load(SeqCst), 0, "in a minute");
}

// 20. tower-llm holds a mutex over the call; tower-resilience's fallback over the readiness of the backup.
#[tokio::test(start_paused = true)]
async fn fifty_calls_through_each_layer_take_as_long_as_one() {
    for &(name, wrap) in LAYERS {
        for slow_tier in [false, true] {
            let start = Instant::now();
            let leaf = Fake::answers_after(millis(100));
            let llm = match slow_tier {
                false => wrap(boxed(leaf)),
                // The same behind a primary that fails, so that it is the tier that is slow.
                true => wrap(boxed(FallbackLayer::new("a").tier("b", leaf).layer(Fake::fails(ErrorKind::Overloaded)))),
            };
            let answers = join_all((0..50).map(|_| tokio::spawn(llm.clone().oneshot(ask())))).await;
            assert!(answers.into_iter().all(|answer| answer.unwrap().is_ok()), "{name}");
            assert!(start.elapsed() < millis(200), "{name}: {:?}", start.elapsed());
        }
    }
}

// 20. On real threads: nobody's call blocks another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_from_many_threads_through_all_layers_at_once_are_all_answered() {
    let leaf = provider_fn(|_| async {
        tokio::task::yield_now().await;
        Ok::<_, LlmError>(LlmResponse::from_text("hello"))
    });
    let bulkhead = BulkheadLayer::new().feature("chat", Limits::new(16).queue(10_000));
    let places = bulkhead.handle();
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(60)))
        .layer(bulkhead)
        .layer(FallbackLayer::new("sonnet").tier("canned", Canned::text("later")))
        .layer(RetryWithJitterLayer::new())
        .layer(CircuitBreakerLayer::new("sonnet"))
        .service(leaf);
    let calls: Vec<_> = (0..2000).map(|_| tokio::spawn(llm.clone().oneshot(ask()))).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().served_by().tier, Some("sonnet"));
    }
    assert_eq!((places.in_flight("chat"), places.queued("chat")), (0, 0));
}

// 21. CircuitBreakerError<BulkheadServiceError<TimeLimiterError<E>>>: the type changes with each layer and order.
#[tokio::test(start_paused = true)]
async fn in_any_order_of_two_layers_the_kind_the_provider_and_the_time_to_wait_are_read_the_same_way() {
    let limited = error(ErrorKind::RateLimited).with_retry_after(secs(90)).with_model("anthropic", "sonnet");
    let no_tier: Wrap = |inner| BoxCloneSyncService::new(FallbackLayer::new("sonnet").layer(inner));
    let layers: Vec<_> =
        LAYERS.iter().map(|&(name, wrap)| if name == "fallback" { (name, no_tier) } else { (name, wrap) }).collect();
    for (outer_name, outer) in &layers {
        for (inner_name, inner) in &layers {
            let llm = outer(inner(boxed(Fake::fails_with(limited.clone()))));
            let start = Instant::now();
            let error = llm.oneshot(ask()).await.unwrap_err();
            let order = format!("{outer_name} around {inner_name}");
            assert_eq!(error.kind(), ErrorKind::RateLimited, "{order}");
            assert_eq!((error.provider(), error.model()), (Some("anthropic"), Some("sonnet")), "{order}");
            assert_eq!(error.retry_after(), Some(secs(90)), "{order}");
            assert_eq!(start.elapsed(), Duration::ZERO, "{order}: nobody waits longer than the longest delay");
            assert!(error.attempts().len() <= 1, "{order}: {:?}", error.attempts());
        }
    }
}

// 15, 20. A future that is dropped by a panic somewhere else in the task has let go of everything.
#[tokio::test(start_paused = true)]
async fn a_leaf_that_panics_anywhere_leaves_no_place_taken_in_any_layer() {
    for &(name, wrap) in LAYERS {
        let leaf = Fake::new(|call| if call < 10 { Does::Panics } else { Does::Answers });
        let bulkhead = BulkheadLayer::new().feature("chat", 1);
        let places = bulkhead.handle();
        let llm = bulkhead.layer(wrap(boxed(leaf.clone())));
        for _ in 0..10 {
            assert!(AssertUnwindSafe(llm.clone().oneshot(ask())).catch_unwind().await.is_err(), "{name}");
            assert_eq!((places.in_flight("chat"), leaf.alive()), (0, 0), "{name}");
        }
        llm.oneshot(ask()).await.unwrap();
    }
}

// The contract: only a fallback's tiers must be `Send`, `Sync` and `'static`.
#[tokio::test(start_paused = true)]
async fn a_leaf_that_borrows_and_is_neither_send_nor_sync_nor_unpin_goes_through_all_layers() {
    let calls = Cell::new(0);
    let mut llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(90)))
        .layer(BulkheadLayer::new())
        .layer(FallbackLayer::new("sonnet").tier("canned", Canned::text("later")))
        .layer(RetryWithJitterLayer::new())
        .layer(CircuitBreakerLayer::new("sonnet"))
        .layer(TimeoutLayer::new(secs(30)))
        .layer(CommitOnFirstTokenLayer::new())
        .service(Borrowing { calls: &calls });
    for _ in 0..3 {
        let answer = llm.ready().await.unwrap().call(ask()).await.unwrap();
        assert_eq!(answer.served_by().tier, Some("sonnet"));
    }
    assert_eq!(calls.get(), 3);
}

// A stack in a struct, shared by handlers whose futures must be `Send`, as axum and hyper ask.
#[tokio::test(start_paused = true)]
async fn a_boxed_stack_in_a_struct_serves_handlers_that_must_be_send() {
    #[derive(Clone)]
    struct App {
        llm: BoxLlmService,
    }
    fn is_a_handlers_future<F: Future<Output = String> + Send + 'static>(future: F) -> F {
        future
    }
    async fn handler(app: App, question: String) -> String {
        match app.llm.oneshot(LlmRequest::prompt(question).with_feature("chat").with_stream(true)).await {
            Ok(answer) => answer.text().await.unwrap_or_else(|error| error.to_string()),
            Err(error) => error.to_string(),
        }
    }
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(90)))
        .layer(BulkheadLayer::new().feature("chat", 10))
        .layer(FallbackLayer::new("sonnet").tier("canned", Canned::text("later")))
        .layer(RetryWithJitterLayer::new())
        .service(Fake::answers());
    let app = App { llm: BoxCloneSyncService::new(stack) };
    let answers = (0..5).map(|_| tokio::spawn(is_a_handlers_future(handler(app.clone(), "hello".into()))));
    for answer in join_all(answers).await {
        assert_eq!(answer.unwrap(), "hello");
    }
}

// Whoever polls a future again after its end gets a panic that says so, and never a second answer.
#[tokio::test(start_paused = true)]
async fn a_future_polled_after_its_end_panics_and_gives_nothing_twice() {
    for &(name, wrap) in LAYERS {
        let leaf = Fake::answers();
        let mut call = Box::pin(wrap(boxed(leaf.clone())).call_ready(ask()));
        call.as_mut().await.unwrap();
        let again = AssertUnwindSafe(call).catch_unwind().await;
        assert!(again.is_err(), "{name}");
        assert_eq!(leaf.calls(), 1, "{name}");
    }
}

// Dropped before it was polled, it has done no harm.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_never_polled_leaves_nothing_behind() {
    for &(name, wrap) in LAYERS {
        let leaf = Fake::hangs();
        let bulkhead = BulkheadLayer::new().feature("chat", 1);
        let places = bulkhead.handle();
        let llm = bulkhead.layer(wrap(boxed(leaf.clone())));
        for _ in 0..100 {
            drop(llm.clone().call_ready(ask()));
            let mut once = task::spawn(llm.clone().oneshot(ask()));
            assert_pending!(once.poll());
        }
        assert_eq!((places.in_flight("chat"), leaf.alive()), (0, 0), "{name}");
    }
}

// All limits of a stack share one timer where they share a task: whatever polls them in between, each fires in time.
#[tokio::test(start_paused = true)]
async fn nested_limits_fire_in_time_whatever_combinator_a_service_in_between_uses() {
    for way in ["join", "select", "unordered", "spawn", "every other poll"] {
        let limited = |seconds| {
            let tier = TimeoutLayer::new(secs(seconds)).layer(Fake::hangs());
            boxed(FallbackLayer::new("a").tier("b", tier.clone()).layer(tier))
        };
        let (short, long) = (limited(2), limited(5));
        let between = provider_fn(move |request: LlmRequest| {
            let (short, long) = (short.clone().oneshot(request.clone()), long.clone().oneshot(request));
            async move {
                match way {
                    "join" => futures_util::future::join(short, long).await.1,
                    "select" => match futures_util::future::select(short, long).await {
                        Either::Left((_, long)) => long.await,
                        Either::Right((answer, _)) => answer,
                    },
                    "unordered" => {
                        let mut both: FuturesUnordered<_> = [short, long].into_iter().collect();
                        both.next().await;
                        both.next().await.unwrap()
                    }
                    "spawn" => tokio::spawn(long).await.unwrap(),
                    _ => {
                        let (mut long, mut polls) = (Box::pin(long), 0);
                        std::future::poll_fn(move |cx| {
                            polls += 1;
                            if polls % 2 == 0 {
                                cx.waker().wake_by_ref();
                                return Poll::Pending;
                            }
                            long.as_mut().poll(cx)
                        })
                        .await
                    }
                }
            }
        });
        let start = Instant::now();
        let llm = ServiceBuilder::new()
            .layer(TimeoutLayer::new(secs(60)))
            .layer(TimeoutLayer::new(secs(50)))
            .service(between);
        let failure = llm.clone().oneshot(ask()).await.unwrap_err();
        // Two tiers of five seconds each.
        assert_eq!((failure.kind(), start.elapsed()), (ErrorKind::Timeout, secs(10)), "{way}");
        assert_eq!(failure.attempts().len(), 2, "{way}");
    }
}
