//! The server's shutdown.

use std::time::Duration;

use steadfast::providers::simulated::Fault;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::harness::*;
use crate::limits::Settings;

const STREAMS: usize = 100;

async fn open(server: &Server, path: &str) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..STREAMS {
        let mut client = server.connect().await;
        client.post(path, &[], &hello(true)).await;
        clients.push(client);
    }
    for client in &mut clients {
        client.until("Hello").await;
    }
    clients
}

#[tokio::test]
async fn open_streams_finish_and_no_new_ones_begin() {
    for path in PATHS {
        let providers = Providers::saying("Hello you who are still there").await;
        let (service, provider) = providers.of(path);
        provider.pace(Duration::from_millis(80));
        let server = Server::start(service, Settings::default()).await;
        let clients = open(&server, path).await;
        server.gateway.lifecycle.stop.cancel();
        sleep(Duration::from_millis(10)).await;
        assert!(TcpStream::connect(server.address).await.is_err());
        for mut client in clients {
            let answer = client.answer().await;
            assert!(answer.is_whole() && answer.text().ends_with("still there"), "{}", answer.body);
            assert_eq!(client.rest().await, "", "the connection is closed");
        }
        timeout(Duration::from_secs(5), server.task).await.expect("stopped").unwrap();
    }
}

#[tokio::test]
async fn streams_that_outlast_the_grace_end_with_an_error_each() {
    for path in PATHS {
        let providers = Providers::start().await;
        let (service, provider) = providers.of(path);
        provider.fail(Fault::StallAfter(1));
        let grace = Duration::from_millis(300);
        let server = Server::start(service, Settings { grace, ..Settings::default() }).await;
        let clients = open(&server, path).await;
        let mut waiting = server.connect().await;
        waiting.post(path, &[], &hello(false)).await;
        provider.until(|stats| stats.in_flight == STREAMS as u64 + 1).await;
        let begun = Instant::now();
        server.gateway.lifecycle.stop.cancel();
        for mut client in clients {
            let answer = client.answer().await;
            assert!(!answer.is_whole() && answer.body.contains("the gateway is stopping"), "{}", answer.body);
        }
        assert!(begun.elapsed() >= grace, "cut before the time: {:?}", begun.elapsed());
        let refused = waiting.answer().await;
        assert!(refused.status >= 500 && refused.json()["error"]["message"].is_string(), "{refused:?}");
        timeout(Duration::from_secs(5), server.task).await.expect("stopped").unwrap();
        timeout(Duration::from_secs(5), provider.until(|stats| stats.in_flight == 0)).await.expect("cancelled");
    }
}

#[tokio::test]
async fn idle_connections_do_not_hold_the_server_up() {
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), Settings::default()).await;
    let mut kept = server.connect().await;
    kept.post(CHAT, &[], &hello(false)).await;
    kept.answer().await;
    let _silent = server.connect().await;
    sleep(Duration::from_millis(20)).await;
    server.gateway.lifecycle.stop.cancel();
    timeout(Duration::from_secs(5), server.task).await.expect("stopped at once").unwrap();
}

#[tokio::test]
async fn who_is_refused_at_the_stop_hears_of_it_while_it_is_still_sending() {
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), Settings::default()).await;
    let mut client = server.connect().await;
    let headers = "host: g\r\ncontent-length: 9000000\r\nexpect: 100-continue";
    client.send(format!("POST {CHAT} HTTP/1.1\r\n{headers}\r\n\r\n").as_bytes()).await;
    assert_eq!(client.answer().await.status, 100, "its body is awaited");
    server.gateway.lifecycle.stop.cancel();
    client.stream.readable().await.unwrap();
    for _ in 0..8 {
        client.send(&[b' '; 1_000_000]).await;
    }
    let refused = client.answer().await;
    assert!(refused.status == 503 && refused.body.contains("stopping"), "{refused:?}");
    drop(client);
    timeout(Duration::from_secs(5), server.task).await.expect("stopped").unwrap();
}
