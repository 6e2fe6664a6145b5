//! `steadfast run`: a client of each kind at a gateway, its exit code, its signals, and the words at its end.

mod signals;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::common::{Folder, Ran, STEADFAST, key, serve::Serve, within};

/// Two tiers, of which the first answers nothing.
const FAILING: &str = "tiers:\n  - { name: down, provider: openai, base_url: 'http://127.0.0.1:9/v1', model: x, \
                       retry: { max_attempts: 1 } }\n  - { name: up, provider: simulated, model: small }\n";
const WELL: &str = "tiers: [{ name: only, provider: simulated, model: m, simulated: { latency: 1ms } }]\n";
const SECRET: &str = "sk-of-the-provider";
const PATIENCE: Duration = Duration::from_secs(30);

/// A user of the command, with clients and a home of its own.
struct User {
    folder: Folder,
    environment: Vec<(String, String)>,
}

impl User {
    fn new() -> Self {
        let folder = Folder::new("run");
        fs::create_dir(folder.path("bin")).unwrap();
        let path = format!("{}:{}", folder.path("bin").display(), std::env::var("PATH").unwrap());
        let home = folder.path("").display().to_string();
        Self { folder, environment: Vec::new() }.env("PATH", &path).env("HOME", &home)
    }

    /// Has this program, in place of a client.
    fn program(self, name: &str, text: &str) -> Self {
        let path = self.folder.file(&format!("bin/{name}"), text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// Has a client of this name, which calls the models and prints what it was given.
    fn client(self, name: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/operators/run/client.py");
        self.program(name, &format!("#!/bin/sh\nexec python3 -B '{script}' {name} \"$@\"\n"))
    }

    /// Has this configuration.
    fn config(self, text: &str) -> Self {
        let file = self.folder.file("steadfast.yaml", text);
        self.env("STEADFAST_CONFIG", file.to_str().unwrap())
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(STEADFAST);
        command.arg("run").args(arguments).env_clear().stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: status.code(), out: text(stdout), err: text(stderr) }
    }
}

/// Returns what a client has printed.
fn report(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

#[test]
fn each_client_finds_the_gateway_by_its_own_settings_with_a_key_of_the_gateways() {
    let (secret, entry) = key("ana");
    for (client, answers) in
        [("claude", 1), ("codex", 1), ("gemini", 1), ("opencode", 3), ("aider", 2), ("my-agent", 3)]
    {
        let providers = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY", "GEMINI_API_KEY"];
        let user = User::new().client(client).config(&(WELL.to_owned() + "gateway: { keys: keys.yaml }\n"));
        user.folder.file("keys.yaml", &format!("keys:\n{entry}...\n"));
        let user = providers.iter().fold(user, |user, name| user.env(name, SECRET));
        let user = user.env("GOOGLE_API_KEY", SECRET).env("STEADFAST_KEY", &secret).env("OTHER", "stays");
        let ran = user.run(&["--", client, "-c", "a b", "--config", "x", "--", "--help"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let report = report(&ran);
        assert_eq!(report["answers"], json!(vec![200; answers]), "{client}: {ran:?}");
        let arguments = report["arguments"].as_array().unwrap();
        let own = if client == "codex" { 4 } else { 0 };
        assert_eq!(arguments[own..], ["-c", "a b", "--config", "x", "--", "--help"], "{client}");
        assert_eq!(report["environment"]["OTHER"], "stays");
        // Of clients that get a file's settings or arguments, and of aider's Gemini, the variables stay.
        let led: &[&str] = match client {
            "claude" => &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"],
            "gemini" => &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
            "aider" => &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY"],
            "my-agent" => &providers,
            _ => &[],
        };
        led.iter().for_each(|name| assert_ne!(report["environment"][name], SECRET, "{client}: {name}"));
        let plural = if answers == 1 { "" } else { "s" };
        assert_eq!(ran.err, format!("steadfast: {answers} request{plural}: {answers} by only\n"));
    }
}

#[test]
fn a_gateway_without_keys_has_clients_that_ask_for_no_login() {
    for (client, name) in
        [("claude", "ANTHROPIC_AUTH_TOKEN"), ("gemini", "GEMINI_API_KEY"), ("other", "OPENAI_API_KEY")]
    {
        let ran = User::new().client(client).config(WELL).run(&[client]);
        assert!(report(&ran)["environment"][name].as_str().is_some_and(|key| !key.is_empty()), "{ran:?}");
    }
    // Codex needs no key where its provider names none.
    let ran = User::new().client("codex").config(WELL).run(&["codex"]);
    let report = report(&ran);
    assert!(!report["arguments"][3].as_str().unwrap().contains("env_key"), "{report}");
    assert!(report["environment"]["STEADFAST_KEY"].is_null() && report["answers"] == json!([200]), "{report}");
}

#[test]
fn what_failed_over_is_said_at_the_end_and_the_log_is_elsewhere() {
    let user = User::new().client("other").config(FAILING);
    let ran = user.run(&["--", "other"]);
    let log = user.folder.path(".local/state/steadfast/run.log");
    let expected = format!("steadfast: 3 requests: 3 by up (down: connect 3x)\nsteadfast: more in {}\n", log.display());
    assert_eq!((ran.code, ran.err), (Some(0), expected));
    let lines = fs::read_to_string(&log).unwrap();
    assert!(
        lines.contains("listening") && lines.contains("tiers=\"down, up\"") && lines.contains("stopped"),
        "{lines}"
    );
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o077, 0, "others cannot read it");

    assert_eq!(user.run(&["--quiet", "other"]).err, "");
    let own = user.folder.path("own.log");
    let ran = user.run(&["--log-file", own.to_str().unwrap(), "other"]);
    assert!(ran.err.contains("more in") && ran.err.contains("own.log") && own.exists(), "{ran:?}");
    assert_eq!(user.run(&["sh", "-c", "exit 0"]).err, "", "no request, no word");
    // The command counts the records that are still kept, and guesses none.
    let user = user.config(&format!("{WELL}gateway: {{ records: 2 }}\n"));
    assert_eq!(user.run(&["other"]).err, "steadfast: the last 2 requests: 2 by only\n");
}

#[test]
fn requests_without_an_answer_are_said_too() {
    let down = FAILING.lines().take(2).collect::<Vec<_>>().join("\n");
    let user = User::new().client("claude").config(&down).env("STATUS", "4");
    let ran = user.run(&["claude"]);
    assert_eq!(ran.code, Some(4));
    assert!(ran.err.starts_with("steadfast: 1 request: none answered\nsteadfast: 1 failed (connect 1x)\n"), "{ran:?}");
}

#[test]
fn the_exit_code_is_the_clients() {
    let user = User::new().client("idle").config(WELL).program("broken", "no program at all");
    assert_eq!(user.run(&["idle"]).code, Some(0));
    assert_eq!(user.run(&["--", "sh", "-c", "exit 3"]).code, Some(3));
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
        assert_eq!(user.run(&["--", "sh", "-c", &format!("kill -{signal} $$")]).code, Some(code), "{signal}");
    }
    let absent = user.env("PATH", "/nowhere");
    for (client, how) in
        [("claude", "npm install -g @anthropic-ai/claude-code"), ("aider", "pip install"), ("other", "")]
    {
        let ran = absent.run(&[client]);
        assert_eq!(ran.code, Some(127), "{ran:?}");
        assert!(ran.err.contains(&format!("no program `{client}`")) && ran.err.contains(how), "{ran:?}");
    }
    for file in ["/", "steadfast.yaml"] {
        let ran = absent.run(&[absent.folder.path(file).to_str().unwrap()]);
        assert_eq!(ran.code, Some(126), "{ran:?}");
        assert!(ran.err.contains("cannot start"), "{ran:?}");
    }
}

#[test]
fn a_gateway_that_runs_is_used_and_its_words_are_of_all_its_callers() {
    let served = Serve::with(FAILING).start();
    served.ask("POST /v1/messages", "", r#"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}"#);
    let user = User::new().client("claude");
    let ran = user.run(&["--url", &format!("{}/", served.url()), "claude"]);
    let url = served.url();
    let expected = format!(
        "steadfast: 1 request: 1 by up (down: connect 1x)\nsteadfast: these are of all callers of {url} since then\n"
    );
    assert_eq!((ran.code, &ran.err), (Some(0), &expected));
    assert_eq!(report(&ran)["environment"]["ANTHROPIC_BASE_URL"], url);
    // The variable does it too, but not against the command line.
    let user = user.config("tiers: []").env("STEADFAST_URL", &url);
    assert_eq!(user.run(&["claude"]).err, expected);
    assert!(user.run(&["--simulated", "claude"]).err.contains("by simulated-"));
    assert_eq!(user.env("STEADFAST_URL", "no url").run(&["claude"]).code, Some(2));
}

#[test]
fn a_key_sees_its_own_requests_and_a_wrong_one_is_refused_before_the_client_begins() {
    let ((ana, first), (ben, second)) = (key("ana"), key("ben"));
    let served = Serve::with(WELL).keys(&format!("{first}    admin: true\n{second}")).start();
    let user = User::new().client("claude").env("STEADFAST_URL", &served.url());
    let ran = user.run(&["claude"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.err.contains("no key: send one") && ran.err.contains("STEADFAST_KEY"), "{ran:?}");
    let user = user.env("MINE", "sk-steadfast-nobody");
    let ran = user.run(&["--key-env", "MINE", "claude"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.err.contains("does not know this key") && ran.err.contains("MINE"), "{ran:?}");
    assert!(!ran.err.contains("sk-steadfast-nobody"), "{ran:?}");
    // Another caller, while the client waits.
    let waits = "#!/bin/sh\ntouch \"$HOME/begun\"\nwhile [ ! -e \"$HOME/goes-on\" ]; do sleep 0.05; done\nexec agent\n";
    let user = User::new().client("agent").program("waits", waits);
    let user = user.env("STEADFAST_URL", &served.url()).env("MINE", &ana);
    thread::scope(|scope| {
        let running = scope.spawn(|| user.run(&["--key-env", "MINE", "waits"]));
        within(PATIENCE, "the client does not begin", || user.folder.path("begun").exists() || running.is_finished());
        let body = r#"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}"#;
        let answer = served.ask("POST /v1/messages", &format!("authorization: Bearer {ben}\r\n"), body);
        user.folder.file("goes-on", "");
        let ran = running.join().unwrap();
        assert_eq!((answer.status, ran.code, ran.err.as_str()), (200, Some(0), "steadfast: 3 requests: 3 by only\n"));
    });
}

#[test]
fn what_is_no_gateway_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let foreign = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}");
        }
    });
    let user = User::new().client("claude");
    for (url, words) in [
        (foreign.as_str(), "not a steadfast gateway"),
        ("http://127.0.0.1:9", "could not connect"),
        ("here", "must begin"),
    ] {
        let ran = user.run(&["--url", url, "claude"]);
        assert!(matches!(ran.code, Some(1 | 2)) && ran.out.is_empty() && ran.err.contains(words), "{url}: {ran:?}");
    }
}

