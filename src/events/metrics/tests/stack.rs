//! A stack that is reloaded.

use tokio::task::yield_now;

use super::*;
use crate::{
    Stack,
    config::{Config, Format},
};

fn config(text: &str) -> Config {
    Config::from_str(text, Format::Yaml).unwrap()
}

const BEFORE: &str = "
tiers:
  - { name: sonnet, provider: simulated }
  - { name: gpt, provider: simulated }
features: { chat: { concurrency: 20 } }
";

/// Sonnet's circuit is another, gpt is gone, and there is a cap.
const AFTER: &str = "
tiers:
  - { name: opus, provider: simulated, model: opus }
  - { name: sonnet, provider: simulated, circuit_breaker: { consecutive_failures: 9 } }
features: { chat: { concurrency: 5 } }
prices: { opus: { input: 1, output: 1 } }
budgets: [{ name: all, usd: 2, period: day }]
";

fn state(page: &Page, tier: &str) -> Vec<f64> {
    let tier = format!("tier=\"{tier}\"");
    let of = |state: &str| page.sum("steadfast_circuit_state", &[&tier, &format!("state=\"{state}\"")]);
    ["closed", "open", "half_open"].map(of).into()
}

#[tokio::test(start_paused = true)]
async fn what_a_reload_brings_is_measured_and_what_it_takes_away_is_not() {
    let (metrics, text) = recorded();
    let stack = Stack::from_config(config(BEFORE)).unwrap();
    let handle = stack.handle();
    let metrics = metrics.stack(handle.clone());
    let sampled = metrics.handle();
    let _following = handle.events().follow(metrics);
    for circuit in handle.circuits().values() {
        circuit.force_open();
    }
    yield_now().await;
    sampled.sample();
    let page = Page::of(&text);
    assert_eq!((state(&page, "sonnet"), state(&page, "gpt")), (vec![0.0, 1.0, 0.0], vec![0.0, 1.0, 0.0]));
    assert_eq!(page.sum("steadfast_permits", &["feature=\"chat\""]), 20.0);
    assert_eq!(page.sum("steadfast_budget_limit_dollars", &[]), 0.0);

    handle.reload(config(AFTER)).unwrap();
    yield_now().await;
    sampled.sample();
    let page = Page::of(&text);
    assert_eq!(state(&page, "opus"), [1.0, 0.0, 0.0]);
    assert_eq!(state(&page, "sonnet"), [1.0, 0.0, 0.0], "its circuit is another one");
    assert_eq!(state(&page, "gpt"), [0.0; 3], "it is gone, and its circuit is not open for ever");
    assert_eq!(page.sum("steadfast_permits", &["feature=\"chat\""]), 5.0);
    assert_eq!(page.sum("steadfast_budget_limit_dollars", &["cap=\"all\""]), 2.0);
    assert!(handle.prices().price(None, "opus").is_some() && handle.budgets().len() == 1);
    assert_eq!(page.sum("steadfast_on_fallback", &["from=\"opus\""]), 0.0);
    assert!(page.names().contains(&"steadfast_on_fallback"));
    // The circuit that is there now is the one that is watched.
    handle.circuits()["sonnet"].force_open();
    yield_now().await;
    assert_eq!(state(&Page::of(&text), "sonnet"), [0.0, 1.0, 0.0]);
}
