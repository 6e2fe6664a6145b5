//! Stores: their bounds, their leases, and when they are away.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use steadfast::{
    Event, Events, IdempotencyLayer, LlmRequest,
    layers::{
        cache::Answer,
        idempotency::{Claim, Fingerprint, IdempotencyKey, IdempotencyStore, MemoryIdempotency, StoreFuture, Ticket},
    },
};
use tokio::time::{Instant, advance};
use tower::{BoxError, Layer};

use crate::{
    cache::provider::{Provider, call, frames, text},
    idempotency::{SECOND, ask, stream},
};

#[tokio::test(start_paused = true)]
async fn answers_end_with_their_time_and_the_first_makes_room() {
    let provider = Provider::new();
    let store = MemoryIdempotency::new().max_answers(2);
    let llm = IdempotencyLayer::over(store.clone()).ttl(60 * SECOND).layer(provider.service());
    let keyed = |key: &str| LlmRequest::prompt("hello").with_idempotency_key(key);
    for key in ["a", "b", "c"] {
        text(&llm, keyed(key)).await;
    }
    assert_eq!((text(&llm, keyed("b")).await, text(&llm, keyed("c")).await), ("answer 2".into(), "answer 3".into()));
    assert_eq!((store.len(), &*text(&llm, keyed("a")).await), (2, "answer 4"));
    advance(60 * SECOND).await;
    assert_eq!(text(&llm, keyed("c")).await, "answer 5");
    assert_eq!(store.len(), 1, "what is over was swept out");

    // One that has no room at all takes nobody else's.
    store.set_max_bytes(10);
    text(&llm, keyed("d")).await;
    assert_eq!((store.len(), &*text(&llm, keyed("c")).await), (1, "answer 5"));

    let small = MemoryIdempotency::new().max_bytes(10);
    let llm = IdempotencyLayer::over(small.clone()).layer(provider.service());
    text(&llm, keyed("a")).await;
    assert_eq!((small.len(), small.bytes()), (0, 0));
    let llm = IdempotencyLayer::over(small).max_answer(10).layer(provider.service());
    let (long, _) = frames(call(&llm, stream()).await.unwrap()).await;
    assert_eq!(long.len(), 4, "it reaches who waits for it");
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
    let other = || LlmRequest::prompt("hi").with_idempotency_key("k-2");
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
    let Claim::Inherited(now) = store.claim(&key, &input, SECOND).await.unwrap() else { panic!("its lease was over") };
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
        assert_eq!(begun.elapsed(), if hangs { SECOND + SECOND / 2 } else { SECOND });
        let failures = layer.handle().stats().store_failures;
        assert_eq!(failures, 1);
        // Repeats are known in their own process, at no cost in time.
        let begun = Instant::now();
        assert_eq!((&*text(&llm, ask()).await, provider.calls(), begun.elapsed()), ("answer 1", 1, Duration::ZERO));
    }
}

/// A store that is away for a time.
struct AwayFor {
    store: MemoryIdempotency,
    away: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl AwayFor {
    fn asked<'a, T: Send + 'static>(&self, there: impl FnOnce() -> StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        self.asked.fetch_add(1, SeqCst);
        match self.away.load(SeqCst) {
            true => Box::pin(pending()),
            false => there(),
        }
    }
}

impl IdempotencyStore for AwayFor {
    fn claim<'a>(&'a self, key: &'a IdempotencyKey, input: &'a Fingerprint, lease: Duration) -> StoreFuture<'a, Claim> {
        self.asked(|| self.store.claim(key, input, lease))
    }

    fn renew<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket, lease: Duration) -> StoreFuture<'a, bool> {
        self.asked(|| self.store.renew(key, ticket, lease))
    }

    fn complete<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        ticket: Ticket,
        answer: Arc<Answer>,
        ttl: Duration,
    ) -> StoreFuture<'a, bool> {
        self.asked(|| self.store.complete(key, ticket, answer, ttl))
    }

    fn release<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket) -> StoreFuture<'a, ()> {
        self.asked(|| self.store.release(key, ticket))
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_is_used_again_and_what_was_answered_meanwhile_stays_known() {
    let (store, provider, events) = (MemoryIdempotency::new(), Provider::new(), Events::new());
    let (away, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut heard = events.subscribe();
    let shaky = AwayFor { store: store.clone(), away: away.clone(), asked: asked.clone() };
    let llm = IdempotencyLayer::over(shaky).events(&events).layer(provider.service());
    let keyed = |key: &str| LlmRequest::prompt("hello").with_idempotency_key(key);
    assert_eq!(text(&llm, keyed("before")).await, "answer 1");

    away.store(true, SeqCst);
    let begun = Instant::now();
    assert_eq!(text(&llm, keyed("a")).await, "answer 2");
    assert_eq!(begun.elapsed(), SECOND / 2, "the first waits for the store");
    let questions = asked.load(SeqCst);
    for key in ["b", "c", "a", "b", "c"] {
        text(&llm, keyed(key)).await;
    }
    assert_eq!((provider.calls(), begun.elapsed(), asked.load(SeqCst)), (4, SECOND / 2, questions));

    away.store(false, SeqCst);
    advance(SECOND).await;
    assert_eq!(text(&llm, keyed("d")).await, "answer 5");
    assert_eq!(
        (store.len(), &*text(&llm, keyed("d")).await),
        (5, "answer 5"),
        "it is asked again, and told of the others"
    );
    for (key, answer) in [("a", "answer 2"), ("before", "answer 1")] {
        assert_eq!(text(&llm, keyed(key)).await, answer);
    }
    let mut told = Vec::new();
    while let Ok(Event::StoreChanged { store, available, .. }) = heard.try_recv() {
        told.push((store.to_string(), available));
    }
    assert_eq!(told, [("idempotency".to_owned(), false), ("idempotency".to_owned(), true)]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_while_the_store_is_away_is_known_in_its_own_process() {
    let provider = Provider::new().takes(5 * SECOND);
    let (away, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let shaky = AwayFor { store: MemoryIdempotency::new(), away: away.clone(), asked };
    let llm = IdempotencyLayer::over(shaky).layer(provider.service());
    let goes = async {
        tokio::time::sleep(SECOND).await;
        away.store(true, SeqCst);
    };
    let (answer, ()) = tokio::join!(text(&llm, ask()), goes);
    assert_eq!((&*answer, &*text(&llm, ask()).await, provider.calls()), ("answer 1", "answer 1", 1));
}
