//! Servers that speak OpenAI's dialect and are not OpenAI's: what the one's own words mean to the other.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use steadfast::{Dialect, LlmRequest, Wire, providers::OpenAi};
use tower::{ServiceExt, service_fn};

use super::{hello, translate_for};

use Dialect::{Anthropic as A, Gemini as G, OpenAi as O, Responses as R};

const OPENAI: &str = "https://api.openai.com/v1";
const OTHER: &str = "https://compatible.example/v1";

/// Returns what a Chat Completions server at this address gets.
async fn sent(address: &str, model: &str, from: Dialect, body: &Value) -> Value {
    let sent = Arc::new(Mutex::new(Bytes::new()));
    let record = sent.clone();
    let transport = service_fn(move |request: Request<Full<Bytes>>| {
        let record = record.clone();
        async move {
            *record.lock().unwrap() = request.into_body().collect().await.unwrap().to_bytes();
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(hello(O).as_bytes()))))
        }
    });
    let leaf = match address {
        OPENAI => OpenAi::new("k"),
        address => OpenAi::compatible("k", address).unwrap(),
    };
    let leaf = leaf.model(model).transport(transport);
    leaf.oneshot(LlmRequest::from(Wire::new(from, body.to_string()).unwrap())).await.unwrap();
    let sent = sent.lock().unwrap().clone();
    serde_json::from_slice(&sent).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_developers_word_is_the_systems_at_servers_that_are_not_openais() {
    let turn = |role: &str| json!({"role": role, "content": "developer: \"role\": \"developer\""});
    let body =
        json!({"model": "gpt-4o", "messages": [turn("developer"), turn("user"), turn("developer"), turn("user")]});
    for (address, expected) in [(OTHER, "system"), (OPENAI, "developer")] {
        for model in ["gpt-4o", "deepseek-chat"] {
            let got = sent(address, model, O, &body).await;
            for place in [0, 2] {
                assert_eq!(got["messages"][place], turn(expected), "{address} {model}");
            }
            assert_eq!(got["messages"][1], turn("user"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn openais_models_that_reason_get_their_limit_by_its_newer_name_at_any_server() {
    let callers = [
        (A, json!({"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "?"}]})),
        (R, json!({"model": "m", "max_output_tokens": 50, "input": "?"})),
        (
            G,
            json!({"generationConfig": {"maxOutputTokens": 50}, "contents": [{"role": "user", "parts": [{"text": "?"}]}]}),
        ),
        (O, json!({"model": "gpt-4o", "max_tokens": 50, "messages": [{"role": "user", "content": "?"}]})),
    ];
    for (from, body) in &callers {
        for model in
            ["gpt-5", "gpt-5-mini", "gpt-5.1", "o3", "o4-mini", "openai/gpt-5", "openai/o3-mini", "gpt-5-2025-08-07"]
        {
            let got = sent(OTHER, model, *from, body).await;
            assert_eq!((&got["max_completion_tokens"], got.get("max_tokens")), (&json!(50), None), "{from} {model}");
        }
        for model in ["gpt-4o", "gpt-oss-120b", "deepseek-chat", "llama-3.3-70b", "openai/gpt-oss-20b"] {
            let got = sent(OTHER, model, *from, body).await;
            assert_eq!((&got["max_tokens"], got.get("max_completion_tokens")), (&json!(50), None), "{from} {model}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn verbosity_goes_to_the_models_that_take_it() {
    let chat = json!({"model": "gpt-5", "verbosity": "low", "messages": [{"role": "user", "content": "?"}]});
    let responses = json!({"model": "gpt-5", "text": {"verbosity": "low"}, "input": "?"});
    for (model, takes) in
        [("gpt-4o", false), ("gpt-4.1", false), ("o3", false), ("gpt-5.1", true), ("gpt-5-mini", true)]
    {
        for (from, body) in [(O, &chat), (R, &responses)] {
            for to in [O, R] {
                let (sent, notes) = translate_for(from, to, model, false, body).await.unwrap();
                let place = if to == O { sent.get("verbosity") } else { sent.pointer("/text/verbosity") };
                assert_eq!(place.is_some(), takes, "{from} to {to}, {model}: {sent}");
                let is_told = notes.iter().any(|note| note.contains("verbosity"));
                assert_eq!(is_told, !takes, "{from} to {to}, {model}: {notes:?}");
            }
        }
    }
}
