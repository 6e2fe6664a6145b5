//! Converts the file's settings into the layers' settings. Unset values keep the layers' defaults.

use std::{sync::Arc, time::Duration};

use crate::{
    self as schema, AllOpen, CircuitBreaker, Config, Feature, Growth, Retry, Session, Share, Span, StreamBreak, Tier,
    TierTimeout,
};
use steadfast::{
    BulkheadLayer, CircuitBreakerLayer, Classifier, ErrorKind, InvalidConfig, RetryBudget, RetryWithJitterLayer,
    TimeoutLayer, classify,
    layers::{
        bulkhead::{Limits, Rate},
        fallback,
        retry::{Backoff, Jitter},
        timeout::Silence,
    },
};

/// The default first wait if only the factor is set.
const BASE: Duration = Duration::from_millis(500);
/// The layer's own limits on a stream's silences, for a pair of which only one is set.
const SILENCE: Duration = Duration::from_secs(60);
const CEILING: Duration = Duration::from_secs(300);
/// The default limit for the first token of a model's stream, where the attempt's is longer: as long as a stream may be
/// silent later.
const FIRST_TOKEN: Duration = SILENCE;
/// The same where the model thinks before, and the longest for a whole answer: as long as a stream may go without
/// content later.
const THINKING: Duration = CEILING;

/// Limits a whole request. Each tier limits a stream's silences itself.
pub(crate) fn total(limit: Option<Span>) -> TimeoutLayer {
    let none = Duration::MAX;
    TimeoutLayer::new(limit.map_or(Config::TIMEOUT, |limit| limit.0)).idle(none).progress(none, none)
}

/// Limits one attempt of a model, adaptively if the settings allow it. An explicit first-token limit replaces the
/// adaptive one and the default. `thinks` is true for a model that reasons without being asked to. `repeats` is true
/// where the file repeats an attempt whose time is over, so that the attempt must have an end of its own.
pub(crate) fn adaptive_attempt(
    timeout: Option<TierTimeout>,
    (thinks, repeats): (bool, bool),
    silence: &Arc<Silence>,
) -> TimeoutLayer {
    let limits = limits_of(timeout);
    let mut layer = attempt(timeout);
    if limits.first_token.is_none() {
        // The attempt's own limit holds for thought too if somebody has set it.
        let thinking = limits.attempt.map_or(THINKING, |attempt| attempt.0.min(THINKING));
        layer = layer.first_token(if thinks { THINKING } else { FIRST_TOKEN }).thinking(thinking);
    }
    if !repeats {
        if limits.attempt.is_none() {
            layer = layer.long_answers(THINKING);
        }
        layer = layer.patient(limits.attempt.map_or(Duration::MAX, |span| span.0));
        if let Some(first_token) = limits.first_token {
            layer = layer.first_token(first_token.0);
        }
    }
    if limits.adaptive.unwrap_or_else(|| limits.first_token.is_none()) { layer.leaving(silence.clone()) } else { layer }
}

/// Returns true if the file repeats the attempts of a tier whose time is over.
pub(crate) fn repeats_timeouts(tier: &Tier, config: &Config) -> bool {
    tier.retry.unwrap_or_default().or(config.retry).retry_timeouts == Some(true)
}

fn limits_of(timeout: Option<TierTimeout>) -> schema::Timeout {
    match timeout {
        None => schema::Timeout::default(),
        Some(TierTimeout::Attempt(span)) => schema::Timeout { attempt: Some(span), ..schema::Timeout::default() },
        Some(TierTimeout::Limits(limits)) => limits,
    }
}

/// Limits one attempt.
pub(crate) fn attempt(timeout: Option<TierTimeout>) -> TimeoutLayer {
    let schema::Timeout { attempt, first_token, adaptive: _, idle, progress, progress_ceiling } = limits_of(timeout);
    let mut layer = TimeoutLayer::new(attempt.map_or(schema::Timeout::ATTEMPT, |span| span.0));
    if let Some(first_token) = first_token {
        layer = layer.first_token(first_token.0);
    }
    if let Some(idle) = idle {
        layer = layer.idle(idle.0);
    }
    if progress.is_some() || progress_ceiling.is_some() {
        let silent = progress.map_or(SILENCE, |span| span.0);
        layer = layer.progress(silent, progress_ceiling.map_or(CEILING, |span| span.0));
    }
    layer
}

