use serde_json::{Value, json};

use super::{converted, refusal, user};
use crate::{ErrorKind, bedrock::converse::request};

#[test]
fn a_conversation_with_tools_has_its_place_in_converse() {
    let (body, notes) = converted(&json!({
        "model": "m", "stream": true, "max_tokens": 100, "temperature": 0.50, "top_p": 1, "top_k": 5,
        "stop_sequences": ["END"],
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "user", "content": [{"type": "text", "text": "weather?", "cache_control": {"type": "ephemeral"}}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "so", "signature": "SIG"},
                {"type": "redacted_thinking", "data": "abc"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1.0}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "is_error": true, "content": [{"type": "text", "text": "no"}]},
            ]},
        ],
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
        "tool_choice": {"type": "tool", "name": "f"},
        "thinking": {"type": "enabled", "budget_tokens": 50},
        "metadata": {"user_id": "u-1"},
    }));
    assert_eq!(
        body,
        json!({
            "messages": [
                {"role": "user", "content": [{"text": "hi"}, {"text": "weather?"}, {"cachePoint": {"type": "default"}}]},
                {"role": "assistant", "content": [
                    {"reasoningContent": {"reasoningText": {"text": "so", "signature": "SIG"}}},
                    {"reasoningContent": {"redactedContent": "YWJj"}},
                    {"toolUse": {"toolUseId": "t1", "name": "f", "input": {"a": 1.0}}},
                ]},
                {"role": "user", "content": [
                    {"toolResult": {"toolUseId": "t1", "content": [{"text": "no"}], "status": "error"}},
                ]},
            ],
            "system": [{"text": "s"}, {"cachePoint": {"type": "default", "ttl": "1h"}}],
            "toolConfig": {
                "tools": [
                    {"toolSpec": {"name": "f", "description": "d", "inputSchema": {"json": {"type": "object"}}}},
                    {"cachePoint": {"type": "default"}},
                ],
                "toolChoice": {"tool": {"name": "f"}},
            },
            "inferenceConfig": {"maxTokens": 100, "temperature": 0.5, "topP": 1, "stopSequences": ["END"]},
            "additionalModelResponseFieldPaths": ["/stop_sequence", "/delta/stop_sequence"],
            "requestMetadata": {"user_id": "u-1"},
            "additionalModelRequestFields": {"top_k": 5, "thinking": {"type": "enabled", "budget_tokens": 50}},
        })
    );
    assert_eq!(notes, [""; 0]);
}

#[test]
fn values_are_written_as_they_are_spelled() {
    let body = r#"{"max_tokens": 1e2, "temperature": 0.10, "messages": [{"role": "user", "content": [
        {"type": "image", "source": {"type": "base64", "media_type": "image/jpg", "data": "\/9j\/AA=="}}]}]}"#;
    let converted = request(body.as_bytes()).unwrap();
    let text = String::from_utf8(converted.body).unwrap();
    assert!(text.contains(r#""bytes":"\/9j\/AA==""#) && text.contains(r#""format":"jpeg""#), "{text}");
    assert!(text.contains(r#"{"maxTokens":1e2,"temperature":0.10}"#), "{text}");
}

#[test]
fn documents_get_names_that_converse_takes() {
    let pdf = json!({"type": "base64", "media_type": "application/pdf", "data": "AA=="});
    let (body, notes) = converted(&user(&json!([
        {"type": "document", "title": "Q3  report: é.pdf", "source": pdf, "citations": {"enabled": true}, "context": "c"},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "part"}]}},
        {"type": "document", "title": "x", "source": {"type": "url", "url": "s3://bucket/a.MD"}},
        {"type": "search_result", "source": "https://a", "title": "t", "content": [{"type": "text", "text": "found"}],
            "citations": {"enabled": false}},
    ])));
    assert_eq!(
        body["messages"][0]["content"],
        json!([
            {"document": {"format": "pdf", "name": "Q3 report- --pdf", "source": {"bytes": "AA=="}, "context": "c",
                "citations": {"enabled": true}}},
            {"document": {"format": "txt", "name": "document", "source": {"bytes": "aGk="}}},
            {"document": {"name": "document 3", "source": {"content": [{"text": "part"}]}}},
            {"document": {"format": "md", "name": "x", "source": {"s3Location": {"uri": "s3://bucket/a.MD"}}}},
            {"searchResult": {"source": "https://a", "title": "t", "content": [{"text": "found"}],
                "citations": {"enabled": false}}},
            {"text": "(document)"},
        ])
    );
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].starts_with("file_name: ") && notes[1].starts_with("document_alone: "), "{notes:?}");
}

