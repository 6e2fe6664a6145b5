//! Caps of several replicas on one store: each cap is reached, and not passed but by requests in flight.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use fastrand::Rng;
use futures_util::future::join_all;
use steadfast::{
    ErrorKind, LlmError, LlmRequest, LlmResponse,
    chat::{Chat, Message, Usage},
    provider_fn,
    request::{BudgetKey, Team},
};
use steadfast_stack::{Config, Format, Stack};
use tokio::time::{Instant, sleep};
use tower::ServiceExt as _;

use super::on_a_quick_clock;
use crate::testing::{Folder, Schema};

/// The answer's price in billionths of a dollar: a thousand tokens at a dollar for a million. Its reservation is that,
/// and the prompt's.
const COST: u64 = 1_000_000;
const RESERVED: u64 = COST + 20_000;
/// Longer than an answer takes.
const SECOND: Duration = Duration::from_secs(1);

/// The provider's count of its answers' cost, by key: the only judge of what was spent.
type Provider = Arc<Mutex<BTreeMap<Arc<str>, u64>>>;

/// Returns a file with a ledger and one cap.
fn file(durable: &str, budget: &str, more: &str) -> String {
    format!(
        "
stores: {{ durable: '{durable}' }}
ledger: {{}}
tiers: [{{ name: a, provider: simulated }}]
retry: {{ max_attempts: 1 }}
budgets: [{{ name: all, period: month, {budget} }}]
{more}
prices: {{ m: {{ input: 1, output: 1 }} }}
"
    )
}

/// Starts a replica whose provider takes up to a second for an answer.
fn replica(durable: &str, budget: &str, more: &str, provider: &Provider, seed: u64) -> Stack {
    let text = file(durable, budget, more);
    let provider = provider.clone();
    let random = Arc::new(Mutex::new(Rng::with_seed(seed)));
    let leaf = provider_fn(move |request: LlmRequest| {
        let (provider, random) = (provider.clone(), random.clone());
        async move {
            let pause = random.lock().unwrap().u64(..900);
            sleep(Duration::from_millis(pause)).await;
            let key = request.extensions().get::<BudgetKey>().unwrap().0.clone();
            *provider.lock().unwrap().entry(key).or_default() += COST;
            let mut message = Message::assistant("hello");
            message.usage = Some(Usage::new(0, 1000));
            Ok::<_, LlmError>(LlmResponse::from_message(message).with_model("simulated", "m"))
        }
    });
    Stack::builder().leaf("a", leaf).build(Config::from_str(&text, Format::Yaml).unwrap()).unwrap()
}

async fn ask(stack: &Stack, key: &'static str) -> Result<(), LlmError> {
    let chat = Chat::new([Message::user("hello")]).model("m").max_tokens(1000);
    let request = LlmRequest::from(chat).with_extension(BudgetKey::new(key)).with_extension(Team::new("search"));
    stack.service().oneshot(request).await.map(drop)
}

/// Lets the replicas agree, as gateways do before they listen.
async fn agree(replicas: &[Stack]) {
    for stack in replicas {
        // A busy machine may be late.
        while stack.handle().recount_spend().await.is_err() {}
    }
}

/// A refusal by what is spent, and not by what is held.
fn is_for_good(refused: &LlmError) -> bool {
    assert_eq!(refused.kind(), ErrorKind::Budget, "{refused}");
    refused.retry_at().unwrap().duration_since(Instant::now()) > Duration::from_secs(60)
}

