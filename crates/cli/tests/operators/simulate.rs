//! `steadfast simulate`: a scenario in real time, seen by plain HTTP in four protocols.

#![allow(clippy::disallowed_methods, reason = "a real process keeps real time")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command, Stdio},
};

use crate::common::{
    Folder, STEADFAST,
    http::{Answer, answer},
    steadfast,
};

/// Five minutes each of health, of an outage, and of health, on two providers.
const SCENARIO: &str = "
name: short
lasts: 15m
providers: { p50: 1ms, p99: 1ms, pace: 1ms }
faults:
  - { from: 5m, to: 10m, fault: overloaded }
  - { from: 5m, to: 10m, at: fallbacks, fault: rate_limited }
";

const CALLS: [(&str, &str); 4] = [
    ("/v1/messages", r#"{"model":"m","max_tokens":8,"messages":[{"role":"user","content":"Hi"}]}"#),
    ("/v1/chat/completions", r#"{"model":"m","messages":[{"role":"user","content":"Hi"}]}"#),
    ("/v1/responses", r#"{"model":"m","input":"Hi"}"#),
    ("/v1beta/models/m:generateContent", r#"{"contents":[{"role":"user","parts":[{"text":"Hi"}]}]}"#),
];

/// The command while it runs.
struct Simulating {
    process: Child,
    out: BufReader<ChildStdout>,
}

impl Simulating {
    fn begin(arguments: &[&str]) -> Self {
        let mut command = Command::new(STEADFAST);
        command.arg("simulate").args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let out = BufReader::new(process.stdout.take().unwrap());
        Self { process, out }
    }

    /// Returns the next line that has these words, with all before it.
    fn until(&mut self, words: &str) -> String {
        let mut text = String::new();
        while !text.lines().last().is_some_and(|line| line.contains(words)) {
            let read = self.out.read_line(&mut text).unwrap();
            assert!(read > 0, "it ended before `{words}`: {text}");
        }
        text
    }

    /// Sends SIGINT. Returns the words after it, and the exit code.
    fn interrupt(mut self) -> (String, Option<i32>) {
        assert!(Command::new("kill").args(["-INT", &self.process.id().to_string()]).status().unwrap().success());
        let mut text = String::new();
        while self.out.read_line(&mut text).unwrap() > 0 {}
        (text, self.process.wait().unwrap().code())
    }
}

impl Drop for Simulating {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Calls a provider in each protocol. Returns the statuses, and checks that an answer has the reply.
fn call(address: &str) -> Vec<u16> {
    let status = |(path, body): (&str, &str)| {
        let answer = post(address, path, body);
        assert_eq!(answer.status == 200, answer.body.contains("It rains."), "{path}: {answer:?}");
        answer.status
    };
    CALLS.into_iter().map(status).collect()
}

fn post(address: &str, path: &str, body: &str) -> Answer {
    let mut connection = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: simulated\r\nconnection: close\r\ncontent-type: application/json\r\n\
         x-api-key: k\r\nauthorization: Bearer k\r\nx-goog-api-key: k\r\nanthropic-version: 2023-06-01\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(head.as_bytes()).unwrap();
    answer(connection)
}

/// Returns the addresses of the providers.
fn addresses(head: &str) -> Vec<String> {
    let urls = head.lines().filter_map(|line| line.trim().strip_prefix("ANTHROPIC_BASE_URL=http://"));
    urls.map(str::to_owned).collect()
}

#[test]
fn a_scenario_fails_and_heals_in_four_protocols() {
    let folder = Folder::new("simulate");
    let file = folder.file("short.yaml", SCENARIO);
    let arguments = ["--scenario", file.to_str().unwrap(), "--speed", "60", "--reply", "It rains."];
    let mut simulating = Simulating::begin(&arguments);
    let head = simulating.until("short begins; next in 5.0 s");
    let [primary, fallback] = &addresses(&head)[..] else { panic!("{head}") };
    assert!(head.contains(&format!("OPENAI_BASE_URL=http://{fallback}/v1")), "{head}");
    assert_eq!(call(primary), [200; 4]);

    simulating.until("fault begins: overloaded; next in 0.0 s");
    simulating.until("fault begins: rate limited; next in 5.0 s");
    assert_eq!((call(primary), call(fallback)), (vec![529, 503, 503, 503], vec![429; 4]));

    simulating.until("fault ends: rate limited; no more; all is well from now on");
    assert_eq!((call(primary), call(fallback)), (vec![200; 4], vec![200; 4]));

    let (said, code) = simulating.interrupt();
    assert_eq!(code, Some(0));
    let summary = |name: &str, answered: u32, kind: &str| {
        let all = answered + 4;
        let failed = format!("4 failed (4 {kind})");
        format!("{name}: {all} requests, {answered} answered, {failed}, 0 left by the caller, 0 refused as malformed\n")
    };
    assert_eq!(said, summary("primary", 8, "overloaded") + &summary("fallback", 4, "rate_limited"));
}

#[test]
fn a_single_fault_is_there_from_the_beginning() {
    for (fault, statuses) in [("status=530", [530; 4]), ("unauthorized", [401; 4])] {
        let mut simulating = Simulating::begin(&["--fault", fault, "--reply", "It rains."]);
        let head = simulating.until("GOOGLE_GEMINI_BASE_URL");
        assert_eq!(call(&addresses(&head)[0]), statuses, "{fault}");
        let (said, _) = simulating.interrupt();
        assert!(said.contains("4 requests, 0 answered, 4 failed"), "{said}");
    }
}

#[test]
fn a_tool_on_offer_is_called_if_the_command_says_so() {
    let tool = r#"{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}}"#;
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"Hi"}}],"tools":[{tool}]}}"#);
    for (arguments, called) in [
        (&["--call-tools", r#"{"city": "Oslo"}"#][..], Some(r#"{\"city\":\"Oslo\"}"#)),
        (&["--call-tools", r#"{"days": 3}"#], Some(r#"{\"city\":\"It rains.\"}"#)),
        (&["--call-tools"], Some(r#"{\"city\":\"It rains.\"}"#)),
        (&[], None),
    ] {
        let mut simulating = Simulating::begin(&[arguments, &["--reply", "It rains."]].concat());
        let head = simulating.until("GOOGLE_GEMINI_BASE_URL");
        let answer = post(&addresses(&head)[0], "/v1/chat/completions", &body);
        assert_eq!(answer.body.contains("tool_calls"), called.is_some(), "{arguments:?}: {answer:?}");
        assert!(called.is_none_or(|call| answer.body.contains(call)), "{arguments:?}: {answer:?}");
    }
}

#[test]
fn a_wrong_order_is_told_with_the_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (arguments, code, said) in [
        (["--scenario", "d55"], 2, "no scenario is named `d55`; did you mean `d5"),
        (["--fault", "overlooded"], 2, "a fault is a name such as overloaded"),
        (["--fault", "slow"], 2, "such as slow=30s"),
        (["--fault", "{ hang"], 2, "a fault is a name such as overloaded"),
        (["--call-tools", "[1]"], 2, r#"a JSON object, such as {"city": "Oslo"}"#),
        (["--speed", "0"], 2, "a number from 0.001 to 100000"),
        (["--listen", &address], 1, "cannot listen on"),
    ] {
        let ran = steadfast(["simulate"].into_iter().chain(arguments), &[]);
        assert!(ran.code == Some(code) && ran.err.contains(said), "{arguments:?}: {ran:?}");
    }
}
