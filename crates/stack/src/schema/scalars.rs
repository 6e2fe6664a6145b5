//! Values with their own spelling: spans of time, shares, sizes, references to secrets.

use std::{borrow::Cow, fmt, ops::Deref, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

use steadfast::InvalidConfig;

/// A span of time: `30s`, `500ms`, `1m30s`, `2h`. A bare number is refused, because its unit is unclear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A share of a whole, from 0 to 1: `0.5` or `50%`.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Share(pub f64);

/// A number of bytes: `64KiB`, `32MiB`, `10MB`. A bare number is refused, because its unit is unclear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A reference to a secret: `${NAME}`. Neither the file nor this type contains the secret itself.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRef(String);

impl KeyRef {
    /// Creates a reference to this environment variable.
    pub fn env(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// Returns the variable's name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${{{}}}", self.0)
    }
}

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

impl Size {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = text.split_at(digits);
        let unit: u64 = match unit.trim_start() {
            "B" => 1,
            "kB" | "KB" => 1000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        let bytes = number.parse::<f64>().ok()? * unit as f64;
        // A float is exact below this bound.
        (bytes < (1u64 << 53) as f64).then_some(Self(bytes as u64))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sizes;

        impl Visitor<'_> for Sizes {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes with its unit, such as 64KiB or 32MiB")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
                Size::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Sizes)
    }
}

impl<'de> Deserialize<'de> for KeyRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).map(str::trim);
        // The error omits the text, which may be a key.
        name.filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
            .map(Self::env)
            .ok_or_else(|| Error::custom("a secret must not be in the file; write ${NAME}, and put the secret into that environment variable"))
    }
}

/// A text of the file that may hold a secret, with its `${NAME}` references expanded. `Debug` does not print it.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Secret {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
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

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A number of bytes with its unit, such as 64KiB or 32MiB.",
            "pattern": r"^\s*\d+(\.\d+)?\s*([kKMG]B|[KMG]iB|B)\s*$|\$\{",
        })
    }
}

impl JsonSchema for KeyRef {
    fn schema_name() -> Cow<'static, str> {
        "KeyRef".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A reference to an environment variable that holds a secret: ${NAME}.",
            "pattern": r"^\$\{\s*[A-Za-z0-9_]+\s*\}$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_needs_its_unit() {
        for (text, bytes) in [
            ("64KiB", 65536),
            ("32 MiB", 32 << 20),
            ("1.5kB", 1500),
            ("1GiB", 1 << 30),
            ("2GB", 2_000_000_000),
            ("0B", 0),
        ] {
            assert_eq!(Size::parse(text), Some(Size(bytes)), "{text}");
        }
        for text in ["", "64", "KiB", "64K", "64Mib", "-1MiB", "1e3MiB", "1.2.3MiB", "99999999999999GiB"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }
}
