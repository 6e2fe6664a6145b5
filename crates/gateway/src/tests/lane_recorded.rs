//! Recorded calls that are no conversation: their bytes pass both ways, and the length of each vector and the number
//! of tokens are those that the vendors' own SDKs read.

use std::{
    collections::HashMap,
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use steadfast_stack::{Config, Environment, Format, Stack};
use tower::service_fn;

use super::harness::*;
use crate::limits::Settings;

#[derive(Deserialize)]
struct Exchange {
    id: String,
    request: Sending,
    response: Received,
}

#[derive(Deserialize)]
struct Sending {
    method: String,
    path: String,
    body: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Received {
    status: u16,
    #[serde(default)]
    headers: HashMap<String, Value>,
    body: Option<Box<RawValue>>,
    sse: Option<String>,
}

impl Received {
    fn bytes(&self) -> Option<Bytes> {
        let raw = self.body.as_ref().map(|raw| raw.get().to_owned());
        // A text is an answer that was no JSON.
        let text = raw.map(|raw| serde_json::from_str::<String>(&raw).unwrap_or(raw));
        text.or_else(|| self.sse.clone()).map(Bytes::from)
    }

    fn content_type(&self) -> String {
        let said = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let said = said.and_then(|(_, value)| value.as_str());
        let usual = if self.sse.is_some() { "text/event-stream" } else { "application/json" };
        said.unwrap_or(usual).to_owned()
    }
}

/// The paths of the lane, by the ends of recorded ones.
const ENDS: [(&str, &str); 7] = [
    ("/embeddings", "/v1/embeddings"),
    ("/v1/embed", "/v1/embed"),
    ("/v2/embed", "/v2/embed"),
    ("/v1/rerank", "/v1/rerank"),
    ("/v2/rerank", "/v2/rerank"),
    ("/completions", "/v1/completions"),
    ("/moderations", "/v1/moderations"),
];

fn shared() -> Option<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("shared/fixtures2"));
    above.into_iter().find(|folder| folder.is_dir())
}

fn exchanges(folder: &Path) -> Vec<Exchange> {
    let files = ["embeddings", "other"].into_iter().flat_map(|kind| fs::read_dir(folder.join(kind)).unwrap());
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap()).collect()
}

/// Returns the vendors' SDKs' reading of each answer, by the recording's id.
fn oracle(folder: &Path) -> HashMap<String, Value> {
    let text = fs::read_to_string(folder.join("oracle.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(&line.replace("NaN", "null")).unwrap());
    lines.map(|line| (line["id"].as_str().unwrap().to_owned(), line)).collect()
}

/// Returns the lane's path of a recorded one.
fn path(recorded: &str) -> Option<String> {
    let path = recorded.split('?').next().unwrap_or_default();
    if path.starts_with("/v1beta/models/") && path.contains("mbedContent") {
        return Some(path.to_owned());
    }
    ENDS.iter().find(|(end, _)| path.ends_with(end)).map(|(_, lane)| (*lane).to_owned())
}

/// Sends a recorded request with a vector space of this length. Returns what the provider got and the caller.
async fn pass(
    path: &str,
    model: &str,
    body: &str,
    received: &Received,
    length: Option<u64>,
) -> (Vec<Bytes>, Answer, Value) {
    let sent: Arc<Mutex<Vec<Bytes>>> = Arc::default();
    let (noted, status, kind, bytes) =
        (sent.clone(), received.status, received.content_type(), received.bytes().unwrap());
    let transport = service_fn(move |request: Request<Full<Bytes>>| {
        let (noted, kind, bytes) = (noted.clone(), kind.clone(), bytes.clone());
        async move {
            let got = request.into_body().collect().await?.to_bytes();
            noted.lock().unwrap().push(got);
            let answer = Response::builder().status(status).header("content-type", kind);
            Ok::<_, Infallible>(answer.body(Full::from(bytes)).unwrap())
        }
    });
    let provider = if path.starts_with("/v1beta") { "gemini" } else { "openai" };
    let space = length.map_or_else(|| "recorded".to_owned(), |length| format!("recorded/{length}"));
    let file = json!({
        "tiers": [{"name": "chat", "provider": "simulated"}],
        "retry": {"max_attempts": 1},
        "lane": {"tiers": [{
            "name": "recorded", "provider": provider, "model": model, "space": space,
            "serves": ["embeddings", "rerank", "completions", "moderations"],
        }]},
    });
    let environment: Environment = [("OPENAI_API_KEY", "k"), ("GEMINI_API_KEY", "k")].into_iter().collect();
    let stack = Stack::builder().environment(environment).transport(transport);
    let stack = stack.build(Config::from_str(&file.to_string(), Format::Json).unwrap()).unwrap();
    let server = Server::with_stack(&stack, None, Settings::default()).await;
    let mut client = server.connect().await;
    client.send(&request("POST", path, &[], body.as_bytes())).await;
    let answer = client.answer().await;
    let id = answer.header("x-steadfast-request-id").unwrap();
    let record = server.get(&format!("/requests/{id}"), &[]).await.json();
    let sent = sent.lock().unwrap().clone();
    (sent, answer, record)
}

#[tokio::test]
async fn recorded_calls_pass_both_ways_and_read_as_the_vendors_sdks_read_them() {
    let Some(folder) = shared() else { return };
    let oracle = oracle(&folder);
    let (mut passed, mut judged, mut counted) = (0, 0, 0);
    for exchange in exchanges(&folder) {
        let Exchange { id, request, response } = exchange;
        let (Some(path), Some(body)) = (path(&request.path).filter(|_| request.method == "POST"), request.body) else {
            continue;
        };
        let fields: Value = serde_json::from_str(body.get()).unwrap();
        let in_path = path.rsplit('/').next().and_then(|end| Some(end.split_once(':')?.0.to_owned()));
        let model = in_path.or_else(|| fields["model"].as_str().map(str::to_owned));
        let (Some(model), true) = (model, fields.is_object() && response.bytes().is_some()) else { continue };
        let (sent, answer, record) = pass(&path, &model, body.get(), &response, None).await;
        let expected = String::from_utf8(response.bytes().unwrap().into()).unwrap();
        assert_eq!((answer.status, &answer.body), (response.status, &expected), "{id}");
        assert_eq!(sent, [Bytes::from(body.get().to_owned())], "{id}");
        passed += 1;
        let reading = &oracle[&id];
        let tokens = &reading["usage"]["input"];
        let tokens = if tokens.is_null() { &reading["usage"]["total"] } else { tokens };
        if let Some(tokens) = tokens.as_f64().filter(|_| response.status == 200 && path.contains("embed")) {
            assert_eq!(record["usage"]["input"].as_f64(), Some(tokens), "{id}");
            counted += 1;
        }
        // Packed numbers are not counted.
        let is_packed = fields.get("output_dtype").is_some() || model.starts_with("pplx-");
        if let Some(length) = reading["embeddings"]["dims"].as_u64().filter(|_| !is_packed) {
            let (_, right, _) = pass(&path, &model, body.get(), &response, Some(length)).await;
            assert_eq!(right.status, 200, "{id}: {}", right.body);
            let asks = ["dimensions", "output_dimension"].iter().any(|name| fields[name].is_u64());
            if !asks {
                let (_, wrong, _) = pass(&path, &model, body.get(), &response, Some(length + 1)).await;
                assert_eq!(wrong.status, 502, "{id}");
            }
            judged += 1;
        }
    }
    println!("{passed} calls pass, {judged} lengths and {counted} numbers of tokens as the SDKs read them");
    assert!(passed > 70 && judged > 40 && counted > 30, "{passed}, {judged}, {counted}");
}
