use bytes::Bytes;
use serde_json::{Value, json};
use tower::{Service, ServiceExt};

use super::Anthropic;
use crate::{
    Chat, Dialect, ErrorKind, LlmError, LlmRequest, LlmResponse,
    chat::{
        Effort, Extra, ExtraOf, FinishReason, Image, Media, Message, Opaque, OutputSchema, Part, Reasoning, Role,
        Thinking, Tool, ToolCall, ToolChoice, ToolResult, Usage,
    },
    http::testing::Scripted,
};

/// Returns the request sent for this chat, and the notes on the response.
async fn encoded(chat: Chat) -> (Value, Vec<String>) {
    encoded_by(Anthropic::new("k").model("claude"), chat).await
}

async fn encoded_by(leaf: Anthropic, chat: Chat) -> (Value, Vec<String>) {
    let answer = r#"{"type":"message","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}"#;
    let transport = Scripted::json(answer);
    let response = leaf.transport(transport.clone()).oneshot(chat.into()).await.expect("a good answer");
    (transport.sent(), response.notes().iter().map(ToString::to_string).collect())
}

async fn answered(body: &str) -> Result<LlmResponse, LlmError> {
    let mut leaf = Anthropic::new("k").model("claude").transport(Scripted::json(body.to_owned()));
    leaf.ready().await?.call(LlmRequest::prompt("hello")).await
}

async fn streamed(events: &[Value]) -> Result<Message, LlmError> {
    let text: String = events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"])).collect();
    let mut leaf = Anthropic::new("k").model("claude").transport(Scripted::events(text));
    leaf.ready().await?.call(LlmRequest::prompt("hello").with_stream(true)).await?.collect().await
}

