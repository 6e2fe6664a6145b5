//! The ledger of real gateways that share a store, and are killed, as the store's server is: its sum is what the
//! provider answered.
//!
//! `cargo test` runs a tenth of it; with `STEADFAST_SCALE=full` it is 500 kills, and the server is away for 30 s once.
#![cfg(unix)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a real process keeps real time")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use serde_json::json;
use steadfast_internal::wall_clock::rfc3339;
use steadfast_ledger::{LedgerRow, LedgerStore};
use steadfast_simulator::SimulatedIssuer;
use steadfast_stores::sqlite::Sqlite;

use crate::{
    common::{
        Folder,
        http::Answer,
        key,
        serve::{Serve, Served},
        steadfast,
    },
    provider::Provider,
};

/// Nine tokens of input and three of output of claude-sonnet-4-5, by Anthropic's page: 3 and 15 dollars for a million.
const COST: u64 = 9 * 3_000 + 3 * 15_000;
const GATEWAYS: usize = 3;
const CALLERS: usize = 4;

/// The configuration of a gateway whose ledger is in this folder, and in a file there.
fn config(folder: &Folder, provider: &str) -> String {
    config_of(&format!("sqlite:{}", folder.path("state.db").display()), folder, provider)
}

/// The same with this store.
fn config_of(store: &str, folder: &Folder, provider: &str) -> String {
    format!(
        "
stores: {{ durable: '{store}' }}
ledger: {{ folder: '{}' }}
tiers:
  - {{ name: sonnet, provider: anthropic, model: claude-sonnet-4-5, base_url: 'http://{provider}', api_key: '${{PROVIDER_KEY}}' }}
",
        folder.path("journal").display(),
    )
}

fn body(words: &str) -> String {
    json!({"model": "claude-sonnet-4-5", "max_tokens": 50, "messages": [{"role": "user", "content": words}]})
        .to_string()
}

/// Asks a gateway; `None` if it went away before its answer was whole.
fn ask(address: &str, key: &str, session: &str) -> Option<Answer> {
    use std::io::{Read as _, Write as _};
    let body = body("hello");
    let mut connection = std::net::TcpStream::connect(address).ok()?;
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\nx-api-key: {key}\r\n\
         x-steadfast-session: {session}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all((head + &body).as_bytes()).ok()?;
    let mut said = String::new();
    connection.read_to_string(&mut said).ok()?;
    let is_whole = said.starts_with("HTTP/1.1 200") && said.ends_with('}');
    is_whole.then(|| Answer { status: 200, head: String::new(), body: said })
}

async fn rows(store: impl LedgerStore) -> Vec<LedgerRow> {
    store.rows(Duration::ZERO, Duration::MAX, None, usize::MAX >> 1).await.unwrap()
}

fn is_full() -> bool {
    std::env::var("STEADFAST_SCALE").as_deref() == Ok("full")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sum_is_what_the_provider_answered_whatever_is_killed() {
    let folder = Folder::new("ledger-killed");
    let file = folder.path("state.db");
    let after = Killed::run(&folder, &format!("sqlite:{}", file.display()), |_| {}).await;
    after.is_borne_out(&rows(Sqlite::open(file).unwrap()).await);
}

/// Each seventh time the database's server crashes too, and once it stays away.
#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sum_is_what_the_provider_answered_while_the_database_comes_and_goes() {
    let Some(cluster) = crate::durability::cluster::Cluster::start("ledger-killed") else { return };
    let folder = Folder::new("ledger-database");
    let trouble = |kill| match kill {
        3 => {
            cluster.crashes();
            thread::sleep(Duration::from_secs(if is_full() { 30 } else { 3 }));
            cluster.starts_again();
        }
        kill if kill % 7 == 0 => cluster.crashes_and_restarts(),
        _ => {}
    };
    let after = Killed::run(&folder, &cluster.url(), trouble).await;
    after.is_borne_out(&rows(steadfast_stores::postgres::Postgres::connect(&cluster.url()).await.unwrap()).await);
}

/// The figures of gateways that were killed while they served.
struct Killed {
    kills: usize,
    calls: usize,
    /// The whole answers that callers got.
    answered: usize,
    /// The journals that are left.
    journals: usize,
}

