//! Recorded exchanges with real providers: the folder, its files, and what they say.
//!
//! They are not part of the repository: they are read from the folder that `STEADFAST_FIXTURES` names, or from
//! `../shared/fixtures` and `../shared/fixtures2`.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use steadfast::{Dialect, LlmRequest, Wire};

/// One recorded exchange.
pub(crate) struct Exchange {
    pub(crate) id: String,
    /// Its kind in the collection, such as `azure`, or the provider's name without one.
    pub(crate) kind: String,
    pub(crate) provider: String,
    /// The server that answered.
    pub(crate) server: String,
    pub(crate) dialect: Dialect,
    /// True if the client asked for a stream.
    pub(crate) stream: bool,
    /// The model that the path names (Gemini) or the body.
    pub(crate) model: String,
    pub(crate) request: Request,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The bytes of the answer.
    pub(crate) body: Bytes,
    /// True if the answer is an event stream.
    pub(crate) is_sse: bool,
}

pub(crate) struct Request {
    /// Its path and query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    /// The bytes of the body, spelled as in the recording; `None` where only the answer was recorded.
    pub(crate) body: Option<Bytes>,
}

#[derive(Deserialize)]
struct Record<'a> {
    id: String,
    kind: Option<String>,
    provider: String,
    /// The last part of the endpoint.
    #[serde(default)]
    api: Option<String>,
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
    body_base64: Option<String>,
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

/// An exchange of a protocol that the crate does not speak, with its kind in the collection.
pub(crate) struct Foreign {
    pub(crate) id: String,
    pub(crate) kind: String,
}

/// The dialect of an exchange; `None` where the crate has none for it.
fn dialect(provider: &str, api: Option<&str>) -> Option<Dialect> {
    let (dialect, apis): (_, &[&str]) = match provider {
        "anthropic" => (Dialect::Anthropic, &["messages", "rawPredict", "streamRawPredict"]),
        "gemini" => (Dialect::Gemini, &["generateContent", "streamGenerateContent"]),
        // A stored response comes back in the form of an answer.
        "openai-responses" => (Dialect::Responses, &["responses", "responses.id"]),
        "openai" | "openai-compatible" => (Dialect::OpenAi, &["chat.completions"]),
        _ => return None,
    };
    api.is_none_or(|api| apis.contains(&api)).then_some(dialect)
}

/// The dialect of an exchange at Bedrock by `InvokeModel`, which has Claude's.
fn at_bedrock(provider: &str, api: Option<&str>) -> Option<Dialect> {
    let is_invoke = provider == "bedrock" && matches!(api, Some("invoke" | "invoke-with-response-stream"));
    is_invoke.then_some(Dialect::Anthropic)
}

/// Decodes base64 with its padding.
pub(crate) fn base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut bytes, mut held, mut bits) = (Vec::with_capacity(text.len() * 3 / 4), 0_u32, 0);
    for digit in text.bytes().filter_map(digit) {
        (held, bits) = (held << 6 | u32::from(digit), bits + 6);
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    bytes
}

