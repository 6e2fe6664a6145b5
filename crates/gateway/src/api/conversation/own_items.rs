//! The items in a request of the Responses API whose ids are not the caller's.
//!
//! A provider looks an item up by its id, in the whole account. Where the id alone brings the content, an id of another
//! key's is refused like one that nobody has. An item that brings its own content goes on without the id, or with a new
//! one where the API wants one: so a conversation goes on whose ids nobody remembers any more.

use std::collections::HashSet;

use bytes::Bytes;
use steadfast::{LlmError, Wire};

use super::{
    json::{Fields, list, list_of, quote},
    new_id,
};

/// The ids of a request's items.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ItemIds {
    /// The ids that stand for the content.
    pub(crate) referenced: Vec<String>,
    /// The ids beside the content.
    pub(crate) carried: Vec<String>,
}

/// Returns the ids of a request's items.
pub(crate) fn item_ids(wire: &Wire) -> ItemIds {
    let mut ids = ItemIds::default();
    let mut read = |item: &str| {
        let Some(fields) = Fields::read(item) else { return };
        let found = if is_by_id(&fields) { &mut ids.referenced } else { &mut ids.carried };
        found.extend(fields.texts("id"));
    };
    let input = wire.field("input").and_then(|input| std::str::from_utf8(input).ok()).unwrap_or_default();
    match list(input) {
        Some(items) => items.into_iter().for_each(|item| read(item.get())),
        None => read(input),
    }
    ids
}

/// Returns the body of a request without the ids that are not its caller's, which stand beside a content. `None` if it
/// has none.
///
/// # Errors
///
/// The body cannot be written.
pub(crate) fn without_ids(wire: &Wire, foreign: &HashSet<String>) -> Result<Option<Bytes>, LlmError> {
    if foreign.is_empty() {
        return Ok(None);
    }
    let input = wire.field("input").and_then(|input| std::str::from_utf8(input).ok()).unwrap_or_default();
    let change = |item: &str| {
        let fields = Fields::read(item).filter(|fields| fields.texts("id").any(|id| foreign.contains(&id)))?;
        without_id(&fields)
    };
    let input = match list(input) {
        Some(items) => {
            let changed: Vec<String> =
                items.iter().map(|item| change(item.get()).unwrap_or_else(|| item.get().to_owned())).collect();
            list_of(changed.iter().map(String::as_str))
        }
        None => match change(input) {
            Some(changed) => changed,
            None => return Ok(None),
        },
    };
    Ok(Some(wire.with_fields(&[("input", input.as_bytes())])?.body().clone()))
}

/// Returns true for an item whose content is at the provider.
fn is_by_id(fields: &Fields<'_>) -> bool {
    let has = |name: &str| fields.get(name).is_some_and(|value| !matches!(value, "null" | "\"\"" | "[]"));
    let is = |kind: &str| fields.texts("type").any(|own| own == kind);
    let has_kind = fields.texts("type").next().is_some();
    is("item_reference")
        || !has_kind && !has("content")
        || is("reasoning") && !has("encrypted_content")
        || is("image_generation_call") && !has("result")
}

/// Returns an item without its id, or with a new one; `None` for a sealed thought, whose seal names its id.
fn without_id(fields: &Fields<'_>) -> Option<String> {
    /// The items that need no id.
    const WITHOUT_ID: [&str; 5] =
        ["message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"];
    let kind = fields.text("type");
    match kind.as_deref() {
        Some("reasoning") => None,
        None => Some(fields.with(&["id"], &[])),
        Some(kind) if WITHOUT_ID.contains(&kind) => Some(fields.with(&["id"], &[])),
        Some(_) => {
            let own = fields.text("id").unwrap_or_default();
            let prefix = own.split_once('_').map_or_else(String::new, |(prefix, _)| format!("{prefix}_"));
            Some(fields.with(&[], &[("id", &quote(&new_id(&prefix)?))]))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use steadfast::Dialect;

    use super::*;

    fn wire(input: &Value) -> Wire {
        let body = json!({"model": "m", "input": input}).to_string();
        Wire::new(Dialect::Responses, body).unwrap()
    }

    #[test]
    fn an_id_that_stands_for_the_content_is_told_from_one_beside_it() {
        for (item, is_by_id) in [
            (json!({"type": "item_reference", "id": "x"}), true),
            (json!({"id": "x"}), true),
            (json!({"id": "x", "type": null}), true),
            (json!({"id": "x", "role": "assistant", "content": []}), true),
            (json!({"id": "x", "role": "assistant", "content": "hi"}), false),
            (json!({"id": "x", "type": "message", "role": "assistant", "content": "hi"}), false),
            (json!({"id": "x", "type": "reasoning", "summary": []}), true),
            (json!({"id": "x", "type": "reasoning", "summary": [], "encrypted_content": "s"}), false),
            (json!({"id": "x", "type": "image_generation_call"}), true),
            (json!({"id": "x", "type": "image_generation_call", "result": "cG5n"}), false),
            (json!({"id": "x", "type": "web_search_call", "action": {}}), false),
        ] {
            let ids = item_ids(&wire(&json!([item])));
            let expected = if is_by_id { (1, 0) } else { (0, 1) };
            assert_eq!((ids.referenced.len(), ids.carried.len()), expected, "{item}");
            assert_eq!(item_ids(&wire(&item)), ids, "one item and no list");
        }
        assert_eq!(item_ids(&wire(&json!("hello"))), ItemIds::default());
        // A reader for which the last field counts takes it for a reference.
        let twice =
            r#"{"model":"m","input":[{"type":"message","id":"a","content":"hi","type":"item_reference","id":"b"}]}"#;
        let ids = item_ids(&Wire::new(Dialect::Responses, twice).unwrap());
        assert_eq!(ids.referenced, ["a", "b"]);
    }

    #[test]
    fn an_item_with_its_content_goes_on_without_a_foreign_id() {
        let foreign = HashSet::from(["msg_1".to_owned(), "ws_1".to_owned(), "rs_1".to_owned()]);
        let input = json!([
            {"type": "message", "id": "msg_1", "role": "assistant", "content": "a"},
            {"type": "message", "id": "msg_2", "role": "assistant", "content": "b"},
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
            {"type": "reasoning", "id": "rs_1", "encrypted_content": "sealed", "summary": []},
        ]);
        let body = without_ids(&wire(&input), &foreign).unwrap().unwrap();
        let sent: Value = serde_json::from_slice(&body).unwrap();
        let ids: Vec<&Value> = sent["input"].as_array().unwrap().iter().map(|item| &item["id"]).collect();
        assert_eq!((ids[0], ids[1], ids[3]), (&Value::Null, &json!("msg_2"), &json!("rs_1")));
        let search = ids[2].as_str().unwrap();
        assert!(search.starts_with("ws_") && search.len() > 20 && search != "ws_1", "{search}");
        assert!(without_ids(&wire(&input), &HashSet::new()).unwrap().is_none());
    }
}