#[tokio::test]
async fn conversation_with_tools_and_pictures_is_written_as_the_api_wants_it() {
    let mut call = Message::new(Role::Assistant, vec![Part::Text("Let me look.".into())]);
    call.content.push(Part::ToolCall(ToolCall::new("toolu_1", "weather", r#"{"city": "Paris",  "n":1.0}"#)));
    let mut result = ToolResult::new("toolu_1", "rain");
    result.is_error = true;
    let picture = Media::Base64 { media_type: "image/png".into(), data: "QUJD".into() };
    let mut after = Message::user("And this?");
    after.content.push(Part::Image(Image { media: picture }));
    after.content.push(Part::Image(Image { media: Media::Url("https://a.test/b.png".into()) }));
    after.content.push(Part::ToolResult(result));

    let mut chat =
        Chat::new([Message::user("Weather?"), call, after]).system("Be brief.").max_tokens(100).temperature(0.5);
    chat.tools.push(Tool::new("weather", json!({"type": "object"})).description("The weather of a city"));
    chat.tool_choice = Some(ToolChoice::Required);
    chat.parallel_tool_calls = Some(false);
    chat.stop = vec!["END".into(), " \n".into()];
    let (sent, notes) = encoded(chat).await;
    let expected = json!({
        "model": "claude",
        "max_tokens": 100,
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
            {"role": "assistant", "content": [
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris", "n": 1.0}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "rain"}], "is_error": true},
                {"type": "text", "text": "And this?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
                {"type": "image", "source": {"type": "url", "url": "https://a.test/b.png"}},
            ]},
        ],
        "tools": [{"name": "weather", "description": "The weather of a city", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "temperature": 0.5,
        "stop_sequences": ["END"],
    });
    assert_eq!(sent, expected);
    assert_eq!(notes, ["stop: those of white space were left out"]);
}

#[tokio::test]
async fn turns_are_made_to_fit() {
    let chat = Chat::new([
        Message::assistant("I begin."),
        Message::user(""),
        Message::user("one"),
        Message::user("two"),
        Message::new(Role::System, vec![Part::Text("be kind".into())]),
    ]);
    let (sent, notes) = encoded(chat.max_tokens(100)).await;
    let expected = json!([
        {"role": "user", "content": [{"type": "text", "text": "(continued)"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "I begin."}]},
        {"role": "user", "content": [
            {"type": "text", "text": "one"},
            {"type": "text", "text": "two"},
            {"type": "text", "text": "[system]\nbe kind"},
        ]},
    ]);
    assert_eq!(sent["messages"], expected);
    assert_eq!(notes.len(), 2, "{notes:?}");
}

#[tokio::test]
async fn thoughts_go_back_only_with_this_providers_signature() {
    let thought = |dialect, redacted| {
        let opaque = Some(Opaque { dialect, token: "sig".into(), redacted });
        Part::Reasoning(Reasoning { text: if redacted { String::new() } else { "hm".into() }, opaque })
    };
    let parts = vec![
        thought(Dialect::Anthropic, false),
        thought(Dialect::Anthropic, true),
        thought(Dialect::Gemini, false),
        Part::Text("so".into()),
    ];
    let chat = Chat::new([Message::user("?"), Message::new(Role::Assistant, parts)]).max_tokens(100);
    let (sent, notes) = encoded(chat).await;
    let expected = json!([
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "sig"},
        {"type": "text", "text": "so"},
    ]);
    assert_eq!(sent["messages"][1]["content"], expected);
    assert_eq!(notes, ["reasoning: left out: not signed by this provider"]);
}

#[tokio::test]
async fn thinking_fits_into_max_tokens() {
    for (thinking, max_tokens, expected, total) in [
        (Thinking::Budget(2000), None, json!({"type": "enabled", "budget_tokens": 2000}), 64_000),
        (Thinking::Budget(10), None, json!({"type": "enabled", "budget_tokens": 1024}), 64_000),
        (Thinking::Budget(9000), Some(3000), json!({"type": "enabled", "budget_tokens": 2999}), 3000),
        (Thinking::Effort(Effort::High), Some(8000), json!({"type": "enabled", "budget_tokens": 4000}), 8000),
        (Thinking::Effort(Effort::High), None, json!({"type": "enabled", "budget_tokens": 24_576}), 64_000),
        (Thinking::Budget(2000), Some(1000), Value::Null, 1000),
        (Thinking::Auto, None, json!({"type": "enabled", "budget_tokens": 8192}), 64_000),
        (Thinking::Off, None, json!({"type": "disabled"}), 64_000),
    ] {
        let mut chat = Chat::new([Message::user("?")]);
        chat.thinking = Some(thinking);
        chat.max_tokens = max_tokens;
        let (sent, _) = encoded_by(Anthropic::new("k").model("claude-sonnet-4-5"), chat).await;
        assert_eq!(sent["thinking"], expected, "{thinking:?}");
        assert_eq!(sent["max_tokens"], total, "{thinking:?}");
    }
}

#[tokio::test]
async fn output_schema_is_asked_for_by_field_or_in_words() {
    let mut chat = Chat::new([Message::user("?")]).max_tokens(100);
    chat.output = Some(OutputSchema { name: "a".into(), schema: Some(json!({"type": "object"}).into()), strict: true });
    let (sent, notes) = encoded(chat.clone()).await;
    let closed = json!({"type": "object", "additionalProperties": false});
    assert_eq!(sent["output_config"], json!({"format": {"type": "json_schema", "schema": closed}}));
    assert!(notes.is_empty());

    chat.output = Some(OutputSchema { name: "a".into(), schema: None, strict: false });
    let (sent, notes) = encoded(chat.system("Be brief.")).await;
    assert_eq!(sent["system"], "Be brief.\n\nAnswer with one JSON value and nothing else.");
    assert_eq!(notes.len(), 1);
}

#[tokio::test]
async fn newer_versions_get_no_sampling_parameters() {
    let leaf = Anthropic::new("k").model("claude").version("2026-10-21").unwrap();
    let (sent, notes) = encoded_by(leaf, Chat::new([Message::user("?")]).max_tokens(100).temperature(0.5)).await;
    assert_eq!(sent.get("temperature"), None);
    assert_eq!(notes.len(), 1);
    let (sent, notes) = encoded(Chat::new([Message::user("?")]).max_tokens(100).temperature(1.5)).await;
    assert_eq!((sent["temperature"].as_f64(), notes.len()), (Some(1.0), 1));
}

#[tokio::test]
async fn arguments_that_are_no_object_are_not_lost() {
    let call = Part::ToolCall(ToolCall::new("t", "f", "not json"));
    let chat = Chat::new([Message::user("?"), Message::new(Role::Assistant, vec![call])]).max_tokens(100);
    let (sent, notes) = encoded(chat).await;
    assert_eq!(sent["messages"][1]["content"][0]["input"], json!({"invalid_arguments": "not json"}));
    assert!(notes[0].starts_with("unanswered_call: ") && notes[1].starts_with("invalid_arguments: "), "{notes:?}");
}

#[tokio::test]
async fn whole_answer_is_read_with_all_its_parts() {
    let body = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-1","content":[
        {"type":"thinking","thinking":"hm","signature":"sig"},{"type":"redacted_thinking","data":"xx"},
        {"type":"text","text":"hi"},{"type":"tool_use","id":"toolu_1","name":"f","input":{"a":1.0}},
        {"type":"server_tool_use","id":"s","name":"web_search","input":{}}],
        "stop_reason":"tool_use","usage":{"input_tokens":10,"cache_creation_input_tokens":5,"cache_read_input_tokens":100,
        "output_tokens":7,"output_tokens_details":{"thinking_tokens":3}}}"#;
    let message = answered(body).await.unwrap().collect().await.unwrap();
    assert_eq!(message.text(), "hi");
    assert_eq!((message.id.as_deref(), message.model.as_deref()), (Some("msg_1"), Some("claude-1")));
    assert_eq!(message.finish, Some(FinishReason::ToolUse));
    let call = message.tool_calls().next().unwrap();
    assert_eq!((call.id.as_str(), call.name.as_str(), call.arguments.as_str()), ("toolu_1", "f", r#"{"a":1.0}"#));
    let mut usage = Usage::new(115, 7);
    (usage.cache_read, usage.cache_write, usage.reasoning) = (100, 5, 3);
    assert_eq!(message.usage, Some(usage));
    assert!(matches!(&message.content[1], Part::Reasoning(Reasoning { opaque: Some(opaque), .. }) if opaque.redacted));
    assert!(matches!(&message.content[4], Part::Other { dialect: Dialect::Anthropic, .. }));
}

#[tokio::test]
async fn reasons_for_stopping_without_content_are_named() {
    for (reason, kind) in [
        ("end_turn", Some(ErrorKind::EmptyAnswer)),
        ("refusal", None),
        ("model_context_window_exceeded", Some(ErrorKind::ContextLength)),
        ("max_tokens", None),
        ("pause_turn", None),
    ] {
        let outcome = answered(&format!("{{\"content\":[],\"stop_reason\":\"{reason}\"}}")).await;
        assert_eq!(outcome.err().map(|error| error.kind()), kind, "{reason}");
        let start = json!({"type": "message_start", "message": {}});
        let delta = json!({"type": "message_delta", "delta": {"stop_reason": reason}});
        let outcome = streamed(&[start, delta, json!({"type": "message_stop"})]).await;
        assert_eq!(outcome.err().map(|error| error.kind()), kind, "{reason}, streamed");
    }
}

#[tokio::test]
async fn streamed_answer_is_the_same_message() {
    let block =
        |index: u32, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
    let delta = |index: u32, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    let stop = |index: u32| json!({"type": "content_block_stop", "index": index});
    let message = streamed(&[
        json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude-1",
            "usage": {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 1}}}),
        block(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        delta(0, json!({"type": "thinking_delta", "thinking": "h"})),
        delta(0, json!({"type": "thinking_delta", "thinking": "m"})),
        delta(0, json!({"type": "signature_delta", "signature": "sig"})),
        stop(0),
        block(1, json!({"type": "redacted_thinking", "data": "xx"})),
        stop(1),
        block(2, json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}})),
        delta(2, json!({"type": "input_json_delta", "partial_json": "{\"q\":"})),
        delta(2, json!({"type": "input_json_delta", "partial_json": "1}"})),
        stop(2),
        json!({"type": "something_new", "index": 3}),
        block(3, json!({"type": "text", "text": ""})),
        delta(3, json!({"type": "text_delta", "text": "hi"})),
        delta(3, json!({"type": "citations_delta", "citation": {}})),
        stop(3),
        block(4, json!({"type": "tool_use", "id": "t1", "name": "f", "input": {}})),
        delta(4, json!({"type": "input_json_delta", "partial_json": ""})),
        delta(4, json!({"type": "input_json_delta", "partial_json": "{\"a\":"})),
        delta(4, json!({"type": "input_json_delta", "partial_json": "1}"})),
        stop(4),
        block(5, json!({"type": "tool_use", "id": "t2", "name": "g", "input": {}})),
        stop(5),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 20}}),
        json!({"type": "message_stop"}),
    ])
    .await
    .unwrap();
    let opaque = |token: &str, redacted| Some(Opaque { dialect: Dialect::Anthropic, token: token.into(), redacted });
    let cited = serde_json::Map::from_iter([("citations".to_owned(), json!([{}]))]);
    let search = json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": 1}});
    let expected = [
        Part::Reasoning(Reasoning { text: "hm".into(), opaque: opaque("sig", false) }),
        Part::Reasoning(Reasoning { text: String::new(), opaque: opaque("xx", true) }),
        Part::Other { dialect: Dialect::Anthropic, value: search.into() },
        Part::Text("hi".into()),
        Part::Extra { of: ExtraOf::Part, extra: Extra::new(Dialect::Anthropic, cited) },
        Part::ToolCall(ToolCall::new("t1", "f", "{\"a\":1}")),
        Part::ToolCall(ToolCall::new("t2", "g", "{}")),
    ];
    // The server's tool is complete, and in the message, when its block ends.
    assert_eq!(message.content, expected);
    assert_eq!(message.finish, Some(FinishReason::ToolUse));
    let usage = message.usage.unwrap();
    assert_eq!((usage.input, usage.cache_read, usage.output), (100, 90, 20));
}

