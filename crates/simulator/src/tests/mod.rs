//! Over real sockets on loopback; driven by the provider's counts, not by waiting.

mod clouds;
mod connections;
mod protocols;
mod recorded;
mod responses;

use std::future::Future;

use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::*;
use steadfast::providers::simulated::{Fault, RateLimit};

const MESSAGES: &str = "/v1/messages";
const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const GENERATE: &str = "/v1beta/models/gemini-2.5-flash:generateContent";
const GENERATE_STREAM: &str = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse";
const PATHS: [&str; 3] = [MESSAGES, CHAT, GENERATE];

#[derive(Debug)]
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
    /// True if the body ended as HTTP requires.
    whole: bool,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// The data of each event that is JSON.
    fn events(&self) -> Vec<Value> {
        let lines = self.text.lines().filter_map(|line| line.strip_prefix("data: "));
        lines.filter_map(|data| serde_json::from_str(data).ok()).collect()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn body_for(path: &str, stream: bool) -> Value {
    if path.contains("models/") {
        return json!({ "contents": [{ "role": "user", "parts": [{ "text": "Hi" }] }] });
    }
    if path == RESPONSES {
        return json!({ "model": "m", "input": "Hi", "stream": stream, "include": ["reasoning.encrypted_content"],
            "reasoning": { "summary": "auto" } });
    }
    let mut body = json!({
        "model": "m",
        "max_tokens": 100,
        "messages": [{ "role": "user", "content": "Hi" }],
        "stream": stream,
    });
    if path == CHAT && stream {
        body["stream_options"] = json!({ "include_usage": true });
    }
    body
}

fn request(path: &str, body: &[u8]) -> Request<Full<bytes::Bytes>> {
    Request::post(path)
        .header("host", "localhost")
        .header("anthropic-version", "2023-06-01")
        .body(Full::from(body.to_vec()))
        .unwrap()
}

async fn send(addr: SocketAddr, request: Request<Full<bytes::Bytes>>) -> Result<Reply, String> {
    let stream = TcpStream::connect(addr).await.map_err(|e| e.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let driving = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let (parts, mut body) = response.into_parts();
    let (mut bytes, mut whole) = (Vec::new(), true);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend(frame.into_data().unwrap_or_default()),
            Err(_) => whole = false,
        }
    }
    driving.abort();
    Ok(Reply { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes).unwrap(), whole })
}

async fn ask(server: &SimulatedServer, path: &str, stream: bool) -> Reply {
    let body = body_for(path, stream).to_string();
    let got = send(server.addr(), request(path, body.as_bytes())).await;
    got.unwrap_or_else(|error| panic!("{path}: {error}"))
}

async fn start(provider: Simulated) -> SimulatedServer {
    SimulatedServer::start(provider).await.unwrap()
}

fn provider() -> Simulated {
    Simulated::new("sonnet").reply("Hello from afar")
}

/// Fails instead of hanging for ever; on the way that is expected it never waits.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), work).await.expect("in time")
}