#[test]
fn without_a_file_the_models_are_those_whose_keys_are_there() {
    let user = User::new().client("idle");
    let ran = user.run(&["idle"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
    for words in ["steadfast init", "--url", "ANTHROPIC_API_KEY", "--simulated"] {
        assert!(ran.err.contains(words), "{words}: {ran:?}");
    }
    let user = user.env("OPENAI_API_KEY", SECRET).env("OPENAI_BASE_URL", "http://127.0.0.1:9/v1");
    let ran = user.run(&["idle"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.err, "steadfast: no file: gpt (OPENAI_API_KEY); `steadfast init` writes one\n");
    assert_eq!(user.run(&["-q", "idle"]).err, "");
    let wrong = user.config("tiers: []").run(&["idle"]);
    assert!(wrong.code == Some(2) && wrong.out.is_empty() && wrong.err.contains("no tiers"), "{wrong:?}");
}

#[test]
fn an_address_that_is_taken_does_not_matter() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!("{WELL}listen: '{}'\n", taken.local_addr().unwrap());
    let ran = User::new().client("claude").config(&config).run(&["claude"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), "steadfast: 1 request: 1 by only\n"));
}

#[test]
fn a_proxy_of_the_environment_does_not_stand_between() {
    let user = User::new().client("claude").config(WELL).env("HTTP_PROXY", "http://127.0.0.1:9");
    let user = user.env("http_proxy", "http://127.0.0.1:9").env("NO_PROXY", "example.com");
    let ran = user.run(&["claude"]);
    let report = report(&ran);
    assert_eq!(report["answers"], json!([200]), "{ran:?}");
    for name in ["NO_PROXY", "no_proxy"] {
        assert_eq!(report["environment"][name], "example.com,localhost,127.0.0.1,::1", "{name}");
    }
}

#[test]
fn a_terminal_is_handed_over_as_it_is() {
    let user = User::new().config(WELL);
    let mut child = user.command(&["sh", "-c", "read line; echo \"read $line\""]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "read hello\n");
}
