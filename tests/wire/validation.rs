//! Recorded requests with an output schema, sent as they were through `Validate`, and answered as they were: real
//! schemas compile, and real answers pass as they are or are repaired.
//!
//! The recordings are not part of the repository, see `common/recordings.rs`.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;
use steadfast::{
    Dialect, ErrorKind, LlmError, LlmRequest, LlmResponse, ValidateLayer,
    providers::{Anthropic, Gemini, OpenAi},
};
use tower::{Layer, ServiceExt, util::BoxCloneSyncService};

use crate::recordings::{Exchange, recordings};

/// The recorded request, if it was answered and asks for an output's shape.
fn request(exchange: &Exchange) -> Option<LlmRequest> {
    let request = LlmRequest::from(exchange.wire().filter(|_| exchange.status == StatusCode::OK)?);
    request.chat().ok()?.output.as_ref()?;
    Some(request)
}

/// Returns the outcome of `layer` over the leaf, for the recorded answer.
async fn replay(exchange: &Exchange, layer: ValidateLayer, request: LlmRequest) -> Result<LlmResponse, LlmError> {
    let (headers, body) = (exchange.headers.clone(), exchange.body.clone());
    let transport = tower::service_fn(move |_: Request<Full<Bytes>>| {
        let mut response = Response::new(Full::new(body.clone()));
        *response.headers_mut() = headers.clone();
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let leaf = match exchange.dialect {
        Dialect::Anthropic => BoxCloneSyncService::new(Anthropic::new("k").model("m").transport(transport)),
        Dialect::Gemini => BoxCloneSyncService::new(Gemini::new("k").model("m").transport(transport)),
        _ => {
            let leaf = OpenAi::compatible("compatible", "http://provider.test/v1").expect("a URL");
            BoxCloneSyncService::new(leaf.model("m").transport(transport))
        }
    };
    layer.layer(leaf).oneshot(request).await
}

#[tokio::test]
async fn recorded_answers_to_a_schema_are_valid_or_named() {
    let Some(exchanges) = recordings() else { return };
    let (mut valid, mut repaired, mut invalid, mut failed, mut open) = (0, 0, 0, 0, 0);
    for exchange in &exchanges {
        let Some(request) = request(exchange) else { continue };
        // Nothing meets this schema but what is no answer yet: a call of a tool, a refusal.
        let mut chat = request.chat().expect("it was decoded before").clone();
        chat.output.as_mut().expect("it asks for a shape").schema = Some(Value::Bool(false).into());
        if replay(exchange, ValidateLayer::new().reasks(0), chat.into()).await.is_ok() {
            open += 1;
            continue;
        }
        match replay(exchange, ValidateLayer::new().reasks(0), request).await {
            Ok(response) if response.notes().iter().any(|note| note.starts_with("output: ")) => {
                println!("{}: {:?}", exchange.id, response.notes());
                repaired += 1;
            }
            Ok(_) => valid += 1,
            Err(error) if error.kind() == ErrorKind::InvalidOutput => {
                println!("{}: {error}", exchange.id);
                invalid += 1;
            }
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::InvalidRequest, "{}: {error}", exchange.id);
                println!("{}: {error}", exchange.id);
                failed += 1;
            }
        }
    }
    println!(
        "recorded with a schema: {valid} valid, {repaired} repaired, {invalid} invalid, {failed} failed, {open} no answer yet"
    );
    assert!(valid + repaired > 0, "no answer to a schema is recorded");
}
