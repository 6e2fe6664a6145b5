//! The names of spans and attributes. Those that begin with `gen_ai.` follow the OpenTelemetry semantic conventions for
//! generative AI, which are in development: a change there is a change here.

/// The operation of all calls here.
pub const CHAT: &str = "chat";
/// The name of a request's span.
pub const REQUEST: &str = "steadfast.request";
/// The event of a call that was refused before sending.
pub const REFUSED: &str = "steadfast.refused";

/// The operation: [`CHAT`].
pub const OPERATION: &str = "gen_ai.operation.name";
/// The provider, by the conventions' name.
pub const PROVIDER: &str = "gen_ai.provider.name";
/// The model that was asked.
pub const REQUEST_MODEL: &str = "gen_ai.request.model";
/// The model that answered.
pub const RESPONSE_MODEL: &str = "gen_ai.response.model";
/// The input tokens.
pub const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
/// The output tokens.
pub const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
/// Seconds from the start of a streamed call to its first token.
pub const FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";
/// The kind of a failure.
pub const ERROR: &str = "error.type";
/// The HTTP status of a failure.
pub const STATUS: &str = "http.response.status_code";

/// The feature that made the request.
pub const FEATURE: &str = "steadfast.feature";
/// The tier that served or was called.
pub const TIER: &str = "steadfast.tier";
/// The request's outcome: `answered`, `failed`, `broken`, `abandoned`.
pub const OUTCOME: &str = "steadfast.outcome";
/// The number of calls sent.
pub const ATTEMPTS: &str = "steadfast.attempts";
/// A call's number within its request, from 1.
pub const ATTEMPT_NUMBER: &str = "steadfast.attempt.number";
/// The next step after a failed call, and why.
pub const NEXT: &str = "steadfast.attempt.next";
/// True if the answer was a stream.
pub const STREAM: &str = "steadfast.stream";
/// The number of non-empty frames that the caller received of a broken stream.
pub const DELIVERED_FRAMES: &str = "steadfast.delivered.frames";
/// The number of characters of text in them.
pub const DELIVERED_CHARACTERS: &str = "steadfast.delivered.characters";
/// True if the answer was degraded.
pub const DEGRADED: &str = "steadfast.degraded";
/// The level of service of a degraded answer, from 2 to 5.
pub const DEGRADED_LEVEL: &str = "steadfast.degraded.level";
/// The reason for the level: a kind of failure, or an order.
pub const DEGRADED_REASON: &str = "steadfast.degraded.reason";
/// The rule that chose a cheaper chain.
pub const ROUTE: &str = "steadfast.route";
/// The cost of the answer, in US dollars.
pub const COST: &str = "steadfast.cost";
