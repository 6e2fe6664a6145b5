//! The block `circuit_breaker` of a configuration file.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use tower::Service;

use super::{CircuitBreakerLayer, Window, settings::Settings};
use crate::{
    InvalidConfig, LlmError, LlmRequest, LlmResponse,
    settings::{Either, FaultReport, Share, Span, short_or_block},
};

/// The default prompt of a confirmation.
const PROMPT: &str = "ping";

/// A circuit breaker.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CircuitBreaker {
    /// Opens after this many consecutive failures; 0 disables the rule. Default: 5.
    #[schemars(extend("default" = Settings::default().consecutive_failures))]
    pub consecutive_failures: Option<u32>,
    /// Opens when this share of the calls failed. Default: no such rule.
    pub failure_rate: Option<RateOver>,
    /// Opens when this share of the calls was slow. Default: no such rule.
    pub slow_calls: Option<SlowCalls>,
    /// The time for which it stays open before the first probe. Default: 1, 2, 4, then 8 s; longer where a provider
    /// is silent.
    pub cooldown: Option<Cooldown>,
    /// The most concurrent probes. Default: 1.
    #[schemars(extend("default" = Settings::default().probes), range(min = 1))]
    pub probes: Option<u32>,
    /// The successful probes that close it. Default: 1.
    #[schemars(extend("default" = Settings::default().successes), range(min = 1))]
    pub probe_successes: Option<u32>,
    /// The interval of checks after a used-up quota or a refused key. Default: 60 s.
    #[schemars(extend("default" = Span(Settings::default().latch).to_string()))]
    pub latch: Option<Span>,
    /// The longest time for which a `Retry-After` may close the tier to requests. Default: 5 min.
    #[schemars(extend("default" = Span(Settings::default().max_throttle).to_string()))]
    pub max_throttle: Option<Span>,
    /// The number of different requests in a row that a provider may call invalid before the next tier is asked for a
    /// second opinion; 0 asks it for each. Default: 2.
    #[schemars(extend("default" = Settings::default().second_opinion_after))]
    pub second_opinion_after: Option<u32>,
    /// The time after which a call counts as a failure if its caller leaves before any content. Default: never.
    pub abandoned_after: Option<Span>,
    /// The prompt, with a single-token answer, that confirms a used-up quota or a refused key before one call's error
    /// is believed; `false` believes it at once. Default: `ping`.
    #[schemars(extend("default" = PROMPT))]
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

    /// Checks these settings for errors in meaning.
    #[doc(hidden)]
    pub fn check(&self, report: &mut impl FaultReport) {
        let mut window = |key, calls: Option<u32>, span: Option<Span>, min_calls: Option<u32>| {
            report.within(key, |report| {
                report.at_least_one("calls", calls.map(u64::from), "");
                report.nonzero_time("span", span);
                match (calls, span) {
                    (None, None) => report.wrong_here("a window is missing here; give either `calls` or `span`"),
                    (Some(_), Some(_)) => {
                        report.wrong_key("span", "give either `calls` or `span`, not both");
                    }
                    (Some(calls), None) if min_calls.is_some_and(|least| least > calls) => {
                        let message = format!("`min_calls` exceeds the window of {calls} calls");
                        report.wrong("min_calls", message);
                    }
                    _ => {}
                }
            });
        };
        if let Some(rule) = self.failure_rate {
            window("failure_rate", rule.calls, rule.span, rule.min_calls);
        }
        if let Some(rule) = self.slow_calls {
            window("slow_calls", rule.calls, rule.span, rule.min_calls);
        }
        match self.cooldown {
            Some(Cooldown::Fixed(span)) => report.nonzero_time("cooldown", Some(span)),
            Some(Cooldown::Growing(growing)) => report.within("cooldown", |report| {
                report.nonzero_time("first", Some(growing.first));
                if !(growing.factor.is_finite() && growing.factor >= 1.0) {
                    let message =
                        format!("`factor` must be 1 or more, not {}: a cooldown does not shrink", growing.factor);
                    report.wrong("factor", message);
                }
                if growing.longest < growing.first {
                    report.wrong("longest", "the longest cooldown is shorter than the first");
                }
            }),
            None => {}
        }
        let never = ": without a probe a circuit never closes";
        report.at_least_one("probes", self.probes.map(u64::from), never);
        report.at_least_one("probe_successes", self.probe_successes.map(u64::from), "");
        report.nonzero_time("latch", self.latch);
        report.nonzero_time("abandoned_after", self.abandoned_after);
        if let Some(Confirm::Prompt(text)) = &self.confirm
            && text.trim().is_empty()
        {
            report.wrong("confirm", "the prompt is empty; give a text to ask with, or `false` to believe every call");
        }
    }

    /// Gives these settings to a circuit, except for the [confirmation](Self::apply_confirmation).
    ///
    /// # Errors
    ///
    /// A window has both bounds, or neither.
    #[doc(hidden)]
    pub fn apply(&self, mut layer: CircuitBreakerLayer) -> Result<CircuitBreakerLayer, InvalidConfig> {
        let Self {
            consecutive_failures,
            failure_rate,
            slow_calls,
            cooldown,
            probes,
            probe_successes,
            latch,
            max_throttle,
            second_opinion_after,
            abandoned_after,
            confirm: _,
        } = *self;
        if let Some(failures) = consecutive_failures {
            layer = layer.consecutive_failures(failures);
        }
        if let Some(rule) = failure_rate {
            let window = window("failure_rate", rule.calls, rule.span, rule.min_calls)?;
            layer = layer.failure_rate(rule.share.0, window);
        }
        if let Some(rule) = slow_calls {
            let window = window("slow_calls", rule.calls, rule.span, rule.min_calls)?;
            layer = layer.slow_calls(rule.after.0, rule.share.0, window);
        }
        match cooldown {
            None => {}
            Some(Cooldown::Fixed(cooldown)) => layer = layer.cooldown(cooldown.0),
            Some(Cooldown::Growing(growing)) => {
                layer = layer.cooldown(growing.first.0).cooldown_growth(growing.factor, growing.longest.0);
            }
        }
        if let Some(probes) = probes {
            layer = layer.probes(probes);
        }
        if let Some(successes) = probe_successes {
            layer = layer.probe_successes(successes);
        }
        if let Some(latch) = latch {
            layer = layer.latch(latch.0);
        }
        if let Some(longest) = max_throttle {
            layer = layer.max_throttle(longest.0);
        }
        if let Some(believed) = second_opinion_after {
            layer = layer.second_opinion_after(believed);
        }
        if let Some(time) = abandoned_after {
            layer = layer.abandoned_after(time.0);
        }
        Ok(layer)
    }

    /// Configures the confirmation of a used-up quota or a refused key, which one caller could otherwise fake: the
    /// circuit asks `service`, if it is a model.
    #[doc(hidden)]
    pub fn apply_confirmation<S>(&self, layer: CircuitBreakerLayer, service: Option<S>) -> CircuitBreakerLayer
    where
        S: Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + 'static,
    {
        let prompt = match &self.confirm {
            Some(Confirm::Switch(false)) => return layer.without_confirmation(),
            Some(Confirm::Prompt(prompt)) => prompt,
            None | Some(Confirm::Switch(true)) => PROMPT,
        };
        match service {
            Some(service) => layer.confirm_with(service, LlmRequest::prompt(prompt).with_max_tokens(1)),
            None => layer,
        }
    }
}

fn window(
    rule: &'static str,
    calls: Option<u32>,
    span: Option<Span>,
    min_calls: Option<u32>,
) -> Result<Window, InvalidConfig> {
    let window = match (calls, span) {
        (Some(calls), None) => Window::last_calls(calls),
        (None, Some(span)) => Window::last(span.0),
        _ => return Err(InvalidConfig::new(rule, "give either `calls` or `span`")),
    };
    Ok(min_calls.map_or(window, |calls| window.minimum_calls(calls)))
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
