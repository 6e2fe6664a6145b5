//! Recorded requests with an output schema, sent as they were through `Validate`, and answered as they were: real schemas
//! compile, and real answers pass as they are or are repaired.
//!
//! The recordings are not part of the repository: they are read from `STEADFAST_FIXTURES`, or from `../shared/fixtures`.
//! Where there are none, the test says so and does nothing.
#![cfg(all(feature = "http", feature = "validate"))]

use std::{convert::Infallible, path::PathBuf};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::Value;
use steadfast::{
    Dialect, ErrorKind, LlmError, LlmRequest, LlmResponse, ValidateLayer, Wire,
    providers::{Anthropic, Gemini, OpenAi},
};
use tower::{Layer, ServiceExt, util::BoxCloneSyncService};

fn recordings() -> Option<Vec<Value>> {
    let folder = std::env::var_os("STEADFAST_FIXTURES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"), PathBuf::from);
    let Ok(index) = std::fs::read(folder.join("index.json")) else {
        println!("skipped: no recordings in {}", folder.display());
        return None;
    };
    let index: Vec<Value> = serde_json::from_slice(&index).expect("the index is a JSON list");
    let read = |line: &Value| {
        let file = std::fs::read(folder.join(line["file"].as_str().expect("a file"))).expect("the index is right");
        serde_json::from_slice(&file).expect("a recording is JSON")
    };
    Some(index.iter().map(read).collect())
}

/// The recorded request, if it was answered and asks for an output's shape.
fn request(record: &Value) -> Option<LlmRequest> {
    if record["response"]["status"] != 200 || !record["request"]["body"].is_object() {
        return None;
    }
    let dialect = match record["provider"].as_str()? {
        "anthropic" => Dialect::Anthropic,
        "gemini" => Dialect::Gemini,
        _ => Dialect::OpenAi,
    };
    let mut wire = Wire::new(dialect, record["request"]["body"].to_string()).ok()?;
    if dialect == Dialect::Gemini {
        wire = wire.path("m", record["stream"].as_bool()?);
    }
    let request = LlmRequest::from(wire);
    request.chat().ok()?.output.as_ref()?;
    Some(request)
}

/// What the leaf makes of the recorded answer, and `layer` of that.
async fn replay(record: &Value, layer: ValidateLayer, request: LlmRequest) -> Result<LlmResponse, LlmError> {
    let body: Bytes = match (&record["response"]["sse"], &record["response"]["body"]) {
        (Value::String(text), _) | (_, Value::String(text)) => text.clone().into(),
        (_, json) => json.to_string().into(),
    };
    let kind = if record["response"]["sse"].is_string() { "text/event-stream" } else { "application/json" };
    let transport = tower::service_fn(move |_: Request<Full<Bytes>>| {
        let response = Response::builder().header("content-type", kind).body(Full::new(body.clone()));
        std::future::ready(Ok::<_, Infallible>(response.expect("a response")))
    });
    let leaf = match record["provider"].as_str() {
        Some("anthropic") => BoxCloneSyncService::new(Anthropic::new("k").model("m").transport(transport)),
        Some("gemini") => BoxCloneSyncService::new(Gemini::new("k").model("m").transport(transport)),
        _ => {
            let leaf = OpenAi::compatible("compatible", "http://provider.test/v1").expect("a URL");
            BoxCloneSyncService::new(leaf.model("m").transport(transport))
        }
    };
    layer.layer(leaf).oneshot(request).await
}

#[tokio::test]
async fn recorded_answers_to_a_schema_are_valid_or_named() {
    let Some(recordings) = recordings() else { return };
    let (mut valid, mut repaired, mut invalid, mut failed, mut open) = (0, 0, 0, 0, 0);
    for record in &recordings {
        let Some(request) = request(record) else { continue };
        // Nothing meets this schema but what is no answer yet: a call of a tool, a refusal.
        let mut chat = request.chat().expect("it was decoded before").clone();
        chat.output.as_mut().expect("it asks for a shape").schema = Some(Value::Bool(false));
        if replay(record, ValidateLayer::new().reasks(0), chat.into()).await.is_ok() {
            open += 1;
            continue;
        }
        match replay(record, ValidateLayer::new().reasks(0), request).await {
            Ok(response) if response.notes().iter().any(|note| note.starts_with("output: ")) => {
                println!("{}: {:?}", record["id"], response.notes());
                repaired += 1;
            }
            Ok(_) => valid += 1,
            Err(error) if error.kind() == ErrorKind::InvalidOutput => {
                println!("{}: {error}", record["id"]);
                invalid += 1;
            }
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::InvalidRequest, "{}: {error}", record["id"]);
                println!("{}: {error}", record["id"]);
                failed += 1;
            }
        }
    }
    println!(
        "recorded with a schema: {valid} valid, {repaired} repaired, {invalid} invalid, {failed} failed, {open} no answer yet"
    );
}
