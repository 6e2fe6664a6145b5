//! Recorded answers of real providers, through the matching leaf over an in-process transport, in pieces cut anywhere.
//!
//! The recordings are not part of the repository: they are read from `STEADFAST_FIXTURES`, or from `../shared/fixtures`.
//! Where there are none, the test says so and does nothing.
#![cfg(feature = "http")]

use std::{collections::BTreeMap, convert::Infallible, path::PathBuf};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{Full, StreamBody};
use serde_json::Value;
use steadfast::{
    CommitPoint, ErrorKind, LlmError, LlmRequest,
    chat::Message,
    providers::{Anthropic, Gemini, OpenAi},
};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

/// One recorded exchange.
struct Exchange {
    id: String,
    provider: String,
    stream: bool,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Exchange {
    fn read(record: &Value) -> Self {
        let response = &record["response"];
        let text = |field: &str| record[field].as_str().expect("a text").to_owned();
        let body = match (&response["sse"], &response["body"]) {
            (Value::String(sse), _) => sse.clone(),
            (_, Value::String(text)) => text.clone(),
            (_, Value::Null) => String::new(),
            (_, json) => json.to_string(),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in response["headers"].as_object().into_iter().flatten() {
            let name: http::HeaderName = name.parse().expect("a header's name");
            if let Some(Ok(value)) = value.as_str().map(str::parse) {
                headers.insert(name, value);
            }
        }
        Self {
            id: text("id"),
            provider: text("provider"),
            stream: record["stream"].as_bool().expect("a bool"),
            status: u16::try_from(response["status"].as_u64().expect("a status"))
                .ok()
                .and_then(|status| StatusCode::from_u16(status).ok())
                .expect("a status"),
            headers,
            body: body.into(),
        }
    }

    /// What the provider's leaf makes of it.
    async fn replay(&self, point: CommitPoint, rng: &mut fastrand::Rng) -> Result<Message, LlmError> {
        let mut pieces = Vec::new();
        let mut rest = self.body.clone();
        while !rest.is_empty() {
            let longest = if rng.bool() { 7 } else { 1500 };
            let size = rng.usize(1..=rest.len().min(longest));
            pieces.push(rest.split_to(size));
        }
        let (status, headers) = (self.status, self.headers.clone());
        let transport = tower::service_fn(move |_: Request<Full<Bytes>>| {
            let frames: Vec<_> =
                pieces.iter().cloned().map(|piece| Ok::<_, Infallible>(http_body::Frame::data(piece))).collect();
            let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)));
            *response.status_mut() = status;
            *response.headers_mut() = headers.clone();
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let request = LlmRequest::prompt("hello").stream(self.stream);
        let mut leaf = match self.provider.as_str() {
            "anthropic" => BoxCloneSyncService::new(Anthropic::new("k").model("m").commit(point).transport(transport)),
            "openai" => BoxCloneSyncService::new(OpenAi::new("k").model("m").commit(point).transport(transport)),
            "gemini" => BoxCloneSyncService::new(Gemini::new("k").model("m").commit(point).transport(transport)),
            _ => {
                let leaf = OpenAi::compatible("compatible", "http://provider.test/v1").expect("a URL");
                BoxCloneSyncService::new(leaf.model("m").commit(point).transport(transport))
            }
        };
        leaf.ready().await?.call(request).await?.collect().await
    }
}

fn recordings() -> Option<Vec<Exchange>> {
    let folder = std::env::var_os("STEADFAST_FIXTURES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"), PathBuf::from);
    let Ok(index) = std::fs::read(folder.join("index.json")) else {
        println!("skipped: no recordings in {}", folder.display());
        return None;
    };
    let index: Value = serde_json::from_slice(&index).expect("the index is JSON");
    let files = index.as_array().expect("a list").iter().map(|line| line["file"].as_str().expect("a file"));
    let read = |file: &str| {
        let text = std::fs::read(folder.join(file)).expect("the index is right");
        Exchange::read(&serde_json::from_slice(&text).expect("a recording is JSON"))
    };
    Some(files.map(read).collect())
}

/// The kinds of failure that an answer with a good status may turn out to be.
const INSIDE_A_200: &[ErrorKind] = &[
    ErrorKind::ContentPolicy,
    ErrorKind::EmptyAnswer,
    ErrorKind::InvalidRequest,
    ErrorKind::Malformed,
    ErrorKind::Overloaded,
    ErrorKind::RateLimited,
    ErrorKind::Refusal,
    ErrorKind::Server,
    ErrorKind::StreamBroken,
    ErrorKind::Timeout,
];

#[tokio::test]
async fn every_recorded_answer_is_read_or_named() {
    let Some(recordings) = recordings() else { return };
    let mut rng = fastrand::Rng::with_seed(7);
    let mut table: BTreeMap<(String, String), usize> = BTreeMap::new();
    for exchange in &recordings {
        let outcome = exchange.replay(CommitPoint::FirstToken, &mut rng).await;
        let whole = exchange.replay(CommitPoint::Complete, &mut rng).await;
        let id = &exchange.id;
        match (&outcome, &whole) {
            (Ok(outcome), Ok(whole)) => assert_eq!(outcome, whole, "{id}: the cutting changed the answer"),
            (Err(outcome), Err(whole)) => {
                assert_eq!(outcome.kind(), whole.kind(), "{id}: the cutting changed the error")
            }
            other => panic!("{id}: the cutting changed the outcome: {other:?}"),
        }
        let line = match &outcome {
            Ok(_) => {
                assert!(exchange.status.is_success(), "{id}: status {} was read as an answer", exchange.status);
                "ok".to_owned()
            }
            Err(error) => {
                let status = exchange.status;
                assert_eq!(error.status(), Some(status), "{id}");
                assert!(error.provider().is_some() && error.model() == Some("m"), "{id}");
                println!("{id}: {error}");
                if status.is_success() {
                    assert!(INSIDE_A_200.contains(&error.kind()), "{id}: {error:?}");
                } else {
                    assert!(is_plausible(status, error.kind()), "{id}: {error:?}");
                }
                format!("{} {}", status.as_u16(), error.kind())
            }
        };
        *table.entry((exchange.provider.clone(), line)).or_default() += 1;
    }
    for ((provider, line), count) in &table {
        println!("{provider:18} {line:26} {count:4}");
    }
    println!("{} recordings", recordings.len());
}

/// Whether a failure of this kind may have come with this status.
fn is_plausible(status: StatusCode, kind: ErrorKind) -> bool {
    match status.as_u16() {
        401 => kind == ErrorKind::Auth,
        402 => kind == ErrorKind::QuotaExhausted,
        403 => matches!(kind, ErrorKind::Auth | ErrorKind::ContentPolicy),
        404 => kind == ErrorKind::NotFound,
        429 => matches!(kind, ErrorKind::RateLimited | ErrorKind::QuotaExhausted | ErrorKind::Overloaded),
        400 | 422 => matches!(
            kind,
            ErrorKind::InvalidRequest
                | ErrorKind::ContextLength
                | ErrorKind::ContentPolicy
                | ErrorKind::Auth
                | ErrorKind::QuotaExhausted
                | ErrorKind::NotFound
                | ErrorKind::Malformed
        ),
        500..=599 => matches!(
            kind,
            ErrorKind::Server
                | ErrorKind::Overloaded
                | ErrorKind::Timeout
                | ErrorKind::ContextLength
                | ErrorKind::InvalidRequest
        ),
        _ => false,
    }
}
