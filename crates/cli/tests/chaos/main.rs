//! Two gateways, the real binary, over one Redis and one PostgreSQL, which are killed, stopped, full, slow, only for
//! reading and empty by turns: every request is answered, nobody waits long for a store, no task that was promised is
//! lost, and of every call that was made twice somebody is told.
//!
//! It needs `STEADFAST_TEST_REDIS`, `redis-server` in the PATH, and `STEADFAST_TEST_POSTGRES_BIN`: it starts servers of
//! its own. With `STEADFAST_SCALE=full` it stops them for 1, 5 and 30 s, else for 1 and 3.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a real process keeps real time")]
#![cfg(all(target_os = "linux", feature = "redis", feature = "postgres"))]

#[allow(dead_code, reason = "it is the library's tests' too")]
#[path = "../../../../tests/stores/durability/cluster.rs"]
mod cluster;
#[path = "../common/mod.rs"]
pub mod common;
mod load;
mod provider;
#[allow(dead_code, unreachable_pub, reason = "it is the library's tests' too")]
#[path = "../../../../tests/stores/replicas/server.rs"]
mod server;

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use self::{
    cluster::Cluster,
    common::{client::Client, serve::Serve},
    load::Load,
    provider::Provider,
    server::Server,
};

fn config(provider: &Provider, redis: &str, postgres: Option<&str>) -> String {
    let durable = postgres.map_or_else(String::new, |url| format!(", durable: \"{url}\""));
    format!(
        "
tiers:
  - name: sonnet
    provider: anthropic
    model: claude-sonnet-4-5
    base_url: http://{}
    api_key: ${{PROVIDER_KEY}}
    retry: {{ max_attempts: 1 }}
  - {{ name: people, provider: handoff }}
circuit_breaker: {{ consecutive_failures: 1000000 }}
default_feature: {{ requests_per_minute: 1000000 }}
handoff: {{}}
idempotency: {{}}
stores: {{ shared: \"{redis}\"{durable} }}
",
        provider.address
    )
}

fn is_full() -> bool {
    std::env::var("STEADFAST_SCALE").is_ok_and(|scale| scale == "full")
}

/// The spans for which servers are stopped.
fn stops() -> &'static [u64] {
    if is_full() { &[1, 5, 30] } else { &[1, 3] }
}

/// The longest wait of a caller: a store's second and a provider's time, plus a margin for other programs on the
/// machine.
fn longest() -> Duration {
    Duration::from_millis(1000 + 100 + if is_full() { 0 } else { 4000 })
}
/// Between two troubles.
const REST: Duration = Duration::from_millis(1500);

async fn readyz(gateway: &str) -> String {
    let mut client = Client::connect(gateway).await.unwrap();
    client.send("GET /readyz HTTP/1.1\r\nhost: gateway\r\n\r\n").await.unwrap();
    client.answer().await.unwrap().body
}

async fn becomes(what: &str, so: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !so().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// A trouble of this length, and what came of it so far.
async fn trouble(what: &str, load: &Load, lasts: Duration) {
    sleep(lasts).await;
    let slowest = std::mem::take(&mut *load.seen.slowest.lock().unwrap());
    println!("{what}, {lasts:?}: {} answered by now, the slowest {slowest:?}", load.seen.answered.load(Relaxed));
    let wrong = load.seen.wrong.lock().unwrap();
    assert!(wrong.is_empty(), "{what}: {wrong:#?}");
    assert!(slowest.0 < longest(), "{what}: {slowest:?}");
}

async fn rests(what: &str, load: &Load) {
    trouble(&format!("after {what}"), load, REST).await;
}

async fn redis_in_trouble(redis: &mut Server, load: &Load, gateway: &str) {
    for seconds in stops() {
        redis.stops();
        trouble("Redis hangs", load, Duration::from_secs(*seconds)).await;
        redis.goes_on();
        rests("it hung", load).await;
    }
    redis.dies();
    trouble("Redis is killed", load, Duration::from_millis(1200)).await;
    redis.begin().await;
    rests("it was killed", load).await;
    redis.asks(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    redis.asks(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await.unwrap();
    trouble("Redis is out of memory", load, Duration::from_secs(2)).await;
    becomes("it is told that Redis is full", async || {
        let told = readyz(gateway).await;
        told.starts_with("ready, but") && told.contains("idempotency: the store is full")
    })
    .await;
    redis.asks(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    rests("it was out of memory", load).await;
    redis.asks(&["REPLICAOF", "127.0.0.1", "1"]).await.unwrap();
    trouble("Redis is for reading", load, Duration::from_secs(2)).await;
    redis.asks(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    rests("it was for reading", load).await;
    for _ in 0..8 {
        // Nothing is answered meanwhile.
        redis.asks(&["CLIENT", "PAUSE", "200", "ALL"]).await.unwrap();
        trouble("Redis is slow", load, Duration::from_millis(260)).await;
    }
    rests("it was slow", load).await;
    redis.asks(&["FLUSHALL"]).await.unwrap();
    trouble("Redis is empty", load, Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_lose_nothing_through_a_redis_and_a_postgresql_in_every_trouble() {
    let Some(mut redis) = Server::start_that_appends().await else { return };
    let Some(postgres) = Cluster::start("chaos") else { return };
    let provider = Provider::start().await;
    let config = config(&provider, &redis.url(), Some(&postgres.url()));
    let replica = || Serve::with(&config).env("PROVIDER_KEY", "sk-of-the-provider");
    let gateways = [replica(), replica()].map(|serve| serve.build_of("STEADFAST_SCALE_BINARY").start());
    let [one, other] = gateways.each_ref().map(|gateway| gateway.address().to_owned());
    let load = Load::begin([one.clone(), other.clone()]);
    trouble("all is well", &load, REST).await;
    let (_, untold) = load.seen.repeats(&provider);
    assert_eq!((load.seen.keys().1, untold.len()), (0, 0), "nothing is told of where all is well");

    redis_in_trouble(&mut redis, &load, &one).await;
    for seconds in stops() {
        postgres.stops();
        trouble("PostgreSQL hangs", &load, Duration::from_secs(*seconds)).await;
        postgres.goes_on();
        rests("it hung", &load).await;
    }
    postgres.crashes();
    trouble("PostgreSQL is killed", &load, Duration::from_millis(1200)).await;
    postgres.starts_again();
    rests("it was killed", &load).await;
    postgres.is_read_only(true);
    trouble("PostgreSQL is for reading", &load, Duration::from_secs(2)).await;
    postgres.is_read_only(false);
    rests("it was for reading", &load).await;
    // And both at once.
    postgres.crashes();
    redis.dies();
    trouble("both are killed", &load, Duration::from_secs(2)).await;
    redis.begin().await;
    postgres.starts_again();
    rests("both were killed", &load).await;

    becomes("all is well again", async || readyz(&one).await == "ready\n" && readyz(&other).await == "ready\n").await;
    let seen = load.ends().await;
    let (twice, untold) = seen.repeats(&provider);
    let (keys, told) = seen.keys();
    let (tasks, refused) = (seen.tasks.lock().unwrap().clone(), seen.refused.load(Relaxed));
    println!("{keys} keys, {twice} called twice, {told} told of; {} tasks, refused {refused} times", tasks.len());
    assert_eq!(untold, Vec::<String>::new(), "somebody is told of every call that was made twice");
    let desk = steadfast_stores::postgres::Postgres::connect(&postgres.url()).await.unwrap();
    let desk = steadfast_handoff::Desk::new(desk);
    for task in tasks {
        desk.show(task.parse().unwrap()).await.expect("a task that was promised is there");
    }
    for gateway in gateways {
        let log = gateway.stop().err;
        let of_stores = log.lines().filter(|line| line.contains("steadfast::store")).count();
        // Each trouble begins and ends, for each purpose.
        assert!(of_stores < 200, "{of_stores} lines: {log}");
    }
}

/// Without a durable store beneath it: what Redis does not know, nobody does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_over_a_redis_alone_answer_and_tell() {
    let Some(mut redis) = Server::start_that_appends().await else { return };
    let provider = Provider::start().await;
    let config = config(&provider, &redis.url(), None).replace("  - { name: people, provider: handoff }\n", "");
    let config = config.replace("handoff: {}\n", "");
    let replica = || Serve::with(&config).env("PROVIDER_KEY", "sk-of-the-provider");
    let gateways = [replica(), replica()].map(|serve| serve.build_of("STEADFAST_SCALE_BINARY").start());
    let [one, other] = gateways.each_ref().map(|gateway| gateway.address().to_owned());
    let load = Load::begin_without_tasks([one.clone(), other]);
    trouble("all is well", &load, REST).await;
    assert_eq!(load.seen.keys().1, 0, "nothing is told of where all is well");
    redis_in_trouble(&mut redis, &load, &one).await;
    redis.dies();
    redis.forgets();
    redis.begin().await;
    trouble("Redis is back empty", &load, REST).await;
    let seen = load.ends().await;
    let ((twice, untold), (keys, told)) = (seen.repeats(&provider), seen.keys());
    println!("{keys} keys, {twice} called twice, {told} told of");
    assert_eq!(untold, Vec::<String>::new(), "somebody is told of every call that was made twice");
}
