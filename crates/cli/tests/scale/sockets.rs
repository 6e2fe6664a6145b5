//! Very many WebSockets that rest.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use super::{Gateway, as_many_as, size};

/// The memory limit of a socket that rests behind a turn, everything included, in bytes: as of an open stream.
const MOST: usize = 30_000;
const MODEL: &str =
    "tiers: [{ name: m, provider: simulated, model: gpt-4o, simulated: { reply: Hello, latency: 0s } }]";

/// Opens a socket, and has a turn over it.
async fn opened(address: String) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(&address).await.unwrap();
    let (socket, _) = client_async(format!("ws://{address}/v1/responses"), stream).await.unwrap();
    turn(socket).await
}

async fn turn(mut socket: WebSocketStream<TcpStream>) -> WebSocketStream<TcpStream> {
    let create = json!({"type": "response.create", "model": "gpt-4o", "store": false, "input": "hello"});
    socket.send(Message::text(create.to_string())).await.unwrap();
    loop {
        let Some(Ok(message)) = socket.next().await else { panic!("the socket ends in a turn") };
        let Message::Text(text) = message else { continue };
        let event: Value = serde_json::from_str(&text).unwrap();
        match event["type"].as_str().unwrap() {
            "response.completed" => return socket,
            "error" | "response.failed" | "response.incomplete" => panic!("{event}"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn very_many_sockets_rest_and_all_of_them_go_on() {
    let count = as_many_as(size(100, 1_000));
    let gateway = Gateway::start(MODEL, &[]);
    // The first callers let the process take memory that it keeps.
    let warm = opened(gateway.address().to_owned()).await;
    let (before, _) = gateway.memory();
    let begun = Instant::now();
    let (mut opening, mut open) = (JoinSet::new(), vec![warm]);
    for _ in 1..count {
        if opening.len() >= 50 {
            open.push(opening.join_next().await.unwrap().unwrap());
        }
        opening.spawn(opened(gateway.address().to_owned()));
    }
    open.extend(opening.join_all().await);
    let took = begun.elapsed();
    // Memory that is freed late is given back by now.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ((now, most), files) = (gateway.memory(), gateway.open_files());
    assert!(files >= count, "{files} files are open, and {count} sockets should be");
    let each = most.saturating_sub(before) * 1024 / count;
    println!(
        "{count} sockets that rest (in {took:.1?}): {before} kB before, {now} kB with them, {most} kB at most; {each} bytes for each"
    );
    let mut again = JoinSet::new();
    open.into_iter().for_each(|socket| drop(again.spawn(turn(socket))));
    assert_eq!(again.join_all().await.len(), count);
    gateway.end();
    // A hundred are too few to be told from what the allocator keeps.
    assert!(count < 1_000 || each < MOST, "{each} bytes for each of {count} sockets");
}
