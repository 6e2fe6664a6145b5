//! The Codex CLI in a process of its own, without an account, with one provider.

use std::{path::PathBuf, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{process::Command, time::timeout};

use crate::common::Folder;

/// A turn may take this long.
const LIMIT: Duration = Duration::from_secs(120);

/// A user's Codex, with its settings, its sessions and a folder to work in.
#[derive(Debug)]
pub(crate) struct Codex {
    program: PathBuf,
    home: Folder,
    /// The folder that it works in.
    pub(crate) work: Folder,
    model: &'static str,
}

/// The events of a turn.
#[derive(Debug)]
pub(crate) struct Turn {
    events: Vec<Value>,
    said: String,
}

impl Codex {
    /// Returns a Codex whose provider is at this base URL, or `None` if there is none to run.
    ///
    /// It asks the provider once and never again: what survives a fault is behind that URL.
    pub(crate) fn new(base_url: &str, model: &'static str, headers: &[(&str, &str)]) -> Option<Self> {
        let Some(program) = std::env::var_os("STEADFAST_CODEX") else {
            eprintln!("skipped: STEADFAST_CODEX does not name the Codex CLI");
            return None;
        };
        let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name:?} = {value:?}")).collect();
        let server = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/codex/mcp.py");
        // The last table of the guide's settings is the provider's.
        let settings = format!(
            "check_for_update_on_startup = false\n{}\
             request_max_retries = 0\nstream_max_retries = 0\nhttp_headers = {{ {} }}\n\
             [analytics]\nenabled = false\n\
             [mcp_servers.echo]\ncommand = \"python3\"\nargs = [{server:?}]\n",
            settings_of_the_guide(base_url, model),
            headers.join(", "),
        );
        let (home, work) = (Folder::new("codex-home"), Folder::new("codex-work"));
        home.file("config.toml", &settings);
        Some(Self { program: program.into(), home, work, model })
    }

    /// Lets it try a WebSocket first, as it does at OpenAI's own server.
    pub(crate) fn with_sockets(self) -> Self {
        let settings = std::fs::read_to_string(self.home.path("config.toml")).unwrap();
        let (before, after) = settings.split_once("request_max_retries").expect("a setting of the provider");
        self.home.file("config.toml", &format!("{before}supports_websockets = true\nrequest_max_retries{after}"));
        self
    }

    /// Takes the first turn of a conversation.
    pub(crate) async fn turn(&self, prompt: &str) -> Turn {
        self.run(&[prompt]).await
    }

    /// Takes a further turn of the last conversation.
    pub(crate) async fn resume(&self, prompt: &str) -> Turn {
        self.run(&["resume", "--last", prompt]).await
    }

    async fn run(&self, arguments: &[&str]) -> Turn {
        let mut command = Command::new(&self.program);
        command
            .args(["exec", "--json", "--skip-git-repo-check", "--model", self.model])
            // The tests' own folder is all that it works in, and the machine of a test may have no sandbox.
            .arg("--dangerously-bypass-approvals-and-sandbox")
            .args(arguments)
            .current_dir(self.work.path(""))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path(""))
            .env("CODEX_HOME", self.home.path(""))
            .env("STEADFAST_KEY", "key")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = timeout(LIMIT, command.output()).await.expect("a turn ends").unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        let said = format!("{out}{}", String::from_utf8_lossy(&output.stderr));
        Turn { events: out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(), said }
    }
}

/// Returns the settings that the guide has for Codex, with this provider and model.
fn settings_of_the_guide(base_url: &str, model: &str) -> String {
    let guide = include_str!("../../../../guide/src/codex.md");
    let (_, settings) = guide.split_once("```toml\nmodel = ").expect("the guide has settings for Codex");
    let (settings, _) = settings.split_once("```").expect("they end");
    let settings = format!("model = {settings}");
    for place in ["\"gpt-5.2\"", "http://HOST:8080/v1"] {
        assert_eq!(settings.matches(place).count(), 1, "{place} in {settings}");
    }
    settings.replace("\"gpt-5.2\"", &format!("{model:?}")).replace("http://HOST:8080/v1", base_url)
}

impl Turn {
    /// Returns the turn's last words, or all that Codex said if the turn failed.
    pub(crate) fn answer(&self) -> Result<&str, &str> {
        let is_complete = self.events.iter().any(|event| event["type"] == "turn.completed");
        let last = self.items("agent_message").last().and_then(|item| item["text"].as_str());
        last.filter(|_| is_complete).ok_or(&self.said)
    }

    /// Iterates over the finished items of a kind.
    pub(crate) fn items<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        let finished = self.events.iter().filter(|event| event["type"] == "item.completed");
        finished.map(|event| &event["item"]).filter(move |item| item["type"] == kind)
    }

    /// Returns all that Codex said.
    pub(crate) fn said(&self) -> &str {
        &self.said
    }
}
