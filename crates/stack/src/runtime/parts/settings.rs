//! Converts the file's settings into the layers' settings. Unset values keep the layers' defaults. A block that stands
//! in its layer's folder applies itself.

use std::time::Duration;

use crate::{self as schema, AllOpen, CircuitBreaker, Config, Feature, Session, Share, Span, StreamBreak, Tier};
use steadfast::{
    BulkheadLayer, CircuitBreakerLayer, ErrorKind, InvalidConfig, RetryBudget, TimeoutLayer,
    layers::{
        bulkhead::{Limits, Rate},
        fallback, retry,
    },
};

/// Limits a whole request. Each tier limits a stream's silences itself.
pub(crate) fn total(limit: Option<Span>) -> TimeoutLayer {
    let none = Duration::MAX;
    TimeoutLayer::new(limit.map_or(Config::TIMEOUT, |limit| limit.0)).idle(none).progress(none, none)
}

/// Returns true if the file repeats the attempts of a tier whose time is over.
pub(crate) fn repeats_timeouts(tier: &Tier, config: &Config) -> bool {
    tier.retry.unwrap_or_default().or(config.retry).retry_timeouts == Some(true)
}

/// Creates a budget for retries that are at most this share of the traffic. An error names the field.
pub(crate) fn retry_budget(field: &str, share: Option<Share>) -> Result<RetryBudget, InvalidConfig> {
    retry::block::budget(share).map_err(|error| InvalidConfig::new(field.to_owned(), error.problem().to_owned()))
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
