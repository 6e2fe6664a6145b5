//! Requests whose end a proxy in front could see elsewhere than the gateway does.
//!
//! Each is sent with a second request behind it, where it could be taken for a part of the first. Whatever the gateway
//! makes of it, there is never an answer to the second.

use std::time::Duration;

use tokio::time::timeout;

use super::{Client, Gateway, PATHS, Provider, client, gateway::config};

/// The refused requests: the head after its first line, and the beginning of the body.
const REFUSED: &[(&str, &str)] = &[
    ("two lengths", "content-length: 5\r\ncontent-length: 6\r\n\r\nhello"),
    ("two lengths in one", "content-length: 5, 6\r\n\r\nhello"),
    ("a length with a sign", "content-length: +5\r\n\r\nhello"),
    ("a negative length", "content-length: -5\r\n\r\nhello"),
    ("a hexadecimal length", "content-length: 0x5\r\n\r\nhello"),
    ("a length beyond all numbers", "content-length: 99999999999999999999999\r\n\r\nhello"),
    ("an empty length", "content-length: \r\n\r\n"),
    ("no chunks last", "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    ("an unknown encoding", "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("a quoted encoding", "transfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    ("an encoding with a tab inside", "transfer-encoding: chun\tked\r\n\r\n0\r\n\r\n"),
    ("an encoding of another kind, and a length", "transfer-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello"),
    ("a space before the colon", "transfer-encoding : chunked\r\n\r\n0\r\n\r\n"),
    ("a space before the length's colon", "content-length : 5\r\n\r\nhello"),
    ("a space before the name", "x: a\r\n content-length: 5\r\n\r\nhello"),
    ("a folded line", "x: a\r\n folded: b\r\ncontent-length: 5\r\n\r\nhello"),
    ("a folded encoding", "transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    ("a NUL in a value", "x: a\0b\r\ncontent-length: 5\r\n\r\nhello"),
    ("a NUL in a name", "x\0: a\r\ncontent-length: 5\r\n\r\nhello"),
    ("a bare CR in a value", "x: a\rtransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\nhello"),
    ("a line without a colon", "transfer-encoding chunked\r\ncontent-length: 5\r\n\r\nhello"),
    ("a name that is none", "x y: z\r\ncontent-length: 5\r\n\r\nhello"),
    ("a chunk that is no number", "transfer-encoding: chunked\r\n\r\nxyz\r\nhello\r\n0\r\n\r\n"),
    ("a chunk with a sign", "transfer-encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n"),
    ("a chunk with a prefix", "transfer-encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n"),
    ("a chunk beyond all numbers", "transfer-encoding: chunked\r\n\r\nfffffffffffffffff1\r\nhello\r\n0\r\n\r\n"),
    ("a chunk that wraps around", "transfer-encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("a chunk longer than its size", "transfer-encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n"),
    ("a chunk size that ends in a bare LF", "transfer-encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n"),
    ("two hosts", "host: other\r\ncontent-length: 5\r\n\r\nhello"),
    ("the same host twice", "host: g\r\ncontent-length: 5\r\n\r\nhello"),
    ("a line that ends in a bare LF", "x: a\ncontent-length: 5\r\n\r\nhello"),
    ("a head that ends in a bare LF", "content-length: 5\r\n\nhello"),
    ("a head of bare LFs", "content-length: 5\n\nhello"),
    ("an encoding behind a bare LF", "x: a\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ("chunks twice", "transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("chunks in two lines", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("chunks of something packed", "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("an extension with a bare LF", "transfer-encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n"),
];

/// First lines that are no request for us, each with the statuses that it may get.
const FIRST_LINES: &[(&str, &[u16])] = &[
    ("POST /v1/messages HTTP/1.1 HTTP/1.1", &[400]),
    ("POST /v1/messages HTTP/1.2", &[400]),
    ("POST /v1/messages HTTP/3.0", &[400]),
    ("POST /v1/messages http/1.1", &[400]),
    ("POST\t/v1/messages\tHTTP/1.1", &[400]),
    ("POST /v1/mess\0ages HTTP/1.1", &[400]),
    ("POST  /v1/messages HTTP/1.1", &[400]),
    (" POST /v1/messages HTTP/1.1", &[400]),
    ("P(ST /v1/messages HTTP/1.1", &[400]),
    ("CONNECT example.com:443 HTTP/1.1", &[400, 404, 405]),
    ("TRACE /v1/messages HTTP/1.1", &[405]),
    ("GET http://example.com/v1/nothing HTTP/1.1", &[404]),
    ("OPTIONS * HTTP/1.1", &[400, 404, 405]),
    ("PRI * HTTP/2.0\r\n\r\nSM", &[400]),
    ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}", &[400]),
];

const SECOND: &str = "GET /healthz HTTP/1.1\r\nhost: smuggled\r\n\r\n";

/// Reads until the gateway closes.
async fn until_closed(address: &str, bytes: impl AsRef<[u8]>) -> String {
    let mut client = Client::connect(address).await.expect("connected");
    client.send(bytes).await.expect("sent");
    timeout(Duration::from_secs(10), client.rest()).await.expect("the connection is closed")
}

fn status(answer: &str) -> u16 {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_with_two_ends_gets_one_answer_and_closes_the_connection() {
    let provider = Provider::start();
    let gateway = Gateway::start(&config(&provider.address, ""), &[]);
    let mut wrong = Vec::new();
    for (name, attempt) in REFUSED {
        for path in PATHS {
            let read =
                until_closed(gateway.address(), format!("POST {path} HTTP/1.1\r\nhost: g\r\n{attempt}{SECOND}")).await;
            if status(&read) != 400 || read.matches("HTTP/1.1 ").count() != 1 || !read.contains(r#""error":{"#) {
                wrong.push(format!("{name}: {read:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for path in PATHS {
        assert!(client::ask(gateway.address(), path, true).await.unwrap().is_whole());
    }
    gateway.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_request_heads_are_refused_and_the_connection_closed() {
    let provider = Provider::start();
    let gateway = Gateway::start(&config(&provider.address, ""), &[]);
    for (line, statuses) in FIRST_LINES {
        let last = "host: g\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let read = until_closed(gateway.address(), format!("{line}\r\n{last}")).await;
        assert!(statuses.contains(&status(&read)), "{line:?}: {read}");
        assert!(read.contains(r#""error":{"#), "{line:?}: {read}");
    }
    // More lines than a head may have, and a head that is too long.
    let many = "x: y\r\n".repeat(200);
    let long = format!("x: {}\r\n", "y".repeat(100_000));
    for head in [many, long] {
        let read = until_closed(gateway.address(), format!("GET /healthz HTTP/1.1\r\n{head}\r\n")).await;
        assert!(status(&read) == 431 && read.contains(r#""error":{"#), "{read}");
    }
    gateway.end();
}

/// Length and chunks at once: the length is ignored, as RFC 9112 (6.3) allows, and the connection is not used again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_length_and_chunks_the_chunks_count_and_the_connection_ends() {
    let provider = Provider::start();
    let gateway = Gateway::start(&config(&provider.address, ""), &[]);
    for head in [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 4",
        "content-length: 4\r\ntransfer-encoding: chunked\r\nconnection: keep-alive",
    ] {
        let both = format!("POST /v1/messages HTTP/1.1\r\nhost: g\r\n{head}\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n{SECOND}");
        let read = until_closed(gateway.address(), both).await;
        assert!(read.matches("HTTP/1.1 ").count() == 1 && status(&read) == 400, "{read}");
        assert!(read.to_ascii_lowercase().contains("connection: close"), "{read}");
    }
    gateway.end();
}

/// Requests that are not ambiguous are served, each in its turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_sent_ahead_are_answered_in_order() {
    let provider = Provider::start();
    let gateway = Gateway::start(&config(&provider.address, ""), &[]);
    let mut client = Client::connect(gateway.address()).await.unwrap();
    let requests: String = (0..10).map(|number| client::request(PATHS[number % 2], number % 3 == 0, "hello")).collect();
    client.send(requests).await.unwrap();
    for number in 0..10 {
        let answer = client.answer().await.unwrap();
        let dialect = if number % 2 == 0 { "message" } else { "chat.completion" };
        assert!(answer.is_whole() && answer.body.contains(dialect), "{number}: {}", answer.body);
    }
    // In chunks, with an extension and a trailer.
    let body = client::request(PATHS[0], false, "hello").split_once("\r\n\r\n").unwrap().1.to_owned();
    let chunked = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n{:x};name=value\r\n{body}\r\n0\r\nx: y\r\n\r\n",
        body.len()
    );
    client.send(chunked).await.unwrap();
    assert!(client.answer().await.unwrap().is_whole());
    gateway.end();
}
