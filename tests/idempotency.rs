//! One call for each key: whoever repeats a request gets the answer that was made, also when nobody waited for it any more.
#![cfg(feature = "idempotency")]

#[allow(dead_code, reason = "it is the cache's tests' too")]
#[path = "cached/provider.rs"]
mod provider;

use std::{
    future::{Future, pending},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use steadfast::{
    CachedWhy, Degraded, DegradedReason, ErrorKind, IdempotencyLayer, LlmError, LlmRequest, LlmResponse, TimeoutLayer,
    chat::FinishReason,
    layers::{
        budget::BudgetKey,
        cache::{Answer, Tenant},
        idempotency::{Claim, Fingerprint, IdempotencyKey, IdempotencyStore, MemoryIdempotency, StoreFuture, Ticket},
    },
    prices::Usd,
    provider_fn,
};
use tokio::time::{Instant, advance, sleep};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};

use crate::provider::{Provider, call, frames, text};

const SECOND: Duration = Duration::from_secs(1);

fn ask() -> LlmRequest {
    LlmRequest::prompt("hello").idempotency_key("k-1")
}

fn stream() -> LlmRequest {
    ask().stream(true)
}

#[tokio::test(start_paused = true)]
async fn a_repeat_gets_the_answer_that_was_made_and_says_so() {
    let provider = Provider::new().finish(FinishReason::Length);
    let layer = IdempotencyLayer::new();
    let llm = layer.layer(provider.service());
    let first = call(&llm, ask()).await.unwrap();
    assert!(first.cached().is_none() && first.notes().is_empty() && first.cost().unwrap() > Usd::ZERO);
    assert_eq!(first.request_id(), Some("req_1"));
    let wire = first.body().wire().map(|(_, raw)| raw.clone());
    advance(90 * SECOND).await;
    let again = call(&llm, ask()).await.unwrap();
    let cached = again.cached().unwrap();
    assert_eq!((cached.why, cached.age), (CachedWhy::Replayed, 90 * SECOND));
    assert_eq!((again.served_by().provider, again.served_by().model), (Some("replayed"), Some("gpt-4o")));
    assert!(again.notes()[0].starts_with("replayed: "), "{:?}", again.notes());
    assert_eq!((again.cost(), again.body().wire().map(|(_, raw)| raw.clone())), (Some(Usd::ZERO), wire));
    assert_eq!(again.text().await.unwrap(), "answer 1");
    assert_eq!(provider.calls(), 1);
    let stats = layer.handle().stats();
    assert_eq!((stats.calls, stats.replayed, stats.kept, stats.late), (1, 1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn requests_without_a_key_pass_by() {
    let provider = Provider::new();
    let layer = IdempotencyLayer::new();
    let llm = layer.layer(provider.service());
    for request in
        [LlmRequest::prompt("hello"), LlmRequest::prompt("hello"), LlmRequest::prompt("a").idempotency_key("")]
    {
        assert!(call(&llm, request).await.unwrap().cached().is_none());
    }
    assert_eq!((provider.calls(), layer.handle().stats().calls), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_at_once_make_one_call() {
    let provider = Provider::new().takes(5 * SECOND);
    let layer = IdempotencyLayer::new();
    let llm = layer.layer(provider.service());
    let tasks: Vec<_> = (0..1000)
        .map(|number| {
            let llm = llm.clone();
            tokio::spawn(async move { text(&llm, ask().stream(number % 2 == 0)).await })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers.dedup();
    assert_eq!((answers.len(), provider.calls()), (1, 1));
    assert_eq!((layer.handle().stats().shared, layer.handle().under_way()), (999, 0));
}

#[tokio::test(start_paused = true)]
async fn the_same_key_with_something_else_is_refused_without_the_prompt() {
    let provider = Provider::new().takes(SECOND);
    let layer = IdempotencyLayer::new();
    let llm = layer.layer(provider.service());
    let other = || LlmRequest::prompt("a secret plan").idempotency_key("k-1");
    // While the first is under way, and when it has answered.
    let (first, refused) = tokio::join!(call(&llm, ask()), call(&llm, other()));
    assert!(first.is_ok());
    for error in [refused.unwrap_err(), call(&llm, other()).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::IdempotencyConflict);
        let words = format!("{error} {error:?}");
        assert!(words.contains("idempotency key") && !words.contains("secret") && !words.contains("hello"), "{words}");
    }
    let feature = call(&llm, ask().feature("chat")).await.unwrap_err();
    assert_eq!((feature.kind(), provider.calls()), (ErrorKind::IdempotencyConflict, 1));
    assert_eq!(layer.handle().stats().conflicts, 3);
}

#[tokio::test(start_paused = true)]
async fn another_tenants_same_key_never_meets() {
    let provider = Provider::new();
    let llm = IdempotencyLayer::new().layer(provider.service());
    let asks = [ask(), ask().extension(Tenant::new("a")), ask().extension(BudgetKey("b".into()))];
    for (number, request) in asks.iter().enumerate() {
        assert_eq!(text(&llm, request.clone()).await, format!("answer {}", number + 1));
    }
    let other = LlmRequest::prompt("something else").idempotency_key("k-1").extension(Tenant::new("c"));
    assert_eq!(text(&llm, other).await, "answer 4");
    assert_eq!(text(&llm, asks[1].clone()).await, "answer 2");
}

#[tokio::test(start_paused = true)]
async fn a_timed_out_calls_late_answer_is_kept_for_the_retry() {
    let provider = Provider::new().takes(10 * SECOND);
    let layer = IdempotencyLayer::new();
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(4 * SECOND))
        .layer(layer.clone())
        .layer(TimeoutLayer::new(30 * SECOND))
        .service(provider.service());
    assert_eq!(call(&llm, ask()).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!((layer.handle().under_way(), provider.running()), (1, 1));
    // The retry waits for the same call, by its own deadline, and the next one has it.
    assert_eq!(call(&llm, ask()).await.unwrap_err().kind(), ErrorKind::Timeout);
    let begun = Instant::now();
    assert_eq!(text(&llm, ask()).await, "answer 1");
    assert_eq!((begun.elapsed(), provider.calls(), layer.handle().under_way()), (2 * SECOND, 1, 0));
    // Nobody waits at all: it is kept all the same.
    let other = || LlmRequest::prompt("hi").idempotency_key("k-2");
    assert!(call(&llm, other()).await.is_err());
    sleep(20 * SECOND).await;
    assert_eq!(text(&llm, other()).await, "answer 2");
    assert_eq!((provider.calls(), layer.handle().stats().late), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_left_ends_with_the_grace_and_gives_its_key_back() {
    let provider = Provider::new().takes(1000 * SECOND);
    let layer = IdempotencyLayer::new().grace(30 * SECOND);
    let llm = layer.layer(provider.service());
    let begun = Instant::now();
    let left = tokio::time::timeout(5 * SECOND, call(&llm, ask())).await;
    assert!(left.is_err());
    assert_eq!(provider.running(), 1);
    layer.handle().close().now_or_never_is_pending();
    sleep(SECOND).await;
    assert_eq!((provider.running(), layer.handle().under_way()), (0, 0), "closed at {:?}", begun.elapsed());

    let layer = IdempotencyLayer::new().grace(30 * SECOND);
    let llm = layer.layer(provider.service());
    assert!(tokio::time::timeout(5 * SECOND, call(&llm, ask())).await.is_err());
    sleep(29 * SECOND).await;
    assert_eq!(layer.handle().under_way(), 1);
    sleep(2 * SECOND).await;
    assert_eq!((provider.running(), layer.handle().under_way()), (0, 0));
    // The key is free.
    let waiting = tokio::spawn({
        let llm = llm.clone();
        async move { text(&llm, ask()).await }
    });
    assert_eq!(waiting.await.unwrap(), "answer 3");
}

/// Polls once and forgets: what `close` begins stays begun.
trait Once: Future + Sized {
    fn now_or_never_is_pending(self) {
        let mut this = Box::pin(self);
        assert!(this.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
}

impl<F: Future> Once for F {}

#[tokio::test(start_paused = true)]
async fn dropped_at_any_moment_the_caller_leaves_nothing_behind_but_the_answer() {
    for streams in [false, true] {
        for polls in 0..6 {
            let provider = Provider::new().takes(SECOND).pace(SECOND);
            let layer = IdempotencyLayer::new();
            let llm = layer.layer(provider.service());
            let mut future = Box::pin(call(&llm, ask().stream(streams)));
            for _ in 0..polls {
                let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                if polled.is_ready() {
                    break;
                }
                sleep(Duration::from_millis(400)).await;
            }
            drop(future);
            sleep(30 * SECOND).await;
            assert_eq!((provider.running(), layer.handle().under_way()), (0, 0), "{streams} {polls}");
            assert_eq!(layer.handle().stats().kept, u64::from(polls > 0), "{streams} {polls}");
            let again = call(&llm, ask().stream(streams)).await.unwrap();
            let said = again.text().await.unwrap();
            assert_eq!(said, if streams { "0 of 1, 1 of 1, 2 of 1" } else { "answer 1" });
            assert_eq!(provider.calls(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_followers_own_deadline_is_its_own() {
    let provider = Provider::new().takes(10 * SECOND);
    let llm = IdempotencyLayer::new().layer(provider.service());
    let begun = Instant::now();
    let (first, hurried) = tokio::join!(text(&llm, ask()), async {
        let error = call(&llm, ask().timeout(2 * SECOND)).await.unwrap_err();
        (error.kind(), begun.elapsed())
    });
    assert_eq!((&*first, hurried, provider.calls()), ("answer 1", (ErrorKind::Timeout, 2 * SECOND), 1));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_kept_for_nobody_and_told_to_all_who_wait() {
    let provider = Provider::new().takes(SECOND);
    provider.fails(ErrorKind::Overloaded);
    let layer = IdempotencyLayer::new();
    let llm = layer.layer(provider.service());
    let (first, second) = tokio::join!(call(&llm, ask()), call(&llm, ask()));
    assert_eq!(first.unwrap_err().kind(), ErrorKind::Overloaded);
    assert_eq!(second.unwrap_err().kind(), ErrorKind::Overloaded);
    assert_eq!(text(&llm, ask()).await, "answer 2");
    // Not even the refused input holds the key.
    provider.fails(ErrorKind::InvalidRequest);
    let other = |words: &str| LlmRequest::prompt(words).idempotency_key("k-2");
    assert!(call(&llm, other("wrong")).await.is_err());
    assert_eq!(text(&llm, other("mended")).await, "answer 4");
}

#[tokio::test(start_paused = true)]
async fn where_the_first_ran_out_of_its_own_time_a_follower_tries_again() {
    let provider = Provider::new().takes(SECOND);
    provider.fails(ErrorKind::Deadline);
    let llm = IdempotencyLayer::new().layer(provider.service());
    let (first, second) = tokio::join!(call(&llm, ask()), text(&llm, ask()));
    assert_eq!((first.unwrap_err().kind(), &*second), (ErrorKind::Deadline, "answer 2"));
}

#[tokio::test(start_paused = true)]
async fn a_follower_reads_a_stream_from_its_beginning_and_then_live() {
    let provider = Provider::new().pace(SECOND).frames(6);
    let layer = IdempotencyLayer::new();
    let llm = layer.layer(provider.service());
    let mut first = call(&llm, stream()).await.unwrap();
    for _ in 0..3 {
        first.body_mut().frame().await.unwrap().unwrap();
    }
    let mut second = call(&llm, stream()).await.unwrap();
    assert_eq!(second.cached().unwrap().why, CachedWhy::Shared);
    let begun = Instant::now();
    for _ in 0..3 {
        second.body_mut().frame().await.unwrap().unwrap();
    }
    assert_eq!(begun.elapsed(), Duration::ZERO, "what was said is there at once");
    // The follower is faster than the one who called, and a third wants it whole.
    let (rest, whole) = tokio::join!(frames(second), call(&llm, ask()));
    assert_eq!(rest.0.len(), 4);
    let whole = whole.unwrap().text().await.unwrap();
    assert_eq!(whole, "0 of 1, 1 of 1, 2 of 1, 3 of 1, 4 of 1, 5 of 1");
    // The one who called is slower than all, and reads on at its own pace.
    sleep(100 * SECOND).await;
    assert_eq!(frames(first).await.0, rest.0);
    let replayed = call(&llm, stream()).await.unwrap();
    assert_eq!((replayed.cached().unwrap().why, replayed.body().is_stream()), (CachedWhy::Replayed, true));
    assert_eq!((frames(replayed).await.0.len(), provider.calls(), layer.handle().under_way()), (7, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_all_have_left_is_read_to_its_end_for_the_retry() {
    let provider = Provider::new().pace(SECOND).frames(20);
    let layer = IdempotencyLayer::new().grace(60 * SECOND);
    let llm = layer.layer(provider.service());
    let mut first = call(&llm, stream()).await.unwrap();
    first.body_mut().frame().await.unwrap().unwrap();
    drop(first);
    sleep(5 * SECOND).await;
    // One who comes back reads along, and leaves again.
    let mut back = call(&llm, stream()).await.unwrap();
    back.body_mut().frame().await.unwrap().unwrap();
    drop(back);
    sleep(60 * SECOND).await;
    assert_eq!((provider.running(), layer.handle().under_way(), layer.handle().stats().late), (0, 0, 1));
    assert!(text(&llm, ask()).await.ends_with("19 of 1"));
    assert_eq!(provider.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_end_is_left_when_the_grace_is_over() {
    let provider = Provider::new().pace(50 * SECOND).frames(20);
    let layer = IdempotencyLayer::new().grace(60 * SECOND);
    let llm = layer.layer(provider.service());
    drop(call(&llm, stream()).await.unwrap());
    sleep(61 * SECOND).await;
    assert_eq!((provider.running(), layer.handle().under_way()), (0, 0));
    assert!(text(&llm, stream()).await.ends_with("19 of 2"));
}

#[tokio::test(start_paused = true)]
async fn a_cut_stream_is_the_same_honest_error_for_all_and_nothing_is_kept() {
    let provider = Provider::new().pace(SECOND).breaks();
    let layer = IdempotencyLayer::new();
    let llm = layer.layer(provider.service());
    let first = call(&llm, stream()).await.unwrap();
    let second = call(&llm, stream()).await.unwrap();
    let (first, second, whole) = tokio::join!(first.text(), second.text(), call(&llm, ask()));
    for error in [first.unwrap_err(), second.unwrap_err(), whole.unwrap_err()] {
        assert_eq!((error.kind(), error.message()), (ErrorKind::StreamBroken, "to order"));
    }
    sleep(SECOND).await;
    assert_eq!((layer.handle().stats().kept, layer.handle().under_way()), (0, 0));
    drop(call(&llm, stream()).await.unwrap());
    assert_eq!(provider.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn answers_end_with_their_time_and_the_first_makes_room() {
    let provider = Provider::new();
    let store = MemoryIdempotency::new().max_answers(2);
    let llm = IdempotencyLayer::over(store.clone()).ttl(60 * SECOND).layer(provider.service());
    let keyed = |key: &str| LlmRequest::prompt("hello").idempotency_key(key);
    for key in ["a", "b", "c"] {
        text(&llm, keyed(key)).await;
    }
    assert_eq!((text(&llm, keyed("b")).await, text(&llm, keyed("c")).await), ("answer 2".into(), "answer 3".into()));
    assert_eq!((store.len(), &*text(&llm, keyed("a")).await), (2, "answer 4"));
    advance(60 * SECOND).await;
    assert_eq!(text(&llm, keyed("c")).await, "answer 5");
    assert_eq!(store.len(), 1, "what is over was swept out");

    let small = MemoryIdempotency::new().max_bytes(10);
    let llm = IdempotencyLayer::over(small.clone()).layer(provider.service());
    text(&llm, keyed("a")).await;
    assert_eq!((small.len(), small.bytes()), (0, 0));
    let llm = IdempotencyLayer::over(small).max_answer(10).layer(provider.service());
    let (long, _) = frames(call(&llm, stream()).await.unwrap()).await;
    assert_eq!(long.len(), 4, "it reaches who waits for it");
}

#[tokio::test(start_paused = true)]
async fn a_degraded_answer_is_not_in_the_way_of_a_retry() {
    let down = Arc::new(AtomicBool::new(true));
    let leaf = provider_fn({
        let down = down.clone();
        move |_| {
            let down = down.load(SeqCst);
            async move {
                Ok::<_, LlmError>(match down {
                    true => LlmResponse::from_text("Please try again in a minute.")
                        .with_degraded(Degraded::new(5, DegradedReason::Order)),
                    false => LlmResponse::from_text("It rains."),
                })
            }
        }
    });
    let llm = IdempotencyLayer::new().layer(leaf);
    assert!(text(&llm, ask()).await.starts_with("Please"));
    down.store(false, SeqCst);
    assert_eq!(text(&llm, ask()).await, "It rains.");
}

#[tokio::test(start_paused = true)]
async fn a_derived_key_is_what_is_asked() {
    let provider = Provider::new();
    let llm = IdempotencyLayer::new().derive(true).layer(provider.service());
    let asks = |words: &str, feature: &'static str| LlmRequest::prompt(words).feature(feature);
    assert_eq!(text(&llm, asks("hello", "chat")).await, "answer 1");
    assert_eq!(text(&llm, asks("hello", "chat")).await, "answer 1");
    assert_eq!(text(&llm, asks("hello", "summary")).await, "answer 2");
    assert_eq!(text(&llm, asks("hello!", "chat")).await, "answer 3");
}

/// Two processes: two layers over one store.
#[tokio::test(start_paused = true)]
async fn another_process_waits_for_the_lease_and_takes_over_after_a_crash() {
    let (store, provider) = (MemoryIdempotency::new(), Provider::new().takes(100 * SECOND));
    let (one, two) = (IdempotencyLayer::over(store.clone()), IdempotencyLayer::over(store.clone()));
    let (here, there) = (one.layer(provider.service()), two.layer(provider.service()));
    // The lease of 30 s is renewed while the call runs.
    let (first, second) = tokio::join!(text(&here, ask()), text(&there, ask()));
    assert_eq!((&*first, &*second, provider.calls()), ("answer 1", "answer 1", 1));
    assert_eq!(two.handle().stats().replayed, 1);

    // A crash: its runtime is gone with the task, and nobody renews.
    let other = || LlmRequest::prompt("hi").idempotency_key("k-2");
    let key = Arc::new(Mutex::new(None));
    let spy = IdempotencyLayer::over(Spy { store: store.clone(), seen: key.clone() }).layer(Provider::new().service());
    text(&spy, other()).await;
    let (key, input) = key.lock().unwrap().take().unwrap();
    let crashed = MemoryIdempotency::new();
    assert!(matches!(crashed.claim(&key, &input, 30 * SECOND).await.unwrap(), Claim::Won(_)));
    let begun = Instant::now();
    let quick = IdempotencyLayer::over(crashed).layer(Provider::new().service());
    assert_eq!(text(&quick, other()).await, "answer 1");
    assert_eq!(begun.elapsed(), 30 * SECOND);
}

/// A store that shows what it is asked, and is one that sleeps until something may have changed.
struct Spy {
    store: MemoryIdempotency,
    seen: Arc<Mutex<Option<(IdempotencyKey, Fingerprint)>>>,
}

impl IdempotencyStore for Spy {
    fn claim<'a>(&'a self, key: &'a IdempotencyKey, input: &'a Fingerprint, lease: Duration) -> StoreFuture<'a, Claim> {
        *self.seen.lock().unwrap() = Some((*key, *input));
        self.store.claim(key, input, lease)
    }

    fn renew<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket, lease: Duration) -> StoreFuture<'a, bool> {
        self.store.renew(key, ticket, lease)
    }

    fn complete<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        ticket: Ticket,
        answer: Arc<Answer>,
        ttl: Duration,
    ) -> StoreFuture<'a, bool> {
        self.store.complete(key, ticket, answer, ttl)
    }

    fn release<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket) -> StoreFuture<'a, ()> {
        self.store.release(key, ticket)
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_after_its_lease_changes_nothing() {
    let store = MemoryIdempotency::new();
    let (key, input) = (IdempotencyKey::from_bytes([1; 32]), Fingerprint::from_bytes([2; 32]));
    let Claim::Won(late) = store.claim(&key, &input, SECOND).await.unwrap() else { panic!("it is free") };
    advance(2 * SECOND).await;
    let Claim::Won(now) = store.claim(&key, &input, SECOND).await.unwrap() else { panic!("its lease was over") };
    assert!(!store.renew(&key, late, SECOND).await.unwrap());
    store.release(&key, late).await.unwrap();
    assert!(
        matches!(store.claim(&key, &input, SECOND).await.unwrap(), Claim::Busy { lease_left } if lease_left == SECOND)
    );
    let other = Fingerprint::from_bytes([3; 32]);
    assert!(matches!(store.claim(&key, &other, SECOND).await.unwrap(), Claim::Conflict));
    assert!(store.renew(&key, now, SECOND).await.unwrap());
    store.release(&key, now).await.unwrap();
    assert!(store.is_empty());
}

/// A store that is away: it fails at once, or never says anything.
struct Away {
    hangs: bool,
}

impl Away {
    fn asked<T: Send + 'static>(&self) -> StoreFuture<'_, T> {
        match self.hangs {
            true => Box::pin(pending()),
            false => Box::pin(async { Err(BoxError::from("connection refused")) }),
        }
    }
}

impl IdempotencyStore for Away {
    fn claim<'a>(&'a self, _: &'a IdempotencyKey, _: &'a Fingerprint, _: Duration) -> StoreFuture<'a, Claim> {
        self.asked()
    }

    fn renew<'a>(&'a self, _: &'a IdempotencyKey, _: Ticket, _: Duration) -> StoreFuture<'a, bool> {
        self.asked()
    }

    fn complete<'a>(&'a self, _: &'a IdempotencyKey, _: Ticket, _: Arc<Answer>, _: Duration) -> StoreFuture<'a, bool> {
        self.asked()
    }

    fn release<'a>(&'a self, _: &'a IdempotencyKey, _: Ticket) -> StoreFuture<'a, ()> {
        self.asked()
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_in_nobodys_way_and_one_process_still_calls_once() {
    for hangs in [false, true] {
        let provider = Provider::new().takes(SECOND);
        let layer = IdempotencyLayer::over(Away { hangs });
        let llm = layer.layer(provider.service());
        let begun = Instant::now();
        let (first, second) = tokio::join!(text(&llm, ask()), text(&llm, ask()));
        assert_eq!((&*first, &*second, provider.calls()), ("answer 1", "answer 1", 1));
        assert_eq!(begun.elapsed(), if hangs { 2 * SECOND } else { SECOND });
        assert_eq!(layer.handle().stats().store_failures, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_is_an_error_for_all_who_wait() {
    let leaf = provider_fn(|_| async {
        sleep(SECOND).await;
        assert!(std::hint::black_box(false), "to order");
        Ok::<_, LlmError>(LlmResponse::from_text(""))
    });
    let layer = IdempotencyLayer::new();
    let llm = layer.layer(leaf);
    let (first, second) = tokio::join!(call(&llm, ask()), call(&llm, ask()));
    assert_eq!((first.unwrap_err().kind(), second.unwrap_err().kind()), (ErrorKind::Other, ErrorKind::Other));
    assert_eq!(layer.handle().under_way(), 0);
}

#[tokio::test(start_paused = true)]
async fn it_is_ready_whatever_the_inner_service_is_and_waits_for_it_in_the_future() {
    #[derive(Clone)]
    struct Never;
    impl Service<LlmRequest> for Never {
        type Response = LlmResponse;
        type Error = LlmError;
        type Future = std::future::Ready<Result<LlmResponse, LlmError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
            Poll::Pending
        }

        fn call(&mut self, _: LlmRequest) -> Self::Future {
            panic!("called without readiness")
        }
    }
    let mut llm = IdempotencyLayer::new().layer(Never);
    for request in [ask(), LlmRequest::prompt("hello")] {
        let future = llm.ready().await.unwrap().call(request.timeout(SECOND));
        let ended = tokio::time::timeout(5 * SECOND, future).await;
        assert!(ended.is_err() || ended.unwrap().is_err());
    }
}
