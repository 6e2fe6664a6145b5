//! The cost of an answer, as its caller and an operator read it.

use serde_json::{Value, json};
use steadfast::{BoxLlmService, providers::OpenAi};

use super::harness::*;
use crate::limits::Settings;

const ROUTED: &str = r#"{"id":"c","object":"chat.completion","model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1000,"completion_tokens":100}}"#;
const BILLED: &str = r#"{"id":"c","object":"chat.completion","model":"some-model","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1000,"completion_tokens":100,"cost":0.00042}}"#;
const UNPRICED: &str = r#"{"id":"c","object":"chat.completion","model":"some-model","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1000,"completion_tokens":100}}"#;

fn leaf(url: &str, model: &str) -> BoxLlmService {
    BoxLlmService::new(OpenAi::new("sk").base_url(&format!("{url}/v1")).unwrap().model(model))
}

async fn record(server: &Server, answer: &Answer) -> Value {
    let id = answer.header("x-steadfast-request-id").unwrap();
    server.gateway.records.find(id).unwrap().json(false)
}

#[tokio::test]
async fn a_whole_answers_head_and_record_have_its_cost_and_both_names() {
    // gpt-4o-mini: 0.15 and 0.60 dollars for a million tokens, by OpenAI's page.
    for (body, asked, cost) in [
        (ROUTED, "model-router", Some("0.00021")),
        (ROUTED, "gpt-4o", Some("0.00021")),
        (BILLED, "nobody-knows", Some("0.00042")),
        (BILLED, "gpt-4o", Some("0.00042")),
        (UNPRICED, "nobody-knows", None),
    ] {
        for path in PATHS {
            let (url, seen) = raw_server("application/json", body).await;
            let server = Server::start(leaf(&url, asked), Settings::default()).await;
            let answer = server.post(path, &[("x-steadfast-session", "s-7")], &hello(false)).await;
            seen.await.unwrap();
            assert_eq!((answer.status, answer.header("x-steadfast-cost-usd")), (200, cost), "{path}, {asked}");
            let record = record(&server, &answer).await;
            assert_eq!(record["session"], "s-7");
            let served: Value = serde_json::from_str(body).unwrap();
            assert_eq!((&record["model"], &record["served_model"]), (&json!(asked), &served["model"]), "{path}");
            assert_eq!(record["cost_usd"].as_f64(), cost.map(|cost| cost.parse().unwrap()), "{path}, {asked}");
        }
    }
}

#[tokio::test]
async fn a_streams_cost_is_in_its_record() {
    const EVENTS: &str = "data: {\"id\":\"c\",\"model\":\"some-model\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\ndata: {\"id\":\"c\",\"model\":\"some-model\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"id\":\"c\",\"model\":\"some-model\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":1,\"cost\":0.00042}}\n\ndata: [DONE]\n\n";
    for path in PATHS {
        let (url, seen) = raw_server("text/event-stream", EVENTS).await;
        let server = Server::start(leaf(&url, "nobody-knows"), Settings::default()).await;
        let answer = server.post(path, &[], &hello(true)).await;
        seen.await.unwrap();
        assert!(answer.is_whole() && answer.header("x-steadfast-cost-usd").is_none(), "{path}: {answer:?}");
        let record = record(&server, &answer).await;
        assert_eq!((&record["cost_usd"], &record["served_model"]), (&json!(0.00042), &json!("some-model")), "{path}");
    }
}

/// A gateway behind this one has its own prices, and the money goes there.
#[tokio::test]
async fn the_cost_of_a_gateway_behind_this_one_is_its_own() {
    let (url, seen) = raw_server("application/json", BILLED).await;
    let behind = Server::start(leaf(&url, "gpt-4o"), Settings::default()).await;
    let front = Server::start(leaf(&format!("http://{}", behind.address), "gpt-4o"), Settings::default()).await;
    let answer = front.post(CHAT, &[], &hello(false)).await;
    seen.await.unwrap();
    assert_eq!(answer.header("x-steadfast-cost-usd"), Some("0.00042"));
    let unbilled = UNPRICED.replace("some-model", "gpt-4o-mini").leak();
    let (url, seen) = raw_server("application/json", unbilled).await;
    let behind = Server::start(leaf(&url, "gpt-4o-mini"), Settings::default()).await;
    let front = Server::start(leaf(&format!("http://{}", behind.address), "alias"), Settings::default()).await;
    let answer = front.post(CHAT, &[], &hello(false)).await;
    seen.await.unwrap();
    assert_eq!(answer.header("x-steadfast-cost-usd"), Some("0.00021"), "by the head: this one knows no `alias`");
}
