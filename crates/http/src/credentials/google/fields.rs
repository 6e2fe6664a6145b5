//! The fields of a JSON object, by name.

use serde_json::{Map, Value};

use crate::InvalidConfig;

/// A JSON object's fields. Errors name the field and the file.
pub(super) struct Fields<'a> {
    place: String,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// Creates the fields of an object, whose place errors name.
    pub(super) fn new(place: &str, object: &'a Map<String, Value>) -> Self {
        Self { place: place.to_owned(), object }
    }

    /// Returns the error of a field.
    pub(super) fn wrong(&self, name: &str, problem: &str) -> InvalidConfig {
        InvalidConfig::new(self.name(name), problem.to_owned())
    }

    /// Returns a field's name in errors.
    pub(super) fn name(&self, name: &str) -> String {
        format!("`{name}` of {}", self.place)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.object.get(name).is_some_and(|value| !value.is_null())
    }

    /// Returns a text. An empty one counts as missing.
    pub(super) fn text(&self, name: &str) -> Result<&'a str, InvalidConfig> {
        self.optional(name)?.ok_or_else(|| self.wrong(name, "it is missing; download or make the file again"))
    }

    pub(super) fn optional(&self, name: &str) -> Result<Option<&'a str>, InvalidConfig> {
        match self.object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.trim().is_empty())),
            Some(_) => Err(self.wrong(name, "it is no text")),
        }
    }

    pub(super) fn object(&self, name: &str) -> Result<Self, InvalidConfig> {
        match self.object.get(name) {
            Some(Value::Object(object)) => Ok(Self { place: self.name(name), object }),
            None => Err(self.wrong(name, "it is missing")),
            Some(_) => Err(self.wrong(name, "it is no JSON object")),
        }
    }

    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, InvalidConfig> {
        let texts = match self.object.get(name) {
            None | Some(Value::Null) => Some(Vec::new()),
            Some(Value::Array(items)) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            Some(_) => None,
        };
        texts.ok_or_else(|| self.wrong(name, "it is no list of texts"))
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, InvalidConfig> {
        match self.object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| self.wrong(name, "it is no whole number")),
        }
    }

    /// Returns the fields with their names.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.object.iter().map(|(name, value)| (name.as_str(), value))
    }
}
