//! The binary under test: models that are down, and people after them.

use std::{
    fs::{self, OpenOptions},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use serde_json::json;

use crate::{
    client::{Answer, Client},
    until,
};

pub(crate) const PATHS: [&str; 2] = ["/v1/messages", "/v1/chat/completions"];
/// Why its tasks are handed over.
pub(crate) const REASON: &str = "connect";
/// What no log may have.
pub(crate) const SECRET_WORDS: &str = "in confidence";

/// Where it listens, what it is told, where its log is: the same for each that is started.
pub(crate) struct Place {
    pub(crate) address: String,
    pub(crate) folder: PathBuf,
    store: String,
}

/// A gateway that was started, killed when this is dropped.
pub(crate) struct Gateway(Child);

impl Place {
    /// `handoff`: what the configuration says of people.
    pub(crate) fn new(folder: &Path, store: &str, handoff: &str) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (address, closed) = (free(), free());
        let text = format!(
            "
stores: {{ durable: '${{STORE}}' }}
tiers:
  # Nobody listens there.
  - {{ name: model, provider: anthropic, model: claude-sonnet-4-5, base_url: 'http://{closed}', api_key: '${{PROVIDER_KEY}}' }}
  - {{ name: people, provider: handoff }}
handoff: {handoff}
retry: {{ max_attempts: 1 }}
circuit_breaker: {{ consecutive_failures: 1000000 }}
"
        );
        fs::write(folder.join("steadfast.yaml"), text).unwrap();
        Self { address: address.to_string(), folder: folder.to_owned(), store: store.to_owned() }
    }

    pub(crate) fn start(&self) -> Gateway {
        let log = OpenOptions::new().create(true).append(true).open(self.folder.join("log")).unwrap();
        let binary =
            std::env::var_os("STEADFAST_SCALE_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_steadfast").into());
        let child = Command::new(binary)
            .args(["serve", "--listen", &self.address, "--config"])
            .arg(self.folder.join("steadfast.yaml"))
            .env_remove("RUST_LOG")
            .env("PROVIDER_KEY", "sk-of-the-provider")
            .env("CALLBACK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
            .env("STORE", &self.store)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Gateway(child)
    }

    pub(crate) async fn is_ready(&self, gateway: &mut Gateway) {
        until("the gateway is ready", async || {
            if let Some(status) = gateway.0.try_wait().unwrap() {
                panic!("it ended by itself, {status}: {}", self.log());
            }
            let Ok(mut client) = Client::connect(&self.address).await else { return false };
            let sent = client.send("GET /readyz HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n").await;
            sent.is_ok() && client.answer().await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
    }

    /// Asks once, on a connection of its own.
    pub(crate) async fn asks(&self, path: &str, text: &str, key: Option<&str>) -> std::io::Result<Answer> {
        let body = json!({
            "model": "claude-sonnet-4-5", "max_tokens": 50, "messages": [{ "role": "user", "content": text }],
        });
        let body = body.to_string();
        let key = key.map(|key| format!("idempotency-key: {key}\r\n")).unwrap_or_default();
        let mut client = Client::connect(&self.address).await?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\nx-api-key: sk-of-the-caller\r\n\
             {key}content-length: {}\r\n\r\n",
            body.len()
        );
        client.send(head + &body).await?;
        client.answer().await
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }
}

impl Gateway {
    /// SIGKILL, and nothing before it.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// How it ended by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The task that an answer says is queued; `None` where it is an error, in its dialect, that does not say so.
pub(crate) fn task_of<'a>(answer: &'a Answer, path: &str) -> Option<&'a str> {
    let task = answer.head.lines().find_map(|line| line.strip_prefix("x-steadfast-task-id: "));
    match answer.status {
        200 => Some(task.unwrap_or_else(|| panic!("no task: {answer:?}"))),
        _ => {
            assert!(answer.is_error_of(path) && task.is_none(), "{answer:?}");
            assert!(!answer.body.contains("task_") && !answer.body.contains("A person will answer"), "{answer:?}");
            None
        }
    }
}
