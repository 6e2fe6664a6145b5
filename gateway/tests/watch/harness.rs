//! The real binary before two providers that can be made to fail.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use steadfast::providers::simulated::{Simulated, SimulatedHandle, server::SimulatedServer};
use tokio::runtime::{Builder, Runtime};

use crate::common::Folder;

/// What no log may hold.
pub(crate) const SECRETS: [&str; 3] = ["of the prompt", "sk-of-the-provider", "sk-of-the-caller"];

/// A gateway with two tiers and a canned one, each provider a real server of its own.
pub(crate) struct Watched {
    child: Child,
    address: String,
    primary: SimulatedServer,
    backup: SimulatedServer,
    stderr: Arc<Mutex<String>>,
    /// What came to the webhook.
    alerts: Came,
    reading: Option<JoinHandle<()>>,
    /// The providers are in it.
    _runtime: Runtime,
    _folder: Folder,
}

impl Watched {
    pub(crate) fn start(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let provider = |name: &str| {
            let provider = Simulated::new(name).latency(Duration::from_millis(2)).pace(Duration::from_millis(1));
            runtime.block_on(SimulatedServer::start(provider.reply("An answer in a few words"))).unwrap()
        };
        let (primary, backup) = (provider("primary"), provider("backup"));
        let (hook, alerts) = receiver();
        let folder = Folder::new(name);
        let file = folder.file("steadfast.yaml", &config(&primary.base_url(), &backup.base_url(), &hook));
        let mut child = Command::new(env!("CARGO_BIN_EXE_steadfast"))
            .args(["serve", "--listen", "127.0.0.1:0", "--config", file.to_str().unwrap()])
            .args(arguments)
            .env_remove("RUST_LOG")
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .env("PROVIDER_KEY", "sk-of-the-provider")
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stderr = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = stderr.clone();
        let reading = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                said.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        let mut greeting = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        while !greeting.contains("OPENAI_BASE_URL") {
            let read = stdout.read_line(&mut greeting).unwrap();
            assert_ne!(read, 0, "it ended early: {}", stderr.lock().unwrap());
        }
        let address = greeting.split("http://").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        Self {
            child,
            address,
            primary,
            backup,
            stderr,
            alerts,
            reading: Some(reading),
            _runtime: runtime,
            _folder: folder,
        }
    }

    pub(crate) fn primary(&self) -> SimulatedHandle {
        self.primary.handle()
    }

    pub(crate) fn backup(&self) -> SimulatedHandle {
        self.backup.handle()
    }

    fn exchange(&self, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let length = body.len();
        let request = format!("{head}host: g\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Asks for an answer on behalf of a feature; gives all that came.
    pub(crate) fn ask(&self, feature: &str, stream: bool) -> String {
        let messages = json!([{"role": "user", "content": "the words of the prompt"}]);
        let body = json!({"model": "claude-sonnet-4-5", "max_tokens": 50, "stream": stream, "messages": messages});
        let head = format!(
            "POST /v1/messages HTTP/1.1\r\nanthropic-version: 2023-06-01\r\nx-api-key: sk-of-the-caller\r\n\
             x-steadfast-feature: {feature}\r\n"
        );
        self.exchange(&head, &body.to_string())
    }

    /// Head and body of a page.
    pub(crate) fn get(&self, path: &str) -> (String, String) {
        self.get_as(path, "*/*")
    }

    /// As somebody who accepts this.
    pub(crate) fn get_as(&self, path: &str, accept: &str) -> (String, String) {
        let answer = self.exchange(&format!("GET {path} HTTP/1.1\r\naccept: {accept}\r\n"), "");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), body.to_owned())
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status").1).unwrap()
    }

    /// The alerts that came to the webhook.
    pub(crate) fn alerts(&self) -> Vec<Value> {
        self.alerts.lock().unwrap().iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect()
    }

    pub(crate) fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// What its log holds, once it has ended in good order.
    pub(crate) fn log(mut self) -> String {
        self.signal("-TERM");
        assert!(self.child.wait().unwrap().success());
        self.reading.take().unwrap().join().unwrap();
        self.stderr.lock().unwrap().clone()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came to a server: the paths and the bodies.
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

/// Waits until it is so.
pub(crate) fn within(limit: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < limit, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}
