//! A server on a real port, simulated providers behind it, and a client that speaks raw HTTP.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use steadfast::{
    BoxLlmService, CircuitBreakerLayer, CommitPoint, FallbackLayer, TimeoutLayer,
    providers::{
        Anthropic, Gemini, OpenAi,
        simulated::{Simulated, SimulatedHandle},
    },
};
use steadfast_handoff::Desk;
use steadfast_simulator::SimulatedServer;
use steadfast_stack::{Config, Environment, Format, Stack};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Handle,
    task::JoinHandle,
};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tracing::{
    Dispatch, Subscriber,
    subscriber::{DefaultGuard, set_default},
};

use crate::{
    api::{Catalog, GatewayState, Keys, Routes, router},
    limits::Settings,
};

/// A gateway that listens.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) gateway: Arc<GatewayState>,
    pub(super) task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(service: BoxLlmService, settings: Settings) -> Self {
        Self::with_keys(service, None, settings).await
    }

    pub(super) async fn with_keys(service: BoxLlmService, keys: Option<Keys>, settings: Settings) -> Self {
        let catalog = Catalog::Listed(Arc::new(["claude-sonnet-4-5".into(), "gpt-4o".into()]));
        Self::of(GatewayState::new(service, catalog, keys, settings)).await
    }

    /// Starts a gateway that can be operated.
    pub(super) async fn with_stack(stack: &Stack, keys: Option<Keys>, settings: Settings) -> Self {
        Self::of(GatewayState::new(stack.service(), Catalog::Stack(stack.handle()), keys, settings)).await
    }

    /// Starts a gateway that hands requests to people at this desk.
    pub(super) async fn with_desk(service: BoxLlmService, desk: &Desk, keys: Option<Keys>) -> Self {
        let catalog = Catalog::Listed(Arc::new(["claude-sonnet-4-5".into(), "gpt-4o".into()]));
        let mut gateway = GatewayState::new(service, catalog, keys, Settings::default());
        gateway.desk = Some(desk.clone());
        Self::of(gateway).await
    }

    pub(super) async fn of(gateway: GatewayState) -> Self {
        let gateway = Arc::new(gateway);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Handle::current();
        let routes = Routes::new(gateway.clone(), router(gateway.clone()));
        let (lifecycle, calls_out) = (gateway.lifecycle.clone(), gateway.catalog.calls_out());
        let serving = crate::http::serve(listener, routes, lifecycle, calls_out, requests);
        Self { address, gateway, task: tokio::spawn(serving) }
    }

    pub(super) async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap(), left: Vec::new() }
    }

    /// Sends a request: on a connection of its own, or through the service.
    pub(super) async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        if let Some(service) = self.service() {
            let (path, body) = (&*addressed(path, body), spelled(path, body));
            return through(service, "POST", path, &typed(path, headers), body.to_string()).await;
        }
        let mut client = self.connect().await;
        client.post(path, headers, body).await;
        client.answer().await
    }

    pub(super) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        if let Some(service) = self.service() {
            return through(service, "GET", path, headers, String::new()).await;
        }
        let mut client = self.connect().await;
        client.send(&request("GET", path, headers, b"")).await;
        client.answer().await
    }

    /// Returns the gateway without its socket, if these tests are to go through it: with
    /// `STEADFAST_TEST_GATEWAY=service`.
    fn service(&self) -> Option<crate::Gateway> {
        let by_service = std::env::var_os("STEADFAST_TEST_GATEWAY").is_some_and(|way| way == "service");
        by_service.then(|| crate::Gateway::over(self.gateway.clone()))
    }
}

/// Makes a subscriber this thread's, until both are dropped.
///
/// With one subscriber alone tracing asks the thread that meets a line first, which may be another test's, and drops
/// the line for all. A second one makes it ask both.
pub(super) fn log_to(subscriber: impl Subscriber + Send + Sync) -> (Dispatch, DefaultGuard) {
    let second = Dispatch::new(tracing_subscriber::registry());
    (second, set_default(subscriber))
}

