//! Streams that are cut at random bytes, and gone on with by another provider: the caller's bytes are one whole
//! message.
//!
//! The providers are written here, by their published protocols, and so are the readers: four callers, four providers
//! that break, four that go on, text alone and text before a call. `cargo test` makes 4,000 cuts, and 100,000 with
//! `STEADFAST_SCALE=full`.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use serde_json::{Value, json};
use steadfast::{
    BoxLlmService, Dialect, FallbackLayer, LlmError, LlmRequest, Wire,
    layers::fallback::{FeaturePolicy, StreamBreak, Tier, TierSettings},
    provider_fn,
    providers::codec::Codec,
    translate::StreamEncoder,
};
use tower::{Layer as _, ServiceExt as _};

const DIALECTS: [Dialect; 4] = [Dialect::Anthropic, Dialect::OpenAi, Dialect::Gemini, Dialect::Responses];
const ARGUMENTS: &str = r#"{"city":"Köln"}"#;

/// The part of an answer that an event tells.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Tells {
    Nothing,
    Text,
    Call,
    End,
}

/// A provider's stream: its events, with what each tells.
struct Said {
    events: Vec<(String, Tells)>,
}

impl Said {
    /// The stream of this text, and of a call behind it.
    fn new(dialect: Dialect, text: &str, calls: bool) -> Self {
        let mut said = Self { events: Vec::new() };
        let pieces: Vec<String> = text.chars().collect::<Vec<_>>().chunks(5).map(|it| it.iter().collect()).collect();
        let used = pieces.len() + 1;
        match dialect {
            Dialect::Anthropic => said.messages(&pieces, calls, used),
            Dialect::OpenAi => said.chat(&pieces, calls, used),
            Dialect::Gemini => said.gemini(&pieces, calls, used),
            Dialect::Responses => said.responses(text, &pieces, calls, used),
        }
        said
    }

    fn push(&mut self, name: &str, data: &Value, tells: Tells) {
        let name = if name.is_empty() { String::new() } else { format!("event: {name}\n") };
        self.events.push((format!("{name}data: {data}\n\n"), tells));
    }

    fn typed(&mut self, data: Value, tells: Tells) {
        let name = data["type"].as_str().unwrap().to_owned();
        self.push(&name, &data, tells);
    }

