//! `steadfast conformance`: a provider alone and a real gateway before it, and what is wrong with a command line.

#![allow(clippy::disallowed_methods, reason = "a real process keeps real time")]

use std::net::{SocketAddr, TcpListener};

use serde_json::Value;
use steadfast::providers::Simulated;
use steadfast_simulator::SimulatedServer;

use crate::common::{Ran, serve::Serve, steadfast};

/// Runs the command beside the servers of this runtime.
async fn conformance(arguments: Vec<String>) -> Ran {
    let run = move || {
        let arguments = ["conformance"].into_iter().chain(arguments.iter().map(String::as_str));
        steadfast(arguments, &[("STEADFAST_KEY", "sk-probe")])
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Returns an address that nobody has at the moment.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_alone_passes_what_needs_no_gateway() {
    let provider = SimulatedServer::start(Simulated::new("model").tokens(60..=60)).await.unwrap();
    let url = provider.base_url();
    let ran = conformance(words(&format!("{url} --model gpt-4o --caller chat,chat-stream"))).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    // Any key but `bad-key` is good here.
    assert!(ran.out.contains("errors/key               fail             fail"), "{ran:?}");
    assert!(ran.out.ends_with("13 pass, 0 told, 2 fail, 0 skip\n"), "{ran:?}");
    assert!(ran.err.contains("2 of 15 fail"), "{ran:?}");

    let ran =
        conformance(words(&format!("{url} --model gpt-4o --caller gemini --only ends/ --json --subject it"))).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&report["judge"], &report["subject"]), (&"steadfast conformance".into(), &"it".into()), "{report}");
    let cases: Vec<&str> =
        report["cases"].as_array().unwrap().iter().map(|case| case["name"].as_str().unwrap()).collect();
    assert_eq!(cases, ["ends/stop gemini", "ends/length gemini", "ends/call gemini", "ends/usage gemini"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_is_asked_with_the_commands_own_providers_behind_it() {
    let [primary, backup] = [free(), free()];
    let tier = |name: &str, address: SocketAddr| {
        format!(
            "- {{ name: {name}, provider: anthropic, model: claude-sonnet-4-5, base_url: 'http://{address}', api_key: '${{KEY}}' }}\n"
        )
    };
    let config = format!("tiers:\n{}{}", tier("first", primary), tier("second", backup));
    let gateway = Serve::with(&config).env("KEY", "sk-of-the-provider").start();
    let url = gateway.url();
    let only = "ends/early,translation/system,cancellation/waiting,faults/S04,faults/S16";
    let rest = format!("{url} --primary {primary} --backup {backup} --caller chat-stream,messages --only {only}");
    let ran = conformance(words(&rest)).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    assert!(ran.out.ends_with("8 pass, 0 told, 0 fail, 0 skip\n"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (taken, gone) = (taken.local_addr().unwrap(), free());
    for (arguments, code, said) in [
        ("--list".to_owned(), 0, ""),
        (String::new(), 2, "<URL>"),
        ("localhost".to_owned(), 2, "the URL must begin with http:// or https://"),
        (format!("http://{gone} --caller cohere"), 2, "one of messages, messages-stream, chat"),
        (format!("http://{gone} --primary {gone}"), 2, "--backup <ADDRESS>"),
        (format!("http://{gone} --only faults/"), 2, "faults need --primary and --backup"),
        (format!("http://{gone} --only ends"), 1, "the URL serves no caller; for the first: a healthy request fails"),
        (format!("http://{gone} --primary {taken} --backup {gone}"), 1, &format!("cannot listen on {taken}")),
    ] {
        let ran = conformance(arguments.split_whitespace().map(str::to_owned).collect()).await;
        assert_eq!(ran.code, Some(code), "{arguments}: {ran:?}");
        assert!(ran.err.contains(said), "{arguments}: {ran:?}");
    }
    let list = conformance(words("--list")).await;
    for name in ["ends/stop", "translation/picture", "outages/all-limited", "faults/S16"] {
        assert!(list.out.contains(name), "{list:?}");
    }
}
