//! A tier of many deployments in virtual time, beside other balancers: a slow server, rate limits, conversations, the
//! shares of each, and one that fails at once.
//!
//! `cargo test --test incidents balancing -- --nocapture` prints the figures.

mod rivals;
mod world;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::join_all;
use steadfast::{
    BalanceLayer, CircuitBreakerLayer, LlmRequest, LlmService,
    chat::{Chat, Message},
    layers::balance::{Deployment, Deployments},
};
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, ServiceExt as _};

use self::{
    rivals::{Rival, Strategy},
    world::{ANSWER, Server, Turn},
};

const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

fn balanced(servers: &[Server]) -> steadfast::Balance<Server> {
    let named = NAMES.iter().zip(servers).map(|(name, server)| Deployment::new(*name, server.clone()));
    BalanceLayer::new().seed(7).layer(Deployments::new(named).unwrap())
}

fn streamed() -> LlmRequest {
    LlmRequest::prompt("hello").with_stream(true)
}

/// Sends so many requests, evenly in time on average. Returns the times to the first token, sorted, without those of
/// the first tenth, in which no balancer knows anything.
async fn first_tokens<S>(llm: S, requests: u64, each: Duration) -> Vec<Duration>
where
    S: LlmService + Clone,
{
    let mut random = fastrand::Rng::with_seed(3);
    let mut at = Duration::ZERO;
    let calls = (0..requests).map(|_| {
        at += Duration::from_secs_f64(-each.as_secs_f64() * (1.0 - random.f64()).ln());
        let (llm, at) = (llm.clone(), at);
        async move {
            sleep(at).await;
            let begun = Instant::now();
            let answer = llm.oneshot(streamed()).await.map_err(Into::into).unwrap();
            let took = begun.elapsed();
            answer.text().await.unwrap();
            took
        }
    });
    let mut times = join_all(calls).await.split_off(requests as usize / 10);
    times.sort();
    times
}

fn p99(times: &[Duration]) -> Duration {
    times[times.len() * 99 / 100]
}

#[tokio::test(start_paused = true)]
async fn a_server_ten_times_slower_gets_little_and_costs_little() {
    let servers = |slowness: u32| -> Vec<Server> {
        (0..4).map(|at| Server::with(at, if at == 0 { slowness } else { 1 }, None)).collect()
    };
    for each in [Duration::from_millis(500), Duration::from_millis(100), Duration::from_millis(20)] {
        let three = servers(1)[1..].to_vec();
        let alone = p99(&first_tokens(balanced(&three), 3000, each).await);
        println!("one request in {each:?}; the three alone: p99 {alone:?}");
        for strategy in Strategy::ALL {
            let all = servers(10);
            let times = first_tokens(Rival::new(strategy, &all), 3000, each).await;
            println!("  {strategy:?}: {:.1} % to the slow one, p99 {:?}", all[0].calls() as f64 / 30.0, p99(&times));
        }
        let all = servers(10);
        let times = first_tokens(balanced(&all), 3000, each).await;
        let share = all[0].calls() as f64 / 3000.0;
        println!("  Balance: {:.1} % to the slow one, p99 {:?}", share * 100.0, p99(&times));
        assert!(share <= 0.05, "{share}");
        assert!(p99(&times) <= alone.mul_f64(1.3), "{:?}, alone {alone:?}", p99(&times));
    }
}

/// Sends prompts of very different length to eight keys, at 90 % of what these allow. Returns the share of 429s.
async fn limited<S>(llm: S, servers: &[Server]) -> f64
where
    S: LlmService + Clone,
{
    const PER_MINUTE: f64 = 8.0 * 60_000.0 * 0.9;
    let mut random = fastrand::Rng::with_seed(5);
    let mut at = Duration::ZERO;
    let calls: Vec<_> = (0..4000)
        .map(|_| {
            let prompt = if random.f64() < 0.05 { random.u64(15_000..40_000) } else { random.u64(100..1_900) };
            at += Duration::from_secs_f64((prompt + ANSWER) as f64 / PER_MINUTE * 60.0);
            let (llm, at) = (llm.clone(), at);
            let turn = Turn { conversation: String::new(), prompt, cached: Arc::default() };
            let chat =
                Chat::new([Message::user("word".repeat(prompt as usize))]).max_tokens(ANSWER as u32).stream(true);
            async move {
                sleep(at).await;
                if let Ok(answer) = llm.oneshot(LlmRequest::from(chat).with_extension(turn)).await {
                    let _ = answer.text().await;
                }
            }
        })
        .collect();
    join_all(calls).await;
    let sent: u64 = servers.iter().map(Server::calls).sum();
    servers.iter().map(Server::limited).sum::<u64>() as f64 / sent as f64
}

#[tokio::test(start_paused = true)]
async fn eight_keys_near_their_limits_meet_few_429s() {
    let servers = || -> Vec<Server> { (0..8).map(|at| Server::with(at, 1, Some(60_000))).collect() };
    for strategy in Strategy::ALL {
        let keys = servers();
        let share = limited(Rival::new(strategy, &keys), &keys).await;
        println!("{strategy:?}: {:.1} % met a 429", share * 100.0);
    }
    let keys = servers();
    // Each prompt is another one.
    let share = limited(balanced(&keys), &keys).await;
    println!("Balance: {:.2} % met a 429", share * 100.0);
    assert!(share <= 0.01, "{share}");
}

