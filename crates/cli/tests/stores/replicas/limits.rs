//! The limits of a key and of a team are those of all gateways that share a Redis.

use serde_json::Value;

use super::*;
use crate::common::key;

/// Asks with a key.
async fn ask_as(gateway: &Served, key: &str) -> Answer {
    let mut client = Client::connect(gateway.address()).await.unwrap();
    let body = r#"{"model":"claude-sonnet-4-5","max_tokens":50,"messages":[{"role":"user","content":"hello"}]}"#;
    let length = body.len();
    let head =
        format!("POST /v1/messages HTTP/1.1\r\nhost: gateway\r\nx-api-key: {key}\r\ncontent-length: {length}\r\n\r\n");
    client.send(head + body).await.unwrap();
    client.answer().await.unwrap()
}

/// The requests that are left of a minute, as a gateway tells a key: its own or its team's.
async fn requests_left(gateway: &Served, key: &str, whose: &str) -> u64 {
    let mut client = Client::connect(gateway.address()).await.unwrap();
    client.send(format!("GET /v1/key HTTP/1.1\r\nhost: gateway\r\nx-api-key: {key}\r\n\r\n")).await.unwrap();
    let told: Value = serde_json::from_str(&client.answer().await.unwrap().body).unwrap();
    told.pointer(whose).and_then(Value::as_u64).unwrap_or_else(|| panic!("{told}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_of_a_key_is_spent_at_all_gateways_and_outlives_a_restart() {
    is_spent_everywhere("requests_per_minute: 6", "", "/key/requestsLeft").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_of_a_team_is_spent_at_all_gateways_and_outlives_a_restart() {
    let file = "gateway: { teams: { search: { requests_per_minute: 6 } } }\n";
    is_spent_everywhere("team: search", file, "/key/teamLimits/requestsLeft").await;
}

/// Spends a rate of 6, of a key with this field under a configuration that ends so, at one of two gateways.
async fn is_spent_everywhere(field: &str, file: &str, left: &str) {
    let Some(redis) = Server::start().await else { return };
    let provider = Provider::start().await;
    let (secret, entry) = key("team");
    let entry = entry.replacen("\n", &format!("\n    {field}\n"), 1);
    let config = config(&provider, &redis.url()) + file;
    let start = || Serve::with(&config).env("PROVIDER_KEY", "sk-of-the-provider").keys(&entry).start();
    let mut gateways = [start(), start()];
    for _ in 0..6 {
        assert_eq!(ask_as(&gateways[0], &secret).await.status, 200);
    }
    assert_eq!(ask_as(&gateways[0], &secret).await.status, 429);
    // One passes before the first exchange, and one comes back in ten seconds.
    let begun = Instant::now();
    assert_eq!(ask_as(&gateways[1], &secret).await.status, 200);
    becomes("the other knows", async || requests_left(&gateways[1], &secret, left).await == 0).await;
    let passed = usize::from(ask_as(&gateways[1], &secret).await.status == 200);
    assert!(passed <= begun.elapsed().as_secs() as usize / 10, "the minute is spent");
    // A restart is no second minute.
    gateways[0].start_again();
    let (begun, mut passed) = (Instant::now(), 0);
    becomes("it is refused again", async || {
        let answer = ask_as(&gateways[0], &secret).await;
        sleep(Duration::from_millis(100)).await;
        answer.status == 429
    })
    .await;
    for _ in 0..6 {
        passed += usize::from(ask_as(&gateways[0], &secret).await.status == 200);
    }
    assert!(passed <= begun.elapsed().as_secs() as usize / 10, "{passed} passed");
}
