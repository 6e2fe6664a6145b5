//! Redis goes away under load, and comes back: nobody fails for it, it is told once, and the replicas agree again.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use steadfast::{
    BulkheadLayer, CircuitBreakerLayer, Event, Events, IdempotencyLayer, LlmError, LlmRequest, LlmResponse,
    RetryBudget, events::CircuitState, layers::bulkhead::Limits, provider_fn,
};
use steadfast_stores::{
    redis::Redis,
    replicas::{ReplicaSync, SharedState},
};
use tokio::{sync::broadcast, time::sleep};
use tower::{ServiceBuilder, ServiceExt as _};

use crate::replicas::server::Server;

/// The log of everybody in this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn lines(&self, with: &str) -> usize {
        let log = self.0.lock().unwrap();
        String::from_utf8_lossy(&log).lines().filter(|line| line.contains(with)).count()
    }
}

/// A replica: everything that is shared, over a connection of its own.
struct Replica {
    circuit: CircuitBreakerLayer,
    features: BulkheadLayer,
    keys: IdempotencyLayer,
    redis: Redis,
    heard: broadcast::Receiver<Event>,
    _sharing: ReplicaSync,
}

impl Replica {
    fn over(url: &str) -> Self {
        let events = Events::new();
        let heard = events.subscribe();
        // Longer than a busy machine takes, and short enough to wait for.
        let redis = Redis::open(url).unwrap().limit(Duration::from_secs(1)).events(&events);
        let circuit = CircuitBreakerLayer::new("sonnet").consecutive_failures(3).cooldown(Duration::from_secs(60));
        let features = BulkheadLayer::new().feature("chat", Limits::new(1000).requests_per_minute(1_000_000));
        let shares = SharedState::new()
            .circuit("sonnet", circuit.handle())
            .rates(&features.handle())
            .retry_budget("all", &RetryBudget::new());
        let keys = IdempotencyLayer::over(redis.clone());
        Self { circuit, features, keys, _sharing: ReplicaSync::start(redis.clone(), shares), redis, heard }
    }

    /// Returns the duration of a good answer.
    async fn answers(&self, key: String) -> Duration {
        let provider = provider_fn(|_| async { Ok::<_, LlmError>(LlmResponse::from_text("fine")) });
        let llm = ServiceBuilder::new().layer(&self.keys).layer(&self.features).layer(&self.circuit).service(provider);
        let begun = Instant::now();
        let request = LlmRequest::prompt("hello").with_feature("chat").with_idempotency_key(key);
        let answer = llm.oneshot(request).await.expect("a store that is away fails nobody");
        assert_eq!(answer.text().await.unwrap(), "fine");
        begun.elapsed()
    }

    async fn trips(&self) {
        let provider =
            provider_fn(|_| async { Err::<LlmResponse, _>(LlmError::new(steadfast::ErrorKind::Server, "down")) });
        let llm = ServiceBuilder::new().layer(&self.circuit).service(provider);
        for _ in 0..3 {
            llm.clone().oneshot(LlmRequest::prompt("hello")).await.unwrap_err();
        }
        assert_eq!(self.state(), CircuitState::Open);
    }

    fn state(&self) -> CircuitState {
        self.circuit.handle().state()
    }
}

/// Until it is so; within a time that a busy machine keeps.
async fn becomes(what: &str, so: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(15), "{what}");
        sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

async fn outage(mut server: Server, goes: impl Fn(&mut Server), comes: impl AsyncFn(&mut Server)) {
    let log = Log::default();
    let writer = log.clone();
    let told = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    // With one subscriber alone, tracing asks the thread that meets a line first, which may be another test's.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _told = tracing::subscriber::set_default(told);
    let mut replicas = [Replica::over(&server.url()), Replica::over(&server.url())];
    for replica in &replicas {
        replica.redis.ping().await.unwrap();
        replica.answers("warm".to_owned()).await;
    }

    goes(&mut server);
    let begun = Instant::now();
    let (mut answered, mut longest) = (0, Duration::ZERO);
    while begun.elapsed() < Duration::from_secs(3) {
        for replica in &replicas {
            for _ in 0..5 {
                answered += 1;
                longest = longest.max(replica.answers(format!("key {answered}")).await);
            }
        }
        sleep(Duration::from_millis(10)).await;
    }
    // The other replica does not know the findings of the first.
    replicas[0].trips().await;
    sleep(Duration::from_millis(700)).await;
    assert_eq!(replicas[1].state(), CircuitState::Closed);
    println!("{answered} answers, the slowest within {longest:?}");
    // A few looks of a second, by the one who tries whether Redis is back.
    assert!(longest < Duration::from_secs(10), "{longest:?}");

    comes(&mut server).await;
    let agreed = becomes("they agree again", || replicas[1].state() == CircuitState::Open).await;
    println!("they agree after {agreed:?}");
    becomes("it is told that it is over", || log.lines("Redis available again") == replicas.len()).await;
    assert_eq!(log.lines("Redis unavailable"), replicas.len(), "once for each replica");
    assert_eq!(log.lines("Redis available again"), replicas.len());
    assert_eq!(log.lines("store unavailable"), 0, "nor in other words");
    for replica in &mut replicas {
        let mut told = Vec::new();
        while let Ok(Event::StoreChanged { store, available, .. }) = replica.heard.try_recv() {
            told.push((store.to_string(), available));
        }
        assert_eq!(told, [("redis".to_owned(), false), ("redis".to_owned(), true)]);
    }
}

#[tokio::test]
async fn a_redis_that_hangs_fails_nobody() {
    let Some(server) = Server::start().await else { return };
    outage(server, |server| server.stops(), async |server| server.goes_on()).await;
}

#[tokio::test]
async fn a_redis_that_dies_fails_nobody() {
    let Some(server) = Server::start().await else { return };
    outage(server, Server::dies, async |server| server.begin().await).await;
}
