//! Stacks of one configuration, as replicas of each other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use steadfast::{ErrorKind, LlmError, LlmRequest, LlmResponse, events::CircuitState, provider_fn};
use steadfast_stack::{Config, Format, Stack};
use steadfast_stores::redis::Redis;
use tokio::time::sleep;
use tower::ServiceExt as _;

use crate::replicas::server::{self, Server};

const FILE: &str = "
tiers:
  - { name: sonnet, provider: simulated, retry: { max_attempts: 1 } }
  - { name: sorry, provider: canned, text: Later. }
circuit_breaker: { consecutive_failures: 3, cooldown: 1m }
features:
  chat: { requests_per_minute: 60 }
  batch: {}
cache: { shared: true }
default_feature: { cache: off }
";

#[derive(Clone, Default)]
struct Provider {
    down: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
}

fn stack(redis: &Redis, provider: &Provider) -> Stack {
    let Provider { down, calls } = provider.clone();
    let leaf = provider_fn(move |_| {
        calls.fetch_add(1, Relaxed);
        let down = down.load(Relaxed);
        async move {
            match down {
                true => Err(LlmError::new(ErrorKind::Server, "down")),
                false => Ok(LlmResponse::from_text("fine")),
            }
        }
    });
    let config = Config::from_str(FILE, Format::Yaml).unwrap();
    Stack::builder().leaf("sonnet", leaf).replicas(redis.clone()).build(config).unwrap()
}

async fn ask(stack: &Stack, feature: Option<&str>, prompt: &str) -> Result<LlmResponse, LlmError> {
    let request = LlmRequest::prompt(prompt);
    let request = feature.into_iter().fold(request, LlmRequest::with_feature);
    stack.service().oneshot(request).await
}

