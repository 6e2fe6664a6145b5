//! Schemas that a provider can hold a model to.
//!
//! Sources: OpenAI's guide on structured outputs ("Supported schemas"), Anthropic's ("JSON Schema limitations", "Schema
//! complexity limits"), both as of November 2026.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::{all, each, is_known_format, is_object};

/// Keywords that rule out OpenAI's strict mode.
const NOT_STRICT: &[&str] = &[
    "allOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "default",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
    "propertyNames",
    "unevaluatedProperties",
    "prefixItems",
    "minProperties",
    "maxProperties",
    "contains",
];

/// Returns true if closing every object changes nothing that the schema allows on purpose, and OpenAI takes the rest.
pub(super) fn can_close(schema: &Value, top: bool) -> bool {
    let Value::Object(fields) = schema else { return schema.is_boolean() && !top };
    if NOT_STRICT.iter().any(|keyword| fields.contains_key(*keyword)) || (top && fields.contains_key("anyOf")) {
        return false;
    }
    if fields.get("format").is_some_and(|format| !is_known_format(format)) {
        return false;
    }
    // "schema must have a 'type' key"
    if !["type", "anyOf", "$ref", "properties"].iter().any(|name| fields.contains_key(*name)) {
        return false;
    }
    if is_object(fields) {
        let open = fields.get("additionalProperties").is_some_and(|more| *more != false);
        let required: HashSet<&str> = required(fields).collect();
        let properties = fields.get("properties").and_then(Value::as_object);
        let optional = properties.into_iter().flatten().any(|(name, _)| !required.contains(name.as_str()));
        if open || optional {
            return false;
        }
    } else if top {
        return false;
    }
    all(fields, |inside| can_close(inside, false))
}

