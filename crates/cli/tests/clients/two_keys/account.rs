//! An account of both protocols' provider: it keeps objects, and reads each file that a conversation names.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

pub(super) struct Account {
    pub(super) address: SocketAddr,
    task: JoinHandle<()>,
}

/// The objects in the order of their making, which is that of lists.
#[derive(Default)]
struct State {
    objects: Vec<Object>,
    random: fastrand::Rng,
}

#[derive(Clone)]
struct Object {
    kind: &'static str,
    id: String,
    content: String,
}

/// The kinds by their paths and the beginnings of their ids.
const KINDS: [(&str, &str); 9] = [
    ("files", "file-"),
    ("messages/batches", "msgbatch_"),
    ("uploads", "upload_"),
    ("batches", "batch_"),
    ("assistants", "asst_"),
    ("threads", "thread_"),
    ("vector_stores", "vs_"),
    ("fine_tuning/jobs", "ftjob-"),
    ("containers", "cntr_"),
];

impl Account {
    pub(super) async fn start(seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { random: fastrand::Rng::with_seed(seed), ..State::default() }));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = state.clone();
                let service = service_fn(move |request| answer(state.clone(), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, task }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let is_anthropics = head.headers.contains_key("x-api-key");
    let sent = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let sent = String::from_utf8_lossy(&sent).into_owned();
    let path = head.uri.path().trim_start_matches("/v1/").to_owned();
    let query = head.uri.query().unwrap_or_default();
    let mut state = state.lock().unwrap();
    let found = match KINDS.iter().find(|(kind, _)| path == *kind || path.starts_with(&format!("{kind}/"))) {
        Some((kind, beginning)) => {
            let rest = path[kind.len()..].trim_start_matches('/');
            let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
            state.objects_at(&head.method, (kind, beginning), &parts, query, &sent)
        }
        None => state.conversation(&path, &sent),
    };
    let (status, body) = found.unwrap_or_else(|| {
        let error = json!({"type": "not_found_error", "message": "no such object"});
        let error = if is_anthropics { json!({"type": "error", "error": error}) } else { json!({ "error": error }) };
        (StatusCode::NOT_FOUND, error.to_string())
    });
    let response = Response::builder().status(status).header("content-type", "application/json");
    Ok(response.body(Full::from(body)).unwrap())
}

type Found = Option<(StatusCode, String)>;

fn of(value: &Value) -> Found {
    Some((StatusCode::OK, value.to_string()))
}

impl State {
    fn id(&mut self, beginning: &str) -> String {
        beginning.chars().chain((0..20).map(|_| self.random.alphanumeric())).collect()
    }

    /// Returns the objects that a text names; `None` if one is not here.
    fn named(&self, text: &str) -> Option<Vec<Object>> {
        let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_')));
        let is_id = |word: &&str| {
            let beginnings = KINDS.iter().map(|(_, beginning)| *beginning).chain(["resp_"]);
            beginnings.into_iter().any(|beginning| word.len() == beginning.len() + 20 && word.starts_with(beginning))
        };
        words.filter(is_id).map(|id| self.objects.iter().find(|object| object.id == id).cloned()).collect()
    }

    fn objects_at(
        &mut self,
        method: &Method,
        (kind, beginning): (&'static str, &str),
        parts: &[&str],
        query: &str,
        sent: &str,
    ) -> Found {
        let shown = |object: &Object| json!({"id": object.id, "object": object.kind, "content": object.content});
        self.named(&parts.join("/"))?;
        match (method, parts) {
            (&Method::POST, []) => {
                self.named(sent)?;
                let content = match sent.split_once("secret of ") {
                    Some((_, content)) => content.lines().next().unwrap_or_default().to_owned(),
                    None => String::new(),
                };
                let object = Object { kind, id: self.id(beginning), content };
                let value = shown(&object);
                self.objects.push(object);
                of(&value)
            }
            (&Method::GET, []) => {
                let parameters: BTreeMap<&str, &str> = query.split('&').filter_map(|one| one.split_once('=')).collect();
                let after = parameters.get("after").or_else(|| parameters.get("after_id"));
                let limit = parameters.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(20);
                let all: Vec<&Object> = self.objects.iter().filter(|object| object.kind == kind).collect();
                let begin = match after {
                    Some(after) => all.iter().position(|object| object.id == **after)? + 1,
                    None => 0,
                };
                let page: Vec<Value> = all[begin..].iter().take(limit).map(|object| shown(object)).collect();
                let has_more = all.len() > begin + page.len();
                let id = |object: Option<&Value>| object.map_or(Value::Null, |object| object["id"].clone());
                let (first, last) = (id(page.first()), id(page.last()));
                of(&json!({
                    "object": "list", "data": page, "has_more": has_more, "first_id": first, "last_id": last,
                }))
            }
            (&Method::DELETE, [id]) => {
                self.objects.retain(|object| object.id != *id);
                of(&json!({"id": id, "deleted": true}))
            }
            (_, [id]) => of(&shown(self.objects.iter().find(|object| object.id == *id)?)),
            (_, [id, "content" | "results"]) => {
                let object = self.objects.iter().find(|object| object.id == *id)?;
                Some((StatusCode::OK, object.content.clone()))
            }
            (_, [_, part, ..]) => {
                let named = self.named(sent)?;
                of(&json!({"object": part, "named": named.iter().map(|object| &object.id).collect::<Vec<_>>()}))
            }
            _ => None,
        }
    }

    /// Answers with what it has read.
    fn conversation(&mut self, path: &str, sent: &str) -> Found {
        let named = self.named(sent)?;
        let read: Vec<&str> = named.iter().map(|object| object.content.as_str()).collect();
        let words = format!("{} bytes; read: {}", sent.len(), read.join(", "));
        let usage = json!({"input_tokens": 5, "output_tokens": 3, "prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8});
        match path {
            "chat/completions" => {
                let message = json!({"role": "assistant", "content": words});
                let id = self.id("chatcmpl-");
                of(&json!({"id": id, "object": "chat.completion", "created": 1, "model": "gpt-4o",
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}))
            }
            "responses" => {
                let id = self.id("resp_");
                self.objects.push(Object { kind: "responses", id: id.clone(), content: words.clone() });
                let message = json!({"type": "message", "id": self.id("msg_"), "status": "completed",
                    "role": "assistant", "content": [{"type": "output_text", "text": words, "annotations": []}]});
                of(&json!({"id": id, "object": "response", "created_at": 1, "model": "gpt-4o",
                    "status": "completed", "output": [message], "usage": usage}))
            }
            "messages" => {
                let id = self.id("msg_");
                of(&json!({"id": id, "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
                    "content": [{"type": "text", "text": words}], "stop_reason": "end_turn", "stop_sequence": null,
                    "usage": {"input_tokens": 5, "output_tokens": 3}}))
            }
            "embeddings" => of(&json!({"object": "list", "model": "small",
                "data": [{"object": "embedding", "index": 0, "embedding": [1.0, 2.0]}], "usage": usage})),
            "images/generations" => of(&json!({"created": 1, "data": [{"b64_json": "aGVsbG8="}]})),
            _ => None,
        }
    }
}