/// Sends a request through the service.
pub(super) async fn through(
    service: crate::Gateway,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: String,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("host", "gateway");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    // A socket gives other tasks their turn, and tests wait for them.
    tokio::task::yield_now().await;
    let response = service.oneshot(request.body(Full::<Bytes>::from(body)).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    // A body that breaks is the bytes until then, as over a socket.
    let mut bytes = Vec::new();
    let mut body = std::pin::pin!(body);
    while let Some(Ok(frame)) = body.frame().await {
        bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    Answer { status: head.status.as_u16(), headers: head.headers, body: String::from_utf8(bytes).unwrap() }
}

/// The headers of a request with JSON, as a client of the path's API sends them.
pub(super) fn typed<'a>(path: &str, headers: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut all = vec![("content-type", "application/json")];
    if path.starts_with(MESSAGES) {
        all.push(("anthropic-version", "2023-06-01"));
    }
    all.extend(headers);
    all
}

/// The entry of a key in a file of keys, with what else may stand in one.
pub(super) fn entry(name: &str, key: &str, more: &str) -> String {
    let hash: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("  - {{ name: {name}, hash: 'sha256:{hash}'{more} }}\n")
}

/// The keys of these entries, out of a file that is gone when they are read.
pub(super) fn keys_of(entries: &[String]) -> Keys {
    static FILES: AtomicUsize = AtomicUsize::new(0);
    let (process, number) = (std::process::id(), FILES.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(format!("steadfast-keys-{process}-{number}.yaml"));
    std::fs::write(&path, format!("keys:\n{}", entries.concat())).unwrap();
    let keys = Keys::load(&path);
    std::fs::remove_file(path).unwrap();
    keys.unwrap_or_else(|_| panic!("good keys"))
}

/// Providers over real HTTP, one of each protocol, and a stack of two.
pub(super) struct Providers {
    pub(super) anthropic: SimulatedServer,
    pub(super) openai: SimulatedServer,
    pub(super) gemini: SimulatedServer,
    commit: CommitPoint,
}

impl Providers {
    pub(super) async fn start() -> Self {
        Self::saying("Hello from afar").await
    }

    pub(super) async fn saying(words: &str) -> Self {
        Self {
            anthropic: SimulatedServer::start(Simulated::new("a").reply(words)).await.unwrap(),
            openai: SimulatedServer::start(Simulated::new("o").reply(words)).await.unwrap(),
            gemini: SimulatedServer::start(Simulated::new("g").reply(words)).await.unwrap(),
            commit: CommitPoint::default(),
        }
    }

    pub(super) fn commit(mut self, point: CommitPoint) -> Self {
        self.commit = point;
        self
    }

    /// Anthropic alone.
    pub(super) fn claude(&self) -> BoxLlmService {
        let leaf = Anthropic::new("sk-of-the-gateway").base_url(&self.anthropic.base_url()).unwrap();
        BoxLlmService::new(leaf.model("claude-sonnet-4-5").commit(self.commit))
    }

    /// OpenAI alone.
    pub(super) fn gpt(&self) -> BoxLlmService {
        let leaf = OpenAi::new("sk-of-the-gateway").base_url(&format!("{}/v1", self.openai.base_url())).unwrap();
        BoxLlmService::new(leaf.model("gpt-4o").commit(self.commit))
    }

    /// Gemini alone.
    pub(super) fn google(&self) -> BoxLlmService {
        let leaf = Gemini::new("sk-of-the-gateway").base_url(&self.gemini.base_url()).unwrap();
        BoxLlmService::new(leaf.model("gemini-2.5-flash").commit(self.commit))
    }

    /// Anthropic, and OpenAI when that fails.
    pub(super) fn both(&self) -> BoxLlmService {
        let stack = ServiceBuilder::new()
            .layer(TimeoutLayer::new(Duration::from_secs(20)))
            .layer(FallbackLayer::new("sonnet").tier("backup", self.gpt()))
            .layer(CircuitBreakerLayer::new("sonnet"))
            .service(self.claude());
        BoxLlmService::new(stack)
    }

    pub(super) fn of(&self, path: &str) -> (BoxLlmService, SimulatedHandle) {
        match path {
            MESSAGES => (self.claude(), self.anthropic.handle()),
            GEMINI => (self.google(), self.gemini.handle()),
            _ => (self.gpt(), self.openai.handle()),
        }
    }
}

pub(super) const MESSAGES: &str = "/v1/messages";
pub(super) const CHAT: &str = "/v1/chat/completions";
pub(super) const RESPONSES: &str = "/v1/responses";
/// Gemini's path names the model and the method: see [`addressed`].
pub(super) const GEMINI: &str = "/v1beta/models/{model}:generateContent";
/// All protocols, for tests that must hold for each.
pub(super) const PATHS: [&str; 4] = [MESSAGES, CHAT, RESPONSES, GEMINI];

/// The type of a mistake in a request to this path.
pub(super) fn invalid(path: &str) -> &'static str {
    if path == GEMINI { "INVALID_ARGUMENT" } else { "invalid_request_error" }
}

/// Returns the status of a path's protocol: Google's has one for all mistakes in a request.
pub(super) fn mistake(path: &str, status: u16) -> u16 {
    if path == GEMINI { 400 } else { status }
}

/// Returns the path of a request: Gemini's names the model, and whether to stream.
pub(super) fn addressed(path: &str, body: &Value) -> String {
    if path != GEMINI {
        return path.to_owned();
    }
    let model = body["model"].as_str().unwrap_or("claude-of-the-caller");
    let method = if body["stream"] == true { "streamGenerateContent?alt=sse" } else { "generateContent" };
    format!("/v1beta/models/{model}:{method}")
}

/// Returns a request of the other protocols as the path's spells it.
pub(super) fn spelled(path: &str, body: &Value) -> Value {
    let mut body = body.clone();
    if path == GEMINI
        && let Some(fields) = body.as_object_mut()
    {
        fields.remove("model");
        fields.remove("stream");
        if let Some(tokens) = fields.remove("max_tokens") {
            fields.insert("generationConfig".to_owned(), json!({"maxOutputTokens": tokens}));
        }
        if let Some(Value::Array(messages)) = fields.remove("messages") {
            fields.insert("contents".to_owned(), messages.iter().map(content).collect());
        }
    }
    if RESPONSES.ends_with(path.split('?').next().unwrap_or_default())
        && let Some(fields) = body.as_object_mut()
    {
        for (other, own) in [("messages", "input"), ("max_tokens", "max_output_tokens")] {
            if let Some(value) = fields.remove(other) {
                fields.insert(own.to_owned(), value);
            }
        }
    }
    body
}

/// Returns a turn as Gemini's protocol has it.
fn content(message: &Value) -> Value {
    let role = if message["role"] == "assistant" { "model" } else { "user" };
    let parts = match &message["content"] {
        Value::Array(parts) => parts.clone(),
        text => vec![json!({ "text": text })],
    };
    json!({"role": role, "parts": parts})
}

/// A request that every protocol takes, as [`spelled`]. Its model is no tier's, so that it begins at the first of them.
pub(super) fn hello(stream: bool) -> Value {
    json!({
        "model": "claude-of-the-caller",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "hello"}],
        "stream": stream,
    })
}

