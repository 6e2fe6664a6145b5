//! A scenario's file: plain data.

use std::{collections::BTreeMap, fmt, marker::PhantomData, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};

use crate::slo::Slo;
use steadfast::providers::simulated::Fault;
use steadfast_stack::{Share, Span};

/// The content of a scenario's file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScenarioFile {
    /// A short name, for the command line and the report.
    pub(crate) name: String,
    /// A description in a sentence or two.
    #[serde(default)]
    pub(crate) about: String,
    /// The incident that it replays.
    #[serde(default)]
    pub(crate) source: String,
    /// The duration.
    pub(crate) lasts: Span,
    /// The time of day at its beginning.
    pub(crate) clock: Option<Clock>,
    #[serde(default)]
    pub(crate) requests: Requests,
    #[serde(default)]
    pub(crate) providers: Providers,
    /// The number of the primary's deployments, where the configuration has none. Default: it is a single one.
    pub(crate) deployments: Option<u16>,
    /// The faults and their times.
    #[serde(default)]
    pub(crate) faults: Vec<Window>,
    /// The scenario's own targets.
    #[serde(default)]
    pub(crate) expect: Vec<Slo>,
}

/// The requests of a scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Requests {
    /// The kind of call. Default: conversations.
    pub(crate) kind: RequestKind,
    /// The random arrivals per time. Default: 1/s.
    pub(crate) rate: Rate,
    /// The share of streams. Default: 50%.
    pub(crate) streams: Share,
    /// The features, each with its weight. Default: all `chat`.
    pub(crate) features: BTreeMap<String, f64>,
    /// The number of conversations among which requests are distributed at random. Default: none.
    pub(crate) sessions: u32,
    /// The share of twenty common questions, which a cache may know. Default: 30%.
    pub(crate) common: Share,
    /// The share that no provider accepts (400). Default: none.
    pub(crate) wrong: Share,
    /// Temporary extra requests.
    pub(crate) bursts: Vec<Burst>,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            kind: RequestKind::Conversations,
            rate: Rate(1.0),
            streams: Share(0.5),
            features: BTreeMap::new(),
            sessions: 0,
            common: Share(0.3),
            wrong: Share(0.0),
            bursts: Vec::new(),
        }
    }
}

/// The kind of call of a scenario's requests.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RequestKind {
    Conversations,
    /// Texts as vectors, from the lane's tiers.
    Embeddings,
}

/// Extra requests for a while, beside the others.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Burst {
    pub(crate) from: Span,
    pub(crate) to: Span,
    pub(crate) rate: Rate,
    /// The requests' feature. Default: as for all others. A named feature runs away: refusals by its own limits are
    /// justified.
    pub(crate) feature: Option<String>,
}

/// The behaviour of the simulated providers on a good day.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Providers {
    /// The median time to the first token. Default: 600 ms.
    pub(crate) p50: Span,
    /// The 99th percentile of the same. Default: 2.5 s.
    pub(crate) p99: Span,
    /// The time between two tokens. Default: 20 ms.
    pub(crate) pace: Span,
}

impl Default for Providers {
    fn default() -> Self {
        let span = |ms| Span(Duration::from_millis(ms));
        Self { p50: span(600), p99: span(2500), pace: span(20) }
    }
}

/// A span of time with a fault.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Window {
    pub(crate) from: Span,
    pub(crate) to: Span,
    /// The interval of waves. Default: the fault is constant.
    pub(crate) every: Option<Span>,
    /// The duration of each wave.
    pub(crate) wave: Option<Span>,
    /// The affected places: `primary`, `deployment`, `fallbacks`, `all`, `store`, or tiers by name. Default: `primary`.
    #[serde(default)]
    pub(crate) at: OneOrMany<String>,
    /// The fault; of several, each is equally likely.
    pub(crate) fault: OneOrMany<FaultSpec>,
    /// The share of affected calls. Default: all.
    #[serde(default = "all")]
    pub(crate) share: Share,
    /// The time over which that share grows from zero.
    pub(crate) ramp: Option<Span>,
    /// The affected features. Default: all.
    #[serde(default)]
    pub(crate) features: Vec<String>,
    /// The share of affected callers, always the same ones. Default: all.
    #[serde(default = "all")]
    pub(crate) callers: Share,
}

fn all() -> Share {
    Share(1.0)
}

/// The Retry-After of calls beyond a limit.
const LIMIT_PAUSE: Duration = Duration::from_secs(5);

/// A kind of fault: a name, or a name with its number.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultSpec {
    ServerError,
    BadGateway,
    Unavailable,
    Overloaded,
    /// 429 without Retry-After.
    RateLimited,
    /// 429 with Retry-After.
    RateLimitedFor(Span),
    ComeBackLater,
    QuotaExhausted,
    Unauthorized,
    BadRequest,
    ContextLength,
    ContentFilter,
    /// Any other status, with an edge's HTML page.
    Status(u16),
    /// 200 with an edge's HTML page.
    Html,
    /// No connection.
    Refused,
    /// A name without an address, so no connection either.
    NoAddress,
    Hang,
    /// A healthy answer after this delay.
    Slow(Span),
    Empty,
    CutAfter(u32),
    TruncatedAfter(u32),
    NoEndMark,
    MalformedAfter(u32),
    StallAfter(u32),
    KeepAlivesOnly,
    ErrorEventAfter(u32),
    /// At most this many calls; 529 beyond it.
    Capacity(Rate),
    /// At most this many calls; 429 beyond it, with a Retry-After of a few seconds.
    Limit(Rate),
}

