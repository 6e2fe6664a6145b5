//! Signals and `/healthz` while the threads of requests are busy with what hostile callers sent.

use std::time::{Duration, Instant};

use tokio::{
    io::AsyncWriteExt,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Client, Gateway, PATHS, Provider, SOON,
    common::{comes, within},
    gateway::config,
    stopping::takes_nobody,
};

/// Tool calls of one id, in the other dialect than the first tier's: much to translate, and little to send.
fn dear(calls: usize) -> String {
    let call = r#"{"id":"x","type":"function","function":{"name":"f","arguments":"{}"}}"#;
    let calls = vec![call; calls].join(",");
    let body = format!(
        r#"{{"model":"gpt-of-the-caller","max_tokens":5,"messages":[{{"role":"user","content":"hi"}},{{"role":"assistant","tool_calls":[{calls}]}},{{"role":"tool","tool_call_id":"x","content":"a"}}]}}"#
    );
    format!("POST {} HTTP/1.1\r\nhost: g\r\ncontent-length: {}\r\n\r\n{body}", PATHS[1], body.len())
}

async fn probe(address: &str) {
    let mut client = Client::connect(address).await.expect("connected");
    client.send("GET /healthz HTTP/1.1\r\nhost: g\r\n\r\n").await.unwrap();
    let answer = timeout(Duration::from_secs(60), client.answer()).await.expect("an answer").unwrap();
    assert_eq!((answer.status, &*answer.body), (200, "ok\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_is_answered_and_a_stop_is_heard_however_busy_the_others_are() {
    let provider = Provider::start();
    let gateway = Gateway::start(&config(&provider.address, ""), &["--grace", "60"]);
    let mut busy = JoinSet::new();
    for _ in 0..8 {
        let mut client = Client::connect(gateway.address()).await.unwrap();
        client.send(dear(60_000)).await.unwrap();
        busy.spawn(async move { client.answer().await });
    }
    for _ in 0..10 {
        probe(gateway.address()).await;
    }
    assert!(busy.try_join_next().is_none(), "a probe waits for nobody");

    gateway.signal("-TERM");
    within(Duration::from_secs(60), "it is not heard", || gateway.log().contains("stopping"));
    assert!(busy.try_join_next().is_none(), "and neither does a signal");
    takes_nobody(&gateway).await;
    for answer in busy.join_all().await {
        assert_eq!(answer.expect("an answer within the grace").status, 200);
    }
    gateway.ended();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_is_answered_although_callers_have_taken_every_place() {
    let provider = Provider::start();
    let gateway = Gateway::start(&config(&provider.address, "gateway: { connections: 8 }\n"), &[]);
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(Client::connect(gateway.address()).await.unwrap());
    }
    for _ in 0..10 {
        probe(gateway.address()).await;
    }
    let mut one_more = Client::connect(gateway.address()).await.unwrap();
    let answer = one_more.answer().await.unwrap();
    assert!(answer.status == 503 && answer.body.contains("`gateway.connections`"), "{answer:?}");
    drop(idle);
    gateway.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_gateway_while_streams_are_open() {
    let provider = Provider::start();
    let gateway = Gateway::start(&config(&provider.address, ""), &["--grace", "60"]);
    let mut stream = super::held(gateway.address(), PATHS[0]).await;
    for (signal, code) in [("-INT", None), ("-TERM", Some(128 + 15))] {
        gateway.signal(signal);
        if code.is_none() {
            // Signals of one moment may come as one.
            comes(Duration::from_secs(10), "it is not heard", || gateway.log().contains("SIGINT").then_some(()));
            assert!(timeout(Duration::from_millis(200), stream.until("never")).await.is_err(), "it is not cut");
        }
    }
    let ran = gateway.into_inner().ran();
    assert_eq!(ran.code, Some(128 + 15), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_sent_requests_do_not_delay_the_exit() {
    let provider = Provider::start();
    let gateway = Gateway::start(&config(&provider.address, ""), &["--grace", "30"]);
    let mut half_heads = Vec::new();
    for head in ["GET /healthz HTTP/1.1\r\nhost", "POST /v1/messages HTTP/1.1\r\nhost: g\r\n", "PO"] {
        let mut client = Client::connect(gateway.address()).await.unwrap();
        client.send(head).await.unwrap();
        half_heads.push(client);
    }
    let mut half_bodies = Vec::new();
    for path in PATHS {
        let mut client = Client::connect(gateway.address()).await.unwrap();
        client
            .send(format!("POST {path} HTTP/1.1\r\nhost: g\r\ncontent-length: 90000\r\n\r\n{{\"model\":"))
            .await
            .unwrap();
        half_bodies.push((path, client));
    }
    // One that goes on for ever, a byte at a time.
    let mut slow = Client::connect(gateway.address()).await.unwrap();
    slow.send("POST /v1/messages HTTP/1.1\r\nhost: g\r\ncontent-length: 90000\r\n\r\n").await.unwrap();
    let dripping = tokio::spawn(async move {
        while slow.stream.write_all(b" ").await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    });
    sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    gateway.signal("-TERM");
    for (path, mut client) in half_bodies {
        let answer = client.answer().await.expect("it is told");
        assert!(answer.status == 503 && answer.is_error_of(path), "{answer:?}");
        assert!(answer.body.contains("stopping"), "{answer:?}");
    }
    gateway.ended();
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    dripping.await.unwrap();
}
