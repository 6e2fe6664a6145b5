//! Values with their own spelling: sizes, references to secrets.

use std::{borrow::Cow, fmt, ops::Deref};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

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
