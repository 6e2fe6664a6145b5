use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    task::Poll,
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use http::{HeaderName, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::{Value, json};
use steadfast::{CircuitBreakerLayer, RetryWithJitterLayer, providers::Simulated};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::OpenAiResponses;
use crate::{
    Anthropic, Chat, CommitPoint, Dialect, ErrorKind, Gemini, LlmError, LlmRequest, LlmResponse, OpenAi, Wire,
    chat::{
        Document, Effort, Extra, ExtraOf, FinishReason, Image, Media, Message, Opaque, OutputSchema, Part, Reasoning,
        Role, Thinking, Tool, ToolCall, ToolChoice, ToolResult, Usage,
    },
    http::testing::Scripted,
};

fn own() -> OpenAiResponses {
    OpenAiResponses::new("k").model("gpt-5")
}

const ANSWER: &str = r#"{"id":"resp_1","object":"response","model":"gpt-5","status":"completed","output":[{"type":"message",
    "id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"hi","annotations":[]}]}]}"#;

/// Returns the request sent for this chat, and the notes on the response.
async fn encoded_by(leaf: OpenAiResponses, request: impl Into<LlmRequest>) -> (Value, Vec<String>) {
    let transport = Scripted::json(ANSWER);
    let response = leaf.transport(transport.clone()).oneshot(request.into()).await.expect("a good answer");
    (transport.sent(), response.notes().iter().map(ToString::to_string).collect())
}

async fn answered(body: &str) -> Result<LlmResponse, LlmError> {
    own().transport(Scripted::json(body.to_owned())).oneshot(LlmRequest::prompt("hello")).await
}

fn events(events: &[Value]) -> String {
    let named = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or("x"));
    events.iter().map(named).collect()
}

async fn streamed(list: &[Value]) -> Result<Message, LlmError> {
    let request = LlmRequest::prompt("hello").with_stream(true);
    own().transport(Scripted::events(events(list))).oneshot(request).await?.collect().await
}