async fn becomes(what: &str, so: impl AsyncFn() -> bool) -> Duration {
    let begun = Instant::now();
    while !so().await {
        assert!(begun.elapsed() < Duration::from_secs(15), "{what}");
        sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

#[tokio::test]
async fn a_circuit_that_one_stack_opened_is_open_in_the_other_also_after_a_reload() {
    let Some(redis) = server::shared("circuits") else { return };
    let provider = Provider::default();
    let (one, other) = (stack(&redis, &provider), stack(&redis, &provider));
    let state = |stack: &Stack| stack.handle().circuit("sonnet").unwrap().state();
    other.handle().reload(Config::from_str(&FILE.replace("60 }", "600 }"), Format::Yaml).unwrap()).unwrap();
    provider.down.store(true, Relaxed);
    for n in 0..3 {
        let answer = ask(&one, None, &n.to_string()).await.unwrap();
        assert_eq!(answer.served_by().tier, Some("sorry"));
    }
    assert_eq!(state(&one), CircuitState::Open);
    let seen = becomes("it is open there", async || state(&other) == CircuitState::Open).await;
    println!("seen after {seen:?}");
    let calls = provider.calls.load(Relaxed);
    assert_eq!(ask(&other, None, "hello").await.unwrap().served_by().tier, Some("sorry"));
    assert_eq!(provider.calls.load(Relaxed), calls, "it does not find out for itself");
    // Closed by hand in one, it is closed in both.
    one.handle().circuit("sonnet").unwrap().reset();
    becomes("it is closed there", async || state(&other) == CircuitState::Closed).await;
}

#[tokio::test]
async fn a_feature_has_its_rate_once() {
    let Some(redis) = server::shared("rates") else { return };
    let provider = Provider::default();
    let (one, other) = (stack(&redis, &provider), stack(&redis, &provider));
    let passes = async |stack: &Stack, n: usize| {
        let mut passed = 0;
        for prompt in 0..n {
            // Each another: none is kept.
            let prompt = format!("{n} {prompt} {:?}", Instant::now());
            passed += usize::from(ask(stack, Some("chat"), &prompt).await.is_ok());
        }
        passed
    };
    // Each has heard what stands there.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(passes(&one, 50).await, 50);
    sleep(Duration::from_secs(2)).await;
    let rest = passes(&other, 50).await;
    assert!((10..25).contains(&rest), "what is left of 60, and what time has brought: {rest}");
}

/// The calls in a minute that the first deployment's provider admits.
const LIMIT: usize = 600;

#[tokio::test]
async fn two_stacks_together_keep_a_deployments_limit() {
    let Some(redis) = server::shared("headroom") else { return };
    let file = format!(
        "tiers:\n  - name: sonnet\n    provider: simulated\n    deployments:\n\
         \x20     - {{ name: first, requests_per_minute: {LIMIT} }}\n      - {{ name: second }}\n"
    );
    let counts: [Arc<AtomicUsize>; 2] = Default::default();
    let stack = || {
        let leaf = |count: &Arc<AtomicUsize>| {
            let count = count.clone();
            provider_fn(move |_| {
                count.fetch_add(1, Relaxed);
                async { Ok::<_, LlmError>(LlmResponse::from_text("fine")) }
            })
        };
        let builder = Stack::builder().leaf("sonnet/first", leaf(&counts[0])).leaf("sonnet/second", leaf(&counts[1]));
        builder.replicas(redis.clone()).build(Config::from_str(&file, Format::Yaml).unwrap()).unwrap()
    };
    let stacks = [stack(), stack()];
    let begun = Instant::now();
    // Five times what the first one admits, so that both stacks want all of it.
    while begun.elapsed() < Duration::from_secs(6) {
        for n in 0..25 {
            ask(&stacks[usize::from(n % 3 == 0)], None, "hello").await.unwrap();
        }
        sleep(Duration::from_millis(25)).await;
    }
    // The provider's own account: a minute's calls, and those that time has brought.
    let admitted = LIMIT as f64 * (1.0 + begun.elapsed().as_secs_f64() / 60.0);
    let [first, second] = counts.each_ref().map(|count| count.load(Relaxed) as f64);
    println!("{first} of {admitted:.0} that are admitted, {second} at the other deployment");
    assert!(first <= admitted * 1.02, "{first} of {admitted}");
    assert!(first >= LIMIT as f64 && second > first, "{first} of {admitted}, {second} elsewhere");
}

#[tokio::test]
async fn an_answer_of_one_stack_is_given_by_the_other() {
    let Some(redis) = server::shared("kept") else { return };
    let provider = Provider::default();
    let (one, other) = (stack(&redis, &provider), stack(&redis, &provider));
    ask(&one, Some("batch"), "hello").await.unwrap();
    becomes("it is kept", async || {
        let answer = ask(&other, Some("batch"), "hello").await.unwrap();
        answer.served_by().provider == Some("cached")
    })
    .await;
}

/// Returns the number of connections made to a server, those of this question not counted.
async fn connections(server: &Server, asked: &mut usize) -> usize {
    *asked += 1;
    let stats = server.asks(&["INFO", "stats"]).await.unwrap();
    let made = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:")).unwrap();
    made.trim().parse::<usize>().unwrap() - *asked
}

#[tokio::test]
async fn a_reload_keeps_the_connection_where_the_file_names_the_same_redis() {
    let (Some(server), Some(another)) = (Server::start().await, Server::start().await) else { return };
    let file = |url: &str, limit: u32| {
        let text = format!("{FILE}stores: {{ shared: {url}, prefix: 'steadfast:' }}\nidempotency: {{}}\n")
            .replace("batch: {}", "batch: { concurrency: LIMIT }");
        Config::from_str(&text.replace("LIMIT", &limit.to_string()), Format::Yaml).unwrap()
    };
    let provider = provider_fn(|_| async { Ok::<_, LlmError>(LlmResponse::from_text("fine")) });
    let stack = Stack::builder().leaf("sonnet", provider).build(file(&server.url(), 5)).unwrap();
    let works = async |server: &Server| {
        let begun = Instant::now();
        // The replicas that keep in step have met, and so has the listener.
        while !server.asks(&["PUBSUB", "NUMSUB", "steadfast:news"]).await.unwrap().contains(":1\r\n") {
            assert!(begun.elapsed() < Duration::from_secs(15));
            sleep(Duration::from_millis(20)).await;
        }
    };
    works(&server).await;
    stack.handle().check_stores().await.unwrap();
    // The tests' own connections are made from here on, one for each question.
    let mut asked = 0;
    let before = connections(&server, &mut asked).await;
    for limit in 6..10 {
        stack.handle().reload(file(&server.url(), limit)).unwrap();
        ask(&stack, Some("batch"), &limit.to_string()).await.unwrap();
        stack.handle().check_stores().await.unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(connections(&server, &mut asked).await, before, "none is made anew");

    stack.handle().reload(file(&another.url(), 5)).unwrap();
    works(&another).await;
    let begun = Instant::now();
    while server.asks(&["PUBSUB", "NUMSUB", "steadfast:news"]).await.unwrap().contains(":1\r\n") {
        assert!(begun.elapsed() < Duration::from_secs(15), "who listened there has left");
        sleep(Duration::from_millis(20)).await;
    }
}
