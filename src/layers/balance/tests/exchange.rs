//! Two replicas that share limits, over a provider that reports none and refuses nothing: a bucket that may go below
//! zero, by which it counts what was sent beyond its limits.

use std::sync::Mutex;

use super::*;
use crate::{
    layers::balance::exchange::{HeadroomFuture, HeadroomGrant, HeadroomOrder, HeadroomStore, MemoryHeadroom},
    store::{StoreError, StoreErrorKind},
};

const LIMIT: f64 = 60_000.0;

/// A provider's account: its level, when it was that, and the lowest so far.
#[derive(Clone)]
struct Account(Arc<Mutex<(f64, Instant, f64)>>);

impl Account {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((LIMIT, Instant::now(), LIMIT))))
    }

    fn take(&self, tokens: f64) {
        let mut account = self.0.lock().unwrap();
        let now = Instant::now();
        let level = (account.0 + (now - account.1).as_secs_f64() * LIMIT / 60.0).min(LIMIT) - tokens;
        *account = (level, now, account.2.min(level));
    }

    /// Returns the share of the limit that was sent beyond it.
    fn over(&self) -> f64 {
        (-self.0.lock().unwrap().2).max(0.0) / LIMIT
    }
}

/// A store that can be out, or take long.
#[derive(Clone, Default)]
struct Store {
    inner: MemoryHeadroom,
    out: Arc<AtomicUsize>,
    exchanges: Arc<AtomicUsize>,
}

impl HeadroomStore for Store {
    fn exchange<'a>(&'a self, orders: &'a [HeadroomOrder]) -> HeadroomFuture<'a> {
        self.exchanges.fetch_add(1, SeqCst);
        match self.out.load(SeqCst) {
            0 => self.inner.exchange(orders),
            1 => Box::pin(std::future::ready(Err(StoreError::new(StoreErrorKind::Unavailable, "out")))),
            2 => Box::pin(std::future::pending()),
            // Nonsense of any kind.
            3 => Box::pin(std::future::ready(Ok(Vec::new()))),
            _ => Box::pin(std::future::ready(Ok(vec![HeadroomGrant::new(f64::NAN, f64::INFINITY); orders.len()]))),
        }
    }
}

fn replica(accounts: &[Account], store: Option<Store>, seed: u64) -> Balance<BoxLlmService> {
    let names = ["a", "b", "c", "d"];
    let deployments = names.iter().zip(accounts).map(|(name, account)| {
        let account = account.clone();
        let leaf = provider_fn(move |request: LlmRequest| {
            // As the balancer estimates it, so that this is about sharing and not about estimates.
            account.take(f64::from(request.glanced_tokens()));
            async {
                sleep(secs(1)).await;
                Ok::<_, LlmError>(LlmResponse::from_text("hello"))
            }
        });
        Deployment::new(*name, boxed(leaf)).tokens_per_minute(LIMIT as u64).unwrap()
    });
    let layer = BalanceLayer::new().affinity(false).seed(seed);
    let layer = match store {
        Some(store) => layer.shared_headroom("tier", store),
        None => layer,
    };
    layer.layer(Deployments::new(deployments).unwrap())
}

/// Sends for ten minutes at this share of all limits, two thirds of it through one replica. Returns the largest share
/// of a limit that was sent beyond it.
async fn send(replicas: &[Balance<BoxLlmService>; 2], accounts: &[Account], share: f64) -> f64 {
    let mut random = fastrand::Rng::with_seed(11);
    let (mut at, mut calls) = (Duration::ZERO, Vec::new());
    while at < secs(600) {
        let words = if random.f64() < 0.05 { random.usize(1500..6000) } else { random.usize(50..900) };
        let request = LlmRequest::prompt("word".repeat(words));
        let tokens = f64::from(request.glanced_tokens());
        at += Duration::from_secs_f64(tokens / (LIMIT / 60.0 * 4.0 * share));
        let (llm, at) = (replicas[usize::from(random.f64() < 0.33)].clone(), at);
        calls.push(async move {
            sleep(at).await;
            llm.oneshot(request).await.map(drop)
        });
    }
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    accounts.iter().map(Account::over).fold(0.0, f64::max)
}

async fn over(store: Option<Store>, share: f64) -> f64 {
    let accounts: Vec<_> = (0..4).map(|_| Account::new()).collect();
    let replicas = [replica(&accounts, store.clone(), 1), replica(&accounts, store, 2)];
    send(&replicas, &accounts, share).await
}

#[tokio::test(start_paused = true)]
async fn two_replicas_together_keep_the_limits() {
    let alone = over(None, 0.95).await;
    let shared = over(Some(Store::default()), 0.95).await;
    println!("beyond the limits, each by itself: {:.1} %; shared: {:.1} %", alone * 100.0, shared * 100.0);
    assert!(shared <= 0.02, "{shared}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_out_holds_no_request() {
    for out in 1..=4 {
        let store = Store::default();
        store.out.store(out, SeqCst);
        let llm = replica(&[Account::new(), Account::new()], Some(store.clone()), 1);
        for _ in 0..20 {
            let begun = Instant::now();
            llm.clone().oneshot(hi()).await.unwrap();
            assert_eq!(begun.elapsed(), secs(1), "{out}");
        }
        assert!(store.exchanges.load(SeqCst) > 5, "{out}: it goes on asking");
        let local = llm.handle().deployments();
        assert!(local.iter().all(|it| it.availability != Availability::NoHeadroom), "{out}: its own knowledge");
        store.out.store(0, SeqCst);
        sleep(secs(3)).await;
        for _ in 0..20 {
            llm.clone().oneshot(hi()).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_exchange_ends_with_the_balancer() {
    let store = Store::default();
    let llm = replica(&[Account::new()], Some(store.clone()), 1);
    llm.clone().oneshot(hi()).await.unwrap();
    assert!(store.exchanges.load(SeqCst) > 0);
    drop(llm);
    sleep(secs(1)).await;
    let before = store.exchanges.load(SeqCst);
    sleep(secs(10)).await;
    assert_eq!(store.exchanges.load(SeqCst), before);
}

#[tokio::test(start_paused = true)]
async fn the_store_in_memory_is_a_bucket_for_each_name() {
    let store = MemoryHeadroom::new();
    let order = |name: &str| HeadroomOrder::new(name, 60.0);
    let ask = async |order: HeadroomOrder| store.exchange(&[order]).await.unwrap()[0];
    assert_eq!(ask(order("a").reserve(50.0)).await, HeadroomGrant::new(50.0, 10.0));
    assert_eq!(ask(order("a").reserve(50.0)).await, HeadroomGrant::new(10.0, 0.0));
    assert_eq!(ask(order("b").reserve(50.0)).await.granted, 50.0);
    assert_eq!(ask(order("a").settle(30.0).reserve(1.0)).await, HeadroomGrant::new(0.0, -30.0));
    sleep(secs(40)).await;
    assert_eq!(ask(order("a").reserve(50.0)).await, HeadroomGrant::new(10.0, 0.0), "one a second comes back");
    assert_eq!(ask(order("a").settle(-500.0)).await.left, 60.0, "no more than its size");
}