#[test]
fn what_would_change_the_question_is_refused_by_its_place() {
    let url = json!({"type": "url", "url": "https://a/b.png"});
    let unknown = json!({"type": "base64", "media_type": "image/tiff", "data": "AA=="});
    for (content, kind, place) in [
        (json!([{"type": "image", "source": url}]), ErrorKind::UnsupportedFeature, "messages.0.content.0"),
        (json!([{"type": "image", "source": unknown}]), ErrorKind::UnsupportedFeature, "media_type"),
        (
            json!([{"type": "document", "source": {"type": "file", "file_id": "f"}}]),
            ErrorKind::UnsupportedFeature,
            "uploaded_file",
        ),
        (
            json!([{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "a"}, {"type": "image", "source": url}]}]),
            ErrorKind::UnsupportedFeature,
            "messages.0.content.0.content.1",
        ),
        (json!([{"type": "text"}]), ErrorKind::InvalidRequest, "messages.0.content.0.text"),
        (json!([{"type": "tool_use", "name": "f"}]), ErrorKind::InvalidRequest, "messages.0.content.0.id"),
        (json!([7]), ErrorKind::InvalidRequest, "messages.0.content.0"),
        (json!(7), ErrorKind::InvalidRequest, "messages.0.content"),
    ] {
        let (found, message) = refusal(&content);
        assert_eq!(found, kind, "{message}");
        assert!(message.contains(place), "{message}");
    }
    for body in ["", "[]", "{", r#"{"messages": 7}"#, r#"{"messages": [], "messages": []}"#, "\u{feff}"] {
        assert_eq!(request(body.as_bytes()).unwrap_err().kind(), ErrorKind::InvalidRequest, "{body}");
    }
    assert_eq!(request(b"\xff").unwrap_err().kind(), ErrorKind::InvalidRequest);
}

/// A field of `null` is absent: SDKs write it for what their callers left out.
#[test]
fn a_field_of_null_is_absent() {
    let (plain, _) = converted(&user(&json!("hi")));
    for name in [
        "system",
        "temperature",
        "top_p",
        "top_k",
        "stop_sequences",
        "tools",
        "tool_choice",
        "cache_control",
        "metadata",
        "service_tier",
        "output_config",
        "output_format",
        "thinking",
        "thread",
        "compaction",
        "container",
        "mcp_servers",
        "speed",
        "fallbacks",
        "context_management",
        "guardrailConfig",
        "serviceTier",
        "additionalModelRequestFields",
        "odd",
    ] {
        let mut body = user(&json!("hi"));
        body[name] = Value::Null;
        assert_eq!(converted(&body), (plain.clone(), Vec::new()), "{name}");
    }
    let mut body = user(&json!("hi"));
    body["thread"] = json!({"type": "create", "previous_message_id": null});
    assert_eq!(converted(&body).0, plain);
    for (name, value) in [("compaction", json!({})), ("thread", json!({"previous_message_id": "m"}))] {
        let mut body = user(&json!("hi"));
        body[name] = value;
        let error = request(body.to_string().as_bytes()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::UnsupportedFeature, "{name}");
        assert!(error.message().contains(name), "{}", error.message());
    }
}

#[test]
fn every_loss_is_a_note() {
    let (body, notes) = converted(&json!({
        "max_tokens": 1, "service_tier": "auto", "container": "c", "metadata": {"user_id": "{\"a\": 1}"},
        "messages": [
            {"role": "system", "content": "mid"},
            {"role": "assistant", "content": [
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
                {"type": "text", "text": "a", "citations": [{"type": "char_location"}]},
            ]},
        ],
        "tools": [
            {"name": "f", "input_schema": {"type": "object"}, "defer_loading": true},
            {"type": "web_search_20250305", "name": "web_search"},
        ],
    }));
    assert_eq!(body["messages"][0]["content"], json!([{"text": "[system]\nmid"}]));
    assert_eq!(body["messages"][1]["content"], json!([{"text": "a"}]));
    assert_eq!(body["toolConfig"]["tools"].as_array().unwrap().len(), 1);
    assert_eq!(body.get("container"), None);
    for feature in [
        "system_in_the_middle: ",
        "own_part (server_tool_use and 1 more): ",
        "citations: ",
        "tool_setting (defer_loading): ",
        "server_tool (web_search_20250305): ",
        "end_user: ",
        "service_tier (auto): ",
        "other_field (container): ",
    ] {
        assert_eq!(notes.iter().filter(|note| note.starts_with(feature)).count(), 1, "{feature} in {notes:?}");
    }
    assert_eq!(notes.len(), 8);
    assert!(request(user(&json!("hi")).to_string().as_bytes()).is_ok_and(|converted| !converted.is_lossy));
}

