//! A conversation from any dialect to any other and back: what arrives is accepted by the provider, and what the rules
//! call carried means the same. The recorded conversations are not part of the repository, see `common/recordings.rs`;
//! where there are none, their tests say so and do nothing.

mod answers;
mod calls;
mod content;
mod finish;
mod items;
mod meaning;
mod models;
mod replay;
mod responses;
mod rules;
mod schemas;
mod servers;
mod settings;
mod types;
mod wishes;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use steadfast::{
    Dialect, LlmError, LlmRequest, LlmResponse, Wire,
    providers::{Anthropic, Gemini, OpenAi},
};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

const DIALECTS: [Dialect; 4] = [Dialect::Anthropic, Dialect::OpenAi, Dialect::Gemini, Dialect::Responses];

/// The model that a dialect's leaf asks.
fn model(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Anthropic => "claude-sonnet-4-5",
        Dialect::OpenAi | Dialect::Responses => "gpt-5",
        _ => "gemini-3-pro",
    }
}

/// For whom a request is judged here: for any model of the dialect. `tests/wire/acceptance` judges for each model.
fn any(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Gemini => "gemini-3",
        _ => "any",
    }
}

/// The least answer of each dialect.
pub(crate) fn hello(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Anthropic => r#"{"type":"message","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}"#,
        Dialect::Responses => {
            r#"{"object":"response","status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"hi"}]}]}"#
        }
        Dialect::OpenAi => r#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#,
        _ => r#"{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}]}"#,
    }
}

type Leaf = BoxCloneSyncService<LlmRequest, LlmResponse, LlmError>;

/// A leaf that sends nothing, keeps what it would send, and gets this answer.
fn leaf(
    dialect: Dialect,
    strict: bool,
    answer: (u16, &'static str),
    body: impl Into<Bytes>,
) -> (Leaf, Arc<Mutex<Bytes>>) {
    leaf_of(dialect, model(dialect), strict, answer, body)
}

/// The same that asks this model.
fn leaf_of(
    dialect: Dialect,
    model: &str,
    strict: bool,
    (status, content_type): (u16, &'static str),
    answer: impl Into<Bytes>,
) -> (Leaf, Arc<Mutex<Bytes>>) {
    let (sent, answer) = (Arc::new(Mutex::new(Bytes::new())), answer.into());
    let record = sent.clone();
    let transport = tower::service_fn(move |request: Request<Full<Bytes>>| {
        let (record, answer) = (record.clone(), answer.clone());
        async move {
            let body = request.into_body().collect().await.expect("it is here already").to_bytes();
            *record.lock().expect("nobody panics with it") = body;
            let mut response = Response::new(Full::new(answer));
            *response.status_mut() = http::StatusCode::from_u16(status).expect("a status");
            response.headers_mut().insert("content-type", content_type.parse().expect("a header"));
            Ok::<_, Infallible>(response)
        }
    });
    let leaf = match dialect {
        Dialect::Anthropic => Leaf::new(Anthropic::new("k").model(model).strict(strict).transport(transport)),
        // Another server than OpenAI's own has it.
        Dialect::OpenAi if model.starts_with("claude") => {
            let router = OpenAi::compatible("router", "https://router.internal/v1").expect("a URL");
            Leaf::new(router.key("k").model(model).strict(strict).transport(transport))
        }
        Dialect::OpenAi => Leaf::new(OpenAi::new("k").model(model).strict(strict).transport(transport)),
        Dialect::Responses => Leaf::new(OpenAi::new("k").responses().model(model).strict(strict).transport(transport)),
        _ => Leaf::new(Gemini::new("k").model(model).strict(strict).transport(transport)),
    };
    (leaf, sent)
}

/// Returns the request that a leaf of `target` sends for these bytes of `source`, and the notes on its answer.
async fn translate(
    source: Dialect,
    target: Dialect,
    strict: bool,
    body: &Value,
) -> Result<(Value, Vec<String>), LlmError> {
    translate_for(source, target, model(target), strict, body).await
}

/// The same of a leaf that asks this model.
async fn translate_for(
    source: Dialect,
    target: Dialect,
    model: &str,
    strict: bool,
    body: &Value,
) -> Result<(Value, Vec<String>), LlmError> {
    let request = LlmRequest::from(Wire::new(source, body.to_string())?);
    let (mut leaf, sent) = leaf_of(target, model, strict, (200, "application/json"), hello(target));
    let response = leaf.ready().await?.call(request.clone()).await;
    let body = sent.lock().expect("nobody panics with it").clone();
    if body.is_empty() {
        return Err(response.expect_err("nothing was sent"));
    }
    let notes = response.map(|response| response.notes().iter().map(ToString::to_string).collect());
    Ok((serde_json::from_slice(&body).expect("JSON"), notes.unwrap_or_default()))
}