fn response(status: &str, output: &Value) -> Value {
    json!({"id": "resp_1", "object": "response", "model": "gpt-5", "status": status, "error": null, "output": output,
        "usage": {"input_tokens": 30, "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 4},
            "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 39}})
}

fn created() -> Value {
    json!({"type": "response.created", "response": {"id": "resp_1", "model": "gpt-5", "status": "in_progress", "output": []}})
}

fn completed(output: &Value) -> Value {
    json!({"type": "response.completed", "response": response("completed", output)})
}

fn added(at: u32, item: Value) -> Value {
    json!({"type": "response.output_item.added", "output_index": at, "item": item})
}

fn done(at: u32, item: &Value) -> Value {
    json!({"type": "response.output_item.done", "output_index": at, "item": item})
}

fn delta(kind: &str, at: u32, delta: &str) -> Value {
    json!({"type": format!("response.{kind}.delta"), "output_index": at, "content_index": 0, "delta": delta})
}

fn beside(fields: Value) -> Part {
    Part::Extra { of: ExtraOf::Part, extra: Extra::new(Dialect::Responses, fields) }
}

/// An answer with items of all kinds.
fn items() -> Vec<Value> {
    vec![
        json!({"type": "reasoning", "id": "rs_1", "encrypted_content": "SEALED",
            "summary": [{"type": "summary_text", "text": "First."}, {"type": "summary_text", "text": "Then."}]}),
        json!({"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}}),
        json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "phase": "commentary",
            "content": [{"type": "output_text", "text": "Let me see.", "annotations": [{"type": "url_citation", "url": "u"}]},
                {"type": "output_text", "text": "Now.", "annotations": []}]}),
        json!({"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "read", "namespace": "mcp__files__",
            "arguments": "{\"path\":\"a\"}", "status": "completed"}),
        json!({"type": "function_call", "id": "fc_2", "call_id": "call_2", "name": "now", "arguments": "", "status": "completed"}),
        json!({"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_3", "name": "apply_patch",
            "input": "*** Begin\n\"é\"\\ \u{1}", "status": "completed"}),
    ]
}

fn parts() -> Vec<Part> {
    let opaque = Opaque { dialect: Dialect::Responses, token: "rs_1:SEALED".into(), redacted: true };
    let sources = Extra::new(Dialect::Responses, json!({"annotations": [{"type": "url_citation", "url": "u"}]}));
    let input = json!({"input": "*** Begin\n\"é\"\\ \u{1}"}).to_string();
    vec![
        Part::Reasoning(Reasoning { text: "First.\n\nThen.".into(), opaque: Some(opaque) }),
        Part::Other { dialect: Dialect::Responses, value: items()[1].clone().into() },
        Part::Text("Let me see.".into()),
        beside(json!({"item": {"phase": "commentary"}})),
        Part::Text("Now.".into()),
        Part::Extra { of: ExtraOf::Answer, extra: sources },
        Part::ToolCall(ToolCall::new("call_1", "mcp__files__read", "{\"path\":\"a\"}")),
        beside(json!({"item": {"namespace": "mcp__files__", "name": "read"}})),
        Part::ToolCall(ToolCall::new("call_2", "now", "{}")),
        Part::ToolCall(ToolCall::new("call_3", "apply_patch", input)),
        beside(json!({"item": {"type": "custom_tool_call"}})),
    ]
}

#[tokio::test]
async fn a_whole_answer_is_read_with_all_its_items() {
    let message = answered(&response("completed", &items().into()).to_string()).await.unwrap().collect().await.unwrap();
    assert_eq!(message.content, parts());
    assert_eq!((message.id.as_deref(), message.model.as_deref()), (Some("resp_1"), Some("gpt-5")));
    assert_eq!(message.finish, Some(FinishReason::ToolUse));
    let mut usage = Usage::new(30, 9);
    (usage.cache_read, usage.cache_write, usage.reasoning) = (20, 4, 5);
    assert_eq!(message.usage, Some(usage));
}

/// The items as a server streams them: begun, in pieces, repeated, whole, and all again at the end.
fn stream_of_items() -> Vec<Value> {
    let items = items();
    let part = |at: u32, kind: &str, place: &str, index: u32, text: &str| json!({"type": format!("response.{kind}.delta"), "output_index": at, place: index, "delta": text});
    let summary = |index, text| part(0, "reasoning_summary_text", "summary_index", index, text);
    let empty = |at: usize, field: &str, value: Value| {
        let mut item = items[at].clone();
        (item[field], item["status"]) = (value, "in_progress".into());
        added(u32::try_from(at).unwrap(), item)
    };
    let mut list = vec![
        created(),
        json!({"type": "response.in_progress", "response": created()["response"]}),
        empty(0, "summary", json!([])),
        json!({"type": "response.reasoning_summary_part.added", "output_index": 0, "summary_index": 0,
            "part": {"type": "summary_text", "text": ""}}),
        summary(0, "Fir"),
        summary(0, "st."),
        json!({"type": "response.reasoning_summary_text.done", "output_index": 0, "summary_index": 0, "text": "First."}),
        summary(1, "Then."),
        done(0, &items[0]),
        empty(1, "action", Value::Null),
        json!({"type": "response.web_search_call.searching", "output_index": 1, "item_id": "ws_1"}),
        done(1, &items[1]),
        empty(2, "content", json!([])),
        part(2, "output_text", "content_index", 0, "Let me"),
        part(2, "output_text", "content_index", 0, " see."),
        json!({"type": "response.output_text.done", "output_index": 2, "content_index": 0, "text": "Let me see."}),
        part(2, "output_text", "content_index", 1, "Now."),
        done(2, &items[2]),
        empty(3, "arguments", "".into()),
        part(3, "function_call_arguments", "content_index", 0, "{\"path\""),
        part(3, "function_call_arguments", "content_index", 0, ":\"a\"}"),
        json!({"type": "response.function_call_arguments.done", "output_index": 3, "arguments": "{\"path\":\"a\"}"}),
        done(3, &items[3]),
        empty(4, "arguments", "".into()),
        json!({"type": "response.function_call_arguments.done", "output_index": 4, "arguments": ""}),
        done(4, &items[4]),
        empty(5, "input", "".into()),
        part(5, "custom_tool_call_input", "content_index", 0, "*** Begin\n\""),
        part(5, "custom_tool_call_input", "content_index", 0, "é\"\\ \u{1}"),
        json!({"type": "response.custom_tool_call_input.done", "output_index": 5, "input": items[5]["input"]}),
        done(5, &items[5]),
    ];
    list.push(completed(&items.into()));
    list
}

#[tokio::test]
async fn a_stream_means_what_the_whole_answer_means_whatever_it_leaves_out() {
    let whole = answered(&response("completed", &items().into()).to_string()).await.unwrap().collect().await.unwrap();
    let list = stream_of_items();
    assert_eq!(streamed(&list).await.unwrap(), whole);
    // ChatGPT's last response has no output.
    let mut without_output = list.clone();
    *without_output.last_mut().unwrap() = completed(&json!([]));
    assert_eq!(streamed(&without_output).await.unwrap(), whole);
    let is = |event: &Value, end: &str| event["type"].as_str().unwrap().ends_with(end);
    let kept = |goes: &dyn Fn(&Value) -> bool| list.iter().filter(|event| !goes(event)).cloned().collect::<Vec<_>>();
    for (what, list) in [
        ("deltas", kept(&|event| is(event, ".delta"))),
        ("done", kept(&|event| is(event, ".done"))),
        (
            "deltas and texts done",
            kept(&|event| is(event, ".delta") || (is(event, ".done") && !is(event, "item.done"))),
        ),
        ("all but the ends", vec![list[0].clone(), list.last().unwrap().clone()]),
        ("the beginnings", kept(&|event| is(event, ".added"))),
    ] {
        let mut content = streamed(&list).await.unwrap().content;
        let mut expected = whole.content.clone();
        if what == "done" {
            // Items of the provider's own come at the end then.
            [&mut content, &mut expected]
                .into_iter()
                .for_each(|parts| parts.sort_by_key(|part| json!(part).to_string()));
        }
        if what == "the beginnings" {
            // The message's own fields come behind its text then, too late to stand beside its first part.
            expected.retain(|part| *part != beside(json!({"item": {"phase": "commentary"}})));
        }
        assert_eq!(content, expected, "without {what}");
    }
}

#[tokio::test]
async fn odd_streams_of_servers_are_read() {
    // vLLM counts the contents of a message from another number, Copilot has another id in each event.
    let message = |id: &str| json!({"type": "message", "id": id, "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]});
    let begun = json!({"type": "message", "id": "a", "role": "assistant", "content": []});
    let text = json!({"type": "response.output_text.delta", "output_index": 1, "content_index": 1, "delta": "hi"});
    let thought =
        json!({"type": "reasoning", "id": "r", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]});
    let list = [
        created(),
        added(0, json!({"type": "reasoning", "id": "q", "summary": [], "content": []})),
        delta("reasoning_text", 0, "hm"),
        done(0, &thought),
        added(1, begun),
        text,
        done(1, &message("b")),
        completed(&json!([thought, message("c")])),
    ];
    let read = streamed(&list).await.unwrap();
    let thought = Part::Reasoning(Reasoning { text: "hm".into(), opaque: None });
    assert_eq!(read.content, [thought, Part::Text("hi".into())]);
    assert_eq!(read.finish, Some(FinishReason::Stop));
    // Contents that are a text, arguments that are an object, unknown parts.
    let odd = json!([
        {"type": "message", "content": "hi"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": {"a": 1}},
        {"type": "message", "role": "assistant", "content": [{"type": "hologram", "depth": 3}]},
    ]);
    let read = answered(&response("complete", &odd).to_string()).await.unwrap().collect().await.unwrap();
    let hologram = Part::Other { dialect: Dialect::Responses, value: json!({"type": "hologram", "depth": 3}).into() };
    let call = Part::ToolCall(ToolCall::new("c", "f", "{\"a\":1}"));
    assert_eq!(read.content, [Part::Text("hi".into()), call, hologram, beside(json!({}))]);
}

#[tokio::test]
async fn an_answer_ends_for_the_reason_that_its_provider_gives() {
    let text = json!([{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ha"}]}]);
    let refusal = json!([{"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}]);
    let with = |status: &str, output: &Value, details: Value| {
        let mut body = response(status, output);
        body["incomplete_details"] = details;
        body
    };
    for (body, finish) in [
        (with("incomplete", &text, json!({"reason": "max_output_tokens"})), FinishReason::Length),
        (with("incomplete", &json!([]), json!({"reason": "max_output_tokens"})), FinishReason::Length),
        (with("incomplete", &text, json!({"reason": "content_filter"})), FinishReason::Filtered),
        (with("incomplete", &text, json!({"reason": "sunset"})), FinishReason::Other("sunset".into())),
        (with("completed", &refusal, Value::Null), FinishReason::Refusal),
        (with("queued", &json!([]), Value::Null), FinishReason::Paused),
        (with("cancelled", &text, Value::Null), FinishReason::Other("cancelled".into())),
    ] {
        let message = answered(&body.to_string()).await.unwrap().collect().await.unwrap();
        assert_eq!(message.finish, Some(finish.clone()), "{body}");
        let end = json!({"type": "response.incomplete", "response": body});
        assert_eq!(streamed(&[created(), end]).await.unwrap().finish, Some(finish), "{body}");
    }
}

#[tokio::test]
async fn failures_inside_a_200_are_errors() {
    let failed = |code: &str, message: &str| json!({"id": "resp_1", "status": "failed", "output": [], "error": {"code": code, "message": message}});
    let mut silent = response("completed", &json!([]));
    silent["usage"]["output_tokens"] = 0.into();
    for (body, kind) in [
        (failed("rate_limit_exceeded", "Slow down."), ErrorKind::RateLimited),
        (failed("server_error", "An error occurred."), ErrorKind::Server),
        (failed("context_length_exceeded", "Too long."), ErrorKind::ContextLength),
        (failed("insufficient_quota", "No."), ErrorKind::QuotaExhausted),
        (json!({"status": "failed", "error": null, "output": []}), ErrorKind::Server),
        (json!({"error": {"message": "bad gateway", "code": 502}}), ErrorKind::Server),
        (json!({"choices": []}), ErrorKind::Malformed),
        (json!({"status": "completed", "output": {}}), ErrorKind::Malformed),
        (silent, ErrorKind::EmptyAnswer),
    ] {
        let error = answered(&body.to_string()).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (kind, Some(StatusCode::OK)), "{body}");
    }
    let text = delta("output_text", 0, "half");
    let flat =
        json!({"type": "error", "code": "server_error", "message": "Sorry.", "param": null, "sequence_number": 3});
    let nested =
        json!({"type": "error", "error": {"type": "server_error", "code": "server_error", "message": "Sorry."}});
    let failed = json!({"type": "response.failed", "response": failed("rate_limit_exceeded",
        "Rate limit reached for gpt-5. Please try again in 1.5s. Visit https://x to learn more.")});
    for (event, kind, code) in [
        (flat, ErrorKind::Server, "server_error"),
        (nested, ErrorKind::Server, "server_error"),
        (failed, ErrorKind::RateLimited, "rate_limit_exceeded"),
    ] {
        // Before any content it is the call's failure, and later the body's.
        let error = own()
            .transport(Scripted::events(events(&[created(), event.clone()])))
            .oneshot(LlmRequest::prompt("?").with_stream(true))
            .await
            .unwrap_err();
        assert_eq!((error.kind(), error.code()), (kind, Some(code)), "{event}");
        assert_eq!(error.retry_after().is_some(), kind == ErrorKind::RateLimited, "{event}");
        let response = own()
            .transport(Scripted::events(events(&[created(), text.clone(), event.clone()])))
            .oneshot(LlmRequest::prompt("?").with_stream(true))
            .await
            .unwrap();
        let error = response.collect().await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::StreamBroken, Some(code)), "{event}");
    }
}

#[tokio::test]
async fn what_a_failed_answer_has_cost_is_known_whole_and_streamed() {
    let mut failed = response("failed", &json!([]));
    let mut caused = failed.clone();
    caused["error"] = json!({"code": "server_error", "message": "Sorry."});
    failed["error"] = Value::Null;
    for body in [failed, caused] {
        let whole = answered(&body.to_string()).await.unwrap_err().usage().unwrap();
        let event = json!({"type": "response.failed", "response": body});
        let streamed = streamed(&[created(), event]).await.unwrap_err().usage().unwrap();
        assert_eq!((whole.output, streamed.output, whole), (9, 9, streamed), "{body}");
    }
}

#[tokio::test]
async fn only_its_own_mark_ends_a_stream() {
    let item = json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]});
    let before = [created(), delta("output_text", 0, "hi"), done(0, &item)];
    let done_alone = format!("{}data: [DONE]\n\n", events(&before));
    for text in [events(&before), done_alone] {
        let transport = Scripted::events(text);
        let response = own().transport(transport).oneshot(LlmRequest::prompt("?").with_stream(true)).await.unwrap();
        assert_eq!(response.collect().await.unwrap_err().kind(), ErrorKind::StreamBroken);
    }
    let mut whole = before.to_vec();
    whole.push(completed(&json!([])));
    assert_eq!(streamed(&whole).await.unwrap().text(), "hi");
    // Neither bytes behind the mark nor the connection's end are part of the answer.
    let text = format!("{}data: [DONE]\n\n", events(&whole));
    let transport = Scripted::events(text).broken();
    let response = own().transport(transport).oneshot(LlmRequest::prompt("?").with_stream(true)).await.unwrap();
    assert_eq!(response.text().await.unwrap(), "hi");
    // Half of a character is read as U+FFFD.
    let lone = "data: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"\\ud83d\"}\n\n";
    let transport = Scripted::events(format!("{}{lone}{}", events(&before), events(&whole[3..])));
    let response = own().transport(transport).oneshot(LlmRequest::prompt("?").with_stream(true)).await.unwrap();
    assert_eq!(response.text().await.unwrap(), "hi\u{fffd}");
}

/// Counts the bytes of a stream that are read before its caller has the answer.
#[tokio::test]
async fn the_head_of_a_stream_does_not_commit() {
    let empty = json!({"type": "message", "role": "assistant", "content": []});
    let head = [created(), json!({"type": "response.in_progress", "response": created()["response"]}), added(0, empty)];
    for list in [head.to_vec(), [&head[..], &[delta("output_text", 0, "")]].concat()] {
        let body = StreamBody::new(
            stream::iter([Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(events(&list))))])
                .chain(stream::pending()),
        );
        let body = Arc::new(Mutex::new(Some(body)));
        let transport = service_fn(move |_: Request<Full<Bytes>>| {
            let body = body.lock().unwrap().take().expect("one request");
            std::future::ready(Ok::<_, Infallible>(
                Response::builder().header("content-type", "text/event-stream").body(body).unwrap(),
            ))
        });
        let waiting = own().transport(transport).oneshot(LlmRequest::prompt("?").with_stream(true)).now_or_never();
        assert!(waiting.is_none(), "{list:?}");
    }
}

fn tool_chat() -> Chat {
    let call = Part::ToolCall(ToolCall::new("toolu_0123456789", "weather", "{\"city\": \"Paris\"}"));
    let mut result = ToolResult::new("toolu_0123456789", "no city");
    result.is_error = true;
    let picture = Part::Image(Image { media: Media::Base64 { media_type: "image/png".into(), data: "QUJD".into() } });
    result.content.push(picture.clone());
    let pdf = Media::Base64 { media_type: "application/pdf".into(), data: "REVG".into() };
    let document = Part::Document(Document { media: pdf, name: Some("a.pdf".into()) });
    let thought = |dialect, token: &str| {
        let opaque = Some(Opaque { dialect, token: token.into(), redacted: true });
        Part::Reasoning(Reasoning { text: "hm".into(), opaque })
    };
    let unsigned = Part::Reasoning(Reasoning { text: "hm".into(), opaque: None });
    let mut chat = Chat::new([
        Message::user("Weather?"),
        Message::new(
            Role::Assistant,
            vec![
                thought(Dialect::Responses, "rs_1:SEALED"),
                thought(Dialect::Anthropic, "sig"),
                unsigned,
                Part::Text(String::new()),
                Part::Text("Let me see.".into()),
                call,
            ],
        ),
        Message::new(Role::User, vec![Part::Text("And this?".into()), Part::ToolResult(result), picture, document]),
    ]);
    chat.tools.push(Tool::new("weather", json!({"type": "object"})));
    chat
}

#[tokio::test]
async fn a_conversation_of_another_dialect_is_written_as_the_api_wants_it() {
    let mut chat = tool_chat().system("Be brief.").max_tokens(5);
    chat.tool_choice = Some(ToolChoice::Named("weather".into()));
    chat.parallel_tool_calls = Some(false);
    chat.stop = vec!["END".into()];
    chat.thinking = Some(Thinking::Effort(Effort::Low));
    chat.output =
        Some(OutputSchema { name: "shape".into(), schema: Some(json!({"type": "object"}).into()), strict: true });
    let (sent, notes) = encoded_by(own(), chat).await;
    let picture = json!({"type": "input_image", "image_url": "data:image/png;base64,QUJD"});
    let expected = json!({
        "model": "gpt-5",
        "instructions": "Be brief.",
        "input": [
            {"type": "message", "role": "user", "content": "Weather?"},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}],
                "encrypted_content": "SEALED"},
            {"type": "message", "role": "assistant", "content": "Let me see."},
            {"type": "function_call", "call_id": "toolu_0123456789", "name": "weather", "arguments": "{\"city\": \"Paris\"}"},
            {"type": "function_call_output", "call_id": "toolu_0123456789",
                "output": [{"type": "input_text", "text": "Error: "}, {"type": "input_text", "text": "no city"}, picture]},
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "And this?"},
                picture,
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,REVG"},
            ]},
        ],
        "tools": [{"type": "function", "name": "weather", "parameters": sent["tools"][0]["parameters"], "strict": false}],
        "tool_choice": {"type": "function", "name": "weather"},
        "parallel_tool_calls": false,
        "max_output_tokens": 16,
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "json_schema", "name": "shape", "schema": sent["text"]["format"]["schema"], "strict": true}},
        "store": false,
        "include": ["reasoning.encrypted_content"],
    });
    assert_eq!(sent, expected);
    for feature in ["reasoning: ", "stop: ", "max_output (16 tokens in place of 5)", "tool_error: "] {
        assert!(notes.iter().any(|note| note.starts_with(feature)), "{feature} {notes:?}");
    }
}

