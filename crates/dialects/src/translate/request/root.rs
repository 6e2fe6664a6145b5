//! An output schema whose root is no object: OpenAI holds a model to objects alone. It goes out within an object of one
//! property, which is taken off the answer again.
//!
//! Source: OpenAI's guide on structured outputs, "Root objects must not be anyOf and must be an object" (2026).

use std::mem;

use serde_json::{Map, Value, json};

use crate::{
    StreamEvent,
    chat::{Message, Part},
};

/// The one property.
const KEY: &str = "value";
/// The longest begin of the object, with its white space, in bytes.
const LONGEST_BEGIN: usize = 64;

/// Returns true if OpenAI takes a schema as the root of an output.
pub(super) fn is_object(schema: &Map<String, Value>) -> bool {
    let is_object = schema.get("type").is_some_and(|kind| kind == "object");
    is_object && ["anyOf", "oneOf", "allOf", "enum", "not", "$ref"].iter().all(|name| !schema.contains_key(*name))
}

/// Puts a schema into an object of one property. References go on to lead to what they led to.
pub(super) fn wrap(schema: &mut Value) {
    let mut inner = mem::take(schema);
    let mut definitions = Map::new();
    if let Value::Object(fields) = &mut inner {
        for name in ["$defs", "definitions"] {
            definitions.extend(fields.remove_entry(name));
        }
    }
    lead(&mut inner);
    definitions.values_mut().for_each(lead);
    let object =
        json!({"type": "object", "properties": {KEY: inner}, "required": [KEY], "additionalProperties": false});
    if let Value::Object(object) = object {
        definitions.extend(object);
    }
    *schema = Value::Object(definitions);
}

/// Leads references to the old root, or to a place in it, to its new place.
fn lead(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get_mut("$ref")
                && let Some(place) = reference.strip_prefix('#')
                && !["/$defs/", "/definitions/"].iter().any(|prefix| place.starts_with(prefix))
                && (place.is_empty() || place.starts_with('/'))
            {
                *reference = format!("#/properties/{KEY}{place}");
            }
            fields.values_mut().for_each(lead);
        }
        Value::Array(values) => values.iter_mut().for_each(lead),
        _ => {}
    }
}

/// Takes the object off an answer. A text of another form stays as it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Unwrap {
    state: State,
    /// The begin of the object so far.
    begin: String,
    /// The number of brackets that are open within the property.
    depth: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Begin,
    Inside,
    Text,
    Escape,
    /// Behind the object.
    After,
    /// The text is no such object.
    Other,
}

impl Unwrap {
    /// Takes it off a whole answer.
    pub(super) fn message(&self, message: &mut Message) {
        for part in &mut message.content {
            let Part::Text(text) = part else { continue };
            let (mut unwrap, mut inner) = (self.clone(), text.clone());
            unwrap.text(&mut inner);
            if unwrap.state != State::Begin {
                *text = inner;
            }
        }
    }

    /// Takes it off a piece of a stream.
    pub(super) fn event(&mut self, event: &mut StreamEvent) {
        if let StreamEvent::Text { text, .. } = event {
            self.text(text);
        }
    }

    fn text(&mut self, text: &mut String) {
        if self.state == State::Begin {
            self.begin.push_str(text);
            match begin(&self.begin) {
                Begin::Partial if self.begin.len() <= LONGEST_BEGIN => return text.clear(),
                Begin::Whole(length) => {
                    self.state = State::Inside;
                    *text = self.begin.split_off(length);
                }
                Begin::Partial | Begin::Other => {
                    self.state = State::Other;
                    *text = mem::take(&mut self.begin);
                }
            }
        }
        let end = text.bytes().position(|byte| self.is_end(byte));
        match end {
            Some(end) => text.truncate(end),
            None if self.state == State::After => text.clear(),
            None => {}
        }
    }

