//! The block `hedge` of a configuration file.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

use super::{
    HedgeLayer,
    settings::{EXTRA, QUANTILE},
};
use crate::{
    InvalidConfig,
    settings::{Either, FaultReport, Share, Span, short_or_block},
};

/// Second calls for late ones: `off`, `on`, the time at which they start (`p95`, `2s`), or each setting by its name.
#[derive(Clone, Debug, PartialEq)]
pub enum Hedge {
    /// No second calls.
    Off,
    /// With these settings.
    On(HedgeSettings),
}

/// The settings of second calls.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HedgeSettings {
    /// The start of the second call: a percentile of the last calls' time to the first token, `p95`, or a fixed time,
    /// `2s`. Default: `p95`.
    #[schemars(extend("default" = HedgeAfter::Quantile(QUANTILE).to_string()))]
    pub after: Option<HedgeAfter>,
    /// The tier of the second call; the tier's own name repeats the call there. Default: the next tier in the file
    /// with the same level that uses a model, or else the same tier.
    pub to: Option<String>,
    /// The most second calls, as a share of the first ones. Default: 5 %.
    #[schemars(extend("default" = Share(EXTRA).to_string()))]
    pub extra: Option<Share>,
}

/// The start of a second call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HedgeAfter {
    /// At this quantile of the last calls' time to the first token, from 0.5 to less than 1: `p95`.
    Quantile(f64),
    /// After this time: `2s`.
    Fixed(Span),
}

impl HedgeSettings {
    /// Returns the settings of a hedge that sets none.
    #[doc(hidden)]
    pub fn usual() -> Self {
        Self { after: Some(HedgeAfter::Quantile(QUANTILE)), to: None, extra: Some(Share(EXTRA)) }
    }

    /// Returns these settings, with the other's for those that are missing.
    #[doc(hidden)]
    pub fn or(self, other: Self) -> Self {
        Self { after: self.after.or(other.after), to: self.to.or(other.to), extra: self.extra.or(other.extra) }
    }

    /// Checks these settings for errors in meaning.
    #[doc(hidden)]
    pub fn check(&self, report: &mut impl FaultReport) {
        if let Some(HedgeAfter::Fixed(span)) = self.after
            && span.0.is_zero()
        {
            report.wrong_here("a delay of zero would double every call; give a time, or a percentile such as p95");
        }
        if self.extra.is_some_and(|extra| extra.0 == 0.0) {
            report.wrong("extra", "an `extra` of 0 allows no second call; write `hedge: off` instead");
        }
    }

    /// Gives these settings to a hedge, except for the tier of its second calls.
    ///
    /// # Errors
    ///
    /// A share or a quantile is out of its range.
    #[doc(hidden)]
    pub fn apply(&self, mut layer: HedgeLayer) -> Result<HedgeLayer, InvalidConfig> {
        let Self { after, to: _, extra } = self;
        match after {
            None => {}
            Some(HedgeAfter::Quantile(share)) => layer = layer.quantile(*share),
            Some(HedgeAfter::Fixed(time)) => layer = layer.after(time.0),
        }
        if let Some(extra) = extra {
            layer = layer.extra(extra.0);
        }
        layer.checked()
    }
}

impl HedgeAfter {
    fn read(word: &str) -> Option<Self> {
        let Some(percent) = word.strip_prefix('p') else { return word.parse().map(Self::Fixed).ok() };
        let percent: f64 = percent.parse().ok()?;
        (50.0..100.0).contains(&percent).then_some(Self::Quantile(percent / 100.0))
    }
}

impl fmt::Display for HedgeAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Rounds to a thousandth, because 0.95 times 100 is not exactly 95.
            Self::Quantile(share) => write!(f, "p{}", (share * 1e5).round() / 1e3),
            Self::Fixed(Span(time)) => write!(f, "{time:?}"),
        }
    }
}

/// Reads the one-word forms.
struct Words;

impl Visitor<'_> for Words {
    type Value = Hedge;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`on`, `off`, a share of the calls from p50 to p99.9 such as p95, or a span of time such as 2s")
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<Hedge, E> {
        Ok(if on { Hedge::On(HedgeSettings::default()) } else { Hedge::Off })
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Hedge, E> {
        match word {
            "on" => self.visit_bool(true),
            "off" => self.visit_bool(false),
            _ => {
                let after = HedgeAfter::read(word).ok_or_else(|| E::invalid_value(Unexpected::Str(word), &self))?;
                Ok(Hedge::On(HedgeSettings { after: Some(after), ..HedgeSettings::default() }))
            }
        }
    }
}

/// A one-word form.
struct Short(Hedge);

impl<'de> Deserialize<'de> for Short {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Words).map(Self)
    }
}

impl<'de> Deserialize<'de> for Hedge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let forms = "`on`, `off`, when the second call goes out such as p95 or 2s, or a block such as { after: p95, extra: 5% }";
        Ok(match short_or_block(deserializer, forms)? {
            Either::Short(Short(hedge)) => hedge,
            Either::Block(settings) => Self::On(settings),
        })
    }
}

impl<'de> Deserialize<'de> for HedgeAfter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct When;

        impl Visitor<'_> for When {
            type Value = HedgeAfter;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a share of the calls from p50 to p99.9 such as p95, or a span of time such as 2s")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<HedgeAfter, E> {
                HedgeAfter::read(word).ok_or_else(|| E::invalid_value(Unexpected::Str(word), &self))
            }
        }

        deserializer.deserialize_any(When)
    }
}

impl JsonSchema for HedgeAfter {
    fn schema_name() -> Cow<'static, str> {
        "HedgeAfter".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The start of a second call: `p95`, or a span of time.",
            "anyOf": [
                { "type": "string", "pattern": r"^p[5-9]\d(\.\d+)?$" },
                generator.subschema_for::<Span>(),
            ],
        })
    }
}

impl JsonSchema for Hedge {
    fn schema_name() -> Cow<'static, str> {
        "Hedge".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Second calls for late ones: `off`, `on`, the time at which they start (`p95`, `2s`), or each setting by its name.",
            "anyOf": [
                { "type": "boolean" },
                { "enum": ["on", "off"] },
                generator.subschema_for::<HedgeAfter>(),
                generator.subschema_for::<HedgeSettings>(),
            ],
        })
    }
}
