//! Processes over one store and one world of providers, in virtual time. The judge is a model: a key has worked if some
//! process of the store has had a success with the same circuit and account within ninety days.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::{
        Mutex,
        atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::AUTHORIZATION};
use http_body_util::Full;
use steadfast::{LlmRequest, events::CircuitState, providers::http::RequestBody};
use steadfast_stores::worked_keys::{MemoryWorkedKeys, StoreFuture};
use tokio::time::advance;
use tower::{BoxError, ServiceExt as _, service_fn};

use super::*;
use crate::{Config, Environment, Format, Stack};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
/// The time within which a fact is everywhere: a turn of who tells it, a turn of who asks, and the store's silence.
const SOON: Duration = Duration::from_secs(10);

/// A store that may be away, or hang.
#[derive(Clone, Debug, Default)]
struct Store {
    entries: MemoryWorkedKeys,
    state: Arc<AtomicU8>,
    notes: Arc<AtomicUsize>,
    questions: Arc<AtomicUsize>,
    names: Arc<Mutex<BTreeSet<Arc<str>>>>,
}

const THERE: u8 = 0;
const AWAY: u8 = 1;
const HANGS: u8 = 2;

impl Store {
    fn set(&self, state: u8) {
        self.state.store(state, SeqCst);
    }

    async fn reached(&self) -> Result<(), StoreError> {
        match self.state.load(SeqCst) {
            THERE => Ok(()),
            AWAY => Err(StoreError::new(StoreErrorKind::Unavailable, "a test")),
            _ => pending().await,
        }
    }
}

impl WorkedKeyStore for Store {
    fn find(&self, names: Vec<Arc<str>>) -> StoreFuture<'_, Vec<WorkedKey>> {
        Box::pin(async move {
            self.questions.fetch_add(1, SeqCst);
            self.reached().await?;
            self.entries.find(names).await
        })
    }

    fn note(&self, worked: Vec<WorkedKey>) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.reached().await?;
            self.notes.fetch_add(1, SeqCst);
            self.names.lock().unwrap().extend(worked.iter().map(|key| key.name.clone()));
            self.entries.note(worked).await
        })
    }
}

/// The providers: their valid keys, by hosts, and the calls that each got.
#[derive(Clone, Default)]
struct World {
    valid: Arc<Mutex<BTreeSet<(String, String)>>>,
    calls: Arc<AtomicUsize>,
}

impl World {
    fn grant(&self, host: &str, key: &str) {
        self.valid.lock().unwrap().insert((host.into(), key.into()));
    }

    fn revoke(&self, host: &str, key: &str) {
        self.valid.lock().unwrap().remove(&(host.into(), key.into()));
    }

    fn is_valid(&self, host: &str, key: &str) -> bool {
        self.valid.lock().unwrap().contains(&(host.into(), key.into()))
    }

    fn answer(&self, request: &Request<RequestBody>) -> Response<Full<Bytes>> {
        self.calls.fetch_add(1, SeqCst);
        let host = request.uri().host().unwrap().split('.').next().unwrap();
        let key = request.headers().get(AUTHORIZATION).unwrap().to_str().unwrap().strip_prefix("Bearer sk-").unwrap();
        let (status, body) = match self.is_valid(host, key) {
            true => (
                StatusCode::OK,
                r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"finish_reason":"stop",
                    "message":{"role":"assistant","content":"yes"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#,
            ),
            false => (
                StatusCode::UNAUTHORIZED,
                r#"{"error":{"message":"Incorrect API key","type":"invalid_request_error","code":"invalid_api_key"}}"#,
            ),
        };
        let response = Response::builder().status(status).header("content-type", "application/json");
        response.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap()
    }
}

/// Returns a configuration whose first tier has this host and key, with other settings.
fn config(host: &str, key: &str, more: &str) -> Config {
    let text = format!(
        "tiers:
  - {{ name: main, provider: openai, model: m, api: chat, base_url: 'https://{host}.example/v1',
      api_key: '${{{key}}}', {more} }}
  - {{ name: sorry, provider: canned, text: Please try again in a minute. }}
"
    );
    Config::from_str(&text, Format::Yaml).unwrap()
}

/// A running process of a store.
struct Process {
    stack: Stack,
    world: World,
    _remembering: WorkedKeyTask,
}

impl Process {
    fn start(store: &Store, world: &World, config: Config) -> Self {
        let answering = world.clone();
        let transport = service_fn(move |request: Request<RequestBody>| {
            let answer = answering.answer(&request);
            async move { Ok::<_, BoxError>(answer) }
        });
        let environment: Environment = [("A", "sk-A"), ("B", "sk-B")].into_iter().collect();
        let builder = Stack::builder().environment(environment).transport(transport).worked_keys(store.clone()).seed(5);
        let stack = builder.build(config).unwrap();
        let remembering = stack.handle().remember_keys();
        Self { stack, world: world.clone(), _remembering: remembering }
    }

