use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::{Share, Span};
use steadfast::settings::{Either, short_or_block};

/// The time limits of one attempt: one span, or each limit by its name.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema)]
#[schemars(untagged)]
pub enum TierTimeout {
    /// Only the time to the first token.
    Attempt(Span),
    /// Each limit by its name.
    Limits(Timeout),
}

/// The time limits of one attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeout {
    /// The longest time to the response; for a stream, to its first token. Default: 30 s; 5 min for a request that asks
    /// the model to reason, for pictures and for sound; for a whole answer of more than 1,000 `max_tokens` 28 ms each,
    /// up to 5 min; where no other tier is left, all the time until the request's own `timeout`.
    #[schemars(extend("default" = "30s"))]
    pub attempt: Option<Span>,
    /// The longest time to a stream's first token. Default: the `attempt`'s, and 60 s at most; 5 min where the request
    /// asks the model to reason, or the model does so unasked. Where no other tier is left, as `attempt`.
    pub first_token: Option<Span>,
    /// Abandons a call before its limit if it takes far longer than usual, another tier with a model is left, and
    /// other calls wait as long in vain. Default: `true`, unless `first_token` is set.
    #[schemars(extend("default" = true))]
    pub adaptive: Option<bool>,
    /// The longest silence in a stream, without even a keep-alive. Default: 60 s.
    #[schemars(extend("default" = "60s"))]
    pub idle: Option<Span>,
    /// The longest time in a stream without content and without keep-alives; an earlier keep-alive does not restart
    /// it. Default: 60 s.
    #[schemars(extend("default" = "60s"))]
    pub progress: Option<Span>,
    /// The longest time in a stream without content while keep-alives arrive. Default: 5 min, or `progress` if that is
    /// longer.
    #[schemars(extend("default" = "5m"))]
    pub progress_ceiling: Option<Span>,
}

/// Retries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// The most attempts, the first included; 1 means no retry. Default: 3. Where neither this nor `budget` is set, 2
    /// at a tier behind another model's, and where another model is left only a failure for which the provider names a
    /// time is retried.
    #[schemars(extend("default" = 3), range(min = 1))]
    pub max_attempts: Option<u16>,
    /// The first wait. Default: a schedule for each kind of failure; 500 ms if another field of the schedule is set.
    pub base: Option<Span>,
    /// The growth of the wait from one retry to the next. Default: `exponential`.
    #[schemars(extend("default" = "exponential"))]
    pub backoff: Option<Growth>,
    /// The factor of `exponential`; 1 is a fixed wait. Default: 2.
    #[schemars(extend("default" = 2), range(min = 1))]
    pub factor: Option<f64>,
    /// The longest wait. Default: 30 s.
    #[schemars(extend("default" = "30s"))]
    pub max_delay: Option<Span>,
    /// The longest wait while another tier with a model is left; a failure that needs a longer wait moves on to that
    /// tier at once. Default: 2 s.
    #[schemars(extend("default" = "2s"))]
    pub failover_delay: Option<Span>,
    /// The distribution of waits. Default: `full`.
    #[schemars(extend("default" = "full"))]
    pub jitter: Option<Jitter>,
    /// Retries a timeout like any other failure, even if another tier is left. Default: once, and only if no other
    /// tier is left.
    pub retry_timeouts: Option<bool>,
    /// The largest share of the traffic that may be retries. Default: 10 %.
    #[schemars(extend("default" = "10%"))]
    pub budget: Option<Share>,
}

/// The growth of a wait from one retry to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Growth {
    /// By a factor: 1 s, 2 s, 4 s.
    #[default]
    Exponential,
    /// By the first wait: 1 s, 2 s, 3 s.
    Linear,
    /// No growth.
    #[serde(alias = "constant")]
    Fixed,
}

