use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

use super::either::{Either, short_or_block};

/// Whether structured output is held to its schema: `off`, `on`, or each setting by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validate {
    /// It is passed on as it comes.
    Off,
    /// With these settings.
    On(ValidateSettings),
}

/// How structured output is held to its schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ValidateSettings {
    /// How often a model is asked again after an answer of a wrong shape, before the next tier is. Default: 1.
    #[schemars(extend("default" = 1))]
    pub reasks: Option<u16>,
    /// Whether what is cheap to repair is repaired: a code fence, text around the JSON, trailing commas. Default: yes.
    #[schemars(extend("default" = true))]
    pub repair: Option<bool>,
}

/// The forms of one word.
struct Words;

impl Visitor<'_> for Words {
    type Value = Validate;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`on` or `off`")
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<Validate, E> {
        Ok(if on { Validate::On(ValidateSettings::default()) } else { Validate::Off })
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Validate, E> {
        match word {
            "on" => self.visit_bool(true),
            "off" => self.visit_bool(false),
            _ => Err(E::invalid_value(Unexpected::Str(word), &self)),
        }
    }
}

/// One word.
struct Short(Validate);

impl<'de> Deserialize<'de> for Short {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Words).map(Self)
    }
}

impl<'de> Deserialize<'de> for Validate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match short_or_block(deserializer, "`on`, `off`, or a block such as { reasks: 1, repair: true }")? {
            Either::Short(Short(validate)) => validate,
            Either::Block(settings) => Self::On(settings),
        })
    }
}

impl JsonSchema for Validate {
    fn schema_name() -> Cow<'static, str> {
        "Validate".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Whether structured output is held to its schema: `off`, `on`, or each setting by its name.",
            "anyOf": [
                { "type": "boolean" },
                { "enum": ["on", "off"] },
                generator.subschema_for::<ValidateSettings>(),
            ],
        })
    }
}
