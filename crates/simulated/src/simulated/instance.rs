//! Makes up a value that satisfies a JSON Schema: the answer of an untrained model that is held to a shape.
//!
//! It follows a schema's demands: types, required and other properties, bounds, lengths, formats, patterns, `enum`,
//! `const`, `anyOf`, `oneOf`, `allOf` and references within the schema. It ignores prohibitions (`not`, `if`).

use std::{borrow::Cow, cell::Cell, collections::BTreeMap};

use serde_json::{Map, Number, Value, json};

use super::pattern;

/// The depth from which nothing optional is made: a schema may refer to itself.
const OPTIONAL: usize = 4;
/// The greatest depth of a value and a schema; a schema without a value gets `null` there.
const DEEPEST: usize = 64;
/// The number of schemas that are visited for one value.
const STEPS: u32 = 20_000;

/// Makes a value of this schema. Texts without constraints are `filler`.
pub(super) fn instance(schema: &Value, filler: &str) -> Value {
    let filler = if filler.trim().is_empty() { "some text" } else { filler };
    Maker { root: schema, filler, steps: Cell::new(STEPS) }.make(schema, Place::default())
}

struct Maker<'a> {
    root: &'a Value,
    filler: &'a str,
    steps: Cell<u32>,
}

#[derive(Clone, Copy, Default)]
struct Place {
    depth: usize,
    /// The index in a list: neighbours differ if they can.
    nth: usize,
}

impl Place {
    fn inside(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }
}

/// A schema's own keywords, with those of its references and of all its parts.
type Fields<'s> = BTreeMap<&'s str, Cow<'s, Value>>;

