use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::*;
use crate::{
    ErrorKind,
    providers::bedrock::event_stream::{HeaderValue, encode},
};

/// The request of Converse for one of Messages, and its notes.
fn converted(messages: &Value) -> (Value, Vec<String>) {
    let converted = request(messages.to_string().as_bytes()).unwrap();
    let notes: Vec<String> = converted.notes.iter().map(|note| note.to_string()).collect();
    (serde_json::from_slice(&converted.body).unwrap(), notes)
}

fn user(content: &Value) -> Value {
    json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": content}]})
}

fn refusal(content: &Value) -> (ErrorKind, String) {
    let error = request(user(content).to_string().as_bytes()).unwrap_err();
    (error.kind(), error.message().to_owned())
}

fn answered(body: &Value) -> Value {
    let head = AnswerHead::default().id("r").model("m");
    serde_json::from_slice(&answer(body.to_string().as_bytes(), &head).unwrap()).unwrap()
}

/// One event of `ConverseStream`.
fn event(kind: &str, payload: &Value) -> Vec<u8> {
    let headers = [(":event-type", HeaderValue::Text(kind)), (":message-type", HeaderValue::Text("event"))];
    encode(&headers, payload.to_string().as_bytes()).unwrap()
}

fn exception(kind: &str, payload: &str) -> Vec<u8> {
    let headers = [(":exception-type", HeaderValue::Text(kind)), (":message-type", HeaderValue::Text("exception"))];
    encode(&headers, payload.as_bytes()).unwrap()
}

/// The events of Messages, and the error that ends them.
async fn messages(events: &[Vec<u8>]) -> (Vec<Value>, Option<String>) {
    let body = stream::iter([Ok(Bytes::from(events.concat()))]);
    let head = AnswerHead::default().id("r").model("m");
    let (mut text, mut error) = (String::new(), None);
    let mut sse = sse(body, head);
    while let Some(piece) = sse.next().await {
        match piece {
            Ok(piece) => text.push_str(str::from_utf8(&piece).unwrap()),
            Err(broken) => error = Some(broken.to_string()),
        }
    }
    let read = |block: &str| {
        let (name, data) = block.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
        data
    };
    (text.split("\n\n").filter(|block| !block.is_empty()).map(read).collect(), error)
}

fn kinds(events: &[Value]) -> Vec<String> {
    let name = |event: &Value| match event["index"].as_u64() {
        Some(index) => format!("{} {index}", event["type"].as_str().unwrap()),
        None => event["type"].as_str().unwrap().to_owned(),
    };
    events.iter().map(name).collect()
}

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

