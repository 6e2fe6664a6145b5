//! The parts of a conversation that run at a provider, or lie there, at each door: kind × door × whole and stream.

use http::HeaderMap;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::AwsApi;
use crate::{
    Anthropic, Dialect, ErrorKind, Gemini, LlmRequest, Wire,
    bedrock::event_stream::{HeaderValue, encode},
    credentials::{Credentials, Token},
    http::testing::Scripted,
};

const MESSAGE: &str = r#"{"type":"message","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}"#;
const CONVERSE: &str = r#"{"output":{"message":{"content":[{"text":"hi"}]}},"stopReason":"end_turn"}"#;
const GEMINI: &str = r#"{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}]}"#;

const DOORS: [&str; 6] = ["mantle", "runtime", "invoke", "converse", "vertex", "azure"];
/// The doors that run nothing of Anthropic's but the search for tools, if that.
const CLOUDS: [&str; 5] = ["mantle", "runtime", "invoke", "converse", "vertex"];

pub(super) fn leaf(door: &str) -> Anthropic {
    let bearer = || Credentials::token(Token::bearer("a-token-of-length"));
    let aws =
        |api, model| Anthropic::on_aws("us-east-1").unwrap().aws_api(api).unwrap().credentials(bearer()).model(model);
    let profile = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
    match door {
        "mantle" => aws(AwsApi::Mantle, "anthropic.claude-sonnet-4-5"),
        "runtime" => aws(AwsApi::Runtime, profile),
        "invoke" => aws(AwsApi::Invoke, profile),
        "converse" => aws(AwsApi::Converse, profile),
        "azure" => Anthropic::on_azure("my-resource").unwrap().key("a-key").model("our-claude"),
        _ => Anthropic::on_vertex("my-project", "global")
            .unwrap()
            .credentials(bearer())
            .model("claude-sonnet-4-5@20250929"),
    }
}

/// The body that a door is sent, and the notes, or the refusal. Nothing is sent with a refusal.
pub(super) async fn sent(door: &str, body: &Value, stream: bool) -> Result<(Value, Vec<String>), (ErrorKind, String)> {
    let transport = Scripted::json(if door == "converse" { CONVERSE } else { MESSAGE });
    let request = LlmRequest::from(Wire::new(Dialect::Anthropic, body.to_string()).unwrap()).with_stream(stream);
    match leaf(door).transport(transport.clone()).oneshot(request).await {
        Ok(response) => Ok((transport.sent(), response.notes().iter().map(ToString::to_string).collect())),
        // A whole answer to a stream is none; what was sent counts.
        Err(error) if stream && error.kind() != ErrorKind::UnsupportedFeature => Ok((transport.sent(), Vec::new())),
        Err(error) => Err((error.kind(), error.message().to_owned())),
    }
}