fn required(fields: &Map<String, Value>) -> impl Iterator<Item = &str> {
    fields.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Closes every object to further properties.
pub(super) fn close(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    if is_object(fields) {
        fields.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    each(fields, close);
}

/// Adds to every object what OpenAI wants in each: "'required' is required to be supplied".
pub(super) fn complete(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    if is_object(fields) {
        fields.entry("type").or_insert_with(|| "object".into());
        fields.entry("properties").or_insert_with(|| json!({}));
        fields.entry("required").or_insert_with(|| json!([]));
    }
    each(fields, complete);
}

/// OpenAI's limits of a schema in strict mode: properties, levels of nesting, values of enums, and the letters of all
/// names and values.
const MOST_PROPERTIES: usize = 5000;
const MOST_LEVELS: usize = 10;
const MOST_VALUES: usize = 1000;
const MOST_LETTERS: usize = 120_000;

/// Returns true if a schema is within OpenAI's limits.
pub(super) fn has_room(schema: &Value) -> bool {
    let mut sum = Sum::default();
    sum.add(schema, 0);
    sum.levels <= MOST_LEVELS
        && sum.properties <= MOST_PROPERTIES
        && sum.values <= MOST_VALUES
        && sum.letters <= MOST_LETTERS
}

#[derive(Default)]
struct Sum {
    levels: usize,
    properties: usize,
    values: usize,
    letters: usize,
}

impl Sum {
    fn add(&mut self, schema: &Value, level: usize) {
        let Value::Object(fields) = schema else { return };
        let level = level + usize::from(is_object(fields));
        self.levels = self.levels.max(level);
        for name in ["properties", "$defs", "definitions"] {
            let named = fields.get(name).and_then(Value::as_object).into_iter().flatten();
            for (property, _) in named {
                self.properties += usize::from(name == "properties");
                self.letters += property.len();
            }
        }
        let values = fields.get("enum").and_then(Value::as_array).into_iter().flatten().chain(fields.get("const"));
        for value in values {
            self.values += 1;
            self.letters += value.as_str().map_or(0, str::len);
        }
        all(fields, |inside| {
            self.add(inside, level);
            true
        });
    }
}

/// Returns true if a definition of a schema refers to itself, however far around: Anthropic takes no such schema, nor
/// one that is elsewhere.
pub(super) fn goes_round(schema: &Value) -> bool {
    let mut places: HashMap<&str, Vec<&str>> = HashMap::new();
    let definitions = ["$defs", "definitions"].into_iter().filter_map(|name| Some((name, schema.get(name)?)));
    let definitions: Vec<(String, &Value)> = definitions
        .flat_map(|(name, all)| {
            all.as_object().into_iter().flatten().map(move |(inner, value)| (format!("#/{name}/{inner}"), value))
        })
        .collect();
    let mut of_top = Vec::new();
    references(schema, true, &mut of_top);
    for (place, value) in &definitions {
        let mut of_it = Vec::new();
        references(value, false, &mut of_it);
        places.insert(place, of_it);
    }
    // Any other place is one within the schema that refers to it, or elsewhere.
    let is_odd = |place: &&str| !places.contains_key(*place);
    if of_top.iter().chain(places.values().flatten()).any(is_odd) {
        return true;
    }
    // Takes away the definitions that refer to none that is left, as often as there are any.
    let mut referred: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut open: HashMap<&str, usize> = HashMap::new();
    for (place, of_it) in &places {
        open.insert(*place, of_it.len());
        of_it.iter().for_each(|to| referred.entry(*to).or_default().push(*place));
    }
    let mut ready: Vec<&str> = open.iter().filter(|(_, left)| **left == 0).map(|(place, _)| *place).collect();
    let mut done = 0;
    while let Some(place) = ready.pop() {
        done += 1;
        for from in referred.get(place).into_iter().flatten() {
            if let Some(left) = open.get_mut(from) {
                *left -= 1;
                if *left == 0 {
                    ready.push(from);
                }
            }
        }
    }
    done < places.len()
}

/// Collects the references of a schema, those of its definitions aside if it is the top.
fn references<'a>(schema: &'a Value, is_top: bool, to: &mut Vec<&'a str>) {
    match schema {
        Value::Object(fields) => {
            to.extend(fields.get("$ref").and_then(Value::as_str));
            for (name, value) in fields {
                if !(is_top && matches!(name.as_str(), "$defs" | "definitions")) {
                    references(value, false, to);
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, false, to)),
        _ => {}
    }
}

/// The parts of a schema that Anthropic counts over a request.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::translate::request) struct Cost {
    /// Properties that may be absent.
    optional: usize,
    /// Schemas of several types, or with alternatives.
    unions: usize,
}

impl Cost {
    pub(super) fn of(schema: &Value) -> Self {
        let mut cost = Self::default();
        cost.add(schema);
        cost
    }

    fn add(&mut self, schema: &Value) {
        let Value::Object(fields) = schema else { return };
        let required: HashSet<&str> = required(fields).collect();
        let properties = fields.get("properties").and_then(Value::as_object).into_iter().flatten();
        self.optional += properties.filter(|(name, _)| !required.contains(name.as_str())).count();
        let is_union = fields.contains_key("anyOf") || fields.get("type").is_some_and(Value::is_array);
        self.unions += usize::from(is_union);
        all(fields, |inside| {
            self.add(inside);
            true
        });
    }
}

/// The room that Anthropic has for strict schemas in a request.
#[derive(Clone, Copy, Debug)]
pub(in crate::translate::request) struct Room {
    tools: usize,
    optional: usize,
    unions: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { tools: 20, optional: 24, unions: 16 }
    }
}

impl Room {
    /// Takes the room of the answer's schema, which must have it.
    pub(in crate::translate::request) fn reserve(&mut self, cost: Cost) {
        self.optional = self.optional.saturating_sub(cost.optional);
        self.unions = self.unions.saturating_sub(cost.unions);
    }

    /// Takes the room of a tool's schema. Returns false if there is none.
    pub(in crate::translate::request) fn take(&mut self, cost: Cost) -> bool {
        let has_room = self.tools > 0 && self.optional >= cost.optional && self.unions >= cost.unions;
        if has_room {
            self.tools -= 1;
            self.reserve(cost);
        }
        has_room
    }
}
