//! The block `circuit_breaker` of a configuration file.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::settings::{Either, Share, Span, short_or_block};

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

impl CircuitBreaker {
    /// Returns these settings, with the other's for those that are missing.
    #[doc(hidden)]
    pub fn or(self, other: Self) -> Self {
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

impl<'de> Deserialize<'de> for Cooldown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let forms = "a span of time such as 60s, or a block such as { first: 10s, factor: 2, longest: 5m }";
        Ok(match short_or_block(deserializer, forms)? {
            Either::Short(span) => Self::Fixed(span),
            Either::Block(growing) => Self::Growing(growing),
        })
    }
}
