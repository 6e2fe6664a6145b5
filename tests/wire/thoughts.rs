//! Thoughts go home: what a server gave with its answer and wants back comes back to that server, and to no other.
//!
//! The table is generated: each caller's dialect, each kind of server and of thought, whole and streamed. A first turn
//! at one server, a second one at another, a third one at home. What each server must get follows from its vendor's
//! rules.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Map, Value, json};
use steadfast::{
    Dialect, LlmRequest, LlmResponse, Wire,
    providers::{
        Anthropic, Gemini, OpenAi,
        credentials::{Credentials, Token},
        http::AwsApi,
    },
    translate::{RequestEcho, SealMemory, StreamEncoder, encode_answer},
};
use steadfast_simulator::check;
use tower::{ServiceExt, service_fn, util::BoxCloneSyncService};

use crate::converse_server;

pub(crate) type Leaf = BoxCloneSyncService<LlmRequest, LlmResponse, steadfast::LlmError>;

pub(crate) const CALLERS: [Dialect; 4] = [Dialect::Anthropic, Dialect::OpenAi, Dialect::Responses, Dialect::Gemini];

/// A kind of server, and of the thought that it gives.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// The dialect of the server.
    pub(crate) speaks: Dialect,
    /// The model's turn, as the server writes it, and as it wants it back.
    pub(crate) turn: Value,
}

impl Kind {
    fn text(&self) -> String {
        text_of(self.name)
    }

    fn is_converse(&self) -> bool {
        self.name.starts_with("converse")
    }

    /// True if the thoughts are signed by Claude's maker, so that any of its places reads them.
    fn is_claudes(&self) -> bool {
        self.speaks == Dialect::Anthropic && !["unsigned", "bare", "converse_unsigned"].contains(&self.name)
    }
}

/// A thought that is no other kind's.
fn text_of(name: &str) -> String {
    format!("I look up what {name} is? 好.")
}

/// A signature in base64 that is no other kind's.
fn sign(name: &str) -> String {
    let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{:A<32}", format!("SIG{letters}"))
}

/// The kinds of thoughts in Chat Completions: the fields of the turn, and of its call.
fn chat_kinds() -> Vec<(&'static str, Value, Value)> {
    let list = |name: &str, more: Value| {
        let mut detail = json!({"index": 0});
        detail.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"reasoning": text_of(name), "reasoning_details": [detail]})
    };
    let mut kinds = vec![
        ("content", json!({"reasoning_content": text_of("content")}), json!({})),
        ("plain", json!({"reasoning": text_of("plain")}), json!({})),
        ("both", json!({"reasoning_content": text_of("both"), "reasoning": text_of("both")}), json!({})),
        (
            "text",
            list(
                "text",
                json!({"type": "reasoning.text", "text": text_of("text"), "signature": sign("text"),
                    "format": "anthropic-claude-v1", "id": "reasoning-text-1"}),
            ),
            json!({}),
        ),
        (
            "summary",
            list(
                "summary",
                json!({"type": "reasoning.encrypted", "data": sign("summary"), "id": "rs_1",
                    "format": "openai-responses-v1"}),
            ),
            json!({}),
        ),
        (
            "encrypted",
            json!({"reasoning_details": [{"type": "reasoning.encrypted", "data": sign("encrypted"), "id": "call_1",
                "format": "google-gemini-v1", "index": 0}]}),
            json!({}),
        ),
        (
            "blocks",
            json!({"reasoning_content": text_of("blocks"), "thinking_blocks": [
                {"type": "thinking", "thinking": text_of("blocks"), "signature": sign("blocks")}]}),
            json!({}),
        ),
        ("google", json!({}), json!({"extra_content": {"google": {"thought_signature": sign("google")}}})),
        ("signed", json!({"reasoning": text_of("signed")}), json!({"thought_signature": sign("signed")})),
        ("litellm", json!({}), json!({"provider_specific_fields": {"thought_signature": sign("litellm")}})),
    ];
    let parts = json!([{"type": "thinking", "thinking": [{"type": "text", "text": text_of("list")}]},
        {"type": "text", "text": "Let me see."}]);
    kinds.push(("list", json!({"content": parts}), json!({})));
    kinds
}