impl Killed {
    /// Kills gateways of this store, and makes trouble before each kill.
    async fn run(folder: &Folder, store: &str, trouble: impl Fn(usize)) -> Self {
        let kills = if is_full() { 500 } else { 50 };
        let provider = Provider::start().await;
        let (secret, entry) = key("ci");
        let entry = entry.replacen("\n", "\n    team: search\n", 1);
        let config = config_of(store, folder, &provider.address);
        let serving = || Serve::with(&config).env("PROVIDER_KEY", "sk-x").keys(&entry).start();
        let mut gateways: Vec<_> = (0..GATEWAYS).map(|_| serving()).collect();
        let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let addresses: Vec<String> = gateways.iter().map(|gateway| gateway.address().to_owned()).collect();
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (addresses, secret) = (addresses.clone(), secret.clone());
                let (over, answered) = (over.clone(), answered.clone());
                thread::spawn(move || {
                    for round in 0.. {
                        if over.load(Relaxed) {
                            return;
                        }
                        let whole = ask(&addresses[(round + caller) % GATEWAYS], &secret, &format!("s-{caller}"));
                        answered.fetch_add(usize::from(whole.is_some()), Relaxed);
                    }
                })
            })
            .collect();
        let mut random = fastrand::Rng::with_seed(58);
        for kill in 0..kills {
            tokio::task::block_in_place(|| trouble(kill));
            let before = answered.load(Relaxed);
            crate::common::within(Duration::from_secs(60), "answers come", || answered.load(Relaxed) >= before + 40);
            thread::sleep(Duration::from_micros(random.u64(..20_000)));
            gateways[random.usize(..GATEWAYS)].start_again();
        }
        over.store(true, Relaxed);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        gateways.into_iter().for_each(|gateway| drop(gateway.stop()));
        // The last one finds what the others left.
        let last = serving();
        last.stop();
        let journals = std::fs::read_dir(folder.path("journal")).unwrap().count();
        Self { kills, calls: provider.calls(), answered: answered.load(Relaxed), journals }
    }

    /// Checks that the ledger is right.
    fn is_borne_out(&self, rows: &[LedgerRow]) {
        let &Self { kills, calls, answered, journals } = self;
        let (estimates, settled): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.is_estimate);
        println!(
            "{kills} kills, {calls} calls, {answered} whole answers, {} rows settled, {} by estimate",
            settled.len(),
            estimates.len()
        );
        let mut ids: Vec<_> = rows.iter().map(|row| row.request_id.clone().unwrap()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), rows.len(), "a request is counted twice");
        assert!(settled.len() <= calls && calls <= rows.len(), "{calls} calls, {} rows", rows.len());
        assert!(estimates.len() <= kills * CALLERS, "only what was in flight at a kill is estimated");
        // A row is in the journal before its answer goes out.
        assert!(answered <= settled.len(), "{answered} whole answers, {} rows settled", settled.len());
        for row in rows {
            let cost = row.cost().unwrap().nanos();
            assert!(cost == COST || (row.is_estimate && cost > 0), "{row:?}");
            let names = [&row.key, &row.team, &row.asked_model].map(|name| name.as_deref());
            assert_eq!(names, [Some("ci"), Some("search"), Some("claude-sonnet-4-5")]);
            assert!(row.session.as_deref().is_some_and(|session| session.starts_with("s-")), "{row:?}");
        }
        assert!(journals <= 1, "journals are left");
    }
}