#[tokio::test]
async fn a_model_without_reasoning_is_not_asked_for_it_sealed() {
    let (sent, _) = encoded_by(OpenAiResponses::new("k").model("gpt-4o"), LlmRequest::prompt("?")).await;
    assert_eq!(
        sent,
        json!({"model": "gpt-4o", "input": [{"type": "message", "role": "user", "content": "?"}], "store": false})
    );
}

/// The word must be in the input, whatever the instructions say.
#[tokio::test]
async fn json_without_a_schema_is_asked_for_in_words_where_no_item_has_the_word() {
    for (text, asked) in [("Three colours.", true), ("Three colours as Json.", false)] {
        let mut chat = Chat::new([Message::user(text)]).system("Say it in JSON.");
        chat.output = Some(OutputSchema { name: "answer".into(), schema: None, strict: false });
        let (sent, notes) = encoded_by(own(), chat).await;
        assert_eq!(sent["text"]["format"], json!({"type": "json_object"}));
        assert_eq!(sent["input"][0]["role"] == "system", asked, "{sent}");
        assert_eq!(notes.iter().any(|note| note.starts_with("json_mode: ")), asked, "{notes:?}");
    }
}

/// Decodes a request of this dialect, and encodes it for a provider of the dialect.
async fn again(body: &Value) -> Value {
    let chat = Wire::new(Dialect::Responses, body.to_string()).unwrap().chat().unwrap().clone();
    let (sent, notes) = encoded_by(OpenAiResponses::new("k"), chat).await;
    assert!(notes.is_empty(), "{notes:?}");
    sent
}