pub(super) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: gateway\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if method != "GET" && method != "HEAD" {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    [text.as_bytes(), body].concat()
}

/// A connection to the gateway.
pub(super) struct Client {
    pub(super) stream: TcpStream,
    left: Vec<u8>,
}

impl Client {
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(super) async fn post(&mut self, path: &str, headers: &[(&str, &str)], body: &Value) {
        let (path, body) = (&*addressed(path, body), spelled(path, body));
        self.send(&request("POST", path, &typed(path, headers), body.to_string().as_bytes())).await;
    }

    /// Reads until what was read holds this text.
    pub(super) async fn until(&mut self, text: &str) -> String {
        loop {
            let read = String::from_utf8_lossy(&self.left).into_owned();
            if read.contains(text) {
                return read;
            }
            assert!(self.more().await, "the connection ended before {text:?}; until then: {read}");
        }
    }

    /// Sends bytes and reads the start of an answer; `None` unless its status is 200.
    pub(super) async fn until_or_closed(mut self, bytes: &[u8]) -> Option<()> {
        // A server that turns callers away may close before they have sent anything.
        self.stream.write_all(bytes).await.ok()?;
        (self.more().await && self.left.starts_with(b"HTTP/1.1 200")).then_some(())
    }

    /// Reads until the server closes.
    pub(super) async fn rest(mut self) -> String {
        while self.more().await {}
        String::from_utf8_lossy(&self.left).into_owned()
    }

    /// Reads a whole response.
    pub(super) async fn answer(&mut self) -> Answer {
        let head_end = loop {
            if let Some(at) = self.left.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.more().await, "no whole head: {}", String::from_utf8_lossy(&self.left));
        };
        let head = String::from_utf8(self.left.drain(..head_end).collect()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: http::HeaderMap = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect();
        let mut body = Vec::new();
        if headers.get("transfer-encoding").is_some() {
            loop {
                let line_end = loop {
                    if let Some(at) = self.left.windows(2).position(|two| two == b"\r\n") {
                        break at;
                    }
                    assert!(self.more().await, "a chunk broke off");
                };
                let size = usize::from_str_radix(std::str::from_utf8(&self.left[..line_end]).unwrap(), 16).unwrap();
                while self.left.len() < line_end + 2 + size + 2 {
                    assert!(self.more().await, "a chunk broke off");
                }
                body.extend_from_slice(&self.left[line_end + 2..line_end + 2 + size]);
                self.left.drain(..line_end + 2 + size + 2);
                if size == 0 {
                    break;
                }
            }
        } else {
            let length = headers.get("content-length").map_or(0, |length| length.to_str().unwrap().parse().unwrap());
            while self.left.len() < length {
                assert!(self.more().await, "the body broke off");
            }
            body = self.left.drain(..length).collect();
        }
        Answer { status, headers, body: String::from_utf8(body).unwrap() }
    }

    async fn more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer).await {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.left.extend_from_slice(&buffer[..read]);
                true
            }
        }
    }
}

