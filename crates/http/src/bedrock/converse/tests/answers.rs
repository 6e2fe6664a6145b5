use serde_json::json;

use super::{answered, converted};
use crate::{
    ErrorKind,
    bedrock::converse::{AnswerHead, answer},
};

#[test]
fn an_answer_has_the_form_of_messages() {
    let body = answered(&json!({
        "output": {"message": {"role": "assistant", "content": [
            {"reasoningContent": {"reasoningText": {"text": "so", "signature": "SIG"}}},
            {"reasoningContent": {"redactedContent": "YWJj"}},
            {"text": "hi"},
            {"citationsContent": {"content": [{"text": "cited"}], "citations": [{
                "title": "doc", "sourceContent": [{"text": "quo"}, {"text": "te"}],
                "location": {"documentChar": {"documentIndex": 0, "start": 1, "end": 5}},
            }]}},
            {"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": 1}}},
            {"unknownBlock": {"x": 1}},
        ]}},
        "stopReason": "tool_use",
        "usage": {"inputTokens": 10, "outputTokens": 5, "totalTokens": 40, "cacheReadInputTokens": 20,
            "cacheWriteInputTokens": 5, "cacheDetails": [{"ttl": "1h", "inputTokens": 5}], "serverToolUsage": {}},
        "metrics": {"latencyMs": 7}, "trace": {"guardrail": {}},
    }));
    assert_eq!(
        body,
        json!({
            "id": "r", "type": "message", "role": "assistant", "model": "m",
            "content": [
                {"type": "thinking", "thinking": "so", "signature": "SIG"},
                {"type": "redacted_thinking", "data": "abc"},
                {"type": "text", "text": "hi"},
                {"type": "text", "text": "cited", "citations": [{
                    "type": "char_location", "cited_text": "quote", "document_title": "doc", "document_index": 0,
                    "start_char_index": 1, "end_char_index": 5,
                }]},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
                {"type": "unknownBlock", "unknownBlock": {"x": 1}},
            ],
            "stop_reason": "tool_use", "stop_sequence": null,
            "usage": {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 20,
                "cache_creation_input_tokens": 5, "cache_creation": {"ephemeral_1h_input_tokens": 5},
                "serverToolUsage": {}},
            "metrics": {"latencyMs": 7}, "trace": {"guardrail": {}},
        })
    );
}

#[test]
fn every_end_of_converse_has_a_word() {
    let of = |reason: &str| {
        answered(&json!({"output": {"message": {"content": []}}, "stopReason": reason, "usage": {},
            "additionalModelResponseFields": {"stop_sequence": "END"}}))
    };
    for same in [
        "end_turn",
        "tool_use",
        "max_tokens",
        "stop_sequence",
        "model_context_window_exceeded",
        "malformed_model_output",
        "malformed_tool_use",
    ] {
        assert_eq!(of(same)["stop_reason"], same);
        assert_eq!(of(same).get("stop_details"), None);
    }
    for cut in ["guardrail_intervened", "content_filtered"] {
        assert_eq!(of(cut)["stop_reason"], "refusal");
        assert_eq!(of(cut)["stop_details"]["explanation"], cut);
    }
    assert_eq!(of("stop_sequence")["stop_sequence"], "END");
}

#[test]
fn what_is_no_answer_is_malformed() {
    for body in [
        "",
        "[]",
        "{}",
        r#"{"message":"secret"}"#,
        r#"{"output":{"message":{}}}"#,
        r#"{"output":{"message":{"content":[1]}}}"#,
    ] {
        let error = answer(body.as_bytes(), &AnswerHead::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{body}");
        assert!(!error.to_string().contains("secret"));
    }
}

#[test]
fn reasoning_goes_there_and_back() {
    for (converse, block) in [
        (json!({"reasoningText": {"text": "so", "signature": "SIG=="}}), "thinking"),
        (json!({"redactedContent": "YWJj"}), "redacted_thinking"),
        // Bytes that are no text.
        (json!({"redactedContent": "/wD/"}), "redacted_thinking"),
    ] {
        let content = json!([{"reasoningContent": converse}]);
        let body =
            answered(&json!({"output": {"message": {"content": content}}, "stopReason": "end_turn", "usage": {}}));
        assert_eq!(body["content"][0]["type"], block);
        let next = json!({"max_tokens": 1, "messages": [{"role": "assistant", "content": body["content"]}]});
        assert_eq!(converted(&next).0["messages"][0]["content"], content);
    }
}