pub(crate) fn kinds() -> Vec<Kind> {
    let mut kinds: Vec<Kind> = chat_kinds()
        .into_iter()
        .map(|(name, more, of_call)| {
            let mut call = json!({"id": "call_1", "type": "function",
                "function": {"name": "look", "arguments": "{\"at\":1}"}});
            call.as_object_mut().unwrap().extend(of_call.as_object().unwrap().clone());
            let mut turn = json!({"role": "assistant", "content": "Let me see.", "tool_calls": [call]});
            turn.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Kind { name, speaks: Dialect::OpenAi, turn }
        })
        .collect();
    let (name, call) = ("call", json!({"name": "look", "args": {"at": 1}}));
    kinds.push(Kind {
        name,
        speaks: Dialect::Gemini,
        turn: json!({"role": "model", "parts": [{"text": text_of(name), "thought": true}, {"text": "Let me see."},
            {"functionCall": call, "thoughtSignature": sign(name)}]}),
    });
    let name = "thought";
    kinds.push(Kind {
        name,
        speaks: Dialect::Gemini,
        turn: json!({"role": "model", "parts": [
            {"text": text_of(name), "thought": true, "thoughtSignature": sign(name)}, {"text": "Let me see."},
            {"functionCall": call, "thoughtSignature": sign(name)}]}),
    });
    let (name, call) = ("claude", json!({"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": 1}}));
    kinds.push(Kind {
        name,
        speaks: Dialect::Anthropic,
        turn: json!({"role": "assistant", "content": [
            {"type": "thinking", "thinking": text_of(name), "signature": sign(name)},
            {"type": "text", "text": "Let me see."}, call]}),
    });
    let name = "redacted";
    kinds.push(Kind {
        name,
        speaks: Dialect::Anthropic,
        turn: json!({"role": "assistant", "content": [{"type": "redacted_thinking", "data": sign(name)},
            {"type": "text", "text": "Let me see."}, call]}),
    });
    // Servers of Anthropic's dialect that sign nothing: Kimi's, GLM's, DeepSeek's. At Converse the models of others.
    for (name, signature) in [
        ("unsigned", Some(String::new())),
        ("bare", None),
        ("converse", Some(sign("converse"))),
        ("converse_unsigned", None),
    ] {
        let mut thought = json!({"type": "thinking", "thinking": text_of(name)});
        if let Some(signature) = signature {
            thought["signature"] = signature.into();
        }
        let turn = json!({"role": "assistant", "content": [thought, {"type": "text", "text": "Let me see."}, call]});
        kinds.push(Kind { name, speaks: Dialect::Anthropic, turn });
    }
    let name = "responses";
    kinds.push(Kind {
        name,
        speaks: Dialect::Responses,
        turn: json!([
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": text_of(name)}],
                "encrypted_content": sign(name)},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": "Let me see.", "annotations": []}]},
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": "{\"at\":1}",
                "status": "completed"},
        ]),
    });
    kinds
}

/// Returns what a request brings back of a server's own thoughts.
fn brought(kind: &Kind, body: &Value) -> Value {
    match kind.speaks {
        Dialect::OpenAi => {
            let turns = body["messages"].as_array().unwrap();
            let first = turns.iter().find(|turn| turn["role"] == "assistant").unwrap();
            thoughts_of(first)
        }
        Dialect::Gemini => {
            let turn = body["contents"].as_array().unwrap().iter().find(|turn| turn["role"] == "model").unwrap();
            turn["parts"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|part| part["thoughtSignature"].is_string())
                .map(|part| json!([part["thoughtSignature"], part["thought"], part["functionCall"]["name"]]))
                .collect()
        }
        Dialect::Responses => {
            let mut items = body["input"].as_array().unwrap().iter();
            let item = items.find(|item| item["type"] == "reasoning").unwrap_or(&Value::Null);
            json!([item["id"], item["encrypted_content"]])
        }
        _ if kind.is_converse() && body["messages"][0]["content"][0].get("type").is_none() => {
            converse_server::thoughts(body)
        }
        _ => {
            let turn = body["messages"].as_array().unwrap().iter().find(|turn| turn["role"] == "assistant").unwrap();
            let is_thought = |block: &&Value| block["type"].as_str().is_some_and(|kind| kind.ends_with("thinking"));
            let mut thoughts: Vec<Value> =
                turn["content"].as_array().unwrap().iter().filter(is_thought).cloned().collect();
            // An empty signature is none.
            for thought in &mut thoughts {
                if thought["signature"] == "" {
                    thought.as_object_mut().unwrap().remove("signature");
                }
            }
            thoughts.into()
        }
    }
}

/// Returns the thoughts of a turn of Chat Completions: its fields beside the dialect's own.
fn thoughts_of(turn: &Value) -> Value {
    const OF_TURN: [&str; 5] = ["role", "content", "tool_calls", "refusal", "annotations"];
    const OF_CALL: [&str; 4] = ["id", "type", "function", "index"];
    let beside = |fields: &Value, own: &[&str]| -> Map<String, Value> {
        let fields = fields.as_object().unwrap().clone().into_iter();
        fields.filter(|(name, _)| !own.contains(&name.as_str())).collect()
    };
    let mut thoughts = beside(turn, &OF_TURN);
    let of_call = beside(&turn["tool_calls"][0], &OF_CALL);
    thoughts.insert("call".into(), of_call.into());
    let parts = turn["content"].as_array().into_iter().flatten();
    let parts: Vec<Value> = parts.filter(|part| part["type"] == "thinking").cloned().collect();
    if !parts.is_empty() {
        thoughts.insert("content".into(), parts.into());
    }
    thoughts.into()
}

