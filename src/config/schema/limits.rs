use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

/// A span of time: `30s`, `500ms`, `1m30s`, `2h`; a bare number is refused, for nobody knows its unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A share of a whole, from 0 to 1: `0.5` or `50%`.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Share(pub f64);

/// The limits of time of one attempt: one span, or each limit by its name.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TierTimeout {
    /// The time to the first token, and nothing else.
    Attempt(Span),
    /// Each limit by its name.
    Limits(Timeout),
}

/// The limits of time of one attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeout {
    /// The longest time to the response; for a stream, to its first token. Default: 30 s.
    pub attempt: Option<Span>,
    /// The longest time to a stream's first token. Default: the `attempt`'s.
    pub first_token: Option<Span>,
    /// The longest silence in a stream: not even a keep-alive. Default: no limit.
    pub idle: Option<Span>,
    /// The longest time in a stream without content, keep-alives or not. Default: no limit.
    pub progress: Option<Span>,
    /// The longest time without content while keep-alives come. Default: `progress`.
    pub progress_ceiling: Option<Span>,
}

/// Retries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// The most attempts, the first included; 1 means no retry. Default: 3.
    pub max_attempts: Option<u16>,
    /// The first wait, which doubles. Default: a schedule for each kind of failure.
    pub base: Option<Span>,
    /// The factor from one wait to the next; 1 is a fixed wait. Default: 2.
    pub factor: Option<f64>,
    /// The longest wait. Default: 30 s.
    pub max_delay: Option<Span>,
    /// How waits are spread. Default: `full`.
    pub jitter: Option<Jitter>,
    /// Whether a timeout is retried at the same tier even where another is left. Default: no.
    pub retry_timeouts: Option<bool>,
    /// How much of the traffic may be retries. Default: 10 %.
    pub budget: Option<Share>,
}

/// How waits are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// Anywhere between nothing and the wait.
    Full,
    /// In the upper half of the wait.
    Equal,
    /// A quarter of the wait more or less.
    Proportional,
    /// Between the first wait and three times the one before.
    Decorrelated,
    /// Exactly the wait.
    None,
}

/// A circuit breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CircuitBreaker {
    /// Opens after so many failures in a row; 0: never for that. Default: 5.
    pub consecutive_failures: Option<u32>,
    /// Opens when this share of the calls failed. Default: no such rule.
    pub failure_rate: Option<RateOver>,
    /// Opens when this share of the calls was slow. Default: no such rule.
    pub slow_calls: Option<SlowCalls>,
    /// How long it stays open before the first probe. Default: 60 s.
    pub cooldown: Option<Cooldown>,
    /// How many probes may be under way at once. Default: 1.
    pub probes: Option<u32>,
    /// How many must succeed before it closes. Default: 1.
    pub probe_successes: Option<u32>,
    /// How often it looks again when the quota is used up or the key refused. Default: 60 s.
    pub latch: Option<Span>,
    /// The longest time for which a `Retry-After` closes the tier off. Default: 5 min.
    pub max_throttle: Option<Span>,
}

/// A cooldown: one span, or one that grows while probes fail.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Cooldown {
    /// Always the same.
    Fixed(Span),
    /// One that grows.
    Growing(GrowingCooldown),
}

/// A cooldown that grows while probes fail.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrowingCooldown {
    /// The first.
    pub first: Span,
    /// The factor from one to the next.
    pub factor: f64,
    /// The longest.
    pub longest: Span,
}

/// A share of failures over a window.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateOver {
    /// The share.
    pub share: Share,
    /// The last so many calls; of `calls` and `span` one must stand here.
    pub calls: Option<u32>,
    /// The calls of the last so long.
    pub span: Option<Span>,
    /// The fewest calls that make a rate.
    pub min_calls: Option<u32>,
}

/// A share of slow calls over a window.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlowCalls {
    /// A call is slow that takes this long to its response.
    pub after: Span,
    /// The share.
    pub share: Share,
    /// The last so many calls; of `calls` and `span` one must stand here.
    pub calls: Option<u32>,
    /// The calls of the last so long.
    pub span: Option<Span>,
    /// The fewest calls that make a rate.
    pub min_calls: Option<u32>,
}
