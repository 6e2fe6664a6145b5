//! A provider that can be down, and counts its calls.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) address: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    down: AtomicBool,
    /// The time that an answer takes.
    takes: Duration,
    /// The calls by prompt.
    calls: Mutex<HashMap<String, usize>>,
}

impl Provider {
    pub(crate) async fn start() -> Self {
        Self::that_takes(Duration::ZERO).await
    }

    /// One whose answers take so long.
    pub(crate) async fn that_takes(takes: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared { takes, ..Shared::default() });
        let provider = Self { address: listener.local_addr().unwrap().to_string(), shared };
        let shared = provider.shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, shared.clone()));
            }
        });
        provider
    }

    pub(crate) fn is_down(&self, down: bool) {
        self.shared.down.store(down, Relaxed);
    }

    /// All calls so far.
    pub(crate) fn calls(&self) -> usize {
        self.shared.calls.lock().unwrap().values().sum()
    }

    /// The calls so far whose bodies have these words.
    pub(crate) fn calls_with(&self, words: &str) -> usize {
        let calls = self.shared.calls.lock().unwrap();
        calls.iter().filter(|(body, _)| body.contains(words)).map(|(_, calls)| calls).sum()
    }
}

async fn connection(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut read = Vec::new();
    loop {
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
            match stream.read_buf(&mut read).await {
                Ok(1..) => continue,
                _ => return,
            }
        };
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap();
        while read.len() < end + 4 + length {
            let Ok(1..) = stream.read_buf(&mut read).await else { return };
        }
        let body: Vec<u8> = read.drain(..end + 4 + length).skip(end + 4).collect();
        let body = String::from_utf8(body).unwrap();
        *shared.calls.lock().unwrap().entry(body).or_default() += 1;
        if !shared.takes.is_zero() {
            tokio::time::sleep(shared.takes).await;
        }
        let (status, answer) = match shared.down.load(Relaxed) {
            true => ("500 Internal Server Error", DOWN),
            false => ("200 OK", ANSWER),
        };
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}", answer.len());
        if stream.write_all(format!("{head}\r\n\r\n{answer}").as_bytes()).await.is_err() {
            return;
        }
    }
}

const ANSWER: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[{"type":"text","text":"first and last"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":3}}"#;
const DOWN: &str = r#"{"type":"error","error":{"type":"api_error","message":"down"}}"#;
