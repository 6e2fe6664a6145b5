//! Replicas in one process, on paused time.

mod limits;

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt};

use super::{MemoryReplicas, Notice, ReplicaStore, ReplicaSync, Report, SharedState, Snapshot};
use steadfast::{
    BulkheadLayer, CircuitBreakerLayer, ErrorKind, LlmError, LlmRequest, LlmResponse, RetryBudget,
    events::CircuitState,
    layers::bulkhead::Limits,
    provider_fn,
    store::{StoreError, StoreErrorKind},
};

/// A store that can be unavailable.
#[derive(Clone, Default)]
struct Flaky {
    memory: MemoryReplicas,
    down: Arc<AtomicBool>,
}

impl ReplicaStore for Flaky {
    fn exchange<'a>(
        &'a self,
        said: &'a Report,
    ) -> Pin<Box<dyn Future<Output = Result<Snapshot, StoreError>> + Send + 'a>> {
        match self.down.load(Relaxed) {
            true => Box::pin(async { Err(StoreError::new(StoreErrorKind::Unavailable, "an exchange")) }),
            false => self.memory.exchange(said),
        }
    }
}

struct Replica {
    circuit: CircuitBreakerLayer,
    budget: RetryBudget,
    features: BulkheadLayer,
    _sharing: ReplicaSync,
}

impl Replica {
    fn over(store: &Flaky) -> Self {
        let circuit = CircuitBreakerLayer::new("sonnet").cooldown(Duration::from_secs(20)).seed(1);
        let budget = RetryBudget::new();
        let features = BulkheadLayer::new().feature("chat", Limits::new(1000).requests_per_minute(60));
        let shares = SharedState::new()
            .circuit("sonnet", circuit.handle())
            .rates(&features.handle())
            .retry_budget("all", &budget);
        Self { circuit, budget, features, _sharing: ReplicaSync::start(store.clone(), shares) }
    }

    fn state(&self) -> CircuitState {
        self.circuit.handle().state()
    }

    /// Makes a call through the circuit. Returns whether it was let through.
    async fn call(&self, result: Result<(), ErrorKind>) -> bool {
        let provider = provider_fn(move |_| async move {
            match result {
                Ok(()) => Ok(LlmResponse::from_text("fine")),
                Err(kind) => Err(LlmError::new(kind, "as told")),
            }
        });
        let answer = self.circuit.layer(provider).oneshot(LlmRequest::prompt("hello")).await;
        !matches!(answer, Err(error) if error.kind() == ErrorKind::CircuitOpen)
    }

    async fn trip(&self) {
        for _ in 0..5 {
            self.call(Err(ErrorKind::Server)).await;
        }
        assert_eq!(self.state(), CircuitState::Open);
    }

    /// Returns the number of requests that pass the feature's rate now.
    async fn passes(&self, requests: usize) -> usize {
        let provider = provider_fn(|_| async { Ok::<_, LlmError>(LlmResponse::from_text("fine")) });
        let chat = self.features.layer(provider);
        let mut passed = 0;
        for _ in 0..requests {
            let answer = chat.clone().oneshot(LlmRequest::prompt("hello").with_feature("chat")).await;
            passed += usize::from(answer.is_ok());
        }
        passed
    }
}