pub(crate) fn retry(settings: Retry, budget: RetryBudget, seed: Option<u64>) -> RetryWithJitterLayer {
    let Retry {
        max_attempts,
        base,
        backoff: growth,
        factor,
        max_delay,
        failover_delay,
        jitter,
        retry_timeouts,
        budget: _,
    } = settings;
    let mut layer = RetryWithJitterLayer::new().budget(budget);
    if let Some(seed) = seed {
        layer = layer.seed(seed);
    }
    if let Some(attempts) = max_attempts {
        layer = layer.max_attempts(attempts);
    }
    if let Some(delay) = max_delay {
        layer = layer.max_delay(delay.0);
    }
    if let Some(delay) = failover_delay {
        layer = layer.failover_delay(delay.0);
    }
    let jitter = jitter.map(|jitter| match jitter {
        schema::Jitter::Full => Jitter::Full,
        schema::Jitter::Equal => Jitter::Equal,
        schema::Jitter::Proportional => Jitter::Proportional(0.25),
        schema::Jitter::Decorrelated => Jitter::Decorrelated,
        schema::Jitter::None => Jitter::None,
    });
    if let Some(jitter) = jitter {
        layer = layer.jitter(jitter);
    }
    if retry_timeouts == Some(true) {
        layer = layer.retry_timeouts(true).classifier(Classifier::overridden(|error, mut class| {
            if error.kind() == ErrorKind::Timeout {
                class.retry = classify::Retry::Yes;
            }
            class
        }));
    }
    if base.is_some() || factor.is_some() || growth.is_some() {
        let mut backoff = Backoff::new(base.map_or(BASE, |base| base.0)).jitter(jitter.unwrap_or_default());
        backoff = match (growth.unwrap_or_default(), factor) {
            (Growth::Exponential, Some(factor)) => backoff.factor(factor),
            (Growth::Exponential, None) => backoff,
            (Growth::Linear, _) => backoff.linear(),
            (Growth::Fixed, _) => backoff.factor(1.0),
        };
        if let Some(delay) = max_delay {
            backoff = backoff.max_delay(delay.0);
        }
        // A single schedule in the file applies to all kinds.
        layer = ErrorKind::ALL.iter().fold(layer, |layer, kind| layer.schedule(*kind, backoff));
    }
    layer
}

pub(crate) fn retry_budget(field: &str, share: Option<Share>) -> Result<RetryBudget, InvalidConfig> {
    let Some(Share(share)) = share else { return Ok(RetryBudget::new()) };
    // A floor keeps retries possible in thin traffic; a share of zero means no retries.
    let floor = if share == 0.0 { 0.0 } else { 1.0 };
    RetryBudget::with_limits(share, floor, 100)
        .map_err(|error| InvalidConfig::new(field.to_owned(), error.problem().to_owned()))
}

/// Configures a tier's circuit breaker from the merged settings. `own` are those of the tier.
///
/// # Errors
///
/// A window has both bounds, or neither.
pub(crate) fn breaker(
    place: &str,
    own: Option<&CircuitBreaker>,
    layer: CircuitBreakerLayer,
    settings: &CircuitBreaker,
) -> Result<CircuitBreakerLayer, InvalidConfig> {
    let own = || own?.apply(CircuitBreakerLayer::new("")).err();
    settings.apply(layer).map_err(|error| in_block("circuit_breaker", error, own(), place))
}

/// Names the whole field of an error in a block: the tier's if the tier's own settings have the same error, and the
/// file's otherwise.
pub(crate) fn in_block(block: &str, error: InvalidConfig, own: Option<InvalidConfig>, place: &str) -> InvalidConfig {
    let field = match own {
        Some(own) if own.field() == error.field() => format!("{place}.{block}.{}", error.field()),
        _ => format!("{block}.{}", error.field()),
    };
    InvalidConfig::new(field, error.problem().to_owned())
}

/// Builds the limits of all features.
pub(crate) fn bulkhead(config: &Config) -> Result<BulkheadLayer, InvalidConfig> {
    let default = config.default_feature.clone().unwrap_or_default();
    let most = config.gateway.most_connections();
    let limits = |field: &str, feature| limits(field, feature, most);
    let mut layer = BulkheadLayer::new().max_wait(Duration::MAX).default_limit(limits("default_feature", &default)?);
    for (name, feature) in &config.features {
        layer = layer.feature(name.as_str(), limits(&format!("features.{name}"), feature)?);
    }
    Ok(layer)
}

