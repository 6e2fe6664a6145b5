//! Pictures at a web address: a prompt must not reach into the gateway's network.

use std::{io::ErrorKind, net::TcpListener};

use serde_json::{Value, json};
use steadfast::{
    BoxLlmService, FallbackLayer,
    providers::{Gemini, simulated::Simulated},
};
use steadfast_simulator::SimulatedServer;
use tower::Layer;

use super::harness::*;
use crate::limits::Settings;

/// A request of this dialect with a picture at an address.
fn with_picture(path: &str, url: &str) -> Value {
    let picture = match path {
        MESSAGES => json!({"type": "image", "source": {"type": "url", "url": url}}),
        RESPONSES => json!({"type": "input_image", "image_url": url}),
        _ => json!({"type": "image_url", "image_url": {"url": url}}),
    };
    let mut request = hello(false);
    let kind = if path == RESPONSES { "input_text" } else { "text" };
    request["messages"][0]["content"] = json!([{"type": kind, "text": "What is this?"}, picture]);
    request
}

#[tokio::test]
async fn a_picture_at_an_address_is_never_fetched_but_refused_or_left_to_who_can() {
    // A service that only the gateway can reach, and must not call.
    let inside = TcpListener::bind("127.0.0.1:0").unwrap();
    inside.set_nonblocking(true).unwrap();
    let url = format!("http://{}/picture.png", inside.local_addr().unwrap());
    let google = SimulatedServer::start(Simulated::new("g").reply("A picture")).await.unwrap();
    let gemini =
        || BoxLlmService::new(Gemini::new("k").base_url(&google.base_url()).unwrap().model("gemini-2.5-flash"));
    let providers = Providers::saying("A picture from afar").await;

    let alone = Server::start(gemini(), Settings::default()).await;
    let rescued = FallbackLayer::new("gemini").tier("sonnet", providers.claude()).layer(gemini());
    let rescued = Server::start(BoxLlmService::new(rescued), Settings::default()).await;
    let claude = Server::start(providers.claude(), Settings::default()).await;
    let gpt = Server::start(providers.gpt(), Settings::default()).await;
    // To a provider of its own protocol Gemini's caller may name a file at an address, which is Google's to fetch.
    for path in [MESSAGES, CHAT, RESPONSES] {
        let request = with_picture(path, &url);
        // This model needs the bytes, and the gateway does not fetch them.
        let refused = alone.post(path, &[], &request).await;
        let error = &refused.json()["error"];
        assert_eq!((refused.status, &*refused.error_type()), (400, invalid(path)), "{path}");
        assert!(error["message"].as_str().unwrap().contains("nothing is fetched on the caller's behalf"), "{error}");
        // A model that takes addresses gets the address unchanged, and is the fallback for one that cannot.
        for server in [&rescued, &claude, &gpt] {
            let answer = server.post(path, &[], &request).await;
            assert_eq!((answer.status, answer.text()), (200, "A picture from afar".to_owned()), "{path}");
        }
    }
    assert_eq!(google.handle().stats().calls, 0);
    // A picture that comes with its bytes is like any other.
    let bytes = with_picture(CHAT, "data:image/png;base64,aGVsbG8=");
    assert_eq!(alone.post(CHAT, &[], &bytes).await.text(), "A picture");
    assert_eq!(inside.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "somebody went there");
}
