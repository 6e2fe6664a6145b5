//! A provider that keeps objects, by the paths of OpenAI's and of Anthropic's API.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// A provider, which ends when this is dropped.
pub(super) struct Provider {
    pub(super) address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    name: &'static str,
    objects: BTreeMap<String, Value>,
    /// The method and path of each request.
    calls: Vec<String>,
    /// The keys that it was shown.
    keys: Vec<String>,
    is_down: bool,
}

impl Provider {
    /// Starts one, whose ids have this word in them.
    pub(super) async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { name, ..State::default() }));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = shared.clone();
                let service = service_fn(move |request| answer(state.clone(), request));
                // No connection outlives its answer, so that a provider that is gone answers nothing.
                let connection =
                    http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Self { address, state, task }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Answers every request with a 503 from now on, or no longer.
    pub(super) fn set_down(&self, is_down: bool) {
        self.state().is_down = is_down;
    }

    /// Returns the method and path of each request so far.
    pub(super) fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// Returns the keys so far, each once.
    pub(super) fn keys(&self) -> Vec<String> {
        let mut keys = self.state().keys.clone();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Returns the number of bytes in an uploaded file.
    pub(super) fn bytes_of(&self, id: &str) -> u64 {
        self.state().objects[id]["bytes"].as_u64().unwrap()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, mut body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let text = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    {
        let mut state = state.lock().unwrap();
        state.calls.push(format!("{} {}", head.method, head.uri));
        state.keys.extend(text("authorization").or_else(|| text("x-api-key")));
    }
    let is_anthropics = text("x-api-key").is_some();
    let (mut sent, mut length) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        // Broken off: nothing is made.
        let Ok(frame) = frame else { return Ok(error(is_anthropics, StatusCode::BAD_REQUEST, "broken off")) };
        let data = frame.into_data().unwrap_or_default();
        length += data.len() as u64;
        if length < 1 << 20 {
            sent.extend_from_slice(&data);
        }
    }
    let mut state = state.lock().unwrap();
    if state.is_down {
        return Ok(error(is_anthropics, StatusCode::SERVICE_UNAVAILABLE, "down for maintenance"));
    }
    let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
    let (kind, rest) = match &parts[..] {
        ["messages", "batches", rest @ ..] => ("messages/batches", rest),
        [kind, rest @ ..] => (*kind, rest),
        [] => ("", &[][..]),
    };
    let found = match (&head.method, rest) {
        (&Method::POST, []) => state.make(kind, is_anthropics, &sent, length),
        (&Method::GET, []) => {
            let own = |(id, _): &(&String, &Value)| id.starts_with(beginning(kind, is_anthropics));
            let data: Vec<&Value> = state.objects.iter().filter(own).map(|(_, object)| object).collect();
            Some(json!({"object": "list", "data": data, "has_more": false, "first_id": null, "last_id": null}))
        }
        (&Method::DELETE, [id]) => state.objects.remove(*id).map(|_| match is_anthropics {
            true => json!({"id": id, "type": "file_deleted"}),
            false => json!({"id": id, "object": "file", "deleted": true}),
        }),
        (_, [id]) => state.objects.get(*id).cloned(),
        (_, [id, "content"]) if state.objects.contains_key(*id) => {
            return Ok(plain("application/octet-stream", format!("content of {id}")));
        }
        (_, [id, "results"]) if state.objects.contains_key(*id) => {
            let line = json!({"custom_id": "one", "result": {"type": "canceled"}});
            return Ok(plain("application/x-jsonl", format!("{line}\n")));
        }
        (_, [id, _, ..]) => state.objects.get(*id).map(|_| json!({"object": "list", "data": [], "has_more": false})),
        _ => None,
    };
    Ok(match found {
        Some(object) => plain("application/json", object.to_string()),
        None => error(is_anthropics, StatusCode::NOT_FOUND, "no such object"),
    })
}

fn beginning(kind: &str, is_anthropics: bool) -> &'static str {
    match kind {
        "files" if is_anthropics => "file_",
        "files" => "file-",
        "batches" => "batch_",
        "assistants" => "asst_",
        "threads" => "thread_",
        "vector_stores" => "vs_",
        "messages/batches" => "msgbatch_",
        _ => "other_",
    }
}

impl State {
    /// Makes an object. It refuses one that names a file which is not here.
    fn make(&mut self, kind: &str, is_anthropics: bool, sent: &[u8], length: u64) -> Option<Value> {
        let id = format!("{}{}{}", beginning(kind, is_anthropics), self.name, self.objects.len());
        let sent: Value = serde_json::from_slice(sent).unwrap_or_default();
        let output = format!("file-{}out{}", self.name, self.objects.len());
        let object = match kind {
            "files" if is_anthropics => json!({
                "id": id, "type": "file", "filename": "f.txt", "mime_type": "text/plain", "size_bytes": length,
                "created_at": "2026-01-01T00:00:00Z", "downloadable": true, "bytes": length,
            }),
            "files" => json!({
                "id": id, "object": "file", "bytes": length, "created_at": 1, "filename": "f.jsonl",
                "purpose": "batch", "status": "processed",
            }),
            "batches" => {
                let input = sent["input_file_id"].as_str()?;
                self.objects.get(input)?;
                let file = json!({"id": output, "object": "file", "bytes": 7, "created_at": 1, "filename": "o",
                    "purpose": "batch_output", "status": "processed"});
                self.objects.insert(output.clone(), file);
                json!({
                    "id": id, "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": input,
                    "completion_window": "24h", "status": "completed", "output_file_id": output, "created_at": 1,
                })
            }
            "messages/batches" => json!({
                "id": id, "type": "message_batch", "processing_status": "ended", "created_at": "2026-01-01T00:00:00Z",
                "expires_at": "2026-01-02T00:00:00Z", "ended_at": "2026-01-01T00:00:00Z", "archived_at": null,
                "cancel_initiated_at": null,
                "request_counts": {"processing": 0, "succeeded": 1, "errored": 0, "canceled": 0, "expired": 0},
                "results_url": format!("https://api.anthropic.com/v1/messages/batches/{id}/results"),
            }),
            _ => {
                let files = sent["file_ids"].as_array().cloned().unwrap_or_default();
                if !files.iter().all(|file| self.objects.contains_key(file.as_str().unwrap_or_default())) {
                    return None;
                }
                json!({"id": id, "object": kind, "created_at": 1, "metadata": {}, "name": null, "status": "completed"})
            }
        };
        self.objects.insert(id, object.clone());
        Some(object)
    }
}

fn plain(content_type: &str, body: String) -> Response<Full<Bytes>> {
    Response::builder().header("content-type", content_type).body(Full::from(body)).unwrap()
}

fn error(is_anthropics: bool, status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let error = json!({"type": "not_found_error", "message": message});
    let body = if is_anthropics { json!({"type": "error", "error": error}) } else { json!({ "error": error }) };
    let mut response = plain("application/json", body.to_string());
    *response.status_mut() = status;
    response
}
