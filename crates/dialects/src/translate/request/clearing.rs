//! The edits that clear thoughts from a conversation, as Claude Code asks for them (`context_management`).
//!
//! Anthropic's API refuses them where the model does not think: "`clear_thinking_20251015` strategy requires `thinking`
//! to be enabled or adaptive" (anthropics/claude-code#11971, 2025-11-19). So they go where thinking goes.

use serde_json::Value;

/// The field of the edits.
pub(crate) const CONTEXT: &str = "context_management";

/// Returns the value of [`CONTEXT`] without these edits, `null` if it has no others; `None` if it has none of these.
pub(crate) fn without_clearing(context: &Value) -> Option<Value> {
    let clears = |edit: &Value| edit["type"].as_str().is_some_and(|kind| kind.starts_with("clear_thinking"));
    let edits = context["edits"].as_array().filter(|edits| edits.iter().any(clears))?;
    let others: Vec<Value> = edits.iter().filter(|edit| !clears(edit)).cloned().collect();
    let mut left = context.clone();
    match others.is_empty() {
        true => Some(Value::Null),
        false => {
            left["edits"] = others.into();
            Some(left)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_other_edits_stay() {
        let clearing = json!({"type": "clear_thinking_20251015", "keep": "all"});
        let other = json!({"type": "clear_tool_uses_20250919", "trigger": {"type": "input_tokens", "value": 30000}});
        assert_eq!(without_clearing(&json!({"edits": [clearing]})), Some(Value::Null));
        assert_eq!(
            without_clearing(&json!({"edits": [clearing, other], "x": 1})),
            Some(json!({"edits": [other], "x": 1}))
        );
        for none in
            [json!({"edits": [other]}), json!({"edits": []}), json!({}), json!(null), json!([]), json!({"edits": "x"})]
        {
            assert_eq!(without_clearing(&none), None, "{none}");
        }
    }
}
