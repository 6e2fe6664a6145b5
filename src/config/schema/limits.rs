use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::{
    Share, Span,
    either::{Either, short_or_block},
};

/// The limits of time of one attempt: one span, or each limit by its name.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema)]
#[schemars(untagged)]
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
    #[schemars(extend("default" = "30s"))]
    pub attempt: Option<Span>,
    /// The longest time to a stream's first token. Default: the `attempt`'s.
    pub first_token: Option<Span>,
    /// Whether a call is left before its limit that takes far longer than is usual there, where another tier that asks a model is left
    /// and others wait as long in vain. Default: `true`, unless there is a `first_token`.
    #[schemars(extend("default" = true))]
    pub adaptive: Option<bool>,
    /// The longest silence in a stream: not even a keep-alive. Default: 60 s.
    #[schemars(extend("default" = "60s"))]
    pub idle: Option<Span>,
    /// The longest time in a stream without content while no keep-alive comes either; one that came before does not begin
    /// it anew. Default: 60 s.
    #[schemars(extend("default" = "60s"))]
    pub progress: Option<Span>,
    /// The longest time in a stream without content while keep-alives come. Default: 5 min, or `progress` where that is
    /// longer.
    #[schemars(extend("default" = "5m"))]
    pub progress_ceiling: Option<Span>,
}

/// Retries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// The most attempts, the first included; 1 means no retry. Default: 3. Where neither this nor `budget` is set, 2 at a tier behind
    /// another model's, and where another model is left only a failure for which the provider names a time is retried.
    #[schemars(extend("default" = 3), range(min = 1))]
    pub max_attempts: Option<u16>,
    /// The first wait. Default: a schedule for each kind of failure; 500 ms where another field of the schedule is set.
    pub base: Option<Span>,
    /// How the wait grows from one retry to the next. Default: `exponential`.
    #[schemars(extend("default" = "exponential"))]
    pub backoff: Option<Growth>,
    /// The factor of `exponential`; 1 is a fixed wait. Default: 2.
    #[schemars(extend("default" = 2), range(min = 1))]
    pub factor: Option<f64>,
    /// The longest wait. Default: 30 s.
    #[schemars(extend("default" = "30s"))]
    pub max_delay: Option<Span>,
    /// The longest wait while another tier that asks a model is left: what asks for more goes on to that one at once. Default: 2 s.
    #[schemars(extend("default" = "2s"))]
    pub failover_delay: Option<Span>,
    /// How waits are spread. Default: `full`.
    #[schemars(extend("default" = "full"))]
    pub jitter: Option<Jitter>,
    /// Whether a timeout is retried like any other failure, even where another tier is left. Default: once, and only where
    /// none is left.
    pub retry_timeouts: Option<bool>,
    /// How much of the traffic may be retries. Default: 10 %.
    #[schemars(extend("default" = "10%"))]
    pub budget: Option<Share>,
}

/// How a wait grows from one retry to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Growth {
    /// By a factor: 1 s, 2 s, 4 s.
    #[default]
    Exponential,
    /// By the first wait: 1 s, 2 s, 3 s.
    Linear,
    /// Not at all.
    #[serde(alias = "constant")]
    Fixed,
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
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CircuitBreaker {
    /// Opens after so many failures in a row; 0: never for that. Default: 5.
    #[schemars(extend("default" = 5))]
    pub consecutive_failures: Option<u32>,
    /// Opens when this share of the calls failed. Default: no such rule.
    pub failure_rate: Option<RateOver>,
    /// Opens when this share of the calls was slow. Default: no such rule.
    pub slow_calls: Option<SlowCalls>,
    /// How long it stays open before the first probe. Default: 60 s.
    #[schemars(extend("default" = "60s"))]
    pub cooldown: Option<Cooldown>,
    /// How many probes may be under way at once. Default: 1.
    #[schemars(extend("default" = 1), range(min = 1))]
    pub probes: Option<u32>,
    /// How many must succeed before it closes. Default: 1.
    #[schemars(extend("default" = 1), range(min = 1))]
    pub probe_successes: Option<u32>,
    /// How often it looks again when the quota is used up or the key refused. Default: 60 s.
    #[schemars(extend("default" = "60s"))]
    pub latch: Option<Span>,
    /// The longest time for which a `Retry-After` closes the tier off. Default: 5 min.
    #[schemars(extend("default" = "5m"))]
    pub max_throttle: Option<Span>,
    /// So many different requests in a row may be called invalid before the next tier is asked whether it sees the mistake too; 0: each
    /// is put to it. Default: 2.
    #[schemars(extend("default" = 2))]
    pub second_opinion_after: Option<u32>,
    /// From when on a call counts as a failure that its caller leaves before anything came. Default: never.
    pub abandoned_after: Option<Span>,
    /// What is asked of the provider, in one turn and for one token, before a single call's word is taken that the quota is used up or
    /// the key refused; `false`: it is taken at once. Default: `ping`.
    #[schemars(extend("default" = "ping"))]
    pub confirm: Option<Confirm>,
}

/// How it is found out that the quota is used up or the key refused, where one call says so.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text to ask with, such as `ping`, or `false`")]
pub enum Confirm {
    /// By asking this.
    Prompt(String),
    /// `true`: with the default. `false`: the call is believed.
    Switch(bool),
}

/// A cooldown: one span, or one that grows while probes fail.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema)]
#[schemars(untagged)]
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

impl Timeout {
    /// The default of `attempt`.
    pub(in crate::config) const ATTEMPT: Duration = Duration::from_secs(30);
}

impl<'de> Deserialize<'de> for TierTimeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let forms = "a span of time such as 30s, or a block of limits such as { attempt: 30s, idle: 20s }";
        Ok(match short_or_block(deserializer, forms)? {
            Either::Short(span) => Self::Attempt(span),
            Either::Block(limits) => Self::Limits(limits),
        })
    }
}

impl<'de> Deserialize<'de> for Cooldown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let forms = "a span of time such as 60s, or a block such as { first: 10s, factor: 2, longest: 5m }";
        Ok(match short_or_block(deserializer, forms)? {
            Either::Short(span) => Self::Fixed(span),
            Either::Block(growing) => Self::Growing(growing),
        })
    }
}
