use schemars::JsonSchema;
use serde::Deserialize;

use super::{Size, Span};

/// One call for each idempotency key, however often its request is sent. Without this block, keys are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Idempotency {
    /// The time for which an answer is repeated for its key. Default: 24 h.
    #[schemars(extend("default" = "24h"))]
    pub ttl: Option<Span>,
    /// The time for which a call continues after its last caller has left, to keep its late answer for a retry.
    /// Default: 1 min.
    #[schemars(extend("default" = "1m"))]
    pub grace: Option<Span>,
    /// The room for answers; over it, the oldest are removed first. Default: 64 MiB of memory, or 1 GiB in a durable
    /// store.
    #[schemars(extend("default" = "64MiB"))]
    pub max_bytes: Option<Size>,
    /// Derives a key from the content of a request that has none. Default: no.
    #[schemars(extend("default" = false))]
    pub derive: bool,
}
