//! A provider as a bare socket, so that a test sees each byte of a request.

use std::{error::Error, iter, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// The response to a request, by its number.
type Script = dyn Fn(usize) -> Reply + Send + Sync;

/// The bytes of a response, after which the connection is closed or stays silent.
pub(crate) enum Reply {
    Close(String),
    Silence(String),
}

/// A request, as it arrived.
#[derive(Debug, PartialEq)]
pub(crate) struct Received {
    /// The request's line and its headers, each in lower case.
    pub(crate) head: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Received {
    /// Returns the header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

pub(crate) struct Server {
    pub(crate) url: String,
    requests: mpsc::UnboundedReceiver<Received>,
}

impl Server {
    /// Starts a server, which takes one request on each connection.
    pub(crate) async fn start(script: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sends, requests) = mpsc::unbounded_channel();
        let script: Arc<Script> = Arc::new(script);
        tokio::spawn(async move {
            for number in 0.. {
                let (connection, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(connection, script.clone(), number, sends.clone()));
            }
        });
        Self { url, requests }
    }

    /// Returns the requests since the last look.
    pub(crate) fn received(&mut self) -> Vec<Received> {
        iter::from_fn(|| self.requests.try_recv().ok()).collect()
    }

    /// Waits for one request.
    pub(crate) async fn next(&mut self) -> Received {
        self.requests.recv().await.unwrap()
    }
}

async fn answer(mut connection: TcpStream, script: Arc<Script>, number: usize, sends: mpsc::UnboundedSender<Received>) {
    let Some(request) = read(&mut connection).await else { return };
    let _ = sends.send(request);
    let (bytes, is_silent) = match script(number) {
        Reply::Close(bytes) => (bytes, false),
        Reply::Silence(bytes) => (bytes, true),
    };
    let _ = connection.write_all(bytes.as_bytes()).await;
    if is_silent {
        // Until the client leaves.
        let _ = connection.read_u8().await;
    }
}

async fn read(connection: &mut TcpStream) -> Option<Received> {
    let mut bytes = Vec::new();
    let end = loop {
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let head: Vec<String> = head.lines().enumerate().map(|(number, line)| plain(number, line)).collect();
    let mut request = Received { head, body: bytes.split_off(end + 4) };
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    assert_eq!(request.header("transfer-encoding"), None, "a length is known throughout");
    while request.body.len() < length {
        connection.read_buf(&mut request.body).await.ok()?;
    }
    Some(request)
}

/// Returns a header with its name in lower case.
fn plain(number: usize, line: &str) -> String {
    match line.split_once(": ") {
        Some((name, value)) if number > 0 => format!("{}: {value}", name.to_ascii_lowercase()),
        _ => line.to_owned(),
    }
}

/// Returns a whole response.
pub(crate) fn response(status: &str, content_type: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// Returns a response of OpenAI's with this answer.
pub(crate) fn chat(answer: &str) -> Reply {
    let choice =
        format!(r#"{{"index":0,"message":{{"role":"assistant","content":"{answer}"}},"finish_reason":"stop"}}"#);
    let body = format!(r#"{{"id":"c","object":"chat.completion","created":1,"model":"gpt-4o","choices":[{choice}]}}"#);
    Reply::Close(response("200 OK", "application/json", &body))
}

/// Returns an error and all its causes, as a log would have them.
pub(crate) fn written(error: &(dyn Error + 'static)) -> String {
    let chain = iter::successors(Some(error), |error| (*error).source());
    chain.map(|error| format!("{error} {error:?}\n")).collect()
}
