//! Keys and names of models that have never worked, and requests that nobody else can serve.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::{house::*, *};

/// One tier, with the settings that a file without any has.
const ONE: &str = "tiers: [{ name: only, provider: openai, model: gpt-4o }]";

fn refused() -> Reply {
    Reply::json(
        401,
        json!({"error": {"type": "invalid_request_error", "code": "invalid_api_key", "message": "no"}}).to_string(),
    )
}

fn unknown() -> Reply {
    Reply::json(
        404,
        json!({"error": {"code": "model_not_found", "message": "The model `gpt-40` does not exist"}}).to_string(),
    )
}

async fn ready(house: &House) -> u16 {
    // The events come to the board in a task of their own.
    sleep(Duration::from_millis(1)).await;
    house.get("/readyz", &[]).await.status
}

fn setups(house: &House) -> Vec<String> {
    let status = serde_json::to_value(house.stack.status()).expect("JSON");
    let tiers = status["tiers"].as_array().expect("tiers");
    tiers.iter().map(|tier| tier["setup"].as_str().expect("a word").to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_gateway_whose_only_key_or_model_has_never_worked_is_not_ready() {
    for (reply, setup) in [(refused(), "key_refused"), (unknown(), "model_unknown")] {
        let provider = Scripted::new([reply]);
        let house = Plan::of(ONE).scripted(OPENAI, &provider).build();
        assert_eq!((ready(&house).await, setups(&house)), (200, vec!["untried".to_owned()]), "no request was made");
        assert!(house.post(CHAT, &[], &hello(false)).await.status >= 400);
        assert_eq!((ready(&house).await, setups(&house)), (503, vec![setup.to_owned()]));
        // It would never get a request again if it stayed so.
        sleep(Duration::from_secs(61)).await;
        assert_eq!(ready(&house).await, 200);
    }
}

// The revoked key, and a restart: what has worked before it is forgotten, and the backup serves.
#[tokio::test(start_paused = true)]
async fn a_backup_serves_for_a_key_or_a_model_that_has_never_worked() {
    for (reply, setup) in [(refused(), "key_refused"), (unknown(), "model_unknown")] {
        for (config, host) in [(TWO, ANTHROPIC), (TURNED, OPENAI)] {
            for path in PATHS {
                let provider = Scripted::new([reply.clone()]);
                let house = Plan::of(config).scripted(host, &provider).build();
                assert_eq!(ready(&house).await, 200);
                for _ in 0..3 {
                    house.post(path, &[], &hello(false)).await.assert_clean(&format!("{setup} {host} {path}"));
                }
                assert_eq!(ready(&house).await, 200, "{setup} {host} {path}");
                assert_eq!(setups(&house), [setup, "works"]);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_has_worked_is_an_outage_and_leaves_the_gateway_ready() {
    let answer = json!({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}).to_string();
    let provider = Scripted::new([Reply::json(200, answer), refused()]);
    let house = Plan::of(ONE).scripted(OPENAI, &provider).build();
    assert_eq!(ready(&house).await, 200);
    assert_eq!(house.post(CHAT, &[], &hello(false)).await.status, 200);
    assert!(house.post(CHAT, &[], &hello(false)).await.status >= 400);
    assert_eq!((ready(&house).await, setups(&house)), (200, vec!["works".to_owned()]));
}

// One tier and no keys: what callers do wrong is said to each of them, and closes the only way to none.
#[tokio::test(start_paused = true)]
async fn bad_requests_never_close_the_only_way_nor_lose_the_providers_words() {
    let bad = json!({"error": {"type": "invalid_request_error", "param": "tools", "message": "tools.0: no such tool"}});
    let bad = Reply::json(400, bad.to_string());
    let answer = json!({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}).to_string();
    let replies: Vec<Reply> = (0..40).map(|_| bad.clone()).chain([Reply::json(200, answer)]).collect();
    let provider = Scripted::new(replies);
    let house = Plan::of(ONE).scripted(OPENAI, &provider).build();
    for turn in 0..40 {
        let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": format!("request {turn}")}]});
        let answer = house.post(CHAT, &[], &body).await;
        assert_eq!(answer.status, 400, "{turn}: {answer:?}");
        assert_eq!(answer.json()["error"]["message"], "tools.0: no such tool", "{turn}");
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(house.post(CHAT, &[], &hello(false)).await.status, 200);
    assert_eq!(ready(&house).await, 200);
}