/// Holds conversations of twenty turns. Returns the share of cached tokens of all prompts.
async fn conversations<S>(llm: S, loses: Option<&Server>) -> f64
where
    S: LlmService + Clone,
{
    let (cached, asked) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut random = fastrand::Rng::with_seed(9);
    let talks = (0..150_u64).map(|talk| {
        let (llm, cached, asked) = (llm.clone(), cached.clone(), asked.clone());
        let mut random = random.fork();
        async move {
            sleep(Duration::from_millis(random.u64(0..300_000))).await;
            let mut chat = Chat::new([Message::user(format!("question {talk}"))]).system("word".repeat(1500));
            chat.stream = true;
            for round in 0..20 {
                let prompt = 1500 + round * 500;
                let turn = Turn { conversation: talk.to_string(), prompt, cached: cached.clone() };
                asked.fetch_add(prompt, Relaxed);
                let request = LlmRequest::from(chat.clone()).with_extension(turn);
                let answer = llm.clone().oneshot(request).await.map_err(Into::into).unwrap();
                answer.text().await.unwrap();
                chat.messages.extend([Message::assistant("words"), Message::user("and?")]);
                sleep(Duration::from_millis(random.u64(2_000..30_000))).await;
            }
        }
    });
    let talks = join_all(talks);
    match loses {
        None => drop(talks.await),
        Some(server) => {
            let lose = async {
                sleep(Duration::from_secs(300)).await;
                server.fail(true);
            };
            tokio::join!(talks, lose);
        }
    }
    cached.load(Relaxed) as f64 / asked.load(Relaxed) as f64
}

#[tokio::test(start_paused = true)]
async fn conversations_stay_where_their_prefix_is_cached() {
    let servers = |many: u64| -> Vec<Server> { (0..many).map(Server::new).collect() };
    let one = conversations(balanced(&servers(1)), None).await;
    println!("on one deployment: {:.1} % of the tokens cached", one * 100.0);
    for strategy in Strategy::ALL {
        let share = conversations(Rival::new(strategy, &servers(8)), None).await;
        println!("{strategy:?}: {:.1} % of that", share / one * 100.0);
    }
    let share = conversations(balanced(&servers(8)), None).await / one;
    println!("Balance: {:.1} % of that", share * 100.0);
    let eight = servers(8);
    let lost = conversations(balanced(&eight), Some(&eight[3])).await / one;
    println!("Balance, which loses one of eight: {:.1} % of that", lost * 100.0);
    assert!(share >= 0.95 && lost >= 0.90, "{share} {lost}");
}

#[tokio::test(start_paused = true)]
async fn none_falls_below_its_share_whatever_callers_do() {
    let weights = [1.0, 2.0, 4.0, 1.0];
    let servers: Vec<Server> = (0..4).map(Server::new).collect();
    let deployment = |at: usize| Deployment::new(NAMES[at], servers[at].clone()).weight(weights[at]).unwrap();
    let llm = BalanceLayer::new().seed(7).layer(Deployments::new((0..4).map(deployment)).unwrap());
    // A million in a release build takes some minutes.
    let requests: u64 = std::env::var("STEADFAST_CALLS").ok().and_then(|calls| calls.parse().ok()).unwrap_or(20_000);
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..requests / 1000 {
        let calls = (0..1000).map(|_| {
            let (llm, mut random) = (llm.clone(), random.fork());
            async move {
                sleep(Duration::from_millis(random.u64(0..20_000))).await;
                match random.u8(..) % 10 {
                    // One leaves before the answer, one in the middle of it.
                    0 => drop(timeout(Duration::from_millis(random.u64(0..400)), llm.oneshot(streamed())).await),
                    1 => drop(llm.oneshot(streamed()).await.unwrap().body_mut().frame().await),
                    _ => drop(llm.oneshot(streamed()).await.unwrap().text().await),
                }
            }
        });
        join_all(calls).await;
    }
    let all: u64 = servers.iter().map(Server::calls).sum();
    for (server, weight) in servers.iter().zip(weights) {
        let share = server.calls() as f64 / (all as f64 * weight / 8.0);
        println!("weight {weight}: {:.2} of its share", share);
        assert!(share >= 0.8, "{share}");
    }
    assert!(llm.handle().deployments().iter().all(|it| it.in_flight == 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_at_once_attracts_its_probes_only() {
    let servers: Vec<Server> = (0..4).map(Server::new).collect();
    servers[0].fail(true);
    for strategy in [Strategy::LeastInFlight, Strategy::LeastBusy, Strategy::PeakEwma] {
        let before = servers[0].calls();
        drop(first_tokens(Rival::new(strategy, &servers), 3000, Duration::from_millis(100)).await);
        println!("{strategy:?}: {} of 3000 met it", servers[0].calls() - before);
    }
    let before = servers[0].calls();
    let deployment = |(name, server): (&&'static str, &Server)| {
        let circuit = CircuitBreakerLayer::new(*name).seed(1);
        Deployment::new(*name, circuit.layer(server.clone())).circuit(circuit.handle())
    };
    let llm = BalanceLayer::new().seed(7);
    let llm = llm.layer(Deployments::new(NAMES.iter().zip(&servers).map(deployment)).unwrap());
    drop(first_tokens(llm, 3000, Duration::from_millis(100)).await);
    let met = servers[0].calls() - before;
    println!("Balance: {met} of 3000 met it");
    // Five failures open the circuit; in five minutes its cooldown, from five seconds on, ends a few dozen times.
    assert!(met <= 40, "{met}");
}