impl Maker<'_> {
    fn step(&self) -> bool {
        let left = self.steps.get();
        self.steps.set(left.saturating_sub(1));
        left > 0
    }

    fn is_deep(&self, place: Place) -> bool {
        place.depth >= OPTIONAL || self.steps.get() < STEPS / 2
    }

    fn make(&self, schema: &Value, place: Place) -> Value {
        if !self.step() || place.depth > DEEPEST {
            return Value::Null;
        }
        self.made(self.resolved(schema), place)
    }

    fn made(&self, mut schema: Fields<'_>, place: Place) -> Value {
        if let Some(value) = get(&schema, "const") {
            return value.clone();
        }
        if let Some(values) = list(&schema, "enum") {
            let said: Vec<&Value> = values.iter().filter(|value| !value.is_null()).collect();
            return said.get(place.nth % said.len().max(1)).map_or(Value::Null, |value| (*value).clone());
        }
        if let Some(options) = ["anyOf", "oneOf"].into_iter().find_map(|name| schema.remove(name)) {
            let option = self.option(options.as_array().map_or(&[], Vec::as_slice), place);
            let goes_on = |option: &&Value| option["type"] != "null" && self.step() && place.depth <= DEEPEST;
            return match option.filter(goes_on) {
                Some(option) => {
                    let mut both = schema;
                    self.resolved(option).into_iter().for_each(|(name, value)| add(&mut both, name, value));
                    self.made(both, place.inside())
                }
                None => Value::Null,
            };
        }
        match kind(&schema) {
            "object" => self.object(&schema, place),
            "array" => self.array(&schema, place),
            "integer" => number(&schema, place.nth, true),
            "number" => number(&schema, place.nth, false),
            "boolean" => Value::Bool(place.nth.is_multiple_of(2)),
            "null" => Value::Null,
            _ => Value::String(self.text(&schema, place.nth)),
        }
    }

    fn resolved<'s>(&'s self, schema: &'s Value) -> Fields<'s> {
        let mut fields = Fields::new();
        let mut parts = vec![schema];
        for _ in 0..DEEPEST {
            let Some(part) = parts.pop() else { break };
            for (name, value) in part.as_object().into_iter().flatten() {
                match name.as_str() {
                    "$ref" => parts.extend(self.referred(value)),
                    "allOf" => parts.extend(value.as_array().into_iter().flatten()),
                    name => add(&mut fields, name, Cow::Borrowed(value)),
                }
            }
        }
        fields
    }

    fn referred(&self, to: &Value) -> Option<&Value> {
        self.root.pointer(to.as_str()?.strip_prefix('#')?)
    }

    /// Returns one of the options other than null, by the place's index; at depth, the one that ends soonest.
    fn option<'v>(&self, options: &'v [Value], place: Place) -> Option<&'v Value> {
        if !self.is_deep(place) {
            let said: Vec<&Value> = options.iter().filter(|option| option["type"] != "null").collect();
            return said.get(place.nth % said.len().max(1)).copied().or_else(|| options.first());
        }
        options.iter().min_by_key(|option| self.height(option, &mut Vec::new(), 0).unwrap_or(usize::MAX))
    }

    fn has_end(&self, schema: &Value) -> bool {
        self.height(schema, &mut Vec::new(), 0).is_some()
    }

    /// Returns the depth of its least value; `None` if it has no end.
    fn height<'s>(&'s self, schema: &'s Value, within: &mut Vec<&'s str>, depth: usize) -> Option<usize> {
        if !self.step() || depth > 2 * DEEPEST {
            return None;
        }
        if let Some(to) = schema.get("$ref") {
            let name = to.as_str()?;
            if within.contains(&name) {
                return None;
            }
            within.push(name);
            let height = self.referred(to).and_then(|schema| self.height(schema, within, depth + 1));
            within.pop();
            return height;
        }
        if let Some(options) = ["anyOf", "oneOf"].into_iter().find_map(|name| schema.get(name)?.as_array()) {
            return options.iter().filter_map(|option| self.height(option, within, depth + 1)).min();
        }
        let mut tallest = 0;
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            tallest = tallest.max(self.height(part, within, depth + 1)?);
        }
        for name in texts(schema.get("required")) {
            if let Some(property) = schema["properties"].get(name) {
                tallest = tallest.max(1 + self.height(property, within, depth + 1)?);
            }
        }
        if count(schema.get("minItems")).is_some_and(|least| least > 0)
            && let Some(items) = schema.get("items")
        {
            tallest = tallest.max(1 + self.height(items, within, depth + 1)?);
        }
        Some(tallest)
    }

    fn object(&self, schema: &Fields<'_>, place: Place) -> Value {
        let asked: Vec<&str> = texts(get(schema, "required")).collect();
        let mut made = Map::new();
        for (name, property) in get(schema, "properties").and_then(Value::as_object).into_iter().flatten() {
            if asked.contains(&name.as_str()) || (!self.is_deep(place) && property != false && self.has_end(property)) {
                made.insert(name.clone(), self.make(property, place.inside()));
            }
        }
        let other = get(schema, "additionalProperties").unwrap_or(&Value::Null);
        for name in asked {
            if !made.contains_key(name) {
                made.insert(name.to_owned(), self.make(other, place.inside()));
            }
        }
        let usual = u64::from(!self.is_deep(place) && other.is_object() && self.has_end(other));
        let least = count(get(schema, "minProperties")).unwrap_or(usual).min(DEEPEST as u64);
        for nth in 1..=2 * DEEPEST {
            if made.len() as u64 >= least || other == false {
                break;
            }
            made.entry(format!("field_{nth}")).or_insert_with(|| self.make(other, Place { nth, ..place.inside() }));
        }
        Value::Object(made)
    }

    fn array(&self, schema: &Fields<'_>, place: Place) -> Value {
        let items = ["items", "contains"].into_iter().find_map(|name| get(schema, name));
        let first = ["prefixItems", "items"].into_iter().find_map(|name| list(schema, name)).unwrap_or_default();
        let none = self.is_deep(place) || items.is_some_and(|items| items == false || !self.has_end(items));
        let usual = if none { 0 } else { 1 };
        let least = count(get(schema, "minItems")).unwrap_or(usual).max(first.len() as u64);
        let most = count(get(schema, "maxItems")).unwrap_or(u64::MAX).min(1_000);
        let one = |nth: u64| {
            let nth = nth as usize;
            let item = first.get(nth).or(items).unwrap_or(&Value::Null);
            self.make(item, Place { nth, ..place.inside() })
        };
        (0..least.min(most)).map(one).collect()
    }

    fn text(&self, schema: &Fields<'_>, nth: usize) -> String {
        let least = count(get(schema, "minLength")).unwrap_or(0).min(10_000) as usize;
        let most = count(get(schema, "maxLength")).map_or(usize::MAX, |most| most as usize);
        if let Some(pattern) = get(schema, "pattern").and_then(Value::as_str) {
            return pattern::matching(pattern, least);
        }
        if let Some(text) = get(schema, "format").and_then(Value::as_str).and_then(|format| formatted(format, nth)) {
            return text;
        }
        let mut text = if nth > 0 { format!("{} {}", nth + 1, self.filler) } else { self.filler.to_owned() };
        while text.chars().count() < least {
            text.push(' ');
            text.push_str(self.filler);
        }
        text.chars().take(most).collect()
    }
}