impl Exchange {
    fn read(text: &[u8], dialect: fn(&str, Option<&str>) -> Option<Dialect>) -> Result<Result<Self, Foreign>, String> {
        let record: Record<'_> =
            serde_json::from_slice(text).map_err(|error| format!("{}: this is no recording: {error}", error.line()))?;
        let kind = record.kind.clone().unwrap_or_else(|| record.provider.clone());
        let Some(dialect) = dialect(&record.provider, record.api.as_deref()) else {
            return Ok(Err(Foreign { id: record.id, kind }));
        };
        let request = Request {
            path: record.request.path.clone(),
            headers: headers(&record.request.headers),
            body: bytes(record.request.body),
        };
        let in_body = request.body.as_ref().and_then(|body| serde_json::from_slice::<Value>(body).ok());
        let in_body = in_body.as_ref().and_then(|body| body["model"].as_str());
        let path = record.request.path.split('?').next().unwrap_or_default();
        let in_path = path.rsplit_once(':').and_then(|(name, _)| name.split_once("models/")).map(|(_, name)| name);
        let model = match dialect {
            Dialect::Gemini => in_path.or(in_body),
            _ => in_body.or(in_path),
        };
        let status = StatusCode::from_u16(record.response.status)
            .map_err(|_| format!("1: {} is no status of HTTP", record.response.status))?;
        let is_sse = record.response.sse.is_some();
        let is_binary = record.response.body_base64.is_some();
        let binary = record.response.body_base64.map(|text| base64(&text).into());
        let body = record.response.sse.map(Bytes::from).or_else(|| bytes(record.response.body)).or(binary);
        let body = body.unwrap_or_default();
        let mut headers = headers(&record.response.headers);
        // Recorders drop headers, a server does not.
        headers.entry("content-type").or_insert(HeaderValue::from_static(match body.trim_ascii_start().first() {
            _ if is_sse => "text/event-stream",
            _ if is_binary => "application/vnd.amazon.eventstream",
            Some(b'<') => "text/html",
            _ => "application/json",
        }));
        Ok(Ok(Self {
            id: record.id,
            kind,
            server: record.source.server.unwrap_or_else(|| record.provider.clone()),
            provider: record.provider,
            dialect,
            stream: record.stream,
            model: model.unwrap_or("unrecorded").to_owned(),
            request,
            status,
            headers,
            body,
            is_sse,
        }))
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

/// The content of a folder.
#[derive(Default)]
pub(crate) struct Recordings {
    /// The exchanges that the crate can make, by the names of their files.
    pub(crate) exchanges: Vec<Exchange>,
    /// The exchanges that it has no dialect for.
    pub(crate) foreign: Vec<Foreign>,
}

impl Recordings {
    /// Reads all that is below a folder. The error names the file, and the line where it is wrong.
    pub(crate) fn read(folder: &Path) -> Result<Self, String> {
        Self::read_as(folder, dialect)
    }

    /// Reads the exchanges by Bedrock's `InvokeModel`; all others are foreign.
    pub(crate) fn at_bedrock(folder: &Path) -> Result<Self, String> {
        Self::read_as(folder, at_bedrock)
    }

    fn read_as(folder: &Path, dialect: fn(&str, Option<&str>) -> Option<Dialect>) -> Result<Self, String> {
        let mut files = Vec::new();
        // Not by the index, so that a folder without one will do.
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            for entry in entries.flatten() {
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
        let mut read = Self::default();
        for file in files {
            let wrong = |error: String| format!("{}:{error}", file.display());
            let text = std::fs::read(&file).map_err(|error| wrong(format!(" {error}")))?;
            match Exchange::read(&text, dialect).map_err(wrong)? {
                Ok(exchange) => read.exchanges.push(exchange),
                Err(foreign) => read.foreign.push(foreign),
            }
        }
        Ok(read)
    }
}

/// The folders to read: the one that `STEADFAST_FIXTURES` names, or those that are beside the repository.
pub(crate) fn folders() -> Vec<PathBuf> {
    if let Some(folder) = std::env::var_os("STEADFAST_FIXTURES") {
        return vec![folder.into()];
    }
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let shared = above.map(|folder| folder.join("shared")).find(|shared| shared.join("fixtures").is_dir());
    shared.map_or_else(Vec::new, |shared| ["fixtures", "fixtures2"].map(|name| shared.join(name)).into())
}

/// All recordings below the first folder that the crate has a dialect for, by name; `None`, and a line that says so,
/// where there are none.
pub(crate) fn recordings() -> Option<Vec<Exchange>> {
    let Some(folder) = folders().into_iter().next() else {
        println!("skipped: no recordings beside the repository");
        return None;
    };
    let read = Recordings::read(&folder).unwrap_or_else(|error| panic!("{error}"));
    if read.exchanges.is_empty() {
        println!("skipped: no recordings in {}", folder.display());
        return None;
    }
    Some(read.exchanges)
}