/// What each server was sent.
pub(crate) type Sent = Arc<Mutex<Vec<Value>>>;

/// Returns a leaf at a server of this kind, and what it was sent.
pub(crate) fn leaf(kind: &Kind, memory: &SealMemory, key: &str) -> (Leaf, Sent) {
    let model = match kind.speaks {
        Dialect::Anthropic => "claude-sonnet-4-5",
        Dialect::OpenAi => kind.name,
        Dialect::Responses => "gpt-5",
        _ => "gemini-2.5-pro",
    };
    leaf_of(kind, model, memory, key)
}

/// The same with this model.
pub(crate) fn leaf_of(kind: &Kind, model: &str, memory: &SealMemory, key: &str) -> (Leaf, Sent) {
    let sent = Sent::default();
    let (record, speaks, turn) = (sent.clone(), kind.speaks, kind.turn.clone());
    let is_converse = kind.is_converse();
    let transport = service_fn(move |request: Request<Full<Bytes>>| {
        let (record, turn, path) = (record.clone(), turn.clone(), request.uri().path().to_owned());
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let body: Value = serde_json::from_slice(&body).unwrap();
            let stream = body["stream"] == true || path.contains("stream");
            record.lock().unwrap().push(body);
            let (form, answer) = match (is_converse, stream) {
                (true, true) => ("application/vnd.amazon.eventstream", converse_server::events(&turn)),
                (true, false) => ("application/json", converse_server::whole(&turn).to_string().into_bytes()),
                (false, true) => ("text/event-stream", events(speaks, &turn).into_bytes()),
                (false, false) => ("application/json", whole(speaks, &turn).to_string().into_bytes()),
            };
            let response = Response::builder().header("content-type", form);
            Ok::<_, Infallible>(response.body(Full::new(Bytes::from(answer))).unwrap())
        }
    });
    let host = format!("https://{}.example/v1", kind.name);
    let leaf = match kind.speaks {
        Dialect::Anthropic if is_converse => {
            let profile = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
            let model = if kind.is_claudes() { profile } else { "deepseek.v3-v1:0" };
            let keys = Credentials::token(Token::aws("AKIDEXAMPLE", key, None));
            let aws = Anthropic::on_aws("us-east-1").unwrap().aws_api(AwsApi::Converse).unwrap().credentials(keys);
            Leaf::new(aws.model(model).seals(memory).transport(transport))
        }
        Dialect::Anthropic => {
            Leaf::new(Anthropic::new(key).base_url(&host).unwrap().model(model).seals(memory).transport(transport))
        }
        Dialect::OpenAi => Leaf::new(
            OpenAi::compatible(kind.name, &host).unwrap().key(key).model(model).seals(memory).transport(transport),
        ),
        Dialect::Responses => Leaf::new(
            OpenAi::new(key).base_url(&host).unwrap().model(model).responses().seals(memory).transport(transport),
        ),
        _ => Leaf::new(Gemini::new(key).base_url(&host).unwrap().model(model).seals(memory).transport(transport)),
    };
    (leaf, sent)
}

/// Returns the turn as a whole answer of the dialect.
fn whole(speaks: Dialect, turn: &Value) -> Value {
    match speaks {
        Dialect::Anthropic => json!({"type": "message", "role": "assistant", "id": "msg_1", "model": "claude",
            "stop_reason": "tool_use", "content": turn["content"], "usage": {"input_tokens": 1, "output_tokens": 1}}),
        Dialect::OpenAi => json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "x",
            "choices": [{"index": 0, "message": turn, "finish_reason": "tool_calls"}]}),
        Dialect::Responses => json!({"id": "resp_1", "object": "response", "status": "completed", "model": "gpt-5",
            "output": turn}),
        _ => json!({"candidates": [{"content": turn, "finishReason": "STOP"}], "responseId": "r1"}),
    }
}

