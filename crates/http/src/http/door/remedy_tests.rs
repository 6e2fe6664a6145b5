//! A refusal at a door is about what the door was sent: a part that its own rules leave out is no reason for a second
//! call. Parts × doors.

use bytes::Bytes;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::parts_tests::leaf;
use crate::{Dialect, LlmRequest, Wire, http::testing::Scripted};

/// Parts of a request, each with the words of a server that refuses it, and the doors that leave it out themselves.
fn parts() -> Vec<(Value, &'static str, &'static [&'static str])> {
    const CLOUDS: &[&str] = &["mantle", "runtime", "invoke", "converse", "vertex"];
    let tool = json!([{"type": "web_search_20260209", "name": "web_search"}, {"name": "t", "input_schema": {"type": "object"}}]);
    vec![
        (json!({"service_tier": "auto"}), "service_tier: Extra inputs are not permitted", &CLOUDS[..3]),
        (json!({"service_tier": "auto"}), "service_tier: Extra inputs are not permitted", &["vertex"]),
        (json!({"metadata": {"user_id": "u"}}), "metadata: Extra inputs are not permitted", &["invoke"]),
        (
            json!({"speed": "fast"}),
            "speed: Extra inputs are not permitted",
            &["mantle", "runtime", "invoke", "vertex", "azure"],
        ),
        (
            json!({ "tools": tool }),
            "tools.0: Input tag 'web_search_20260209' found using 'type' does not match any of the expected tags: 'custom'",
            &["mantle", "runtime", "invoke", "vertex"],
        ),
    ]
}

/// The number of calls of a leaf whose server refuses every request in these words.
async fn calls(door: &str, more: &Value, words: &str) -> usize {
    let mut body = json!({"model": "another", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let error =
        json!({"type": "error", "error": {"type": "invalid_request_error", "message": words}, "message": words});
    let transport = Scripted::new(400, "application/json", Bytes::from(error.to_string()));
    let request = LlmRequest::from(Wire::new(Dialect::Anthropic, body.to_string()).unwrap());
    leaf(door).transport(transport.clone()).oneshot(request).await.unwrap_err();
    transport.count()
}

#[tokio::test(start_paused = true)]
async fn a_part_that_the_door_left_out_is_not_asked_for_again() {
    for (more, words, doors) in parts() {
        for door in doors {
            assert_eq!(calls(door, &more, words).await, 1, "{door}: {words}");
        }
    }
}

/// A part that the door did send is left out at a second call, as elsewhere.
#[tokio::test(start_paused = true)]
async fn a_part_that_the_door_was_sent_is_left_out_at_the_second_call() {
    // A client sends these fields of an answer back (anthropics/anthropic-sdk-go#186, 2025-05-15;
    // langchain-ai/langchain-google#1446, 2025-12-17).
    let turn = json!({"messages": [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": [
            {"type": "text", "text": "Let me look.", "citations": null},
            {"type": "tool_use", "id": "toolu_1", "name": "t", "input": {}, "caller": {"type": "direct"}},
        ]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "4"}]},
    ]});
    for (more, words) in [
        (&json!({"context_management": {"edits": []}}), "context_management: Extra inputs are not permitted"),
        (&turn, "messages.1.content.0.text.citations: Extra inputs are not permitted"),
        (&turn, "messages.1.content.1.tool_use.caller: Extra inputs are not permitted"),
    ] {
        for door in ["mantle", "runtime", "invoke", "vertex", "azure"] {
            assert_eq!(calls(door, more, words).await, 2, "{door}: {words}");
        }
    }
}
