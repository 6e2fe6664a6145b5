//! The Codex CLI, which speaks OpenAI's Responses and nothing else: its turns at a simulated provider, and through the
//! gateway at providers of four protocols.
//!
//! `STEADFAST_CODEX` names the program; without the variable the tests say so and are skipped. Codex has no account,
//! and neither it nor the providers are on a network.

mod client;

use serde_json::json;
use steadfast::providers::simulated::{Fault, Simulated, SimulatedHandle};
use steadfast_simulator::SimulatedServer;

use crate::{
    common::serve::{Serve, Served},
    faults::turns::FaultCase,
    upstream::Upstream,
};
use client::Codex;

const SAID: &str = "Hello from afar, and all is well";

/// A model whose file editing is a custom tool.
const EDITOR: &str = "gpt-5.5";
/// A model of which Codex knows nothing: the tools of its servers are namespaces.
const UNKNOWN: &str = "steadfast";
/// A model that works by code: its tools are an item of the conversation.
const CODER: &str = "gpt-6.1-sol";

/// Returns the lines of a tier whose provider speaks this protocol.
fn tier(upstream: Upstream, name: &str, server: &SimulatedServer, more: &str) -> String {
    let model = match upstream {
        Upstream::Responses => "gpt-5.5",
        Upstream::Chat => "gpt-5.4",
        Upstream::Messages => "claude-sonnet-4-5",
        Upstream::Gemini => "gemini-2.5-flash",
    };
    upstream.tier(name, server, model, more)
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
    let patch =
        "*** Begin Patch\n*** Update File: greeting.txt\n@@\n-Hello\n+Hello \"from\" \\ afar, ümläute\n*** End Patch\n";
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

/// A gateway with a provider of each protocol, and one more of each that is always well.
struct World {
    gateway: Served,
    providers: Vec<(Upstream, SimulatedServer)>,
    _others: Vec<SimulatedServer>,
}

/// The primary, and the provider that takes over: of another protocol, or of the same one with another account. One of
/// Responses is nowhere behind another, for it would be asked first: it alone has the web search that Codex offers.
const SUCCESSORS: [(Upstream, Upstream); 5] = [
    (Upstream::Responses, Upstream::Messages),
    (Upstream::Messages, Upstream::Chat),
    (Upstream::Chat, Upstream::Gemini),
    (Upstream::Gemini, Upstream::Messages),
    // The second one cannot read the reasoning that the first one sealed.
    (Upstream::Responses, Upstream::Responses),
];

impl World {
    async fn start() -> Self {
        let (mut tiers, mut features) = (String::new(), String::new());
        let (mut providers, mut others) = (Vec::new(), Vec::new());
        for upstream in Upstream::ALL {
            let server = provider(&upstream.to_string()).await;
            tiers.push_str(&tier(upstream, &format!("{upstream}-tier"), &server, ""));
            features.push_str(&format!("  {upstream}: {{ tiers: [{upstream}-tier] }}\n"));
            providers.push((upstream, server));
        }
        for (first, then) in SUCCESSORS {
            let pair = format!("{first}-{then}");
            let servers = [provider(&format!("{pair}-first")).await, provider(&format!("{pair}-then")).await];
            tiers.push_str(&tier(first, &format!("{pair}-first"), &servers[0], ""));
            tiers.push_str(&tier(then, &format!("{pair}-then"), &servers[1], ""));
            features.push_str(&format!("  {pair}: {{ tiers: [{pair}-first, {pair}-then] }}\n"));
            let [server, other] = servers;
            providers.push((first, server));
            others.push(other);
        }
        let config = format!("tiers:\n{tiers}features:\n{features}");
        Self { gateway: Serve::with(&config).start(), providers, _others: others }
    }

    fn codex(&self, model: &'static str, feature: &str) -> Option<Codex> {
        let url = format!("http://{}/v1", self.gateway.address());
        Codex::new(&url, model, &[("x-steadfast-feature", feature)])
    }
}

/// Works at a provider of each protocol: over HTTP, or over a WebSocket, as at OpenAI's own server. Codex says so where
/// it has to turn to HTTP.
async fn works_at_four_protocols(over_sockets: bool) {
    if std::env::var_os("STEADFAST_CODEX").is_none() {
        return eprintln!("skipped: STEADFAST_CODEX does not name the Codex CLI");
    }
    let world = World::start().await;
    for (upstream, server) in &world.providers[..Upstream::ALL.len()] {
        let (name, handle) = (upstream.to_string(), server.handle());
        println!("{name}");
        let [editor, unknown] = [EDITOR, UNKNOWN].map(|model| {
            let codex = world.codex(model, &name).unwrap();
            if over_sockets { codex.with_sockets() } else { codex }
        });
        let turn = editor.turn("say hello").await;
        assert_eq!(turn.answer(), Ok(SAID));
        assert!(!turn.said().contains("WebSocket"), "{}", turn.said());
        edits_a_file(&editor, &handle).await;
        calls_a_server(&unknown, &handle).await;
        talks(&editor, &handle, || {}).await;
        let stats = handle.stats();
        assert_eq!((stats.answered, stats.rejected), (stats.calls, 0), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codex_works_at_providers_of_four_protocols() {
    works_at_four_protocols(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codex_works_over_a_socket_at_providers_of_four_protocols() {
    works_at_four_protocols(true).await;
}

/// The tools of such a model are an item `additional_tools` of the conversation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codex_with_a_model_that_works_by_code_says_hello() {
    if std::env::var_os("STEADFAST_CODEX").is_none() {
        return eprintln!("skipped: STEADFAST_CODEX does not name the Codex CLI");
    }
    let world = World::start().await;
    let mut failures = Vec::new();
    for upstream in Upstream::ALL {
        let codex = world.codex(CODER, &upstream.to_string()).unwrap();
        let turn = codex.turn("say hello").await;
        if turn.answer() != Ok(SAID) {
            failures.push(format!("{upstream}: {:.600}", turn.said()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codex_goes_on_when_the_first_provider_fails_from_the_second_turn_on() {
    if std::env::var_os("STEADFAST_CODEX").is_none() {
        return eprintln!("skipped: STEADFAST_CODEX does not name the Codex CLI");
    }
    let world = World::start().await;
    for ((first, then), (_, server)) in SUCCESSORS.into_iter().zip(&world.providers[Upstream::ALL.len()..]) {
        let (pair, handle) = (format!("{first}-{then}"), server.handle());
        for codex in [world.codex(EDITOR, &pair).unwrap(), world.codex(EDITOR, &pair).unwrap().with_sockets()] {
            println!("{pair}");
            handle.heal();
            talks(&codex, &handle, || handle.fail(Fault::Overloaded)).await;
        }
        let stats = handle.stats();
        assert!(stats.answered >= 1, "{pair}: {stats:?}");
    }
}

/// The sixteen faults, one turn or more for each, at a primary and a fallback that speak Codex's own protocol; those
/// that differ also at primaries of the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codex_survives_sixteen_faults() {
    if std::env::var_os("STEADFAST_CODEX").is_none() {
        return eprintln!("skipped: STEADFAST_CODEX does not name the Codex CLI");
    }
    let cases = FaultCase::all(Upstream::Responses).await;
    let gateway = FaultCase::serve(&cases);
    let url = format!("http://{}/v1", gateway.address());
    let codex = |case: &FaultCase| Codex::new(&url, EDITOR, &[("x-steadfast-feature", &case.name)]).unwrap();
    FaultCase::judge(&cases, codex, async |codex| {
        let turn = codex.turn("say sixty words").await;
        turn.answer().map(str::to_owned).map_err(str::to_owned)
    })
    .await;
}
