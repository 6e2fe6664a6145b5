//! Values with their own spelling: spans of time, and shares.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

use crate::InvalidConfig;

/// A span of time: `30s`, `500ms`, `1m30s`, `2h`. A bare number is refused, because its unit is unclear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A share of a whole, from 0 to 1: `0.5` or `50%`.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Share(pub f64);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Spans;

        impl Visitor<'_> for Spans {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a span of time with its unit, such as 500ms, 30s or 1m30s")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                parse_span(text).map(Span).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Spans)
    }
}

impl fmt::Display for Span {
    /// Writes `30s`; from two minutes on, whole minutes as `5m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs_f64() {
            seconds @ 120.0.. if seconds % 60.0 == 0.0 => write!(f, "{}m", seconds / 60.0),
            seconds => write!(f, "{seconds}s"),
        }
    }
}

impl FromStr for Span {
    type Err = InvalidConfig;

    /// Reads `500ms`, `30s`, `1m30s`.
    fn from_str(text: &str) -> Result<Self, InvalidConfig> {
        let problem =
            || InvalidConfig::new("span", format!("`{text}` needs a number and a unit, such as 500ms or 30s"));
        parse_span(text).map(Self).ok_or_else(problem)
    }
}

/// Parses numbers with units, the largest first, such as `1h30m`; a number may have a fraction.
fn parse_span(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut sum = None;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        sum = Some(sum.unwrap_or(Duration::ZERO).checked_add(part)?);
        rest = after.trim_start();
    }
    sum
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shares;

        impl Visitor<'_> for Shares {
            type Value = f64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a share from 0 to 1, or in percent, such as 50%")
            }

            fn visit_f64<E: Error>(self, share: f64) -> Result<f64, E> {
                Ok(share)
            }

            fn visit_u64<E: Error>(self, share: u64) -> Result<f64, E> {
                Ok(share as f64)
            }

            fn visit_i64<E: Error>(self, share: i64) -> Result<f64, E> {
                Ok(share as f64)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<f64, E> {
                let number = text.trim().strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
                number.map(|percent| percent / 100.0).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        let share = deserializer.deserialize_any(Shares)?;
        if (0.0..=1.0).contains(&share) {
            Ok(Self(share))
        } else {
            Err(Error::custom(format_args!(
                "{share} is not a share; give a number from 0 to 1, or percent such as 50%"
            )))
        }
    }
}

impl fmt::Display for Share {
    /// Writes percent, to a thousandth.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", (self.0 * 1e5).round() / 1e3)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A span of time with its unit: 500ms, 30s, 1m30s, 2h.",
            "pattern": r"^\s*(\d+(\.\d+)?(ms|s|m|min|h|d)\s*)+$|\$\{",
        })
    }
}

impl JsonSchema for Share {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A share of a whole: 0.5 or 50%.",
            "oneOf": [
                { "type": "number", "minimum": 0, "maximum": 1 },
                { "type": "string", "pattern": r"^\s*(100(\.0+)?|\d{1,2}(\.\d+)?)\s*%\s*$|\$\{" },
            ],
        })
    }
}
