//! The configuration changes while requests are under way.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
};

use super::{HELLO, SOON};
use crate::common::{
    serve::{Serve, Served},
    steadfast, within,
};

const WHOLE: &str = r#"{"model":"m","messages":[{"role":"user","content":"a secret"}]}"#;

pub(super) fn saying(words: &str) -> String {
    format!(
        "tiers: [{{ name: only, provider: simulated, model: m, simulated: {{ reply: {words}, latency: 1ms }} }}]\n\
         default_feature: {{ concurrency: 10000 }}\n"
    )
}

/// Waits until a file that is wrong was refused so many times.
pub(super) fn refuses(served: &Served, times: usize) {
    within(SOON, "it is not refused", || served.log().matches("event=\"reload_refused\"").count() >= times);
}

#[test]
fn the_gateway_serves_the_file_and_follows_its_changes() {
    let served = Serve::with(&saying("first")).start();
    assert!(served.greeting().contains("tiers, in order: only"), "{}", served.greeting());
    let says = |word: &str| served.ask("POST /v1/chat/completions", "", WHOLE).body.contains(word);
    assert!(says("first"));
    served.configure(&saying("second"));
    within(SOON, "the change was not seen", || says("second"));
    served.configure("tiers: [{ name: only, provider: nobody }]");
    refuses(&served, 1);
    assert!(says("second"), "a file that is wrong changes nothing");
    served.signal("-HUP");
    refuses(&served, 2);
    assert!(says("second"));
    let said = served.stop().err;
    assert!(said.contains("event=\"reloaded\""), "{said}");
}

#[test]
fn a_reload_says_what_has_changed_beside_tiers() {
    let text = |more: &str| format!("{}{more}", saying("word"));
    let (key, entry) = crate::common::key("ana");
    let served = Serve::with(&text("")).keys(&format!("{entry}    admin: true\n")).start();
    let says = |words: &str| within(SOON, words, || served.log().contains(&format!("kept=1 changed=\"{words}\"")));
    served.configure(&text("features: { chat: { concurrency: 3 } }\ntimeout: 50s\n"));
    says("features.chat, timeout");
    let budget = "features: { chat: { concurrency: 3 } }\nalerts: { rules: { failover: off } }\n\
                  budgets: [{ name: all, usd: 5, period: day }]\n";
    served.configure(&text(budget));
    says("budgets.all, alerts.rules.failover, timeout");
    // The operator who asks for it gets words or JSON.
    let admin = |more: &[&str]| {
        let environment = [("STEADFAST_URL", &*served.url()), ("STEADFAST_ADMIN_KEY", &key)];
        steadfast(["admin", "reload"].into_iter().chain(more.iter().copied()), &environment).out
    };
    assert_eq!(admin(&[]), "tiers kept: only\ntiers removed: none\nchanged: none\n");
    // The watch may be the first to see the file: then the order changes nothing more.
    served.configure(&text(&budget.replace("usd: 5", "usd: 6")));
    let answer: serde_json::Value = serde_json::from_str(&admin(&["--json"])).unwrap();
    let changed = answer["settings"].as_array().unwrap();
    assert!(changed.is_empty() || *changed == ["budgets.all"], "{answer}");
    says("budgets.all");
}

#[test]
fn a_file_that_is_wrong_is_refused_at_the_start() {
    let refused = Serve::with("tiers: [{ name: only, provider: nobody }]").refused();
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("nobody"), "{}", refused.err);
}

#[test]
fn a_store_that_cannot_be_opened_is_said_at_the_start() {
    let refused = Serve::with(&(saying("word") + "stores: { durable: 'sqlite:/no/such/folder/state.db' }\n")).refused();
    assert_eq!(refused.code, Some(2));
    let said = refused.err;
    assert!(said.contains("stores.durable") && said.contains("/no/such/folder/state.db"), "{said}");
}

#[test]
fn reloads_lose_no_request() {
    let served = Serve::with(&saying("word")).start();
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    let body = if asked.load(Relaxed) % 2 == 0 { HELLO } else { WHOLE };
                    let answer = served.ask("POST /v1/chat/completions", "", body);
                    assert!(answer.status == 200 && answer.body.contains("word"), "{answer:?}");
                    asked.fetch_add(1, Relaxed);
                }
            });
        }
        for change in 0..30 {
            served.configure(&saying(&format!("word{change}")));
            served.signal("-HUP");
            let before = asked.load(Relaxed);
            within(SOON, "nobody is answered", || asked.load(Relaxed) > before + 6);
        }
        stop.store(true, Relaxed);
    });
}
