//! The Codex CLI, which speaks OpenAI's Responses and nothing else: its turns at a simulated provider, and through the
//! gateway at providers of four protocols.
//!
//! `STEADFAST_CODEX` names the program; without the variable the tests say so and are skipped. Codex has no account, and
//! neither it nor the providers are on a network.

mod client;

use std::fmt;

use serde_json::json;
use steadfast::providers::simulated::{Fault, Simulated, SimulatedHandle};
use steadfast_simulator::SimulatedServer;

use crate::{
    common::serve::{Serve, Served},
    faults::scenarios::SCENARIOS,
};
use client::Codex;

const SAID: &str = "Hello from afar, and all is well";

/// A model whose file editing is a custom tool.
const EDITOR: &str = "gpt-5.5";
/// A model of which Codex knows nothing: the tools of its servers are namespaces.
const UNKNOWN: &str = "steadfast";
/// A model that works by code: its tools are an item of the conversation.
const CODER: &str = "gpt-6.1-sol";

/// The protocol of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upstream {
    Responses,
    Messages,
    Chat,
    Gemini,
}

impl Upstream {
    const ALL: [Self; 4] = [Self::Responses, Self::Messages, Self::Chat, Self::Gemini];

    /// Returns the lines of a tier in the file.
    fn tier(self, name: &str, server: &SimulatedServer, more: &str) -> String {
        let url = server.base_url();
        let provider = match self {
            Self::Responses => format!("provider: openai, api: responses, model: gpt-5.5, base_url: '{url}/v1'"),
            Self::Chat => format!("provider: openai, api: chat, model: gpt-5.4, base_url: '{url}/v1'"),
            Self::Messages => format!("provider: anthropic, model: claude-sonnet-4-5, base_url: '{url}'"),
            Self::Gemini => format!("provider: gemini, model: gemini-2.5-flash, base_url: '{url}'"),
        };
        format!("  - {{ name: {name}, {provider}, api_key: key{more} }}\n")
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::Chat => "chat",
            Self::Gemini => "gemini",
        })
    }
}

async fn provider(name: &str) -> SimulatedServer {
    SimulatedServer::start(Simulated::new(name).reply(SAID)).await.unwrap()
}

/// A turn of words.
async fn says_hello(codex: &Codex) {
    let turn = codex.turn("say hello").await;
    assert_eq!(turn.answer(), Ok(SAID));
}

/// A turn that edits a file.
async fn edits_a_file(codex: &Codex, provider: &SimulatedHandle) {
    let path = codex.work.file("greeting.txt", "Dear all,\nHello\n");
    let patch = "*** Begin Patch\n*** Update File: greeting.txt\n@@\n-Hello\n+Hello \"from\" \\ afar, ümläute\n*** End Patch\n";
    provider.plan_calls([("apply_patch", json!({ "input": patch }))]);
    let turn = codex.turn("greet from afar").await;
    provider.plan_calls::<String>([]);
    assert_eq!(turn.answer(), Ok(SAID));
    assert_eq!(turn.items("file_change").count(), 1, "{}", turn.said());
    let text = std::fs::read_to_string(path).unwrap();
    assert_eq!(text, "Dear all,\nHello \"from\" \\ afar, ümläute\n", "{}", turn.said());
}

/// A turn that calls the tool of a server, which is one of a namespace.
async fn calls_a_server(codex: &Codex, provider: &SimulatedHandle) {
    provider.plan_calls([("mcp__echo__say", json!({ "text": "good \"day\"" }))]);
    let turn = codex.turn("say good day").await;
    provider.plan_calls::<String>([]);
    assert_eq!(turn.answer(), Ok(SAID));
    let calls: Vec<_> = turn.items("mcp_tool_call").collect();
    let [call] = calls[..] else { panic!("{}", turn.said()) };
    assert_eq!((&call["server"], &call["tool"], &call["status"]), (&json!("echo"), &json!("say"), &json!("completed")));
    assert_eq!(call["result"]["content"][0]["text"], "said: good \"day\"");
}

/// A conversation of three turns, with a call in each.
async fn talks(codex: &Codex, provider: &SimulatedHandle, between: impl Fn()) {
    provider.plan_calls([("update_plan", json!(true))]);
    assert_eq!(codex.turn("say hello").await.answer(), Ok(SAID));
    between();
    for prompt in ["say it again", "and once more"] {
        assert_eq!(codex.resume(prompt).await.answer(), Ok(SAID));
    }
}

/// The simulator alone, so that a failure below is known to be the gateway's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codex_works_at_a_simulated_provider() {
    let server = provider("direct").await;
    let (url, handle) = (format!("{}/v1", server.base_url()), server.handle());
    let Some(editor) = Codex::new(&url, EDITOR, &[]) else { return };
    let [unknown, coder] = [UNKNOWN, CODER].map(|model| Codex::new(&url, model, &[]).unwrap());
    says_hello(&editor).await;
    says_hello(&coder).await;
    edits_a_file(&editor, &handle).await;
    calls_a_server(&unknown, &handle).await;
    talks(&editor, &handle, || {}).await;
    let stats = handle.stats();
    assert_eq!((stats.answered, stats.rejected), (stats.calls, 0));
}
