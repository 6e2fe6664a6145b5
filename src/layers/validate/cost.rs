//! The cost of a check, known before anything is checked.
//!
//! A schema of two kilobytes can ask for a billion looks at one value: thirty definitions, each with twice the one
//! before. A schema that refers to itself is none of these: the checker remembers what it has found for each object and
//! list.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// The most looks at one value, and at what lies in it, from the top of an answer to one of its leaves.
const LOOKS: u64 = 100_000;
/// The most looks in one check: some tenths of a second. Most checks end far earlier.
const STEPS: u64 = 20_000_000;
/// The most schemas within each other, references included. Who follows them needs a stack.
const DEPTH: usize = 400;

/// The keywords whose schemas look at the same value again.
const SAME_VALUE: [&str; 8] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"];
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
/// The keywords of an object's values and of a list's, beside `properties` and a list of `items`, of which one applies.
const OF_OBJECTS: [&str; 4] = ["patternProperties", "additionalProperties", "unevaluatedProperties", "propertyNames"];
const OF_LISTS: [&str; 4] = ["additionalItems", "unevaluatedItems", "contains", "items"];

/// Returns the most looks at a value and at what lies in it.
///
/// # Errors
///
/// Fails with the reason if they are too many.
pub(super) fn of(schema: &Value) -> Result<u64, String> {
    let mut costs = Costs { root: schema, names: HashMap::new(), known: HashMap::new() };
    costs.name(schema);
    let looks = costs.of(schema, 0);
    if looks > LOOKS {
        return Err(format!(
            "its alternatives and references come to more than {LOOKS} checks of one value, or lie more than {DEPTH} deep"
        ));
    }
    Ok(looks)
}

/// Returns true if a check of this value by a schema that costs so much would take too long.
pub(super) fn is_too_dear(looks: u64, value: &Value) -> bool {
    looks.saturating_mul(values(value)) > STEPS
}

fn values(value: &Value) -> u64 {
    1 + match value {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(fields) => fields.values().map(values).sum(),
        _ => 0,
    }
}

struct Costs<'a> {
    root: &'a Value,
    /// The schemas that have a name of their own, by the end of the name.
    names: HashMap<&'a str, &'a Value>,
    /// By address; `None` while the schema is on the way.
    known: HashMap<*const Value, Option<u64>>,
}

impl<'a> Costs<'a> {
    fn name(&mut self, value: &'a Value) {
        match value {
            Value::Object(fields) => {
                for key in ["$id", "id", "$anchor", "$dynamicAnchor"] {
                    if let Some(Value::String(name)) = fields.get(key) {
                        self.names.insert(end_of(name), value);
                    }
                }
                fields.values().for_each(|value| self.name(value));
            }
            Value::Array(items) => items.iter().for_each(|value| self.name(value)),
            _ => {}
        }
    }

    fn of(&mut self, schema: &'a Value, depth: usize) -> u64 {
        let Value::Object(fields) = schema else { return 1 };
        if depth > DEPTH {
            return u64::MAX;
        }
        match self.known.insert(schema, None) {
            // A circle.
            Some(None) => return 1,
            Some(Some(known)) => {
                self.known.insert(schema, Some(known));
                return known;
            }
            None => {}
        }
        let mut looks = SAME_VALUE.iter().fold(1, |sum: u64, key| sum.saturating_add(self.sum(fields, key, depth)));
        for reference in REFERENCES.iter().filter_map(|key| fields.get(*key)?.as_str()) {
            let target = self.target(reference).map_or(1, |target| self.of(target, depth + 1));
            looks = looks.saturating_add(target);
        }
        // One value is in an object or in a list, and under one name or at one place.
        let named = self.most(fields, "properties", depth);
        let placed = self.most(fields, "prefixItems", depth);
        let in_object = OF_OBJECTS.iter().fold(named, |sum, key| sum.saturating_add(self.sum(fields, key, depth)));
        let in_list = OF_LISTS.iter().fold(placed, |sum, key| sum.saturating_add(self.sum(fields, key, depth)));
        looks = looks.saturating_add(in_object.max(in_list));
        self.known.insert(schema, Some(looks));
        looks
    }

    /// Returns the sum over a keyword's schemas: one, a list of them, or several by name.
    fn sum(&mut self, fields: &'a Map<String, Value>, key: &str, depth: usize) -> u64 {
        self.schemas(fields, key).fold(0, |sum, schema| sum.saturating_add(self.of(schema, depth + 1)))
    }

    fn most(&mut self, fields: &'a Map<String, Value>, key: &str, depth: usize) -> u64 {
        self.schemas(fields, key).fold(0, |most, schema| most.max(self.of(schema, depth + 1)))
    }

    fn schemas(&self, fields: &'a Map<String, Value>, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
        let by_name = matches!(key, "properties" | "patternProperties" | "dependentSchemas");
        let (one, list, named) = match fields.get(key) {
            Some(Value::Array(items)) => (None, Some(items), None),
            Some(Value::Object(schemas)) if by_name => (None, None, Some(schemas)),
            one => (one, None, None),
        };
        one.into_iter().chain(list.into_iter().flatten()).chain(named.into_iter().flat_map(Map::values))
    }

    /// Returns the schema that a reference means, if it is in this document.
    fn target(&self, reference: &str) -> Option<&'a Value> {
        match reference.split_once('#') {
            Some(("", "")) => Some(self.root),
            Some((_, pointer)) if pointer.starts_with('/') => {
                let pointer = percent_decoded(pointer);
                self.root.pointer(&pointer)
            }
            Some((document, "")) => self.names.get(end_of(document)).copied(),
            _ => self.names.get(end_of(reference)).copied(),
        }
    }
}

/// Returns the last part of a name: references may be relative to the names around them.
fn end_of(name: &str) -> &str {
    let name = name.trim_end_matches('#');
    name.rsplit(['/', '#', ':']).next().unwrap_or(name)
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = (byte == b'%').then(|| after.get(..2)).flatten();
        let code = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
