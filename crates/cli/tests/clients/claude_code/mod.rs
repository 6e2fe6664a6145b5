//! Claude Code, by a token of an identity provider, whose caller's cap is nearly spent and then is: it warns, and ends
//! with the gateway's own words.
//!
//! `STEADFAST_CLAUDE_CODE` names the program; without the variable the test says so and is skipped. It has no account,
//! and neither it nor the provider is on a network.

use std::{process::Stdio, time::Duration};

use serde_json::{Value, json};
use steadfast_simulator::SimulatedIssuer;
use tokio::{process::Command, time::timeout};

use crate::common::{
    Folder,
    serve::{Serve, Served},
};

const MODEL: &str = "claude-sonnet-4-5";
/// A turn may take this long.
const LIMIT: Duration = Duration::from_secs(120);
/// Takes a turn. Returns the events that the client prints.
async fn turn(program: &str, gateway: &Served, token: &str, work: &Folder) -> Vec<Value> {
    let mut command = Command::new(program);
    command
        .args(["-p", "say hello", "--model", MODEL, "--output-format", "stream-json", "--verbose"])
        .current_dir(work.path(""))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", work.path(""))
        .env("ANTHROPIC_BASE_URL", gateway.url())
        .env("ANTHROPIC_AUTH_TOKEN", token)
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await.expect("a turn ends").unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claude_code_warns_of_its_keys_cap_and_says_when_it_is_spent() {
    let Some(program) = std::env::var("STEADFAST_CLAUDE_CODE").ok() else {
        return eprintln!("skipped: STEADFAST_CLAUDE_CODE does not name Claude Code");
    };
    // Each answer is one token, for a dollar.
    let tier = format!("{{ name: main, provider: simulated, model: {MODEL}, simulated: {{ reply: Hello }} }}");
    let config = format!("tiers: [{tier}]\nprices: {{ {MODEL}: {{ input: 0, output: 1000000 }} }}\n");
    let issuer = SimulatedIssuer::start().await.unwrap();
    // The client takes a token for `claude-gateway` for a login at a gateway, and looks for caps.
    let (url, limits) = (issuer.url(), "{ default: { budget: { usd: 10, period: month } } }");
    let oidc = format!("gateway: {{ oidc: {{ issuer: '{url}', audience: claude-gateway, limits: {limits} }} }}\n");
    let token = issuer.token(&json!({"aud": "claude-gateway", "sub": "ann"}));
    let gateway = Serve::with(&(config + &oidc)).start();
    let work = Folder::new("claude-code");
    let ask = || {
        let body = json!({"model": MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
        let headers = format!("authorization: Bearer {token}\r\ncontent-type: application/json\r\n");
        let answer = gateway.ask("POST /v1/messages", &headers, &body.to_string());
        (answer.status, answer.header("x-steadfast-cost-usd").map(str::to_owned))
    };
    let dollar = (200, Some("1.00".to_owned()));
    (0..8).for_each(|_| assert_eq!(ask(), dollar));
    let events = turn(&program, &gateway, &token, &work).await;
    let of = |kind: &str| events.iter().find(|event| event["type"] == kind).unwrap_or_else(|| panic!("{events:?}"));
    let standing = &of("rate_limit_event")["rate_limit_info"];
    assert_eq!(
        (&standing["status"], &standing["utilization"], &standing["surpassedThreshold"]),
        (&json!("allowed_warning"), &json!(0.8), &json!(0.75)),
        "{standing}"
    );
    assert_eq!(of("result")["is_error"], false);

    assert_eq!(ask(), dollar);
    let events = turn(&program, &gateway, &token, &work).await;
    let result = events.iter().find(|event| event["type"] == "result").unwrap_or_else(|| panic!("{events:?}"));
    let said = result["result"].as_str().unwrap();
    assert!(result["is_error"] == true && said.contains("(oidc:ann)") && said.contains("it resets at"), "{said}");
    assert_eq!(gateway.log().matches("request refused").count(), 1, "it does not ask again");
}
