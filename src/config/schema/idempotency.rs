use schemars::JsonSchema;
use serde::Deserialize;

use super::{Size, Span};

/// One call for each idempotency key, however often its request is sent. Where the block is left out, keys are not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Idempotency {
    /// How long an answer is given again to whoever sends its key. Default: 24 h.
    #[schemars(extend("default" = "24h"))]
    pub ttl: Option<Span>,
    /// How long a call goes on when nobody waits for it any more: its late answer is kept for the retry. Default: 1 min.
    #[schemars(extend("default" = "1m"))]
    pub grace: Option<Span>,
    /// The room for answers; over it, those that were kept first go first. Default: 64 MiB of memory, or 1 GiB in a durable
    /// store.
    #[schemars(extend("default" = "64MiB"))]
    pub max_bytes: Option<Size>,
    /// Whether a request without a key gets one that is made of what it says. Default: no.
    #[schemars(extend("default" = false))]
    pub derive: bool,
}