#[test]
fn a_choice_that_converse_lacks_goes_to_the_model() {
    let tools = json!([{"name": "f", "input_schema": {"type": "object"}}]);
    let of = |choice: Value, tools: &Value| {
        let mut body = user(&json!("hi"));
        body["tool_choice"] = choice;
        body["tools"] = tools.clone();
        converted(&body).0
    };
    let none = of(json!({"type": "none"}), &tools);
    assert_eq!(none["additionalModelRequestFields"], json!({"tool_choice": {"type": "none"}}));
    assert_eq!(none["toolConfig"].get("toolChoice"), None);
    let single = json!({"type": "auto", "disable_parallel_tool_use": true});
    let body = of(single.clone(), &tools);
    assert_eq!(body["toolConfig"]["toolChoice"], json!({"auto": {}}));
    assert_eq!(body["additionalModelRequestFields"], json!({"tool_choice": single}));
    // Anthropic's own tools for its caller have no place in a `toolConfig`.
    let own = json!([{"type": "bash_20250124", "name": "bash"}]);
    let body = of(json!({"type": "any"}), &own);
    assert_eq!(body.get("toolConfig"), None);
    assert_eq!(body["additionalModelRequestFields"], json!({"tools": own, "tool_choice": {"type": "any"}}));
}

#[test]
fn tools_of_the_history_are_declared() {
    let (body, notes) = converted(&json!({"max_tokens": 1, "messages": [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]},
    ]}));
    let declared = json!([{"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}]);
    assert_eq!(body["toolConfig"], json!({"tools": declared}));
    assert!(notes[0].starts_with("undeclared_tool (f): "), "{notes:?}");
}

#[test]
fn the_schema_of_the_answer_and_the_effort_have_places() {
    let mut body = user(&json!("hi"));
    body["output_config"] =
        json!({"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}, "task_budget": 1});
    let (body, _) = converted(&body);
    assert_eq!(
        body["outputConfig"],
        json!({"effort": "low", "textFormat": {"type": "json_schema",
            "structure": {"jsonSchema": {"schema": "{\"type\":\"object\"}"}}}})
    );
    assert_eq!(body["additionalModelRequestFields"], json!({"output_config": {"task_budget": 1}}));
}

#[test]
fn a_cache_mark_of_the_whole_request_covers_the_last_block() {
    let mut body = user(&json!([{"type": "text", "text": "hi"}]));
    body["cache_control"] = json!({"type": "ephemeral"});
    let expected = json!([{"text": "hi"}, {"cachePoint": {"type": "default"}}]);
    assert_eq!(converted(&body).0["messages"][0]["content"], expected);
    body["messages"][0]["content"][0]["cache_control"] = json!({"type": "ephemeral"});
    assert_eq!(converted(&body).0["messages"][0]["content"], expected, "there is one already");
}

#[test]
fn empty_texts_and_turns_are_left_out() {
    let (body, _) = converted(&json!({"max_tokens": 1, "system": "", "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "text", "text": ""}]},
        {"role": "user", "content": [{"type": "text", "text": "go on"}]},
    ]}));
    assert_eq!(body["messages"], json!([{"role": "user", "content": [{"text": "hi"}, {"text": "go on"}]}]));
    assert_eq!(body.get("system"), None);
}

#[test]
fn bedrocks_own_fields_pass() {
    let mut body = user(&json!("hi"));
    body["guardrailConfig"] = json!({"guardrailIdentifier": "g", "guardrailVersion": "1"});
    body["additionalModelRequestFields"] = json!({"a": 1});
    body["b"] = json!(2);
    let (body, _) = converted(&body);
    assert_eq!(body["guardrailConfig"]["guardrailIdentifier"], "g");
    assert_eq!(body["additionalModelRequestFields"], json!({"a": 1, "b": 2}));
}

/// A picture is copied once: into the request of Converse.
#[test]
fn a_large_picture_is_copied_once() {
    let picture = "A".repeat(8 << 20);
    let source = json!({"type": "base64", "media_type": "image/png", "data": picture});
    let body = user(&json!([{"type": "image", "source": source}])).to_string();
    let allocated = allocation_counter::measure(|| {
        let converted = request(body.as_bytes()).unwrap();
        assert!(converted.body.len() > picture.len());
    });
    assert!(allocated.bytes_max < body.len() as u64 + (64 << 10), "{} bytes at once", allocated.bytes_max);
    assert!(allocated.bytes_total < body.len() as u64 + (64 << 10), "{} bytes in all", allocated.bytes_total);
}