#[tokio::test]
async fn a_request_that_is_translated_to_itself_stays_what_and_where_it_is() {
    let function = |name: &str| json!({"type": "function", "name": name, "parameters": {"type": "object"}});
    let body = json!({
        "model": "gpt-5",
        "instructions": "Be brief.",
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "You code."}]},
            {"type": "message", "role": "user", "id": "msg_0", "content": [{"type": "input_text", "text": "a"},
                {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"}, {"type": "input_audio", "data": "QQ=="}]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "s"},
                {"type": "summary_text", "text": "t"}], "encrypted_content": "E"},
            {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "phase": "commentary",
                "content": [{"type": "output_text", "text": "one", "annotations": [1]}]},
            {"type": "message", "role": "assistant", "content": "two"},
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
            {"type": "function_call", "id": "fc_1", "call_id": "c1", "namespace": "mcp__files__", "name": "read", "arguments": "{}"},
            {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c2", "name": "patch", "input": "a \"b\"\n"},
            {"type": "function_call_output", "call_id": "c1", "output": "done", "status": "completed"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": "ok"},
            {"type": "message", "role": "developer", "content": "Now be long."},
            {"type": "message", "role": "user", "content": "go on"},
        ],
        "tools": [
            {"type": "namespace", "name": "mcp__files__", "description": "d", "tools": [function("read"), function("write")]},
            {"type": "namespace", "name": "crm", "description": "e", "tools": [function("find")]},
            {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "start: X"}},
            function("f"),
            {"type": "web_search"},
        ],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
        "text": {"verbosity": "low", "format": {"type": "json_object"}},
        "reasoning": {"effort": "medium", "summary": "auto"},
        "temperature": 1.0,
        "max_output_tokens": 3,
        "truncation": "auto",
        "include": ["reasoning.encrypted_content"],
        "store": false,
        "prompt_cache_key": "k",
    });
    assert_eq!(again(&body).await, body);
    // A setting that a layer changes leaves those beside it.
    let mut chat = Wire::new(Dialect::Responses, body.to_string()).unwrap().chat().unwrap().clone();
    (chat.thinking, chat.output, chat.system) = (Some(Thinking::Effort(Effort::Low)), None, Some("Be kind.".into()));
    chat.tools[0].description = Some("changed".into());
    let (sent, _) = encoded_by(OpenAiResponses::new("k"), chat).await;
    assert_eq!(sent["reasoning"], json!({"effort": "low", "summary": "auto"}));
    assert_eq!(sent["text"], json!({"verbosity": "low"}));
    assert_eq!((&sent["instructions"], &sent["input"][0]), (&json!("Be kind."), &body["input"][1]));
    assert_eq!(sent["tools"][0]["tools"][0]["description"], "changed");
    assert_eq!(sent["tools"][0]["tools"][0]["name"], "read");
}

