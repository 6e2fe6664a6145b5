//! The settings of all layers in a configuration file: what a field says reaches its layer.

use std::{fmt::Debug, sync::Arc};

use schemars::{JsonSchema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{balance, circuit_breaker, hedge, retry, timeout};
use crate::{BalanceLayer, BoxLlmService, CircuitBreakerLayer, HedgeLayer, InvalidConfig, RetryWithJitterLayer};

/// The fields of a block, with their schemas.
fn fields<T: JsonSchema>() -> Vec<(String, Value)> {
    let schema = SchemaGenerator::default().into_root_schema_for::<T>().to_value();
    schema["properties"].as_object().unwrap().clone().into_iter().collect()
}

fn read<T: DeserializeOwned>(name: &str, value: &Value) -> Option<T> {
    // A growth alone chooses one schedule for all failures, so it stands beside the base of that one.
    let mut block = if ["backoff", "factor"].contains(&name) { json!({ "base": "500ms" }) } else { json!({}) };
    if !value.is_null() {
        block[name] = value.clone();
    }
    serde_json::from_value(block).ok()
}

/// Checks that the published default of each field of a block is the one that its layer has by itself. Returns how
/// many there are.
fn published_defaults<T: DeserializeOwned + JsonSchema, L: Debug>(layer: impl Fn(T) -> L) -> usize {
    let fields = fields::<T>().into_iter().filter_map(|(name, field)| Some((name, field.get("default")?.clone())));
    let checked = fields.map(|(name, default)| {
        let [said, silent] = [&default, &Value::Null].map(|value| layer(read(&name, value).unwrap()));
        assert_eq!(format!("{said:?}"), format!("{silent:?}"), "{}.{name}", T::schema_name());
    });
    checked.count()
}

/// Checks that each field of a block changes its layer.
fn effects<T: DeserializeOwned + JsonSchema, L: Debug>(layer: impl Fn(T) -> L) {
    // One of them is no default, whatever the type of the field.
    let values = json!([
        false, true, 7, "7s", "7%", "none", "linear", { "share": 0.5, "calls": 7 },
        { "after": "7s", "share": 0.5, "calls": 7 },
    ]);
    for (name, _) in fields::<T>() {
        let silent = format!("{:?}", layer(read(&name, &Value::Null).unwrap()));
        let mut blocks = values.as_array().unwrap().iter().filter_map(|value| read(&name, value));
        let is_changed = blocks.any(|block| format!("{:?}", layer(block)) != silent);
        assert!(is_changed, "{}.{name} does not reach its layer", T::schema_name());
    }
}

fn breaker(block: circuit_breaker::block::CircuitBreaker) -> CircuitBreakerLayer {
    let layer = block.apply(CircuitBreakerLayer::new("a").seed(1)).unwrap();
    block.apply_confirmation(layer, None::<BoxLlmService>)
}

fn retries(block: retry::block::Retry) -> impl Debug {
    let budget = retry::block::budget(block.budget).unwrap();
    block.apply(RetryWithJitterLayer::new().budget(budget).seed(1))
}

fn balancer(block: balance::block::Balance) -> Result<BalanceLayer, InvalidConfig> {
    block.apply(BalanceLayer::new())
}

fn hedge(block: hedge::block::HedgeSettings) -> Result<HedgeLayer, InvalidConfig> {
    block.apply(HedgeLayer::new("a"))
}

#[test]
fn a_published_default_is_what_the_layer_does_by_itself() {
    let timeouts = published_defaults(|block: timeout::block::Timeout| block.attempt_layer());
    let (retries, breakers) = (published_defaults(retries), published_defaults(breaker));
    let (balancers, hedges) = (published_defaults(balancer), published_defaults(hedge));
    assert!(timeouts >= 3 && retries >= 5 && breakers >= 6, "{timeouts} {retries} {breakers}");
    assert!(balancers >= 3 && hedges >= 2, "{balancers} {hedges}");
}

#[test]
fn each_field_of_a_block_changes_its_layer() {
    let silence = Arc::default();
    effects(|block: timeout::block::Timeout| block.adaptive_layer((false, false), &silence));
    effects(retries);
    effects(breaker);
    effects(balancer);
    // The stack finds the other tier.
    effects(|block: hedge::block::HedgeSettings| (block.to.clone(), hedge(block)));
}
