//! Recorded exchanges with real providers: the folder, its files, and what they say.
//!
//! They are not part of the repository: they are read from `STEADFAST_FIXTURES`, or from `../shared/fixtures`.

use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use steadfast::{Dialect, LlmRequest, Wire};

/// One recorded exchange.
pub(crate) struct Exchange {
    pub(crate) id: String,
    pub(crate) provider: String,
    /// Which server answered.
    pub(crate) server: String,
    pub(crate) dialect: Dialect,
    /// Whether the client asked for a stream.
    pub(crate) stream: bool,
    /// The model that the path names (Gemini) or the body.
    pub(crate) model: String,
    pub(crate) request: Request,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The bytes of the answer.
    pub(crate) body: Bytes,
    /// Whether the answer is an event stream.
    pub(crate) is_sse: bool,
}

pub(crate) struct Request {
    pub(crate) headers: HeaderMap,
    /// The bytes of the body, spelled as in the recording; `None` where only the answer was recorded.
    pub(crate) body: Option<Bytes>,
}

#[derive(Deserialize)]
struct Record<'a> {
    id: String,
    provider: String,
    stream: bool,
    source: Source,
    #[serde(borrow)]
    request: RecordedRequest<'a>,
    #[serde(borrow)]
    response: RecordedResponse<'a>,
}

#[derive(Deserialize)]
struct Source {
    #[serde(default)]
    server: Option<String>,
}

#[derive(Deserialize)]
struct RecordedRequest<'a> {
    path: String,
    #[serde(default)]
    headers: Value,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RecordedResponse<'a> {
    status: u16,
    #[serde(default)]
    headers: Value,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    sse: Option<String>,
}

/// The bytes of a body: of JSON as it is spelled, of a text the text.
fn bytes(raw: Option<&RawValue>) -> Option<Bytes> {
    let raw = raw.filter(|raw| raw.get() != "null")?.get();
    Some(match serde_json::from_str::<String>(raw) {
        Ok(text) => text.into(),
        Err(_) => raw.to_owned().into(),
    })
}

fn headers(recorded: &Value) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in recorded.as_object().into_iter().flatten() {
        let (Ok(name), Some(value)) = (name.parse::<HeaderName>(), value.as_str()) else { continue };
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    headers
}

impl Exchange {
    fn read(text: &[u8]) -> Self {
        let record: Record<'_> = serde_json::from_slice(text).expect("a recording is JSON");
        let dialect = match record.provider.as_str() {
            "anthropic" => Dialect::Anthropic,
            "gemini" => Dialect::Gemini,
            _ => Dialect::OpenAi,
        };
        let request = Request { headers: headers(&record.request.headers), body: bytes(record.request.body) };
        let in_body = request.body.as_ref().and_then(|body| serde_json::from_slice::<Value>(body).ok());
        let in_body = in_body.as_ref().and_then(|body| body["model"].as_str());
        let path = record.request.path.split('?').next().unwrap_or_default();
        let in_path = path.rsplit_once(':').and_then(|(name, _)| name.split_once("models/")).map(|(_, name)| name);
        let model = match dialect {
            Dialect::Gemini => in_path.or(in_body),
            _ => in_body,
        };
        let is_sse = record.response.sse.is_some();
        let body = record.response.sse.map(Bytes::from).or_else(|| bytes(record.response.body)).unwrap_or_default();
        let mut headers = headers(&record.response.headers);
        // Recorders drop headers, a server does not.
        headers.entry("content-type").or_insert(HeaderValue::from_static(match body.trim_ascii_start().first() {
            _ if is_sse => "text/event-stream",
            Some(b'<') => "text/html",
            _ => "application/json",
        }));
        Self {
            id: record.id,
            server: record.source.server.unwrap_or_else(|| record.provider.clone()),
            provider: record.provider,
            dialect,
            stream: record.stream,
            model: model.unwrap_or("unrecorded").to_owned(),
            request,
            status: StatusCode::from_u16(record.response.status).expect("a status"),
            headers,
            body,
            is_sse,
        }
    }

    /// The recorded request, in its own bytes; `None` where it was not recorded, or is no request at all.
    pub(crate) fn wire(&self) -> Option<Wire> {
        let body = self.request.body.clone()?;
        let mut wire = Wire::new(self.dialect, body).ok()?;
        if self.dialect == Dialect::Gemini {
            wire = wire.path(self.model.as_str(), self.stream);
        }
        Some(wire.headers(self.request.headers.clone()))
    }

    /// The request to send: the recorded one, or any, where it was not recorded.
    pub(crate) fn request(&self) -> LlmRequest {
        match self.wire() {
            Some(wire) => wire.into(),
            None => steadfast::Chat::new([steadfast::chat::Message::user("hello")])
                .model(self.model.as_str())
                .stream(self.stream)
                .into(),
        }
    }
}

/// All recordings below the folder, by name; `None`, and a line that says so, where there are none.
pub(crate) fn recordings() -> Option<Vec<Exchange>> {
    let folder = std::env::var_os("STEADFAST_FIXTURES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"), PathBuf::from);
    let mut files = Vec::new();
    // Not by the index, so that a folder without one will do.
    let mut folders = vec![folder.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                files.push(path);
            }
        }
    }
    files.retain(|file| file.file_name().is_some_and(|name| name != "index.json"));
    files.sort();
    if files.is_empty() {
        println!("skipped: no recordings in {}", folder.display());
        return None;
    }
    let read = |file| Exchange::read(&std::fs::read(file).expect("it was listed"));
    Some(files.iter().map(read).collect())
}
