//! LiteLLM's table, imported, against LiteLLM's own calculator.

use std::{io::Write as _, process::Stdio};

use serde_json::{Value, json};
use steadfast::{
    chat::{ServiceTier, Usage},
    prices::Usd,
};
use steadfast_stack::{Config, Format, Stack};

use crate::common::{sdk, steadfast};

const MODELS: [&str; 7] = [
    "gpt-4o",
    "gpt-5.4",
    "claude-sonnet-4-5",
    "claude-haiku-4-5",
    "gemini/gemini-2.5-pro",
    "mistral/mistral-large-latest",
    "deepseek/deepseek-chat",
];

/// Tokens of input, output, cache read and cache write.
const USAGES: [[u64; 4]; 4] =
    [[1000, 500, 0, 0], [150_000, 2000, 100_000, 0], [400_000, 1000, 0, 0], [900, 0, 300, 200]];

/// The service tiers that its calculator knows, with its words.
const TIERS: [(ServiceTier, Option<&str>); 3] =
    [(ServiceTier::Standard, None), (ServiceTier::Flex, Some("flex")), (ServiceTier::Fast, Some("priority"))];

#[test]
fn imported_prices_ask_what_litellm_asks() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sdk/prices.py");
    let python = || sdk::python_with("STEADFAST_SDK_CLIENTS", script, &["litellm"]);
    let Some(mut table) = python() else { return };
    let table = String::from_utf8(table.arg("--table").output().unwrap().stdout).unwrap();
    let named: Vec<&str> = MODELS.iter().flat_map(|model| ["--model", model]).collect();
    let ran = steadfast(["prices", "import", table.trim()].into_iter().chain(named), &[]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    let file = format!("tiers: [{{ name: a, provider: simulated, model: m }}]\n{}", ran.out);
    let stack = Stack::from_config(Config::from_str(&file, Format::Yaml).unwrap()).unwrap();

    let asked: Vec<Value> = MODELS
        .iter()
        .flat_map(|model| {
            USAGES.map(|[input, output, read, write]| {
                let asked =
                    json!({"model": model, "input": input, "output": output, "cache_read": read, "cache_write": write});
                TIERS.map(|(_, word)| {
                    let mut asked = asked.clone();
                    asked["service_tier"] = word.into();
                    asked
                })
            })
        })
        .flatten()
        .collect();
    let mut litellm = python().unwrap().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    litellm.stdin.take().unwrap().write_all(json!(asked).to_string().as_bytes()).unwrap();
    let costs = litellm.wait_with_output().unwrap().stdout;
    let costs: Vec<f64> = serde_json::from_slice(&costs).unwrap();
    assert_eq!(costs.len(), asked.len());
    let prices = stack.handle().prices();
    for ((asked, cost), (tier, _)) in asked.iter().zip(costs).zip(TIERS.into_iter().cycle()) {
        let tokens = |name: &str| asked[name].as_u64().unwrap();
        let mut usage = Usage::new(tokens("input"), tokens("output"));
        (usage.cache_read, usage.cache_write) = (tokens("cache_read"), tokens("cache_write"));
        usage.service_tier = tier;
        let own = prices.cost(None, asked["model"].as_str().unwrap(), &usage).unwrap();
        let theirs = Usd::from_dollars(cost).unwrap();
        // A tier is one share of all prices here. The table rounds that of cached tokens, and lacks some tiers' prices
        // of long inputs.
        let apart = if tier == ServiceTier::Standard { 2 } else { 2 + theirs.nanos() / 20 };
        let is_untold = tier != ServiceTier::Standard && usage.input > 200_000;
        assert!(is_untold || own.nanos().abs_diff(theirs.nanos()) <= apart, "{asked}: {own} here, {theirs} there");
    }
}
