//! A tier of many deployments in virtual time, beside other balancers: a slow server, rate limits, conversations, the
//! shares of each, and one that fails at once.
//!
//! `cargo test --test incidents balancing -- --nocapture` prints the figures. Each seed has its own traffic, answers
//! and draws: a plain run has three, `STEADFAST_SEEDS=24` makes it more, `STEADFAST_SEED=5` is one alone. The shares
//! are counted over a million calls in a release build, or with `STEADFAST_SCALE=full`.

mod results;
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
    results::{Bound, Results, is_full, rivals_seeds, seeds, simulate},
    rivals::{Rival, Strategy},
    world::{ANSWER, Server, Turn},
};

const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

fn balanced(servers: &[Server], seed: u64) -> steadfast::Balance<Server> {
    let named = NAMES.iter().zip(servers).map(|(name, server)| Deployment::new(*name, server.clone()));
    BalanceLayer::new().seed(7 + seed).layer(Deployments::new(named).unwrap())
}

fn streamed() -> LlmRequest {
    LlmRequest::prompt("hello").with_stream(true)
}

/// Sends so many requests, evenly in time on average. Returns the times to the first token, sorted, without those of
/// the first tenth, in which no balancer knows anything.
async fn first_tokens<S>(llm: S, requests: u64, each: Duration, seed: u64) -> Vec<Duration>
where
    S: LlmService + Clone,
{
    let mut random = fastrand::Rng::with_seed(1000 + seed);
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

#[test]
fn a_server_ten_times_slower_gets_little_and_costs_little() {
    let servers = |seed: u64, slowness: u32| -> Vec<Server> {
        (0..4).map(|at| Server::with(seed * 8 + at, if at == 0 { slowness } else { 1 }, None)).collect()
    };
    let mut results = Results::new("four servers, of which one is ten times slower");
    for each in [Duration::from_millis(500), Duration::from_millis(100), Duration::from_millis(20)] {
        let mut run =
            |name: &str, bounds: [Bound; 2], seed: u64, alone: f64, llm: &dyn Fn(&[Server]) -> Vec<Duration>| {
                let all = servers(seed, 10);
                let p99 = p99(&llm(&all)).as_secs_f64();
                let share = all[0].calls() as f64 / 30.0;
                results.add(format!("one in {each:?}, {name}: % to the slow one"), bounds[0], seed, share);
                results.add(
                    format!("one in {each:?}, {name}: p99 as a multiple of the three's"),
                    bounds[1],
                    seed,
                    p99 / alone,
                );
            };
        for seed in seeds() {
            let three = servers(seed, 1)[1..].to_vec();
            let alone =
                simulate(async { p99(&first_tokens(balanced(&three, seed), 3000, each, seed).await) }).as_secs_f64();
            if rivals_seeds().contains(&seed) {
                for strategy in Strategy::ALL {
                    run(&format!("{strategy:?}"), [Bound::None; 2], seed, alone, &|all| {
                        simulate(async { first_tokens(Rival::new(strategy, all, seed), 3000, each, seed).await })
                    });
                }
            }
            run("Balance", [Bound::AtMost(5.0), Bound::AtMost(1.3)], seed, alone, &|all| {
                simulate(async { first_tokens(balanced(all, seed), 3000, each, seed).await })
            });
        }
    }
    results.judge();
}

#[test]
fn a_server_that_turns_slow_is_left_soon() {
    let mut results = Results::new("one of four turns ten times slower: % of the requests to it from then on");
    for each in [Duration::from_millis(500), Duration::from_millis(20)] {
        for seed in seeds() {
            let all: Vec<Server> = (0..4).map(|at| Server::new(seed * 8 + at)).collect();
            let before = simulate(async {
                let turn = async {
                    sleep(each * 1000).await;
                    all[0].slow_down(10);
                    all[0].calls()
                };
                tokio::join!(turn, first_tokens(balanced(&all, seed), 3000, each, seed)).0
            });
            let share = (all[0].calls() - before) as f64 / 20.0;
            results.add(format!("one in {each:?}"), Bound::AtMost(5.0), seed, share);
        }
    }
    results.judge();
}

/// Sends prompts of very different length to eight keys, at 90 % of what these allow. Returns the share of 429s.
async fn limited<S>(llm: S, servers: &[Server], seed: u64) -> f64
where
    S: LlmService + Clone,
{
    const PER_MINUTE: f64 = 8.0 * 60_000.0 * 0.9;
    let mut random = fastrand::Rng::with_seed(2000 + seed);
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

#[test]
fn eight_keys_near_their_limits_meet_few_429s() {
    let mut results = Results::new("eight keys at 90 % of their limits: % that met a 429");
    for seed in seeds() {
        // A bucket fills by the clock of its runtime.
        let servers = || -> Vec<Server> { (0..8).map(|at| Server::with(seed * 8 + at, 1, Some(60_000))).collect() };
        if rivals_seeds().contains(&seed) {
            for strategy in Strategy::ALL {
                let share = simulate(async {
                    let keys = servers();
                    limited(Rival::new(strategy, &keys, seed), &keys, seed).await
                });
                results.add(format!("{strategy:?}"), Bound::None, seed, share * 100.0);
            }
        }
        let share = simulate(async {
            let keys = servers();
            limited(balanced(&keys, seed), &keys, seed).await
        });
        results.add("Balance", Bound::AtMost(1.0), seed, share * 100.0);
    }
    results.judge();
}

/// Holds conversations of twenty turns. Returns the share of cached tokens of all prompts.
async fn conversations<S>(llm: S, loses: Option<&Server>, seed: u64) -> f64
where
    S: LlmService + Clone,
{
    let (cached, asked) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut random = fastrand::Rng::with_seed(3000 + seed);
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

#[test]
fn conversations_stay_where_their_prefix_is_cached() {
    let mut results = Results::new("conversations over eight deployments: % of the cached tokens on one deployment");
    for seed in seeds() {
        let servers = |many: u64| -> Vec<Server> { (0..many).map(|at| Server::new(seed * 8 + at)).collect() };
        let one = simulate(async { conversations(balanced(&servers(1), seed), None, seed).await });
        let mut add = |name: String, bound, share: f64| results.add(name, bound, seed, share / one * 100.0);
        if rivals_seeds().contains(&seed) {
            for strategy in Strategy::ALL {
                let rival = Rival::new(strategy, &servers(8), seed);
                add(format!("{strategy:?}"), Bound::None, simulate(conversations(rival, None, seed)));
            }
        }
        let share = simulate(async { conversations(balanced(&servers(8), seed), None, seed).await });
        add("Balance".into(), Bound::AtLeast(95.0), share);
        let (eight, lost) = (servers(8), (seed % 8) as usize);
        let share = simulate(async { conversations(balanced(&eight, seed), Some(&eight[lost]), seed).await });
        add("Balance, which loses one of eight".into(), Bound::AtLeast(90.0), share);
    }
    results.judge();
}

/// Returns the calls over which shares are counted.
fn shared_calls() -> u64 {
    if is_full() || !cfg!(debug_assertions) { 1_000_000 } else { 20_000 }
}

/// Sends so many calls to four servers of these weights: cancelled, answered from a cache of the deployment's own, cut
/// by the provider, left in the middle of the answer, or read to the end. Returns the least share of a weight's part.
async fn least_share(requests: u64, seed: u64) -> f64 {
    let weights = [1.0, 2.0, 4.0, 1.0];
    let servers: Vec<Server> = (0..4).map(|at| Server::new(seed * 8 + at)).collect();
    servers.iter().for_each(|server| server.cut_and_keep(true));
    let deployment = |at: usize| Deployment::new(NAMES[at], servers[at].clone()).weight(weights[at]).unwrap();
    let llm = BalanceLayer::new().seed(7 + seed).layer(Deployments::new((0..4).map(deployment)).unwrap());
    let mut random = fastrand::Rng::with_seed(4000 + seed);
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
    assert!(llm.handle().deployments().iter().all(|it| it.in_flight == 0));
    let all: u64 = servers.iter().map(Server::calls).sum();
    let shares =
        servers.iter().zip(weights).map(|(server, weight)| server.calls() as f64 / (all as f64 * weight / 8.0));
    shares.fold(f64::INFINITY, f64::min)
}

#[test]
fn none_falls_below_its_share_whatever_callers_do() {
    let mut results = Results::new("the least part of its weight's share that a deployment got");
    let calls = shared_calls();
    for seed in seeds() {
        let share = simulate(least_share(calls, seed));
        results.add(format!("Balance, {calls} calls"), Bound::AtLeast(0.8), seed, share);
    }
    results.judge();
}

#[test]
fn a_server_that_fails_at_once_attracts_its_probes_only() {
    const EACH: Duration = Duration::from_millis(100);
    let mut results = Results::new("calls of 3000 that met the server that fails at once");
    for seed in seeds() {
        let servers: Vec<Server> = (0..4).map(|at| Server::new(seed * 8 + at)).collect();
        servers[0].fail(true);
        if rivals_seeds().contains(&seed) {
            for strategy in [Strategy::LeastInFlight, Strategy::LeastBusy, Strategy::PeakEwma] {
                let before = servers[0].calls();
                drop(simulate(first_tokens(Rival::new(strategy, &servers, seed), 3000, EACH, seed)));
                results.add(format!("{strategy:?}"), Bound::None, seed, (servers[0].calls() - before) as f64);
            }
        }
        let before = servers[0].calls();
        let deployment = |(name, server): (&&'static str, &Server)| {
            let circuit = CircuitBreakerLayer::new(*name).seed(1 + seed);
            Deployment::new(*name, circuit.layer(server.clone())).circuit(circuit.handle())
        };
        drop(simulate(async {
            let llm = BalanceLayer::new().seed(7 + seed);
            let llm = llm.layer(Deployments::new(NAMES.iter().zip(&servers).map(deployment)).unwrap());
            first_tokens(llm, 3000, EACH, seed).await
        }));
        // Five failures open the circuit; in five minutes its cooldown of 1, 2, 4 and then 8 s ends forty times.
        results.add("Balance", Bound::AtMost(50.0), seed, (servers[0].calls() - before) as f64);
    }
    results.judge();
}