/// Runs `steadfast spend` with this key; returns what it says.
fn spend(url: &str, key: &str, arguments: &[&str]) -> String {
    let arguments = ["spend", "--url", url].into_iter().chain(arguments.iter().copied());
    let ran = steadfast(arguments, &[("STEADFAST_ADMIN_KEY", key)]);
    ran.out + &ran.err
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_reads_the_bill_of_each_team_over_restarts() {
    let (folder, provider) = (Folder::new("ledger-bill"), Provider::start().await);
    let ((search, of_search), (chat, of_chat), (operator, of_operator)) = (key("s-1"), key("c-1"), key("operator"));
    let team = |entry: &str, name: &str| entry.replacen("\n", &format!("\n    team: {name}\n"), 1);
    let entries = team(&of_search, "search")
        + &team(&of_chat, "'=chat, \"b\"'")
        + &of_operator.replacen("\n", "\n    admin: true\n", 1);
    let mut gateway =
        Serve::with(&config(&folder, &provider.address)).env("PROVIDER_KEY", "sk-x").keys(&entries).start();
    for (key, times) in [(&search, 3), (&chat, 1)] {
        for _ in 0..times {
            ask(gateway.address(), key, "s").unwrap();
        }
    }
    gateway.start_again();
    ask(gateway.address(), &search, "s").unwrap();
    let csv = spend(&gateway.url(), &operator, &["--by", "team", "--csv"]);
    let mut lines: Vec<&str> = csv.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "\"'=chat, \"\"b\"\"\",1,9,0,0,3,0,0.000072,0.000072,0,0",
            "search,4,36,0,0,12,0,0.000288,0.000288,0,0",
            "team,requests,inputTokens,cacheReadTokens,cacheWriteTokens,outputTokens,reasoningTokens,costDollars,listDollars,unpricedRows,estimatedRows",
        ]
    );
    let table = spend(&gateway.url(), &operator, &["--by", "key,model"]);
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[1], ["key", "model", "requests", "input", "output", "cost"], "{table}");
    assert_eq!(words[2], ["s-1", "claude-sonnet-4-5", "4", "36", "12", "$0.0003"], "{table}");
    assert_eq!(words[3], ["c-1", "claude-sonnet-4-5", "1", "9", "3", "$0.0001"], "{table}");
    assert_eq!(words[4], ["all", "5", "45", "15", "$0.0004"], "{table}");
    for (arguments, said) in [
        (&["--month", "2020-01"][..], "all          0         0      0       $0.0000"),
        (&["--month", "2020-13"], "`month` is `2020-13`; write it as 2027-01"),
        (&["--by", "colour"], "`by` has no `colour`; there are hour, day, key, team"),
        (&["--from", "2026-02-01", "--to", "2026-01-01"], "is not before `to`"),
    ] {
        let told = spend(&gateway.url(), &operator, arguments);
        assert!(told.contains(said), "{arguments:?}: {told}");
    }
    assert!(spend(&gateway.url(), &search, &[]).contains("`admin: true`"));
    reconciled(&gateway, &operator, &folder, provider.calls()).await;
    // The answer says how to have a ledger, where there is none.
    let without = Serve::simulated().keys(&of_operator.replacen("\n", "\n    admin: true\n", 1)).start();
    let told = spend(&without.url(), &operator, &[]);
    assert!(told.contains("add `ledger: {}` and a durable store"), "{told}");
}

/// Holds a report in Anthropic's form, of what the provider has answered, against the ledger.
async fn reconciled(gateway: &Served, operator: &str, folder: &Folder, calls: usize) {
    let days: Vec<u64> = rows(Sqlite::open(folder.path("state.db")).unwrap())
        .await
        .iter()
        .map(|row| row.at.as_secs() / 86_400 * 86_400)
        .collect();
    assert_eq!(days.len(), calls);
    let report = |output: u64| {
        let bucket = |at: &u64| {
            let result = json!({"uncached_input_tokens": 9, "output_tokens": output, "model": "claude-sonnet-4-5"});
            json!({"starting_at": rfc3339(Duration::from_secs(*at)), "results": [result]})
        };
        json!({"data": days.iter().map(bucket).collect::<Vec<_>>(), "has_more": false}).to_string()
    };
    let run = |output| {
        let file = folder.file("usage.json", &report(output));
        let arguments = ["spend", "reconcile", file.to_str().unwrap(), "--url", &gateway.url()];
        steadfast(arguments, &[("STEADFAST_ADMIN_KEY", operator)])
    };
    let ran = run(3);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    assert!(ran.out.contains("claude-sonnet-4-5") && ran.out.contains("none"), "{}", ran.out);
    let ran = run(4);
    assert!(ran.code == Some(1) && ran.out.contains("-25.00 %") && ran.err.contains("more than 1 %"), "{ran:?}");
}

