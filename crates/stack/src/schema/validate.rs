use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

use steadfast::settings::{Either, short_or_block};

/// The validation of structured output against its schema: `off`, `on`, or each setting by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validate {
    /// Passes the output on unchanged.
    Off,
    /// With these settings.
    On(ValidateSettings),
}

/// The settings of validation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ValidateSettings {
    /// The number of further requests to a model after an invalid answer, before the next tier. Default: 1.
    #[schemars(extend("default" = 1))]
    pub reasks: Option<u16>,
    /// Repairs cheap defects: a code fence, text around the JSON, trailing commas. Default: yes.
    #[schemars(extend("default" = true))]
    pub repair: Option<bool>,
}

/// Reads the one-word forms.
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

/// A one-word form.
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
            "description": "The validation of structured output against its schema: `off`, `on`, or each setting by its name.",
            "anyOf": [
                { "type": "boolean" },
                { "enum": ["on", "off"] },
                generator.subschema_for::<ValidateSettings>(),
            ],
        })
    }
}
