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

/// Sonnet's circuit differs, gpt is gone, and there is a cap.
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
    // The metrics watch the current circuit.
    handle.circuits()["sonnet"].force_open();
    yield_now().await;
    assert_eq!(state(&Page::of(&text), "sonnet"), [0.0, 1.0, 0.0]);
}

#[tokio::test(start_paused = true)]
async fn what_the_cache_came_to_is_measured_and_goes_on_over_reloads() {
    use tower::ServiceExt as _;

    let (metrics, text) = recorded();
    let file = "
tiers: [{ name: sonnet, provider: simulated, model: opus }]
prices: { opus: { input: 1000, output: 1000 } }
cache: { ttl: 1m }
";
    let stack = Stack::from_config(config(file)).unwrap();
    let handle = stack.handle();
    let metrics = metrics.stack(handle.clone());
    let sampled = metrics.handle();
    let _following = handle.events().follow(metrics);
    let ask = async |text: &str| {
        let request = crate::LlmRequest::prompt(text).with_feature("chat");
        stack.service().oneshot(request).await.unwrap().collect().await.unwrap();
    };
    let page = async || {
        yield_now().await;
        sampled.sample();
        Page::of(&text)
    };
    let results = |page: &Page| {
        ["hit", "miss", "bypass"]
            .map(|result| page.sum("steadfast_cache_requests_total", &[&format!("result=\"{result}\"")]))
    };
    assert_eq!(results(&page().await), [0.0; 3]);
    for question in ["a", "a", "b", "a"] {
        ask(question).await;
    }
    let seen = page().await;
    assert_eq!(results(&seen), [2.0, 2.0, 0.0]);
    let why = ["feature=\"chat\"", "why=\"fresh\""];
    assert_eq!(seen.sum("steadfast_cached_answers_total", &why), 2.0);
    assert_eq!((seen.sum("steadfast_cache_answers", &[]), seen.sum("steadfast_cache_kept_total", &[])), (2.0, 2.0));
    assert!(seen.sum("steadfast_cache_bytes", &[]) > 100.0);
    let (paid, saved) = ("steadfast_cost_nanodollars_total", "steadfast_cache_saved_cost_nanodollars_total");
    assert!(seen.sum(paid, &[]) > 0.0);
    assert!(seen.sum(saved, &["feature=\"chat\""]) >= seen.sum(paid, &[]) / 2.0, "two of four were not paid for");
    assert_eq!(handle.status().cache.unwrap().hits, 2);

    handle.reload(config(&file.replace("1m", "2m"))).unwrap();
    ask("a").await;
    assert_eq!(results(&page().await), [3.0, 2.0, 0.0], "it is the same cache");
    let forgotten = handle.acting_as("ana").forget_answers(Some("chat"));
    assert_eq!(forgotten, Some((2, 0)));
    assert_eq!(handle.forget_answers(None), Some((0, 0)));
    assert_eq!(page().await.sum("steadfast_operations_total", &["operation=\"forget\""]), 2.0);
    handle.reload(config(BEFORE)).unwrap();
    assert_eq!((handle.forget_answers(None), handle.status().cache), (None, None));
    handle.reload(config(file)).unwrap();
    ask("a").await;
    assert_eq!(results(&page().await), [3.0, 3.0, 0.0], "a new one is counted on");
}