    fn messages(&mut self, pieces: &[String], calls: bool, used: usize) {
        let usage = json!({"input_tokens": 10, "output_tokens": 1});
        let message = json!({"id": "msg_p", "type": "message", "role": "assistant", "model": "m-1", "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": usage});
        self.typed(json!({"type": "message_start", "message": message}), Tells::Nothing);
        // As with citations, the text has several blocks.
        let mut index = 0;
        for pieces in pieces.chunks(9) {
            let block = json!({"type": "text", "text": ""});
            self.typed(json!({"type": "content_block_start", "index": index, "content_block": block}), Tells::Nothing);
            for piece in pieces {
                let delta = json!({"type": "text_delta", "text": piece});
                self.typed(json!({"type": "content_block_delta", "index": index, "delta": delta}), Tells::Text);
            }
            self.typed(json!({"type": "content_block_stop", "index": index}), Tells::Nothing);
            index += 1;
        }
        if calls {
            let block = json!({"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}});
            self.typed(json!({"type": "content_block_start", "index": index, "content_block": block}), Tells::Call);
            let delta = json!({"type": "input_json_delta", "partial_json": ARGUMENTS});
            self.typed(json!({"type": "content_block_delta", "index": index, "delta": delta}), Tells::Call);
            self.typed(json!({"type": "content_block_stop", "index": index}), Tells::Call);
        }
        let delta = json!({"stop_reason": if calls { "tool_use" } else { "end_turn" }, "stop_sequence": null});
        self.typed(json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": used}}), Tells::End);
        self.typed(json!({"type": "message_stop"}), Tells::End);
    }

    fn chat(&mut self, pieces: &[String], calls: bool, used: usize) {
        let chunk = |delta: Value, finish: Value| {
            json!({"id": "chatcmpl-p", "object": "chat.completion.chunk", "created": 7, "model": "m-1",
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        };
        self.push("", &chunk(json!({"role": "assistant", "content": ""}), Value::Null), Tells::Nothing);
        for piece in pieces {
            self.push("", &chunk(json!({"content": piece}), Value::Null), Tells::Text);
        }
        if calls {
            let call = json!([{"index": 0, "id": "call_1", "type": "function",
                "function": {"name": "weather", "arguments": ARGUMENTS}}]);
            self.push("", &chunk(json!({"tool_calls": call}), Value::Null), Tells::Call);
        }
        let finish = if calls { "tool_calls" } else { "stop" };
        self.push("", &chunk(json!({}), finish.into()), Tells::End);
        let mut last = chunk(json!({}), Value::Null);
        last["choices"] = json!([]);
        last["usage"] = json!({"prompt_tokens": 10, "completion_tokens": used, "total_tokens": 10 + used});
        self.push("", &last, Tells::End);
        self.events.push(("data: [DONE]\n\n".to_owned(), Tells::End));
    }

    fn gemini(&mut self, pieces: &[String], calls: bool, used: usize) {
        let answer = |parts: Value, finish: Option<&str>| {
            let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
            if let Some(finish) = finish {
                candidate["finishReason"] = finish.into();
            }
            json!({"candidates": [candidate], "modelVersion": "m-1", "responseId": "r-p",
                "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": used, "totalTokenCount": 10 + used}})
        };
        for piece in pieces {
            self.push("", &answer(json!([{"text": piece}]), None), Tells::Text);
        }
        if calls {
            let arguments: Value = serde_json::from_str(ARGUMENTS).unwrap();
            let call = json!([{"functionCall": {"name": "weather", "args": arguments}}]);
            self.push("", &answer(call, None), Tells::Call);
        }
        self.push("", &answer(json!([{"text": ""}]), Some("STOP")), Tells::End);
    }

    fn responses(&mut self, text: &str, pieces: &[String], calls: bool, used: usize) {
        let mut number = 0;
        let mut push = |said: &mut Self, mut data: Value, tells| {
            data["sequence_number"] = number.into();
            number += 1;
            said.typed(data, tells);
        };
        let response = |status: &str, output: Value, usage: Value| {
            json!({"id": "resp_p", "object": "response", "created_at": 7, "model": "m-1", "status": status,
                "output": output, "usage": usage})
        };
        let begun = response("in_progress", json!([]), Value::Null);
        push(self, json!({"type": "response.created", "response": begun}), Tells::Nothing);
        push(self, json!({"type": "response.in_progress", "response": begun}), Tells::Nothing);
        let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
        let item = |status: &str, content: Value| json!({"id": "msg_p", "type": "message", "role": "assistant", "status": status, "content": content});
        let begun = item("in_progress", json!([]));
        push(self, json!({"type": "response.output_item.added", "output_index": 0, "item": begun}), Tells::Nothing);
        let at = json!({"item_id": "msg_p", "output_index": 0, "content_index": 0});
        let event = |kind: &str, field: &str, value: Value| {
            let mut event = at.clone();
            event["type"] = kind.into();
            event[field] = value;
            event
        };
        push(self, event("response.content_part.added", "part", part("")), Tells::Nothing);
        for piece in pieces {
            push(self, event("response.output_text.delta", "delta", piece.as_str().into()), Tells::Text);
        }
        push(self, event("response.output_text.done", "text", text.into()), Tells::Nothing);
        push(self, event("response.content_part.done", "part", part(text)), Tells::Nothing);
        let done = item("completed", json!([part(text)]));
        push(self, json!({"type": "response.output_item.done", "output_index": 0, "item": done}), Tells::Nothing);
        let mut output = vec![done];
        if calls {
            let call = |status: &str, arguments: &str| {
                json!({"id": "fc_p", "type": "function_call", "call_id": "call_1", "name": "weather", "status": status,
                    "arguments": arguments})
            };
            let begun = call("in_progress", "");
            push(self, json!({"type": "response.output_item.added", "output_index": 1, "item": begun}), Tells::Call);
            let mut arguments = json!({"item_id": "fc_p", "output_index": 1});
            (arguments["type"], arguments["delta"]) =
                ("response.function_call_arguments.delta".into(), ARGUMENTS.into());
            push(self, arguments, Tells::Call);
            let done = call("completed", ARGUMENTS);
            push(self, json!({"type": "response.output_item.done", "output_index": 1, "item": done}), Tells::Call);
            output.push(done);
        }
        let usage = json!({"input_tokens": 10, "output_tokens": used, "total_tokens": 10 + used});
        let whole = response("completed", output.into(), usage);
        push(self, json!({"type": "response.completed", "response": whole}), Tells::End);
    }
}

/// The answer so far that a request has as its last turn, in a provider's own form.
fn begun(dialect: Dialect, body: &Value) -> String {
    let turns = match dialect {
        Dialect::Anthropic | Dialect::OpenAi => &body["messages"],
        Dialect::Gemini => &body["contents"],
        Dialect::Responses => &body["input"],
    };
    let last = turns.as_array().and_then(|turns| turns.last()).filter(|last| last["role"] != "user");
    let Some(last) = last else { return String::new() };
    let content = last.get("content").or_else(|| last.get("parts")).unwrap();
    let texts = content.as_array().into_iter().flatten().filter_map(|part| part["text"].as_str());
    content.as_str().map_or_else(|| texts.collect(), str::to_owned)
}

/// The parts that a provider's events before the cut have told, and the text that it was asked to go on with.
type Told = (Vec<Tells>, String);

/// A provider that knows one answer, goes on with any beginning of its text, and breaks off after so many bytes.
#[derive(Clone)]
struct Provider {
    dialect: Dialect,
    text: Arc<str>,
    calls: bool,
    cut: Option<usize>,
    told: Arc<Mutex<Option<Told>>>,
}

impl Provider {
    fn service(&self) -> BoxLlmService {
        let provider = self.clone();
        BoxLlmService::new(provider_fn(move |request| {
            let provider = provider.clone();
            async move { provider.answer(&request).await }
        }))
    }

    async fn answer(&self, request: &LlmRequest) -> Result<steadfast::LlmResponse, LlmError> {
        let exchange = Codec::new(self.dialect).model("m-1").encode(request).await?;
        let body: Value = serde_json::from_slice(&exchange.body()).unwrap();
        let begun = begun(self.dialect, &body);
        let rest = self.text.strip_prefix(&*begun).unwrap_or_else(|| panic!("{begun:?} of {:?}", self.text));
        let said = Said::new(self.dialect, rest, self.calls);
        let bytes: String = said.events.iter().map(|(event, _)| event.as_str()).collect();
        let cut = self.cut.map_or(bytes.len(), |cut| cut % bytes.len());
        let mut end = 0;
        let is_there = |(event, tells): &(String, Tells)| {
            end += event.len();
            (end <= cut).then_some(*tells)
        };
        *self.told.lock().unwrap() = Some((said.events.iter().map_while(is_there).collect(), begun));
        let mut pieces: Vec<Result<Bytes, std::io::Error>> =
            bytes.as_bytes()[..cut].chunks(97).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        if self.cut.is_some() {
            pieces.push(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        let exchange = exchange.response_headers(HeaderMap::new());
        exchange.stream_sse(stream::iter(pieces)).await
    }
}

/// The answer as a caller has read it.
#[derive(Debug, Default)]
struct Read {
    text: String,
    calls: Vec<(String, String)>,
    ids: Vec<String>,
    /// Input and output.
    used: Option<(u64, u64)>,
    is_ended: bool,
    is_failed: bool,
}

/// Reads a caller's stream, and holds it to the grammar of its protocol.
fn read(dialect: Dialect, bytes: &str) -> Read {
    let mut read = Read::default();
    let events = bytes.split("\n\n").flat_map(|event| event.split("\r\n\r\n"));
    let data = events.filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")));
    let (mut number, mut open, mut ended) = (0, None, HashSet::new());
    for data in data {
        assert!(!read.is_ended && !read.is_failed || dialect == Dialect::OpenAi, "{data} behind the end");
        if data == "[DONE]" {
            read.is_ended = true;
            continue;
        }
        let data: Value = serde_json::from_str(data).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let count = |value: &Value| value.as_u64().unwrap_or_default();
        if data.get("error").is_some_and(|error| !error.is_null()) {
            read.is_failed = true;
            continue;
        }
        match dialect {
            Dialect::Anthropic => match data["type"].as_str().unwrap() {
                "message_start" => {
                    read.ids.push(text(&data["message"]["id"]));
                    read.used = Some((count(&data["message"]["usage"]["input_tokens"]), 0));
                }
                "content_block_start" => {
                    assert_eq!(open.replace(count(&data["index"])), None, "one block at a time");
                    assert_eq!(count(&data["index"]), number);
                    number += 1;
                    if data["content_block"]["type"] == "tool_use" {
                        read.calls.push((text(&data["content_block"]["name"]), String::new()));
                    }
                }
                "content_block_delta" => {
                    assert_eq!(open, Some(count(&data["index"])), "{data}");
                    read.text += &text(&data["delta"]["text"]);
                    if let Some(json) = data["delta"]["partial_json"].as_str() {
                        read.calls.last_mut().unwrap().1 += json;
                    }
                }
                "content_block_stop" => assert_eq!(open.take(), Some(count(&data["index"]))),
                "message_delta" => {
                    let usage = &data["usage"];
                    let input = usage.get("input_tokens").map(count).or_else(|| read.used.map(|(input, _)| input));
                    read.used = Some((input.unwrap_or_default(), count(&usage["output_tokens"])));
                }
                "message_stop" => {
                    assert_eq!(open, None);
                    read.is_ended = true;
                }
                _ => {}
            },
            Dialect::OpenAi => {
                read.ids.push(format!("{} {}", text(&data["id"]), data["created"]));
                let delta = &data["choices"][0]["delta"];
                read.text += &text(&delta["content"]);
                for call in delta["tool_calls"].as_array().into_iter().flatten() {
                    if call.get("id").is_some() {
                        read.calls.push((text(&call["function"]["name"]), String::new()));
                    }
                    read.calls.last_mut().unwrap().1 += &text(&call["function"]["arguments"]);
                }
                if let Some(usage) = data.get("usage").filter(|usage| !usage.is_null()) {
                    read.used = Some((count(&usage["prompt_tokens"]), count(&usage["completion_tokens"])));
                }
            }
            Dialect::Gemini => {
                read.ids.push(text(&data["responseId"]));
                for part in data["candidates"][0]["content"]["parts"].as_array().into_iter().flatten() {
                    read.text += &text(&part["text"]);
                    if let Some(call) = part.get("functionCall") {
                        read.calls.push((text(&call["name"]), call["args"].to_string()));
                    }
                }
                let usage = &data["usageMetadata"];
                read.used = Some((count(&usage["promptTokenCount"]), count(&usage["candidatesTokenCount"])));
                read.is_ended |= data["candidates"][0].get("finishReason").is_some();
            }
            Dialect::Responses => {
                assert_eq!(count(&data["sequence_number"]), number, "{data}");
                number += 1;
                match data["type"].as_str().unwrap() {
                    "response.created" => read.ids.push(text(&data["response"]["id"])),
                    "response.output_item.added" => open = Some(count(&data["output_index"])),
                    "response.output_text.done" => {
                        let part = (count(&data["output_index"]), count(&data["content_index"]));
                        assert!(ended.insert(part), "{data} a second time");
                    }
                    "response.output_text.delta" => {
                        assert_eq!(open, Some(count(&data["output_index"])), "{data}");
                        read.ids.push(text(&data["item_id"]));
                        read.text += &text(&data["delta"]);
                    }
                    "response.completed" => {
                        let response = &data["response"];
                        let mut whole = String::new();
                        for item in response["output"].as_array().unwrap() {
                            for part in item["content"].as_array().into_iter().flatten() {
                                whole += &text(&part["text"]);
                            }
                            if item["type"] == "function_call" {
                                read.calls.push((text(&item["name"]), text(&item["arguments"])));
                            }
                        }
                        assert_eq!(whole, read.text, "the response has what its events had");
                        assert_eq!(response["id"], *read.ids[0]);
                        let usage = &response["usage"];
                        read.used = Some((count(&usage["input_tokens"]), count(&usage["output_tokens"])));
                        read.is_ended = true;
                    }
                    "response.failed" => read.is_failed = true,
                    _ => {}
                }
            }
        }
    }
    read
}

fn request(dialect: Dialect, calls: bool) -> LlmRequest {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let turn = json!([{"role": "user", "content": "How is the weather?"}]);
    let mut body = match dialect {
        Dialect::Gemini => json!({"contents": [{"role": "user", "parts": [{"text": "How is the weather?"}]}]}),
        Dialect::Responses => json!({"model": "m", "stream": true, "input": "How is the weather?"}),
        Dialect::Anthropic => json!({"model": "m", "stream": true, "max_tokens": 9000, "messages": turn}),
        _ => json!({"model": "m", "stream": true, "stream_options": {"include_usage": true}, "messages": turn}),
    };
    if calls {
        body["tools"] = match dialect {
            Dialect::Gemini => json!([{"functionDeclarations": [{"name": "weather", "parameters": schema}]}]),
            Dialect::Responses => json!([{"type": "function", "name": "weather", "parameters": schema}]),
            Dialect::Anthropic => json!([{"name": "weather", "input_schema": schema}]),
            _ => json!([{"type": "function", "function": {"name": "weather", "parameters": schema}}]),
        };
    }
    let wire = Wire::new(dialect, body.to_string()).unwrap();
    LlmRequest::from(if dialect == Dialect::Gemini { wire.path("m", true) } else { wire })
}

#[tokio::test(start_paused = true)]
async fn a_stream_cut_at_any_byte_is_one_message_or_says_that_it_broke() {
    let cuts = if std::env::var("STEADFAST_SCALE").is_ok_and(|scale| scale == "full") { 100_000 } else { 4_000 };
    let mut random = fastrand::Rng::with_seed(59);
    let letters: Vec<char> = "abcdefghijklmnopqrstuvwxyz     \n.,äß日本😀\"\\".chars().collect();
    let (mut whole, mut told, mut done) = (0, 0, 0);
    while done < cuts {
        let caller = random.choice(DIALECTS).unwrap();
        let calls = random.u8(..3) == 0;
        let text: String = (0..random.usize(20..160)).map(|_| *random.choice(&letters).unwrap()).collect();
        let text: Arc<str> = format!("Now: {text} that is all").into();
        let breaks = 1 + usize::from(random.u8(..3) == 0);
        let providers: Vec<Provider> = (0..=breaks)
            .map(|at| Provider {
                dialect: random.choice(DIALECTS).unwrap(),
                text: text.clone(),
                calls,
                cut: (at < breaks).then(|| random.usize(..)),
                told: Arc::default(),
            })
            .collect();
        done += breaks;
        let tier = |at: usize| {
            let settings = TierSettings::new().model("m-1").goes_on();
            Tier::new(format!("tier-{at}"), providers[at].service()).settings(settings)
        };
        let layer = FallbackLayer::new("tier-0")
            .primary(TierSettings::new().model("m-1").goes_on())
            .default_policy(FeaturePolicy::new().stream_break(StreamBreak::Continue));
        let llm = (1..=breaks).fold(layer, |layer, at| layer.push(tier(at))).layer(providers[0].service());
        let asked = request(caller, calls);
        let mut response =
            llm.oneshot(asked.clone()).await.expect("a call that fails before its first token fails over");
        let mut encoder = StreamEncoder::new(caller).request(&asked);
        let mut bytes = Vec::new();
        while let Some(frame) = response.body_mut().frame().await {
            match frame {
                Ok(frame) => bytes.extend_from_slice(&encoder.frame(&frame)),
                Err(error) => bytes.extend_from_slice(&encoder.error(&error)),
            }
        }
        let case = || {
            let told: Vec<_> = providers.iter().map(|it| (it.dialect, it.told.lock().unwrap().clone())).collect();
            format!("{caller}, calls: {calls}, {text:?}, {told:?}\n{}", String::from_utf8_lossy(&bytes))
        };
        let read = read(caller, std::str::from_utf8(&bytes).unwrap());
        assert_ne!(read.is_ended, read.is_failed, "{}", case());
        let mut ids = read.ids.clone();
        ids.sort();
        ids.dedup();
        assert!(ids.len() <= if caller == Dialect::Responses { 2 } else { 1 }, "it is one message: {ids:?} {}", case());
        if read.is_ended {
            whole += 1;
            assert_eq!(read.text, *text, "{}", case());
            let called = calls.then(|| ("weather".to_owned(), ARGUMENTS.to_owned()));
            assert_eq!(read.calls, called.into_iter().collect::<Vec<_>>(), "{}", case());
            let (input, output) = read.used.expect("it has a usage");
            assert!(input >= 10 && output >= 1, "{}", case());
        } else {
            told += 1;
            assert!(text.starts_with(&read.text), "{}", case());
            // Only what was more than text, or had no rest, is told.
            let had_more = providers.iter().filter_map(|it| it.told.lock().unwrap().clone()).any(|(told, begun)| {
                let is_over = told.iter().any(|it| matches!(it, Tells::Call | Tells::End));
                is_over || begun.trim_end() == text.trim_end()
            });
            assert!(had_more, "{}", case());
        }
    }
    println!("{done} cuts: {whole} whole answers, {told} told");
    assert!(told * 4 < whole, "{told} of {whole}");
}
