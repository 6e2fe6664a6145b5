//! The limits of teams, above those of their keys.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use steadfast::{LlmError, LlmRequest, LlmResponse, provider_fn, providers::simulated::Simulated};
use steadfast_stack::{Config, Format, Stack};
use tokio::time::timeout;

use super::harness::*;
use crate::limits::Settings;

const ONE: (&str, &str) = ("x-api-key", "sk-one");
const TWO: (&str, &str) = ("x-api-key", "sk-two");
const OTHER: (&str, &str) = ("x-api-key", "sk-other");

/// The configuration whose teams have these limits.
fn config(teams: &str) -> Config {
    let text =
        format!("tiers: [{{ name: main, provider: simulated, model: main }}]\ngateway: {{ teams: {{ {teams} }} }}\n");
    Config::from_str(&text, Format::Yaml).unwrap()
}

/// A gateway whose teams have these limits, with the keys `one`, of these limits, and `two` of the team `search`, and
/// `other` of another.
async fn served(teams: &str, of_one: &str) -> (Server, Stack) {
    let leaf = Simulated::new("main").reply("Some words").latency(Duration::ZERO).pace(Duration::ZERO);
    let stack = Stack::builder().leaf("main", leaf).build(config(teams)).unwrap();
    let keys = keys_of(&[
        entry("one", "sk-one", &format!(", team: search{of_one}")),
        entry("two", "sk-two", ", team: search"),
        entry("other", "sk-other", ", team: ads"),
    ]);
    let keys = keys.with_budgets_in(stack.handle()).unwrap();
    (Server::with_stack(&stack, Some(keys), Settings::default()).await, stack)
}

/// Returns the numbers of requests that are served to callers who ask in turn, until each was refused.
async fn served_to<const N: usize>(server: &Server, callers: [(&str, &str); N]) -> [usize; N] {
    let (mut served, mut refused) = ([0; N], [false; N]);
    while refused.contains(&false) {
        for (place, caller) in callers.into_iter().enumerate() {
            if refused[place] {
                continue;
            }
            match server.post(MESSAGES, &[caller], &hello(false)).await.status {
                200 => served[place] += 1,
                _ => refused[place] = true,
            }
            assert!(served[place] < 100, "it has a limit");
        }
    }
    served
}

#[tokio::test]
async fn a_teams_rate_is_that_of_all_its_keys_together() {
    // Its limit, that of `one` if it has any, and the other team's.
    for (limit, of_one, of_other) in [(10, None, None), (10, Some(2), None), (3, Some(9), None), (4, None, Some(3))] {
        let other = of_other.map(|limit| format!(", ads: {{ requests_per_minute: {limit} }}")).unwrap_or_default();
        let teams = format!("search: {{ requests_per_minute: {limit} }}{other}");
        let own = of_one.map(|limit| format!(", requests_per_minute: {limit}")).unwrap_or_default();
        let (server, _stack) = served(&teams, &own).await;
        let [one, two] = served_to(&server, [ONE, TWO]).await;
        // Each has its even share; beyond that a key leaves a quarter to the other.
        let share = limit / 2;
        assert!(one >= share.min(of_one.unwrap_or(share)) && two >= share, "{teams}, {own}: {one}, {two}");
        assert!((limit - limit.div_ceil(4)..=limit).contains(&(one + two)), "{teams}, {own}: {one}, {two}");
        assert_eq!(server.post(MESSAGES, &[OTHER], &hello(false)).await.status, 200, "{teams}");
    }
}