/// Thoughts with and without words and signatures, as servers of this dialect stream them: the message is that of a
/// whole answer.
#[tokio::test]
async fn a_thought_is_the_same_streamed_and_whole() {
    let thoughts = ["", "hm"].into_iter().flat_map(|words| [None, Some(""), Some("sig")].map(|sign| (words, sign)));
    for (words, sign) in thoughts {
        let mut block = json!({"type": "thinking", "thinking": words});
        if let Some(sign) = sign {
            block["signature"] = sign.into();
        }
        let said = json!({"type": "text", "text": "hi"});
        let whole = json!({"type": "message", "content": [block, said], "stop_reason": "end_turn"});
        let whole = answered(&whole.to_string()).await.unwrap().collect().await.unwrap();
        for in_pieces in [false, true] {
            let begun = if in_pieces { json!({"type": "thinking", "thinking": ""}) } else { block.clone() };
            let delta = |delta: Value| json!({"type": "content_block_delta", "index": 0, "delta": delta});
            let mut events = vec![
                json!({"type": "message_start", "message": {"usage": {"input_tokens": 1, "output_tokens": 1}}}),
                json!({"type": "content_block_start", "index": 0, "content_block": begun}),
            ];
            if in_pieces {
                events.push(delta(json!({"type": "thinking_delta", "thinking": words})));
                events.extend(sign.map(|sign| delta(json!({"type": "signature_delta", "signature": sign}))));
            }
            events.extend([
                json!({"type": "content_block_stop", "index": 0}),
                json!({"type": "content_block_start", "index": 1, "content_block": said}),
                json!({"type": "content_block_stop", "index": 1}),
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}),
                json!({"type": "message_stop"}),
            ]);
            let message = streamed(&events).await.unwrap();
            assert_eq!(message.content, whole.content, "{words:?} {sign:?}, in pieces: {in_pieces}");
        }
    }
}

