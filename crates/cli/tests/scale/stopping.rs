//! SIGTERM while hundreds of streams are open.

use std::time::{Duration, Instant};

use tokio::{task::JoinSet, time::sleep};

use super::{Client, Gateway, PATHS, Provider, SOON, gateway::config, held};

const STREAMS: usize = 500;

/// Streams that have begun and stand still.
async fn open(gateway: &Gateway) -> Vec<Client> {
    let mut opening = JoinSet::new();
    for number in 0..STREAMS {
        let (address, path) = (gateway.address().to_owned(), PATHS[number % 2]);
        opening.spawn(async move { held(&address, path).await });
    }
    opening.join_all().await
}

/// Waits until nobody is let in any more.
pub(super) async fn takes_nobody(gateway: &Gateway) {
    while Client::connect(gateway.address()).await.is_ok() {
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_stream_is_cut_before_the_grace_is_over_and_each_that_outlasts_it_is_told() {
    let provider = Provider::start();
    let grace = Duration::from_secs(3);
    let gateway = Gateway::start(&config(&provider.address, ""), &["--grace", "3"]);
    let streams = open(&gateway).await;
    let begun = Instant::now();
    gateway.signal("-TERM");
    let mut reading = JoinSet::new();
    for mut client in streams {
        reading.spawn(async move {
            let answer = client.answer().await;
            (answer, begun.elapsed())
        });
    }
    // Nobody new comes in meanwhile.
    takes_nobody(&gateway).await;
    assert!(begun.elapsed() < grace);
    for (answer, took) in reading.join_all().await {
        assert!(took >= grace, "cut after {took:?}");
        // The response ends as HTTP has it, so that the client reads the dialect's error and no broken connection.
        let answer = answer.expect("a whole response");
        assert!(answer.body.contains("first") && answer.body.contains("the gateway is stopping"), "{}", answer.body);
        assert!(!answer.is_whole() && !answer.body.contains("[DONE]"), "{}", answer.body);
    }
    let said = gateway.ended();
    assert!(said.contains("SIGTERM") && begun.elapsed() < grace + SOON, "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_end_within_the_grace_are_whole() {
    let mut provider = Provider::start();
    let gateway = Gateway::start(&config(&provider.address, ""), &["--grace", "30"]);
    let streams = open(&gateway).await;
    gateway.signal("-TERM");
    takes_nobody(&gateway).await;
    provider.release();
    for mut client in streams {
        let answer = client.answer().await.expect("a whole response");
        assert!(answer.is_whole(), "{}", answer.body);
        assert_eq!(client.rest().await, "", "its connection is closed");
    }
    gateway.ended();
}
