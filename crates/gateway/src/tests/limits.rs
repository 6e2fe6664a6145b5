//! The limits of a request's content, and other callers' waits while the gateway parses it.

use serde_json::{Value, json};
use steadfast::WireLimits;

use super::harness::*;
use crate::limits::Settings;

fn limited(limits: WireLimits) -> Settings {
    Settings { limits, ..Settings::default() }
}

/// Returns a request with this many turns.
fn turns(count: usize) -> Value {
    let turns: Vec<_> =
        (0..count).map(|n| json!({"role": if n % 2 == 0 { "user" } else { "assistant" }, "content": "x"})).collect();
    json!({"model": "m", "max_tokens": 9, "messages": turns})
}

#[tokio::test]
async fn what_is_over_a_limit_is_told_with_its_setting_in_the_callers_dialect() {
    for (path, foreign) in [(MESSAGES, CHAT), (CHAT, MESSAGES), (GEMINI, CHAT)] {
        let providers = Providers::start().await;
        let limits = WireLimits::default().messages(3);
        let translating = Server::start(providers.of(foreign).0, limited(limits)).await;
        let body = turns(5);
        let refused = translating.post(path, &[], &body).await;
        assert_eq!(refused.status, mistake(path, 413), "{refused:?}");
        assert_eq!(refused.json()["type"] == "error", path == MESSAGES, "{refused:?}");
        let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("more than 3 messages") && message.contains("gateway.limits.messages"), "{message}");
        assert_eq!(translating.post(path, &[], &turns(3)).await.status, 200);
        // The gateway does not decode a request that it forwards unchanged.
        let forwarding = Server::start(providers.of(path).0, limited(limits)).await;
        assert_eq!(forwarding.post(path, &[], &body).await.status, 200);
    }
}

#[tokio::test]
async fn to_count_tokens_is_to_take_apart() {
    let providers = Providers::start().await;
    let server = Server::start(providers.claude(), limited(WireLimits::default().nodes(100).depth(10))).await;
    let count = async |schema: Value| {
        let tool = json!({"name": "t", "input_schema": schema});
        let body = json!({"messages": [{"role": "user", "content": "x"}], "tools": [tool]});
        server.post("/v1/messages/count_tokens", &[], &body).await
    };
    assert_eq!(count(json!({"type": "object"})).await.status, 200);
    let deep = (0..20).fold(json!({}), |inside, _| json!({ "items": inside }));
    for (schema, setting) in [(json!(vec![json!([]); 100]), "gateway.limits.nodes"), (deep, "gateway.limits.depth")] {
        let refused = count(schema).await;
        assert_eq!((refused.status, &refused.json()["type"]), (413, &json!("error")));
        assert!(refused.body.contains(setting), "{refused:?}");
    }
}

/// The finding: sixteen thousand calls of one id, to a provider of another dialect, kept a worker busy for twenty
/// seconds.
#[tokio::test]
async fn calls_of_one_id_are_translated_beside_the_thread_that_serves() {
    let providers = Providers::start().await;
    let server = Server::start(providers.gpt(), limited(WireLimits::unlimited())).await;
    let call = json!({"type": "tool_use", "id": "a", "name": "t", "input": {}});
    let body = json!({"model": "m", "max_tokens": 9, "messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": vec![call; 16_000]},
        {"role": "user", "content": "x"},
    ]});
    let (answer, healthy) = tokio::join!(server.post(MESSAGES, &[], &body), server.get("/healthz", &[]));
    assert_eq!((answer.status, healthy.status), (200, 200), "{}", answer.body);
}
