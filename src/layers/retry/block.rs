//! The block `retry` of a configuration file.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Backoff, RetryBudget, RetryWithJitterLayer,
    policy::{FAILOVER_DELAY, MAX_ATTEMPTS, MAX_DELAY},
};
use crate::{
    Classifier, ErrorKind, InvalidConfig, classify,
    settings::{FaultReport, Share, Span},
};

/// The first wait if only the growth is set.
const BASE: Duration = Duration::from_millis(500);

/// Retries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// The most attempts, the first included; 1 means no retry. Default: 3. Where neither this nor `budget` is set, 2
    /// at a tier behind another model's, and where another model is left only a failure for which the provider names a
    /// time is retried.
    #[schemars(extend("default" = MAX_ATTEMPTS), range(min = 1))]
    pub max_attempts: Option<u16>,
    /// The first wait. Default: a schedule for each kind of failure; 500 ms if another field of the schedule is set.
    pub base: Option<Span>,
    /// The growth of the wait from one retry to the next. Default: `exponential`.
    #[schemars(extend("default" = Growth::default()))]
    pub backoff: Option<Growth>,
    /// The factor of `exponential`; 1 is a fixed wait. Default: 2.
    #[schemars(extend("default" = Backoff::FACTOR as u64), range(min = 1))]
    pub factor: Option<f64>,
    /// The longest wait. Default: 30 s.
    #[schemars(extend("default" = Span(MAX_DELAY).to_string()))]
    pub max_delay: Option<Span>,
    /// The longest wait while another tier with a model is left; a failure that needs a longer wait moves on to that
    /// tier at once. Default: 2 s.
    #[schemars(extend("default" = Span(FAILOVER_DELAY).to_string()))]
    pub failover_delay: Option<Span>,
    /// The distribution of waits. Default: `full`.
    #[schemars(extend("default" = Jitter::Full))]
    pub jitter: Option<Jitter>,
    /// Retries a timeout like any other failure, even if another tier is left. Default: once, and only if no other
    /// tier is left.
    pub retry_timeouts: Option<bool>,
    /// The largest share of the traffic that may be retries. Default: 10 %.
    #[schemars(extend("default" = Share(RetryBudget::RATIO).to_string()))]
    pub budget: Option<Share>,
}

/// The growth of a wait from one retry to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
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

impl Retry {
    /// Returns these settings, with the file's for those that are missing.
    #[doc(hidden)]
    pub fn or(self, file: Self) -> Self {
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

    /// Checks these settings for errors in meaning.
    #[doc(hidden)]
    pub fn check(&self, report: &mut impl FaultReport) {
        report.at_least_one("max_attempts", self.max_attempts.map(u64::from), ": 1 means no retry");
        report.nonzero_time("max_delay", self.max_delay);
        if let (Some(Span(here)), Some(Span(longest))) = (self.failover_delay, self.max_delay)
            && here > longest
        {
            report.wrong("failover_delay", "`failover_delay` is longer than `max_delay`, which limits every wait");
        }
        let Some(factor) = self.factor else { return };
        if !(factor.is_finite() && factor >= 1.0) {
            report.wrong("factor", format!("`factor` must be 1 or more, not {factor}: waits do not shrink"));
        } else if let Some(growth @ (Growth::Linear | Growth::Fixed)) = self.backoff {
            let growth = if growth == Growth::Linear { "linear" } else { "fixed" };
            report.wrong_key("factor", format!("a `{growth}` backoff has no factor"));
        }
    }

    /// Gives these settings to retries, except for the [`budget`].
    #[doc(hidden)]
    pub fn apply(&self, mut layer: RetryWithJitterLayer) -> RetryWithJitterLayer {
        let Self {
            max_attempts,
            base,
            backoff: growth,
            factor,
            max_delay,
            failover_delay,
            jitter,
            retry_timeouts,
            budget: _,
        } = *self;
        if let Some(attempts) = max_attempts {
            layer = layer.max_attempts(attempts);
        }
        if let Some(delay) = max_delay {
            layer = layer.max_delay(delay.0);
        }
        if let Some(delay) = failover_delay {
            layer = layer.failover_delay(delay.0);
        }
        let jitter = jitter.map(super::Jitter::from);
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
}

impl From<Jitter> for super::Jitter {
    fn from(jitter: Jitter) -> Self {
        match jitter {
            Jitter::Full => Self::Full,
            Jitter::Equal => Self::Equal,
            Jitter::Proportional => Self::Proportional(0.25),
            Jitter::Decorrelated => Self::Decorrelated,
            Jitter::None => Self::None,
        }
    }
}

/// Creates a budget for retries that are at most this share of the traffic.
///
/// # Errors
///
/// The share is no finite number, or less than zero.
pub fn budget(share: Option<Share>) -> Result<RetryBudget, InvalidConfig> {
    let Some(Share(share)) = share else { return Ok(RetryBudget::new()) };
    // A floor keeps retries possible in thin traffic; a share of zero means no retries.
    let floor = if share == 0.0 { 0.0 } else { 1.0 };
    RetryBudget::with_limits(share, floor, RetryBudget::CAP)
}