/// Returns the turn as a stream of the dialect.
fn events(speaks: Dialect, turn: &Value) -> String {
    let named = |event: Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    match speaks {
        Dialect::OpenAi => {
            let chunk = |delta: Value, finish: Value| {
                let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
                format!(
                    "data: {}\n\n",
                    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1,
                    "model": "x", "choices": [choice]})
                )
            };
            let mut text = chunk(json!({"role": "assistant", "content": ""}), Value::Null);
            let (mut begin, mut end) = (json!({}), json!({}));
            for (name, value) in turn.as_object().unwrap() {
                match (name.as_str(), value) {
                    ("role" | "content" | "tool_calls", _) => {}
                    (name, Value::String(said)) => {
                        let middle = said.char_indices().nth(7).unwrap().0;
                        (begin[name], end[name]) = (said[..middle].into(), said[middle..].into());
                    }
                    (name, value) => end[name] = value.clone(),
                }
            }
            text += &[begin, end].map(|delta| chunk(delta, Value::Null)).concat();
            match &turn["content"] {
                Value::Array(parts) => {
                    parts.iter().for_each(|part| text += &chunk(json!({"content": [part]}), Value::Null))
                }
                said => text += &chunk(json!({"content": said}), Value::Null),
            }
            let mut call = turn["tool_calls"][0].clone();
            call["index"] = 0.into();
            text += &chunk(json!({"tool_calls": [call]}), Value::Null);
            text + &chunk(json!({}), "tool_calls".into()) + "data: [DONE]\n\n"
        }
        Dialect::Anthropic => {
            let mut all = whole(speaks, turn);
            all["content"] = json!([]);
            let mut text = named(json!({"type": "message_start", "message": all}));
            for (index, block) in turn["content"].as_array().unwrap().iter().enumerate() {
                let mut begun = block.clone();
                let mut deltas = Vec::new();
                for (name, delta) in
                    [("thinking", "thinking_delta"), ("signature", "signature_delta"), ("text", "text_delta")]
                {
                    if let Some(said) = block.get(name) {
                        begun[name] = "".into();
                        deltas.push(json!({"type": delta, name: said}));
                    }
                }
                if block["type"] == "tool_use" {
                    begun["input"] = json!({});
                    deltas.push(json!({"type": "input_json_delta", "partial_json": block["input"].to_string()}));
                }
                text += &named(json!({"type": "content_block_start", "index": index, "content_block": begun}));
                for delta in deltas {
                    text += &named(json!({"type": "content_block_delta", "index": index, "delta": delta}));
                }
                text += &named(json!({"type": "content_block_stop", "index": index}));
            }
            let end =
                json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 1}});
            text + &named(end) + &named(json!({"type": "message_stop"}))
        }
        Dialect::Responses => {
            let items = turn.as_array().unwrap();
            let begun = json!({"id": "resp_1", "object": "response", "status": "in_progress", "output": []});
            let mut all = vec![json!({"type": "response.created", "response": begun})];
            for (place, item) in items.iter().enumerate() {
                all.push(json!({"type": "response.output_item.added", "output_index": place, "item": item}));
                all.push(json!({"type": "response.output_item.done", "output_index": place, "item": item}));
            }
            all.push(json!({"type": "response.completed", "response": whole(speaks, turn)}));
            let numbered = all.into_iter().enumerate().map(|(number, mut event)| {
                event["sequence_number"] = number.into();
                named(event)
            });
            numbered.collect()
        }
        _ => {
            let parts = turn["parts"].as_array().unwrap();
            let last = parts.len() - 1;
            let chunk = |(place, part): (usize, &Value)| {
                let mut candidate = json!({"content": {"role": "model", "parts": [part]}});
                if place == last {
                    candidate["finishReason"] = "STOP".into();
                }
                format!("data: {}\r\n\r\n", json!({"candidates": [candidate], "responseId": "r1"}))
            };
            parts.iter().enumerate().map(chunk).collect()
        }
    }
}

/// A conversation as a caller keeps it.
pub(crate) struct Caller {
    dialect: Dialect,
    stream: bool,
    history: Vec<Value>,
}

impl Caller {
    pub(crate) fn new(dialect: Dialect, stream: bool) -> Self {
        let question = match dialect {
            Dialect::Gemini => json!({"role": "user", "parts": [{"text": "What is it?"}]}),
            _ => json!({"role": "user", "content": "What is it?"}),
        };
        Self { dialect, stream, history: vec![question] }
    }

