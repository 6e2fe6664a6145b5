//! Checks a schema against the keywords that a provider's decoder takes.

use serde_json::Value;

/// Returns the reason to refuse a schema for a decoder that knows only `keywords` and may require closed objects.
pub(super) fn fault(schema: &Value, keywords: &[&str], closed: bool, all_required: bool) -> Option<String> {
    let fields = schema.as_object()?;
    if let Some(name) = fields.keys().find(|name| !keywords.contains(&name.as_str())) {
        return Some(format!("'{name}' is not permitted"));
    }
    let kinds = match fields.get("type") {
        Some(Value::String(kind)) => vec![kind.to_ascii_lowercase()],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).map(str::to_ascii_lowercase).collect(),
        _ => Vec::new(),
    };
    let properties = fields.get("properties").and_then(Value::as_object);
    if closed && (kinds.iter().any(|kind| kind == "object") || properties.is_some()) {
        if fields.get("additionalProperties") != Some(&Value::Bool(false)) {
            return Some("'additionalProperties' is required to be supplied and to be false".to_owned());
        }
        let required: Vec<&str> =
            fields.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let missing = properties.into_iter().flatten().find(|(name, _)| !required.contains(&name.as_str()));
        if let Some((name, _)) = missing.filter(|_| all_required) {
            let words = "'required' is required to be supplied and to be an array including every key in properties";
            return Some(format!("{words}. Missing '{name}'"));
        }
    }
    inside(schema).find_map(|schema| fault(schema, keywords, closed, all_required))
}

/// Iterates over the schemas inside this one.
fn inside(schema: &Value) -> impl Iterator<Item = &Value> {
    let named = ["properties", "$defs", "definitions"].into_iter().filter_map(|name| schema.get(name)?.as_object());
    let listed = ["anyOf", "allOf", "oneOf", "prefixItems"].into_iter().filter_map(|name| schema.get(name)?.as_array());
    let single = ["items", "additionalProperties"].into_iter().filter_map(|name| schema.get(name));
    named.flat_map(|schemas| schemas.values()).chain(listed.flatten()).chain(single.filter(|schema| schema.is_object()))
}

/// Returns a mistake that no schema may contain: an unknown type, a list in place of an object.
pub(super) fn malformed(schema: &Value) -> Option<String> {
    const TYPES: &[&str] = &["object", "array", "string", "integer", "number", "boolean", "null"];
    let fields = schema.as_object()?;
    let kinds: Vec<&Value> = match fields.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().collect(),
        kind => kind.into_iter().collect(),
    };
    if let Some(kind) = kinds.into_iter().find(|kind| !kind.as_str().is_some_and(|kind| TYPES.contains(&kind))) {
        return Some(format!("{kind} is not valid under any of the given schemas"));
    }
    for (name, is_right) in [("properties", Value::is_object as fn(&Value) -> bool), ("required", Value::is_array)] {
        if fields.get(name).is_some_and(|value| !is_right(value)) {
            return Some(format!("'{name}' is of the wrong type"));
        }
    }
    inside(schema).find_map(malformed)
}

/// Returns the first schema, this one or one inside, that satisfies `is`.
pub(super) fn find(schema: &Value, is: fn(&Value) -> bool) -> Option<&Value> {
    if is(schema) { Some(schema) } else { inside(schema).find_map(|schema| find(schema, is)) }
}

/// Counts the schemas, this one and those inside, that satisfy `is`.
pub(super) fn count(schema: &Value, is: fn(&Value) -> bool) -> usize {
    usize::from(is(schema)) + inside(schema).map(|schema| count(schema, is)).sum::<usize>()
}
