//! A valid request with some of its bytes changed, thousands of times: whatever it has become, the gateway goes on.

use std::time::Duration;

use tokio::{task::JoinSet, time::timeout};

use super::{Client, Gateway, PATHS, Provider, client, gateway::config, size};

/// Pieces that mean something to a parser.
const PIECES: [&str; 16] = [
    "\r\n",
    "\n",
    "\r",
    "\0",
    ":",
    " ",
    "\"",
    "\\",
    "{",
    "}",
    "content-length: 1\r\n",
    "transfer-encoding: chunked\r\n",
    "HTTP/1.1",
    "\u{ff}",
    "%00",
    "connection: upgrade\r\nupgrade: h2c\r\n",
];

fn mutated(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = client::request(PATHS[random.usize(..2)], random.bool(), "hello").into_bytes();
    for _ in 0..random.usize(1..=4) {
        let at = random.usize(..bytes.len());
        match random.u8(..5) {
            0 => bytes[at] = random.u8(..),
            1 => bytes.insert(at, random.u8(..)),
            2 => drop(bytes.remove(at)),
            3 => bytes.truncate(at.max(1)),
            _ => drop(bytes.splice(at..at, random.choice(PIECES).unwrap().bytes())),
        }
        if bytes.len() < 2 {
            break;
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_with_changed_bytes_never_stops_the_gateway() {
    let count = size(2_000, 10_000);
    let provider = Provider::start();
    let gateway = Gateway::start(&config(&provider.address, ""), &[]);
    let mut running = JoinSet::new();
    let mut random = fastrand::Rng::with_seed(11);
    for number in 0..count {
        if running.len() >= 50 {
            running.join_next().await.unwrap().unwrap();
        }
        let (address, bytes) = (gateway.address().to_owned(), mutated(&mut random));
        running.spawn(async move {
            let mut client = Client::connect(&address).await.expect("it accepts");
            // It may refuse before it has all.
            let _ = client.send(&bytes).await;
            // The gateway waits for the rest of an incomplete request; the test does not.
            let _ = timeout(Duration::from_millis(200), client.answer()).await;
        });
        if number % 200 == 0 {
            let answer = timeout(Duration::from_secs(5), client::ask(gateway.address(), PATHS[0], true)).await;
            assert!(answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.is_whole())), "after {number}");
        }
    }
    running.join_all().await;
    assert!(client::ask(gateway.address(), PATHS[1], false).await.unwrap().is_whole());
    let said = gateway.end();
    assert!(!said.contains("panicked"), "{said}");
}