    fn request(&self) -> LlmRequest {
        let mut body = match self.dialect {
            Dialect::Anthropic => json!({"max_tokens": 2000, "messages": self.history,
                "tools": [{"name": "look", "input_schema": {"type": "object", "properties": {}}}]}),
            Dialect::OpenAi => json!({"messages": self.history, "tools": [
                {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]}),
            Dialect::Responses => json!({"input": self.history, "store": false, "tools": [
                {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}]}),
            _ => json!({"contents": self.history, "tools": [{"functionDeclarations": [{"name": "look"}]}]}),
        };
        if self.dialect != Dialect::Gemini {
            body["model"] = "any".into();
            body["stream"] = self.stream.into();
        }
        let wire = Wire::new(self.dialect, body.to_string()).unwrap();
        let wire = if self.dialect == Dialect::Gemini { wire.path("any", self.stream) } else { wire };
        LlmRequest::from(wire)
    }

    /// Takes a turn with a tool's result behind it.
    pub(crate) async fn turn(&mut self, leaf: &Leaf) {
        let response = leaf.clone().oneshot(self.request()).await.unwrap();
        let items = match self.stream {
            true => self.assembled(&streamed(self.dialect, response).await),
            false => self.kept(&answered(self.dialect, response).await),
        };
        self.history.extend(items);
        let result = self.result();
        self.history.push(result);
    }

    /// Returns the items of a whole answer that an SDK keeps.
    fn kept(&self, body: &Value) -> Vec<Value> {
        match self.dialect {
            Dialect::Anthropic => vec![json!({"role": "assistant", "content": body["content"]})],
            Dialect::OpenAi => vec![body["choices"][0]["message"].clone()],
            Dialect::Responses => body["output"].as_array().unwrap().clone(),
            _ => vec![body["candidates"][0]["content"].clone()],
        }
    }

    /// Returns the same of a stream's events.
    fn assembled(&self, events: &[Value]) -> Vec<Value> {
        match self.dialect {
            Dialect::Anthropic => vec![json!({"role": "assistant", "content": blocks(events)})],
            Dialect::OpenAi => vec![message(events)],
            Dialect::Responses => self.kept(&events.last().unwrap()["response"]),
            _ => {
                let parts = |event: &Value| event["candidates"][0]["content"]["parts"].as_array().cloned();
                let parts: Vec<Value> = events.iter().filter_map(parts).flatten().collect();
                vec![json!({"role": "model", "parts": parts})]
            }
        }
    }

    fn result(&self) -> Value {
        let last = self.history.last().unwrap();
        match self.dialect {
            Dialect::Anthropic => {
                let blocks = last["content"].as_array().unwrap();
                let call = blocks.iter().find(|block| block["type"] == "tool_use").unwrap();
                json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": call["id"], "content": "4"}]})
            }
            Dialect::OpenAi => json!({"role": "tool", "tool_call_id": last["tool_calls"][0]["id"], "content": "4"}),
            Dialect::Responses => {
                json!({"type": "function_call_output", "call_id": last["call_id"], "output": "4"})
            }
            _ => {
                let parts = last["parts"].as_array().unwrap();
                let call = &parts.iter().find(|part| part["functionCall"].is_object()).unwrap()["functionCall"];
                let mut response = json!({"name": "look", "response": {"output": "4"}});
                if let Some(id) = call.get("id") {
                    response["id"] = id.clone();
                }
                json!({"role": "user", "parts": [{"functionResponse": response}]})
            }
        }
    }
}

async fn answered(dialect: Dialect, response: LlmResponse) -> Value {
    let bytes = match response.body().wire() {
        Some((own, bytes)) if own == dialect => bytes.clone(),
        _ => encode_answer(&response.collect().await.unwrap(), dialect, &RequestEcho::default()).body,
    };
    serde_json::from_slice(&bytes).unwrap()
}

async fn streamed(dialect: Dialect, response: LlmResponse) -> Vec<Value> {
    let (mut body, mut encoder, mut bytes) = (response.into_body(), StreamEncoder::new(dialect), BytesMut::new());
    while let Some(frame) = body.frame().await {
        bytes.extend_from_slice(&encoder.frame(&frame.unwrap()));
    }
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// Returns the blocks of a stream of Anthropic's, as its SDK joins them.
fn blocks(events: &[Value]) -> Vec<Value> {
    let mut blocks: Vec<Value> = Vec::new();
    for event in events {
        match event["type"].as_str().unwrap() {
            "content_block_start" => blocks.push(event["content_block"].clone()),
            "content_block_delta" => {
                let (block, delta) = (blocks.last_mut().unwrap(), &event["delta"]);
                for (from, to) in
                    [("text", "text"), ("thinking", "thinking"), ("signature", "signature"), ("partial_json", "json")]
                {
                    if let Some(more) = delta[from].as_str() {
                        block[to] = (block[to].as_str().unwrap_or_default().to_owned() + more).into();
                    }
                }
            }
            "content_block_stop" => {
                let fields = blocks.last_mut().unwrap().as_object_mut().unwrap();
                if let Some(json) = fields.remove("json") {
                    fields.insert("input".into(), serde_json::from_str(json.as_str().unwrap()).unwrap());
                }
            }
            _ => {}
        }
    }
    blocks
}

/// Returns the message of a stream of chunks, as clients of this dialect join them.
fn message(events: &[Value]) -> Value {
    fn join(to: &mut Value, name: &str, more: &Value) {
        match (&mut to[name], more) {
            (_, Value::Null) => {}
            (Value::String(so_far), Value::String(more)) => so_far.push_str(more),
            (Value::Array(so_far), Value::Array(more)) => so_far.extend(more.iter().cloned()),
            (there, more) => *there = more.clone(),
        }
    }
    let mut message = json!({"role": "assistant"});
    for delta in events.iter().flat_map(|event| event["choices"].as_array().unwrap()).map(|choice| &choice["delta"]) {
        for (name, more) in delta.as_object().unwrap() {
            match name.as_str() {
                "role" => {}
                "content" if more == "" => {}
                "tool_calls" => {
                    let more = &more[0];
                    if message["tool_calls"].is_null() {
                        message["tool_calls"] = json!([{"type": "function", "function": {}}]);
                    }
                    let call = &mut message["tool_calls"][0];
                    for (name, more) in more.as_object().unwrap() {
                        match (name.as_str(), more) {
                            ("index" | "type", _) => {}
                            ("function", more) => {
                                more.as_object()
                                    .unwrap()
                                    .iter()
                                    .for_each(|(name, more)| join(&mut call["function"], name, more));
                            }
                            (name, more) => join(call, name, more),
                        }
                    }
                }
                name => join(&mut message, name, more),
            }
        }
    }
    message
}

pub(crate) fn last(sent: &Sent) -> Value {
    sent.lock().unwrap().last().unwrap().clone()
}

/// Returns what a server must get back of its turn.
fn wanted(kind: &Kind) -> Value {
    brought(
        kind,
        &match kind.speaks {
            Dialect::Gemini => json!({"contents": [kind.turn]}),
            Dialect::Responses => json!({"input": kind.turn}),
            _ => json!({"messages": [kind.turn]}),
        },
    )
}

#[tokio::test(start_paused = true)]
async fn thoughts_go_home_and_nowhere_else() {
    let (kinds, mut faults, mut turns) = (kinds(), Vec::new(), 0);
    for (dialect, stream) in CALLERS.into_iter().flat_map(|dialect| [(dialect, false), (dialect, true)]) {
        for (at, home) in kinds.iter().enumerate() {
            for (elsewhere, other) in kinds.iter().enumerate() {
                let memory = SealMemory::new();
                let ((own, sent), (strange, sent_there)) = (leaf(home, &memory, "a"), leaf(other, &memory, "b"));
                let mut caller = Caller::new(dialect, stream);
                caller.turn(&own).await;
                let what = format!("{dialect} stream {stream}: {} ", home.name);
                turns += 1;
                // A server of the caller's dialect is sent what its caller sends, and any of Anthropic's dialect what
                // Claude signed.
                let are_alike = home.speaks == Dialect::Anthropic && other.speaks == Dialect::Anthropic;
                let is_sent_on = |kind: &Kind| are_alike && (dialect == Dialect::Anthropic || kind.is_claudes());
                if at != elsewhere && !is_sent_on(home) {
                    caller.turn(&strange).await;
                    let there = last(&sent_there);
                    // Neither the words nor the signatures, in any alphabet or envelope.
                    let text = there.to_string();
                    if text.contains(&home.text()) || text.contains(&sign(home.name)) || text.contains("steadfast.") {
                        faults.push(format!("{what}leaks to {}: {text}", other.name));
                    }
                    let of_chat = (other.speaks == Dialect::OpenAi).then(|| brought(other, &there));
                    if of_chat.is_some_and(|thoughts| thoughts != json!({"call": {}})) {
                        faults.push(format!("{what}leaves fields at {}: {text}", other.name));
                    }
                }
                // Back at home, with the other's turn in between.
                caller.turn(&own).await;
                let (back, wanted) = (brought(home, &last(&sent)), wanted(home));
                if back != wanted {
                    faults.push(format!("{what}then {} comes back as {back}, not {wanted}", other.name));
                }
                if !is_sent_on(other) && at != elsewhere && last(&sent).to_string().contains(&other.text()) {
                    faults.push(format!("{what}gets the thought of {}", other.name));
                }
            }
        }
    }
    let shown: Vec<String> = faults.iter().take(40).map(|fault| fault.chars().take(600).collect()).collect();
    assert!(faults.is_empty(), "{} faults in {turns}:\n{}", faults.len(), shown.join("\n"));
}

/// A server that answers only to what its vendor takes.
#[derive(Clone)]
struct Strict {
    name: &'static str,
    model: &'static str,
    /// The model by which the simulator knows the vendor.
    vendor: &'static str,
    turn: Value,
    sent: Arc<Mutex<Vec<(Value, u16)>>>,
}

impl Strict {
    fn new(name: &'static str, [vendor, model]: [&'static str; 2], turn: Value) -> Self {
        Self { name, vendor, model, turn, sent: Arc::default() }
    }

    fn leaf(&self, memory: &SealMemory) -> Leaf {
        let strict = self.clone();
        let transport = service_fn(move |request: Request<Full<Bytes>>| {
            let strict = strict.clone();
            async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let body: Value = serde_json::from_slice(&body).unwrap();
                let checked = check(Dialect::OpenAi, strict.vendor, &body);
                let (status, form, answer) = match (checked, body["stream"] == true) {
                    (Err(message), _) => {
                        let error = json!({"error": {"message": message, "type": "invalid_request_error"}});
                        (400, "application/json", error.to_string())
                    }
                    (Ok(()), true) => (200, "text/event-stream", events(Dialect::OpenAi, &strict.turn)),
                    (Ok(()), false) => (200, "application/json", whole(Dialect::OpenAi, &strict.turn).to_string()),
                };
                strict.sent.lock().unwrap().push((body, status));
                let response = Response::builder().status(status).header("content-type", form);
                Ok::<_, Infallible>(response.body(Full::new(Bytes::from(answer))).unwrap())
            }
        });
        let host = format!("https://{}.example/v1", self.name);
        let leaf = OpenAi::compatible(self.name, &host).unwrap().key("strict").model(self.model);
        Leaf::new(leaf.seals(memory).transport(transport))
    }

