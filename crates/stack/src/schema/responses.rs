use schemars::JsonSchema;
use serde::Deserialize;

use super::{Size, Span};

/// The responses that the gateway keeps for callers of `/v1/responses`, in the durable store. With `keep`,
/// `previous_response_id` survives a failover to any tier, and callers read and delete their responses by id. A request
/// with `store: false` keeps nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Responses {
    /// The time for which a response is kept, from the last response that continues it. Default: none is kept.
    pub keep: Option<Span>,
    /// The largest response that is kept, with the items of its request. Default: 16 MiB.
    #[schemars(extend("default" = "16MiB"))]
    pub max_response: Option<Size>,
    /// The room for the responses of each key; over it, its oldest are removed first. Default: 256 MiB.
    #[schemars(extend("default" = "256MiB"))]
    pub max_bytes: Option<Size>,
}
