//! A provider that answers whole or as a stream, a little later, and counts its calls by what was asked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// The duration of each answer.
pub(crate) const TAKES: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) address: String,
    calls: Arc<Mutex<HashMap<String, usize>>>,
}

impl Provider {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = Self { address: listener.local_addr().unwrap().to_string(), calls: Arc::default() };
        let calls = provider.calls.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, calls.clone()));
            }
        });
        provider
    }

    /// Returns the number of calls with this prompt.
    pub(crate) fn calls_of(&self, what: &str) -> usize {
        self.calls.lock().unwrap().get(what).copied().unwrap_or_default()
    }
}

async fn connection(mut stream: TcpStream, calls: Arc<Mutex<HashMap<String, usize>>>) {
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
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let asked = &body["messages"][0]["content"];
        let asked = asked.as_str().or_else(|| asked[0]["text"].as_str()).unwrap().to_owned();
        *calls.lock().unwrap().entry(asked).or_default() += 1;
        sleep(TAKES).await;
        let (kind, answer) = match body["stream"] == true {
            true => ("text/event-stream", STREAM),
            false => ("application/json", ANSWER),
        };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}", answer.len());
        if stream.write_all(format!("{head}\r\n\r\n{answer}").as_bytes()).await.is_err() {
            return;
        }
    }
}

const ANSWER: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[{"type":"text","text":"first and last"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":3}}"#;
const STREAM: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"first and\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" last\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":3}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);
