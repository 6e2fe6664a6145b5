use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use tower::{Service, ServiceExt};

use super::OpenAi;
use crate::{
    Chat, Dialect, ErrorKind, LlmError, LlmRequest, LlmResponse,
    chat::{
        Document, Effort, FinishReason, Image, Media, Message, OutputSchema, Part, Reasoning, Role, Thinking, Tool,
        ToolCall, ToolChoice, ToolResult, Usage,
    },
    http::testing::Scripted,
};

fn own() -> OpenAi {
    OpenAi::new("k").model("gpt")
}

fn compatible(name: &str) -> OpenAi {
    OpenAi::compatible(name, "http://127.0.0.1:9/v1").expect("a URL").model("gpt")
}

/// Returns the request sent for this chat, and the notes on the response.
async fn encoded_by(leaf: OpenAi, chat: Chat) -> (Value, Vec<String>) {
    let answer = r#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#;
    let transport = Scripted::json(answer);
    let response = leaf.transport(transport.clone()).oneshot(chat.into()).await.expect("a good answer");
    (transport.sent(), response.notes().iter().map(ToString::to_string).collect())
}

async fn answered(body: &str) -> Result<LlmResponse, LlmError> {
    let mut leaf = own().transport(Scripted::json(body.to_owned()));
    leaf.ready().await?.call(LlmRequest::prompt("hello")).await
}

async fn streamed(chunks: &[&str]) -> Result<Message, LlmError> {
    let text: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    let mut leaf = own().transport(Scripted::events(text));
    leaf.ready().await?.call(LlmRequest::prompt("hello").with_stream(true)).await?.collect().await
}

/// A chunk with this delta of the first choice.
fn delta(json: &str) -> String {
    format!(
        "{{\"id\":\"c\",\"model\":\"gpt-1\",\"choices\":[{{\"index\":0,\"delta\":{json},\"finish_reason\":null}}]}}"
    )
}

fn finish(reason: &str) -> String {
    format!("{{\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"{reason}\"}}]}}")
}

fn tool_chat() -> Chat {
    let call = Part::ToolCall(ToolCall::new("toolu_0123456789", "weather", "{\"city\": \"Paris\"}"));
    let mut result = ToolResult::new("toolu_0123456789", "no city");
    result.is_error = true;
    let picture = Part::Image(Image { media: Media::Base64 { media_type: "image/png".into(), data: "QUJD".into() } });
    result.content.push(picture.clone());
    let pdf = Media::Base64 { media_type: "application/pdf".into(), data: "REVG".into() };
    let document = Part::Document(Document { media: pdf, name: Some("a.pdf".into()) });
    let mut chat = Chat::new([
        Message::user("Weather?"),
        Message::new(Role::Assistant, vec![Part::Text(String::new()), call]),
        Message::new(Role::User, vec![Part::Text("And this?".into()), Part::ToolResult(result), picture, document]),
    ]);
    chat.tools.push(Tool::new("weather", json!({"type": "object"})));
    chat
}

#[tokio::test]
async fn conversation_with_tools_and_pictures_is_written_as_the_api_wants_it() {
    let mut chat = tool_chat().system("Be brief.").max_tokens(100).temperature(0.5);
    chat.tool_choice = Some(ToolChoice::Named("weather".into()));
    chat.parallel_tool_calls = Some(false);
    chat.stop = vec!["END".into()];
    let (sent, notes) = encoded_by(own(), chat).await;
    let picture = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}});
    let expected = json!({
        "model": "gpt",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "toolu_0123456789", "type": "function",
                 "function": {"name": "weather", "arguments": "{\"city\": \"Paris\"}"}},
            ]},
            {"role": "tool", "tool_call_id": "toolu_0123456789", "content": "Error: no city"},
            {"role": "user", "content": [
                picture,
                {"type": "text", "text": "And this?"},
                picture,
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,REVG"}},
            ]},
        ],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": false,
        "max_completion_tokens": 100,
        "temperature": 0.5,
        "stop": ["END"],
    });
    assert_eq!(sent, expected);
    assert_eq!(
        notes,
        ["tool_media: sent in a user's turn after it", "tool_error: sent in words: the text begins with `Error: `"]
    );
}

