//! `steadfast serve` as its users start it: the real binary, real signals, a real file.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a real process keeps real time")]

mod keys;
mod log;
mod reload;
mod settings;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::Duration,
};

const STEADFAST: &str = env!("CARGO_BIN_EXE_steadfast");
const HELLO: &str =
    r#"{"model":"simulated-primary","max_tokens":50,"stream":true,"messages":[{"role":"user","content":"a secret"}]}"#;

/// A server of the real binary, ended when this is dropped.
struct Served {
    child: Child,
    stdout: BufReader<ChildStdout>,
    greeting: String,
    address: String,
}

impl Served {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(STEADFAST)
            .arg("serve")
            .args(if arguments.contains(&"--listen") { &[][..] } else { &["--listen", "127.0.0.1:0"] })
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut greeting = String::new();
        while !greeting.contains("OPENAI_BASE_URL") {
            assert_ne!(stdout.read_line(&mut greeting).unwrap(), 0, "it ended early: {greeting}");
        }
        let address = greeting.split("http://").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        Self { child, stdout, greeting, address }
    }

    fn send(&self, path: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let length = body.len();
        let request = format!("POST {path} HTTP/1.1\r\nhost: g\r\n{headers}content-length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn signal(&self, name: &str) {
        let killed = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    fn terminate(&self) {
        self.signal("-TERM");
    }

    /// The whole response to a request on a connection of its own.
    fn ask(&self, path: &str, body: &str) -> String {
        let mut answer = String::new();
        self.send(path, "connection: close\r\n", body).read_to_string(&mut answer).unwrap();
        answer
    }

    /// What it has said, once it has ended.
    fn end(mut self) -> (bool, String) {
        let status = self.child.wait().unwrap();
        let mut said = std::mem::take(&mut self.greeting);
        self.stdout.read_to_string(&mut said).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.success(), said)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn refused(arguments: &[&str]) -> Output {
    let output = Command::new(STEADFAST).arg("serve").args(arguments).output().unwrap();
    assert!(!output.status.success());
    output
}

#[test]
fn without_arguments_it_serves_simulated_models_and_says_so() {
    let served = Served::start(&[]);
    assert!(served.greeting.contains("simulated: nothing leaves this machine"), "{}", served.greeting);
    // The line to try is a shell's own: what it sends is answered.
    let curl = served.greeting.split("curl ").nth(1).unwrap().split("\n\n").next().unwrap();
    let data = curl.split("-d '").nth(1).unwrap().split('\'').next().unwrap();
    let mut answer = String::new();
    let headers = "content-type: application/json\r\nconnection: close\r\n";
    served.send("/v1/chat/completions", headers, data).read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("data: [DONE]"), "{answer}");
}

#[test]
fn asked_to_terminate_it_lets_streams_finish_and_ends_in_good_order() {
    let served = Served::start(&[]);
    let mut streams: Vec<TcpStream> =
        (0..50).map(|_| served.send("/v1/messages", "anthropic-version: 2023-06-01\r\n", HELLO)).collect();
    for stream in &mut streams {
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
    }
    served.terminate();
    for stream in &mut streams {
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("event: message_stop"), "{rest}");
    }
    let (good, said) = served.end();
    assert!(good && said.contains("SIGTERM") && said.contains("stopped"), "{said}");
}

#[test]
fn streams_that_outlast_the_grace_end_with_an_error_event() {
    let served = Served::start(&["--grace", "0"]);
    let mut stream = served.send("/v1/messages", "anthropic-version: 2023-06-01\r\n", HELLO);
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    served.terminate();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("event: error") && !rest.contains("message_stop"), "{rest}");
    assert!(served.end().0);
}

#[test]
fn it_does_not_listen_beyond_loopback_without_keys() {
    let said = String::from_utf8(refused(&["--listen", "0.0.0.0:0"]).stderr).unwrap();
    assert!(said.contains("--insecure-no-auth"), "{said}");
}

#[test]
fn with_keys_it_listens_anywhere_and_serves_who_has_one() {
    let made = Command::new(STEADFAST).args(["key", "team-search"]).output().unwrap();
    let made = String::from_utf8(made.stdout).unwrap();
    let (said, file) = made.split_at(made.find("keys:").unwrap());
    let key = said.lines().map(str::trim).find(|line| line.starts_with("sk-steadfast-")).unwrap();
    assert!(!file.contains(key) && file.contains("sha256:"), "{made}");
    let path = std::env::temp_dir().join(format!("steadfast-serve-keys-{}.yaml", std::process::id()));
    std::fs::write(&path, file).unwrap();
    let served = Served::start(&["--listen", "0.0.0.0:0", "--keys", path.to_str().unwrap()]);
    let ask = |key: &str| {
        let mut answer = String::new();
        let headers = format!("authorization: Bearer {key}\r\nconnection: close\r\n");
        served.send("/v1/messages", &headers, HELLO).read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask(key).contains("event: message_stop"));
    assert!(ask("another").starts_with("HTTP/1.1 401"));
    std::fs::write(&path, "keys: [").unwrap();
    served.signal("-HUP");
    std::thread::sleep(Duration::from_millis(200));
    assert!(ask(key).contains("event: message_stop"), "a file that is wrong changes nothing");
    served.terminate();
    let (_, said) = served.end();
    std::fs::remove_file(path).unwrap();
    assert!(said.contains("the keys stay as they were") && !said.contains(key), "{said}");
}

#[test]
fn a_port_that_is_taken_is_said_plainly() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = String::from_utf8(refused(&["--listen", &address]).stderr).unwrap();
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
}

#[test]
fn neither_prompt_nor_key_is_in_what_it_prints() {
    let served = Served::start(&[]);
    let headers = "authorization: Bearer sk-secret\r\nx-api-key: sk-secret\r\nconnection: close\r\n";
    for path in ["/v1/messages", "/v1/chat/completions", "/v1/secret"] {
        for body in [HELLO, r#"{"model":"a secret","messages":"a secret","#] {
            let mut answer = String::new();
            served.send(path, headers, body).read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1"), "{answer}");
        }
    }
    served.terminate();
    let (_, said) = served.end();
    assert!(said.contains("no answer") && !said.contains("secret"), "{said}");
}
