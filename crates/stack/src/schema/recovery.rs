use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::{Cooldown, Span};
use steadfast::settings::{Either, short_or_block};

/// The check whether the primary works again: its interval, or its interval and method.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(untagged)]
pub enum RecoveryCheck {
    /// With this interval, by the next request.
    Every(Span),
    /// With each setting by its name.
    Settings(RecoverySettings),
}

/// The check whether the primary works again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecoverySettings {
    /// The interval. Default: the circuit breaker's cooldown.
    pub every: Option<Span>,
    /// Checks failed tiers without waiting for a caller's request, so that the status recovers and the time on a
    /// fallback ends by themselves. Default: no; yes in the imported forms.
    #[schemars(extend("default" = false))]
    pub active: bool,
    /// The prompt of the check, with an answer of a few tokens. Default: `ping`.
    #[schemars(extend("default" = "ping"))]
    pub probe_with: Option<String>,
}

impl RecoveryCheck {
    /// The interval for a tier whose circuit breaker has no cooldown of its own.
    const EVERY: Duration = Duration::from_secs(60);

    /// Returns the interval that the file sets.
    pub(crate) fn every(&self) -> Option<Span> {
        match self {
            Self::Every(every) => Some(*every),
            Self::Settings(settings) => settings.every,
        }
    }

    /// Returns the settings of the active check, if it is on.
    pub(crate) fn active(&self) -> Option<&RecoverySettings> {
        match self {
            Self::Every(_) => None,
            Self::Settings(settings) => Some(settings).filter(|settings| settings.active),
        }
    }
}

impl RecoverySettings {
    /// Returns the interval of the checks, for a circuit breaker with this cooldown.
    pub(crate) fn interval(&self, cooldown: Option<Cooldown>) -> Duration {
        let cooldown = cooldown.map(|cooldown| match cooldown {
            Cooldown::Fixed(span) => span,
            Cooldown::Growing(growing) => growing.first,
        });
        self.every.or(cooldown).map_or(RecoveryCheck::EVERY, |span| span.0)
    }
}

impl<'de> Deserialize<'de> for RecoveryCheck {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let forms = "a span of time such as 60s, or a block such as { every: 60s, active: true }";
        Ok(match short_or_block(deserializer, forms)? {
            Either::Short(span) => Self::Every(span),
            Either::Block(settings) => Self::Settings(settings),
        })
    }
}
