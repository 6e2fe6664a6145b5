//! The real binary before two providers that can be made to fail.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use steadfast::providers::simulated::{Simulated, SimulatedHandle};
use steadfast_simulator::SimulatedServer;
use tokio::runtime::{Builder, Runtime};

use crate::common::{
    http::Answer,
    serve::{Serve, Served},
};

/// A text that no log may contain.
pub(crate) const SECRETS: [&str; 3] = ["of the prompt", "sk-of-the-provider", "sk-of-the-caller"];

/// A gateway with two tiers and a canned one, each provider a real server of its own.
pub(crate) struct Watched {
    pub(crate) gateway: Served,
    primary: SimulatedServer,
    backup: SimulatedServer,
    /// The requests to the webhook.
    alerts: Came,
    /// The providers are in it.
    _runtime: Runtime,
}

impl Watched {
    pub(crate) fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let provider = |name: &str| {
            let provider = Simulated::new(name).latency(Duration::from_millis(2)).pace(Duration::from_millis(1));
            runtime.block_on(SimulatedServer::start(provider.reply("An answer in a few words"))).unwrap()
        };
        let (primary, backup) = (provider("primary"), provider("backup"));
        let (hook, alerts) = receiver();
        let gateway = Serve::with(&config(&primary.base_url(), &backup.base_url(), &hook))
            .args(arguments)
            .env("PROVIDER_KEY", "sk-of-the-provider")
            .envs(environment)
            .start();
        Self { gateway, primary, backup, alerts, _runtime: runtime }
    }

    pub(crate) fn primary(&self) -> SimulatedHandle {
        self.primary.handle()
    }

    pub(crate) fn backup(&self) -> SimulatedHandle {
        self.backup.handle()
    }

    /// Asks for an answer on behalf of a feature.
    pub(crate) fn ask(&self, feature: &str, stream: bool) -> Answer {
        let messages = json!([{"role": "user", "content": "the words of the prompt"}]);
        let body = json!({"model": "claude-sonnet-4-5", "max_tokens": 50, "stream": stream, "messages": messages});
        let headers = format!(
            "anthropic-version: 2023-06-01\r\nx-api-key: sk-of-the-caller\r\nx-steadfast-feature: {feature}\r\n"
        );
        self.gateway.ask("POST /v1/messages", &headers, &body.to_string())
    }

    /// The tier that answered.
    pub(crate) fn tier(&self, feature: &str, stream: bool) -> String {
        let answer = self.ask(feature, stream);
        answer.header("x-steadfast-tier").unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.get_as(path, "*/*")
    }

    /// Sends a request with this `Accept` header.
    pub(crate) fn get_as(&self, path: &str, accept: &str) -> Answer {
        self.gateway.ask(&format!("GET {path}"), &format!("accept: {accept}\r\n"), "")
    }

    pub(crate) fn status(&self) -> Value {
        self.get("/status").json()
    }

    /// The alerts that came to the webhook.
    pub(crate) fn alerts(&self) -> Vec<Value> {
        self.alerts.lock().unwrap().iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect()
    }

    /// Returns its log after an orderly end.
    pub(crate) fn log(self) -> String {
        self.gateway.stop().err
    }
}

/// The paths and the bodies that a server received.
pub(crate) type Came = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Takes what comes until the process ends; gives its address, and what has come.
pub(crate) fn receiver() -> (String, Came) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, came) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let coming = came.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let coming = coming.clone();
            thread::spawn(move || {
                let mut lines = BufReader::new(stream);
                while let Some(request) = post(&mut lines) {
                    lines.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                    coming.lock().unwrap().push(request);
                }
            });
        }
    });
    (format!("http://{address}/"), came)
}

/// The next request on a connection.
fn post(stream: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let (mut path, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(rest) = line.strip_prefix("POST ") {
            path = rest.split(' ').next().unwrap().to_owned();
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((path, body))
}

fn config(primary: &str, backup: &str, hook: &str) -> String {
    format!(
        "
tiers:
  - name: sonnet
    provider: anthropic
    model: claude-sonnet-4-5
    base_url: {primary}
    api_key: ${{PROVIDER_KEY}}
    circuit_breaker: {{ consecutive_failures: 4, cooldown: 300ms }}
    retry: {{ max_attempts: 2, base: 10ms }}
  - name: gpt
    provider: openai
    model: gpt-4o
    base_url: {backup}/v1
    api_key: ${{PROVIDER_KEY}}
    retry: {{ max_attempts: 1 }}
  - {{ name: sorry, provider: canned, text: Please try again later. }}
features:
  chat: {{ concurrency: 20 }}
  strict: {{ tiers: [sonnet, gpt] }}
  small: {{ concurrency: 5 }}
routes:
  - {{ name: short, when: {{ features: [small] }}, tiers: [gpt] }}
mirror: {{ to: {{ name: next, provider: simulated, model: gpt-4o }}, share: 100%, features: [mirrored] }}
budgets:
  - {{ name: all, usd: 100, period: day }}
alerts:
  webhooks: [{{ url: '{hook}', format: json }}]
"
    )
}
