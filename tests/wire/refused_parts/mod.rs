//! Parts of a request that a server of the same dialect refuses, in servers' own forms: the second call is without the
//! part, and so is the first from then on.

mod fields;
mod flags;
mod tools;
mod twins;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use steadfast::{
    Dialect, LlmError, LlmRequest, LlmResponse, RetryWithJitterLayer, Wire,
    providers::{Anthropic, OpenAi, OpenAiResponses},
    request::Tenant,
};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};

type Llm = BoxCloneSyncService<LlmRequest, LlmResponse, LlmError>;

/// A server's refusal of a request; `None` if it answers.
type Rule = Arc<dyn Fn(&Value, &HeaderMap) -> Option<(u16, Value)> + Send + Sync>;

/// A strict server of a dialect.
#[derive(Clone)]
struct Server {
    dialect: Dialect,
    rule: Rule,
    /// The requests that came.
    sent: Arc<Mutex<Vec<(Value, HeaderMap)>>>,
}

impl Server {
    fn new(
        dialect: Dialect,
        rule: impl Fn(&Value, &HeaderMap) -> Option<(u16, Value)> + Send + Sync + 'static,
    ) -> Self {
        Self { dialect, rule: Arc::new(rule), sent: Arc::default() }
    }

    fn transport(
        &self,
    ) -> impl Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static {
        let server = self.clone();
        service_fn(move |request: Request<Full<Bytes>>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
                let is_stream = body["stream"] == true;
                let (status, form, answer) = match (server.rule)(&body, &head.headers) {
                    Some((status, error)) => (status, "application/json", error.to_string()),
                    None if is_stream => (200, "text/event-stream", streamed(server.dialect)),
                    None => (200, "application/json", super::translation::hello(server.dialect).to_owned()),
                };
                server.sent.lock().unwrap().push((body, head.headers));
                let response = Response::builder().status(status).header("content-type", form);
                Ok(response.body(Full::new(Bytes::from(answer))).unwrap())
            }
        })
    }

    /// A leaf at another address than the vendor's, below a retry.
    fn llm(&self) -> Llm {
        self.llm_at("https://compatible.example/v1")
    }

    fn llm_at(&self, address: &str) -> Llm {
        let retry = RetryWithJitterLayer::new();
        match self.dialect {
            Dialect::Anthropic => {
                let leaf = Anthropic::new("k").base_url(address).unwrap().model("served");
                Llm::new(retry.layer(leaf.transport(self.transport())))
            }
            Dialect::Responses => {
                let leaf = OpenAiResponses::compatible("server", address).unwrap().model("served");
                Llm::new(retry.layer(leaf.transport(self.transport())))
            }
            _ => {
                let leaf = OpenAi::compatible("server", address).unwrap().model("served");
                Llm::new(retry.layer(leaf.transport(self.transport())))
            }
        }
    }

    /// Takes the requests that came so far.
    fn take(&self) -> Vec<(Value, HeaderMap)> {
        std::mem::take(&mut self.sent.lock().unwrap())
    }
}

fn streamed(dialect: Dialect) -> String {
    match dialect {
        Dialect::Anthropic => {
            let events = [
                json!({"type": "message_start", "message": {"id": "m", "model": "m", "usage": {"input_tokens": 1}}}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}),
                json!({"type": "content_block_stop", "index": 0}),
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}),
                json!({"type": "message_stop"}),
            ];
            events.map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).concat()
        }
        Dialect::Responses => {
            let item = json!({"id": "i", "type": "message", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": "hi", "annotations": []}]});
            let response =
                json!({"id": "r", "object": "response", "model": "m", "status": "completed", "output": [item]});
            let events = [
                json!({"type": "response.created", "response": {"id": "r", "model": "m", "output": []}}),
                json!({"type": "response.output_item.added", "output_index": 0, "item": {"id": "i", "type": "message", "content": []}}),
                json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "item_id": "i", "delta": "hi"}),
                json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
                json!({"type": "response.completed", "response": response}),
            ];
            events.map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).concat()
        }
        _ => {
            let chunk = json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "hi"}}]});
            let end = json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
            format!("data: {chunk}\n\ndata: {end}\n\ndata: [DONE]\n\n")
        }
    }
}

fn request(dialect: Dialect, body: &Value, stream: bool) -> LlmRequest {
    let mut body = body.clone();
    if dialect != Dialect::Gemini {
        body["stream"] = stream.into();
    }
    LlmRequest::from(Wire::new(dialect, body.to_string()).unwrap()).with_stream(stream)
}

fn of_caller(request: LlmRequest, name: &str) -> LlmRequest {
    request.with_extension(Tenant::new(name))
}

/// Asks, and returns the notes on the answer.
async fn ask(llm: &Llm, request: LlmRequest) -> Result<String, LlmError> {
    let answer = llm.clone().oneshot(request).await?;
    let notes = answer.notes().join("; ");
    assert_eq!(answer.text().await?, "hi");
    Ok(notes)
}

/// An error of OpenAI's form.
fn openai(message: impl Into<String>, param: Value, code: &str) -> Value {
    json!({"error": {"message": message.into(), "type": "invalid_request_error", "param": param, "code": code}})
}