/// One caller can take from its team what it leaves, which is a quarter at least.
#[tokio::test]
async fn no_key_takes_a_teams_rate_from_its_others() {
    let (server, _stack) = served("search: { requests_per_minute: 40 }", "").await;
    let mut served = [0, 0];
    for round in 0..20 {
        for (place, caller, asks) in [(0, ONE, 10), (1, TWO, 1)] {
            for _ in 0..asks {
                let answer = server.post(MESSAGES, &[caller], &hello(false)).await;
                served[place] += usize::from(answer.status == 200);
                assert!(answer.status == 200 || caller == ONE || served[1] >= 10, "round {round}: {}", answer.body);
            }
        }
    }
    assert!(served[0] >= 20 && served[0] + served[1] <= 41, "{served:?}");
    let text = server.gateway.counters();
    assert!(text.contains(r#"steadfast_share_refusals_total{key="one",reason="requests_share"}"#), "{text}");
}

#[tokio::test]
async fn answers_tell_the_limit_that_has_less_left() {
    let (server, _stack) = served("search: { requests_per_minute: 10 }", ", requests_per_minute: 4").await;
    let left = async |caller| {
        let answer = server.post(CHAT, &[caller], &hello(false)).await;
        let header = |name| answer.header(name).unwrap().parse::<u64>().unwrap();
        [header("x-ratelimit-limit-requests"), header("x-ratelimit-remaining-requests")]
    };
    assert_eq!([left(ONE).await, left(TWO).await], [[4, 3], [10, 8]]);
    for _ in 0..6 {
        left(TWO).await;
    }
    // Three of its own would be left, and two of the team's or three.
    let [limit, left] = left(ONE).await;
    assert!((limit, left) == (4, 2) || limit == 10 && left <= 2, "{limit}, {left}");
}

#[tokio::test]
async fn a_reload_changes_a_teams_limits_and_keeps_what_is_used() {
    let (server, stack) = served("search: { requests_per_minute: 2 }", "").await;
    let keys = server.gateway.keys.as_ref().unwrap();
    let reload = |teams: &str| {
        stack.handle().reload(config(teams)).unwrap();
        keys.follow_configuration();
    };
    assert_eq!(served_to(&server, [ONE, TWO]).await, [1, 1]);
    // An unchanged limit stays used up, beside one that changes.
    reload("search: { requests_per_minute: 2, concurrency: 5 }");
    assert_eq!(served_to(&server, [ONE, TWO]).await, [0, 0]);
    reload("search: { requests_per_minute: 4 }");
    assert_eq!(served_to(&server, [ONE, TWO]).await, [2, 2], "a changed limit starts with a full count");
    reload("ads: { requests_per_minute: 1 }");
    assert_eq!(server.post(MESSAGES, &[ONE], &hello(false)).await.status, 200, "it has none any more");
}

/// The order of the limits: a caller's own first, so that it holds no more of the team's places than it may.
#[tokio::test]
async fn no_key_takes_more_of_its_teams_places_than_its_own_limit() {
    let running = Arc::new(AtomicUsize::new(0));
    let count = running.clone();
    let leaf = provider_fn(move |_: LlmRequest| {
        count.fetch_add(1, SeqCst);
        std::future::pending::<Result<LlmResponse, LlmError>>()
    });
    let stack = Stack::builder().leaf("main", leaf).build(config("search: { concurrency: 4 }")).unwrap();
    let one = entry("one", "sk-one", ", team: search, concurrency: 1");
    let keys = keys_of(&[one, entry("two", "sk-two", ", team: search")]).with_budgets_in(stack.handle()).unwrap();
    let server = Server::with_stack(&stack, Some(keys), Settings::default()).await;
    let mut open = Vec::new();
    for (caller, expected) in [(ONE, None), (ONE, Some("this key has")), (TWO, None), (TWO, None), (TWO, Some("team"))]
    {
        let before = running.load(SeqCst);
        match expected {
            Some(words) => {
                let answer = server.post(MESSAGES, &[caller], &hello(false)).await;
                let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
                assert!(answer.status == 429 && message.contains(words), "{message}");
            }
            None => {
                let mut client = server.connect().await;
                client.post(MESSAGES, &[caller], &hello(false)).await;
                until("the call runs", || running.load(SeqCst) > before).await;
                open.push(client);
            }
        }
    }
    drop(open);
    // Each place comes back.
    let keys = server.gateway.keys.as_ref().unwrap();
    let is_free = |name: &str, limits: &str| {
        let report = keys.report_on(name).unwrap();
        report.pointer(limits).unwrap() == 0
    };
    until("its own place is free", || is_free("one", "/inFlight")).await;
    until("the team's places are free", || is_free("two", "/teamLimits/inFlight")).await;
    let mut client = server.connect().await;
    client.post(MESSAGES, &[ONE], &hello(false)).await;
    until("it is served again", || running.load(SeqCst) == 4).await;
}

/// Waits until this is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("{what}"));
}
