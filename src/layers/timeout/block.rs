//! The block `timeout` of a tier in a configuration file.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::settings::{Either, Span, short_or_block};

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

impl Timeout {
    /// The default of `attempt`.
    #[doc(hidden)]
    pub const ATTEMPT: Duration = Duration::from_secs(30);
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
