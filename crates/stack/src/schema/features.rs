use std::{borrow::Cow, collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

use super::{FeatureCache, RecoveryCheck, Share, Span, Validate};
use steadfast::{
    CommitPoint, ErrorKind,
    settings::{Either, short_or_block},
};

/// The resources of a product feature.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Feature {
    /// The most concurrent requests; 0 closes the feature. Default: as many as `gateway.connections`, so that these and
    /// memory are the only limits.
    pub concurrency: Option<usize>,
    /// The most requests that may wait. Default: none.
    #[schemars(extend("default" = 0))]
    pub queue: Option<usize>,
    /// The longest wait of a request. Default: until the deadline.
    pub max_wait: Option<Span>,
    /// Requests per minute. Default: no limit.
    pub requests_per_minute: Option<Rate>,
    /// Tokens per minute, input and output. Default: no limit.
    pub tokens_per_minute: Option<Rate>,
    /// The tiers that may serve it, in order. Default: all, in the file's order.
    pub tiers: Option<Vec<String>>,
    /// The most degraded level that the feature accepts, from 1 (full) to 5 (static). Default: 5.
    #[schemars(extend("default" = 5), range(min = 1, max = 5))]
    pub worst_level: Option<u8>,
    /// The behaviour while every circuit that could serve it is open. Default: the file's `fallback.all_open`.
    pub all_open: Option<AllOpen>,
    /// The longest time to its first token. Default: the file's `timeout`.
    pub timeout: Option<Span>,
    /// The delivery of its streams. Default, for each field: the file's `stream`.
    pub stream: Stream,
    /// Allows second calls for it if a tier is late; set `false` if a call must not be doubled. Default: the tier's
    /// `hedge`.
    #[schemars(extend("default" = true))]
    pub hedge: Option<bool>,
    /// Validates its structured output against the schema. Default: the file's `validate`.
    pub validate: Option<Validate>,
    /// Keeps its answers in the cache, for the usual time or a time of its own. Default: the file's `cache`.
    #[schemars(extend("default" = "on"))]
    pub cache: Option<FeatureCache>,
}

/// The tiers that serve callers of a model name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelName {
    /// The tiers, in order. A request uses those of them that its feature allows. A matching rule of `routes` takes
    /// precedence.
    pub tiers: Vec<String>,
}

/// A rate per minute: a number, or a number with a burst.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// This rate per minute, with a burst of the same size.
    PerMinute(f64),
    /// This rate per minute, with a burst of another size.
    Burst {
        /// The rate per minute.
        per_minute: f64,
        /// The most at once.
        burst: u32,
    },
}

/// The delivery of streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Stream {
    /// The content that must arrive before the caller sees any of the answer; until then, a failure moves on to the
    /// next tier unseen. Default: its first token. `timeout` counts up to that point: with `complete` it covers the
    /// whole answer, while a tier's limits stay those of its first token and its silences.
    #[schemars(extend("default" = "first_token"))]
    pub commit: Option<CommitPoint>,
    /// The reaction to a stream that breaks after that. Default: `fail`.
    #[schemars(extend("default" = "fail"))]
    pub on_break: Option<StreamBreak>,
    /// The way in which a model learns where it goes on, with `on_break: continue`.
    #[serde(rename = "continue")]
    pub going_on: Option<GoingOn>,
}

/// The reaction to a broken stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamBreak {
    /// The reader receives the error.
    Fail,
    /// A mark tells the reader to discard the earlier content, and the next tier's whole answer follows.
    Restart,
    /// Another call goes on with the text where it ends: tiers of the same model first, at tiers with `prefill`. After
    /// a call of a tool has begun, and for JSON, the reader receives the error.
    Continue,
    /// Answers are held back until they are complete.
    Buffer,
}

/// The way in which a model learns where it goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GoingOn {
    /// `prompt`: models without `prefill` too, which a turn of the user's tells to go on, where the request has no
    /// tools. Default: `prefill`.
    pub by: GoesOnBy,
}

/// The ways in which a model learns where it goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GoesOnBy {
    /// By a last turn of the assistant's.
    #[default]
    Prefill,
    /// By a turn of the user's.
    Prompt,
}

/// The order of the tiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TierOrder {
    /// The file's.
    #[default]
    File,
    /// All tiers of a model before any tier of the next one. Tiers of one model keep the file's order, and so do the
    /// models by their first tiers. A list of tiers in a feature, a model name or a route keeps its own order.
    SameModel,
}

/// Reads a block, or an order in its place.
pub(super) fn fallback<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Fallback, D::Error> {
    let forms = "`same_model`, or a block such as { session: sticky, order: same_model }";
    Ok(match short_or_block(deserializer, forms)? {
        Either::Short(order) => Fallback { order: Some(order), ..Fallback::default() },
        Either::Block(fallback) => fallback,
    })
}

pub(super) fn fallback_schema(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [generator.subschema_for::<TierOrder>(), generator.subschema_for::<Fallback>()],
    })
}

