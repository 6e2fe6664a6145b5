//! `steadfast run` with the real clients: each takes a turn at the gateway that it is started with, whose first tier is
//! down.
//!
//! `STEADFAST_CLAUDE_CODE`, `STEADFAST_CODEX` and `STEADFAST_GEMINI_CLI` name the programs; a test without its program
//! says so and is skipped. They have no account and no network.

use std::{path::Path, process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

use crate::common::{Folder, STEADFAST};

const CONFIG: &str = "tiers:\n  - { name: down, provider: openai, base_url: 'http://127.0.0.1:9/v1', model: x, \
                      retry: { max_attempts: 1 } }\n  - { name: up, provider: simulated, model: small, \
                      simulated: { reply: Hello from afar } }\n";
/// A turn may take this long.
const LIMIT: Duration = Duration::from_secs(120);

/// Takes a turn of the client that this variable names, by the name of its usual command.
async fn turn(variable: &str, name: &str, arguments: &[&str]) {
    let Some(program) = std::env::var_os(variable) else {
        return eprintln!("skipped: {variable} does not name {name}");
    };
    let (home, work) = (Folder::new("run-home"), Folder::new("run-work"));
    let config = home.file("steadfast.yaml", CONFIG);
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
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        .env("GEMINI_CLI_NO_RELAUNCH", "true")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await.expect("a turn ends").unwrap();
    let [out, err] = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned());
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    assert!(out.contains("Hello from afar"), "{out}{err}");
    let summary = err.lines().find_map(|line| line.strip_prefix("steadfast: ")).unwrap_or_else(|| panic!("{err}"));
    assert!(summary.contains(" by up (down: connect "), "{summary}");
}

#[tokio::test]
async fn claude_code_takes_a_turn_by_one_command() {
    turn("STEADFAST_CLAUDE_CODE", "claude", &["-p", "say hello"]).await;
}

#[tokio::test]
async fn codex_takes_a_turn_by_one_command() {
    turn("STEADFAST_CODEX", "codex", &["exec", "--skip-git-repo-check", "say hello"]).await;
}

#[tokio::test]
async fn gemini_cli_takes_a_turn_by_one_command() {
    turn("STEADFAST_GEMINI_CLI", "gemini", &["--skip-trust", "--prompt", "say hello"]).await;
}