#[test]
fn callers_request_becomes_a_chat_and_comes_back_the_same() {
    let body = json!({
        "model": "claude", "max_tokens": 100, "stream": true, "temperature": 0.5,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
            ]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "rain"}]},
        ],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": "f"},
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "stop_sequences": ["END"],
    });
    let chat = crate::Wire::new(Dialect::Anthropic, body.to_string()).unwrap().chat().unwrap().clone();
    assert_eq!(chat.system.as_deref(), Some("Be brief."));
    assert_eq!(chat.tool_choice, Some(ToolChoice::Named("f".into())));
    assert_eq!(chat.thinking, Some(Thinking::Budget(2000)));
    assert_eq!((chat.max_tokens, chat.stream, chat.stop.as_slice()), (Some(100), true, ["END".to_owned()].as_slice()));
    assert_eq!(chat.messages[1].content[1], Part::ToolCall(ToolCall::new("t", "f", "{\"a\":1}")));
    assert_eq!(chat.messages[2].content[0], Part::ToolResult(ToolResult::new("t", "rain")));
    for bad in [json!({}), json!({"messages": "x"}), json!({"messages": [{"role": "x", "content": "y"}]})] {
        let wire = crate::Wire::new(Dialect::Anthropic, Bytes::from(bad.to_string())).unwrap();
        assert_eq!(LlmRequest::from(wire).chat().unwrap_err().kind(), ErrorKind::InvalidRequest, "{bad}");
    }
}

