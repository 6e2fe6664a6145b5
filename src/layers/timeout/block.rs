//! The block `timeout` of a tier in a configuration file.

use std::{sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::{
    Silence, TimeoutLayer,
    layer::{CEILING, IDLE},
};
use crate::settings::{Either, FaultReport, Span, short_or_block};

/// The default limit for the first token of a model's stream, where the attempt's is longer: as long as a stream may be
/// silent later.
const FIRST_TOKEN: Duration = IDLE;
/// The same where the model thinks before, and the longest for a whole answer: as long as a stream may go without
/// content later.
const THINKING: Duration = CEILING;

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
    #[schemars(extend("default" = Span(Self::ATTEMPT).to_string()))]
    pub attempt: Option<Span>,
    /// The longest time to a stream's first token. Default: the `attempt`'s, and 60 s at most; 5 min where the request
    /// asks the model to reason, or the model does so unasked. Where no other tier is left, as `attempt`.
    pub first_token: Option<Span>,
    /// Abandons a call before its limit if it takes far longer than usual, another tier with a model is left, and
    /// other calls wait as long in vain. Default: `true`, unless `first_token` is set.
    #[schemars(extend("default" = true))]
    pub adaptive: Option<bool>,
    /// The longest silence in a stream, without even a keep-alive. Default: 60 s; where no other tier is left and
    /// `on_break` is `fail`, the 5 min that agents wait by themselves.
    pub idle: Option<Span>,
    /// The longest time in a stream without content and without keep-alives; an earlier keep-alive does not restart
    /// it. Default: as `idle`, and no more than `progress_ceiling`.
    pub progress: Option<Span>,
    /// The longest time in a stream without content while keep-alives arrive. Default: 5 min, or `progress` if that is
    /// longer.
    #[schemars(extend("default" = Span(CEILING).to_string()))]
    pub progress_ceiling: Option<Span>,
}

impl Timeout {
    /// The default of `attempt`.
    #[doc(hidden)]
    pub const ATTEMPT: Duration = Duration::from_secs(30);

    /// Checks these settings for errors in meaning.
    #[doc(hidden)]
    pub fn check(&self, report: &mut impl FaultReport) {
        report.nonzero_time("attempt", self.attempt);
        report.nonzero_time("first_token", self.first_token);
        report.nonzero_time("idle", self.idle);
        report.nonzero_time("progress", self.progress);
        report.nonzero_time("progress_ceiling", self.progress_ceiling);
    }

    /// Limits one attempt.
    #[doc(hidden)]
    pub fn attempt_layer(&self) -> TimeoutLayer {
        let Self { attempt, first_token, adaptive: _, idle, progress, progress_ceiling } = *self;
        let mut layer = TimeoutLayer::new(attempt.map_or(Self::ATTEMPT, |span| span.0));
        if let Some(first_token) = first_token {
            layer = layer.first_token(first_token.0);
        }
        if let Some(idle) = idle {
            layer = layer.idle(idle.0);
        }
        if let Some(progress) = progress {
            layer = layer.progress(progress.0, CEILING);
        }
        if let Some(ceiling) = progress_ceiling {
            layer = layer.ceiling(ceiling.0);
        }
        layer
    }

    /// Limits one attempt of a model, adaptively if the settings allow it. An explicit first-token limit replaces the
    /// adaptive one and the default. `thinks` is true for a model that reasons without being asked to. `repeats` is
    /// true where the file repeats an attempt whose time is over, so that the attempt must have an end of its own.
    #[doc(hidden)]
    pub fn adaptive_layer(&self, (thinks, repeats): (bool, bool), silence: &Arc<Silence>) -> TimeoutLayer {
        let mut layer = self.attempt_layer();
        if self.first_token.is_none() {
            // The attempt's own limit holds for thought too if somebody has set it.
            let thinking = self.attempt.map_or(THINKING, |attempt| attempt.0.min(THINKING));
            layer = layer.first_token(if thinks { THINKING } else { FIRST_TOKEN }).thinking(thinking);
        }
        if !repeats {
            if self.attempt.is_none() {
                layer = layer.long_answers(THINKING);
            }
            layer = layer.patient(self.attempt.map_or(Duration::MAX, |span| span.0));
            if let Some(first_token) = self.first_token {
                layer = layer.first_token(first_token.0);
            }
        }
        if self.adaptive.unwrap_or_else(|| self.first_token.is_none()) { layer.leaving(silence.clone()) } else { layer }
    }
}

#[doc(hidden)]
impl From<Option<TierTimeout>> for Timeout {
    fn from(timeout: Option<TierTimeout>) -> Self {
        match timeout {
            None => Self::default(),
            Some(TierTimeout::Attempt(span)) => Self { attempt: Some(span), ..Self::default() },
            Some(TierTimeout::Limits(limits)) => limits,
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
