//! `steadfast run` with the real clients: each takes a turn at the gateway that it is started with, whose first tier is
//! down, or breaks in the middle of its answer.
//!
//! `STEADFAST_CLAUDE_CODE`, `STEADFAST_CODEX` and `STEADFAST_GEMINI_CLI` name the programs; a test without its program
//! says so and is skipped. They have no account and no network.

use std::{path::Path, process::Stdio, time::Duration};

use steadfast::providers::simulated::{Fault, Simulated};
use steadfast_simulator::SimulatedServer;

use tokio::{process::Command, time::timeout};

use crate::common::{Folder, STEADFAST};

const CONFIG: &str = "tiers:\n  - { name: down, provider: openai, base_url: 'http://127.0.0.1:9/v1', model: x, \
                      retry: { max_attempts: 1 } }\n  - { name: up, provider: simulated, model: small, \
                      simulated: { reply: Hello from afar } }\n";
/// A turn may take this long.
const LIMIT: Duration = Duration::from_secs(120);

/// The variable that names a client, the name of its usual command, and the arguments of a turn.
type Client = (&'static str, &'static str, &'static [&'static str]);

const CLAUDE_CODE: Client = ("STEADFAST_CLAUDE_CODE", "claude", &["-p", "say hello"]);
const CODEX: Client = ("STEADFAST_CODEX", "codex", &["exec", "--skip-git-repo-check", "say hello"]);
const GEMINI_CLI: Client = ("STEADFAST_GEMINI_CLI", "gemini", &["--skip-trust", "--prompt", "say hello"]);

/// The outcome of a turn.
struct Ended {
    code: Option<i32>,
    out: String,
    /// The words of `steadfast run`.
    summary: String,
}

/// Takes a turn of a client at a gateway of this configuration; `None` where the client is not there.
async fn turn((variable, name, arguments): Client, config: &str) -> Option<Ended> {
    let Some(program) = std::env::var_os(variable) else {
        eprintln!("skipped: {variable} does not name {name}");
        return None;
    };
    let (home, work) = (Folder::new("run-home"), Folder::new("run-work"));
    let config = home.file("steadfast.yaml", config);
    // Gemini CLI's sign-in is the one thing that no variable sets.
    std::fs::create_dir(home.path(".gemini")).unwrap();
    home.file(".gemini/settings.json", r#"{"security": {"auth": {"selectedType": "gemini-api-key"}}}"#);
    let program = Path::new(&program);
    assert_eq!(program.file_stem().unwrap(), name, "the command is known by its name");
    let mut command = Command::new(STEADFAST);
    command
        .args(["run", "--config"])
        .arg(config)
        .arg("--")
        .arg(program)
        .args(arguments)
        .current_dir(work.path(""))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home.path(""))
        .env("PROVIDER_KEY", "sk-of-the-provider")
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        .env("GEMINI_CLI_NO_RELAUNCH", "true")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await.expect("a turn ends").unwrap();
    let [out, err] = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned());
    println!("{name}: {:?}: {}: {err}", output.status.code(), out.trim());
    let said: Vec<&str> = err.lines().filter_map(|line| line.strip_prefix("steadfast: ")).collect();
    Some(Ended { code: output.status.code(), out, summary: said.join("; ") })
}

/// Takes a turn past a first tier that is down.
async fn past_a_failure(client: Client) {
    let Some(Ended { code, out, summary }) = turn(client, CONFIG).await else { return };
    assert!(code == Some(0) && out.contains("Hello from afar"), "{code:?} {out}");
    assert!(summary.contains(" by up (down: connect "), "{summary}");
}

/// Takes a turn whose first tier breaks after three words, where another call goes on.
async fn over_a_break(client: Client) {
    const WORDS: &str = "Hello from a place that is far away";
    let start = |leaf: Simulated| SimulatedServer::start(leaf.reply(WORDS));
    let breaks = start(Simulated::new("breaks").fault_mix(Fault::CutAfter(3))).await.unwrap();
    let well = start(Simulated::new("well")).await.unwrap();
    let tier = |name: &str, server: &SimulatedServer| {
        let (url, provider) = (server.base_url(), "provider: anthropic, model: claude-sonnet-4-5");
        format!("  - {{ name: {name}, {provider}, base_url: '{url}', api_key: '${{PROVIDER_KEY}}' }}\n")
    };
    let tiers = tier("breaks", &breaks) + &tier("well", &well);
    let config = format!("tiers:\n{tiers}stream: {{ on_break: continue }}\n");
    let Some(Ended { code, out, summary }) = turn(client, &config).await else { return };
    assert!(code == Some(0) && out.matches(WORDS).count() == 1, "{code:?} {out} {summary}");
    assert!(!summary.contains("broke off"), "{summary}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claude_code_takes_a_turn_by_one_command() {
    past_a_failure(CLAUDE_CODE).await;
    over_a_break(CLAUDE_CODE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codex_takes_a_turn_by_one_command() {
    past_a_failure(CODEX).await;
    over_a_break(CODEX).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gemini_cli_takes_a_turn_by_one_command() {
    past_a_failure(GEMINI_CLI).await;
    over_a_break(GEMINI_CLI).await;
}
