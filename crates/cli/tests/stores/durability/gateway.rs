//! The binary under test: models that are down, and people after them.

use serde_json::json;
use tokio::net::TcpSocket;

use crate::{
    common::{
        client::Client,
        http::Answer,
        serve::{Process, Serve},
    },
    durability::until,
};

pub(crate) const PATHS: [&str; 2] = ["/v1/messages", "/v1/chat/completions"];
/// Why its tasks are handed over.
pub(crate) const REASON: &str = "connect";
/// A text that no log may contain.
pub(crate) const SECRET_WORDS: &str = "in confidence";

/// The address, the arguments and the log of each process.
pub(crate) struct Place {
    pub(crate) address: String,
    pub(crate) serve: Serve,
    /// They are bound and do not listen: nobody else is given their ports while no gateway runs.
    _ports: [TcpSocket; 2],
}

impl Place {
    /// `handoff`: what the configuration says of people.
    pub(crate) fn new(store: &str, handoff: &str) -> Self {
        let ports = [port(), port()];
        let [address, closed] = ports.each_ref().map(|port| port.local_addr().unwrap());
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
        let address = address.to_string();
        let serve = Serve::with(&text)
            .listen(&address)
            .env("PROVIDER_KEY", "sk-of-the-provider")
            .env("CALLBACK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
            .env("STORE", store)
            .build_of("STEADFAST_SCALE_BINARY");
        Self { address, serve, _ports: ports }
    }

    /// Waits until it serves.
    pub(crate) async fn start(&self) -> Process {
        let mut gateway = self.serve.spawn();
        until("the gateway is ready", async || {
            if let Some(status) = gateway.ended() {
                panic!("it ended by itself, {status}: {}", self.serve.log());
            }
            let Ok(mut client) = Client::connect(&self.address).await else { return false };
            let sent = client.send("GET /readyz HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n").await;
            sent.is_ok() && client.answer().await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
        gateway
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
}

/// Binds a free port, which a listener elsewhere can still take.
fn port() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    socket
}

/// The task that an answer says is queued; `None` where it is an error, in its dialect, that does not say so.
pub(crate) fn task_of<'a>(answer: &'a Answer, path: &str) -> Option<&'a str> {
    let task = answer.header("x-steadfast-task-id");
    match answer.status {
        200 => Some(task.unwrap_or_else(|| panic!("no task: {answer:?}"))),
        _ => {
            assert!(answer.is_error_of(path) && task.is_none(), "{answer:?}");
            assert!(!answer.body.contains("task_") && !answer.body.contains("A person will answer"), "{answer:?}");
            None
        }
    }
}
