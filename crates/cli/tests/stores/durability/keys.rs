//! Idempotency keys in a file on a disk that is full: each key is still one call in its process, and everybody is told.

use std::{fs, time::Duration};

use tokio::time::sleep;

use crate::{
    common::{Folder, client::Client, http::Answer, serve::Serve},
    durability::{broken::Disk, until},
    provider::Provider,
};

async fn asks(gateway: &str, key: &str) -> Answer {
    let body = r#"{"model":"claude-sonnet-4-5","max_tokens":50,"messages":[{"role":"user","content":"hello"}]}"#;
    let mut client = Client::connect(gateway).await.unwrap();
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: gateway\r\nidempotency-key: {key}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    client.send(head).await.unwrap();
    let answer = client.answer().await.unwrap();
    assert!(answer.is_whole(), "{answer:?}");
    answer
}

async fn get(gateway: &str, path: &str) -> String {
    let mut client = Client::connect(gateway).await.unwrap();
    client.send(format!("GET {path} HTTP/1.1\r\nhost: gateway\r\n\r\n")).await.unwrap();
    client.answer().await.unwrap().body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_to_callers_in_the_record_in_metrics_and_by_readyz() {
    let folder = Folder::new("durability-keys-full");
    let Some(disk) = Disk::new(folder.path("disk")) else { return };
    let provider = Provider::start().await;
    let config = format!(
        "
tiers:
  - {{ name: model, provider: anthropic, model: claude-sonnet-4-5, base_url: 'http://{}', api_key: '${{PROVIDER_KEY}}' }}
idempotency: {{}}
stores: {{ durable: 'sqlite:{}' }}
",
        provider.address,
        disk.0.join("keys.db").display()
    );
    let start =
        || Serve::with(&config).env("PROVIDER_KEY", "sk-of-the-provider").build_of("STEADFAST_SCALE_BINARY").start();
    let served = start();
    let gateway = served.address();
    let told = |answer: &Answer| answer.header("x-steadfast-repeated").map(str::to_owned);
    assert_eq!(told(&asks(gateway, "before").await), None);
    assert_eq!(get(gateway, "/readyz").await, "ready\n");

    disk.fills();
    let full = asks(gateway, "full").await;
    assert_eq!(told(&full).as_deref(), Some("possible"));
    let record = get(gateway, &format!("/requests/{}", full.header("x-steadfast-request-id").unwrap())).await;
    assert!(record.contains(r#""repeated":"possible""#), "{record}");
    for key in ["full", "before"] {
        assert_eq!(told(&asks(gateway, key).await), None, "it is known here");
    }
    assert_eq!(provider.calls(), 2);
    assert_eq!(get(gateway, "/readyz").await, "ready, but not all is well: idempotency: the store is full\n");
    let is_told = async |line: &str| get(gateway, "/metrics").await.lines().any(|there| there.starts_with(line));
    until("metrics tell of it", async || {
        is_told(r#"steadfast_store_available{store="idempotency"} 0"#).await
            && is_told("steadfast_possible_repeats_total").await
    })
    .await;
    until("the log tells of it", async || served.log().contains("the store is full: claiming a key")).await;

    fs::remove_file(disk.filler()).unwrap();
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(told(&asks(gateway, "room").await), Some("possible".to_owned()), "it could not be asked a moment ago");
    assert_eq!(get(gateway, "/readyz").await, "ready\n");
    // The store has by now what it could not take before, also for a process that begins again.
    served.stop();
    let served = start();
    for key in ["before", "full", "room"] {
        asks(served.address(), key).await;
    }
    assert_eq!(provider.calls(), 3);
    served.stop();
}
