use std::{borrow::Cow, collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

use super::{
    FeatureCache, RecoveryCheck, Share, Span, Validate,
    either::{Either, short_or_block},
};
use crate::{CommitPoint, ErrorKind};

/// What a feature of the product may use.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Feature {
    /// How many of its requests may be under way at once; 0 closes it. Default: 100.
    #[schemars(extend("default" = 100))]
    pub concurrency: Option<usize>,
    /// How many more may wait. Default: none.
    #[schemars(extend("default" = 0))]
    pub queue: Option<usize>,
    /// How long one may wait. Default: until the deadline.
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
    /// What happens when every circuit is open that could serve it. Default: as the file's `fallback.all_open` says.
    pub all_open: Option<AllOpen>,
    /// The longest time to its first token. Default: the file's `timeout`.
    pub timeout: Option<Span>,
    /// How its streams are handed on. Default: as the file's `stream` says, each field by itself.
    pub stream: Stream,
    /// Whether a tier that is late may be hedged with a second call for it; not where a call must not be doubled. Default: as the
    /// tier's `hedge` says.
    #[schemars(extend("default" = true))]
    pub hedge: Option<bool>,
    /// Whether its structured output is held to its schema. Default: as the file's `validate` says.
    pub validate: Option<Validate>,
    /// Whether its answers are kept, or for how long. Default: as the file's `cache` says.
    #[schemars(extend("default" = "on"))]
    pub cache: Option<FeatureCache>,
}

/// Who serves callers that name a model.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelName {
    /// The tiers, in order. Of these, a request has those that its feature may use; a rule of `routes` that fits it comes
    /// first.
    pub tiers: Vec<String>,
}

/// How much in a minute: a number, or a number and how much of it at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// So much in a minute, and as much at once.
    PerMinute(f64),
    /// So much in a minute, and so much at once.
    Burst {
        /// In a minute.
        per_minute: f64,
        /// At once.
        burst: u32,
    },
}

/// How streams are handed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Stream {
    /// What must be there before the caller sees anything of an answer; until then a failure goes to the next tier unseen.
    /// Default: its first token. Up to that point `timeout` counts: with `complete` it is for the whole answer, while the
    /// limits of a tier stay those of its first token and of its silences.
    #[schemars(extend("default" = "first_token"))]
    pub commit: Option<CommitPoint>,
    /// What happens when a stream breaks after that. Default: `fail`.
    #[schemars(extend("default" = "fail"))]
    pub on_break: Option<StreamBreak>,
}

/// What happens when a stream breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamBreak {
    /// The reader gets the error.
    Fail,
    /// The next tier's whole answer follows a mark that tells the reader to discard what came before.
    Restart,
    /// Answers are held back until they are whole.
    Buffer,
}

/// How one tier follows another.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fallback {
    /// The time before the deadline that is kept back for the tiers after the one that is asked. Default: 10 s.
    #[schemars(extend("default" = "10s"))]
    pub keep_back: Option<Span>,
    /// The least time before the deadline that makes it worth beginning a tier. Default: 100 ms.
    #[schemars(extend("default" = "100ms"))]
    pub min_useful: Option<Span>,
    /// How much of the traffic may be calls to further tiers after one that failed. Default: no limit.
    pub budget: Option<Share>,
    /// What a session may see of a switch. Default: `free`.
    #[schemars(extend("default" = "free"))]
    pub session: Option<Session>,
    /// What happens when every circuit is open. Default: `fail`.
    #[schemars(extend("default" = "fail"))]
    pub all_open: Option<AllOpen>,
    /// The steps in which traffic returns to a primary that has recovered. Default: at once.
    pub gradually: Vec<RampStep>,
    /// The tiers to ask after a failure of a kind, such as `context_length: [large]`.
    #[schemars(transform = kinds_for_keys)]
    pub routes: BTreeMap<String, Vec<String>>,
    /// The only failures that go to the next tier: names of kinds (`timeout`, `overloaded`) or HTTP statuses. A status stands for the
    /// failure that it tells of, whoever spells it how: 429 and 503 for 529 too, 500 for 520. Default: all that another tier can help
    /// with.
    pub on_error: Option<Vec<OnError>>,
    /// How it is found out that the primary works again. Default: by a request, at the circuit breaker's cooldown.
    pub recovery_check: Option<RecoveryCheck>,
}

/// A failure by its HTTP status or by its kind's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnError {
    /// An HTTP status.
    Status(u16),
    /// A kind, such as `timeout`.
    Kind(String),
    /// `own_timeout`: a limit of time of this stack ran out. Unlike the kind `timeout`, this is not what a provider says
    /// of itself with a status (408, 504).
    OwnTimeout,
}

/// What a session may see of a switch of tiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Session {
    /// Every request takes the best tier.
    Free,
    /// A session stays with the tier that first answered it, or fails.
    Pin,
    /// A session that was switched stays switched.
    Sticky,
}

/// What happens when every circuit is open.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AllOpen {
    /// The request fails at once.
    Fail,
    /// The request waits for the earliest probe, at most this long.
    Wait(Span),
    /// The request is queued until a tier works again, at most this long: it asks again at each probe, also after failures
    /// that opened no circuit. For a feature whose `worst_level` leaves it nothing further down. With `stores: { durable }` it becomes a
    /// task then, and its caller is told that it is queued and under which id: a model is given it as soon as one works, also after
    /// a restart. Not so where the file has a tier of people and no `handoff: { redrive }`.
    Queue(Span),
}

/// A step of a gradual return.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RampStep {
    /// The share of the traffic, in percent.
    #[schemars(range(min = 1, max = 100))]
    pub percent: u8,
    /// How long.
    pub lasts: Span,
}

/// A rate with a burst, as it stands in the file.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Burst {
    /// So much in a minute.
    #[schemars(range(min = 0))]
    per_minute: f64,
    /// So much at once.
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
    /// The words that may stand for a failure.
    pub(in crate::config) fn words() -> impl Iterator<Item = &'static str> {
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
            "description": "How much in a minute: a number, or a number and how much of it at once.",
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

/// The keys of a block are kinds of failure.
fn kinds_for_keys(schema: &mut Schema) {
    let kinds: Vec<&str> = ErrorKind::ALL.iter().map(|kind| kind.name()).collect();
    schema.insert("propertyNames".to_owned(), serde_json::json!({ "enum": kinds }));
}
