//! A gateway with people behind models that are down.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use steadfast::providers::simulated::{Fault, Simulated, SimulatedHandle, server::SimulatedServer};
use tokio::runtime::{Builder, Runtime};

use crate::common::{Folder, Ran, steadfast};

pub(crate) const MESSAGES: &str = "/v1/messages";
pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// What no log may have.
pub(crate) const SECRET_WORDS: &str = "my secret question";

pub(crate) struct Served {
    child: Option<Child>,
    pub(crate) address: String,
    /// A caller's, another caller's, and that of a reviewer named `desk`.
    pub(crate) keys: [String; 3],
    pub(crate) config: PathBuf,
    keys_file: PathBuf,
    log: PathBuf,
    model: SimulatedServer,
    _runtime: Runtime,
    _folder: Folder,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Served {
    /// `handoff`: what the configuration says of people.
    pub(crate) fn start(name: &str, handoff: &str) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let model = Simulated::new("model").reply("Hello from afar").latency(Duration::ZERO).pace(Duration::ZERO);
        let model = runtime.block_on(SimulatedServer::start(model)).unwrap();
        model.handle().fail(Fault::ServerError);
        let folder = Folder::new(name);
        let key = |name: &str| {
            let made = steadfast(["key", name], &[]).out;
            let key = made.split_whitespace().find(|word| word.starts_with("sk-")).unwrap().to_owned();
            let entry = made[made.find("keys:").unwrap() + "keys:".len()..].trim_end().to_owned();
            (key, entry)
        };
        let [(caller, one), (other, two), (desk, three)] = ["caller", "other", "desk"].map(key);
        let keys_file = folder.file("keys.yaml", &format!("keys:{one}{two}{three}\n    handoff: true\n"));
        let store = folder.file("tasks.db", "");
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
circuit_breaker: {{ consecutive_failures: 1000 }}
",
            model.base_url()
        );
        let config = folder.file("steadfast.yaml", &text);
        let log = folder.file("log.txt", "");
        let mut served = Self {
            child: None,
            address: String::new(),
            keys: [caller, other, desk],
            config,
            keys_file,
            log,
            model,
            _runtime: runtime,
            _folder: folder,
        };
        served.begin(&format!("sqlite:{}", store.display()));
        served
    }

    fn begin(&mut self, store: &str) {
        let listen = if self.address.is_empty() { "127.0.0.1:0" } else { &self.address };
        let log = std::fs::OpenOptions::new().append(true).open(&self.log).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_steadfast"))
            .args(["serve", "--listen", listen, "--config", self.config.to_str().unwrap()])
            .args(["--keys", self.keys_file.to_str().unwrap()])
            .env("RUST_LOG", "info")
            .env("PROVIDER_KEY", "sk-of-the-provider")
            .env("STORE", store)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let (mut greeting, mut stdout) = (String::new(), BufReader::new(child.stdout.take().unwrap()));
        while !greeting.contains("OPENAI_BASE_URL") {
            let ended = stdout.read_line(&mut greeting).unwrap() == 0;
            assert!(!ended, "it ended early: {greeting}{}", self.log());
        }
        self.child = Some(child);
        self.address = greeting.split("http://").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    }

    /// Kills the gateway, as a power cut would, and starts it again where it was.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let store = self.store();
        self.begin(&store);
    }

    pub(crate) fn store(&self) -> String {
        format!("sqlite:{}", self.config.with_file_name("tasks.db").display())
    }

    pub(crate) fn model(&self) -> SimulatedHandle {
        self.model.handle()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// A request that is sent and not waited for.
    pub(crate) fn send(&self, method: &str, path: &str, key: &str, headers: &str, body: &str) -> TcpStream {
        let mut connection = TcpStream::connect(&self.address).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: g\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\nanthropic-version: 2023-06-01\r\n{headers}content-length: {length}\r\n\r\n"
        );
        connection.write_all(format!("{head}{body}").as_bytes()).unwrap();
        connection
    }

    /// The caller's question.
    pub(crate) fn asks(&self, path: &str, stream: bool, headers: &str) -> TcpStream {
        let messages = json!([{"role": "user", "content": SECRET_WORDS}]);
        let body = json!({"model": "m", "max_tokens": 50, "stream": stream, "messages": messages});
        self.send("POST", path, &self.keys[0], headers, &body.to_string())
    }

    /// The id of a task that was made for the caller.
    pub(crate) fn pending(&self, path: &str) -> String {
        let answer = answer(self.asks(path, false, ""));
        answer.header("x-steadfast-task-id").unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    }

    pub(crate) fn get(&self, path: &str, key: &str) -> Answer {
        answer(self.send("GET", path, key, "", ""))
    }

    /// What the caller gets that asks for an answer.
    pub(crate) fn poll(&self, task: &str) -> Answer {
        self.get(&format!("/handoff/answers/{task}"), &self.keys[0])
    }

    /// What a reviewer does over HTTP.
    pub(crate) fn order(&self, task: &str, what: &str, body: Value) -> Answer {
        answer(self.send("POST", &format!("/handoff/tasks/{task}/{what}"), &self.keys[2], "", &body.to_string()))
    }

    /// `steadfast handoff` through the gateway.
    pub(crate) fn command(&self, words: &[&str]) -> Ran {
        let url = format!("http://{}", self.address);
        let environment = [("STEADFAST_URL", &*url), ("STEADFAST_HANDOFF_KEY", &*self.keys[2])];
        steadfast(["handoff"].into_iter().chain(words.iter().copied()), &environment)
    }

    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let ran = self.command(&[words, &["--json"]].concat());
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{words:?}: {}", ran.out);
        serde_json::from_str(&ran.out).unwrap()
    }

    /// The one task that waits, as soon as there is one.
    pub(crate) fn waiting(&self) -> String {
        within("no task", || {
            let listed = self.json(&["list", "--state", "waiting"]);
            listed["tasks"][0]["id"].as_str().map(str::to_owned)
        })
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks until there is something.
pub(crate) fn within<T>(what: &str, ask: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(there) = ask() {
            return there;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn answer(mut connection: TcpStream) -> Answer {
    let mut text = String::new();
    connection.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The text of a whole answer, in either dialect.
    pub(crate) fn text(&self) -> String {
        let json = self.json();
        let text = json["content"][0]["text"].as_str().or_else(|| json["choices"][0]["message"]["content"].as_str());
        text.unwrap_or_default().to_owned()
    }
}