/// The distribution of waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// Anywhere between zero and the wait.
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
    /// Opens after this many consecutive failures; 0 disables the rule. Default: 5.
    #[schemars(extend("default" = 5))]
    pub consecutive_failures: Option<u32>,
    /// Opens when this share of the calls failed. Default: no such rule.
    pub failure_rate: Option<RateOver>,
    /// Opens when this share of the calls was slow. Default: no such rule.
    pub slow_calls: Option<SlowCalls>,
    /// The time for which it stays open before the first probe. Default: 1, 2, 4, then 8 s; longer where a provider
    /// is silent.
    pub cooldown: Option<Cooldown>,
    /// The most concurrent probes. Default: 1.
    #[schemars(extend("default" = 1), range(min = 1))]
    pub probes: Option<u32>,
    /// The successful probes that close it. Default: 1.
    #[schemars(extend("default" = 1), range(min = 1))]
    pub probe_successes: Option<u32>,
    /// The interval of checks after a used-up quota or a refused key. Default: 60 s.
    #[schemars(extend("default" = "60s"))]
    pub latch: Option<Span>,
    /// The longest time for which a `Retry-After` may close the tier to requests. Default: 5 min.
    #[schemars(extend("default" = "5m"))]
    pub max_throttle: Option<Span>,
    /// The number of different requests in a row that a provider may call invalid before the next tier is asked for a
    /// second opinion; 0 asks it for each. Default: 2.
    #[schemars(extend("default" = 2))]
    pub second_opinion_after: Option<u32>,
    /// The time after which a call counts as a failure if its caller leaves before any content. Default: never.
    pub abandoned_after: Option<Span>,
    /// The prompt, with a single-token answer, that confirms a used-up quota or a refused key before one call's error
    /// is believed; `false` believes it at once. Default: `ping`.
    #[schemars(extend("default" = "ping"))]
    pub confirm: Option<Confirm>,
}

/// The confirmation of a used-up quota or a refused key after one call reports it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text to ask with, such as `ping`, or `false`")]
pub enum Confirm {
    /// Confirms with this prompt.
    Prompt(String),
    /// `true`: confirms with the default prompt. `false`: believes the call.
    Switch(bool),
}

/// A cooldown: one span, or one that grows while probes fail.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema)]
#[schemars(untagged)]
pub enum Cooldown {
    /// A constant cooldown.
    Fixed(Span),
    /// A growing cooldown.
    Growing(GrowingCooldown),
}

/// A cooldown that grows while probes fail.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrowingCooldown {
    /// The first cooldown.
    pub first: Span,
    /// The factor from one to the next.
    pub factor: f64,
    /// The longest cooldown.
    pub longest: Span,
}

/// A share of failures over a window.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateOver {
    /// The share.
    pub share: Share,
    /// The window in calls; set either `calls` or `span`.
    pub calls: Option<u32>,
    /// The window in time.
    pub span: Option<Span>,
    /// The fewest calls for the share to count.
    pub min_calls: Option<u32>,
}

/// A share of slow calls over a window.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlowCalls {
    /// The time to the response from which on a call is slow.
    pub after: Span,
    /// The share of slow calls.
    pub share: Share,
    /// The window in calls; set either `calls` or `span`.
    pub calls: Option<u32>,
    /// The window in time.
    pub span: Option<Span>,
    /// The fewest calls for the share to count.
    pub min_calls: Option<u32>,
}

impl Timeout {
    /// The default of `attempt`.
    pub(crate) const ATTEMPT: Duration = Duration::from_secs(30);
}

impl Retry {
    /// Returns these settings, with the file's for those that are missing.
    pub(crate) fn or(self, file: Self) -> Self {
        Self {
            max_attempts: self.max_attempts.or(file.max_attempts),
            base: self.base.or(file.base),
            backoff: self.backoff.or(file.backoff),
            factor: self.factor.or(file.factor),
            max_delay: self.max_delay.or(file.max_delay),
            failover_delay: self.failover_delay.or(file.failover_delay),
            jitter: self.jitter.or(file.jitter),
            retry_timeouts: self.retry_timeouts.or(file.retry_timeouts),
            budget: self.budget.or(file.budget),
        }
    }
}

impl CircuitBreaker {
    /// Returns these settings, with the other's for those that are missing.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            consecutive_failures: self.consecutive_failures.or(other.consecutive_failures),
            failure_rate: self.failure_rate.or(other.failure_rate),
            slow_calls: self.slow_calls.or(other.slow_calls),
            cooldown: self.cooldown.or(other.cooldown),
            probes: self.probes.or(other.probes),
            probe_successes: self.probe_successes.or(other.probe_successes),
            latch: self.latch.or(other.latch),
            max_throttle: self.max_throttle.or(other.max_throttle),
            second_opinion_after: self.second_opinion_after.or(other.second_opinion_after),
            abandoned_after: self.abandoned_after.or(other.abandoned_after),
            confirm: self.confirm.or(other.confirm),
        }
    }
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