impl FaultSpec {
    /// Returns the simulated provider's fault.
    pub(crate) fn fault(&self) -> Fault {
        match *self {
            Self::ServerError => Fault::ServerError,
            Self::BadGateway => Fault::BadGateway,
            Self::Unavailable => Fault::Unavailable,
            Self::Overloaded | Self::Capacity(_) => Fault::Overloaded,
            Self::RateLimited => Fault::RateLimited { retry_after: None },
            Self::Limit(_) => Fault::RateLimited { retry_after: Some(LIMIT_PAUSE) },
            Self::RateLimitedFor(span) => Fault::RateLimited { retry_after: Some(span.0) },
            Self::ComeBackLater => Fault::ComeBackLater,
            Self::QuotaExhausted => Fault::InsufficientQuota,
            Self::Unauthorized => Fault::Unauthorized,
            Self::BadRequest => Fault::BadRequest,
            Self::ContextLength => Fault::ContextLength,
            Self::ContentFilter => Fault::ContentFilter,
            Self::Status(status) => Fault::Status(status),
            Self::Html => Fault::HtmlPage,
            Self::Refused | Self::NoAddress => Fault::Refused,
            Self::Hang => Fault::Hang,
            Self::Slow(span) => Fault::Slow(span.0),
            Self::Empty => Fault::Empty,
            Self::CutAfter(tokens) => Fault::CutAfter(tokens),
            Self::TruncatedAfter(tokens) => Fault::TruncatedAfter(tokens),
            Self::NoEndMark => Fault::NoEndMark,
            Self::MalformedAfter(tokens) => Fault::MalformedAfter(tokens),
            Self::StallAfter(tokens) => Fault::StallAfter(tokens),
            Self::KeepAlivesOnly => Fault::KeepAlivesOnly { every: Duration::from_secs(15) },
            Self::ErrorEventAfter(tokens) => Fault::ErrorEventAfter(tokens),
        }
    }
}

impl fmt::Display for FaultSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |span: Span| format!("{:?}", span.0);
        f.write_str(&match self {
            Self::Status(status) => format!("status {status}"),
            Self::RateLimitedFor(after) => format!("rate limited, retry after {}", span(*after)),
            Self::Slow(by) => format!("slow by {}", span(*by)),
            Self::Capacity(rate) => format!("capacity {rate}"),
            Self::Limit(rate) => format!("limit {rate}"),
            Self::NoAddress => "no address".to_owned(),
            Self::CutAfter(tokens) => format!("cut after {tokens} tokens"),
            Self::StallAfter(tokens) => format!("stall after {tokens} tokens"),
            Self::ErrorEventAfter(tokens) => format!("error event after {tokens} tokens"),
            other => other.fault().name().replace('_', " "),
        })
    }
}

/// One value, or a list of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OneOrMany<T>(pub(crate) Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Forms<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, a name with its value, or a list of them")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(OneOrMany(vec![T::deserialize(text.into_deserializer())?]))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                // An empty block remains after a wrong value, which has already been reported.
                match map.size_hint() {
                    Some(0) => Ok(OneOrMany(Vec::new())),
                    _ => Ok(OneOrMany(vec![T::deserialize(MapAccessDeserializer::new(map))?])),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut several = Vec::new();
                while let Some(one) = list.next_element()? {
                    several.push(one);
                }
                Ok(OneOrMany(several))
            }
        }

        deserializer.deserialize_any(Forms(PhantomData))
    }
}

/// A rate per second, written with its unit of time: `2/s`, `30/min`, `100/h`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate(pub(crate) f64);

impl Rate {
    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = text.split_once('/')?;
        let seconds = match unit.trim() {
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let number: f64 = number.trim().parse().ok()?;
        (number.is_finite() && number >= 0.0).then_some(Self(number / seconds))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = if self.0 >= 1.0 { (self.0, "s") } else { (self.0 * 60.0, "min") };
        write!(f, "{}/{unit}", (number * 1000.0).round() / 1000.0)
    }
}

/// A time of day: `06:20`, in seconds since midnight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Clock(pub(crate) u32);

impl Clock {
    fn parse(text: &str) -> Option<Self> {
        let (hours, minutes) = text.trim().split_once(':')?;
        let two = |text: &str| (text.len() == 2).then(|| text.parse::<u32>().ok()).flatten();
        let (hours, minutes) = (two(hours)?, two(minutes)?);
        (hours < 24 && minutes < 60).then_some(Self(hours * 3600 + minutes * 60))
    }
}

/// Implements `Deserialize` for a type with its own spelling.
macro_rules! read_from_text {
    ($type:ident, $expecting:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct TextVisitor;

                impl Visitor<'_> for TextVisitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: Error>(self, text: &str) -> Result<$type, E> {
                        $type::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
                    }
                }

                deserializer.deserialize_any(TextVisitor)
            }
        }
    };
}

read_from_text!(Rate, "so many in a time, such as 2/s, 30/min or 100/h");
read_from_text!(Clock, "a time of day, such as \"06:20\"");
