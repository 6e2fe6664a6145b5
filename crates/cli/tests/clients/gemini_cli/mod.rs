//! Gemini CLI, which speaks Google's protocol and nothing else: its turns through the gateway at providers of four
//! protocols.
//!
//! `STEADFAST_GEMINI_CLI` names the program; without the variable the tests say so and are skipped. It has no account,
//! and neither it nor the providers are on a network.

use std::{path::PathBuf, process::Stdio, time::Duration};

use serde_json::{Value, json};
use steadfast::providers::simulated::{Fault, Simulated};
use steadfast_simulator::SimulatedServer;
use tokio::{process::Command, time::timeout};

use crate::{
    common::{
        Folder,
        serve::{Serve, Served},
    },
    faults::turns::FaultCase,
    upstream::Upstream,
};

const SAID: &str = "Hello from afar, and all is well";
const MODEL: &str = "gemini-2.5-pro";
/// A turn may take this long.
const LIMIT: Duration = Duration::from_secs(120);

/// A user's Gemini CLI, with its settings and a folder to work in.
struct GeminiCli {
    program: PathBuf,
    home: Folder,
    /// The folder that it works in.
    work: Folder,
    base_url: String,
    /// Sent with every request, as `name: value`.
    header: String,
}

impl GeminiCli {
    /// Returns a Gemini CLI whose provider is this gateway, or `None` if there is none to run.
    fn new(gateway: &Served) -> Option<Self> {
        Self::of_feature(gateway, "")
    }

    /// Returns one whose requests name this feature, if it is not empty.
    fn of_feature(gateway: &Served, feature: &str) -> Option<Self> {
        let Some(program) = std::env::var_os("STEADFAST_GEMINI_CLI") else {
            eprintln!("skipped: STEADFAST_GEMINI_CLI does not name the Gemini CLI");
            return None;
        };
        let (home, work) = (Folder::new("gemini-home"), Folder::new("gemini-work"));
        let settings = json!({
            "security": {"auth": {"selectedType": "gemini-api-key"}},
            "privacy": {"usageStatisticsEnabled": false},
            "general": {"enableAutoUpdate": false},
        });
        std::fs::create_dir_all(home.path(".gemini")).unwrap();
        home.file(".gemini/settings.json", &settings.to_string());
        let header = if feature.is_empty() { String::new() } else { format!("x-steadfast-feature: {feature}") };
        Some(Self { program: program.into(), home, work, base_url: format!("http://{}", gateway.address()), header })
    }

    /// Takes a turn. Returns its last words, or all that it said if the turn failed.
    async fn turn(&self, prompt: &str) -> Result<String, String> {
        let mut command = Command::new(&self.program);
        command
            // The tests' own folder is all that it works in.
            .args(["--model", MODEL, "--skip-trust", "--yolo", "--output-format", "json", "--prompt", prompt])
            .current_dir(self.work.path(""))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path(""))
            .env("GEMINI_API_KEY", "key")
            .env("GOOGLE_GEMINI_BASE_URL", &self.base_url)
            .env("GEMINI_CLI_CUSTOM_HEADERS", &self.header)
            // It would start a second time, with more memory.
            .env("GEMINI_CLI_NO_RELAUNCH", "true")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = timeout(LIMIT, command.output()).await.expect("a turn ends").unwrap();
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let report = out.find('{').and_then(|begin| serde_json::from_str::<Value>(&out[begin..]).ok());
        let response = report.as_ref().and_then(|report| report["response"].as_str());
        match response.filter(|_| output.status.success()) {
            Some(response) => Ok(response.to_owned()),
            None => Err(format!("{out}{}", String::from_utf8_lossy(&output.stderr))),
        }
    }
}

async fn provider(name: &str) -> SimulatedServer {
    SimulatedServer::start(Simulated::new(name).reply(SAID)).await.unwrap()
}

fn tier(upstream: Upstream, name: &str, server: &SimulatedServer) -> String {
    let model = match upstream {
        Upstream::Responses | Upstream::Chat => "gpt-5.4",
        Upstream::Messages => "claude-sonnet-4-5",
        Upstream::Gemini => "gemini-2.5-flash",
    };
    upstream.tier(name, server, model, "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gemini_cli_answers_and_writes_a_file_at_providers_of_four_protocols() {
    for upstream in Upstream::ALL {
        let server = provider(&upstream.to_string()).await;
        let gateway = Serve::with(&format!("tiers:\n{}", tier(upstream, "main", &server))).start();
        let Some(cli) = GeminiCli::new(&gateway) else { return };
        println!("{upstream}");
        assert_eq!(cli.turn("say hello").await.as_deref(), Ok(SAID), "{upstream}");
        let path = cli.work.path("greeting.txt");
        let text = "Dear all,\nHello \"from\" \\ afar, ümläute\n";
        server.handle().plan_calls([("write_file", json!({"file_path": path, "content": text}))]);
        assert_eq!(cli.turn("write a greeting").await.as_deref(), Ok(SAID), "{upstream}");
        assert_eq!(std::fs::read_to_string(path).unwrap(), text, "{upstream}");
        let stats = server.handle().stats();
        assert_eq!((stats.answered, stats.rejected), (stats.calls, 0), "{upstream}");
    }
}

/// The turn's second request, with the tool's result, is the one that fails in the middle of its answer.
async fn breaks(then: Upstream, more: &str) -> Option<(Result<String, String>, u64)> {
    let (first, second) = (provider("first").await, provider("second").await);
    let tiers = tier(Upstream::Gemini, "first", &first) + &tier(then, "second", &second);
    let gateway = Serve::with(&format!("tiers:\n{tiers}{more}")).start();
    let cli = GeminiCli::new(&gateway)?;
    let path = cli.work.path("greeting.txt");
    first.handle().plan_calls([("write_file", json!({"file_path": path, "content": "Hello\n"}))]);
    let handle = first.handle();
    tokio::spawn(async move {
        handle.until(|stats| stats.answered >= 1).await;
        handle.fail(Fault::CutAfter(3));
    });
    let answer = cli.turn("write a greeting").await;
    assert_eq!(std::fs::read_to_string(path).unwrap(), "Hello\n", "{then}");
    Some((answer, second.handle().stats().calls))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gemini_cli_goes_on_when_its_provider_fails_within_a_turn() {
    for then in Upstream::ALL {
        let Some(seen) = breaks(then, "stream: { commit: complete }\n").await else { return };
        assert_eq!(seen, (Ok(SAID.to_owned()), 1), "{then}");
    }
}

/// To an answer behind a tool's result it needs no reason for the end: only an error keeps it from half of one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gemini_cli_takes_no_broken_stream_for_an_answer() {
    let Some((answer, _)) = breaks(Upstream::Gemini, "").await else { return };
    // It asks again by itself, and is answered then, at the next tier. What it has printed before stays.
    assert!(answer.as_deref().map_or_else(|said| said.contains("error"), |said| said.ends_with(SAID)), "{answer:?}");
}

/// The sixteen faults, one turn or more for each, at a primary and a fallback of its own protocol; those that differ
/// also at primaries of the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gemini_cli_survives_sixteen_faults() {
    if std::env::var_os("STEADFAST_GEMINI_CLI").is_none() {
        return eprintln!("skipped: STEADFAST_GEMINI_CLI does not name the Gemini CLI");
    }
    let cases = FaultCase::all(Upstream::Gemini).await;
    let gateway = FaultCase::serve(&cases);
    let cli = |case: &FaultCase| GeminiCli::of_feature(&gateway, &case.name).unwrap();
    FaultCase::judge(&cases, cli, async |cli| cli.turn("say sixty words").await).await;
}