/// The rules by which one tier follows another.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fallback {
    /// The order of the tiers. Default: `file`.
    #[schemars(extend("default" = "file"))]
    pub order: Option<TierOrder>,
    /// The time before the deadline that is reserved for the tiers after the current one. Default: 10 s.
    #[schemars(extend("default" = "10s"))]
    pub keep_back: Option<Span>,
    /// The least time before the deadline for which a tier is started. Default: 100 ms.
    #[schemars(extend("default" = "100ms"))]
    pub min_useful: Option<Span>,
    /// The largest share of the traffic that may be calls to further tiers after a failure. Default: no limit.
    pub budget: Option<Share>,
    /// The effect of a switch of tiers on a session. Default: `free`.
    #[schemars(extend("default" = "free"))]
    pub session: Option<Session>,
    /// The behaviour while every circuit is open. Default: `fail`.
    #[schemars(extend("default" = "fail"))]
    pub all_open: Option<AllOpen>,
    /// The steps in which traffic returns to a recovered primary. Default: at once.
    pub gradually: Vec<RampStep>,
    /// The tiers for failures of a kind, such as `context_length: [large]`.
    #[schemars(transform = kinds_for_keys)]
    pub routes: BTreeMap<String, Vec<String>>,
    /// The only failures that move on to the next tier: names of kinds (`timeout`, `overloaded`) or HTTP statuses. A
    /// status covers its class of failure in every provider's spelling: 429 and 503 cover 529 too, and 500 covers 520.
    /// Default: all failures that another tier can help with.
    pub on_error: Option<Vec<OnError>>,
    /// The check whether the primary works again. Default: a caller's request, after the circuit breaker's cooldown.
    pub recovery_check: Option<RecoveryCheck>,
}

/// A failure by its HTTP status or by its kind's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnError {
    /// An HTTP status.
    Status(u16),
    /// A kind, such as `timeout`.
    Kind(String),
    /// `own_timeout`: one of this stack's own time limits ran out. Unlike the kind `timeout`, it excludes timeouts
    /// that a provider reports with a status (408, 504).
    OwnTimeout,
}

/// The effect of a switch of tiers on a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Session {
    /// Every request takes the best tier.
    Free,
    /// A session stays with the tier that first answered it, or fails.
    Pin,
    /// A switched session stays switched.
    Sticky,
}

/// The behaviour while every circuit is open.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AllOpen {
    /// The request fails at once, or waits for a probe that is due within a second.
    Fail,
    /// The request waits for the earliest probe, at most this long.
    Wait(Span),
    /// The request is queued until a tier works again, at most this long. It tries again at each probe, and also after
    /// failures that opened no circuit. Use it for a feature whose `worst_level` excludes lesser tiers. With `stores:
    /// { durable }` the request then becomes a task, and its caller receives the task's id; as soon as a model works,
    /// it answers the task, even after a restart. This does not apply if the file has a tier of people and no
    /// `handoff: { redrive }`.
    Queue(Span),
}

/// A step of a gradual return.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RampStep {
    /// The share of the traffic, in percent.
    #[schemars(range(min = 1, max = 100))]
    pub percent: u8,
    /// The duration of the step.
    pub lasts: Span,
}

/// A rate with a burst, in the file's spelling.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Burst {
    /// The rate per minute.
    #[schemars(range(min = 0))]
    per_minute: f64,
    /// The most at once.
    burst: u32,
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(
            match short_or_block(
                deserializer,
                "a number in a minute, or a block such as { per_minute: 60, burst: 10 }",
            )? {
                Either::Short(number) => Self::PerMinute(number),
                Either::Block(Burst { per_minute, burst }) => Self::Burst { per_minute, burst },
            },
        )
    }
}

const OWN_TIMEOUT: &str = "own_timeout";

impl OnError {
    /// Returns the words for failures.
    pub(crate) fn words() -> impl Iterator<Item = &'static str> {
        ErrorKind::ALL.iter().map(|kind| kind.name()).chain([OWN_TIMEOUT])
    }
}

impl<'de> Deserialize<'de> for OnError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl Visitor<'_> for Names {
            type Value = OnError;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an HTTP status such as 503, or a kind of failure such as `timeout`")
            }

            fn visit_u64<E: Error>(self, status: u64) -> Result<OnError, E> {
                let status =
                    u16::try_from(status).map_err(|_| E::invalid_value(Unexpected::Unsigned(status), &self))?;
                Ok(OnError::Status(status))
            }

            fn visit_str<E: Error>(self, kind: &str) -> Result<OnError, E> {
                Ok(if kind == OWN_TIMEOUT { OnError::OwnTimeout } else { OnError::Kind(kind.to_owned()) })
            }
        }

        deserializer.deserialize_any(Names)
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A rate per minute: a number, or a number with a burst.",
            "anyOf": [{ "type": "number", "minimum": 0 }, generator.subschema_for::<Burst>()],
        })
    }
}

impl JsonSchema for OnError {
    fn schema_name() -> Cow<'static, str> {
        "OnError".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let kinds: Vec<&str> = Self::words().collect();
        json_schema!({
            "description": "A failure by its HTTP status, or by its kind; `own_timeout` is a timeout without a status.",
            "anyOf": [{ "type": "integer", "minimum": 400, "maximum": 599 }, { "enum": kinds }],
        })
    }
}

/// Restricts a block's keys to kinds of failure.
fn kinds_for_keys(schema: &mut Schema) {
    let kinds: Vec<&str> = ErrorKind::ALL.iter().map(|kind| kind.name()).collect();
    schema.insert("propertyNames".to_owned(), serde_json::json!({ "enum": kinds }));
}
