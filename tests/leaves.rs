//! The three leaves against the simulated provider as a real HTTP server: over sockets, with the default client.
#![cfg(feature = "simulator")]

use std::time::Duration;

use serde_json::json;
use steadfast::{
    BoxLlmService, Chat, ErrorKind, LlmError, LlmRequest, LlmResponse,
    chat::{Message, Tool},
    providers::{
        Anthropic, Gemini, OpenAi, Simulated,
        simulated::{Fault, server::SimulatedServer},
        transport::HttpClient,
    },
};
use tower::{Service, ServiceExt};

/// The leaves, each with connections of its own.
fn leaves(server: &SimulatedServer) -> [(&'static str, BoxLlmService); 3] {
    let (client, url) = (|| HttpClient::new().no_proxy(), server.base_url());
    let anthropic = Anthropic::new("key").base_url(&url).expect("a URL").model("m").transport(client());
    let openai =
        OpenAi::compatible("openai", &format!("{url}/v1")).expect("a URL").key("key").model("m").transport(client());
    let gemini = Gemini::new("key").base_url(&url).expect("a URL").model("m").transport(client());
    [
        ("anthropic", BoxLlmService::new(anthropic)),
        ("openai", BoxLlmService::new(openai)),
        ("gemini", BoxLlmService::new(gemini)),
    ]
}

async fn ask(leaf: &mut BoxLlmService, stream: bool) -> Result<LlmResponse, LlmError> {
    leaf.ready().await?.call(LlmRequest::prompt("hello").stream(stream)).await
}

#[tokio::test]
async fn every_leaf_reads_whole_and_streamed_answers() {
    let server = SimulatedServer::start(Simulated::new("p").reply("It rains.")).await.unwrap();
    for (name, mut leaf) in leaves(&server) {
        for stream in [false, true] {
            let response = ask(&mut leaf, stream).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(response.body().is_stream(), stream, "{name}");
            let message = response.collect().await.unwrap();
            assert_eq!(message.text(), "It rains.", "{name}, stream: {stream}");
            assert!(message.usage.is_some_and(|usage| usage.input > 0 && usage.output > 0), "{name}, stream: {stream}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn every_leaf_reads_tool_calls() {
    let server = SimulatedServer::start(Simulated::new("p").call_tools(json!({"city": "Paris"}))).await.unwrap();
    for (name, mut leaf) in leaves(&server) {
        for stream in [false, true] {
            let chat =
                Chat::new([Message::user("?")]).tool(Tool::new("weather", json!({"type": "object"}))).stream(stream);
            let message = leaf.ready().await.unwrap().call(chat.into()).await.unwrap().collect().await.unwrap();
            let call = message.tool_calls().next().unwrap_or_else(|| panic!("{name}, stream: {stream}: no call"));
            let arguments: serde_json::Value = serde_json::from_str(&call.arguments).unwrap();
            assert_eq!(
                (call.name.as_str(), arguments),
                ("weather", json!({"city": "Paris"})),
                "{name}, stream: {stream}"
            );
        }
    }
}

#[tokio::test]
async fn every_leaf_names_every_fault() {
    let server = SimulatedServer::start(Simulated::new("p")).await.unwrap();
    let wait = Some(Duration::from_secs(7));
    for (fault, kind) in [
        (Fault::ServerError, ErrorKind::Server),
        (Fault::BadGateway, ErrorKind::Server),
        (Fault::Unavailable, ErrorKind::Overloaded),
        (Fault::Overloaded, ErrorKind::Overloaded),
        (Fault::RateLimited { retry_after: wait }, ErrorKind::RateLimited),
        (Fault::RateLimited { retry_after: None }, ErrorKind::RateLimited),
        (Fault::ComeBackLater, ErrorKind::Overloaded),
        (Fault::InsufficientQuota, ErrorKind::QuotaExhausted),
        (Fault::Unauthorized, ErrorKind::Auth),
        (Fault::BadRequest, ErrorKind::InvalidRequest),
        (Fault::ContextLength, ErrorKind::ContextLength),
        (Fault::ContentFilter, ErrorKind::ContentPolicy),
        (Fault::MalformedAfter(0), ErrorKind::Malformed),
        (Fault::Status(522), ErrorKind::Server),
        (Fault::Refused, ErrorKind::Connect),
        (Fault::HtmlPage, ErrorKind::Malformed),
        (Fault::Empty, ErrorKind::EmptyAnswer),
        (Fault::CutAfter(0), ErrorKind::StreamBroken),
        (Fault::TruncatedAfter(0), ErrorKind::StreamBroken),
    ] {
        for (name, mut leaf) in leaves(&server) {
            for stream in [false, true] {
                server.handle().fail_next(1, &fault);
                let told = format!("{name}, stream: {stream}, {fault:?}");
                let error = match ask(&mut leaf, stream).await {
                    Err(error) => error,
                    Ok(response) => response.collect().await.expect_err(&told),
                };
                // What is cut in the middle is no answer, however it was asked for.
                let kinds = match kind {
                    ErrorKind::StreamBroken if !stream => {
                        &[ErrorKind::StreamBroken, ErrorKind::Malformed, ErrorKind::EmptyAnswer][..]
                    }
                    // Where the body says no more than "temporarily unavailable", either name is right.
                    ErrorKind::Overloaded if matches!(fault, Fault::Unavailable) => &[kind, ErrorKind::Server],
                    _ => &[kind],
                };
                assert!(kinds.contains(&error.kind()), "{told}: {error:?}");
                if let Fault::RateLimited { retry_after } = fault {
                    let near = |asked: Duration| asked <= Duration::from_secs(7) && asked > Duration::from_secs(5);
                    assert_eq!(error.retry_after().is_some_and(near), retry_after.is_some(), "{told}: {error:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn stream_that_is_cut_after_its_first_tokens_breaks_in_the_body() {
    let server = SimulatedServer::start(Simulated::new("p").reply("one two three four five six")).await.unwrap();
    for fault in [Fault::CutAfter(3), Fault::TruncatedAfter(3), Fault::ErrorEventAfter(3)] {
        for (name, mut leaf) in leaves(&server) {
            server.handle().fail_next(1, &fault);
            let response = ask(&mut leaf, true).await.unwrap_or_else(|error| panic!("{name}, {fault:?}: {error}"));
            let error = response.collect().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::StreamBroken, "{name}, {fault:?}");
        }
    }
}