/// Lets three replicas spend as fast as they may, in bursts, until each refuses every key for good. Returns the
/// provider's count, and the number of turns that the store failed: on a busy machine it is late.
async fn spent(durable: &str, budget: &str, keys: &[&'static str], seed: u64) -> (BTreeMap<Arc<str>, u64>, usize) {
    let failed = AtomicUsize::new(0);
    let provider = Provider::default();
    let replicas: Vec<Stack> =
        (0..3).map(|place| replica(durable, budget, "caps: { when_away: refuse }", &provider, seed + place)).collect();
    agree(&replicas).await;
    agree(&replicas).await;
    let begun = Instant::now();
    let work = replicas.iter().zip(0..).map(async |(stack, place)| {
        let mut random = Rng::with_seed(seed * 7 + place);
        let agreeing = async {
            loop {
                sleep(SECOND + Duration::from_millis(37 * place)).await;
                failed.fetch_add(usize::from(stack.handle().recount_spend().await.is_err()), Relaxed);
            }
        };
        let spending = async {
            let mut over = BTreeSet::new();
            while over.len() < keys.len() {
                let asked = (0..1 + random.usize(..12)).map(|_| {
                    let key = keys[random.usize(..keys.len())];
                    async move { (key, ask(stack, key).await) }
                });
                for (key, answer) in join_all(asked).await {
                    if answer.is_err_and(|refused| is_for_good(&refused)) {
                        over.insert(key);
                    }
                }
                sleep(Duration::from_millis(random.u64(..400))).await;
                assert!(begun.elapsed() < Duration::from_secs(3600), "the cap is reached");
            }
        };
        tokio::select! {
            () = agreeing => {}
            () = spending => {}
        }
        // One that has been refused gives way to the others.
        let _ = stack.handle().return_grants().await;
    });
    join_all(work).await;
    (provider.lock().unwrap().clone(), failed.into_inner())
}

async fn a_cap_is_reached_and_not_passed(durable: &str, budget: &str, keys: &[&'static str], seed: u64) {
    const ANSWERS: u64 = 90;
    let dollars = (ANSWERS * COST) as f64 / 1e9;
    let (spent, failed) = spent(durable, &format!("usd: {dollars}, {budget}"), keys, seed).await;
    let sums: Vec<u64> = match budget {
        "each_key: true" => spent.into_values().collect(),
        _ => vec![spent.into_values().sum()],
    };
    for sum in sums {
        let said = format!("seed {seed}, {budget}: {} of {ANSWERS} answers, {failed} turns failed", sum / COST);
        println!("{said}");
        // A request that does not fit goes as the only one of its key at its replica.
        let alone = 3 * keys.len() as u64 * RESERVED;
        // A replica that comes back from an outage has an even part of what is left, whatever the others have.
        let beyond = if failed > 0 { alone + ANSWERS * COST / 3 } else { alone };
        assert!(sum <= ANSWERS * COST + beyond, "{said}");
        assert!(sum + RESERVED >= ANSWERS * COST, "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn sqlite() {
    on_a_quick_clock(async {
        let cases = [
            ("key: ci", &["ci"][..]),
            ("each_key: true", &["a", "b"]),
            ("at_cap: refuse", &["a", "b"]),
            ("team: search", &["a", "b"]),
        ];
        for (seed, (budget, keys)) in (0..).zip(cases) {
            let folder = Folder::new(&format!("caps-{seed}"));
            let durable = format!("sqlite:{}", folder.path().join("state.db").display());
            a_cap_is_reached_and_not_passed(&durable, budget, keys, seed).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn postgres() {
    on_a_quick_clock(async {
        let Some(schema) = Schema::new("caps").await else { return };
        a_cap_is_reached_and_not_passed(schema.url(), "each_key: true", &["a", "b"], 58).await;
        schema.ends().await;
    })
    .await;
}

/// The file's store, as it is while another program keeps it from writing.
#[tokio::test(start_paused = true)]
async fn a_replica_that_is_away_spends_a_part_of_the_cap_or_nothing() {
    for (caps, replicas, least, most) in [
        ("{}", 2, 2, 3),
        ("{ when_away: { go_on: 20% } }", 2, 8, 9),
        ("{ when_away: { go_on: 0% } }", 2, 0, 0),
        ("{ when_away: refuse }", 2, 0, 0),
        ("{}", 1, 40, 41),
        ("{ when_away: refuse }", 1, 0, 0),
    ] {
        on_a_quick_clock(async {
            let folder = Folder::new(&format!("caps-away-{replicas}-{most}"));
            let durable = format!("sqlite:{}", folder.path().join("state.db").display());
            let provider = Provider::default();
            // A hundred answers.
            let caps = format!("caps: {caps}");
            let stack = |_| replica(&durable, "usd: 0.04", &caps, &provider, 1);
            let stacks: Vec<Stack> = (0..replicas).map(stack).collect();
            agree(&stacks).await;
            agree(&stacks).await;
            let lock = rusqlite::Connection::open(folder.path().join("state.db")).unwrap();
            lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
            let lost = Instant::now();
            while lost.elapsed() < 5 * SECOND {
                let _ = stacks[0].handle().recount_spend().await.unwrap_err();
                sleep(SECOND / 2).await;
            }
            let refused = loop {
                if let Err(refused) = ask(&stacks[0], "ci").await {
                    break refused;
                }
            };
            let answers = provider.lock().unwrap().values().sum::<u64>() / COST;
            assert!((least..=most).contains(&answers), "{caps}: {answers}");
            assert_eq!(is_for_good(&refused), most > 40, "{caps}: {refused}");
            // Once the store is there, the replica has its part again.
            lock.execute_batch("ROLLBACK").unwrap();
            while stacks[0].handle().recount_spend().await.is_err() {
                sleep(SECOND / 2).await;
            }
            assert_eq!(ask(&stacks[0], "ci").await.is_ok(), most < 40, "{caps}");
        })
        .await;
    }
}

/// An operator mends an outage by another file: a rule that goes on, or none of the ledger.
#[tokio::test(start_paused = true)]
async fn a_reload_changes_the_rule_of_an_outage_and_ends_what_was_agreed_on() {
    on_a_quick_clock(async {
        let folder = Folder::new("caps-reloaded");
        let durable = format!("sqlite:{}", folder.path().join("state.db").display());
        let provider = Provider::default();
        let more = "caps: { when_away: refuse }";
        let stacks = [(); 2].map(|()| replica(&durable, "usd: 0.04", more, &provider, 1));
        agree(&stacks).await;
        agree(&stacks).await;
        let lock = rusqlite::Connection::open(folder.path().join("state.db")).unwrap();
        lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let (stack, lost) = (&stacks[0], Instant::now());
        while lost.elapsed() < 5 * SECOND {
            let _ = stack.handle().recount_spend().await.unwrap_err();
            sleep(SECOND / 2).await;
        }
        assert!(!is_for_good(&ask(stack, "ci").await.unwrap_err()));

        let reload = |text: String| stack.handle().reload(Config::from_str(&text, Format::Yaml).unwrap()).unwrap();
        reload(file(&durable, "usd: 0.04", "caps: { when_away: { go_on: 50% } }"));
        let _ = stack.handle().recount_spend().await.unwrap_err();
        ask(stack, "ci").await.unwrap();

        reload(file(&durable, "usd: 0.04", more));
        let _ = stack.handle().recount_spend().await.unwrap_err();
        assert!(!is_for_good(&ask(stack, "ci").await.unwrap_err()));
        reload(file(&durable, "usd: 0.04", "").replace("ledger: {}", ""));
        stack.handle().recount_spend().await.unwrap();
        ask(stack, "ci").await.unwrap();
        lock.execute_batch("ROLLBACK").unwrap();
    })
    .await;
}
