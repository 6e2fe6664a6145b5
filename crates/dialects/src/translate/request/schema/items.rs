//! Arrays without `items`, which OpenAI refuses with the whole request.

use std::{borrow::Cow, fmt};

use memchr::memmem;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Value, json};

use super::each;
use crate::chat::Json;

/// Returns true if a schema's text may have an array without items; it is not parsed into values. An escape within the
/// word would hide it, but no one writes it so.
pub(super) fn may_lack(schema: &Json) -> bool {
    memmem::find(schema.as_str().as_bytes(), b"\"array\"").is_some()
        && serde_json::from_str::<Seen>(schema.as_str()).map_or(true, |seen| seen.lacks)
}

/// Adds items of any kind to arrays without. Returns whether there were any.
pub(super) fn add(schema: &mut Value) -> bool {
    let Value::Object(fields) = schema else { return false };
    let is_array = match fields.get("type") {
        Some(Value::String(kind)) => kind == "array",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "array"),
        _ => false,
    };
    let mut added = false;
    if is_array && !fields.get("items").is_some_and(Value::is_object) {
        // A list of items is how older drafts wrote `prefixItems`.
        if let Some(list @ Value::Array(_)) = fields.insert("items".to_owned(), json!({})) {
            fields.entry("prefixItems").or_insert(list);
        }
        added = true;
    }
    each(fields, |inside| added |= add(inside));
    added
}

/// A value, as far as it matters here.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// True if it is the word `array`, or a list with it.
    is_array: bool,
    /// True if an object within it has the type of an array, and no object of items.
    lacks: bool,
    is_object: bool,
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Look)
    }
}

struct Look;

impl<'de> Visitor<'de> for Look {
    type Value = Seen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Seen, E> {
        Ok(Seen::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Seen, E> {
        Ok(Seen::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Seen, E> {
        Ok(Seen::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Seen, E> {
        Ok(Seen::default())
    }

    fn visit_unit<E>(self) -> Result<Seen, E> {
        Ok(Seen::default())
    }

    fn visit_str<E>(self, word: &str) -> Result<Seen, E> {
        Ok(Seen { is_array: word == "array", ..Seen::default() })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Seen, A::Error> {
        let mut all = Seen::default();
        while let Some(seen) = values.next_element::<Seen>()? {
            all.is_array |= seen.is_array;
            all.lacks |= seen.lacks;
        }
        Ok(all)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Seen, A::Error> {
        let (mut is_array, mut has_items, mut lacks) = (false, false, false);
        while let Some(Key(name)) = fields.next_key()? {
            let seen: Seen = fields.next_value()?;
            lacks |= seen.lacks;
            is_array |= name == "type" && seen.is_array;
            has_items |= name == "items" && seen.is_object;
        }
        Ok(Seen { is_array: false, lacks: lacks || (is_array && !has_items), is_object: true })
    }
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