    /// Takes the number of requests, and of those that were refused.
    fn take(&self) -> (usize, usize) {
        let sent = std::mem::take(&mut *self.sent.lock().unwrap());
        (sent.len(), sent.iter().filter(|(_, status)| *status == 400).count())
    }
}

fn call_turn(more: Value, of_call: Value) -> Value {
    let mut call = json!({"id": "call_9", "type": "function", "function": {"name": "look", "arguments": "{}"}});
    call.as_object_mut().unwrap().extend(of_call.as_object().unwrap().clone());
    let mut turn = json!({"role": "assistant", "content": "So.", "tool_calls": [call]});
    turn.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    turn
}

fn strict_servers() -> Vec<Strict> {
    let thought = || call_turn(json!({"reasoning_content": "I think at home."}), json!({}));
    let plain = || call_turn(json!({"reasoning": "I think at home."}), json!({}));
    let signature = json!({"extra_content": {"google": {"thought_signature": "QUJD"}}});
    vec![
        Strict::new("deepseek", ["deepseek-v4-pro"; 2], thought()),
        Strict::new("moonshot", ["kimi-k2.5"; 2], thought()),
        Strict::new("groq", ["groq/gpt-oss", "openai/gpt-oss-120b"], plain()),
        Strict::new("cerebras", ["cerebras/gpt-oss", "gpt-oss-120b"], plain()),
        Strict::new("google", ["gemini-3-pro-preview"; 2], call_turn(json!({}), signature)),
    ]
}

