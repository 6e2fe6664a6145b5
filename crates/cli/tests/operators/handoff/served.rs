//! A gateway with people behind models that are down.

use std::{net::TcpStream, time::Duration};

use serde_json::{Value, json};
use steadfast::providers::simulated::{Fault, Simulated, SimulatedHandle};
use steadfast_simulator::SimulatedServer;
use tokio::runtime::{Builder, Runtime};

use crate::common::{
    Folder, Ran, comes,
    http::{self, Answer},
    key,
    serve::{self, Serve},
    steadfast,
};

pub(crate) const MESSAGES: &str = "/v1/messages";
pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// A text that no log may contain.
pub(crate) const SECRET_WORDS: &str = "my secret question";

pub(crate) struct Served {
    pub(crate) gateway: serve::Served,
    /// A caller's, another caller's, and that of a reviewer named `desk`.
    pub(crate) keys: [String; 3],
    store: String,
    model: SimulatedServer,
    _runtime: Runtime,
    _folder: Folder,
}

impl Served {
    /// `handoff`: what the configuration says of people.
    pub(crate) fn start(handoff: &str) -> Self {
        Self::with(handoff, "{ consecutive_failures: 1000 }")
    }

    /// `breaker`: what it says of the models' circuits.
    pub(crate) fn with(handoff: &str, breaker: &str) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let model = Simulated::new("model").reply("Hello from afar").latency(Duration::ZERO).pace(Duration::ZERO);
        let model = runtime.block_on(SimulatedServer::start(model)).unwrap();
        model.handle().fail(Fault::ServerError);
        let [(caller, one), (other, two), (desk, three)] = ["caller", "other", "desk"].map(key);
        let folder = Folder::new("handoff");
        let store = format!("sqlite:{}", folder.path("tasks.db").display());
        let text = format!(
            "
stores: {{ durable: '${{STORE}}' }}
tiers:
  # Nobody listens there.
  - {{ name: claude, provider: anthropic, model: claude-sonnet-4-5, base_url: 'http://127.0.0.1:1', api_key: '${{PROVIDER_KEY}}' }}
  - {{ name: gpt, provider: openai, model: gpt-4o, base_url: '{}/v1', api_key: '${{PROVIDER_KEY}}' }}
  - {{ name: people, provider: handoff }}
handoff: {handoff}
retry: {{ max_attempts: 1 }}
circuit_breaker: {breaker}
",
            model.base_url()
        );
        let gateway = Serve::with(&text)
            .keys(&format!("{one}{two}{three}    handoff: true\n"))
            .args(["--log", "info"])
            .env("PROVIDER_KEY", "sk-of-the-provider")
            .env("STORE", &store)
            .start();
        Self { gateway, keys: [caller, other, desk], store, model, _runtime: runtime, _folder: folder }
    }

    /// Kills the gateway, as a power cut would, and starts it again where it was.
    pub(crate) fn restart(&mut self) {
        self.gateway.start_again();
    }

    /// The command in a process of its own, straight on the store that the configuration names.
    pub(crate) fn beside(&self, words: &[&str]) -> Ran {
        let config = self.gateway.folder().path("steadfast.yaml");
        let place = ["handoff", "--config", config.to_str().unwrap()];
        let environment = [("STORE", &*self.store), ("PROVIDER_KEY", "none")];
        steadfast(place.into_iter().chain(words.iter().copied()), &environment)
    }

    pub(crate) fn model(&self) -> SimulatedHandle {
        self.model.handle()
    }

    /// A request on somebody's behalf, which is not waited for.
    pub(crate) fn sends(&self, request: &str, key: &str, headers: &str, body: &str) -> TcpStream {
        let headers = format!(
            "connection: close\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
             anthropic-version: 2023-06-01\r\n{headers}"
        );
        self.gateway.send(request, &headers, body)
    }

    /// The caller's question.
    pub(crate) fn asks(&self, path: &str, stream: bool, headers: &str) -> TcpStream {
        let messages = json!([{"role": "user", "content": SECRET_WORDS}]);
        let body = json!({"model": "m", "max_tokens": 50, "stream": stream, "messages": messages});
        self.sends(&format!("POST {path}"), &self.keys[0], headers, &body.to_string())
    }

    /// The id of a task that was made for the caller.
    pub(crate) fn pending(&self, path: &str) -> String {
        let answer = http::answer(self.asks(path, false, ""));
        answer.header("x-steadfast-task-id").unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    }

    pub(crate) fn get(&self, path: &str, key: &str) -> Answer {
        http::answer(self.sends(&format!("GET {path}"), key, "", ""))
    }

    /// Returns the response to a caller that asks for an answer.
    pub(crate) fn poll(&self, task: &str) -> Answer {
        self.get(&format!("/handoff/answers/{task}"), &self.keys[0])
    }

    /// Sends a reviewer's order over HTTP.
    pub(crate) fn order(&self, task: &str, what: &str, body: Value) -> Answer {
        http::answer(self.sends(&format!("POST /handoff/tasks/{task}/{what}"), &self.keys[2], "", &body.to_string()))
    }

    /// `steadfast handoff` through the gateway.
    pub(crate) fn command(&self, words: &[&str]) -> Ran {
        let environment = [("STEADFAST_URL", &*self.gateway.url()), ("STEADFAST_HANDOFF_KEY", &*self.keys[2])];
        steadfast(["handoff"].into_iter().chain(words.iter().copied()), &environment)
    }

    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let ran = self.command(&[words, &["--json"]].concat());
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{words:?}: {}", ran.out);
        serde_json::from_str(&ran.out).unwrap()
    }

    /// Returns the only waiting task, as soon as there is one.
    pub(crate) fn waiting(&self) -> String {
        comes(PATIENCE, "no task", || {
            let listed = self.json(&["list", "--state", "waiting"]);
            listed["tasks"][0]["id"].as_str().map(str::to_owned)
        })
    }
}