/// Adds a keyword to the demands on a value.
fn add<'s>(fields: &mut Fields<'s>, name: &'s str, value: Cow<'s, Value>) {
    let Some(before) = fields.remove(name) else {
        fields.insert(name, value);
        return;
    };
    let both = match (name, before.as_ref(), value.as_ref()) {
        ("properties", Value::Object(one), Value::Object(other)) => {
            let mut both = one.clone();
            for (name, schema) in other {
                let schema = match both.remove(name) {
                    Some(before) => json!({ "allOf": [before, schema] }),
                    None => schema.clone(),
                };
                both.insert(name.clone(), schema);
            }
            Cow::Owned(Value::Object(both))
        }
        ("required", Value::Array(one), Value::Array(other)) => {
            Cow::Owned([one.clone(), other.clone()].concat().into())
        }
        ("enum", Value::Array(one), Value::Array(other)) => {
            Cow::Owned(one.iter().filter(|value| other.contains(value)).cloned().collect())
        }
        _ => value,
    };
    fields.insert(name, both);
}

fn get<'f>(schema: &'f Fields<'_>, name: &str) -> Option<&'f Value> {
    schema.get(name).map(|value| &**value)
}

fn list<'f>(schema: &'f Fields<'_>, name: &str) -> Option<&'f [Value]> {
    get(schema, name)?.as_array().map(Vec::as_slice)
}

