//! The items of a conversation: as they are kept, and as they are sent again.

use std::borrow::Cow;

use super::{
    json::{Fields, list, list_of, quote},
    new_id,
};

/// The event of a finished item.
pub(super) const DONE: &str = "response.output_item.done";

/// Returns the place and the text of the item that an event finishes.
pub(super) fn finished<'a>(event: &Fields<'a>) -> Option<(u64, &'a str)> {
    event.get("output_index").and_then(|place| place.parse().ok()).zip(event.get("item"))
}

/// An item as it is kept.
pub(super) struct Item {
    pub(super) id: Option<String>,
    pub(super) json: String,
}

/// Returns the id of a referenced item, if the item is a reference.
pub(super) fn reference(item: &str) -> Option<String> {
    // Most items are none, and are not parsed.
    let fields = memchr::memmem::find(item.as_bytes(), b"item_reference").and_then(|_| Fields::read(item))?;
    (fields.text("type")? == "item_reference").then(|| fields.text("id"))?
}

/// Returns an item in the form in which callers read it again: each has an id and a type, and a message has its content
/// in parts. The provider judges what is no item; it stays as it is.
pub(super) fn normalize(item: &str) -> Item {
    let Some(fields) = Fields::read(item) else { return Item { id: None, json: item.to_owned() } };
    let kind = fields.text("type");
    let role = fields.text("role");
    let kind = match (kind, &role) {
        (Some(kind), _) => kind,
        (None, Some(_)) => "message".to_owned(),
        (None, None) => return Item { id: fields.text("id"), json: item.to_owned() },
    };
    let id = fields.text("id").or_else(|| new_id(prefix(&kind)));
    let id_json = id.as_deref().map(quote);
    let kind_json = quote(&kind);
    let content = fields.get("content").filter(|content| kind == "message" && content.starts_with('"'));
    let content = content.map(|text| format!("[{}]", part(role.as_deref(), text)));
    let mut set = vec![("type", &*kind_json)];
    set.extend(id_json.as_deref().map(|id| ("id", id)));
    set.extend(content.as_deref().map(|content| ("content", content)));
    if kind == "message" && fields.get("status").is_none() {
        set.push(("status", "\"completed\""));
    }
    Item { id, json: fields.with(&[], &set) }
}

/// Returns the item of an `input` that is a text.
pub(super) fn of_text(text: &str) -> String {
    format!(r#"{{"type":"message","role":"user","content":[{}]}}"#, part(Some("user"), text))
}

/// Returns a message's part with a text, which is JSON already.
fn part(role: Option<&str>, text: &str) -> String {
    match role {
        Some("assistant") => format!(r#"{{"type":"output_text","text":{text},"annotations":[]}}"#),
        _ => format!(r#"{{"type":"input_text","text":{text}}}"#),
    }
}

/// Returns the beginning of an item's id, as OpenAI gives it.
fn prefix(kind: &str) -> &'static str {
    match kind {
        "message" => "msg_",
        "reasoning" => "rs_",
        "function_call" => "fc_",
        "custom_tool_call" => "ctc_",
        "function_call_output" => "fco_",
        "custom_tool_call_output" => "ctco_",
        _ => "item_",
    }
}

/// Returns an item of an earlier turn in the form that any provider takes; `None` for one that none takes: a thought
/// without its sealed content, and a call that was cut off.
pub(super) fn to_sendable(item: &str) -> Option<Cow<'_, str>> {
    /// The items whose ids only their own account knows, and which need none.
    const WITHOUT_ID: [&str; 5] =
        ["message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"];
    const CALLS: [&str; 2] = ["function_call", "custom_tool_call"];
    let Some(fields) = Fields::read(item) else { return Some(Cow::Borrowed(item)) };
    let kind = fields.text("type").unwrap_or_default();
    if kind == "reasoning" && fields.text("encrypted_content").is_none_or(|sealed| sealed.is_empty()) {
        return None;
    }
    if CALLS.contains(&&*kind) && fields.text("status").as_deref() == Some("incomplete") {
        return None;
    }
    if WITHOUT_ID.contains(&&*kind) && fields.get("id").is_some() {
        return Some(Cow::Owned(fields.with(&["id"], &[])));
    }
    Some(Cow::Borrowed(item))
}

/// Returns the items of a response's `output`.
pub(super) fn output(response: &str) -> Vec<&str> {
    let output = Fields::read(response).and_then(|fields| fields.get("output"));
    output.and_then(list).unwrap_or_default().into_iter().map(|item| item.get()).collect()
}

/// Returns the id of an item.
pub(super) fn id_of(item: &str) -> Option<String> {
    Fields::read(item)?.text("id")
}

/// Writes items as a list.
pub(super) fn join(items: &[Item]) -> String {
    list_of(items.iter().map(|item| &*item.json))
}
