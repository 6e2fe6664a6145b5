//! A webhook that accepts everything.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// The received notifications of tasks, and callbacks by their `webhook-id`, with their number.
#[derive(Clone, Default, Debug)]
pub(crate) struct Came {
    pub(crate) notifications: HashMap<String, usize>,
    pub(crate) callbacks: HashMap<String, Callback>,
}

#[derive(Clone, Debug)]
pub(crate) struct Callback {
    pub(crate) id: String,
    pub(crate) output: String,
}

pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    came: Arc<Mutex<Came>>,
    _listening: JoinSet<()>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, came) = (listener.local_addr().unwrap(), Arc::<Mutex<Came>>::default());
        let mut listening = JoinSet::new();
        let takes = came.clone();
        listening.spawn(async move {
            let mut taking = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // One of a gateway that was killed is cut.
                let came = takes.clone();
                taking.spawn(async move { takes_one(stream, &came).await.unwrap_or_default() });
                while taking.try_join_next().is_some() {}
            }
        });
        Self { address, came, _listening: listening }
    }

    pub(crate) fn came(&self) -> Came {
        self.came.lock().unwrap().clone()
    }
}

async fn takes_one(mut stream: TcpStream, came: &Mutex<Came>) -> std::io::Result<()> {
    let mut read = Vec::new();
    let (head, body) = loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&read);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() >= length.parse::<usize>().unwrap() {
            break (head, serde_json::from_str::<Value>(body).unwrap());
        }
    };
    {
        let mut came = came.lock().unwrap();
        match head.lines().find_map(|line| line.strip_prefix("webhook-id: ")) {
            Some(id) => {
                let task = find(&body, "task_id").and_then(Value::as_str).unwrap().to_owned();
                let output = find(&body, "output").and_then(Value::as_str).unwrap().to_owned();
                let callback = Callback { id: id.to_owned(), output };
                let before = came.callbacks.insert(task, callback.clone());
                let is_the_same =
                    before.is_none_or(|before| (before.id, before.output) == (callback.id, callback.output));
                assert!(is_the_same, "a repeat is another");
            }
            None => {
                let text = body["text"].as_str().unwrap();
                let task = text.split('`').find(|word| word.starts_with("task_")).unwrap();
                *came.notifications.entry(task.to_owned()).or_default() += 1;
            }
        }
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await
}

/// A field, here or one level down.
fn find<'a>(body: &'a Value, field: &str) -> Option<&'a Value> {
    body.get(field).or_else(|| body.as_object()?.values().find_map(|value| value.get(field)))
}