    /// Returns the tier that answers.
    async fn ask(&self) -> String {
        let answer = self.stack.service().oneshot(LlmRequest::prompt("hello")).await.unwrap();
        let tier = answer.served_by().tier.unwrap().to_owned();
        answer.text().await.unwrap();
        tier
    }

    fn circuit(&self) -> CircuitBreakerHandle {
        self.stack.handle().circuits()["main"].clone()
    }

    fn knows(&self) -> bool {
        self.circuit().has_worked()
    }

    /// Returns whether a refused key opens the circuit. If not, each request costs a refused call.
    async fn takes_a_refusal_for_an_outage(&self) -> bool {
        for _ in 0..5 {
            assert_eq!(self.ask().await, "sorry");
            sleep(SECOND).await;
        }
        let (before, is_open) = (self.world.calls.load(SeqCst), self.circuit().state() == CircuitState::Open);
        for _ in 0..5 {
            assert_eq!(self.ask().await, "sorry");
        }
        let calls = self.world.calls.load(SeqCst) - before;
        assert_eq!(calls, if is_open { 0 } else { 5 });
        is_open
    }

    /// Ends the process, as a kill does.
    fn ends(self) {}
}

/// Returns a store and a world in which a process has used the key `A` at the host `one`, which is then revoked.
async fn after_a_success() -> (Store, World) {
    let (store, world) = (Store::default(), World::default());
    world.grant("one", "A");
    let process = Process::start(&store, &world, config("one", "A", ""));
    assert_eq!(process.ask().await, "main");
    sleep(SOON).await;
    process.ends();
    world.revoke("one", "A");
    (store, world)
}

#[tokio::test(start_paused = true)]
async fn a_restart_with_a_revoked_key_opens_the_circuit_as_in_the_process_that_knew_it() {
    let (store, world) = (Store::default(), World::default());
    world.grant("one", "A");
    let process = Process::start(&store, &world, config("one", "A", ""));
    assert_eq!(process.ask().await, "main");
    sleep(SOON).await;
    world.revoke("one", "A");
    assert!(process.takes_a_refusal_for_an_outage().await);
    process.ends();

    let restarted = Process::start(&store, &world, config("one", "A", ""));
    sleep(SECOND).await;
    assert!(restarted.takes_a_refusal_for_an_outage().await);
    // Without the store nothing is known.
    let alone = Process::start(&Store::default(), &world, config("one", "A", ""));
    sleep(SOON).await;
    assert!(!alone.takes_a_refusal_for_an_outage().await);
    // The names tell no key.
    let names = store.names.lock().unwrap();
    assert!(names.len() == 1 && names.iter().all(|name| name.starts_with("main ") && !name.contains("sk-")));
}

#[tokio::test(start_paused = true)]
async fn another_key_address_circuit_or_model_is_another_fact() {
    let (store, world) = after_a_success().await;
    let changed = |change: fn(&mut crate::Tier)| {
        let mut config = config("one", "A", "");
        change(&mut config.tiers[0]);
        config
    };
    let renamed = changed(|tier| tier.name = "other".into());
    let of_another_model = changed(|tier| tier.model = Some("m-2".into()));
    for other in [config("one", "B", ""), config("two", "A", ""), renamed, of_another_model] {
        let process = Process::start(&store, &world, other);
        sleep(SOON).await;
        let circuits = process.stack.handle().circuits();
        assert!(circuits.values().all(|circuit| !circuit.has_worked()), "{:?}", process.stack.handle().config());
    }
    let exchanged = Process::start(&store, &world, config("one", "B", ""));
    sleep(SOON).await;
    assert!(!exchanged.takes_a_refusal_for_an_outage().await);
    let elsewhere = Process::start(&store, &world, config("two", "A", ""));
    sleep(SOON).await;
    assert!(!elsewhere.takes_a_refusal_for_an_outage().await);
    // Settings that are no account's change nothing.
    let other_settings = config("one", "A", "timeout: 7s, circuit_breaker: { consecutive_failures: 9 }");
    let process = Process::start(&store, &world, other_settings);
    sleep(SECOND).await;
    assert!(process.takes_a_refusal_for_an_outage().await);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_or_hangs_at_the_start_delays_nobody_and_is_asked_again() {
    for state in [AWAY, HANGS] {
        let (store, world) = after_a_success().await;
        store.set(state);
        let process = Process::start(&store, &world, config("one", "A", ""));
        let begun = Instant::now();
        assert_eq!(process.ask().await, "sorry");
        assert_eq!(begun.elapsed(), Duration::ZERO);
        sleep(3600 * SECOND).await;
        assert!(!process.takes_a_refusal_for_an_outage().await);
        store.set(THERE);
        sleep(SOON).await;
        assert!(process.takes_a_refusal_for_an_outage().await);
        // It holds nothing: the stack ends at once.
        store.set(HANGS);
        let other = Process::start(&store, &world, config("two", "A", ""));
        sleep(SECOND).await;
        let stack = Arc::downgrade(&other.stack.handle().shared);
        other.ends();
        tokio::task::yield_now().await;
        assert_eq!(stack.strong_count(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_while_the_store_is_away_is_told_once_it_is_back_with_its_day() {
    for state in [AWAY, HANGS] {
        let (store, world) = (Store::default(), World::default());
        store.set(state);
        world.grant("one", "A");
        let process = Process::start(&store, &world, config("one", "A", ""));
        assert_eq!(process.ask().await, "main");
        sleep(SOON).await;
        advance(40 * DAY).await;
        // A reload that takes the key away loses no fact.
        process.stack.handle().reload(config("one", "B", "")).unwrap();
        sleep(SOON).await;
        store.set(THERE);
        sleep(SOON).await;
        process.ends();
        let name = store.names.lock().unwrap().first().unwrap().clone();
        let known = store.entries.find(vec![name]).await.unwrap();
        assert_eq!(known[0].ago.as_secs() / DAY.as_secs(), 40);
        advance(45 * DAY).await;
        let restarted = Process::start(&store, &world, config("one", "A", ""));
        sleep(SOON).await;
        assert!(restarted.knows());
        restarted.ends();
        advance(5 * DAY).await;
        let restarted = Process::start(&store, &world, config("one", "A", ""));
        sleep(SOON).await;
        assert!(!restarted.knows());
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_works_at_one_replica_is_known_to_the_other_which_has_called_nobody() {
    let (store, world) = (Store::default(), World::default());
    world.grant("one", "A");
    let [one, other] = [(); 2].map(|()| Process::start(&store, &world, config("one", "A", "")));
    sleep(3600 * SECOND).await;
    assert!(!one.knows() && !other.knows());
    assert_eq!(one.ask().await, "main");
    sleep(SOON).await;
    assert!(other.knows());
    world.revoke("one", "A");
    assert!(other.takes_a_refusal_for_an_outage().await);
    assert_eq!(store.notes.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reload_asks_anew_and_what_is_known_stays() {
    let (store, world) = after_a_success().await;
    let process = Process::start(&store, &world, config("one", "B", ""));
    sleep(SOON).await;
    assert!(!process.knows());
    process.stack.handle().reload(config("one", "A", "")).unwrap();
    sleep(SECOND).await;
    assert!(process.knows(), "at once, and not at the next turn alone");
    // A circuit with other settings is a new one, of the same fact.
    let other_settings = |n: u32| config("one", "A", &format!("circuit_breaker: {{ consecutive_failures: {n} }}"));
    process.stack.handle().reload(other_settings(9)).unwrap();
    sleep(SECOND).await;
    assert!(process.takes_a_refusal_for_an_outage().await);
    process.stack.handle().reload(config("one", "B", "")).unwrap();
    sleep(SOON).await;
    assert!(!process.takes_a_refusal_for_an_outage().await);
    // A key that has worked in this process needs no store.
    world.grant("one", "B");
    assert_eq!(process.ask().await, "main");
    sleep(SOON).await;
    store.set(AWAY);
    let b_with_other_settings = config("one", "B", "circuit_breaker: { consecutive_failures: 7 }");
    process.stack.handle().reload(b_with_other_settings).unwrap();
    sleep(SECOND).await;
    assert!(process.knows());
}

#[tokio::test(start_paused = true)]
async fn a_key_is_forgotten_after_ninety_days_without_a_success_and_restarts_are_none() {
    let (store, world) = after_a_success().await;
    // Processes that only know it by the store keep it alive for nobody.
    for _ in 0..8 {
        advance(11 * DAY).await;
        let process = Process::start(&store, &world, config("one", "A", ""));
        assert_eq!(process.ask().await, "sorry");
        sleep(SOON).await;
        assert!(process.knows());
        process.ends();
    }
    advance(2 * DAY).await;
    let process = Process::start(&store, &world, config("one", "A", ""));
    sleep(SOON).await;
    assert!(!process.takes_a_refusal_for_an_outage().await);
    assert_eq!(store.notes.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_in_use_is_noted_once_a_day_and_the_store_is_asked_nothing_else() {
    let (store, world) = (Store::default(), World::default());
    world.grant("one", "A");
    let process = Process::start(&store, &world, config("one", "A", ""));
    for day in 1..=3 {
        for _ in 0..24 {
            assert_eq!(process.ask().await, "main");
            sleep(3600 * SECOND).await;
        }
        assert_eq!(store.notes.load(SeqCst), day);
    }
    assert!(store.questions.load(SeqCst) <= 6, "{:?}", store.questions);
    // Two restarts on one day are no further notes.
    for _ in 0..2 {
        let process = Process::start(&store, &world, config("one", "A", ""));
        assert_eq!(process.ask().await, "main");
        sleep(SOON).await;
    }
    assert_eq!(store.notes.load(SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn refusals_and_other_tiers_successes_tell_nothing_of_a_key() {
    let (store, world) = (Store::default(), World::default());
    world.grant("two", "A");
    let mut two = config("one", "A", "");
    two.tiers.insert(1, config("two", "A", "").tiers.remove(0));
    two.tiers[1].name = "second".into();
    let process = Process::start(&store, &world, two.clone());
    for _ in 0..20 {
        assert_eq!(process.ask().await, "second");
        sleep(SOON).await;
    }
    assert!(!process.knows());
    process.ends();
    let restarted = Process::start(&store, &world, two);
    sleep(SOON).await;
    let circuits = restarted.stack.handle().circuits();
    assert_eq!((circuits["main"].has_worked(), circuits["second"].has_worked()), (false, true));
}

#[tokio::test(start_paused = true)]
async fn deployments_have_facts_of_their_own() {
    let text = |second: &str| {
        format!(
            "tiers:
  - name: main
    provider: openai
    model: m
    deployments:
      - {{ name: a, base_url: 'https://one.example/v1', api_key: '${{A}}' }}
      - {{ name: b, base_url: 'https://two.example/v1', api_key: '${{{second}}}' }}
  - {{ name: sorry, provider: canned, text: Please try again in a minute. }}
"
        )
    };
    let config = |second| Config::from_str(&text(second), Format::Yaml).unwrap();
    let (store, world) = (Store::default(), World::default());
    world.grant("one", "A");
    world.grant("two", "A");
    let process = Process::start(&store, &world, config("A"));
    for _ in 0..20 {
        assert_eq!(process.ask().await, "main");
    }
    sleep(SOON).await;
    process.ends();
    let known = |process: &Process| {
        let stack = process.stack.handle();
        ["main", "main/a", "main/b"].map(|name| stack.circuit(name).unwrap().has_worked())
    };
    let restarted = Process::start(&store, &world, config("A"));
    sleep(SOON).await;
    assert_eq!(known(&restarted), [false, true, true], "the tier's own circuit is by hand alone");
    let exchanged = Process::start(&store, &world, config("B"));
    sleep(SOON).await;
    assert_eq!(known(&exchanged), [false, true, false]);
}

/// A host with a key.
type Account = (usize, usize);

/// A process, with the judge's knowledge of it.
struct Judged {
    process: Process,
    account: Account,
    /// True if its circuit knows the key.
    knows: bool,
    /// The successes that the store may lack.
    untold: Vec<(Account, Instant)>,
}

#[tokio::test(start_paused = true)]
async fn any_history_is_that_of_the_model() {
    const HOSTS: [&str; 2] = ["one", "two"];
    const KEYS: [&str; 2] = ["A", "B"];
    let mut seen = [0; 2];
    for seed in 0..40 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (store, world) = (Store::default(), World::default());
        // The judge: each account's last success that the store was told.
        let mut told: BTreeMap<Account, Instant> = BTreeMap::new();
        let mut processes: Vec<Judged> = Vec::new();
        for _ in 0..60 {
            let account = (rng.usize(..2), rng.usize(..2));
            let (host, key) = (HOSTS[account.0], KEYS[account.1]);
            let some = if processes.is_empty() { None } else { Some(rng.usize(..processes.len())) };
            match (rng.u8(..12), some) {
                (0 | 1, _) if processes.len() < 3 => {
                    let process = Process::start(&store, &world, config(host, key, ""));
                    processes.push(Judged { process, account, knows: false, untold: Vec::new() });
                }
                (2, Some(some)) => processes.swap_remove(some).process.ends(),
                (3, _) => world.grant(host, key),
                (4, _) => world.revoke(host, key),
                (5 | 6, Some(some)) => {
                    let asked = &mut processes[some];
                    if asked.process.ask().await == "main" {
                        asked.knows = true;
                        asked.untold.push((asked.account, Instant::now()));
                    }
                }
                (7, Some(some)) => {
                    // The last turn saw what came before.
                    let reloaded = &mut processes[some];
                    reloaded.process.stack.handle().reload(config(host, key, "")).unwrap();
                    if reloaded.account != account {
                        (reloaded.account, reloaded.knows) = (account, false);
                    }
                }
                (8, _) => store.set([AWAY, HANGS][rng.usize(..2)]),
                (9, _) => store.set(THERE),
                // No age is near ninety days.
                (10, _) => advance(13 * DAY).await,
                _ => {}
            }
            sleep(SOON).await;
            let is_there = store.state.load(SeqCst) == THERE;
            if is_there {
                for (account, at) in processes.iter_mut().flat_map(|judged| judged.untold.drain(..)) {
                    let last = told.entry(account).or_insert(at);
                    *last = at.max(*last);
                }
            }
            for Judged { process, account, knows, untold } in &mut processes {
                let is_told = is_there && told.get(account).is_some_and(|last| last.elapsed() < 90 * DAY);
                // A process knows its own keys in any circuit of its own.
                *knows |= is_told || untold.iter().any(|(its, _)| its == account);
                assert_eq!(process.knows(), *knows, "{seed}: {account:?}");
                seen[usize::from(*knows)] += 1;
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 500), "{seen:?}");
}
