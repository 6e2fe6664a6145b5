//! The fields in which servers of Chat Completions give their thoughts, and want them back.
//!
//! The dialect itself has none. What a server gave goes back to it as it was: a token of the dialect
//! ([`Opaque`](crate::chat::Opaque)) is an object of these fields, behind the digits of its maker.

use serde_json::{Map, Value};

/// The fields of a turn.
pub const OF_TURNS: [&str; 7] = [
    "reasoning_content",
    "reasoning",
    "reasoning_details",
    // LiteLLM's.
    "thinking_blocks",
    "thought_signature",
    // Google's.
    "extra_content",
    PROVIDER_FIELDS,
];

/// The fields of a call.
pub const OF_CALLS: [&str; 3] = ["extra_content", "thought_signature", PROVIDER_FIELDS];

/// LiteLLM's place for what a provider alone has. It counts if it has a signature.
pub const PROVIDER_FIELDS: &str = "provider_specific_fields";

/// Returns true if the value of one of the fields is a thought, or belongs to one.
pub fn is_thought(name: &str, value: &str) -> bool {
    !matches!(value, "null" | "\"\"" | "[]" | "{}") && (name != PROVIDER_FIELDS || value.contains("signature"))
}

/// The text of a stand-in, for a server that requires thoughts of a turn that another model made.
pub const NO_THOUGHTS: &str = "(no thoughts)";

/// Joins the digits of the maker and the fields.
pub fn join(maker: &str, fields: &str) -> String {
    format!("{maker}:{fields}")
}

/// Returns the digits of the maker, and the fields.
pub fn split(token: &str) -> (&str, &str) {
    token.split_once(':').filter(|(digits, _)| !digits.contains('{')).unwrap_or(("", token))
}

/// Passes on the tokens in a thought: what is sealed or signed.
pub fn tokens(value: &Value, visit: &mut impl FnMut(&str)) {
    texts(&TOKENS, value, visit);
}

/// Passes on the words of a thought in a `content`.
pub fn words(value: &Value, visit: &mut impl FnMut(&str)) {
    texts(&["text", "thinking"], value, visit);
}

/// Passes on the texts in the fields of these names, at every depth.
fn texts(names: &[&str], value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| texts(names, item, visit)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if names.contains(&name.as_str()) => visit(text),
                    value => texts(names, value, visit),
                }
            }
        }
        _ => {}
    }
}

const TOKENS: [&str; 4] = ["signature", "data", "thought_signature", "encrypted_content"];

/// Adds the fields of one thought to those of its turn: texts and lists go on, others are replaced.
pub fn add(to: &mut Map<String, Value>, fields: Map<String, Value>) {
    for (name, value) in fields {
        match (to.get_mut(&name), value) {
            (Some(Value::String(so_far)), Value::String(more)) => so_far.push_str(&more),
            (Some(Value::Array(so_far)), Value::Array(more)) => so_far.extend(more),
            (Some(Value::Object(so_far)), Value::Object(more)) => so_far.extend(more),
            (_, value) => _ = to.insert(name, value),
        }
    }
}