fn texts(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Returns a count, which Google's schemas write as a text.
fn count(value: Option<&Value>) -> Option<u64> {
    let value = value?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// Returns the type that a schema names, in any case, or that its keywords imply.
fn kind(schema: &Fields<'_>) -> &'static str {
    const KINDS: [&str; 7] = ["object", "array", "string", "integer", "number", "boolean", "null"];
    let named =
        |name: &Value| KINDS.into_iter().find(|kind| name.as_str().is_some_and(|n| n.eq_ignore_ascii_case(kind)));
    let kinds: Vec<&str> = match get(schema, "type") {
        Some(Value::Array(kinds)) => kinds.iter().filter_map(named).collect(),
        Some(kind) => named(kind).into_iter().collect(),
        None => Vec::new(),
    };
    if let Some(kind) = kinds.iter().find(|kind| **kind != "null").or_else(|| kinds.first()) {
        return kind;
    }
    let has = |names: &[&str]| names.iter().any(|name| schema.contains_key(*name));
    if has(&["properties", "required", "additionalProperties", "minProperties"]) {
        "object"
    } else if has(&["items", "prefixItems", "minItems", "contains"]) {
        "array"
    } else if has(&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]) {
        "number"
    } else {
        "string"
    }
}

fn number(schema: &Fields<'_>, nth: usize, whole: bool) -> Value {
    let given = |name: &str| get(schema, name).and_then(Value::as_f64);
    let flag = |name: &str| get(schema, name) == Some(&Value::Bool(true));
    let step = given("multipleOf").filter(|step| *step > 0.0).or_else(|| whole.then_some(1.0));
    // The least and the greatest value, each with a flag if it is exclusive.
    let bound = |name: &str, beyond: &str, tighter: fn(f64, f64) -> bool| match (given(name), given(beyond)) {
        (Some(at), Some(out)) if tighter(at, out) => Some((at, false)),
        (_, Some(out)) => Some((out, true)),
        (Some(at), None) => Some((at, flag(beyond))),
        (None, None) => None,
    };
    let least = bound("minimum", "exclusiveMinimum", |at, out| at > out);
    let most = bound("maximum", "exclusiveMaximum", |at, out| at < out);
    let value = match step {
        Some(step) => {
            let up = |(at, out): (f64, bool)| {
                let times = (at / step).ceil();
                if out && times * step <= at { (times + 1.0) * step } else { times * step }
            };
            let down = |(at, out): (f64, bool)| {
                let times = (at / step).floor();
                if out && times * step >= at { (times - 1.0) * step } else { times * step }
            };
            let start = match (least.map(up), most.map(down)) {
                (Some(least), _) => least,
                (None, Some(most)) => most.min(step),
                (None, None) => step,
            };
            let later = start + nth as f64 * step;
            if most.map(down).is_none_or(|most| later <= most) { later } else { start }
        }
        None => match (least, most) {
            (Some((least, _)), Some((most, _))) => least + (most - least) / (2.0 + nth as f64),
            (Some((least, _)), None) => least + 1.0 + nth as f64,
            (None, Some((most, _))) => most - 1.0 - nth as f64,
            (None, None) => 1.5 + nth as f64,
        },
    };
    if value.fract() == 0.0 && value.abs() < 9e15 && (whole || step.is_some()) {
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// Returns a text of this format; `None` if any text will do.
fn formatted(format: &str, nth: usize) -> Option<String> {
    Some(match format {
        "date-time" => format!("2026-01-{:02}T12:00:00Z", nth % 28 + 1),
        "date" => format!("2026-01-{:02}", nth % 28 + 1),
        "time" => format!("12:{:02}:00Z", nth % 60),
        "duration" => format!("P{}D", nth + 1),
        "email" | "idn-email" => format!("person{}@example.com", nth + 1),
        "hostname" | "idn-hostname" => format!("host{}.example.com", nth + 1),
        "ipv4" => format!("192.0.2.{}", nth % 254 + 1),
        "ipv6" => format!("2001:db8::{}", nth % 9_999 + 1),
        "uri" | "url" | "uri-reference" | "iri" | "iri-reference" => format!("https://example.com/{}", nth + 1),
        "uuid" => format!("00000000-0000-4000-8000-{:012}", nth + 1),
        "byte" | "binary" => "QUJD".to_owned(),
        "regex" => ".*".to_owned(),
        "json-pointer" => "/a".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_has_all_that_its_schema_names() {
        let schema = json!({
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 4},
                "days": {"type": "integer", "minimum": 3, "maximum": 5},
                "sky": {"enum": ["clear", "grey"]},
                "at": {"type": "string", "format": "date"},
                "wind": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/wind"}]},
                "zip": {"type": "string", "pattern": "^[A-Z]{2}-\\d{3}$"},
                "pair": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "uniqueItems": true},
            },
            "required": ["city", "days"],
            "$defs": {"wind": {"type": "object", "properties": {"speed": {"type": "number", "exclusiveMinimum": 0}}}},
        });
        let made = instance(&schema, "It rains.");
        let expected = json!({
            "city": "It r", "days": 3, "sky": "clear", "at": "2026-01-01", "wind": {"speed": 1.0}, "zip": "AA-000",
            "pair": [1, 2],
        });
        assert_eq!(made, expected);
    }

    #[test]
    fn a_schema_that_names_itself_comes_to_an_end() {
        let tree = json!({
            "$ref": "#/$defs/node",
            "$defs": {
                "node": {
                    "type": "object",
                    "properties": {
                        "value": {"$ref": "#/$defs/expression"},
                        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                    },
                    "required": ["value", "children"],
                },
                "expression": {"anyOf": [
                    {
                        "type": "object",
                        "properties": {"left": {"$ref": "#/$defs/expression"}, "right": {"$ref": "#/$defs/expression"}},
                        "required": ["left", "right"],
                    },
                    {"type": "integer"},
                ]},
            },
        });
        let made = instance(&tree, "");
        assert!(made["children"].is_array() && made["value"]["left"].is_object(), "{made}");
        assert!(made.to_string().len() < 10_000, "{}", made.to_string().len());
        let endless = json!({"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]});
        assert!(instance(&endless, "").is_object(), "it is none that any value satisfies, and it ends");
    }

    #[test]
    fn googles_spelling_is_read() {
        let schema = json!({"type": "OBJECT", "properties": {"tags": {"type": "ARRAY", "minItems": "2", "items": {"type": "STRING"}}}});
        assert_eq!(instance(&schema, "a"), json!({"tags": ["a", "2 a"]}));
    }

    /// Checked by an independent reading of the specification.
    #[test]
    fn a_value_satisfies_its_schema() {
        let schemas = [
            json!({}),
            json!(true),
            json!({"type": ["string", "null"], "minLength": 40}),
            json!({"type": "number", "minimum": 0.1, "maximum": 0.2}),
            json!({"type": "number", "exclusiveMinimum": 1, "exclusiveMaximum": 1.5}),
            json!({"type": "integer", "maximum": -3}),
            json!({"type": "integer", "exclusiveMinimum": 7, "multipleOf": 5}),
            json!({"type": "number", "multipleOf": 0.25, "exclusiveMaximum": 0.25}),
            json!({"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": true}),
            json!({"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": false}),
            json!({"type": "array", "contains": {"const": 4}}),
            json!({"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 2}),
            json!({"type": "object", "required": ["a"], "additionalProperties": true}),
            json!({"allOf": [
                {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"properties": {"a": {"minimum": 10}, "b": {"const": "x"}}, "required": ["b"]},
            ]}),
            json!({"oneOf": [
                {"type": "object", "properties": {"kind": {"const": "cat"}}, "required": ["kind"], "additionalProperties": false},
                {"type": "object", "properties": {"kind": {"const": "dog"}}, "required": ["kind"], "additionalProperties": false},
            ]}),
            json!({"type": "object", "properties": {"a": {"$ref": "#/definitions/a", "description": "d"}}, "required": ["a"],
                "definitions": {"a": {"type": "string", "format": "email"}}}),
        ];
        for schema in schemas {
            let made = instance(&schema, "It rains.");
            let validator = jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema");
            assert!(validator.is_valid(&made), "{schema} does not take {made}");
        }
        for format in ["date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"] {
            let schema = json!({"type": "array", "items": {"type": "string", "format": format}, "minItems": 2, "uniqueItems": true});
            let made = instance(&schema, "");
            let validator = jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema");
            assert!(validator.is_valid(&made), "{schema} does not take {made}");
        }
    }
}