fn asked(more: Value) -> Value {
    let mut body = json!({"model": "c", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// A tool of the caller's own.
fn own() -> Value {
    json!({"name": "t", "description": "in_2024 or _2025", "input_schema": {"type": "object", "properties": {}}})
}

fn note<'a>(notes: &'a [String], feature: &str) -> Option<&'a String> {
    notes.iter().find(|note| note.starts_with(&format!("{feature} (")) || note.starts_with(&format!("{feature}: ")))
}

/// The names of the tools that a door is sent, whatever its format.
fn tools(sent: &Value) -> Vec<String> {
    let direct = sent["tools"].as_array().into_iter().flatten();
    let of_model = sent["additionalModelRequestFields"]["tools"].as_array().into_iter().flatten();
    let specs = sent["toolConfig"]["tools"].as_array().into_iter().flatten().map(|tool| &tool["toolSpec"]);
    let all = direct.chain(of_model).chain(specs);
    let mut names: Vec<String> = all.map(|tool| tool["name"].as_str().unwrap_or("?").to_owned()).collect();
    names.sort();
    names
}

/// Anthropic's own tools, and the doors that run them. By Anthropic's pages on each.
fn hosted() -> Vec<(Value, &'static [&'static str])> {
    let named = |kind: &str, name: &str| json!({"type": kind, "name": name});
    vec![
        (named("web_search_20250305", "web_search"), &["vertex", "azure"]),
        (named("web_search_20260209", "web_search"), &["azure"]),
        (named("web_search_20260318", "web_search"), &["azure"]),
        (named("web_fetch_20250910", "web_fetch"), &["azure"]),
        (named("web_fetch_20260309", "web_fetch"), &["azure"]),
        (named("code_execution_20250522", "code_execution"), &["azure"]),
        (named("code_execution_20260120", "code_execution"), &["azure"]),
        (named("advisor_20260301", "advisor"), &["azure"]),
        (named("tool_of_tomorrow_20270101", "tomorrow"), &["azure"]),
        (json!({"type": "mcp_toolset", "mcp_server_name": "s"}), &["azure"]),
        (
            named("tool_search_tool_regex_20251119", "tool_search_tool_regex"),
            &["mantle", "runtime", "invoke", "vertex", "azure"],
        ),
        (
            named("tool_search_tool_bm25_20251119", "tool_search_tool_bm25"),
            &["mantle", "runtime", "invoke", "vertex", "azure"],
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_a_door_does_not_run_is_left_out_with_a_note() {
    for (tool, runs) in hosted() {
        let kind = tool["type"].as_str().unwrap().to_owned();
        let name = tool["name"].as_str().unwrap_or("?").to_owned();
        for (door, stream) in DOORS.into_iter().flat_map(|door| [(door, false), (door, true)]) {
            for tools_of in [json!([tool, own()]), json!([own(), tool]), json!([tool])] {
                let has_own = tools_of.as_array().unwrap().len() == 2;
                let body = asked(json!({"tools": tools_of, "tool_choice": {"type": "auto"}}));
                let (sent, notes) = sent(door, &body, stream).await.unwrap();
                let mut expected: Vec<String> = if has_own { vec!["t".into()] } else { Vec::new() };
                expected.extend(runs.contains(&door).then(|| name.clone()));
                expected.sort();
                assert_eq!(tools(&sent), expected, "{door} {kind}");
                if !stream {
                    let told = note(&notes, "server_tool").is_some_and(|note| note.contains(&kind));
                    assert_eq!(told, !runs.contains(&door), "{door} {kind}: {notes:?}");
                }
                if expected.is_empty() {
                    assert_eq!(sent.get("tool_choice"), None, "{door} {kind}: a choice among none");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_forced_call_of_such_a_tool_is_refused_by_name() {
    for (tool, runs) in hosted() {
        let name = tool["name"].as_str().unwrap_or("of_the_server").to_owned();
        let choices = [
            (json!({"type": "tool", "name": name}), json!([tool, own()])),
            (json!({"type": "tool", "name": name}), json!([tool])),
            (json!({"type": "any"}), json!([tool])),
        ];
        for ((choice, tools), door) in choices.iter().flat_map(|choice| CLOUDS.map(|door| (choice, door))) {
            let sent = sent(door, &asked(json!({"tools": tools, "tool_choice": choice})), false).await;
            if runs.contains(&door) {
                assert!(sent.is_ok(), "{door} {name}");
                continue;
            }
            let (kind, message) = sent.unwrap_err();
            assert_eq!(kind, ErrorKind::UnsupportedFeature, "{door} {name}: {message}");
            assert!(message.starts_with("forced_server_tool ("), "{message}");
        }
        // Another forced tool stays.
        for door in CLOUDS {
            for choice in [json!({"type": "tool", "name": "t"}), json!({"type": "any"})] {
                let body = asked(json!({"tools": [tool, own()], "tool_choice": choice}));
                assert!(sent(door, &body, false).await.is_ok(), "{door} {name} {choice}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tools_of_the_caller_pass_every_door() {
    for kind in ["bash_20250124", "text_editor_20250728", "memory_20250818", "computer_20250124", "computer_20251124"] {
        let name = kind.rsplit_once('_').unwrap().0;
        for door in DOORS {
            let tools_of = json!([{"type": kind, "name": name}, own()]);
            for choice in [json!({"type": "auto"}), json!({"type": "tool", "name": name})] {
                let body = asked(json!({"tools": tools_of, "tool_choice": choice}));
                let (sent, notes) = sent(door, &body, false).await.unwrap();
                let mut expected = [name, "t"];
                expected.sort_unstable();
                assert_eq!(tools(&sent), expected, "{door}");
                assert_eq!(note(&notes, "server_tool"), None, "{door}: {notes:?}");
            }
        }
    }
}

/// Every block that a server's tool leaves in a conversation, with the doors that know it.
fn blocks() -> Vec<(Value, &'static [&'static str])> {
    const SEARCH: &[&str] = &["mantle", "runtime", "invoke", "vertex", "azure"];
    let call =
        |name: &str| json!({"type": "server_tool_use", "id": "srvtoolu_1", "name": name, "input": {"query": "q"}});
    let result = |kind: &str| json!({"type": kind, "tool_use_id": "srvtoolu_1", "content": []});
    vec![
        (call("web_search"), &["vertex", "azure"]),
        (result("web_search_tool_result"), &["vertex", "azure"]),
        (call("web_fetch"), &["azure"]),
        (result("web_fetch_tool_result"), &["azure"]),
        (call("code_execution"), &["azure"]),
        (call("bash_code_execution"), &["azure"]),
        (result("code_execution_tool_result"), &["azure"]),
        (result("bash_code_execution_tool_result"), &["azure"]),
        (result("text_editor_code_execution_tool_result"), &["azure"]),
        (result("advisor_tool_result"), &["azure"]),
        (json!({"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "n", "server_name": "s", "input": {}}), &["azure"]),
        (json!({"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1", "content": "x"}), &["azure"]),
        (json!({"type": "mcp_tool_listing", "mcp_server_name": "s", "tools": []}), &["azure"]),
        (call("tool_search_tool_regex"), SEARCH),
        (result("tool_search_tool_result"), SEARCH),
    ]
}

/// The types of the blocks of a turn, in either format.
fn kinds(turn: &Value) -> Vec<String> {
    let kind = |block: &Value| match block["type"].as_str() {
        Some(kind) => kind.to_owned(),
        None => block.as_object().unwrap().keys().next().unwrap().clone(),
    };
    turn["content"].as_array().unwrap().iter().map(kind).collect()
}

#[tokio::test(start_paused = true)]
async fn blocks_of_the_history_that_a_door_does_not_know_are_left_out() {
    for (block, known) in blocks() {
        let kind = block["type"].as_str().unwrap().to_owned();
        for (door, stream) in DOORS.into_iter().flat_map(|door| [(door, false), (door, true)]) {
            let text = json!({"type": "text", "text": "said _tool_ \"file_id\""});
            let body = asked(json!({"messages": [
                {"role": "user", "content": "?"},
                {"role": "assistant", "content": [text, block, text]},
                {"role": "user", "content": "and?"},
            ]}));
            let (sent, notes) = sent(door, &body, stream).await.unwrap();
            let expected = match (known.contains(&door), door) {
                (true, _) => vec!["text", &kind, "text"],
                (false, _) => vec!["text", "text"],
            };
            assert_eq!(kinds(&sent["messages"][1]), expected, "{door} {kind}");
            assert_eq!(sent["messages"].as_array().unwrap().len(), 3);
            if !stream {
                let told = note(&notes, "own_part").is_some_and(|note| note.contains(&kind));
                assert_eq!(told, !known.contains(&door), "{door} {kind}: {notes:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_of_such_blocks_alone_stays_a_turn() {
    let call = json!({"type": "server_tool_use", "id": "s", "name": "web_fetch", "input": {}});
    let done = json!({"type": "web_fetch_tool_result", "tool_use_id": "s", "content": {}});
    for door in ["mantle", "runtime", "invoke", "vertex"] {
        let paused = json!([{"role": "user", "content": "?"}, {"role": "assistant", "content": [call, done]}]);
        let (sent, notes) = sent(door, &asked(json!({ "messages": paused })), false).await.unwrap();
        // The door cannot go on with it: some models take no begun answer.
        let said = json!({"role": "assistant", "content": [{"type": "text", "text": "(no answer)"}]});
        let expected = json!([{"role": "user", "content": "?"}, said, {"role": "user", "content": "(go on)"}]);
        assert_eq!(sent["messages"], expected, "{door}");
        assert!(note(&notes, "prefill").is_some(), "{notes:?}");
    }
}

/// The findings of a search stand beside the text too.
#[tokio::test(start_paused = true)]
async fn marks_of_tools_that_are_left_out_go_with_them() {
    let cited = json!({"type": "text", "text": "a", "citations": [
        {"type": "web_search_result_location", "url": "u", "title": "t", "encrypted_index": "e", "cited_text": "c"}]});
    let by_code = |kind: &str| {
        json!({"type": kind, "id": "toolu_1", "name": "t", "input": {},
        "caller": {"type": "code_execution_20250825", "tool_id": "srvtoolu_1"}})
    };
    let direct = json!({"type": "tool_use", "id": "toolu_2", "name": "t", "input": {}, "caller": {"type": "direct"}});
    let result = |id: &str| json!({"type": "tool_result", "tool_use_id": id, "content": "4"});
    let code = json!({"type": "server_tool_use", "id": "srvtoolu_1", "name": "code_execution", "input": {}});
    let mut tool = own();
    tool["allowed_callers"] = json!(["code_execution_20250825"]);
    let body = asked(json!({"tools": [tool], "messages": [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": [code, cited, by_code("tool_use"), direct]},
        {"role": "user", "content": [result("toolu_1"), result("toolu_2")]},
    ]}));
    for door in ["mantle", "runtime", "invoke", "vertex"] {
        let (sent, notes) = sent(door, &body, false).await.unwrap();
        assert_eq!(sent["tools"], json!([own()]), "{door}");
        let turn = &sent["messages"][1]["content"];
        assert_eq!(turn[0].get("citations").is_none(), door != "vertex", "{door}");
        assert_eq!(turn[1], json!({"type": "tool_use", "id": "toolu_1", "name": "t", "input": {}}), "{door}");
        assert_eq!((&turn[2], turn.as_array().unwrap().len()), (&direct, 3), "{door}");
        assert_eq!(sent["messages"][2], body["messages"][2]);
        assert!(note(&notes, "tool_setting").is_some() && note(&notes, "own_part").is_some(), "{notes:?}");
    }
    let (sent, notes) = sent("azure", &body, false).await.unwrap();
    assert_eq!((&sent["messages"], &sent["tools"], notes.len()), (&body["messages"], &body["tools"], 0));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_lies_at_anthropic_is_refused_by_its_place() {
    let file = json!({"type": "file", "file_id": "file_1"});
    let picture = json!({"type": "image", "source": file});
    let inside = json!({"type": "document", "source": {"type": "content", "content": [picture]}});
    let result = |part: &Value| json!({"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "a"}, part]});
    for (block, place) in [
        (picture.clone(), "messages.0.content.1"),
        (json!({"type": "document", "source": file, "title": "t"}), "messages.0.content.1"),
        (inside, "messages.0.content.1"),
        (json!({"type": "container_upload", "file_id": "file_1"}), "messages.0.content.1"),
        (result(&picture), "messages.0.content.1.content.1"),
        (result(&json!({"type": "document", "source": file})), "messages.0.content.1.content.1"),
    ] {
        for (door, stream) in
            ["mantle", "runtime", "invoke", "vertex"].into_iter().flat_map(|door| [(door, false), (door, true)])
        {
            let body =
                asked(json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, block]}]}));
            let (kind, message) = sent(door, &body, stream).await.unwrap_err();
            assert_eq!(kind, ErrorKind::UnsupportedFeature, "{door}: {message}");
            assert!(message.starts_with(&format!("uploaded_file ({place}): ")), "{door}: {message}");
        }
        let body = asked(json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, block]}]}));
        assert!(sent("azure", &body, false).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn fields_of_anthropics_own_servers_are_left_out_or_refused() {
    for (name, value) in [
        ("fallbacks", json!([{"model": "claude-haiku-4-5"}])),
        ("fallbacks", json!("default")),
        ("fallback_credit_token", json!("t")),
        ("diagnostics", json!({"previous_message_id": "msg_1"})),
        ("mcp_servers", json!([{"type": "url", "url": "https://a", "name": "s"}])),
        ("container", json!("c")),
        ("thread", json!({"type": "create"})),
    ] {
        for door in CLOUDS {
            let (sent, notes) = sent(door, &asked(json!({ name: value })), false).await.unwrap();
            assert!(!sent.to_string().contains(name), "{door} {name}: {sent}");
            assert!(notes.iter().any(|note| note.contains(name)), "{door} {name}: {notes:?}");
        }
    }
    let state = json!({"type": "continue", "previous_message_id": "msg_1"});
    for door in CLOUDS {
        let (kind, message) = sent(door, &asked(json!({ "thread": state })), false).await.unwrap_err();
        assert!(kind == ErrorKind::UnsupportedFeature && message.starts_with("state (thread): "), "{door}: {message}");
        assert!(sent(door, &asked(json!({ "thread": null })), false).await.is_ok());
    }
}

/// A body without such a part is neither parsed nor copied: mistakes in it are the provider's to answer.
#[tokio::test(start_paused = true)]
async fn a_body_without_such_parts_is_not_parsed() {
    let body =
        r#"{"max_tokens":9,"messages":[{"role":"user","content":[,{"type":"tool_use","tool_use_id":1}]}],"tools":[,]}"#;
    for door in ["mantle", "invoke", "vertex"] {
        let transport = Scripted::json(MESSAGE);
        let wire = Wire::new(Dialect::Anthropic, body).unwrap().headers(HeaderMap::new());
        leaf(door).transport(transport.clone()).oneshot(wire.into()).await.unwrap();
        let sent = String::from_utf8(transport.body().to_vec()).unwrap();
        assert!(
            sent.contains(
                r#""messages":[{"role":"user","content":[,{"type":"tool_use","tool_use_id":1}]}],"tools":[,]"#
            )
        );
    }
}

/// Ten thousand turns, and a history nested a thousand deep: in time, or refused.
#[tokio::test]
async fn large_and_deep_conversations_are_linear() {
    let turn = r#"{"role":"assistant","content":[{"type":"server_tool_use","id":"s","name":"web_fetch","input":{}},{"type":"text","text":"a"}]}"#;
    let turns = vec![turn; 10_000].join(",");
    let body = format!(r#"{{"max_tokens":9,"messages":[{turns}]}}"#);
    let nested = |depth: usize| {
        let open = r#"{"type":"tool_result","tool_use_id":"x_tool_x","content":["#.repeat(depth);
        format!(r#"{{"max_tokens":9,"messages":[{{"role":"user","content":[{open}{}]}}]}}"#, "]}".repeat(depth))
    };
    for door in ["mantle", "invoke", "vertex"] {
        for body in [body.clone(), nested(1000), nested(100_000)] {
            let wire = Wire::new(Dialect::Anthropic, body).unwrap();
            match leaf(door).transport(Scripted::json(MESSAGE)).oneshot(wire.into()).await {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error}"),
            }
        }
    }
}

/// The parts that google-genai's converters refuse for Vertex AI, and files that it cannot read.
#[tokio::test(start_paused = true)]
async fn vertex_gets_nothing_that_only_googles_api_for_developers_has() {
    let with = |more: Value| {
        let mut body = json!({"contents": [{"role": "user", "parts": [{"text": "?"}]}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let parts = |part: Value| with(json!({"contents": [{"role": "user", "parts": [part, {"text": "?"}]}]}));
    let text = json!([{"role": "user", "parts": [{"text": "?"}]}]);
    let f = json!({"functionDeclarations": [{"name": "f"}]});
    let done = json!({"name": "f", "response": {"output": 1}});
    let with_more = |name: &str, value: Value| {
        let mut done = done.clone();
        done[name] = value;
        json!({ "functionResponse": done })
    };
    let inline = json!({"inlineData": {"mimeType": "image/png", "data": "QUJD"}});
    let mut processed = inline.clone();
    processed["mediaProcessing"] = json!({"a": 1});
    // The body, what is sent of it, and the feature of the note.
    for (body, expected, feature) in [
        (with(json!({"store": true})), with(json!({})), "door"),
        (with(json!({"tools": [{"fileSearch": {}}]})), with(json!({"tools": []})), "server_tool"),
        (with(json!({"tools": [{"file_search": {}}, f]})), with(json!({"tools": [f]})), "server_tool"),
        (
            with(json!({"tools": {"fileSearch": {}, "googleSearch": {}}})),
            with(json!({"tools": [{"googleSearch": {}}]})),
            "server_tool",
        ),
        (with(json!({"tools": [f, {"mcpServers": [{"name": "s"}]}]})), with(json!({"tools": [f]})), "server_tool"),
        (with(json!({"tools": [{"mcp_servers": [{"name": "s"}]}]})), with(json!({"tools": []})), "server_tool"),
        (
            with(
                json!({"toolConfig": {"includeServerSideToolInvocations": true, "functionCallingConfig": {"mode": "AUTO"}}}),
            ),
            with(json!({"toolConfig": {"functionCallingConfig": {"mode": "AUTO"}}})),
            "server_tool",
        ),
        (
            with(json!({"generationConfig": {"enableEnhancedCivicAnswers": true, "topK": 3}})),
            with(json!({"generationConfig": {"topK": 3}})),
            "other_field",
        ),
        (
            with(json!({"generation_config": {"enable_enhanced_civic_answers": true}})),
            with(json!({"generation_config": {}})),
            "other_field",
        ),
        (parts(json!({"text": "a", "partMetadata": {"k": "v"}})), parts(json!({"text": "a"})), "metadata"),
        (parts(json!({"text": "a", "part_metadata": {"k": "v"}})), parts(json!({"text": "a"})), "metadata"),
        (
            parts(json!({"toolCall": {"id": "1"}, "thoughtSignature": "s"})),
            with(json!({ "contents": text })),
            "own_part",
        ),
        (parts(json!({"tool_response": {"id": "1"}})), with(json!({ "contents": text })), "own_part"),
        (parts(with_more("willContinue", json!(false))), parts(json!({ "functionResponse": done })), "other_field"),
        (parts(with_more("parts", json!([processed]))), parts(with_more("parts", json!([inline]))), "other_field"),
    ] {
        let (sent, notes) = at_vertex(&body).await.unwrap();
        assert_eq!(sent, expected);
        assert!(notes.iter().any(|note| note.starts_with(feature)), "{notes:?}");
    }
    let file = "https://generativelanguage.googleapis.com/v1beta/files/abc";
    let inside = json!({"functionResponse": {"name": "f", "response": {}, "parts": [{"fileData": {"fileUri": file}}]}});
    for (body, begin) in [
        (
            parts(json!({"fileData": {"fileUri": file, "mimeType": "image/png"}})),
            "uploaded_file (contents.0.parts.0): ",
        ),
        (parts(json!({"file_data": {"file_uri": file}})), "uploaded_file (contents.0.parts.0): "),
        (parts(inside), "uploaded_file (contents.0.parts.0): "),
        (with(json!({"cachedContent": "cachedContents/1"})), "cached_content (cachedContent): "),
        (with(json!({"cached_content": "cachedContents/1"})), "cached_content (cached_content): "),
    ] {
        let (kind, message) = at_vertex(&body).await.unwrap_err();
        assert_eq!(kind, ErrorKind::UnsupportedFeature, "{message}");
        assert!(message.starts_with(begin), "{message}");
    }
    // A part that it takes passes as it is.
    for body in [
        parts(json!({"fileData": {"fileUri": "gs://bucket/a.png", "mimeType": "image/png"}})),
        parts(json!({"text": "partMetadata \"toolCall\" \"partMetadata\": generativelanguage.googleapis.com/files/1"})),
        parts(json!({"functionCall": {"name": "f", "args": {}, "willContinue": true}})),
        with(json!({"cachedContent": "projects/p/locations/l/cachedContents/1", "labels": {"store": "x"}})),
        with(json!({"tools": [{"googleSearch": {}}, {"codeExecution": {}}, {"urlContext": {}}, f]})),
        with(json!({"safetySettings": [], "systemInstruction": {"parts": [{"text": "s"}]}})),
    ] {
        assert_eq!(at_vertex(&body).await.unwrap(), (body, Vec::new()));
    }
}

/// Vertex AI: "Please use a valid role: user, model."
#[tokio::test(start_paused = true)]
async fn turns_without_a_role_are_the_users_at_vertex() {
    let part = json!([{"text": "role \"role\": {"}]);
    let user = json!({"role": "user", "parts": part});
    let model = json!({"role": "model", "parts": part});
    for (contents, expected) in [
        (json!([{"parts": part}]), json!([user])),
        (json!({"parts": part}), user.clone()),
        (json!([{"parts": part, "role": null}, model, {"role": "", "parts": part}]), json!([user, model, user])),
        (json!([user, model, {"parts": part}]), json!([user, model, user])),
        (json!([model, {}]), json!([model, {"role": "user"}])),
        (json!([user, model]), json!([user, model])),
    ] {
        let (sent, notes) = at_vertex(&json!({ "contents": contents })).await.unwrap();
        assert_eq!((&sent["contents"], notes.len()), (&expected, 0), "{contents}");
    }
    // Nothing but the role is added.
    let transport = Scripted::json(GEMINI);
    let body = "{\"contents\" : [ {\n\"parts\":[{\"text\":\"\\u0041\"}]} , {\"role\":\"model\",\"parts\":[]}]  }";
    ask_vertex(&transport, body.to_owned()).await.unwrap();
    let sent = String::from_utf8(transport.body().to_vec()).unwrap();
    assert_eq!(sent, body.replacen("{\n", "{\"role\":\"user\",\n", 1));
}

async fn ask_vertex(transport: &Scripted, body: String) -> Result<Vec<String>, (ErrorKind, String)> {
    let leaf = Gemini::on_vertex("my-project", "global").unwrap();
    let leaf = leaf.credentials(Credentials::token(Token::bearer("a-token-of-length"))).model("gemini-2.5-pro");
    let wire = Wire::new(Dialect::Gemini, body).unwrap().path("gemini-2.5-pro", false);
    let response = leaf.transport(transport.clone()).oneshot(wire.into()).await;
    let response = response.map_err(|error| (error.kind(), error.message().to_owned()))?;
    Ok(response.notes().iter().map(ToString::to_string).collect())
}

async fn at_vertex(body: &Value) -> Result<(Value, Vec<String>), (ErrorKind, String)> {
    let transport = Scripted::json(GEMINI);
    let notes = ask_vertex(&transport, body.to_string()).await?;
    Ok((transport.sent(), notes))
}

/// Names of 128 letters and odd ids at Converse, whole and streamed; Messages takes the names, and calls that other
/// providers made have the ids.
#[tokio::test(start_paused = true)]
async fn names_and_ids_that_converse_does_not_take_come_back_as_they_were() {
    let long = "mcp__a-very-long-server-name__and_".to_owned() + &"x".repeat(94);
    let twin = long.clone()[..127].to_owned() + "y";
    let cut = long[..55].to_owned() + "_12345678";
    for name in [long.as_str(), &twin, "short", "a.b", "ä", "with space", &cut] {
        for id in ["toolu_1", "functions.f:0", "", "call_ü|x", &"i".repeat(65), &"toolu_sf_".repeat(12)] {
            let tool = |name: &str| json!({"name": name, "input_schema": {"type": "object"}});
            let body = asked(json!({
                "tools": [tool(&long), tool(&twin), tool("short"), tool("a.b"), tool("ä"), tool("with space"), tool(&cut)],
                "tool_choice": {"type": "tool", "name": name},
                "messages": [
                    {"role": "user", "content": "?"},
                    {"role": "assistant", "content": [
                        {"type": "tool_use", "id": id, "name": name, "input": {}},
                        {"type": "tool_use", "id": "other", "name": twin, "input": {}}]},
                    {"role": "user", "content": [
                        {"type": "tool_result", "tool_use_id": "other", "content": "5"},
                        {"type": "tool_result", "tool_use_id": id, "content": "4"}]},
                ],
            }));
            let (sent, notes) = sent("converse", &body, false).await.unwrap();
            let fits = |text: &str| {
                let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
                (1..=64).contains(&text.len()) && text.chars().all(is_plain)
            };
            let declared = tools(&sent);
            assert!(declared.iter().all(|name| fits(name)), "{declared:?}");
            assert_eq!(declared.iter().collect::<std::collections::HashSet<_>>().len(), 7, "{declared:?}");
            let call = &sent["messages"][1]["content"][0]["toolUse"];
            let (as_name, as_id) = (call["name"].as_str().unwrap(), call["toolUseId"].as_str().unwrap());
            assert!(fits(as_id) && declared.contains(&as_name.to_owned()), "{call}");
            assert_eq!(sent["messages"][2]["content"][1]["toolResult"]["toolUseId"], as_id);
            assert_eq!(sent["messages"][2]["content"][0]["toolResult"]["toolUseId"], "other");
            assert_eq!(sent["toolConfig"]["toolChoice"]["tool"]["name"], as_name);
            assert_eq!((as_name == name, as_id == id), (fits(name), fits(id)));
            assert!(note(&notes, "tool_name").is_some(), "{notes:?}");
            // The model calls it by the name that it knows.
            let used = json!({"toolUseId": "tooluse_1", "name": as_name, "input": {}});
            let answer = json!({"output": {"message": {"content": [{"toolUse": used}]}}, "stopReason": "tool_use"});
            let again = Scripted::json(answer.to_string());
            let wire = Wire::new(Dialect::Anthropic, body.to_string()).unwrap();
            let answer = leaf("converse").transport(again.clone()).oneshot(wire.into()).await.unwrap();
            assert_eq!(again.sent(), sent, "the same in every turn");
            let answer = answer.collect().await.unwrap();
            assert_eq!(answer.tool_calls().next().unwrap().name, name);
            let start =
                json!({"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "tooluse_1", "name": as_name}}});
            let events = [
                event("messageStart", &json!({"role": "assistant"})),
                event("contentBlockStart", &start),
                event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"toolUse": {"input": "{}"}}})),
                event("contentBlockStop", &json!({"contentBlockIndex": 0})),
                event("messageStop", &json!({"stopReason": "tool_use"})),
                event("metadata", &json!({"usage": {"inputTokens": 1, "outputTokens": 1}})),
            ];
            let streamed = Scripted::new(200, "application/vnd.amazon.eventstream", events.concat());
            let wire = Wire::new(Dialect::Anthropic, body.to_string()).unwrap();
            let request = LlmRequest::from(wire).with_stream(true);
            let answer = leaf("converse").transport(streamed).oneshot(request).await.unwrap().collect().await.unwrap();
            assert_eq!(answer.tool_calls().next().unwrap().name, name);
        }
    }
}

/// One event of `ConverseStream`.
fn event(kind: &str, payload: &Value) -> Vec<u8> {
    let headers = [(":event-type", HeaderValue::Text(kind)), (":message-type", HeaderValue::Text("event"))];
    encode(&headers, payload.to_string().as_bytes()).unwrap()
}