#[tokio::test]
async fn an_answer_goes_back_as_it_came() {
    let message = answered(&response("completed", &items().into()).to_string()).await.unwrap().collect().await.unwrap();
    let results = ["call_1", "call_2", "call_3"].map(|id| Part::ToolResult(ToolResult::new(id, "ok")));
    let chat = Chat::new([Message::user("?"), message, Message::new(Role::User, results.into())]);
    let (sent, _) = encoded_by(own(), chat).await;
    let input = sent["input"].as_array().unwrap();
    let fields = |at: usize, names: &[&str]| names.iter().map(|name| input[at][*name].clone()).collect::<Vec<_>>();
    assert_eq!(fields(1, &["type", "id", "encrypted_content"]), ["reasoning", "rs_1", "SEALED"]);
    assert_eq!(input[2], items()[1]);
    assert_eq!(fields(3, &["role", "phase"]), ["assistant", "commentary"]);
    assert_eq!(fields(4, &["type", "namespace", "name"]), ["function_call", "mcp__files__", "read"]);
    assert_eq!(fields(6, &["type", "input"]), [json!("custom_tool_call"), items()[5]["input"].clone()]);
    let outputs = ["function_call_output", "function_call_output", "custom_tool_call_output"];
    assert_eq!([&input[7]["type"], &input[8]["type"], &input[9]["type"]], outputs);
}

