//! Stores that answer late, or not at all and yet do what they were asked: no caller waits for them for more than a
//! second.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use steadfast::{
    IdempotencyLayer, LlmRequest,
    layers::{
        cache::Answer,
        idempotency::{Claim, Fingerprint, IdempotencyKey, IdempotencyStore, StoreFuture, Ticket},
    },
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tower::{BoxError, Layer};

use crate::{
    cache::provider::{Provider, call},
    idempotency::SECOND,
};

const MILLI: Duration = Duration::from_millis(1);
/// The pattern of a slow server: it answers nothing in the first part of each period.
const PERIOD: Duration = Duration::from_millis(260);
const HELD: Duration = Duration::from_millis(200);
/// The limit of a client for each command, and its pause after a command without an answer.
const LIMIT: Duration = Duration::from_millis(250);
const PAUSE: Duration = Duration::from_millis(500);

/// The records of a server.
#[derive(Default)]
struct Records {
    by_key: HashMap<IdempotencyKey, Record>,
    /// The number of changes, for those that wait for one.
    changes: watch::Sender<u64>,
}

struct Record {
    input: Fingerprint,
    ticket: Ticket,
    until: Instant,
    answer: Option<Arc<Answer>>,
}

impl Records {
    fn claim(&mut self, key: IdempotencyKey, input: Fingerprint, lease: Duration, ticket: Ticket) -> Claim {
        let now = Instant::now();
        let mut is_inherited = false;
        if let Some(record) = self.by_key.get(&key) {
            let is_ours = record.ticket == ticket && record.answer.is_none();
            is_inherited = record.answer.is_none() && !is_ours;
            if record.until > now && !is_ours {
                return match &record.answer {
                    _ if record.input != input => Claim::Conflict,
                    Some(answer) => Claim::Done(answer.clone()),
                    None => Claim::Busy { lease_left: record.until - now },
                };
            }
        }
        self.by_key.insert(key, Record { input, ticket, until: now + lease, answer: None });
        if is_inherited { Claim::Inherited(ticket) } else { Claim::Won(ticket) }
    }

    /// Returns the record that is processing under this ticket.
    fn processing(&mut self, key: IdempotencyKey, ticket: Ticket) -> Option<&mut Record> {
        self.by_key.get_mut(&key).filter(|record| record.ticket == ticket && record.answer.is_none())
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }
}

/// A server: its records, and how it answers.
#[derive(Clone)]
struct Server {
    records: Arc<Mutex<Records>>,
    /// The start of its first period; `None` if it is quick.
    slow_from: Option<Instant>,
    random: Arc<Mutex<fastrand::Rng>>,
}

impl Server {
    fn quick() -> Self {
        Self { records: Arc::default(), slow_from: None, random: Arc::new(Mutex::new(fastrand::Rng::with_seed(1))) }
    }

    fn slow(seed: u64) -> Self {
        let random = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
        Self { records: Arc::default(), slow_from: Some(Instant::now()), random }
    }

    /// Returns the time that a command takes which is sent now, and whether it is executed without a waiting client.
    fn next(&self) -> (Duration, bool) {
        let mut random = self.random.lock().unwrap();
        let Some(from) = self.slow_from else { return (2 * MILLI, false) };
        let within = Duration::from_millis((from.elapsed().as_millis() % PERIOD.as_millis()) as u64);
        // A pause may end late, and the machine is busy.
        let late = Duration::from_millis(random.u64(0..120));
        let takes = HELD.saturating_sub(within) + if within < HELD { late } else { 2 * MILLI };
        (takes, random.u8(0..8) > 0)
    }

    fn client(&self) -> Client {
        Client { server: self.clone(), out_until: Arc::default() }
    }
}

/// One process's client of a server. After a command without an answer in time it sends none for a moment, unless the
/// server answers earlier. The server carries out most commands without an answer all the same.
#[derive(Clone)]
struct Client {
    server: Server,
    out_until: Arc<Mutex<Option<Instant>>>,
}

impl Client {
    fn send<T: Send + 'static>(
        &self,
        command: impl FnOnce(&mut Records) -> T + Send + 'static,
    ) -> StoreFuture<'static, T> {
        let Self { server, out_until } = self.clone();
        Box::pin(async move {
            if out_until.lock().unwrap().is_some_and(|until| Instant::now() < until) {
                return Err(BoxError::from("it failed a moment ago"));
            }
            let (takes, is_executed) = server.next();
            let executed_at = Instant::now() + takes;
            if takes <= LIMIT {
                sleep_until(executed_at).await;
                return Ok(command(&mut server.records.lock().unwrap()));
            }
            sleep(LIMIT).await;
            *out_until.lock().unwrap() = Some(executed_at.min(Instant::now() + PAUSE));
            if is_executed {
                tokio::spawn(async move {
                    sleep_until(executed_at).await;
                    command(&mut server.records.lock().unwrap());
                });
            }
            Err(BoxError::from("no answer: it may have been carried out"))
        })
    }
}

