//! Stores that go away between a claim and what comes of it, and stores that come back without what they knew: what
//! could not be told is told again, and a call that may have been made twice says so.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use steadfast::{
    ErrorKind, IdempotencyLayer, LlmRequest,
    layers::{
        cache::Answer,
        idempotency::{Claim, Fingerprint, IdempotencyKey, IdempotencyStore, MemoryIdempotency, StoreFuture, Ticket},
    },
};
use tokio::time::{Instant, sleep};
use tower::{BoxError, Layer};

use crate::{
    cache::provider::{Provider, call, text},
    idempotency::{SECOND, ask},
};

/// A store of several processes, which goes away and may come back empty.
#[derive(Clone, Default)]
struct Shaky(Arc<Mutex<(MemoryIdempotency, bool)>>);

impl Shaky {
    fn goes(&self) {
        self.0.lock().unwrap().1 = true;
    }

    fn comes(&self) {
        self.0.lock().unwrap().1 = false;
    }

    fn forgets(&self) {
        self.0.lock().unwrap().0 = MemoryIdempotency::new();
    }

    fn asked<T: Send + 'static>(
        &self,
        asks: impl FnOnce(MemoryIdempotency) -> StoreFuture<'static, T>,
    ) -> StoreFuture<'_, T> {
        let (store, is_away) = self.0.lock().unwrap().clone();
        match is_away {
            true => Box::pin(async { Err(BoxError::from("connection refused")) }),
            false => asks(store),
        }
    }
}

impl IdempotencyStore for Shaky {
    fn claim<'a>(&'a self, key: &'a IdempotencyKey, input: &'a Fingerprint, lease: Duration) -> StoreFuture<'a, Claim> {
        let (key, input) = (*key, *input);
        self.asked(move |store| Box::pin(async move { store.claim(&key, &input, lease).await }))
    }

    fn renew<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket, lease: Duration) -> StoreFuture<'a, bool> {
        let key = *key;
        self.asked(move |store| Box::pin(async move { store.renew(&key, ticket, lease).await }))
    }

    fn complete<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        ticket: Ticket,
        answer: Arc<Answer>,
        ttl: Duration,
    ) -> StoreFuture<'a, bool> {
        let key = *key;
        self.asked(move |store| Box::pin(async move { store.complete(&key, ticket, answer, ttl).await }))
    }

    fn release<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket) -> StoreFuture<'a, ()> {
        let key = *key;
        self.asked(move |store| Box::pin(async move { store.release(&key, ticket).await }))
    }
}