/// A conversation that goes to a strict server and away from it again at every turn is never refused.
#[tokio::test(start_paused = true)]
async fn strict_servers_refuse_no_turn_of_a_conversation_that_moves() {
    for (dialect, stream) in CALLERS.into_iter().flat_map(|dialect| [(dialect, false), (dialect, true)]) {
        for other in kinds() {
            for server in strict_servers() {
                let memory = SealMemory::new();
                let (strict, (strange, _)) = (server.leaf(&memory), leaf(&other, &memory, "b"));
                let mut caller = Caller::new(dialect, stream);
                for _ in 0..3 {
                    caller.turn(&strange).await;
                    caller.turn(&strict).await;
                    caller.turn(&strict).await;
                }
                let what = format!("{dialect} stream {stream}: {} and {}", server.name, other.name);
                assert_eq!(server.take(), (6, 0), "{what}");
            }
        }
    }
}

/// A server that no table knows is learned by its refusal: the turn that was refused is answered, and no later one is
/// refused.
#[tokio::test(start_paused = true)]
async fn a_server_that_no_table_knows_is_learned() {
    let homes = || kinds().into_iter().filter(|kind| ["claude", "content", "plain"].contains(&kind.name));
    for (server, home) in
        strict_servers().into_iter().flat_map(|server| homes().map(move |home| (server.clone(), home)))
    {
        for dialect in CALLERS {
            let mut caller = Caller::new(dialect, false);
            caller.turn(&leaf(&home, &SealMemory::new(), "a").0).await;
            // The gateway began anew, and the name says nothing.
            let memory = SealMemory::new();
            let unknown = Strict { model: "ours", ..server.clone() };
            let strict = unknown.leaf(&memory);
            let _other = leaf(&home, &memory, "a");
            let what = format!("{dialect}: {} then {}", home.name, server.name);
            caller.turn(&strict).await;
            let (asked, refused) = unknown.take();
            assert!((asked, refused) == (1, 0) || (asked, refused) == (2, 1), "{what}");
            caller.turn(&strict).await;
            caller.turn(&strict).await;
            assert_eq!(unknown.take(), (2, 0), "{what}");
        }
    }
}