#[tokio::test]
async fn a_request_for_another_model_loses_what_that_one_refuses() {
    let body = json!({"model": "gpt-5", "input": "?", "reasoning": {"effort": "high"}, "temperature": 0.5,
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"]});
    let wire = || LlmRequest::from(Wire::new(Dialect::Responses, body.to_string()).unwrap());
    let (sent, _) = encoded_by(OpenAiResponses::new("k").model("gpt-4o"), wire()).await;
    assert_eq!(
        sent,
        json!({"model": "gpt-4o", "input": "?", "temperature": 0.5, "include": ["message.output_text.logprobs"]})
    );
    let (sent, _) = encoded_by(OpenAiResponses::new("k").model("gpt-5-mini"), wire()).await;
    assert_eq!((&sent["reasoning"], sent.get("model")), (&json!({"effort": "high"}), Some(&json!("gpt-5-mini"))));
}

/// A provider whose account cannot open the reasoning in a request.
#[derive(Clone, Default)]
struct Elsewhere {
    sent: Arc<Mutex<Vec<Value>>>,
}

impl Elsewhere {
    fn transport(
        &self,
    ) -> impl Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static {
        let sent = self.sent.clone();
        service_fn(move |request: Request<Full<Bytes>>| {
            let sent = sent.clone();
            async move {
                let body = request.into_body().collect().await.expect("it is in memory").to_bytes();
                let body: Value = serde_json::from_slice(&body).unwrap();
                let is_sealed = body["input"].as_array().unwrap().iter().any(|item| item["type"] == "reasoning");
                sent.lock().unwrap().push(body);
                let (status, answer) = match is_sealed {
                    true => (
                        400,
                        json!({"error": {"message": "The encrypted content gAAA...DQ== could not be verified.",
                        "type": "invalid_request_error", "param": null, "code": "invalid_encrypted_content"}})
                        .to_string(),
                    ),
                    false => (200, ANSWER.to_owned()),
                };
                let response = Response::builder().status(status).header("content-type", "application/json");
                Ok(response.body(Full::new(Bytes::from(answer))).unwrap())
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn reasoning_that_another_account_sealed_is_left_out_once_and_no_circuit_counts_it() {
    let sealed = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "E"});
    let question = json!({"role": "user", "content": "?"});
    let body = json!({"model": "gpt-5", "input": [question, sealed, question]});
    let of_responses = LlmRequest::from(Wire::new(Dialect::Responses, body.to_string()).unwrap());
    for request in [of_responses, LlmRequest::from(tool_chat())] {
        let world = Elsewhere::default();
        let leaf = own().transport(world.transport());
        let circuit = CircuitBreakerLayer::new("east");
        let handle = circuit.handle();
        // No layer need repeat anything.
        let service = RetryWithJitterLayer::new().max_attempts(1).layer(circuit.layer(leaf.clone()));
        for _ in 0..3 {
            let response = service.clone().oneshot(request.clone()).await.unwrap();
            assert!(response.notes().iter().any(|note| note.contains("input.reasoning")), "{:?}", response.notes());
        }
        let sent = world.sent.lock().unwrap().clone();
        assert_eq!(sent.len(), 6, "each request goes out twice: nothing is remembered");
        let guarded = circuit.layer(leaf.clone());
        for _ in 0..50 {
            assert!(guarded.clone().oneshot(request.clone()).await.is_ok());
        }
        assert_eq!(handle.state().name(), "closed");
        let response = leaf.oneshot(request).await.unwrap();
        assert_eq!(response.text().await.unwrap(), "hi");
        let reasoning =
            |body: &Value| body["input"].as_array().unwrap().iter().filter(|item| item["type"] == "reasoning").count();
        assert_eq!((reasoning(&sent[0]), reasoning(&sent[1])), (1, 0));
        assert_eq!(sent[0]["input"].as_array().unwrap().len(), sent[1]["input"].as_array().unwrap().len() + 1);
    }
}

#[tokio::test]
async fn all_settings_of_a_leaf_of_chat_completions_are_kept() {
    let transport = Scripted::json(ANSWER);
    let leaf = OpenAi::compatible("azure", "http://127.0.0.1:9/openai/v1?api-version=1")
        .unwrap()
        .key_header(HeaderName::from_static("api-key"))
        .key("secret-key")
        .model("mine")
        .header(HeaderName::from_static("x-team"), "a".parse().unwrap())
        .transport(transport.clone())
        .commit(CommitPoint::Complete)
        .responses();
    let response = leaf.oneshot(LlmRequest::prompt("?")).await.unwrap();
    assert_eq!((response.served_by().provider, response.served_by().model), (Some("azure"), Some("mine")));
    let request = transport.request();
    assert_eq!(request.uri(), "http://127.0.0.1:9/openai/v1/responses?api-version=1");
    assert_eq!(request.headers()["api-key"], "secret-key");
    assert_eq!(request.headers()["x-team"], "a");
    assert!(!request.headers().contains_key("authorization"));

    let transport = Scripted::json(ANSWER);
    let leaf = OpenAiResponses::new("k\n").model("m").key_header(HeaderName::from_static("api-key"));
    let _answer = leaf.transport(transport.clone()).oneshot(LlmRequest::prompt("?")).await.unwrap();
    assert_eq!(transport.request().uri(), "https://api.openai.com/v1/responses");
    assert_eq!(transport.request().headers()["api-key"], "k");
    assert!(OpenAiResponses::compatible("x", "localhost:8000").is_err());
    assert!(own().base_url("ftp://x").is_err());
}

/// A server whose every piece takes a wait, and that knows how many of its answers are open.
fn slow(open: &Arc<()>, pieces: &[String]) -> OpenAiResponses {
    let (open, pieces) = (open.clone(), pieces.to_vec());
    let transport = service_fn(move |_: Request<Full<Bytes>>| {
        let (open, pieces) = (open.clone(), pieces.clone());
        async move {
            tokio::task::yield_now().await;
            let frames = stream::iter(pieces).then(move |piece| {
                let _held = open.clone();
                async move {
                    tokio::task::yield_now().await;
                    Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(piece)))
                }
            });
            let response = Response::builder().header("content-type", "text/event-stream");
            Ok::<_, Infallible>(response.body(StreamBody::new(Box::pin(frames))).unwrap())
        }
    });
    own().transport(transport)
}

#[tokio::test]
async fn a_call_dropped_anywhere_and_a_body_dropped_half_read_leave_nothing_open() {
    let list: Vec<String> = stream_of_items().iter().map(|event| events(std::slice::from_ref(event))).collect();
    let open = Arc::new(());
    for point in CommitPoint::ALL {
        let mut polls = 0;
        loop {
            let leaf = slow(&open, &list).commit(point);
            let mut call = leaf.oneshot(LlmRequest::prompt("?").with_stream(true));
            let mut answered = None;
            for _ in 0..=polls {
                if let Poll::Ready(answer) = futures_util::poll!(&mut call) {
                    answered = Some(answer.unwrap());
                    break;
                }
            }
            drop(call);
            let Some(response) = answered else {
                assert_eq!(Arc::strong_count(&open), 1, "{point} dropped after {polls} polls");
                polls += 1;
                continue;
            };
            let mut body = response.into_body();
            let _first = body.frame().await.unwrap().unwrap();
            drop(body);
            assert_eq!(Arc::strong_count(&open), 1, "{point}: the body is dropped half read");
            break;
        }
        assert!(polls > 1, "{point}: each piece takes a wait");
    }
}

/// An answer of OpenAI's, shortened.
const COMPACTED: &str = r#"{"id":"resp_0","object":"response.compaction","created_at":1775105412,"output":[{"id":"msg_0",
    "type":"message","status":"completed","role":"user","content":[{"type":"input_text","text":"What is 2+2?"}]},
    {"id":"cmp_0","type":"compaction","encrypted_content":"gAAAAAB"}],"usage":{"input_tokens":156,
    "input_tokens_details":{"cached_tokens":0},"output_tokens":190,"total_tokens":346}}"#;

