//! Connections end before they are too old, so that a name that moves is followed under steady traffic.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Notify,
    time::{advance, pause, resume},
};
use tower::ServiceExt;

use super::{
    HttpClient, get,
    tls_server::{Server, client, say_hi, serve_all},
};
use crate::transport::client::StreamedBody;

/// The time from one call to the next: no sleep of the machine.
const STEP: Duration = Duration::from_secs(4);
/// The calls within the four minutes after which the first connections are left.
const YOUNG: u64 = 60;
/// The calls within the five minutes at which all are left.
const OLD: u64 = 75;

async fn later() {
    pause();
    advance(STEP).await;
    resume();
}

#[tokio::test]
async fn an_http2_connection_gets_no_call_after_five_minutes_and_ends_those_it_has() {
    let (release, calls) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (released, counted) = (release.clone(), calls.clone());
    let server = Server::http2(100, move |_, connection| {
        let (released, counted) = (released.clone(), counted.clone());
        serve_all(connection, move |_, respond| {
            let (released, number) = (released.clone(), counted.fetch_add(1, SeqCst));
            async move {
                if number == 0 {
                    released.notified().await;
                }
                say_hi(respond);
            }
        })
    })
    .await;
    let client = client();
    let long = tokio::spawn(client.clone().oneshot(get(&server.url())));
    while calls.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    for call in 0..=OLD + 2 {
        assert_eq!(server.ask(&client).await.unwrap(), "hi", "call {call}");
        assert!(call >= YOUNG || server.connections() == 1, "call {call}");
        later().await;
    }
    assert_eq!(server.connections(), 2);
    release.notify_one();
    let answer = long.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(answer, "hi", "the old connection ends its calls");
}

/// A server of HTTP/1.1 that keeps its connections, and counts them.
async fn kept() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, count) = (format!("http://{}/", listener.local_addr().unwrap()), Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counted.fetch_add(1, SeqCst);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while let Ok(byte) = socket.read_u8().await {
                    head.push(byte);
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        let _sent = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
                    }
                }
            });
        }
    });
    (url, count)
}

#[tokio::test]
async fn an_http1_connection_gets_no_call_after_five_minutes() {
    for streamed in [false, true] {
        let ((url, count), client) = (kept().await, HttpClient::new().no_proxy());
        for call in 0..=OLD + 2 {
            let response = match streamed {
                false => client.clone().oneshot(get(&url)).await,
                true => {
                    client.stream(get(&url).map(|body| StreamedBody::new(body.map_err(|never| match never {})))).await
                }
            };
            assert_eq!(response.unwrap().into_body().collect().await.unwrap().to_bytes(), "hi", "call {call}");
            assert!(call >= YOUNG || count.load(SeqCst) == 1, "call {call}, {streamed}");
            later().await;
        }
        assert_eq!(count.load(SeqCst), 2, "{streamed}");
    }
}
