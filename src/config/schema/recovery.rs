use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::{
    Cooldown, Span,
    either::{Either, short_or_block},
};

/// How it is found out that the primary works again: how often it is looked at, or that and by what.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(untagged)]
pub enum RecoveryCheck {
    /// So often, by the next request.
    Every(Span),
    /// Each by its name.
    Settings(RecoverySettings),
}

/// How it is found out that the primary works again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecoverySettings {
    /// How often. Default: the circuit breaker's cooldown.
    pub every: Option<Span>,
    /// Whether tiers that failed are asked without waiting for a request: so that the status and the time on a fallback end by
    /// themselves. Default: no; yes in the imported forms.
    #[schemars(extend("default" = false))]
    pub active: bool,
    /// What they are asked then, in one turn and for a few tokens. Default: `ping`.
    #[schemars(extend("default" = "ping"))]
    pub probe_with: Option<String>,
}

impl RecoveryCheck {
    /// How often a tier is looked at whose circuit breaker has no cooldown of its own.
    const EVERY: Duration = Duration::from_secs(60);

    /// What is said of how often.
    pub(in crate::config) fn every(&self) -> Option<Span> {
        match self {
            Self::Every(every) => Some(*every),
            Self::Settings(settings) => settings.every,
        }
    }

    /// What is said of asking without a request, where that is wanted.
    pub(in crate::config) fn active(&self) -> Option<&RecoverySettings> {
        match self {
            Self::Every(_) => None,
            Self::Settings(settings) => Some(settings).filter(|settings| settings.active),
        }
    }
}

impl RecoverySettings {
    /// How often tiers are asked, beside a circuit breaker with this cooldown.
    pub(in crate::config) fn interval(&self, cooldown: Option<Cooldown>) -> Duration {
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