#[tokio::test]
async fn compatible_servers_get_the_older_field_and_no_key_unless_given_one() {
    let answer = r#"{"choices":[{"message":{"content":"hi"}}]}"#;
    let transport = Scripted::json(answer);
    let request = LlmRequest::from(Chat::new([Message::user("?")]).max_tokens(5));
    let _answer = compatible("groq").transport(transport.clone()).oneshot(request.clone()).await.unwrap();
    assert_eq!(
        (transport.sent()["max_tokens"].as_u64(), transport.sent().get("max_completion_tokens")),
        (Some(5), None)
    );
    assert!(!transport.request().headers().contains_key("authorization"));

    let transport = Scripted::json(answer);
    let _answer = compatible("groq").key("k\n").transport(transport.clone()).oneshot(request).await.unwrap();
    assert_eq!(transport.request().headers()["authorization"], "Bearer k");
}

#[tokio::test]
async fn mistral_gets_its_own_words_and_ids() {
    let mut chat = tool_chat();
    chat.tool_choice = Some(ToolChoice::Required);
    let (sent, _) = encoded_by(compatible("mistral"), chat).await;
    assert_eq!(sent["tool_choice"], "any");
    let id = sent["messages"][1]["tool_calls"][0]["id"].as_str().unwrap();
    assert!(id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
    assert_eq!(sent["messages"][2]["tool_call_id"], id, "the result still answers the call");
}

#[tokio::test]
async fn stream_asks_for_usage_unless_told_not_to() {
    for (asked, expected) in [(true, json!({"include_usage": true})), (false, Value::Null)] {
        let transport = Scripted::events("data: [DONE]\n\n");
        let leaf = own().stream_usage(asked).transport(transport.clone());
        let _empty = leaf.oneshot(LlmRequest::prompt("?").with_stream(true)).await;
        assert_eq!((&transport.sent()["stream"], &transport.sent()["stream_options"]), (&json!(true), &expected));
    }
}

#[tokio::test]
async fn what_cannot_be_carried_is_refused_or_noted() {
    let file = Part::Image(Image { media: Media::File("file-1".into()) });
    let error = own()
        .transport(Scripted::json("{}"))
        .oneshot(Chat::new([Message::new(Role::User, vec![file])]).into())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedFeature);

    let thought = Part::Reasoning(Reasoning { text: "hm".into(), opaque: None });
    let mut chat =
        Chat::new([Message::user("?"), Message::new(Role::Assistant, vec![thought, Part::Text("so".into())])]);
    chat.stop = ["a", "b", "c", "d", "e"].map(str::to_owned).into();
    chat.output =
        Some(OutputSchema { name: "shape".into(), schema: Some(json!({"type": "object"}).into()), strict: true });
    let (sent, notes) = encoded_by(own(), chat).await;
    assert_eq!(sent["stop"], json!(["a", "b", "c", "d"]));
    assert_eq!(sent["messages"][1], json!({"role": "assistant", "content": "so"}));
    // In strict mode "'required' is required to be supplied".
    let closed = json!({"type": "object", "properties": {}, "required": [], "additionalProperties": false});
    let schema = json!({"name": "shape", "schema": closed, "strict": true});
    assert_eq!(sent["response_format"], json!({"type": "json_schema", "json_schema": schema}));
    assert_eq!(notes.len(), 3, "{notes:?}");
}

/// Takes the token of the first thought: the server's own fields, behind the digits of its account.
fn given_back(message: &mut Message) -> Value {
    let Some(Part::Reasoning(reasoning)) = message.content.first_mut() else { panic!("no thought") };
    let opaque = reasoning.opaque.take().expect("a token");
    serde_json::from_str(opaque.token.split_once(':').expect("digits").1).expect("JSON")
}

