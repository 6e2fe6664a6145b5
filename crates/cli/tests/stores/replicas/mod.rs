//! Two gateways that share a Redis: the real binary, twice.
//!
//! They need `STEADFAST_TEST_REDIS`, and `redis-server` in the PATH: each test starts one of its own, to stop and kill
//! it. With `STEADFAST_SCALE=full` an outage takes 30 s, else 3.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a real process keeps real time")]
#![cfg(all(target_os = "linux", feature = "redis"))]

#[allow(dead_code, unreachable_pub, reason = "it is the library's tests' too")]
#[path = "../../../../../tests/stores/replicas/server.rs"]
mod server;

#[cfg(feature = "postgres")]
mod caps;
mod limits;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::time::sleep;

use self::server::Server;
use crate::{
    common::{
        client::Client,
        http::Answer,
        serve::{Serve, Served},
    },
    provider::Provider,
};

fn config(provider: &Provider, redis: &str) -> String {
    format!(
        "
tiers:
  - name: sonnet
    provider: anthropic
    model: claude-sonnet-4-5
    base_url: http://{}
    api_key: ${{PROVIDER_KEY}}
    retry: {{ max_attempts: 1 }}
  - {{ name: sorry, provider: canned, text: first but and last }}
circuit_breaker: {{ consecutive_failures: 3, cooldown: 2s }}
default_feature: {{ requests_per_minute: 1000000 }}
idempotency: {{}}
stores: {{ shared: \"{redis}\", shared_timeout: 10s }}
",
        provider.address
    )
}

/// More than anybody waits for a Redis that hangs, on a machine that has other things to do.
const BUSY: Duration = Duration::from_secs(10);

fn is_full() -> bool {
    std::env::var("STEADFAST_SCALE").is_ok_and(|scale| scale == "full")
}

/// Two replicas.
fn start(config: &str) -> [Served; 2] {
    let replica = || Serve::with(config).env("PROVIDER_KEY", "sk-of-the-provider");
    [replica(), replica()].map(|serve| serve.build_of("STEADFAST_SCALE_BINARY").start())
}

/// Its log, once it has ended.
fn end(gateway: Served) -> String {
    let log = gateway.stop().err;
    assert!(!log.contains("sk-of-the-provider"), "{log}");
    log
}

async fn ask(gateway: &str, key: Option<&str>) -> std::io::Result<Answer> {
    let mut client = Client::connect(gateway).await?;
    let body = r#"{"model":"claude-sonnet-4-5","max_tokens":50,"messages":[{"role":"user","content":"hello"}]}"#;
    let key = key.map_or_else(String::new, |key| format!("idempotency-key: {key}\r\n"));
    let length = body.len();
    let head = format!("POST /v1/messages HTTP/1.1\r\nhost: gateway\r\n{key}content-length: {length}\r\n\r\n");
    client.send(head + body).await?;
    client.answer().await
}

/// The state of the first tier's circuit. The status follows the circuit in a task of its own, soon after the answer.
async fn circuit(gateway: &str) -> String {
    let mut client = Client::connect(gateway).await.unwrap();
    client.send("GET /status HTTP/1.1\r\nhost: gateway\r\n\r\n").await.unwrap();
    let status: Value = serde_json::from_str(&client.answer().await.unwrap().body).unwrap();
    status["tiers"][0]["circuit"].as_str().unwrap().to_owned()
}

async fn becomes(what: &str, so: impl AsyncFn() -> bool) -> Duration {
    let begun = Instant::now();
    while !so().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circuit_that_one_opens_is_open_in_the_other_within_a_second_and_so_is_its_closing() {
    let Some(redis) = Server::start().await else { return };
    let provider = Provider::start().await;
    let gateways = start(&config(&provider, &redis.url()));
    let [one, other] = gateways.each_ref().map(|gateway| gateway.address());
    for gateway in [one, other] {
        assert!(ask(gateway, None).await.unwrap().is_whole());
    }
    let mut slowest = Duration::ZERO;
    for round in 0..3 {
        provider.is_down(true);
        for _ in 0..3 {
            ask(one, None).await.unwrap();
        }
        becomes("it is open in the one", async || circuit(one).await == "open").await;
        let seen = becomes("it is open in the other", async || circuit(other).await == "open").await;
        let calls = provider.calls();
        assert!(ask(other, None).await.unwrap().is_whole(), "the other tier answers");
        assert_eq!(provider.calls(), calls, "the provider is left alone");
        provider.is_down(false);
        becomes("its cooldown is over", async || {
            ask(one, None).await.unwrap();
            circuit(one).await == "closed"
        })
        .await;
        let closed = becomes("it is closed in the other", async || circuit(other).await == "closed").await;
        println!("round {round}: open there after {seen:?}, closed after {closed:?}");
        slowest = slowest.max(seen).max(closed);
    }
    assert!(slowest < if is_full() { Duration::from_secs(1) } else { BUSY }, "{slowest:?}");
    for gateway in gateways {
        let log = end(gateway);
        assert!(!log.contains("WARN") || !log.contains("Redis"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_starts_late_shows_an_open_circuit_as_open() {
    let Some(redis) = Server::start().await else { return };
    let provider = Provider::start().await;
    let config = config(&provider, &redis.url()).replace("cooldown: 2s", "cooldown: 1m");
    let replica = || Serve::with(&config).env("PROVIDER_KEY", "sk-of-the-provider").start();
    let first = replica();
    provider.is_down(true);
    for _ in 0..3 {
        ask(first.address(), None).await.unwrap();
    }
    becomes("it is open in the first", async || circuit(first.address()).await == "open").await;
    // It has told of it by then.
    sleep(Duration::from_secs(1)).await;
    let (late, calls) = (replica(), provider.calls());
    let seen = becomes("it is open in the late one", async || circuit(late.address()).await == "open").await;
    println!("open there after {seen:?}");
    assert!(ask(late.address(), None).await.unwrap().is_whole());
    assert_eq!(provider.calls(), calls, "the provider is left alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_deployments_over_one_redis_do_not_answer_each_other() {
    let Some(redis) = Server::start().await else { return };
    let (shop, desk) = (Provider::start().await, Provider::start().await);
    let start = |config: &str| Serve::with(config).env("PROVIDER_KEY", "sk-of-the-provider").start();
    let of = |provider: &Provider| config(provider, &redis.url());
    let (one, other, again) = (start(&of(&shop)), start(&of(&desk)), start(&of(&desk)));
    for gateway in [&one, &other, &again] {
        assert!(ask(gateway.address(), Some("mail-17")).await.unwrap().is_whole());
    }
    assert_eq!((shop.calls(), desk.calls()), (1, 1), "each deployment calls once, and its replicas share that");
    // A roll-out that changes what the prefix would be made of.
    let named = |provider: &Provider| of(provider).replace("stores: { ", "stores: { prefix: \"desk:\", ");
    let (before, after) = (start(&named(&desk)), start(&named(&shop)));
    for gateway in [&before, &after] {
        assert!(ask(gateway.address(), Some("mail-18")).await.unwrap().is_whole());
    }
    assert_eq!((shop.calls(), desk.calls()), (1, 2));
}

/// The callers' results.
#[derive(Default)]
struct Load {
    stops: AtomicBool,
    answered: AtomicUsize,
    failed: AtomicUsize,
    /// In microseconds.
    longest: AtomicUsize,
}

/// Callers of both gateways, half of them with keys, of which some are the same.
fn load(gateways: &[Served; 2]) -> (Arc<Load>, Vec<tokio::task::JoinHandle<()>>) {
    let load = Arc::new(Load::default());
    let callers = (0..8).map(|caller: usize| {
        let (load, gateway) = (load.clone(), gateways[caller % 2].address().to_owned());
        tokio::spawn(async move {
            let mut asked = 0;
            while !load.stops.load(Relaxed) {
                asked += 1;
                let key = (caller >= 4).then(|| format!("key {} {}", caller / 2, asked / 2));
                let begun = Instant::now();
                match ask(&gateway, key.as_deref()).await {
                    Ok(answer) if answer.is_whole() => load.answered.fetch_add(1, Relaxed),
                    other => {
                        println!("failed: {other:?}");
                        load.failed.fetch_add(1, Relaxed)
                    }
                };
                load.longest.fetch_max(begun.elapsed().as_micros() as usize, Relaxed);
                sleep(Duration::from_millis(5)).await;
            }
        })
    });
    let callers = callers.collect();
    (load, callers)
}

async fn outage(test: &str, goes: impl Fn(&mut Server), comes: impl AsyncFn(&mut Server)) {
    let Some(mut redis) = Server::start().await else { return };
    let lasts = Duration::from_secs(if is_full() { 30 } else { 3 });
    let provider = Provider::start().await;
    // Longer than a busy machine takes, and short enough for callers to wait for.
    let gateways = start(&config(&provider, &redis.url()).replace("10s", "1s"));
    let [one, other] = gateways.each_ref().map(|gateway| gateway.address());
    let (load, callers) = load(&gateways);
    becomes("callers are answered", async || load.answered.load(Relaxed) >= 100).await;
    let before = load.answered.load(Relaxed);

    goes(&mut redis);
    let begun = Instant::now();
    sleep(lasts).await;
    let during = load.answered.load(Relaxed) - before;
    // Each replica is on its own meanwhile: one opens its circuit, by hand at the provider.
    provider.is_down(true);
    becomes("the one finds out", async || circuit(one).await == "open").await;
    becomes("the other finds out", async || circuit(other).await == "open").await;
    provider.is_down(false);
    println!("{test}: {during} answers in {:?} without Redis", begun.elapsed());
    assert!(during > 0);

    comes(&mut redis).await;
    let back = becomes("both say that it is back", async || {
        gateways.iter().all(|gateway| gateway.log().contains("Redis available again"))
    })
    .await;
    // And they agree again: what one of them finds out, the other knows.
    becomes("both are closed", async || circuit(one).await == "closed" && circuit(other).await == "closed").await;
    load.stops.store(true, Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    provider.is_down(true);
    for _ in 0..3 {
        ask(one, None).await.unwrap();
    }
    becomes("it is open in the one", async || circuit(one).await == "open").await;
    let seen = becomes("it is open in the other", async || circuit(other).await == "open").await;
    let (answered, failed) = (load.answered.load(Relaxed), load.failed.load(Relaxed));
    let longest = Duration::from_micros(load.longest.load(Relaxed) as u64);
    println!(
        "{test}: {answered} answers, {failed} failed, the slowest {longest:?}; back after {back:?}; then {seen:?}"
    );
    assert_eq!(failed, 0);
    assert!(longest < BUSY, "{longest:?}");
    for gateway in gateways {
        let log = end(gateway);
        let lines = |words: &str| log.lines().filter(|line| line.contains(words)).count();
        assert_eq!((lines("Redis unavailable"), lines("Redis available again")), (1, 1), "{log}");
        let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN") && line.contains("store")).collect();
        assert!(warnings.len() <= 1, "{warnings:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_under_load_fails_nobody() {
    outage("hangs", |redis| redis.stops(), async |redis| redis.goes_on()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_dies_under_load_fails_nobody() {
    outage("dies", Server::dies, async |redis| redis.begin().await).await;
}
