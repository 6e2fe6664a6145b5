//! Answers: whole and streamed, in each dialect's own grammar, read again by that dialect's own leaf.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde_json::{Value, json};
use steadfast::{
    Dialect, ErrorKind, Frame, LlmBody, LlmError, LlmRequest, StreamEvent, Wire,
    chat::{FinishReason, Message, Opaque, Part, Reasoning, Role, ToolCall, Usage},
    translate::{StreamEncoder, encode_error, encode_message},
};
use steadfast_simulator::check;
use tower::{Service, ServiceExt};

use super::{DIALECTS, any, leaf, translate};

/// An answer of this provider's with everything in it.
fn answer(from: Dialect) -> Message {
    let signed = |token: &str| Some(Opaque { dialect: from, token: token.into(), redacted: false });
    let mut first = ToolCall::new("call_a", "weather", r#"{"city":"Oslo"}"#);
    if from == Dialect::Gemini {
        first.opaque = signed("BBBB");
    }
    let opaque = match from {
        Dialect::OpenAi => None,
        // Sealed under the item's id, with a summary beside it.
        Dialect::Responses => Some(Opaque { dialect: from, token: "rs_1:AAAA".into(), redacted: true }),
        _ => signed("AAAA"),
    };
    let mut message = Message::new(
        Role::Assistant,
        vec![
            Part::Reasoning(Reasoning { text: "Two cities.".into(), opaque }),
            Part::Text("Looking.".into()),
            Part::ToolCall(first),
            Part::ToolCall(ToolCall::new("call_b", "weather", r#"{"city":"Rome"}"#)),
        ],
    );
    message.finish = Some(FinishReason::ToolUse);
    message.usage = Some(Usage::new(10, 20));
    message.id = Some("answer_1".into());
    message.model = Some("m".into());
    message
}

/// The answer as frames in which the two calls grow side by side.
fn interleaved(message: &Message) -> Vec<Frame> {
    let mut events = vec![StreamEvent::Start { id: message.id.clone(), model: message.model.clone() }];
    let mut arguments = Vec::new();
    for (index, part) in (0..).zip(&message.content) {
        match part {
            Part::Reasoning(thought) => {
                events.push(StreamEvent::Reasoning { index, text: thought.text.clone() });
                events.extend(thought.opaque.clone().map(|opaque| StreamEvent::Signature { index, opaque }));
            }
            Part::Text(text) => events.push(StreamEvent::Text { index, text: text.clone() }),
            Part::ToolCall(call) => {
                let (id, name, opaque) = (call.id.clone(), call.name.clone(), call.opaque.clone());
                events.push(StreamEvent::ToolCall { index, id, name, opaque });
                arguments.push((index, call.arguments.clone()));
            }
            _ => {}
        }
    }
    for at in 0..arguments.iter().map(|(_, json)| json.len()).max().unwrap_or(0) {
        for (index, json) in &arguments {
            events.extend(json.get(at..=at).map(|json| StreamEvent::Arguments { index: *index, json: json.into() }));
        }
    }
    events.extend(message.finish.clone().map(StreamEvent::Finish));
    events.extend(message.usage.map(StreamEvent::Usage));
    events.push(StreamEvent::End);
    events.into_iter().map(Frame::event).collect()
}

pub(crate) fn encoded(frames: &[Frame], to: Dialect) -> Bytes {
    let mut encoder = StreamEncoder::new(to);
    let mut bytes = BytesMut::new();
    frames.iter().for_each(|frame| bytes.extend_from_slice(&encoder.frame(frame)));
    bytes.freeze()
}

/// Returns the reading of the dialect's own leaf.
async fn read(dialect: Dialect, stream: bool, body: impl Into<Bytes>) -> Result<Message, LlmError> {
    let kind = if stream { "text/event-stream" } else { "application/json" };
    answered(dialect, stream, (200, kind), body).await
}

pub(crate) async fn answered(
    dialect: Dialect,
    stream: bool,
    head: (u16, &'static str),
    body: impl Into<Bytes>,
) -> Result<Message, LlmError> {
    let (mut leaf, _) = leaf(dialect, false, head, body);
    leaf.ready().await?.call(LlmRequest::prompt("?").with_stream(stream)).await?.collect().await
}

fn same(message: &Message, before: &Message, what: &str) {
    assert_eq!(message.text(), before.text(), "{what}");
    let calls = |message: &Message| -> Vec<(String, Value)> {
        let parsed = |call: &ToolCall| serde_json::from_str(&call.arguments).expect("JSON");
        message.tool_calls().map(|call| (call.name.clone(), parsed(call))).collect()
    };
    assert_eq!(calls(message), calls(before), "{what}");
    let thoughts = |message: &Message| -> String {
        let text = |part: &Part| match part {
            Part::Reasoning(thought) => thought.text.clone(),
            _ => String::new(),
        };
        message.content.iter().map(text).collect()
    };
    assert_eq!(thoughts(message), thoughts(before), "{what}");
    assert_eq!((&message.finish, message.usage), (&before.finish, before.usage), "{what}");
    // Callers of Responses know an id by its begin.
    let id = |message: &Message| message.id.as_deref().map(|id| id.trim_start_matches("resp_").to_owned());
    assert_eq!((id(message), &message.model), (id(before), &before.model), "{what}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_means_the_same_in_every_dialect_whole_and_streamed() {
    for from in DIALECTS {
        let message = answer(from);
        for to in DIALECTS {
            let whole = read(to, false, encode_message(&message, to).body).await.expect("an answer");
            same(&whole, &message, &format!("{from} to {to}"));
            let streamed = read(to, true, encoded(&interleaved(&message), to)).await.expect("a stream");
            same(&streamed, &message, &format!("{from} to {to}, streamed"));
            let complete = LlmBody::from_message(message.clone()).next().await.expect("a frame").expect("an answer");
            let streamed = read(to, true, encoded(&[complete], to)).await.expect("a stream");
            same(&streamed, &message, &format!("{from} to {to}, a whole answer streamed"));
        }
    }
}

/// Anthropic's grammar: blocks open and close one after the other, under indexes of their own, thoughts are signed.
fn grammar(text: &str) {
    let mut open: Option<(u64, String)> = None;
    let (mut next, mut signed, mut kinds) = (0, false, Vec::new());
    for event in text.split_terminator("\n\n") {
        let (name, data) = event.split_once("\ndata: ").expect("an event");
        let data: Value = serde_json::from_str(data).expect("JSON");
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
        kinds.push(data["type"].as_str().unwrap_or_default().to_owned());
        match data["type"].as_str() {
            Some("content_block_start") => {
                assert!(open.is_none(), "one block at a time");
                assert_eq!(data["index"], next);
                open = Some((next, data["content_block"]["type"].to_string()));
                (next, signed) = (next + 1, false);
            }
            Some("content_block_delta") => {
                assert_eq!(Some(data["index"].as_u64()), open.as_ref().map(|(index, _)| Some(*index)));
                signed |= data["delta"]["type"] == "signature_delta";
            }
            Some("content_block_stop") => {
                let (index, kind) = open.take().expect("an open block");
                assert_eq!(data["index"], index);
                assert!(signed || kind != "\"thinking\"", "a thought ends with its signature");
            }
            _ => {}
        }
    }
    assert!(open.is_none());
    assert_eq!(kinds.first().map(String::as_str), Some("message_start"));
    assert_eq!(kinds[kinds.len() - 2..], ["message_delta", "message_stop"]);
}

#[test]
fn streams_have_the_grammar_of_their_dialect() {
    for from in DIALECTS {
        let frames = interleaved(&answer(from));
        let bytes = |to| String::from_utf8(encoded(&frames, to).to_vec()).expect("UTF-8");
        grammar(&bytes(Dialect::Anthropic));

        let text = bytes(Dialect::OpenAi);
        assert!(text.ends_with("data: [DONE]\n\n"));
        let lines = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|line| *line != "[DONE]");
        let chunks: Vec<Value> = lines.map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
        let [.., finish, usage] = &chunks[..] else { panic!("no end") };
        assert_eq!((&finish["choices"][0]["finish_reason"], &usage["choices"]), (&json!("tool_calls"), &json!([])));
        assert_eq!(usage["usage"]["total_tokens"], 30);
        assert!(chunks[..chunks.len() - 1].iter().all(|chunk| chunk["usage"].is_null()));
        let begun = |chunk: &&Value| chunk["choices"][0]["delta"]["tool_calls"][0].get("id").is_some();
        let places = chunks.iter().filter(begun).map(|chunk| &chunk["choices"][0]["delta"]["tool_calls"][0]["index"]);
        assert_eq!(places.collect::<Vec<_>>(), [0, 1]);

        let text = bytes(Dialect::Gemini);
        assert_eq!(text.matches("finishReason").count(), 1);
        assert_eq!(text.matches("functionCall").count(), 2, "each call whole");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_from_the_fallback_goes_on_at_the_primary_and_at_the_fallback() {
    let thinking = json!({"type": "enabled", "budget_tokens": 1024});
    let tool = json!({"name": "weather", "input_schema": {"type": "object", "properties": {}}});
    let schema = &tool["input_schema"];
    for from in DIALECTS {
        for caller in DIALECTS {
            let body: Value = serde_json::from_slice(&encode_message(&answer(from), caller).body).expect("JSON");
            // The caller sends the turn back as it came, with the tools' results.
            let next = match caller {
                Dialect::Anthropic => {
                    let calls = body["content"].as_array().expect("blocks").iter().filter(|b| b["type"] == "tool_use");
                    let result =
                        |call: &Value| json!({"type": "tool_result", "tool_use_id": call["id"], "content": "4"});
                    let results: Vec<Value> = calls.map(result).collect();
                    json!({"model": "m", "max_tokens": 3000, "thinking": thinking, "tools": [tool], "messages": [
                        {"role": "user", "content": "?"}, {"role": "assistant", "content": body["content"]},
                        {"role": "user", "content": results}]})
                }
                Dialect::OpenAi => {
                    let mut turn = body["choices"][0]["message"].clone();
                    turn.as_object_mut().expect("fields").retain(|_, value| !value.is_null());
                    let calls = turn["tool_calls"].as_array().expect("calls").clone();
                    let result = |call: &Value| json!({"role": "tool", "tool_call_id": call["id"], "content": "4"});
                    let mut messages = vec![json!({"role": "user", "content": "?"}), turn];
                    messages.extend(calls.iter().map(result));
                    json!({"model": "m", "messages": messages,
                        "tools": [{"type": "function", "function": {"name": "weather", "parameters": schema}}]})
                }
                Dialect::Responses => {
                    let items = body["output"].as_array().expect("items").clone();
                    let calls = items.iter().filter(|item| item["type"] == "function_call");
                    let output = |call: &Value| json!({"type": "function_call_output", "call_id": call["call_id"], "output": "4"});
                    let outputs: Vec<Value> = calls.map(output).collect();
                    let input = [vec![json!({"role": "user", "content": "?"})], items, outputs].concat();
                    json!({"model": "m", "input": input,
                        "tools": [{"type": "function", "name": "weather", "parameters": schema, "strict": false}]})
                }
                _ => {
                    let turn = body["candidates"][0]["content"].clone();
                    let calls = turn["parts"].as_array().expect("parts").iter();
                    let calls = calls.filter_map(|part| part.get("functionCall"));
                    let response = |call: &Value| json!({"functionResponse": {"id": call["id"], "name": call["name"], "response": {"output": "4"}}});
                    let results: Vec<Value> = calls.map(response).collect();
                    json!({"contents": [{"role": "user", "parts": [{"text": "?"}]}, turn, {"role": "user", "parts": results}],
                        "tools": [{"functionDeclarations": [{"name": "weather", "parametersJsonSchema": schema}]}]})
                }
            };
            for to in DIALECTS {
                let what = format!("{from} answered a caller of {caller}, who goes on at {to}");
                let (sent, _) = translate(caller, to, false, &next).await.unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(check(to, any(to), &sent), Ok(()), "{what}: {sent:#}");
                // A signature is only ever shown to who signed.
                let envelope = if to == Dialect::Gemini { "c3RlYWRmYXN0L" } else { "steadfast." };
                let signature = if to == from { "AAAA" } else { envelope };
                let has = sent.to_string().contains(signature);
                let expected = to == from && from != Dialect::OpenAi;
                let kept_by_caller = to == caller && caller == Dialect::OpenAi && from != Dialect::Responses;
                assert!(has == expected || kept_by_caller, "{what}: {sent}");
                // OpenAI reads what it has sealed under the item's id alone.
                if from == Dialect::Responses {
                    let sealed = sent["input"]
                        .as_array()
                        .and_then(|items| items.iter().find(|item| item["type"] == "reasoning"));
                    let sealed =
                        sealed.map(|item| (&item["id"], &item["encrypted_content"], &item["summary"][0]["text"]));
                    let whole = (&json!("rs_1"), &json!("AAAA"), &json!("Two cities."));
                    assert_eq!(sealed, (to == from).then_some(whole), "{what}: {sent}");
                    assert_eq!(sent.to_string().contains("AAAA"), to == from, "{what}: {sent}");
                }
                if to == Dialect::Anthropic && caller == to {
                    let thinks = sent["thinking"]["type"] == "enabled";
                    assert_eq!(thinks, from == Dialect::Anthropic, "{what}: thinking needs a thought of its own");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn arguments_that_are_no_json_are_delivered_and_reported() {
    let mut message =
        Message::new(Role::Assistant, vec![Part::ToolCall(ToolCall::new("call_a", "f", "{\"city\": Oslo"))]);
    message.finish = Some(FinishReason::ToolUse);
    for to in DIALECTS {
        let translated = encode_message(&message, to);
        let text = String::from_utf8(translated.body.to_vec()).expect("UTF-8");
        assert!(text.contains(r#"{\"city\": Oslo"#), "{to}: {text}");
        // OpenAI's arguments are a text.
        let is_object = matches!(to, Dialect::Anthropic | Dialect::Gemini);
        assert_eq!(translated.notes.len(), usize::from(is_object), "{to}: {:?}", translated.notes);
        let streamed = read(to, true, encoded(&interleaved(&message), to)).await;
        // Its SDKs would make an object of them.
        assert_eq!(streamed.is_err(), to == Dialect::Anthropic, "{to}: {streamed:?}");
        let Ok(streamed) = streamed else { continue };
        let arguments = streamed.tool_calls().next().expect("a call").arguments.clone();
        assert!(arguments.contains("Oslo"), "{to}: {arguments}");
    }
    let (mut leaf, _) =
        leaf(Dialect::OpenAi, false, (200, "application/json"), encode_message(&message, Dialect::OpenAi).body);
    let response = leaf.ready().await.unwrap().call(LlmRequest::prompt("?")).await.unwrap();
    assert!(response.notes()[0].starts_with("invalid_arguments: "), "{:?}", response.notes());
    // On the way back they are what the model wrote.
    let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "?"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_sf_call_a", "name": "f",
            "input": {"invalid_arguments": "{\"city\": Oslo"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_sf_call_a", "content": "?"}]}]});
    let request = LlmRequest::from(Wire::new(Dialect::Anthropic, body.to_string()).unwrap());
    let call = request.chat().unwrap().messages[1].tool_calls().next().unwrap().clone();
    assert_eq!((call.id.as_str(), call.arguments.as_str()), ("call_a", "{\"city\": Oslo"));
}

#[test]
fn frames_of_the_same_dialect_pass_as_they_came() {
    let raw = Bytes::from_static(b"data: {\"odd\" :1}\r\n\r\n");
    let frame = Frame::text("hi").with_raw(Dialect::OpenAi, raw.clone());
    let mut encoder = StreamEncoder::new(Dialect::OpenAi);
    let passed = encoder.frame(&frame);
    assert_eq!((passed.as_ptr(), &passed), (raw.as_ptr(), &raw));
    // A mark that the provider left out is put in, once: by now it is known that the answer is whole.
    assert_eq!(encoder.frame(&Frame::event(StreamEvent::End)), "data: [DONE]\n\n");
    assert_eq!(encoder.frame(&Frame::event(StreamEvent::End)), "");
    assert!(StreamEncoder::new(Dialect::Anthropic).frame(&frame).starts_with(b"event: message_start\n"));
}

#[tokio::test(start_paused = true)]
async fn an_error_in_a_stream_is_one_for_the_reader_too() {
    for to in DIALECTS {
        let mut encoder = StreamEncoder::new(to);
        let mut bytes = BytesMut::from(&encoder.frame(&Frame::text("half"))[..]);
        bytes.extend_from_slice(&encoder.error(&LlmError::new(ErrorKind::Overloaded, "overloaded")));
        assert!(encoder.frame(&Frame::event(StreamEvent::End)).is_empty(), "{to}: no end mark after an error");
        let error = read(to, true, bytes.freeze()).await.expect_err("half an answer");
        assert_eq!(error.kind(), ErrorKind::StreamBroken, "{to}");

        let mut encoder = StreamEncoder::new(to);
        let mut bytes = BytesMut::from(&encoder.frame(&Frame::text("old"))[..]);
        let restarted = Frame::event(StreamEvent::Restarted { reason: ErrorKind::Server });
        bytes.extend_from_slice(&encoder.frame(&restarted));
        bytes.extend_from_slice(&encoder.frame(&Frame::text("new")));
        bytes.extend_from_slice(&encoder.frame(&Frame::event(StreamEvent::End)));
        assert!(read(to, true, bytes.freeze()).await.is_err(), "{to}: two answers are not told as one");
    }
}

/// SDKs of Anthropic's complete half of a JSON text by themselves, to `{}` if need be, and an agent acts on that.
#[tokio::test(start_paused = true)]
async fn broken_arguments_of_a_streamed_call_are_an_error_or_the_broken_text() {
    let pieces = [
        (vec![r#"{"city": ""#], false),
        (vec!["{"], false),
        (vec![r#"{"ci"#, r#"ty": Oslo}"#], false),
        (vec![r#"{"city": }"#], false),
        (vec!["{}", r#"{"city":"Oslo"}"#], false),
        (vec!["weather in Oslo"], false),
        (vec![r#"{"city": "Oslo"}}"#], false),
        (vec![r#"{"ci"#, r#"ty":"Oslo"}"#], true),
        (vec!["{}"], true),
        (vec![], true),
    ];
    let finishes = [FinishReason::ToolUse, FinishReason::Stop, FinishReason::Length];
    for ((pieces, is_json), finish) in
        pieces.into_iter().flat_map(|case| finishes.clone().map(|finish| (case.clone(), finish)))
    {
        for (to, others) in DIALECTS.into_iter().flat_map(|to| [(to, 0), (to, 1), (to, 2)]) {
            let call =
                |index, id: &str| StreamEvent::ToolCall { index, id: id.into(), name: "weather".into(), opaque: None };
            let mut events = vec![StreamEvent::Start { id: None, model: Some("m".into()) }, call(0, "a")];
            // Another call before its end, beside it or after it.
            let arguments = StreamEvent::Arguments { index: 1, json: r#"{"city":"Rome"}"#.into() };
            events.extend((others == 1).then(|| [call(1, "b"), arguments.clone()]).into_iter().flatten());
            events.extend(pieces.iter().map(|json| StreamEvent::Arguments { index: 0, json: (*json).into() }));
            events.extend((others == 2).then(|| [call(1, "b"), arguments]).into_iter().flatten());
            events.extend([StreamEvent::Finish(finish.clone()), StreamEvent::End]);
            let frames: Vec<_> = events.into_iter().map(Frame::event).collect();
            let bytes = encoded(&frames, to);
            let what = format!("{pieces:?} to {to}, {finish:?}: {}", String::from_utf8_lossy(&bytes));
            let is_clean = is_json || to != Dialect::Anthropic;
            // The last call of an answer that is cut is cut too.
            let is_cut = finish == FinishReason::Length;
            match read(to, true, bytes.clone()).await {
                Ok(message) if is_clean || is_cut => {
                    let said =
                        message.tool_calls().find(|call| call.arguments != r#"{"city":"Rome"}"#).expect("a call");
                    let text = pieces.concat();
                    assert!(
                        is_json || said.arguments.contains(&text) || said.arguments.contains(&json!(text).to_string()),
                        "{what}"
                    );
                }
                Err(error) if !is_clean && (!is_cut || others > 0) => {
                    assert_eq!(error.kind(), ErrorKind::StreamBroken, "{what}");
                    assert!(!bytes.windows(12).any(|part| part == b"message_stop"), "{what}");
                }
                other => panic!("{what}: {other:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn errors_are_known_again_by_the_readers_of_each_dialect() {
    for kind in [
        ErrorKind::RateLimited,
        ErrorKind::Overloaded,
        ErrorKind::QuotaExhausted,
        ErrorKind::ContextLength,
        ErrorKind::InvalidRequest,
        ErrorKind::Auth,
        ErrorKind::NotFound,
        ErrorKind::Timeout,
        ErrorKind::Server,
    ] {
        for to in DIALECTS {
            let (status, body) = encode_error(&LlmError::new(kind, "it failed"), to);
            let head = (status.as_u16(), "application/json");
            let error = answered(to, false, head, body).await.expect_err("an error");
            assert_eq!(error.kind(), kind, "{to}: {error:?}");
        }
    }
}