#[tokio::test]
async fn whole_answer_is_read_with_all_its_parts() {
    let body = r#"{"id":"c1","model":"gpt-1","choices":[{"index":0,"message":{"role":"assistant","content":"hi",
        "reasoning_content":"hm","tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},
        {"type":"function","function":{"name":"g","arguments":""}}]},"finish_reason":"tool_calls"},{"index":1}],
        "usage":{"prompt_tokens":100,"completion_tokens":7.0,"prompt_tokens_details":{"cached_tokens":90},
        "completion_tokens_details":{"reasoning_tokens":3}}}"#;
    let mut message = answered(body).await.unwrap().collect().await.unwrap();
    assert_eq!(given_back(&mut message), json!({"reasoning_content": "hm"}));
    let expected = [
        Part::Reasoning(Reasoning { text: "hm".into(), opaque: None }),
        Part::Text("hi".into()),
        Part::ToolCall(ToolCall::new("call_1", "f", "{\"a\":1}")),
        Part::ToolCall(ToolCall::new("call_c1_1", "g", "{}")),
    ];
    assert_eq!(message.content, expected);
    assert_eq!(message.finish, Some(FinishReason::ToolUse));
    let mut usage = Usage::new(100, 7);
    (usage.cache_read, usage.reasoning) = (90, 3);
    assert_eq!(message.usage, Some(usage));
}

#[tokio::test]
async fn odd_answers_of_compatible_servers_are_read() {
    for (body, text) in [
        // Mistral's parts
        (
            r#"{"choices":[{"message":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"hi"}]}}]}"#,
            "hi",
        ),
        // fields of odd types, nulls, and an empty error beside the answer
        (
            r#"{"id":7,"usage":null,"error":null,"choices":[{"index":null,"message":{"content":"hi","tool_calls":null,"reasoning":null}}]}"#,
            "hi",
        ),
        (
            r#"{"usage":{"prompt_tokens":-1,"completion_tokens":"x"},"choices":[{"message":{"content":"hi","refusal":""}}]}"#,
            "hi",
        ),
    ] {
        assert_eq!(answered(body).await.unwrap().text().await.unwrap(), text, "{body}");
    }
}