async fn seconds(seconds: f64) {
    sleep(Duration::from_secs_f64(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn what_opens_in_one_replica_opens_in_all_within_a_second_and_so_does_its_closing() {
    let store = Flaky::default();
    let replicas = [Replica::over(&store), Replica::over(&store), Replica::over(&store)];
    seconds(5.0).await;
    replicas[0].trip().await;
    seconds(1.0).await;
    assert!(replicas.iter().all(|replica| replica.state() == CircuitState::Open));
    seconds(19.0).await;
    assert!(replicas[0].call(Ok(())).await, "its cooldown is over");
    assert_eq!(replicas[0].state(), CircuitState::Closed);
    seconds(1.0).await;
    assert!(replicas.iter().all(|replica| replica.state() == CircuitState::Closed));
    // The store's contents are old news to all replicas, and to a newcomer.
    let newcomer = Replica::over(&store);
    seconds(10.0).await;
    assert!(replicas.iter().chain([&newcomer]).all(|replica| replica.state() == CircuitState::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_hears_of_what_is_open() {
    let store = Flaky::default();
    let first = Replica::over(&store);
    first.trip().await;
    seconds(2.0).await;
    let newcomer = Replica::over(&store);
    seconds(1.0).await;
    assert_eq!(newcomer.state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn one_replica_probes_at_a_time() {
    let store = Flaky::default();
    let replicas = [Replica::over(&store), Replica::over(&store), Replica::over(&store)];
    replicas[0].trip().await;
    seconds(20.0).await;
    // Its probe takes four seconds; the others have traffic all the time.
    let provider = provider_fn(|_| async {
        seconds(4.0).await;
        Ok::<_, LlmError>(LlmResponse::from_text("fine"))
    });
    let probe = tokio::spawn(replicas[0].circuit.layer(provider).oneshot(LlmRequest::prompt("hello")));
    let mut probes = 0;
    for _ in 0..38 {
        for other in &replicas[1..] {
            probes += usize::from(other.call(Ok(())).await);
        }
        seconds(0.1).await;
    }
    assert_eq!(probes, 0);
    probe.await.unwrap().unwrap();
    seconds(1.2).await;
    assert!(replicas.iter().all(|replica| replica.state() == CircuitState::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_never_ends_is_not_waited_for_for_ever() {
    let store = Flaky::default();
    let replica = Replica::over(&store);
    replica.trip().await;
    seconds(1.0).await;
    let probing = Notice { change: "probing".into(), age: Duration::ZERO, remaining: Duration::MAX };
    let said = Report { replica: 99, notices: vec![("sonnet".into(), Some(probing))], counts: Vec::new() };
    store.exchange(&said).await.unwrap();
    seconds(50.0).await;
    assert!(!replica.call(Ok(())).await, "its own cooldown was over long ago");
    seconds(12.0).await;
    assert!(replica.call(Ok(())).await);
}

#[tokio::test(start_paused = true)]
async fn where_the_one_that_opened_it_is_gone_another_probes_soon() {
    let store = Flaky::default();
    let (first, second) = (Replica::over(&store), Replica::over(&store));
    first.trip().await;
    seconds(1.0).await;
    drop(first);
    seconds(19.0).await;
    assert!(!second.call(Ok(())).await, "the first has the right of way");
    seconds(2.1).await;
    assert!(second.call(Ok(())).await);
    assert_eq!(second.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_outage_leaves_each_to_itself_and_then_the_newest_counts() {
    let store = Flaky::default();
    let (one, other) = (Replica::over(&store), Replica::over(&store));
    one.trip().await;
    seconds(1.0).await;
    store.down.store(true, Relaxed);
    // Both find that the provider works again; then one finds that it does not.
    seconds(22.0).await;
    assert!(one.call(Ok(())).await && other.call(Ok(())).await);
    seconds(1.0).await;
    other.trip().await;
    assert_eq!(one.state(), CircuitState::Closed);
    seconds(5.0).await;
    store.down.store(false, Relaxed);
    seconds(1.0).await;
    assert_eq!((one.state(), other.state()), (CircuitState::Open, CircuitState::Open));
    // The store has lost everything: an open circuit stays open, and is reported again.
    store.memory.forget();
    seconds(1.0).await;
    let newcomer = Replica::over(&store);
    seconds(1.0).await;
    assert_eq!(newcomer.state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_one_for_all_replicas() {
    let store = Flaky::default();
    let replicas = [Replica::over(&store), Replica::over(&store), Replica::over(&store)];
    seconds(1.0).await;
    let begun = Instant::now();
    // At first no replica knows of the others: each has the whole bucket.
    let mut passed = 0;
    for replica in &replicas {
        passed += replica.passes(30).await;
    }
    assert_eq!(passed, 90, "30 too much, as they could not know");
    // Then as many as possible, for five minutes.
    while begun.elapsed() < Duration::from_secs(300) {
        for replica in &replicas {
            passed += replica.passes(5).await;
        }
        seconds(0.25).await;
    }
    // The bucket and the steady rate. At the end, the replicas add the requests of the last half second, which they do
    // not yet know of each other.
    let exact = 60 + 300;
    assert!((exact..=exact + 6).contains(&passed), "{passed}");
}

#[tokio::test(start_paused = true)]
async fn what_was_used_while_the_store_was_away_is_not_charged() {
    let store = Flaky::default();
    let (one, other) = (Replica::over(&store), Replica::over(&store));
    seconds(1.0).await;
    store.down.store(true, Relaxed);
    seconds(1.0).await;
    assert_eq!((one.passes(100).await, other.passes(20).await), (60, 20), "each goes by its own");
    store.memory.forget();
    store.down.store(false, Relaxed);
    seconds(2.0).await;
    assert_eq!(other.passes(100).await, 42, "its own 20, and two seconds");
    seconds(1.0).await;
    assert_eq!(one.passes(100).await, 0, "its own 60, and what the other has used since");
}

#[tokio::test(start_paused = true)]
async fn a_retry_budget_is_one_for_all_replicas() {
    let store = Flaky::default();
    let (one, other) = (Replica::over(&store), Replica::over(&store));
    seconds(1.0).await;
    let takes = |replica: &Replica| {
        let mut taken = 0;
        while let Some(mut token) = replica.budget.reserve(Instant::now()) {
            token.sent();
            taken += 1;
        }
        taken
    };
    assert_eq!(takes(&one), 10, "ten seconds of the floor");
    seconds(1.0).await;
    assert_eq!(takes(&other), 0, "they were everybody's, but for what time has brought");
    // A tenth of all first tries.
    (0..400).for_each(|_| one.budget.deposit());
    (0..200).for_each(|_| other.budget.deposit());
    seconds(1.0).await;
    let taken = takes(&one);
    seconds(1.0).await;
    let taken = taken + takes(&other);
    assert!((58..=62).contains(&taken), "{taken}");
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_elsewhere_is_given_back_here() {
    let store = Flaky::default();
    let (one, other) = (Replica::over(&store), Replica::over(&store));
    seconds(1.0).await;
    let waiting: Vec<_> = std::iter::from_fn(|| one.budget.reserve(Instant::now())).collect();
    assert_eq!(waiting.len(), 10);
    seconds(0.6).await;
    assert_eq!(other.budget.available(), 0);
    drop(waiting);
    seconds(0.6).await;
    assert!(other.budget.available() >= 9, "{}", other.budget.available());
}

#[tokio::test(start_paused = true)]
async fn a_changed_share_goes_on_with_what_stays() {
    let store = Flaky::default();
    let (one, other) = (Replica::over(&store), Replica::over(&store));
    seconds(1.0).await;
    let another = CircuitBreakerLayer::new("gpt");
    let shares = SharedState::new().circuit("sonnet", one.circuit.handle()).circuit("gpt", another.handle());
    one._sharing.share(shares);
    seconds(1.0).await;
    other.trip().await;
    seconds(1.0).await;
    assert_eq!(one.state(), CircuitState::Open);
    one._sharing.share(SharedState::new());
    seconds(30.0).await;
    assert!(other.call(Ok(())).await);
    seconds(5.0).await;
    assert_eq!(one.state(), CircuitState::Open, "it listens no more");
    one._sharing.share(SharedState::new().circuit("sonnet", one.circuit.handle()));
    seconds(1.0).await;
    assert_eq!(one.state(), CircuitState::Closed);
}