/// A caller that changes, invents or exchanges what it was given gets an answer, and the server none of it.
#[tokio::test(start_paused = true)]
async fn an_envelope_that_was_changed_forged_or_anothers_is_passed_over() {
    const SEALED: [&str; 4] = ["signature", "data", "encrypted_content", "thoughtSignature"];
    fn each_sealed(value: &mut Value, change: &mut dyn FnMut(&mut String)) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| each_sealed(item, change)),
            Value::Object(fields) => {
                for (name, value) in fields.iter_mut() {
                    match value {
                        Value::String(token) if SEALED.contains(&name.as_str()) => change(token),
                        value => each_sealed(value, change),
                    }
                }
            }
            _ => {}
        }
    }
    let kinds = kinds();
    for dialect in [Dialect::Anthropic, Dialect::Responses, Dialect::Gemini] {
        for home in kinds.iter().filter(|kind| kind.speaks != dialect) {
            let memory = SealMemory::new();
            let (own, sent) = leaf(home, &memory, "a");
            let other_words = home.turn.to_string().replace(&sign(home.name), &sign("elsewhere"));
            let other_words = other_words.replace(&home.text(), "Something else.");
            let stranger = Kind { turn: serde_json::from_str(&other_words).unwrap(), ..*home };
            let (other_account, sent_there) = leaf(&stranger, &memory, "b");
            let mut caller = Caller::new(dialect, false);
            caller.turn(&own).await;
            let honest = caller.history.clone();
            let what = format!("{dialect} {}", home.name);
            let is_free = |body: &Value| {
                let text = body.to_string();
                !text.contains(&sign(home.name)) && !text.contains(&home.text()) && !text.contains("steadfast.")
            };
            // In all its thirds, and invented.
            for way in 0..4 {
                caller.history.clone_from(&honest);
                for item in &mut caller.history {
                    each_sealed(item, &mut |token| {
                        let at = token.len() * way / 4 + token.len() / 8;
                        match way {
                            3 => *token = "steadfast.openai.signed.0:{\"reasoning_content\":\"forged\"}".into(),
                            _ if !token.is_char_boundary(at) || !token.is_char_boundary(at + 1) => token.clear(),
                            _ => token.replace_range(at..=at, if &token[at..=at] == "x" { "y" } else { "x" }),
                        }
                    });
                }
                own.clone().oneshot(caller.request()).await.unwrap();
                assert!(
                    is_free(&last(&sent)) && !last(&sent).to_string().contains("forged"),
                    "{what} {way}: {}",
                    last(&sent)
                );
            }
            // The memory notes that the account of a family may read another's.
            if home.speaks != Dialect::Anthropic {
                caller.history.clone_from(&honest);
                other_account.oneshot(caller.request()).await.unwrap();
                assert!(is_free(&last(&sent_there)), "{what}: {}", last(&sent_there));
            }
            // Nothing was marked: the honest one still goes home.
            caller.history.clone_from(&honest);
            own.oneshot(caller.request()).await.unwrap();
            assert_eq!(brought(home, &last(&sent)), wanted(home), "{what}");
        }
    }
}

/// Gemini 3 refuses a call without a signature, and Gemini 2.5 gives none without thinking.
#[tokio::test(start_paused = true)]
async fn gemini_3_behind_gemini_2_5_gets_its_stand_in() {
    let sent = Sent::default();
    let record = sent.clone();
    let transport = service_fn(move |request: Request<Full<Bytes>>| {
        let record = record.clone();
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            record.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
            let turn = json!({"role": "model", "parts": [{"text": "hi"}]});
            let response = Response::builder().header("content-type", "application/json");
            let answer = whole(Dialect::Gemini, &turn).to_string();
            Ok::<_, Infallible>(response.body(Full::new(Bytes::from(answer))).unwrap())
        }
    });
    let leaf = Gemini::new("key").model("gemini-3.1-pro-preview").transport(transport);
    let call = |name: &str| json!({"functionCall": {"name": name, "args": {}}});
    let signed = json!({"functionCall": {"name": "c", "args": {}}, "thoughtSignature": "QUJD"});
    let result = |name: &str| json!({"functionResponse": {"name": name, "response": {}}});
    let contents = json!([
        {"role": "user", "parts": [{"text": "?"}]},
        {"role": "model", "parts": [{"text": "So."}, call("a"), call("b")]},
        {"role": "user", "parts": [result("a"), result("b")]},
        {"role": "model", "parts": [signed, call("d")]},
        {"role": "user", "parts": [result("c"), result("d")]},
    ]);
    for (named, stand_ins) in [("chain", 1), ("gemini-3.1-pro-preview", 0)] {
        let body = json!({"contents": contents}).to_string();
        let wire = Wire::new(Dialect::Gemini, body).unwrap().path(named, false);
        leaf.clone().oneshot(LlmRequest::from(wire)).await.unwrap();
        let mut wanted = contents.clone();
        if stand_ins == 1 {
            wanted[1]["parts"][1]["thoughtSignature"] = "skip_thought_signature_validator".into();
        }
        assert_eq!(last(&sent)["contents"], wanted, "{named}");
    }
}
