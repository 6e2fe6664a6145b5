//! The top of a tool's schema, which is an object without alternatives: a tool's arguments are one.
//!
//! OpenAI: "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level".
//! Anthropic: "input_schema.type: Field required", and the same of `oneOf`, `allOf` and `anyOf`.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value, json};

use crate::Dialect;

/// Keywords that neither Anthropic nor OpenAI takes there.
pub(super) const ALTERNATIVES: &[&str] = &["anyOf", "oneOf", "allOf", "enum", "not"];

/// Returns true if a schema has some of these, at its top or where its reference leads.
pub(super) fn has_alternatives(schema: &Value) -> bool {
    let led = schema.get("$ref").and_then(Value::as_str).and_then(|place| schema.pointer(place.strip_prefix('#')?));
    [Some(schema), led].into_iter().flatten().any(|schema| ALTERNATIVES.iter().any(|name| schema.get(name).is_some()))
}

/// Makes the top such an object. Returns whether something went into the description.
pub(super) fn make_object(schema: &mut Value, target: Dialect) -> bool {
    let goes_round = !leads_somewhere(schema);
    if target != Dialect::Gemini && !goes_round {
        follow(schema);
    }
    let branches = if target == Dialect::Gemini { Branches::default() } else { Branches::of(schema) };
    let Value::Object(fields) = schema else {
        *schema = json!({"type": "object", "properties": {}});
        return false;
    };
    let mut moved = Vec::new();
    if goes_round || target != Dialect::Gemini {
        moved.extend(fields.remove("$ref").map(|value| format!("$ref: {value}")));
    }
    if target != Dialect::Gemini {
        for name in ALTERNATIVES {
            moved.extend(fields.remove(*name).map(|value| format!("{name}: {value}")));
        }
    }
    branches.join(fields);
    if !moved.is_empty() {
        let before = fields.get("description").and_then(Value::as_str).unwrap_or_default();
        let description = format!("{before} {}", moved.join(", ")).trim().to_owned();
        fields.insert("description".to_owned(), description.into());
    }
    if fields.get("type") != Some(&json!("object")) && !fields.contains_key("$ref") {
        fields.insert("type".to_owned(), "object".into());
    }
    if target.is_openais() && !fields.contains_key("properties") && !fields.contains_key("$ref") {
        fields.insert("properties".to_owned(), json!({}));
    }
    !moved.is_empty()
}

/// Returns true if the reference at the top, if any, leads to something other than a reference. A circular one means
/// nothing, and every provider refuses it.
fn leads_somewhere(schema: &Value) -> bool {
    let mut at = schema;
    // No more steps than there could be definitions.
    for _ in 0..MOST_STEPS {
        let Some(reference) = at.get("$ref").and_then(Value::as_str) else { return true };
        let Some(next) = reference.strip_prefix('#').and_then(|place| schema.pointer(place)) else { return true };
        at = next;
    }
    false
}

/// The longest chain of references that is followed.
const MOST_STEPS: usize = 64;

/// Writes the schema to which a reference at the top leads in its place, beside the other fields. Further references to
/// it stay, and so does the definition.
fn follow(schema: &mut Value) {
    let mut at = &*schema;
    while let Some(next) =
        at.get("$ref").and_then(Value::as_str).and_then(|place| schema.pointer(place.strip_prefix('#')?))
    {
        at = next;
    }
    let Value::Object(led) = at.clone() else { return };
    let Value::Object(fields) = schema else { return };
    if led.get("$ref").is_none() {
        fields.remove("$ref");
        led.into_iter().for_each(|(name, value)| _ = fields.entry(name).or_insert(value));
    }
}

/// The properties that the alternatives at the top have: a model sees what they are, and the description says which
/// belong together.
#[derive(Default)]
struct Branches {
    properties: Map<String, Value>,
    required: Vec<String>,
}

impl Branches {
    /// Reads them; there are none in branches that lie within each other, which could be many times the schema.
    fn of(schema: &Value) -> Self {
        Self::within(schema, size(schema)).unwrap_or_default()
    }

    /// Reads them; `None` if those of one keyword are larger than this.
    fn within(schema: &Value, most: usize) -> Option<Self> {
        let mut forms: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        let (mut seen, mut required) = (HashSet::new(), Vec::new());
        for keyword in ["allOf", "anyOf", "oneOf"] {
            let Some(Value::Array(branches)) = schema.get(keyword) else { continue };
            let (mut room, mut read) = (most, HashSet::new());
            let mut names: Option<Vec<&str>> = None;
            for branch in branches {
                let place = branch.get("$ref").and_then(Value::as_str).and_then(|place| place.strip_prefix('#'));
                let branch = place.and_then(|place| schema.pointer(place)).unwrap_or(branch);
                // A second reference to it adds nothing.
                if !read.insert(std::ptr::from_ref(branch)) {
                    continue;
                }
                for (name, property) in branch.get("properties").and_then(Value::as_object).into_iter().flatten() {
                    room = room.checked_sub(name.len() + size(property))?;
                    if seen.insert((name.as_str(), property)) {
                        forms.entry(name).or_default().push(property);
                    }
                }
                let own = texts(branch.get("required"));
                names = Some(match names {
                    None => own.collect(),
                    Some(mut before) if keyword == "allOf" => {
                        before.extend(own);
                        before
                    }
                    Some(before) => {
                        let own: HashSet<&str> = own.collect();
                        before.into_iter().filter(|name| own.contains(name)).collect()
                    }
                });
            }
            required.extend(names.unwrap_or_default().into_iter().map(str::to_owned));
        }
        let properties = forms.into_iter().map(|(name, forms)| {
            // A property that several alternatives have may have any of their forms.
            let property = if let [form] = &forms[..] { (*form).clone() } else { json!({ "anyOf": forms }) };
            (name.to_owned(), property)
        });
        Some(Self { properties: properties.collect(), required })
    }

    /// Writes them beside the properties that the top has itself.
    fn join(self, fields: &mut Map<String, Value>) {
        if self.properties.is_empty() {
            return;
        }
        if let Value::Object(properties) = fields.entry("properties").or_insert_with(|| json!({})) {
            for (name, property) in self.properties {
                properties.entry(name).or_insert(property);
            }
        }
        let mut there: HashSet<String> = texts(fields.get("required")).map(str::to_owned).collect();
        if let Value::Array(required) = fields.entry("required").or_insert_with(|| json!([])) {
            let new = self.required.into_iter().filter(|name| there.insert(name.clone()));
            required.extend(new.map(Value::from));
        }
    }
}

/// Returns the texts of a list.
fn texts(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Returns about how much a value holds: its inner values, and the bytes of its texts and names.
fn size(value: &Value) -> usize {
    1 + match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(size).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + size(value)).sum(),
        _ => 0,
    }
}