/// Returns a feature's limits. `most` is the number of its places if the file names none: a limit that nobody asked for
/// refuses only callers who could not connect.
fn limits(field: &str, feature: &Feature, most: usize) -> Result<Limits, InvalidConfig> {
    let Feature {
        concurrency,
        queue,
        max_wait,
        requests_per_minute,
        tokens_per_minute,
        tiers: _,
        worst_level: _,
        all_open: _,
        timeout: _,
        stream: _,
        hedge: _,
        validate: _,
        cache: _,
    } = *feature;
    let mut limits = Limits::new(concurrency.unwrap_or(most));
    if let Some(queue) = queue {
        limits = limits.queue(queue);
    }
    if let Some(wait) = max_wait {
        limits = limits.max_wait(wait.0);
    }
    if let Some(requests) = requests_per_minute {
        limits = limits.requests_per_minute(rate(&format!("{field}.requests_per_minute"), requests)?);
    }
    if let Some(tokens) = tokens_per_minute {
        limits = limits.tokens_per_minute(rate(&format!("{field}.tokens_per_minute"), tokens)?);
    }
    Ok(limits)
}

fn rate(field: &str, rate: schema::Rate) -> Result<Rate, InvalidConfig> {
    let (per_minute, burst) = match rate {
        schema::Rate::PerMinute(per_minute) => (per_minute, None),
        schema::Rate::Burst { per_minute, burst } => (per_minute, Some(burst)),
    };
    let rate = Rate::per_minute(per_minute)
        .map_err(|error| InvalidConfig::new(field.to_owned(), error.problem().to_owned()))?;
    Ok(burst.map_or(rate, |burst| rate.burst(burst)))
}

pub(crate) fn session(session: Session) -> fallback::SessionPolicy {
    match session {
        Session::Free => fallback::SessionPolicy::Free,
        Session::Pin => fallback::SessionPolicy::Pin,
        Session::Sticky => fallback::SessionPolicy::Sticky,
    }
}

pub(crate) fn all_open(policy: AllOpen) -> fallback::AllOpen {
    match policy {
        AllOpen::Fail => fallback::AllOpen::Fail,
        AllOpen::Wait(longest) => fallback::AllOpen::Wait(longest.0),
        AllOpen::Queue(longest) => fallback::AllOpen::Queue(longest.0),
    }
}

pub(crate) fn stream_break(policy: StreamBreak) -> fallback::StreamBreak {
    match policy {
        StreamBreak::Fail => fallback::StreamBreak::Fail,
        StreamBreak::Restart => fallback::StreamBreak::Restart,
        StreamBreak::Continue => fallback::StreamBreak::Continue,
        StreamBreak::Buffer => fallback::StreamBreak::Buffer,
    }
}

/// Returns a kind of failure by its name in the file.
pub(crate) fn kind(field: &str, name: &str) -> Result<ErrorKind, InvalidConfig> {
    ErrorKind::ALL.iter().copied().find(|kind| kind.name() == name).ok_or_else(|| {
        let names: Vec<&str> = ErrorKind::ALL.iter().map(|kind| kind.name()).collect();
        let problem = format!("unknown kind of failure `{name}`; the kinds are {}", names.join(", "));
        InvalidConfig::new(field.to_owned(), problem)
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    /// Checks that the published default of each field of a block is the one that its layer has by itself. Returns how
    /// many there are.
    fn published_defaults<T: DeserializeOwned>(block: &str, layer: impl Fn(T) -> Box<dyn Debug>) -> usize {
        let read = |fields: Value| serde_json::from_value(fields).unwrap();
        let schema = Config::json_schema();
        let fields = schema["$defs"][block]["properties"].as_object().unwrap();
        let defaults: Vec<_> = fields.iter().filter(|(_, field)| field.get("default").is_some()).collect();
        for (name, field) in &defaults {
            // A growth alone chooses one schedule for all failures, so it stands beside the base of that one.
            let beside =
                if ["backoff", "factor"].contains(&name.as_str()) { json!({ "base": "500ms" }) } else { json!({}) };
            let mut said = beside.clone();
            said[name.as_str()] = field["default"].clone();
            let (said, silent) = (layer(read(said)), layer(read(beside)));
            assert_eq!(format!("{said:?}"), format!("{silent:?}"), "{block}.{name}");
        }
        defaults.len()
    }

    #[test]
    fn a_published_default_is_what_the_layer_does_by_itself() {
        let timeouts = published_defaults("Timeout", |limits| Box::new(attempt(Some(TierTimeout::Limits(limits)))));
        let retries = published_defaults("Retry", |settings: Retry| {
            let budget = retry_budget("retry.budget", settings.budget).unwrap();
            let budgets = format!("{budget:?}");
            Box::new((retry(settings, budget, Some(1)), budgets))
        });
        let breakers = published_defaults("CircuitBreaker", |settings: CircuitBreaker| {
            Box::new(breaker("tiers[0]", None, CircuitBreakerLayer::new("a").seed(1), &settings).unwrap())
        });
        assert!(timeouts >= 4 && retries >= 5 && breakers >= 6, "{timeouts} {retries} {breakers}");
    }
}