    /// Reads on. Returns whether this byte ends the object.
    fn is_end(&mut self, byte: u8) -> bool {
        self.state = match (self.state, byte) {
            (State::Inside, b'"') => State::Text,
            (State::Inside, b'{' | b'[') => {
                self.depth += 1;
                State::Inside
            }
            (State::Inside, b'}' | b']') if self.depth > 0 => {
                self.depth -= 1;
                State::Inside
            }
            (State::Inside, b'}' | b']') => {
                self.state = State::After;
                return true;
            }
            (State::Text, b'"') => State::Inside,
            (State::Text, b'\\') => State::Escape,
            (State::Escape, _) => State::Text,
            (state, _) => state,
        };
        false
    }
}

enum Begin {
    Partial,
    /// With its length in bytes, white space included.
    Whole(usize),
    Other,
}

/// Reads the begin of the object: a bracket, the key, a colon.
fn begin(text: &str) -> Begin {
    let mut rest = text.trim_start();
    for (place, token) in ["{", "\"value\"", ":"].into_iter().enumerate() {
        if place > 0 {
            rest = rest.trim_start();
        }
        match rest.strip_prefix(token) {
            Some(behind) => rest = behind,
            None if token.starts_with(rest) => return Begin::Partial,
            None => return Begin::Other,
        }
    }
    Begin::Whole(text.len() - rest.trim_start().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a text in pieces of so many bytes, at the borders of letters.
    fn read(text: &str, size: usize) -> String {
        let (mut unwrap, mut read, mut piece) = (Unwrap::default(), String::new(), String::new());
        let mut take = |piece: &mut String, read: &mut String| {
            let mut event = StreamEvent::Text { index: 0, text: mem::take(piece) };
            unwrap.event(&mut event);
            if let StreamEvent::Text { text, .. } = event {
                read.push_str(&text);
            }
        };
        for letter in text.chars() {
            piece.push(letter);
            if piece.len() >= size {
                take(&mut piece, &mut read);
            }
        }
        take(&mut piece, &mut read);
        read
    }

    #[test]
    fn the_object_is_taken_off_whatever_the_pieces() {
        for inner in [
            json!([]),
            json!(["a", {"b": ["}"]}, "]", "\"", "\\", "\\\"}", "ü😀"]),
            json!("A"),
            json!(7.5),
            json!(null),
            json!({"value": {"value": 1}}),
            json!({}),
        ] {
            for text in [
                json!({"value": inner}).to_string(),
                serde_json::to_string_pretty(&json!({"value": inner})).unwrap(),
                format!("\n {{ \"value\" :  {inner} }} \n"),
            ] {
                for size in [1, 2, 3, 7, 1000] {
                    let read = read(&text, size);
                    assert_eq!(serde_json::from_str::<Value>(&read).unwrap(), inner, "{text} in pieces of {size}");
                }
            }
        }
    }

    #[test]
    fn another_text_stays_as_it_is() {
        for text in ["", "I cannot.", "[1]", "{\"values\": [1]}", "{\"a\": 1}", "\"value\": 1", "{\"value\" 1}", "{}"] {
            for size in [1, 2, 1000] {
                assert_eq!(read(text, size), text);
            }
        }
    }

    #[test]
    fn references_lead_where_they_led() {
        let a = json!({"type": "object", "properties":
            {"more": {"$ref": "#"}, "a": {"$ref": "#/$defs/A"}, "item": {"$ref": "#/items"}}});
        let schema =
            json!({"type": "array", "items": {"anyOf": [{"$ref": "#"}, {"$ref": "#/$defs/A"}]}, "$defs": {"A": a}});
        let before = jsonschema::validator_for(&schema).unwrap();
        let mut wrapped = schema;
        wrap(&mut wrapped);
        let after = jsonschema::validator_for(&wrapped).unwrap();
        for (instance, expected) in [
            (json!([]), true),
            (json!([[], [[]], {"a": {}, "more": []}]), true),
            (json!([{"item": {"a": {}}}, {"item": [[]]}]), true),
            (json!([{"more": 7}]), false),
            (json!([{"a": {"more": 7}}]), false),
            (json!([{"item": 7}]), false),
            (json!(7), false),
        ] {
            assert_eq!(before.is_valid(&instance), expected, "{instance}");
            assert_eq!(after.is_valid(&json!({"value": instance})), expected, "{instance}");
        }
        assert!(!after.is_valid(&json!([])) && !after.is_valid(&json!({"value": [], "more": 1})));
    }
}