/// A whole response.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: http::HeaderMap,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The text of a whole answer, or of a streamed one, in either dialect.
    pub(super) fn text(&self) -> String {
        if self.body.starts_with('{') {
            let json = self.json();
            let text = json["content"][0]["text"].as_str();
            let text = text.or_else(|| json["choices"][0]["message"]["content"].as_str());
            let message = || json["output"].as_array()?.iter().find(|item| item["type"] == "message");
            let text = text.or_else(|| message()?["content"][0]["text"].as_str());
            let text = text.or_else(|| json["candidates"][0]["content"]["parts"][0]["text"].as_str());
            return text.unwrap_or_default().to_owned();
        }
        let deltas = self.events().into_iter().filter_map(|event| {
            let text = event["delta"]["text"].as_str();
            let text = text.or_else(|| event["choices"][0]["delta"]["content"].as_str());
            let is_text = event["type"] == "response.output_text.delta";
            let text = text.or_else(|| event["delta"].as_str().filter(|_| is_text));
            let text = text.or_else(|| event["candidates"][0]["content"]["parts"][0]["text"].as_str());
            text.map(str::to_owned)
        });
        deltas.collect()
    }

    /// The data of a stream's events.
    pub(super) fn events(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    /// The type of an error, or its status in Google's words.
    pub(super) fn error_type(&self) -> String {
        let error = &self.json()["error"];
        error["type"].as_str().or_else(|| error["status"].as_str()).unwrap_or_default().to_owned()
    }

    /// The error in a stream's last event.
    pub(super) fn error_event(&self) -> Value {
        let last = self.events().pop().expect("an event");
        if last["type"] == "response.failed" { last["response"]["error"].clone() } else { last["error"].clone() }
    }

    /// Returns whether a stream ended with its dialect's end mark. Gemini's is a reason with no error behind it.
    pub(super) fn is_whole(&self) -> bool {
        let ends = ["event: message_stop", "event: response.completed", "\"finishReason\":"];
        let has_end = self.body.contains("data: {") && ends.iter().any(|end| self.body.contains(end));
        let has_end = has_end && !self.body.contains("data: {\"error\"");
        has_end || self.body.trim_end().ends_with("data: [DONE]")
    }
}

/// A provider of Anthropic's dialect that answers one request with these bytes, and what it was sent.
pub(super) async fn raw_provider(body: &'static str) -> (BoxLlmService, JoinHandle<String>) {
    raw_provider_of("application/json", body).await
}

pub(super) async fn raw_provider_of(content_type: &str, body: &'static str) -> (BoxLlmService, JoinHandle<String>) {
    let (url, seen) = raw_server(content_type, body).await;
    let leaf = Anthropic::new("sk-of-the-gateway").base_url(&url).unwrap().model("claude-sonnet-4-5");
    (BoxLlmService::new(leaf), seen)
}

/// The address of a server that answers one request with these bytes, and what it was sent.
pub(super) async fn raw_server(content_type: &str, body: &'static str) -> (String, JoinHandle<String>) {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\nrequest-id: req_raw\r\n\
         anthropic-ratelimit-requests-remaining: 41\r\nset-cookie: edge=1\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut client = Client { stream, left: Vec::new() };
        let head_sent = client.until("\r\n\r\n").await;
        let length = head_sent.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let whole = head_sent.find("\r\n\r\n").unwrap() + 4 + length.parse::<usize>().unwrap();
        while client.left.len() < whole {
            assert!(client.more().await);
        }
        client.send(head.as_bytes()).await;
        client.send(body.as_bytes()).await;
        String::from_utf8(client.left).unwrap()
    });
    (url, seen)
}

/// The address and the body of each request that a provider was sent.
pub(super) type Sent = Arc<Mutex<Vec<(String, Bytes)>>>;

/// A stack of this file whose providers give these answers one after the other, and then the last one.
pub(super) fn scripted(config: &str, answers: &[(u16, &'static str)]) -> (Stack, Sent) {
    let (sent, mut answers) = (Sent::default(), answers.to_vec());
    let last = answers.pop().unwrap();
    let answers = Arc::new(Mutex::new(answers.into_iter()));
    let noted = sent.clone();
    let transport = service_fn(move |request: Request<Full<Bytes>>| {
        let (noted, answers) = (noted.clone(), answers.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            noted.lock().unwrap().push((head.uri.to_string(), body));
            let (status, body) = answers.lock().unwrap().next().unwrap_or(last);
            let answer = Response::builder().status(status).header("content-type", "application/json");
            let answer = if status == 429 { answer.header("retry-after", "5") } else { answer };
            Ok::<_, Infallible>(answer.body(Full::from(body)).unwrap())
        }
    });
    let keys = ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "OTHER_KEY"].map(|name| (name, "a-key"));
    let stack = Stack::builder().environment(keys.into_iter().collect::<Environment>()).transport(transport).seed(5);
    (stack.build(Config::from_str(config, Format::Yaml).unwrap()).unwrap(), sent)
}
