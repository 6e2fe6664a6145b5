//! Very many connections that say nothing, and callers that send a byte a second.

use std::time::{Duration, Instant};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Client, Gateway, PATHS, Provider, SOON, as_many_as, client, gateway::config, size};

/// The memory limit of an idle connection, in bytes.
const IDLE: usize = 6_000;

/// The memory that an allocator reserves for each of its threads, in bytes.
const SPARE: usize = 8 * 1024 * 1024;

/// Others are served as if nobody else were there.
async fn others_are_served(address: &str) {
    for path in PATHS {
        for stream in [true, false] {
            let begun = Instant::now();
            let answer = client::ask(address, path, stream).await.expect("an answer");
            assert!(answer.is_whole(), "{answer:?}");
            assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_disturb_nobody() {
    // Some are for the others.
    let count = as_many_as(size(500, 10_000) + 50) - 50;
    let provider = Provider::start();
    let gateway = Gateway::start(&config(&provider.address, ""), &[]);
    // The memory for the first requests is not the connections'.
    others_are_served(gateway.address()).await;
    let (before, _) = gateway.memory();
    let mut idle = Vec::with_capacity(count);
    for number in 0..count {
        idle.push(Client::connect(gateway.address()).await.expect("connected"));
        if number % (count / 10) == 0 {
            others_are_served(gateway.address()).await;
        }
    }
    others_are_served(gateway.address()).await;
    let (now, _) = gateway.memory();
    let taken = (now - before) * 1024;
    println!("{count} idle connections: {} bytes for each", taken / count);
    assert!(taken < IDLE * count + SPARE, "{taken}");
    drop(idle);
    gateway.end();
}

/// A caller that sends one byte a second: when it was ended, and with what.
async fn drip(address: String, text: String) -> (Duration, String) {
    let mut client = Client::connect(&address).await.expect("connected");
    let begun = Instant::now();
    // It gets to the interesting place at once.
    let (at_once, slowly) = text.split_at(text.len() - 300);
    client.send(at_once).await.expect("sent");
    for byte in slowly.bytes() {
        let ready = timeout(Duration::from_secs(1), client.stream.readable()).await;
        if ready.is_ok() || client.send([byte]).await.is_err() {
            break;
        }
    }
    let took = begun.elapsed();
    (took, client.rest().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes as long as the gateway's patience, which is half a minute"]
async fn a_caller_that_sends_a_byte_a_second_is_cut_off_in_time_with_an_error() {
    let provider = Provider::start();
    let gateway = Gateway::start(&config(&provider.address, ""), &[]);
    let mut slow = JoinSet::new();
    for number in 0..100 {
        let path = PATHS[number % 2];
        let text = match number % 4 < 2 {
            true => {
                format!("GET {path} HTTP/1.1\r\nhost: gateway\r\nx-api-key: sk-of-the-caller\r\nx: {}", "x".repeat(400))
            }
            false => client::request(path, true, &"slow ".repeat(100)),
        };
        slow.spawn(drip(gateway.address().to_owned(), text));
    }
    // Meanwhile a connection that says nothing at all is closed without a word.
    let silent = Client::connect(gateway.address()).await.expect("connected");
    slow.spawn(async move { (Duration::ZERO, silent.rest().await) });
    while !slow.is_empty() {
        others_are_served(gateway.address()).await;
        while let Some(ended) = slow.try_join_next() {
            let (took, read) = ended.unwrap();
            if took == Duration::ZERO {
                assert_eq!(read, "");
                continue;
            }
            assert!(read.starts_with("HTTP/1.1 408 "), "{read}");
            assert!(read.contains(r#""error":{"#), "{read}");
            assert!(took < 4 * SOON, "{took:?}");
        }
        sleep(Duration::from_millis(500)).await;
    }
    gateway.end();
}