/// Away from here on, and back after this time.
async fn away_for(store: &Shaky, time: Duration) {
    store.goes();
    sleep(time).await;
    store.comes();
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_could_not_be_told_is_told_when_the_store_is_back() {
    let (store, provider) = (Shaky::default(), Provider::new().takes(SECOND));
    let here = IdempotencyLayer::over(store.clone()).layer(provider.service());
    let there = IdempotencyLayer::over(store.clone()).layer(provider.service());
    let goes = async {
        sleep(SECOND / 2).await;
        away_for(&store, SECOND * 6 / 5).await;
    };
    let (first, ()) = tokio::join!(text(&here, ask()), goes);
    let begun = Instant::now();
    assert_eq!((&*first, &*text(&there, ask()).await, provider.calls()), ("answer 1", "answer 1", 1));
    assert!(begun.elapsed() <= 2 * SECOND, "{:?}: not the lease of 30 s", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_call_failed_while_the_store_was_away_is_free_when_it_is_back() {
    let (store, provider) = (Shaky::default(), Provider::new().takes(SECOND));
    let here = IdempotencyLayer::over(store.clone()).layer(provider.service());
    let there = IdempotencyLayer::over(store.clone()).layer(provider.service());
    provider.fails(ErrorKind::Server);
    let goes = async {
        sleep(SECOND / 2).await;
        away_for(&store, SECOND * 6 / 5).await;
    };
    let (failed, ()) = tokio::join!(call(&here, ask()), goes);
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Server);
    let begun = Instant::now();
    let answer = call(&there, ask()).await.unwrap();
    assert!(begun.elapsed() <= 3 * SECOND, "{:?}: a call of 1 s, and not the lease of 30 s", begun.elapsed());
    assert!(!answer.is_possible_repeat(), "it was told what came of the first");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_empty_is_told_what_it_has_forgotten() {
    let (store, provider) = (Shaky::default(), Provider::new().takes(SECOND));
    let (one, two) = (IdempotencyLayer::over(store.clone()), IdempotencyLayer::over(store.clone()));
    let (here, there) = (one.layer(provider.service()), two.layer(provider.service()));
    let keyed = |key: &str| LlmRequest::prompt("hello").with_idempotency_key(key);
    assert_eq!(text(&here, keyed("told")).await, "answer 1");
    let goes = async {
        // Another call is under way.
        sleep(SECOND / 4).await;
        store.forgets();
        away_for(&store, SECOND / 4).await;
    };
    // Whoever asks next finds that it was away.
    let asks = async {
        sleep(SECOND * 3 / 8).await;
        text(&here, keyed("next")).await
    };
    let repeat = async {
        sleep(SECOND * 4 / 5).await;
        text(&there, keyed("under way")).await
    };
    let (first, (), next, again) = tokio::join!(text(&here, keyed("under way")), goes, asks, repeat);
    assert_eq!(first, again, "it was claimed anew while it was under way");
    sleep(3 * SECOND).await;
    assert_eq!(text(&there, keyed("told")).await, "answer 1");
    assert_eq!((text(&there, keyed("next")).await, provider.calls()), (next, 3));
}

#[tokio::test(start_paused = true)]
async fn with_two_stores_one_that_is_empty_or_away_is_no_second_call() {
    let (quick, durable, provider) = (Shaky::default(), Shaky::default(), Provider::new());
    let layer = || IdempotencyLayer::over_both(quick.clone(), durable.clone()).layer(provider.service());
    let (here, there) = (layer(), layer());
    let keyed = |key: &str| LlmRequest::prompt("hello").with_idempotency_key(key);
    assert_eq!(text(&here, keyed("a")).await, "answer 1");
    quick.forgets();
    assert_eq!((&*text(&there, keyed("a")).await, provider.calls()), ("answer 1", 1));
    // And it knows it again.
    sleep(SECOND).await;
    durable.forgets();
    assert_eq!((&*text(&there, keyed("a")).await, provider.calls()), ("answer 1", 1));
    for store in [&quick, &durable] {
        store.goes();
        let key = format!("{:p}", Arc::as_ptr(&store.0));
        let first = call(&here, keyed(&key)).await.unwrap();
        assert!(!first.is_possible_repeat(), "the other store knows all keys");
        let first = first.text().await.unwrap();
        assert_eq!(text(&there, keyed(&key)).await, first);
        store.comes();
        // A process that could not ask the store for a while does not rely on it alone for as long as a lease.
        sleep(40 * SECOND).await;
    }
    assert_eq!(provider.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_may_be_the_second_says_so_and_no_other() {
    let (store, provider) = (Shaky::default(), Provider::new());
    let here = IdempotencyLayer::over(store.clone()).layer(provider.service());
    let there = IdempotencyLayer::over(store.clone()).layer(provider.service());
    assert!(!call(&here, ask()).await.unwrap().is_possible_repeat());
    store.goes();
    let twice = call(&there, ask()).await.unwrap();
    assert!(twice.is_possible_repeat(), "nobody there knows of the first");
    assert_eq!((twice.text().await.unwrap(), provider.calls()), ("answer 2".to_owned(), 2));
    provider.fails(ErrorKind::Server);
    let failed = call(&there, LlmRequest::prompt("hi").with_idempotency_key("k-2")).await.unwrap_err();
    assert!(failed.is_possible_repeat());
    store.comes();
    sleep(60 * SECOND).await;
    let new = || LlmRequest::prompt("hi").with_idempotency_key("k-3");
    assert!(call(&there, new()).await.is_ok(), "it tries the store");
    assert!(!call(&there, LlmRequest::prompt("hi").with_idempotency_key("k-4")).await.unwrap().is_possible_repeat());
    assert!(!call(&here, LlmRequest::prompt("hi")).await.unwrap().is_possible_repeat(), "without a key");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_its_holder_never_gave_back_is_inherited_with_a_word() {
    let (store, provider) = (MemoryIdempotency::new(), Provider::new());
    let spied: Arc<Mutex<Option<(IdempotencyKey, Fingerprint)>>> = Arc::default();
    struct Spy(MemoryIdempotency, Arc<Mutex<Option<(IdempotencyKey, Fingerprint)>>>);
    impl IdempotencyStore for Spy {
        fn claim<'a>(
            &'a self,
            key: &'a IdempotencyKey,
            input: &'a Fingerprint,
            lease: Duration,
        ) -> StoreFuture<'a, Claim> {
            *self.1.lock().unwrap() = Some((*key, *input));
            self.0.claim(key, input, lease)
        }

        fn renew<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket, lease: Duration) -> StoreFuture<'a, bool> {
            self.0.renew(key, ticket, lease)
        }

        fn complete<'a>(
            &'a self,
            key: &'a IdempotencyKey,
            ticket: Ticket,
            answer: Arc<Answer>,
            ttl: Duration,
        ) -> StoreFuture<'a, bool> {
            self.0.complete(key, ticket, answer, ttl)
        }

        fn release<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket) -> StoreFuture<'a, ()> {
            self.0.release(key, ticket)
        }
    }
    let spy = IdempotencyLayer::over(Spy(MemoryIdempotency::new(), spied.clone())).layer(provider.service());
    text(&spy, ask()).await;
    let (key, input) = spied.lock().unwrap().take().unwrap();
    // Its process has crashed.
    assert!(matches!(store.claim(&key, &input, 30 * SECOND).await.unwrap(), Claim::Won(_)));
    let answer = call(&IdempotencyLayer::over(store).layer(provider.service()), ask()).await.unwrap();
    assert!(answer.is_possible_repeat());
}
