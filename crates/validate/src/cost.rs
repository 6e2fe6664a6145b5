//! The cost of a check, known before anything is compiled or checked.
//!
//! A schema of two kilobytes can ask for a billion looks at one value: thirty definitions, each with twice the one
//! before. A pattern of thirty bytes can take a megabyte and 25 milliseconds to compile. A schema that refers to itself
//! is none of these: the checker remembers what it has found for each object and list.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::pattern;

/// The most looks at one value, and at what lies in it, from the top of an answer to one of its leaves.
const LOOKS: u64 = 100_000;
/// The most looks in one check: some tenths of a second. Most checks end far earlier.
const STEPS: u64 = 20_000_000;
/// The largest size of a schema: 200,000 values, or patterns of as many bytes as ten million letters take. It compiles
/// within a second.
const SIZE: u64 = 10_000_000;
/// The size of a value of a schema, in letters of a pattern.
const VALUE: u64 = 50;
/// The looks that one keyword is worth, if one is not enough: about as many as their times differ.
const NUMBER_DIVIDED: u64 = 60;
const PATTERN_MATCHED: u64 = 3;
/// That of a pattern that may go back, up to its limit.
const PATTERN_RETRIED: u64 = 2_000;
/// A text counts as one more value for each of so many bytes.
const TEXT: usize = 64;
/// The most schemas within each other, references included. Who follows them needs a stack.
const DEPTH: usize = 400;

/// The keywords whose schemas look at the same value again.
const SAME_VALUE: [&str; 8] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"];
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
/// The keywords of an object's values and of a list's, beside `properties` and a list of `items`, of which one applies.
const OF_OBJECTS: [&str; 4] = ["patternProperties", "additionalProperties", "unevaluatedProperties", "propertyNames"];
const OF_LISTS: [&str; 4] = ["additionalItems", "unevaluatedItems", "contains", "items"];

/// The cost of a schema.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// The most looks at a value and at what lies in it.
    pub(super) looks: u64,
    /// The size to compile and to keep, in letters of a pattern.
    pub(super) size: u64,
}

/// Returns what a schema costs.
///
/// # Errors
///
/// Fails with the reason if that is too much.
pub(super) fn of(schema: &Value) -> Result<Cost, String> {
    let size = size(schema);
    if size > SIZE {
        let most = SIZE / VALUE;
        return Err(format!("it has more than {most} parts, or patterns whose repeats come to as much"));
    }
    let mut costs = Costs { root: schema, names: HashMap::new(), known: HashMap::new() };
    costs.name(schema);
    let looks = costs.of(schema, 0);
    if looks > LOOKS {
        return Err(format!(
            "its alternatives and references come to more than {LOOKS} checks of one value, or lie more than {DEPTH} deep"
        ));
    }
    Ok(Cost { looks, size })
}

/// The steps that are left for the checks of an answer.
pub(super) struct Steps(u64);

impl Steps {
    pub(super) fn new() -> Self {
        Self(STEPS)
    }

    /// Takes the steps of a check by a schema that looks so often at a value. Returns how many they are, or `None` if
    /// they are more than there are.
    pub(super) fn take(&mut self, looks: u64, value: &Value) -> Option<u64> {
        let steps = looks.saturating_mul(values(value));
        self.0 = self.0.checked_sub(steps)?;
        Some(steps)
    }
}

fn values(value: &Value) -> u64 {
    let long = |text: &String| (text.len() / TEXT) as u64;
    1 + match value {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| long(name) + values(value)).sum(),
        Value::String(text) => long(text),
        _ => 0,
    }
}

fn size(schema: &Value) -> u64 {
    let within = match schema {
        Value::Array(items) => items.iter().fold(0, |sum: u64, item| sum.saturating_add(size(item))),
        Value::Object(fields) => fields.iter().fold(0, |sum: u64, (key, value)| {
            let patterns = match (key.as_str(), value) {
                ("pattern", Value::String(pattern)) => pattern::size(pattern),
                ("patternProperties", Value::Object(named)) => {
                    named.keys().fold(0, |sum: u64, pattern| sum.saturating_add(pattern::size(pattern)))
                }
                _ => 0,
            };
            sum.saturating_add(patterns).saturating_add(size(value))
        }),
        _ => 0,
    };
    within.saturating_add(VALUE)
}

/// Returns the looks that a schema's own keywords are worth, beyond the one at a value.
fn own(fields: &Map<String, Value>) -> u64 {
    let count = |value: &Value| value.as_array().map_or(0, |items| items.len() as u64);
    let named = |key: &str| fields.get(key).and_then(Value::as_object).into_iter().flatten();
    // Texts alone and numbers alone are found at once, others are compared one by one.
    let compared = match fields.get("enum") {
        Some(Value::Array(items)) if items.iter().any(|item| item.is_array() || item.is_object()) => 3 * items.len(),
        Some(Value::Array(items)) if items.iter().all(Value::is_string) || items.iter().all(Value::is_number) => 0,
        Some(Value::Array(items)) => items.len(),
        _ => 0,
    };
    let required = fields.get("required").map_or(0, count);
    let dependent: u64 =
        ["dependentRequired", "dependencies"].into_iter().flat_map(named).map(|(_, value)| 1 + count(value)).sum();
    let divided = if fields.contains_key("multipleOf") { NUMBER_DIVIDED } else { 0 };
    let texts = fields.get("pattern").and_then(Value::as_str).into_iter();
    let patterns = texts.chain(named("patternProperties").map(|(pattern, _)| pattern.as_str()));
    let matched: u64 =
        patterns.map(|text| if pattern::goes_back(text) { PATTERN_RETRIED } else { PATTERN_MATCHED }).sum();
    compared as u64 + required + dependent + divided + matched
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
        let mut looks =
            SAME_VALUE.iter().fold(1 + own(fields), |sum: u64, key| sum.saturating_add(self.sum(fields, key, depth)));
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