#[tokio::test]
async fn a_compaction_goes_to_its_path_and_comes_back_as_the_same_bytes() {
    let body = r#"{ "model":"gpt-4o-mini", "stream" : true, "input":[{"role":"user","content":"What is 2+2?"}],
        "instructions":"Be \u0073hort.", "unheard_of": 1.0 }"#;
    for leaf in [own(), OpenAiResponses::compatible("azure", "https://api.openai.com/v1").unwrap().model("gpt-5")] {
        let transport = Scripted::json(COMPACTED);
        let request = LlmRequest::from(Wire::compaction(body).unwrap());
        assert!(!request.is_stream(), "a compaction comes whole");
        let response = leaf.transport(transport.clone()).oneshot(request).await.unwrap();
        assert_eq!(transport.request().uri(), "https://api.openai.com/v1/responses/compact");
        assert_eq!(transport.body(), body.replace("gpt-4o-mini", "gpt-5"));
        assert_eq!(response.usage(), Some(Usage::new(156, 190)));
        assert_eq!(response.body().wire(), Some((Dialect::Responses, &Bytes::from(COMPACTED))));
    }
    // The other calls of the leaf keep their path.
    let transport = Scripted::json(ANSWER);
    own().transport(transport.clone()).oneshot(LlmRequest::prompt("hello")).await.unwrap();
    assert_eq!(transport.request().uri(), "https://api.openai.com/v1/responses");
}