#[tokio::test]
async fn a_stream_has_the_order_and_the_indices_of_messages() {
    let delta = |index: u64, delta: Value| {
        event("contentBlockDelta", &json!({"contentBlockIndex": index, "delta": delta, "p": "abc"}))
    };
    let stop = |index: u64| event("contentBlockStop", &json!({"contentBlockIndex": index}));
    let usage = json!({"usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}, "metrics": {"latencyMs": 1}});
    let mut stream = vec![
        event("messageStart", &json!({"role": "assistant"})),
        delta(0, json!({"reasoningContent": {"text": "so"}})),
        delta(0, json!({"reasoningContent": {"signature": "SIG"}})),
        stop(0),
        delta(1, json!({"reasoningContent": {"redactedContent": "YWI="}})),
        delta(1, json!({"reasoningContent": {"redactedContent": "Yw=="}})),
        stop(1),
        // An empty text is no block.
        delta(2, json!({"text": ""})),
        stop(2),
        delta(3, json!({"text": "hi"})),
        event("somethingNew", &json!([1])),
        event(
            "contentBlockStart",
            &json!({"contentBlockIndex": 5, "start": {"toolUse": {"toolUseId": "t", "name": "f"}}}),
        ),
        delta(5, json!({"toolUse": {"input": "{\"a\":"}})),
        delta(5, json!({"toolUse": {"input": "1}"}})),
        stop(5),
        event("messageStop", &json!({"stopReason": "tool_use"})),
        event("metadata", &usage),
    ];
    let (events, error) = messages(&stream).await;
    assert_eq!(error, None);
    assert_eq!(
        kinds(&events),
        [
            "message_start",
            "content_block_start 0",
            "content_block_delta 0",
            "content_block_delta 0",
            "content_block_stop 0",
            "content_block_start 1",
            "content_block_stop 1",
            "content_block_start 2",
            "content_block_delta 2",
            "content_block_stop 2",
            "content_block_start 3",
            "content_block_delta 3",
            "content_block_delta 3",
            "content_block_stop 3",
            "message_delta",
            "message_stop",
        ]
    );
    assert_eq!(events[0]["message"]["id"], "r");
    assert_eq!(events[3]["delta"], json!({"type": "signature_delta", "signature": "SIG"}));
    assert_eq!(events[5]["content_block"], json!({"type": "redacted_thinking", "data": "abc"}));
    assert_eq!(events[10]["content_block"], json!({"type": "tool_use", "id": "t", "name": "f", "input": {}}));
    assert_eq!(events[12]["delta"], json!({"type": "input_json_delta", "partial_json": "1}"}));
    assert_eq!(events[14]["delta"], json!({"stop_reason": "tool_use", "stop_sequence": null}));
    assert_eq!(events[14]["usage"], json!({"input_tokens": 3, "output_tokens": 4}));
    assert_eq!(events[14]["metrics"], json!({"latencyMs": 1}));
    // The usage may come before the end, too.
    let metadata = stream.pop().unwrap();
    stream.insert(1, metadata);
    assert_eq!(messages(&stream).await, (events.clone(), None));
    // Without it the answer is whole.
    stream.remove(1);
    let (cut, error) = messages(&stream).await;
    assert_eq!((kinds(&cut), error), (kinds(&events), None));
    assert_eq!(cut[14]["usage"], json!({}));
    // Without its end it is not.
    stream.pop();
    let (cut, error) = messages(&stream).await;
    assert_eq!(cut.last().unwrap()["type"], "content_block_stop");
    assert_eq!(error.unwrap(), "the event stream ends before the answer does");
}

#[tokio::test]
async fn an_empty_answer_is_an_answer() {
    let (events, error) = messages(&[event("messageStop", &json!({"stopReason": "end_turn"}))]).await;
    assert_eq!(
        (kinds(&events), error),
        (["message_start", "message_delta", "message_stop"].map(String::from).to_vec(), None)
    );
}

#[tokio::test]
async fn a_guardrail_in_a_stream_keeps_its_trace() {
    let trace = json!({"guardrail": {"inputAssessment": {}}});
    let (events, error) = messages(&[
        event("messageStart", &json!({"role": "assistant"})),
        event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": "Sorry."}})),
        event("messageStop", &json!({"stopReason": "guardrail_intervened"})),
        event("metadata", &json!({"usage": {"inputTokens": 0, "outputTokens": 0}, "trace": trace})),
    ])
    .await;
    assert_eq!(error, None);
    let delta = events.iter().find(|event| event["type"] == "message_delta").unwrap();
    assert_eq!((&delta["delta"]["stop_reason"], &delta["trace"]), (&json!("refusal"), &trace));
}

#[tokio::test]
async fn an_exception_in_a_stream_is_an_error_of_messages() {
    let start = event("messageStart", &json!({"role": "assistant"}));
    for (exception, kind, message) in [
        (exception("throttlingException", r#"{"message":"Too many tokens"}"#), "rate_limit_error", "Too many tokens"),
        (
            exception("serviceUnavailableException", "{}"),
            "overloaded_error",
            "Bedrock reports serviceUnavailableException",
        ),
        (
            exception("modelStreamErrorException", r#"{"message":"a","originalStatusCode":500,"originalMessage":"b"}"#),
            "api_error",
            "a: b",
        ),
        (exception("validationException", "no JSON"), "invalid_request_error", "Bedrock reports validationException"),
        (exception("newException", r#"{"Message":"x"}"#), "api_error", "x"),
        (
            encode(
                &[
                    (":message-type", HeaderValue::Text("error")),
                    (":error-code", HeaderValue::Text("InternalServerException")),
                    (":error-message", HeaderValue::Text("oops")),
                ],
                b"",
            )
            .unwrap(),
            "api_error",
            "oops",
        ),
    ] {
        let late = event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": "late"}}));
        let (events, error) = messages(&[start.clone(), exception, late]).await;
        assert_eq!((kinds(&events), error), (["message_start", "error"].map(String::from).to_vec(), None));
        assert_eq!((&events[1]["error"]["type"], &events[1]["error"]["message"]), (&json!(kind), &json!(message)));
    }
    // Behind the end it changes nothing.
    let whole =
        [start, event("messageStop", &json!({"stopReason": "end_turn"})), exception("throttlingException", "{}")];
    let (events, error) = messages(&whole).await;
    assert_eq!((events.last().unwrap()["type"].as_str(), error), (Some("message_stop"), None));
}

#[tokio::test]
async fn what_does_not_follow_converse_breaks_the_stream() {
    for (kind, payload) in [
        ("contentBlockDelta", json!([])),
        ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"toolUse": {"input": "{}"}}})),
        ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"reasoningContent": {"redactedContent": "!"}}})),
    ] {
        let (_, error) = messages(&[event(kind, &payload)]).await;
        assert!(error.is_some(), "{payload}");
    }
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
