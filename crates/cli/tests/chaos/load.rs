//! Callers of both replicas: each key is sent to one and, a little later, to the other, whole or as a stream; and some
//! requests want a person.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};

use crate::{
    common::{client::Client, http::Answer},
    provider::Provider,
};

/// The callers' results.
#[derive(Default)]
pub(crate) struct Seen {
    stops: AtomicBool,
    pub(crate) answered: AtomicUsize,
    /// The answers that are neither whole nor a proper refusal.
    pub(crate) wrong: Mutex<Vec<String>>,
    /// The longest that anybody waited, and for what.
    pub(crate) slowest: Mutex<(Duration, String)>,
    /// The answers of each key that said that its call may have been made twice.
    told: Mutex<HashMap<String, usize>>,
    keys: Mutex<HashSet<String>>,
    /// The tasks that were promised.
    pub(crate) tasks: Mutex<HashSet<String>>,
    /// The number of failed requests.
    pub(crate) refused: AtomicUsize,
}

pub(crate) struct Load {
    pub(crate) seen: Arc<Seen>,
    callers: JoinSet<()>,
}

/// Pairs of requests in a second.
const PAIRS: u64 = 22;
/// And tasks.
const TASKS: u64 = 6;

fn each(rate: u64) -> Duration {
    Duration::from_micros(1_000_000 / rate)
}

impl Load {
    pub(crate) fn begin(gateways: [String; 2]) -> Self {
        let mut load = Self::begin_without_tasks(gateways.clone());
        let seen = load.seen.clone();
        load.callers.spawn(async move {
            let (mut under_way, mut number) = (JoinSet::new(), 0);
            while !seen.stops.load(Relaxed) {
                number += 1;
                under_way.spawn(seen.clone().task(number, gateways[number % 2].clone()));
                sleep(each(TASKS)).await;
            }
            while let Some(ended) = under_way.join_next().await {
                ended.unwrap();
            }
        });
        load
    }

    pub(crate) fn begin_without_tasks(gateways: [String; 2]) -> Self {
        let (seen, mut callers) = (Arc::<Seen>::default(), JoinSet::new());
        let one = seen.clone();
        callers.spawn(async move {
            let (mut random, mut under_way, mut number) = (fastrand::Rng::with_seed(7), JoinSet::new(), 0);
            while !one.stops.load(Relaxed) {
                number += 1;
                let later = Duration::from_millis(random.u64(0..400));
                under_way.spawn(one.clone().pair(number, gateways.clone(), later));
                sleep(each(PAIRS)).await;
            }
            while let Some(ended) = under_way.join_next().await {
                ended.unwrap();
            }
        });
        Self { seen, callers }
    }

    /// Everybody has their last answer.
    pub(crate) async fn ends(mut self) -> Arc<Seen> {
        self.seen.stops.store(true, Relaxed);
        while let Some(ended) = self.callers.join_next().await {
            ended.unwrap();
        }
        self.seen
    }
}

impl Seen {
    async fn pair(self: Arc<Self>, number: usize, mut gateways: [String; 2], later: Duration) {
        let key = format!("key-{number}");
        self.keys.lock().unwrap().insert(key.clone());
        if number.is_multiple_of(2) {
            gateways.reverse();
        }
        let is_stream = number.is_multiple_of(3);
        let ask = |gateway: String, later: Duration| {
            let (seen, key) = (self.clone(), key.clone());
            async move {
                sleep(later).await;
                let begun = Instant::now();
                let answer = ask(&gateway, &key, Some(&key), is_stream, false).await;
                seen.slow(begun.elapsed(), &key);
                match answer {
                    Ok(answer) if answer.is_whole() || is_stream && answer.body.contains("message_stop") => {
                        seen.answered.fetch_add(1, Relaxed);
                        if answer.header("x-steadfast-repeated").is_some() {
                            *seen.told.lock().unwrap().entry(key).or_default() += 1;
                        }
                    }
                    other => seen.wrong.lock().unwrap().push(format!("{key}: {other:?}")),
                }
            }
        };
        let [one, other] = gateways;
        tokio::join!(ask(one, Duration::ZERO), ask(other, later));
    }

    async fn task(self: Arc<Self>, number: usize, gateway: String) {
        let what = format!("task-{number}");
        loop {
            let begun = Instant::now();
            let answer = ask(&gateway, &what, Some(&what), false, true).await;
            self.slow(begun.elapsed(), &what);
            match answer {
                Ok(answer) if answer.status == 200 => {
                    let task = answer.header("x-steadfast-task-id").expect("a task").to_owned();
                    self.tasks.lock().unwrap().insert(task);
                    return;
                }
                // In the caller's dialect, as what it is, and when to come again.
                Ok(answer)
                    if answer.status == 503
                        && answer.header("retry-after").is_some()
                        && answer.is_error_of("/v1/messages")
                        && answer.body.contains("a store of this service failed")
                        && !answer.body.contains("the provider failed") =>
                {
                    self.refused.fetch_add(1, Relaxed);
                }
                other => {
                    self.wrong.lock().unwrap().push(format!("{what}: {other:?}"));
                    return;
                }
            }
            if self.stops.load(Relaxed) {
                return;
            }
            sleep(Duration::from_millis(300)).await;
        }
    }

    fn slow(&self, took: Duration, what: &str) {
        let mut slowest = self.slowest.lock().unwrap();
        if took > slowest.0 {
            *slowest = (took, what.to_owned());
        }
    }

    /// The keys for which the provider was called more than once, and those of them that nobody was told of.
    pub(crate) fn repeats(&self, provider: &Provider) -> (usize, Vec<String>) {
        let (keys, told) = (self.keys.lock().unwrap(), self.told.lock().unwrap());
        let twice: Vec<&String> = keys.iter().filter(|key| provider.calls_of(key) > 1).collect();
        let untold = twice.iter().filter(|key| !told.contains_key(**key));
        (twice.len(), untold.map(|key| (*key).clone()).collect())
    }

    /// Returns the number of keys, and of those that may have been called twice.
    pub(crate) fn keys(&self) -> (usize, usize) {
        (self.keys.lock().unwrap().len(), self.told.lock().unwrap().len())
    }
}

async fn ask(gateway: &str, words: &str, key: Option<&str>, stream: bool, person: bool) -> std::io::Result<Answer> {
    let mut client = Client::connect(gateway).await?;
    let body = format!(
        r#"{{"model":"claude-sonnet-4-5","max_tokens":50,"stream":{stream},"messages":[{{"role":"user","content":"{words}"}}]}}"#
    );
    let key = key.map_or_else(String::new, |key| format!("idempotency-key: {key}\r\n"));
    let person = if person { "x-steadfast-requires-human: true\r\n" } else { "" };
    let length = body.len();
    let head = format!("POST /v1/messages HTTP/1.1\r\nhost: gateway\r\n{key}{person}content-length: {length}\r\n\r\n");
    client.send(head + &body).await?;
    client.answer().await
}