/// Returns what a key has spent under its own cap, in answers of [`COST`], as a gateway tells it.
fn spent(gateway: &Served, operator: &str) -> u64 {
    let answer = gateway.ask("GET /admin/keys", &format!("authorization: Bearer {operator}\r\n"), "").json();
    let keys = answer["keys"].as_array().unwrap();
    let key = keys.iter().find(|key| key["name"] == "ci").unwrap();
    let dollars = key["budgets"][0]["spentDollars"].as_f64().unwrap();
    (dollars * 1e9).round() as u64 / COST
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cap_is_one_number_for_all_replicas_and_over_restarts() {
    let (folder, provider) = (Folder::new("ledger-caps"), Provider::start().await);
    let ((secret, entry), (operator, of_operator)) = (key("ci"), key("operator"));
    // Ten answers.
    let budget = "\n    budget: { usd: 0.00072, period: month }\n";
    let entries = entry.replacen("\n", budget, 1) + &of_operator.replacen("\n", "\n    admin: true\n", 1);
    let serving =
        || Serve::with(&config(&folder, &provider.address)).env("PROVIDER_KEY", "sk-x").keys(&entries).start();
    let mut gateways: Vec<Served> = (0..GATEWAYS).map(|_| serving()).collect();
    let ask = |gateway: &Served| ask(gateway.address(), &secret, "s").is_some();
    // A replica whose part of the cap is used up has more of it in a second, as its answer says.
    let ask_again = |gateway: &Served| {
        (0..30).any(|_| {
            let is_answered = ask(gateway);
            if !is_answered {
                thread::sleep(Duration::from_millis(100));
            }
            is_answered
        })
    };
    for (place, before) in [(0, 0), (1, 4)] {
        assert_eq!(spent(&gateways[place], &operator), before);
        assert!((0..4).all(|_| ask_again(&gateways[place])));
        let next = &gateways[place + 1];
        crate::common::within(Duration::from_secs(30), "it learns what the others spend", || {
            spent(next, &operator) == before + 4
        });
    }
    // The third may spend the rest, and no more than a request beyond it.
    let rest = (0..5).take_while(|_| ask_again(&gateways[2])).count();
    assert!((2..=3).contains(&rest), "{rest}");
    // Its last rows are in its journal, and not in the store: the next process finds them there.
    gateways[2].start_again();
    for gateway in &mut gateways {
        gateway.start_again();
        assert!(!ask(gateway), "a restart begins where it was");
        assert_eq!(spent(gateway, &operator), 8 + rest as u64);
    }
    assert_eq!(provider.calls(), 8 + rest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_by_token_goes_on_with_its_budget_after_a_restart() {
    let (folder, provider) = (Folder::new("ledger-token"), Provider::start().await);
    let issuer = SimulatedIssuer::start().await.unwrap();
    // Five answers.
    let limits = "{ default: { budget: { usd: 0.00036, period: month } } }";
    let oidc = format!("gateway: {{ oidc: {{ issuer: '{}', audience: llm, limits: {limits} }} }}\n", issuer.url());
    let serve = Serve::with(&(config(&folder, &provider.address) + &oidc)).env("PROVIDER_KEY", "sk-x");
    let mut gateway = serve.start();
    let token = |device: u64| issuer.token(&json!({"aud": "llm", "sub": "ann", "device": device}));
    let first = token(1);
    let served = (0..20).take_while(|_| ask(gateway.address(), &first, "s").is_some()).count();
    assert_eq!(served, 5);
    gateway.start_again();
    assert!(ask(gateway.address(), &token(2), "s").is_none(), "a restart begins where it was");
    let other = issuer.token(&json!({"aud": "llm", "sub": "bob"}));
    assert!(ask(gateway.address(), &other, "s").is_some(), "another caller has its own");
    assert_eq!(provider.calls(), 6);
}

#[test]
fn a_ledger_without_a_place_is_refused_with_what_to_do() {
    let tiers = "tiers: [{ name: a, provider: simulated }]";
    for (config, said) in [
        ("ledger: {}", "add `stores: { durable: sqlite:steadfast.db }`"),
        ("ledger: {}\nstores: { shared: 'redis://127.0.0.1:1' }", "Redis is none"),
        ("ledger: { keep: 0s }\nstores: { durable: 'sqlite:x.db' }", "keep"),
        ("ledger: { folder: '' }\nstores: { durable: 'sqlite:x.db' }", "folder"),
        (
            "ledger: { currency: EUR }\nstores: { durable: 'sqlite:x.db' }",
            "unknown key `currency`; there are `keep`, `folder`",
        ),
    ] {
        let folder = Folder::new("ledger-wrong");
        let file = folder.file("steadfast.yaml", &format!("{config}\n{tiers}\n"));
        let ran = steadfast(["check", file.to_str().unwrap()], &[]);
        assert!(ran.code == Some(2) && (ran.out.clone() + &ran.err).contains(said), "{config}: {ran:?}");
    }
}