#[tokio::test]
async fn failures_inside_a_200_are_errors() {
    for (body, kind) in [
        (r#"{"error":{"message":"Rate limit","code":429}}"#, ErrorKind::RateLimited),
        (r#"{"error":{"message":"No provider","code":503}}"#, ErrorKind::Overloaded),
        (r#"{"error":{"message":"Key limit exceeded","code":402}}"#, ErrorKind::QuotaExhausted),
        (r#"{"error":"model 'x' not found"}"#, ErrorKind::NotFound),
        (
            r#"{"object":"error","message":"This model's maximum context length is 5 tokens","code":400}"#,
            ErrorKind::ContextLength,
        ),
        (r#"{"choices":[]}"#, ErrorKind::EmptyAnswer),
        (r#"{"choices":null}"#, ErrorKind::Malformed),
        (r#"{"choices":null,"base_resp":{"status_code":0,"status_msg":""}}"#, ErrorKind::Malformed),
        (
            r#"{"choices":null,"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}"#,
            ErrorKind::QuotaExhausted,
        ),
        (r#"{"choices":[{"message":{"content":""},"finish_reason":"stop"}]}"#, ErrorKind::EmptyAnswer),
        (r#"{"choices":[{"message":{"content":null},"finish_reason":"content_filter"}]}"#, ErrorKind::ContentPolicy),
        (r#"{"choices":[{"message":{"content":"half"},"finish_reason":"error"}]}"#, ErrorKind::Server),
        (
            r#"{"choices":[{"message":{"content":""},"finish_reason":"insufficient_system_resource"}]}"#,
            ErrorKind::Overloaded,
        ),
        (r#"{"choices":[{"error":{"message":"upstream","code":502},"finish_reason":"error"}]}"#, ErrorKind::Server),
    ] {
        let error = answered(body).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{body}");
        assert_eq!(error.status(), Some(StatusCode::OK), "{body}");
    }
    // All tokens went into reasoning: the caller may see that.
    let whole = answered(r#"{"choices":[{"message":{"content":""},"finish_reason":"length"}]}"#).await.unwrap();
    assert_eq!(whole.collect().await.unwrap().finish, Some(FinishReason::Length));
}

#[tokio::test]
async fn models_refusal_is_a_part_and_a_reason() {
    let body = r#"{"choices":[{"message":{"content":null,"refusal":"No."},"finish_reason":"stop"}]}"#;
    let message = answered(body).await.unwrap().collect().await.unwrap();
    assert_eq!(message.content, [Part::Refusal("No.".into())]);
    assert_eq!(message.finish, Some(FinishReason::Refusal));
    let chunks = [delta(r#"{"role":"assistant","content":null}"#), delta(r#"{"refusal":"No."}"#), finish("stop")];
    let message = streamed(&[&chunks[0], &chunks[1], &chunks[2], "[DONE]"]).await.unwrap();
    assert_eq!(message.content, [Part::Refusal("No.".into())]);
    assert_eq!(message.finish, Some(FinishReason::Refusal));
}

#[tokio::test]
async fn what_a_failed_answer_has_cost_is_known_whole_and_streamed() {
    let used = r#""usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}"#;
    for (body, is_streamed) in [
        (format!(r#"{{"choices":[],{used}}}"#), false),
        (format!(r#"{{"choices":[{{"finish_reason":"error"}}],{used}}}"#), true),
        (format!(r#"{{"choices":[{{"error":{{"code":502,"message":"gone"}}}}],{used}}}"#), true),
        (format!(r#"{{"error":{{"code":502,"message":"gone"}},{used}}}"#), true),
    ] {
        assert_eq!(answered(&body).await.unwrap_err().usage(), Some(Usage::new(5, 2)), "{body}");
        if is_streamed {
            assert_eq!(streamed(&[&body]).await.unwrap_err().usage(), Some(Usage::new(5, 2)), "streamed: {body}");
        }
    }
}

#[tokio::test]
async fn streamed_answer_is_put_together() {
    let chunks = [
        delta(r#"{"role":"assistant","content":""}"#),
        delta(r#"{"reasoning":"h"}"#),
        delta(r#"{"reasoning_content":"m"}"#),
        delta(r#"{"content":"he"}"#),
        delta(r#"{"content":"llo"}"#),
        delta(r#"{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]}"#),
        delta(r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\":"}}]}"#),
        delta(r#"{"tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":"{}"}}]}"#),
        delta(r#"{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}"#),
        finish("tool_calls"),
        r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#.to_owned(),
        "[DONE]".to_owned(),
    ];
    let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
    let mut message = streamed(&chunks).await.unwrap();
    assert_eq!(given_back(&mut message), json!({"reasoning": "h", "reasoning_content": "m"}));
    let expected = [
        Part::Reasoning(Reasoning { text: "hm".into(), opaque: None }),
        Part::Text("hello".into()),
        Part::ToolCall(ToolCall::new("a", "f", "{\"x\":1}")),
        Part::ToolCall(ToolCall::new("b", "g", "{}")),
    ];
    assert_eq!(message.content, expected);
    assert_eq!(message.finish, Some(FinishReason::ToolUse));
    assert_eq!(message.usage, Some(Usage::new(3, 4)));
    assert_eq!((message.id.as_deref(), message.model.as_deref()), (Some("c"), Some("gpt-1")));
}

#[tokio::test]
async fn calls_without_an_index_are_told_apart_by_their_ids() {
    let chunks = [
        delta(r#"{"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]}"#),
        delta(r#"{"tool_calls":[{"id":"b","function":{"name":"f","arguments":"{}"}}]}"#),
        delta(r#"{"tool_calls":[{"id":"b","function":{"name":"f","arguments":" "}}]}"#),
        finish("stop"),
    ];
    let message = streamed(&[&chunks[0], &chunks[1], &chunks[2], &chunks[3]]).await.unwrap();
    let ids: Vec<&str> = message.tool_calls().map(|call| call.id.as_str()).collect();
    assert_eq!(ids, ["a", "b"]);
}

#[tokio::test]
async fn a_calls_name_may_come_after_its_id() {
    let chunks = [
        delta(r#"{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":null,"arguments":""}}]}"#),
        delta(r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\""}}]}"#),
        delta(r#"{"tool_calls":[{"index":0,"function":{"name":"f","arguments":":1"}}]}"#),
        delta(r#"{"tool_calls":[{"index":0,"function":{"arguments":"}"}}]}"#),
        delta(r#"{"tool_calls":[{"index":1,"id":"b","function":{"name":""}}]}"#),
        delta(r#"{"tool_calls":[{"index":1,"function":{"name":"g"}}]}"#),
        // A call that never gets a name counts only with arguments.
        delta(r#"{"tool_calls":[{"index":2,"id":"c","function":{"arguments":""}}]}"#),
        delta(r#"{"tool_calls":[{"index":3,"id":"d","function":{"arguments":"{}"}}]}"#),
        finish("tool_calls"),
    ];
    let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
    let calls = [ToolCall::new("a", "f", "{\"x\":1}"), ToolCall::new("b", "g", "{}"), ToolCall::new("d", "", "{}")];
    let mut content = streamed(&chunks).await.unwrap().content;
    content.sort_by_key(|part| matches!(part, Part::ToolCall(call) if call.id == "d"));
    assert_eq!(content, calls.map(Part::ToolCall));
}

#[tokio::test]
async fn call_without_arguments_has_an_empty_object() {
    let call = delta(r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":null}}]}"#);
    let message = streamed(&[&call, &finish("tool_calls"), "[DONE]"]).await.unwrap();
    assert_eq!(message.content, [Part::ToolCall(ToolCall::new("a", "f", "{}"))]);
}

#[tokio::test]
async fn empty_calls_and_empty_sound_are_nothing() {
    let empty = r#""function_call":{"name":"","arguments":""},"tool_calls":[{"id":"","type":"function","function":{"name":"","arguments":""}}],
        "audio":{"data":"","expires_at":0,"id":"","transcript":""}"#;
    let body = format!(r#"{{"choices":[{{"message":{{"content":"hi",{empty}}},"finish_reason":"stop"}}]}}"#);
    assert_eq!(answered(&body).await.unwrap().collect().await.unwrap().content, [Part::Text("hi".into())]);
    let body = format!(r#"{{"choices":[{{"message":{{"content":"",{empty}}},"finish_reason":"stop"}}]}}"#);
    assert_eq!(answered(&body).await.unwrap_err().kind(), ErrorKind::EmptyAnswer);
    let chunks = [
        delta(r#"{"content":"hi","function_call":{"name":"","arguments":""}}"#),
        delta(r#"{"tool_calls":[{"index":0,"function":{"name":"","arguments":""}}]}"#),
        finish("stop"),
    ];
    let message = streamed(&[&chunks[0], &chunks[1], &chunks[2]]).await.unwrap();
    assert_eq!(message.content, [Part::Text("hi".into())]);
    // A sound with content is part of the answer.
    let body = r#"{"choices":[{"message":{"content":null,"audio":{"id":"audio_1","data":"QUJD","transcript":""}}}]}"#;
    assert!(matches!(&answered(body).await.unwrap().collect().await.unwrap().content[..], [Part::Other { .. }]));
}

#[tokio::test]
async fn content_that_is_json_is_its_text() {
    for (content, text) in [
        (r#"{"city": "Paris", "days": [1, 2.50]}"#, r#"{"city": "Paris", "days": [1, 2.50]}"#),
        ("42", "42"),
        ("-1.50", "-1.50"),
        ("false", "false"),
        (r#"[1, "a"]"#, r#"[1, "a"]"#),
        (r#"[{"name": "a"}]"#, r#"[{"name": "a"}]"#),
        (r#"[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]"#, "ab"),
    ] {
        let body = format!(r#"{{"choices":[{{"message":{{"content":{content}}},"finish_reason":"stop"}}]}}"#);
        assert_eq!(answered(&body).await.unwrap().text().await.unwrap(), text, "{content}");
        let chunk = delta(&format!(r#"{{"content":{content}}}"#));
        assert_eq!(streamed(&[&chunk, &finish("stop")]).await.unwrap().text(), text, "{content}");
    }
    for nothing in ["null", "[]", r#""""#] {
        let body = format!(r#"{{"choices":[{{"message":{{"content":{nothing}}},"finish_reason":"stop"}}]}}"#);
        assert_eq!(answered(&body).await.unwrap_err().kind(), ErrorKind::EmptyAnswer, "{nothing}");
    }
}

#[tokio::test]
async fn a_tool_call_in_the_singular_is_one() {
    let body = r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]},
        "finish_reason":"tool_call"}]}"#;
    assert_eq!(answered(body).await.unwrap().collect().await.unwrap().finish, Some(FinishReason::ToolUse));
}

#[tokio::test]
async fn usage_is_counted_wherever_it_stands() {
    let hi = delta(r#"{"content":"hi"}"#);
    let usage = r#""usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}"#;
    let end = |of_choice: &str, beside: &str| {
        format!(r#"{{"choices":[{{"index":0,"delta":{{}},"finish_reason":"stop"{of_choice}}}]{beside}}}"#)
    };
    for end in
        [end("", &format!(",{usage}")), end(&format!(",{usage}"), ""), end("", &format!(r#","x_groq":{{{usage}}}"#))]
    {
        assert_eq!(streamed(&[&hi, &end]).await.unwrap().usage, Some(Usage::new(3, 4)), "{end}");
    }
}

#[tokio::test]
async fn an_answer_is_named_by_its_own_first_chunk() {
    let filter = r#"{"id":"","model":"","object":"","choices":[],"prompt_filter_results":[{"prompt_index":0}]}"#;
    let message = streamed(&[filter, &delta(r#"{"content":"hi"}"#), &finish("stop")]).await.unwrap();
    assert_eq!((message.id.as_deref(), message.model.as_deref()), (Some("c"), Some("gpt-1")));
    let nameless = r#"{"id":"","choices":[{"delta":{"content":"hi"},"finish_reason":"stop"}]}"#;
    let message = streamed(&[filter, nameless]).await.unwrap();
    assert_eq!((message.id.as_deref(), message.model.as_deref(), &*message.text()), (None, None, "hi"));
}

#[tokio::test]
async fn an_error_line_of_a_stream_keeps_the_servers_own_words() {
    // In the form of older servers of llama.cpp.
    let words = r#"{"code":500,"message":"the context is full","type":"server_error"}"#;
    let stream = |before: &str| format!("{before}error: {words}\n\n");
    let mut leaf = own().transport(Scripted::events(stream("")));
    let error = leaf.ready().await.unwrap().call(LlmRequest::prompt("hello").with_stream(true)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message(), error.code()),
        (ErrorKind::Server, "the context is full", Some("server_error"))
    );
    assert_eq!(error.raw().map(|raw| &raw[..]), Some(words.as_bytes()));
    let mut leaf = own().transport(Scripted::events(stream(&format!("data: {}\n\n", delta(r#"{"content":"hi"}"#)))));
    let response = leaf.ready().await.unwrap().call(LlmRequest::prompt("hello").with_stream(true)).await.unwrap();
    let error = response.collect().await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::StreamBroken, "the context is full"));
    // A field of that name without content changes nothing.
    let other = format!("data: {}\n\nerror: none\n\ndata: {}\n\n", delta(r#"{"content":"hi"}"#), finish("stop"));
    let mut leaf = own().transport(Scripted::events(other));
    let response = leaf.ready().await.unwrap().call(LlmRequest::prompt("hello").with_stream(true)).await.unwrap();
    assert_eq!(response.text().await.unwrap(), "hi");
}

#[tokio::test]
async fn end_needs_a_reason_for_stopping_and_done_may_be_left_out() {
    let (hi, stop) = (delta(r#"{"content":"hi"}"#), finish("stop"));
    let counted = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
    assert_eq!(streamed(&[&hi, &stop, "[DONE]"]).await.unwrap().text(), "hi");
    assert_eq!(streamed(&[&hi, &stop]).await.unwrap().text(), "hi");
    assert_eq!(streamed(&[&hi, counted, "[DONE]"]).await.unwrap().text(), "hi");
    for cut in [&[hi.as_str()][..], &[&hi, "[DONE]"], &[&hi, counted]] {
        assert_eq!(streamed(cut).await.unwrap_err().kind(), ErrorKind::StreamBroken, "{cut:?}");
    }
    assert_eq!(streamed(&["[DONE]"]).await.unwrap_err().kind(), ErrorKind::EmptyAnswer);
    assert_eq!(streamed(&[&stop, "[DONE]"]).await.unwrap_err().kind(), ErrorKind::EmptyAnswer);
}

#[tokio::test]
async fn second_choice_that_is_cut_breaks_the_stream() {
    let both = r#"{"choices":[{"index":0,"delta":{"content":"a"}},{"index":1,"delta":{"content":"b"}}]}"#;
    assert_eq!(streamed(&[both, &finish("stop")]).await.unwrap_err().kind(), ErrorKind::StreamBroken);
}

#[tokio::test]
async fn error_chunk_before_content_is_what_it_says_and_done_after_it_mends_nothing() {
    let report = r#"{"error":{"message":"out of memory","type":"server_error","code":504}}"#;
    let role = delta(r#"{"role":"assistant","content":""}"#);
    assert_eq!(streamed(&[&role, report, "[DONE]"]).await.unwrap_err().kind(), ErrorKind::Server);
    let hi = delta(r#"{"content":"hi"}"#);
    let error = streamed(&[&hi, &finish("length"), report, "[DONE]"]).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::StreamBroken, "out of memory"));
    let long = r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#;
    assert_eq!(streamed(&[&hi, long]).await.unwrap_err().kind(), ErrorKind::ContextLength, "no retry heals that");
}

#[test]
fn callers_request_becomes_a_chat() {
    let body = json!({
        "model": "gpt", "max_completion_tokens": 100, "stream": true, "reasoning_effort": "high", "stop": "END",
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
            {"role": "user", "content": [
                {"type": "text", "text": "?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
                {"type": "input_audio", "input_audio": {}},
            ]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": "not json"}},
            ]},
            {"role": "tool", "tool_call_id": "a", "content": "1"},
            {"role": "tool", "tool_call_id": "b", "content": "2"},
            {"role": "system", "content": "Now be long."},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "tool_choice": "required",
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": true}},
    });
    let chat = crate::Wire::new(Dialect::OpenAi, body.to_string()).unwrap().chat().unwrap().clone();
    assert_eq!(chat.system.as_deref(), Some("Be brief.\n\nBe kind."));
    assert_eq!(chat.messages.len(), 4);
    assert_eq!(chat.messages[1].content[1], Part::ToolCall(ToolCall::new("b", "g", "not json")));
    let results = [Part::ToolResult(ToolResult::new("a", "1")), Part::ToolResult(ToolResult::new("b", "2"))];
    assert_eq!(chat.messages[2].content, results, "the results of parallel calls are one turn");
    assert_eq!(chat.messages[3].role, Role::System);
    assert!(matches!(&chat.messages[0].content[1], Part::Image(Image { media: Media::Base64 { .. } })));
    assert!(matches!(&chat.messages[0].content[2], Part::Other { dialect: Dialect::OpenAi, .. }));
    assert_eq!((chat.tool_choice, chat.stop.len()), (Some(ToolChoice::Required), 1));
    assert_eq!(chat.thinking, Some(Thinking::Effort(Effort::High)));
    for bad in [
        json!({}),
        json!({"messages": [{"role": "user", "content": 5}]}),
        json!({"messages": [], "max_tokens": "many"}),
    ] {
        let wire = crate::Wire::new(Dialect::OpenAi, Bytes::from(bad.to_string())).unwrap();
        assert_eq!(LlmRequest::from(wire).chat().unwrap_err().kind(), ErrorKind::InvalidRequest, "{bad}");
    }
}

/// Its API refuses JSON mode unless a message has the word in it.
#[tokio::test]
async fn json_without_a_schema_is_asked_for_in_words_where_nobody_said_the_word() {
    let asking = |text: &str| {
        let mut chat = Chat::new([Message::user(text)]);
        chat.output = Some(OutputSchema { name: "answer".into(), schema: None, strict: false });
        chat
    };
    const ASK: &str = "Answer with one JSON value and nothing else.";
    let (sent, notes) = encoded_by(own(), asking("Three colours.")).await;
    assert_eq!(sent["messages"][0], json!({"role": "system", "content": ASK}));
    assert_eq!(sent["response_format"]["type"], "json_object");
    assert!(notes[0].starts_with("json_mode: "), "{notes:?}");

    let mut brief = asking("Three colours.");
    brief.system = Some("Be brief.".into());
    let (sent, _) = encoded_by(own(), brief.clone()).await;
    assert_eq!(sent["messages"][0]["content"], format!("Be brief.\n\n{ASK}"));

    brief.system = Some("Say it in JSON".into());
    for said in [asking("Three colours as Json."), brief] {
        let (sent, notes) = encoded_by(own(), said).await;
        assert!(!sent.to_string().contains(ASK), "{sent}");
        assert!(notes.is_empty(), "{notes:?}");
    }
}

/// Decodes a request, and encodes it for a provider of its own dialect.
async fn again(messages: Value) -> Value {
    let body = json!({"model": "gpt", "messages": messages});
    let chat = crate::Wire::new(Dialect::OpenAi, body.to_string()).unwrap().chat().unwrap().clone();
    let (sent, notes) = encoded_by(own(), chat).await;
    assert!(notes.is_empty(), "{notes:?}");
    sent["messages"].clone()
}

#[tokio::test]
async fn what_is_translated_to_itself_stays_what_and_where_it_is() {
    let picture = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}});
    let call = json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
    for messages in [
        // A picture that a tool gave back, and beside a text.
        json!([{"role": "user", "content": "?"}, call,
            {"role": "tool", "tool_call_id": "call_1", "content": [picture]}]),
        json!([{"role": "user", "content": "?"}, call,
            {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "here"}, picture]}]),
        // A result that names no call, and one that has only a tool's name.
        json!([{"role": "user", "content": "?"}, call, {"role": "tool", "content": "rain"}]),
        json!([{"role": "user", "content": "?"}, call, {"role": "tool", "name": "f", "content": "rain"}]),
        // A file without a name, and with one.
        json!([{"role": "user", "content": [{"type": "file", "file": {"file_data": "data:application/pdf;base64,QUJD"}}]}]),
        json!([{"role": "user", "content": [
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"}}]}]),
    ] {
        assert_eq!(again(messages.clone()).await, messages);
    }
}