impl IdempotencyStore for Client {
    fn claim<'a>(&'a self, key: &'a IdempotencyKey, input: &'a Fingerprint, lease: Duration) -> StoreFuture<'a, Claim> {
        self.claim_as(key, input, lease, Ticket(fastrand::u64(..)))
    }

    fn claim_as<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        input: &'a Fingerprint,
        lease: Duration,
        ticket: Ticket,
    ) -> StoreFuture<'a, Claim> {
        let (key, input) = (*key, *input);
        self.send(move |records| records.claim(key, input, lease, ticket))
    }

    fn renew<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket, lease: Duration) -> StoreFuture<'a, bool> {
        let key = *key;
        self.send(move |records| {
            let Some(record) = records.processing(key, ticket) else { return false };
            record.until = Instant::now() + lease;
            true
        })
    }

    fn complete<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        ticket: Ticket,
        answer: Arc<Answer>,
        ttl: Duration,
    ) -> StoreFuture<'a, bool> {
        let key = *key;
        self.send(move |records| {
            let Some(record) = records.processing(key, ticket) else { return false };
            (record.answer, record.until) = (Some(answer), Instant::now() + ttl);
            records.changed();
            true
        })
    }

    fn release<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket) -> StoreFuture<'a, ()> {
        let key = *key;
        self.send(move |records| {
            if records.processing(key, ticket).is_some() {
                records.by_key.remove(&key);
                records.changed();
            }
        })
    }

    fn changed<'a>(
        &'a self,
        _: &'a IdempotencyKey,
        at_most: Duration,
    ) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        let mut changes = self.server.records.lock().unwrap().changes.subscribe();
        Box::pin(async move {
            let _ = timeout(at_most, changes.changed()).await;
        })
    }

    fn is_guarded(&self) -> bool {
        true
    }
}

/// Pairs of callers with one key at two processes, the second up to 400 ms after the first. Returns the longest wait,
/// and the keys that were called more than once without a word of it.
async fn pairs(layer: impl Fn() -> IdempotencyLayer, seed: u64) -> (Duration, Vec<usize>) {
    const CALL: Duration = Duration::from_millis(100);
    let mut random = fastrand::Rng::with_seed(seed);
    let processes = [layer(), layer()];
    let mut callers = tokio::task::JoinSet::new();
    for pair in 0..60_usize {
        let provider = Provider::new().takes(CALL);
        let services = processes.each_ref().map(|process| process.layer(provider.service()));
        let later = Duration::from_millis(random.u64(0..400));
        let first = pair % 2;
        callers.spawn(async move {
            sleep(45 * MILLI * pair as u32).await;
            let keyed = || LlmRequest::prompt("hello").with_idempotency_key(format!("k-{pair}"));
            let asks = async |process: usize, later: Duration| {
                sleep(later).await;
                let begun = Instant::now();
                let answer = call(&services[process], keyed()).await.unwrap();
                (begun.elapsed(), answer.is_possible_repeat())
            };
            let (one, other) = tokio::join!(asks(first, Duration::ZERO), asks(1 - first, later));
            let untold = (provider.calls() > 1 && !one.1 && !other.1).then_some(pair);
            (one.0.max(other.0), untold)
        });
    }
    let (mut longest, mut untold) = (Duration::ZERO, Vec::new());
    while let Some(ended) = callers.join_next().await {
        let (took, is_untold) = ended.unwrap();
        longest = longest.max(took);
        untold.extend(is_untold);
    }
    (longest, untold)
}

/// A second for stores, and the provider's time.
const LONGEST: Duration = Duration::from_millis(1000 + 100);

#[tokio::test(start_paused = true)]
async fn no_caller_waits_more_than_a_second_for_a_slow_store() {
    for seed in 0..100 {
        let server = Server::slow(seed);
        let (longest, untold) = pairs(|| IdempotencyLayer::over(server.client()), seed).await;
        assert_eq!(untold, Vec::<usize>::new(), "seed {seed}: somebody is told of every call that was made twice");
        assert!(longest <= LONGEST, "seed {seed}: {longest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_above_a_quick_one_delays_no_caller_and_hides_no_second_call() {
    for seed in 0..100 {
        let (slow, quick) = (Server::slow(seed), Server::quick());
        let (longest, untold) = pairs(|| IdempotencyLayer::over_both(slow.client(), quick.client()), seed).await;
        assert_eq!(untold, Vec::<usize>::new(), "seed {seed}: somebody is told of every call that was made twice");
        assert!(longest <= LONGEST, "seed {seed}: {longest:?}");
    }
}

/// The other caller's call is no wait for a store, whatever it takes.
#[tokio::test(start_paused = true)]
async fn a_slow_call_is_waited_for_while_the_store_answers() {
    let (server, provider) = (Server::quick(), Provider::new().takes(20 * SECOND));
    let layer = || IdempotencyLayer::over(server.client()).layer(provider.service());
    let (here, there) = (layer(), layer());
    let keyed = || LlmRequest::prompt("hello").with_idempotency_key("k-1");
    let begun = Instant::now();
    let later = async {
        sleep(SECOND).await;
        call(&there, keyed()).await.unwrap()
    };
    let (first, second) = tokio::join!(call(&here, keyed()), later);
    assert_eq!((first.unwrap().text().await.unwrap(), provider.calls()), (second.text().await.unwrap(), 1));
    assert!(begun.elapsed() < 20 * SECOND + SECOND / 10, "{:?}", begun.elapsed());
}
