//! JSON objects as their fields in order, so that one of them changes and the others keep their bytes.

use std::{fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The fields of an object, each value as its text.
pub(super) struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Reads an object; `None` if the text is anything else.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value.get())
    }

    /// Returns true if a field of this name has this value, also where the name occurs more than once.
    pub(super) fn has(&self, name: &str, value: &str) -> bool {
        self.0.iter().any(|(field, found)| field == name && found.get() == value)
    }

    /// Returns a field that is a text.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?).ok()
    }

    /// Returns a field's texts, also where its name occurs more than once.
    pub(super) fn texts(&self, name: &str) -> impl Iterator<Item = String> {
        let values = self.0.iter().filter(move |(field, _)| field == name);
        values.filter_map(|(_, value)| serde_json::from_str(value.get()).ok())
    }

    /// Returns the place of a field's value in the text that was read.
    pub(super) fn place(&self, name: &str, within: &str) -> Option<Range<usize>> {
        let value = self.get(name)?;
        let start = (value.as_ptr() as usize).checked_sub(within.as_ptr() as usize)?;
        (start + value.len() <= within.len()).then_some(start..start + value.len())
    }

    /// Writes the object without some fields, and with others in the place of their former values or at the end.
    pub(super) fn with(&self, without: &[&str], set: &[(&str, &str)]) -> String {
        let mut text = String::from("{");
        let mut push = |name: &str, value: &str| {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&quote(name));
            text.push(':');
            text.push_str(value);
        };
        for (name, value) in self.0.iter().filter(|(name, _)| !without.contains(&name.as_str())) {
            let changed = set.iter().find(|(field, _)| field == name);
            push(name, changed.map_or_else(|| value.get(), |(_, value)| value));
        }
        for (name, value) in set.iter().filter(|(name, _)| self.get(name).is_none()) {
            push(name, value);
        }
        text.push('}');
        text
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Object).map(Self)
    }
}

/// Returns the values of a list; `None` if the text is anything else.
pub(super) fn list(text: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(text).ok()
}

/// Writes values as a list.
pub(super) fn list_of<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::from("[");
    for value in values {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(value);
    }
    text.push(']');
    text
}

/// Writes a text in quotes.
pub(super) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