#[tokio::test]
async fn an_answer_within_an_answer_is_malformed() {
    let start = json!({"type": "message_start", "message": {"id": "m", "model": "c", "usage": {"input_tokens": 3}}});
    let call = json!({"type": "content_block_start", "index": 0,
        "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}});
    let piece = json!({"type": "content_block_delta", "index": 0,
        "delta": {"type": "input_json_delta", "partial_json": "{\"path\": \"/"}});
    let text = json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "hi"}});
    let ends = [
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}),
        json!({"type": "message_stop"}),
    ];
    let again = [&[start.clone(), start.clone(), text.clone()], &ends[..]].concat();
    assert_eq!(streamed(&again).await.unwrap_err().kind(), ErrorKind::Malformed);
    let after = [&[start.clone(), call, piece, start, text], &ends[..]].concat();
    let error = streamed(&after).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StreamBroken, "its caller has seen the call begin");
}

#[tokio::test]
async fn pieces_of_a_calls_arguments_are_all_of_them() {
    let call = |input: Value| {
        json!({"type": "content_block_start", "index": 0,
            "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": input}})
    };
    let piece = |json: &str| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": json}});
    let ends = [json!({"type": "content_block_stop", "index": 0}), json!({"type": "message_stop"})];
    for (begin, pieces, arguments) in [
        (json!({}), &["{\"a\":", " 1}"][..], "{\"a\": 1}"),
        (json!({"a": 1}), &["{\"a\":", " 1}"], "{\"a\": 1}"),
        (json!({"a": 1}), &[""], "{\"a\":1}"),
        (json!({"a": 1}), &[], "{\"a\":1}"),
        (json!({}), &[""], "{}"),
    ] {
        let pieces: Vec<Value> = pieces.iter().map(|json| piece(json)).collect();
        let message = streamed(&[&[call(begin)], &pieces[..], &ends].concat()).await.unwrap();
        assert_eq!(message.content, [Part::ToolCall(ToolCall::new("t", "f", arguments))]);
    }
}

#[test]
fn an_output_format_without_a_schema_is_refused_by_name() {
    for (fields, named) in [
        (json!({"output_format": {"type": "json_schema"}}), "output_format.schema"),
        (json!({"output_format": {"type": "json_schema", "schema": null}}), "output_format.schema"),
        (json!({"output_config": {"format": {"type": "json_schema"}}}), "output_config.format.schema"),
    ] {
        let mut body = json!({"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}]});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let error = crate::Wire::new(Dialect::Anthropic, body.to_string()).unwrap().chat().unwrap_err();
        assert!(error.message().starts_with(named), "{fields}: {error}");
    }
}

#[tokio::test]
async fn many_citations_take_time_in_proportion_to_their_number() {
    // Citations of a text that never ends, and ends of texts without any: a search for each would take minutes.
    let citation =
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {}}});
    let stop = |index: u32| json!({"type": "content_block_stop", "index": index});
    let text = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}});
    let mut events = vec![text];
    events.extend(std::iter::repeat_n(citation, 100_000));
    events.extend((1..100_000).map(stop));
    events.push(stop(0));
    events.push(json!({"type": "message_stop"}));
    let begun = tokio::time::Instant::now();
    let message = streamed(&events).await.expect("a whole answer");
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    assert_eq!(message.content.len(), 2);
}
