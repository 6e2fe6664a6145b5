//! Callers cannot make the gateway keep more in memory than `gateway.memory`.

use std::time::{Duration, Instant};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Client, Gateway, PATHS, Provider, as_many_as, client, common::Folder, gateway::config, size};

/// Of `sk-of-the-caller`, and of `sk-of-another`.
const KEYS: &str = "
keys:
  - name: caller
    hash: sha256:6607a081472e7ee37b13c1ab54c9e03aa822d0b1d55b0634e388494a37ceaf86
  - name: another
    hash: sha256:3b9121f2d0c0a4d95627149b26808fe4ed15691c7e364509204bb402a0cb3815
";

const MIB: usize = 1 << 20;
/// The `body_idle_timeout` of a body that never ends.
const IDLE: Duration = Duration::from_secs(6);
/// The length of a body that is announced, in bytes.
const ANNOUNCED: usize = 31 * MIB;

/// Sends most of a large body with another's key, and waits for what comes of it: the answer, and when it came.
async fn half_sent(address: String, path: &'static str, sent: usize) -> (String, Duration) {
    let begun = Instant::now();
    let mut client = Client::connect(&address).await.expect("connected");
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: g\r\nx-api-key: sk-of-another\r\ncontent-length: {ANNOUNCED}\r\n\r\n{{\"model\":\"m\",\"x\":\""
    );
    // A caller that is refused may be cut off while it sends.
    if client.send(head).await.is_ok() {
        let piece = vec![b'x'; MIB / 4];
        for _ in 0..sent / piece.len() {
            if client.send(&piece).await.is_err() {
                break;
            }
        }
    }
    (client.rest().await, begun.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_that_never_end_stay_within_the_memory_and_others_are_served() {
    let provider = Provider::start();
    let folder = Folder::new("scale-memory");
    let keys = folder.file("keys.yaml", KEYS);
    let more = "gateway: { memory: 256MiB, body_idle_timeout: 6s }\n";
    let gateway = Gateway::start(&config(&provider.address, more), &["--keys", keys.to_str().unwrap()]);
    for path in PATHS {
        assert!(client::ask(gateway.address(), path, true).await.unwrap().is_whole());
    }
    let (before, _) = gateway.memory();
    let mut hostile = JoinSet::new();
    for number in 0..size(40, 60) {
        hostile.spawn(half_sent(gateway.address().to_owned(), PATHS[number % 2], size(16, 30) * MIB));
    }
    let honest = async {
        let mut longest = Duration::ZERO;
        for number in 0..30 {
            let begun = Instant::now();
            let answer = client::ask(gateway.address(), PATHS[number % 2], number % 3 == 0).await.expect("an answer");
            assert!(answer.is_whole(), "{answer:?}");
            longest = longest.max(begun.elapsed());
            sleep(Duration::from_millis(100)).await;
        }
        longest
    };
    let (longest, ended) = tokio::join!(honest, hostile.join_all());
    let (_, most) = gateway.memory();
    println!("{before} KB before, {most} KB at most; the slowest honest answer in {longest:?}");
    assert!(most < before + 256 * 1024, "{before} KB before, {most} KB at most");
    assert!(longest < IDLE, "{longest:?}");
    let (mut refused, mut given_up) = (0, 0);
    for (answer, took) in ended {
        let lower = answer.to_ascii_lowercase();
        if answer.starts_with("HTTP/1.1 503 ") {
            assert!(answer.contains("`gateway.memory`") && lower.contains("\r\nretry-after: 1\r\n"), "{answer}");
            assert!(lower.contains("\r\nconnection: close\r\n") && answer.contains(r#""error":{"#), "{answer}");
            refused += 1;
        } else if answer.starts_with("HTTP/1.1 408 ") {
            assert!(took >= IDLE, "{took:?}");
            given_up += 1;
        } else {
            // It was cut off while it was sending.
            assert_eq!(answer, "");
        }
    }
    println!("{refused} refused, {given_up} given up");
    assert!(refused > 0 && given_up > 0, "{refused} refused, {given_up} given up");
    // Nothing is left of them.
    let text = "x".repeat(3 * MIB);
    let answer = {
        let mut client = Client::connect(gateway.address()).await.unwrap();
        client
            .send(client::request(PATHS[0], false, &text).replace("sk-of-the-caller", "sk-of-another"))
            .await
            .unwrap();
        client.answer().await.unwrap()
    };
    assert!(answer.is_whole(), "{answer:?}");
    gateway.end();
}

/// Heads need no key. Each is as long as it may be, and never ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_heads_that_never_end_stay_within_the_memory() {
    let provider = Provider::start();
    let gateway = Gateway::start(&config(&provider.address, "gateway: { memory: 32MiB, max_body: 1MiB }\n"), &[]);
    for path in PATHS {
        assert!(client::ask(gateway.address(), path, true).await.unwrap().is_whole());
    }
    let (before, _) = gateway.memory();
    let head = format!("GET /v1/models HTTP/1.1\r\nhost: g\r\nx: {}", "y".repeat(60_000));
    let mut half = Vec::new();
    for _ in 0..as_many_as(240) {
        let mut client = Client::connect(gateway.address()).await.unwrap();
        client.send(&head).await.unwrap();
        half.push(client);
    }
    let mut told = 0;
    for client in &mut half {
        if let Ok(Ok(answer)) = timeout(Duration::from_millis(20), client.answer()).await {
            assert!(answer.status == 503 && answer.body.contains("`gateway.memory`"), "{answer:?}");
            assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
            told += 1;
        }
    }
    let (_, most) = gateway.memory();
    println!("{before} KB before, {most} KB at most; {told} refused");
    assert!(told > 120 && most < before + 32 * 1024, "{before} KB before, {most} KB at most; {told} refused");
    for path in PATHS {
        assert!(client::ask(gateway.address(), path, true).await.unwrap().is_whole());
    }
    drop(half);
    gateway.end();
}

/// An announced body that cannot have room is refused before a byte of it is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_without_room_is_refused_by_its_head() {
    let provider = Provider::start();
    let gateway = Gateway::start(&config(&provider.address, "gateway: { memory: 256MiB }\n"), &[]);
    let mut holding = Vec::new();
    let mut refused = None;
    for number in 0..8 {
        let path = PATHS[number % 2];
        let mut client = Client::connect(gateway.address()).await.unwrap();
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: g\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n", 20 * MIB);
        client.send(head).await.unwrap();
        let answer = client.answer().await.unwrap();
        if answer.status != 100 {
            refused = Some((path, answer));
            break;
        }
        // The callers that are let in send most of theirs.
        client.send(vec![b' '; 12 * MIB]).await.unwrap();
        sleep(Duration::from_millis(100)).await;
        holding.push(client);
    }
    let (path, answer) = refused.expect("one is refused");
    assert!((1..8).contains(&holding.len()), "{}", holding.len());
    assert!(
        answer.status == 503 && answer.is_error_of(path) && answer.header("retry-after") == Some("1"),
        "{answer:?}"
    );
    assert!(answer.body.contains("`gateway.memory`"), "{answer:?}");
    for path in PATHS {
        assert!(client::ask(gateway.address(), path, false).await.unwrap().is_whole(), "small ones have room");
    }
    drop(holding);
    gateway.end();
}
