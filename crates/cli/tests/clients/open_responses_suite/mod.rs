//! The Open Responses specification's own conformance suite, run as it is: over HTTP and WebSockets, before a provider
//! of each protocol, with responses that are kept and that are not.
//!
//! `STEADFAST_OPEN_RESPONSES` names the suite's folder with its packages (bun and zod) installed.

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use steadfast::providers::Simulated;
use steadfast_simulator::SimulatedServer;

use crate::common::{Folder, key, serve::Serve};

/// The cases of a provider's own compaction, which is OpenAI's alone: no simulated provider has it.
const OF_COMPACTION: [&str; 3] = ["compact-response", "compact-missing-model", "websocket-compact-new-chain"];

/// Returns the ids of the suite's cases, and the problems of those that failed.
fn judged(suite: &str, url: &str, key: &str) -> (Vec<String>, Vec<(String, String)>) {
    let ran = Command::new(format!("{suite}/node_modules/.bin/bun"))
        .args(["run", "bin/compliance-test.ts", "--json", "--model", "gpt-4o", "--base-url", url, "--api-key", key])
        .current_dir(suite)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let report: Value = serde_json::from_str(&said)
        .unwrap_or_else(|error| panic!("{error}: {said}{}", String::from_utf8_lossy(&ran.stderr)));
    let results = report["results"].as_array().unwrap();
    let id = |result: &Value| result["id"].as_str().unwrap().to_owned();
    let failed = results.iter().filter(|result| result["status"] != "passed");
    // An event that fits into none of thirty schemas has the problems of all.
    let problems = |result: &Value| result["errors"].to_string().chars().take(500).collect();
    (results.iter().map(id).collect(), failed.map(|result| (id(result), problems(result))).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_at_a_provider_of_each_protocol() {
    let Ok(suite) = std::env::var("STEADFAST_OPEN_RESPONSES") else {
        eprintln!("skipped: the Open Responses suite is not here (STEADFAST_OPEN_RESPONSES)");
        return;
    };
    let (secret, entry) = key("judge");
    for (dialect, tier, path) in [
        ("responses", "provider: openai, api: responses, model: gpt-4o", "/v1"),
        ("chat", "provider: openai, api: chat, model: gpt-4o", "/v1"),
        ("messages", "provider: anthropic, model: claude-sonnet-4-5", ""),
        ("gemini", "provider: gemini, model: gemini-2.5-flash", "/v1beta"),
    ] {
        let provider = Simulated::new("model").reply("The code word is cobalt.");
        provider.handle().plan_calls([("get_weather", json!({"location": "San Francisco, CA"}))]);
        let provider = SimulatedServer::start(provider).await.unwrap();
        for kept in [false, true] {
            let folder = Folder::new("open-responses");
            let keep = match kept {
                true => format!(
                    "responses: {{ keep: 1h }}\nstores: {{ durable: 'sqlite:{}' }}\n",
                    folder.path("s").display()
                ),
                false => String::new(),
            };
            let url = provider.base_url() + path;
            let config = format!("tiers: [{{ name: only, {tier}, base_url: '{url}', api_key: '${{KEY}}' }}]\n{keep}");
            let gateway = Serve::with(&config).keys(&entry).env("KEY", "sk-of-the-provider").start();
            let (suite, url, secret) = (suite.clone(), format!("{}/v1", gateway.url()), secret.clone());
            let (cases, failed) = tokio::task::spawn_blocking(move || judged(&suite, &url, &secret)).await.unwrap();
            let sockets = cases.iter().filter(|case| case.starts_with("websocket-")).count();
            assert_eq!((cases.len(), sockets), (17, 7), "the suite has other cases: {cases:?}");
            let ids: Vec<&str> = failed.iter().map(|(id, _)| id.as_str()).collect();
            println!("{dialect}, kept {kept}: {} of {} pass", cases.len() - ids.len(), cases.len());
            assert!(ids.iter().all(|id| OF_COMPACTION.contains(id)), "{dialect}, kept {kept}: {failed:#?}");
        }
    }
}
