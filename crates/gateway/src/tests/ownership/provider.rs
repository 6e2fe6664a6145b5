//! A provider of all dialects that notes what it is asked.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::api::paths::objects::SERVED;

/// A provider. It ends with its test's runtime.
#[derive(Clone, Default)]
pub(super) struct Provider {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    url: String,
    /// The method, address and body of each request.
    calls: Vec<(String, String)>,
    /// The objects that it lists, by the paths behind `/v1`.
    listed: Vec<String>,
    /// The next answer, in place of the usual one.
    answer: Option<(u16, &'static str, String)>,
    made: usize,
}

impl Provider {
    pub(super) async fn start() -> Self {
        let provider = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        provider.state.lock().unwrap().url = format!("http://{}", listener.local_addr().unwrap());
        let shared = provider.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let provider = shared.clone();
                let service = service_fn(move |request| provider.clone().answer(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        provider
    }

    pub(super) fn url(&self) -> String {
        self.state.lock().unwrap().url.clone()
    }

    /// Returns the requests since the last look: the address, and the body.
    pub(super) fn calls(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.state.lock().unwrap().calls)
    }

    /// Sets the objects that every list has.
    pub(super) fn list(&self, ids: Vec<String>) {
        self.state.lock().unwrap().listed = ids;
    }

    /// Sets the next answer.
    pub(super) fn answer_with(&self, status: u16, content_type: &'static str, body: impl ToString) {
        self.state.lock().unwrap().answer = Some((status, content_type, body.to_string()));
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let body = String::from_utf8_lossy(&body).into_owned();
        let mut state = self.state.lock().unwrap();
        state.calls.push((format!("{} {}", head.method, head.uri), body.clone()));
        let (status, content_type, body) = state.answer.take().unwrap_or_else(|| {
            let is_anthropics = head.headers.contains_key("x-api-key");
            let (kind, body) = state.usual(&head.method, head.uri.path(), head.uri.query(), &body, is_anthropics);
            (200, kind, body)
        });
        let response = Response::builder().status(status).header("content-type", content_type);
        Ok(response.body(Full::from(body)).unwrap())
    }
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

impl State {
    fn usual(
        &mut self,
        method: &Method,
        path: &str,
        query: Option<&str>,
        body: &str,
        is_anthropics: bool,
    ) -> (&'static str, String) {
        let is_stream = body.contains("\"stream\":true");
        match path {
            "/v1/chat/completions" => chat(&json!({"role": "assistant", "content": "hi"}), is_stream),
            "/v1/responses" => response(&json!([said("msg_0")]), "resp_0", is_stream),
            "/v1/messages" => message(&json!({}), &json!([{"type": "text", "text": "hi"}]), is_stream),
            _ if path.contains(":generateContent") => {
                let content = json!({"role": "model", "parts": [{"text": "hi"}]});
                let usage = json!({"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2});
                let answer =
                    json!({"candidates": [{"content": content, "finishReason": "STOP"}], "usageMetadata": usage});
                (JSON, answer.to_string())
            }
            _ if method == Method::GET && SERVED.contains(&path) => {
                (JSON, self.page(query.unwrap_or_default(), is_anthropics).to_string())
            }
            _ => {
                self.made += 1;
                (JSON, json!({"id": format!("made_{}", self.made), "object": "any"}).to_string())
            }
        }
    }

    fn page(&self, query: &str, is_anthropics: bool) -> Value {
        let (after, limit) = if is_anthropics { ("after_id=", "limit=") } else { ("after=", "limit=") };
        let get = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name));
        let limit = get(limit).and_then(|limit| limit.parse().ok()).unwrap_or(20);
        let from = get(after).map_or(0, |id| self.listed.iter().position(|own| own == id).map_or(0, |at| at + 1));
        let to = (from + limit).min(self.listed.len());
        let page = &self.listed[from..to];
        let data: Vec<Value> = page.iter().map(|id| json!({"id": id, "object": "any"})).collect();
        json!({"object": "list", "data": data, "first_id": page.first(), "last_id": page.last(),
            "has_more": to < self.listed.len(), "total": self.listed.len()})
    }
}

/// An item with a text.
pub(super) fn said(id: &str) -> Value {
    json!({"type": "message", "id": id, "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": "hi", "annotations": []}]})
}

/// An answer of Chat Completions with this message.
pub(super) fn chat(message: &Value, is_stream: bool) -> (&'static str, String) {
    let usage = json!({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2});
    let answer = |object: &str, field: &str, finish: Value| {
        json!({"id": "chatcmpl-1", "object": object, "created": 1, "model": "m-chat", "usage": &usage,
            "choices": [{"index": 0, field: message, "finish_reason": finish}]})
    };
    match is_stream {
        false => (JSON, answer("chat.completion", "message", json!("stop")).to_string()),
        true => {
            let end = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m-chat",
                "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
            (
                EVENTS,
                format!(
                    "data: {}\n\ndata: {end}\n\ndata: [DONE]\n\n",
                    answer("chat.completion.chunk", "delta", Value::Null)
                ),
            )
        }
    }
}

/// An answer of the Responses API with these items.
pub(super) fn response(output: &Value, id: &str, is_stream: bool) -> (&'static str, String) {
    let whole = |status: &str, output: &Value| {
        json!({"id": id, "object": "response", "created_at": 1, "status": status, "model": "m-resp", "output": output,
            "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}})
    };
    if !is_stream {
        return (JSON, whole("completed", output).to_string());
    }
    let mut events = vec![json!({"type": "response.created", "response": whole("in_progress", &json!([]))})];
    for (at, item) in output.as_array().unwrap().iter().enumerate() {
        events.push(json!({"type": "response.output_item.added", "output_index": at, "item": item}));
        events.push(json!({"type": "response.output_text.delta", "item_id": item["id"], "output_index": at, "content_index": 0, "delta": "hi"}));
        events.push(json!({"type": "response.output_item.done", "output_index": at, "item": item}));
    }
    events.push(json!({"type": "response.completed", "response": whole("completed", output)}));
    let text: String =
        events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect();
    (EVENTS, text)
}

/// An answer of the Messages API with these blocks, and more fields.
pub(super) fn message(more: &Value, content: &Value, is_stream: bool) -> (&'static str, String) {
    let whole = |content: &Value, stop: Value| {
        let mut message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m-claude", "content": content,
            "stop_reason": stop, "stop_sequence": null, "usage": {"input_tokens": 1, "output_tokens": 1}});
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        message
    };
    if !is_stream {
        return (JSON, whole(content, json!("end_turn")).to_string());
    }
    let mut events = vec![json!({"type": "message_start", "message": whole(&json!([]), Value::Null)})];
    for (at, block) in content.as_array().unwrap().iter().enumerate() {
        events.push(json!({"type": "content_block_start", "index": at, "content_block": block}));
        if block["type"] == "text" {
            events.push(
                json!({"type": "content_block_delta", "index": at, "delta": {"type": "text_delta", "text": "hi"}}),
            );
        }
        events.push(json!({"type": "content_block_stop", "index": at}));
    }
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": 1}}));
    events.push(json!({"type": "message_stop"}));
    let text: String =
        events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect();
    (EVENTS, text)
}