#[tokio::test]
async fn a_leaf_of_another_dialect_refuses_a_compaction() {
    let request = || LlmRequest::from(Wire::compaction(r#"{"model":"m","input":"x"}"#).unwrap());
    let transport = Scripted::json("{}");
    let refused = [
        OpenAi::new("k").transport(transport.clone()).oneshot(request()).await,
        Anthropic::new("k").transport(transport.clone()).oneshot(request()).await,
        Gemini::new("k").transport(transport.clone()).oneshot(request()).await,
        Simulated::new("m").oneshot(request()).await,
    ];
    for refused in refused {
        let error = refused.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::UnsupportedFeature, Some("unsupported_path")));
        assert!(error.message().contains("/v1/responses/compact"), "{error}");
    }
    let (chat, auto) = (Scripted::json(COMPACTED), OpenAi::new("k").model("gpt-5"));
    auto.transport(chat.clone()).auto().oneshot(request()).await.unwrap();
    assert_eq!(chat.request().uri().path(), "/v1/responses/compact");
}

/// Returns the arguments of the only call, and the text, of a stream with these events between its first and its last.
async fn ended(events_between: &[Value], last: &[Value]) -> Result<(String, String), LlmError> {
    let all: Vec<Value> =
        [created()].into_iter().chain(events_between.to_vec()).chain([completed(&last.to_vec().into())]).collect();
    let message = streamed(&all).await?;
    let arguments = message.tool_calls().map(|call| call.arguments.clone()).collect();
    Ok((arguments, message.text()))
}

/// Every way in which the deltas, the events with `.done`, the whole item and the last response have a call's arguments
/// or a text, each wholly, in part, or not at all: the most that is said counts, and contradictions are failures.
#[tokio::test]
async fn what_the_end_events_have_beyond_the_deltas_is_not_lost() {
    let kinds = [
        ("function_call", "function_call_arguments", "arguments", r#"{"id":7,"of":"x"}"#),
        ("custom_tool_call", "custom_tool_call_input", "input", "*** Begin \"patch\""),
        ("message", "output_text", "text", "Hello, world"),
    ];
    for (kind, event, field, whole) in kinds {
        let half = &whole[..5];
        for deltas in ["", half, whole] {
            for done in [None, Some(""), Some(whole)] {
                for in_item in [None, Some(""), Some(whole)] {
                    for in_last in [None, Some(""), Some(whole)] {
                        let item = |said: &str| match kind {
                            "message" => json!({"type": kind, "id": "i", "role": "assistant",
                                "content": [{"type": "output_text", "text": said}]}),
                            _ => json!({"type": kind, "id": "i", "call_id": "c", "name": "f", field: said}),
                        };
                        let begun = match kind {
                            "message" => json!({"type": kind, "id": "i", "role": "assistant", "content": []}),
                            _ => item(""),
                        };
                        let mut between = vec![added(0, begun)];
                        if !deltas.is_empty() {
                            between.push(delta(event, 0, deltas));
                        }
                        if let Some(said) = done {
                            between.push(json!({"type": format!("response.{event}.done"), "output_index": 0,
                                "content_index": 0, field: said}));
                        }
                        between.extend(in_item.map(|said| super::tests::done(0, &item(said))));
                        let last: Vec<Value> = in_last.map(item).into_iter().collect();
                        let said =
                            [Some(deltas), done, in_item, in_last].into_iter().flatten().max_by_key(|said| said.len());
                        let said = said.unwrap_or_default();
                        let of = format!("{kind}: {deltas:?}, {done:?}, {in_item:?}, {in_last:?}");
                        let ended = ended(&between, &last).await;
                        match kind {
                            // An answer of nothing is another matter.
                            "message" if said.is_empty() => {}
                            "message" => assert_eq!(ended.unwrap().1, said, "{of}"),
                            "function_call" => {
                                let expected = if said.is_empty() { "{}" } else { said };
                                assert_eq!(ended.unwrap().0, expected, "{of}");
                            }
                            _ => assert_eq!(ended.unwrap().0, json!({"input": said}).to_string(), "{of}"),
                        }
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn arguments_that_end_otherwise_than_they_began_are_a_failure() {
    let call = |arguments: &str| json!({"type": "function_call", "id": "i", "call_id": "c", "name": "f", "arguments": arguments});
    let arguments_done =
        |said: &str| json!({"type": "response.function_call_arguments.done", "output_index": 0, "arguments": said});
    for (begun, end, expected) in [
        (r#"{"a":1}"#, r#"{ "a": 1 }"#, Ok(r#"{"a":1}"#)),
        (r#"{"a":1}"#, "{}", Ok(r#"{"a":1}"#)),
        (r#"{"a":1}"#, r#"{"a":2}"#, Err(())),
        (r#"{"a":"#, r#"{"b":1}"#, Err(())),
        (r#"{"a":"#, "{}", Err(())),
        (r#"{"a":1}"#, r#"{"a":"#, Err(())),
    ] {
        let begins = [added(0, call("")), delta("function_call_arguments", 0, begun)];
        let by_event = [&begins[..], &[arguments_done(end), done(0, &call(""))]].concat();
        let by_item = [&begins[..], &[done(0, &call(end))]].concat();
        for (between, last) in [(by_event, vec![]), (by_item, vec![]), (begins.to_vec(), vec![call(end)])] {
            let ended = ended(&between, &last).await;
            match expected {
                Ok(expected) => assert_eq!(ended.unwrap().0, expected, "{begun} {end}"),
                Err(()) => assert!(ended.is_err(), "{begun} {end}: {ended:?}"),
            }
        }
    }
}
