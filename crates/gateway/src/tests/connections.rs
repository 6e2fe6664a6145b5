//! Callers that are slow, large, many or up to something.

use std::time::Duration;

use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep, timeout},
};

use super::{harness::*, logs::Log};
use crate::limits::Settings;

const SOON: Duration = Duration::from_millis(150);

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_its_sender_hears_of_it() {
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), Settings { body: 1000, ..Settings::default() }).await;
    for path in PATHS {
        let mut large = hello(false);
        large["messages"][0]["content"] = "x".repeat(2_000_000).into();
        let answer = server.post(path, &[], &large).await;
        let status = mistake(path, 413);
        assert_eq!((answer.status, answer.json()["error"]["message"].is_string()), (status, true), "{answer:?}");

        let mut client = server.connect().await;
        let path = addressed(path, &hello(false));
        let head = format!("POST {path} HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n");
        client.send(head.as_bytes()).await;
        let chunk = format!("400\r\n{}\r\n", "x".repeat(0x400));
        client.send(chunk.as_bytes()).await;
        assert_eq!(client.answer().await.status, status);
    }
}

#[tokio::test]
async fn a_body_that_comes_in_pieces_is_read_to_its_end() {
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), Settings::default()).await;
    let mut text = hello(false);
    text["messages"][0]["content"] = "x".repeat(300_000).into();
    let text = text.to_string();
    let mut client = server.connect().await;
    for chunked in [false, true] {
        let length =
            if chunked { "transfer-encoding: chunked".to_owned() } else { format!("content-length: {}", text.len()) };
        let head = format!("POST {CHAT} HTTP/1.1\r\nhost: g\r\ncontent-type: application/json\r\n{length}\r\n\r\n");
        client.send(head.as_bytes()).await;
        for piece in text.as_bytes().chunks(100_000) {
            // Each piece arrives by itself, as if it came from far away.
            sleep(Duration::from_millis(5)).await;
            if chunked {
                client.send(format!("{:x}\r\n", piece.len()).as_bytes()).await;
            }
            client.send(piece).await;
            if chunked {
                client.send(b"\r\n").await;
            }
        }
        if chunked {
            client.send(b"0\r\n\r\n").await;
        }
        assert_eq!(client.answer().await.status, 200);
    }
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), Settings { head: 4096, ..Settings::default() }).await;
    let mut client = server.connect().await;
    client.send(&request("GET", "/healthz", &[("x-large", &"x".repeat(8000))], b"")).await;
    let refused = client.rest().await;
    assert!(refused.starts_with("HTTP/1.1 431") && refused.contains("the gateway's limit"), "{refused}");
    assert_eq!(server.get("/healthz", &[("x-small", &"x".repeat(1000))]).await.status, 200);
}

#[tokio::test]
async fn a_slow_sender_is_given_up_and_disturbs_nobody() {
    let providers = Providers::start().await;
    let settings = Settings { head_timeout: SOON, body_timeout: SOON, ..Settings::default() };
    let server = Server::start(providers.both(), settings).await;

    let drip = |text: Vec<u8>| {
        let connecting = server.connect();
        async move {
            let mut client = connecting.await;
            let begun = Instant::now();
            for byte in text {
                use tokio::io::AsyncWriteExt;
                if begun.elapsed() > 3 * SOON || client.stream.write_all(&[byte]).await.is_err() {
                    break;
                }
                sleep(Duration::from_millis(10)).await;
            }
            (client.rest().await, begun.elapsed())
        }
    };
    let slow_head = drip(request("GET", "/healthz", &[("x-a", "never ends, never ends, never ends, never ends")], b""));
    let slow_body = async {
        let mut client = server.connect().await;
        let body = hello(false).to_string();
        let whole = request("POST", MESSAGES, &[], body.as_bytes());
        client.send(&whole[..whole.len() - 10]).await;
        client.answer().await
    };
    let others = async {
        for _ in 0..20 {
            let begun = Instant::now();
            assert_eq!(server.post(CHAT, &[], &hello(false)).await.status, 200);
            assert!(begun.elapsed() < 10 * SOON, "{:?}", begun.elapsed());
            sleep(Duration::from_millis(10)).await;
        }
    };
    let ((head, took), body, ()) = tokio::join!(slow_head, slow_body, others);
    assert!(head.starts_with("HTTP/1.1 408 ") && head.contains("did not come in time"), "{head}");
    assert!(took < 20 * SOON, "{took:?}");
    assert_eq!((body.status, body.json()["type"].as_str()), (408, Some("error")));
    assert_eq!(body.header("connection"), Some("close"));
}

/// A caller may send its next request on a connection unless the answer says that it closes (RFC 9112, 9.6).
#[tokio::test]
async fn an_answer_that_ends_its_connection_says_so() {
    let providers = Providers::start().await;
    let keys = keys_of(&[entry("one", "sk-one", "")]);
    let open = Server::start(providers.both(), Settings::default()).await;
    let locked = Server::with_keys(providers.both(), Some(keys), Settings::default()).await;
    let paths = ["/", "/v1/nothing", "/healthz", "/metrics", "/status", "/v1/models", "/v1beta/models", MESSAGES, CHAT];
    let bodies =
        [("content-length: 0", 0), ("content-length: 200000", 200_000), ("transfer-encoding: chunked", 200_000)];
    let cases = ["GET", "POST", "PUT"].into_iter().flat_map(|method| paths.map(|path| (method, path)));
    let cases: Vec<_> = cases.flat_map(|(method, path)| bodies.map(|body| (method, path, body))).collect();
    let mut closed = 0;
    for (server, (method, path, (length, size))) in
        [&open, &locked].into_iter().flat_map(|server| cases.iter().map(move |case| (server, *case)))
    {
        let what = format!("{method} {path}, {length}");
        let mut body = "x".repeat(size);
        if length.ends_with("chunked") {
            body = format!("{size:x}\r\n{body}\r\n0\r\n\r\n");
        }
        let mut client = server.connect().await;
        client.send(format!("{method} {path} HTTP/1.1\r\nhost: g\r\n{length}\r\n\r\n").as_bytes()).await;
        // The body comes after the head, as clients send it. The server may have closed the connection by then.
        sleep(Duration::from_millis(2)).await;
        let _may_be_closed = client.stream.write_all(body.as_bytes()).await;
        if client.answer().await.header("connection") == Some("close") {
            closed += 1;
            continue;
        }
        let next = request("GET", "/healthz", &[], b"");
        assert!(
            timeout(20 * SOON, client.until_or_closed(&next)).await.expect("an answer or an end").is_some(),
            "{what}: the next is lost"
        );
    }
    assert!(closed > 50, "{closed}");
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_that_works_is_not() {
    let providers = Providers::start().await;
    providers.openai.handle().latency(3 * SOON);
    let server = Server::start(providers.gpt(), Settings { head_timeout: SOON, ..Settings::default() }).await;
    let mut working = server.connect().await;
    working.post(CHAT, &[], &hello(false)).await;
    let idle = server.connect().await;
    assert_eq!(timeout(20 * SOON, idle.rest()).await.expect("closed"), "");
    assert_eq!(working.answer().await.status, 200);
}

#[tokio::test]
async fn smuggled_requests_are_refused() {
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), Settings::default()).await;
    let attempts = [
        "content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "content-length: 5, 6\r\n\r\nhello",
        "content-length: +5\r\n\r\nhello",
        "content-length: 0x5\r\n\r\nhello",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "content-length : 5\r\n\r\nhello",
        "x: a\r\n folded: b\r\ncontent-length: 5\r\n\r\nhello",
        "x: a\0b\r\ncontent-length: 5\r\n\r\nhello",
    ];
    for attempt in attempts {
        let mut client = server.connect().await;
        let head = format!("POST /v1/messages HTTP/1.1\r\nhost: g\r\n{attempt}");
        let smuggled = "GET /healthz HTTP/1.1\r\nhost: smuggled\r\n\r\n";
        client.send(format!("{head}{smuggled}").as_bytes()).await;
        let read = timeout(Duration::from_secs(5), client.rest()).await.expect("closed");
        assert!(read.starts_with("HTTP/1.1 400") && !read.contains("200 OK"), "{attempt:?}: {read}");
        assert!(read.contains("invalid_request_error"), "{attempt:?}: {read}");
    }
    // Both at once: the length is ignored, as RFC 9112 allows, and the connection is not used again.
    let mut client = server.connect().await;
    let both = "POST /v1/messages HTTP/1.1\r\nhost: g\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nhost: smuggled\r\n\r\n";
    client.send(both.as_bytes()).await;
    let read = timeout(Duration::from_secs(5), client.rest()).await.expect("closed");
    assert!(read.matches("HTTP/1.1").count() == 1 && read.contains("connection: close"), "{read}");
    assert_eq!(providers.anthropic.handle().stats().calls, 0);
}

/// The second request of a connection is looked at like the first, behind a body of either kind or a stream.
#[tokio::test]
async fn a_bare_lf_is_refused_in_every_head_of_a_connection() {
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), Settings::default()).await;
    let body = hello(false).to_string();
    let chunked = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    let firsts = [
        request("POST", CHAT, &[], body.as_bytes()),
        chunked.into_bytes(),
        request("POST", CHAT, &[], hello(true).to_string().as_bytes()),
        request("GET", "/readyz", &[], b""),
    ];
    for first in firsts {
        for at_once in [true, false] {
            let mut client = server.connect().await;
            let second = b"GET /readyz HTTP/1.1\r\nhost: g\nx: y\r\n\r\n";
            if at_once {
                client.send(&[&first[..], second].concat()).await;
                assert_eq!(client.answer().await.status, 200);
            } else {
                client.send(&first).await;
                assert_eq!(client.answer().await.status, 200);
                client.send(second).await;
            }
            let rest = timeout(Duration::from_secs(5), client.rest()).await.expect("closed");
            assert!(rest.starts_with("HTTP/1.1 400"), "{}: {rest}", String::from_utf8_lossy(&first));
        }
    }
}

#[tokio::test]
async fn who_comes_when_the_house_is_full_is_told_at_once() {
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), Settings { connections: 2, ..Settings::default() }).await;
    let mut first = server.connect().await;
    first.send(&request("GET", "/readyz", &[], b"")).await;
    assert_eq!(first.answer().await.status, 200);
    let _second = server.connect().await;
    let log = Log::default();
    let writer = log.clone();
    let here = log_to(tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish());
    for refused in 1..=3 {
        let third = server.connect().await.rest().await;
        assert!(third.starts_with("HTTP/1.1 503") && third.contains("overloaded_error"), "{third}");
        let series = format!("steadfast_refusals_total{{reason=\"connections\",scope=\"gateway\"}} {refused}");
        assert!(server.gateway.counters().lines().any(|line| line == series), "{series}");
    }
    let said = log.said();
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("event=\"request_refused\"")).collect();
    assert_eq!(lines.len(), 1, "one in ten seconds: {said}");
    assert!(lines[0].contains("reason=\"connections\" scope=\"gateway\" limit=\"gateway.connections, "), "{said}");
    drop((first, here));
    timeout(Duration::from_secs(5), async {
        while server.connect().await.until_or_closed(&request("GET", "/readyz", &[], b"")).await.is_none() {}
    })
    .await
    .expect("a place is free again");
}

#[tokio::test]
async fn many_idle_connections_disturb_nobody() {
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), Settings::default()).await;
    let mut idle = Vec::new();
    for _ in 0..2000 {
        idle.push(server.connect().await);
    }
    let begun = Instant::now();
    assert_eq!(server.post(CHAT, &[], &hello(true)).await.status, 200);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up() {
    // The model uses its whole limit of words, and each word is so long that no buffer holds them all.
    let providers = Providers::saying(&format!("{} ", "without-end".repeat(30)).repeat(64_000)).await;
    let server = Server::start(providers.claude(), Settings { unread: SOON, ..Settings::default() }).await;
    let mut client = server.connect().await;
    let mut long = hello(true);
    long["max_tokens"] = 64_000.into();
    client.post(MESSAGES, &[], &long).await;
    let outcome =
        || server.gateway.records.newest(1, |_| true).first().map(|record| record.json(true)["outcome"].clone());
    let given_up = async {
        while outcome() != Some("abandoned".into()) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(60), given_up).await.unwrap_or_else(|_| panic!("still {:?}", outcome()));
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), Settings::default()).await;
    let mut client = server.connect().await;
    for stream in [true, false, true] {
        client.post(CHAT, &[], &hello(stream)).await;
        assert_eq!(client.answer().await.text(), "Hello from afar");
    }
}

#[tokio::test]
async fn requests_sent_ahead_of_a_stream_are_answered_behind_it() {
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), Settings::default()).await;
    let mut client = server.connect().await;
    for stream in [true, true, false, true] {
        client.post(CHAT, &[], &hello(stream)).await;
    }
    for stream in [true, true, false, true] {
        let answer = client.answer().await;
        assert_eq!((answer.text().as_str(), answer.body.contains("[DONE]")), ("Hello from afar", stream));
    }
    // The same holds while a stream is under way.
    client.post(CHAT, &[], &hello(true)).await;
    client.until("Hello").await;
    client.post(CHAT, &[("connection", "close")], &hello(true)).await;
    assert_eq!(client.answer().await.text(), "Hello from afar");
    let last = client.answer().await;
    assert_eq!((last.text().as_str(), last.header("connection")), ("Hello from afar", Some("close")));
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_stream_for_a_caller_of_http_1_0_ends_with_its_connection() {
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), Settings::default()).await;
    let mut client = server.connect().await;
    let body = hello(true).to_string();
    let head = format!("POST {CHAT} HTTP/1.0\r\ncontent-length: {}\r\n\r\n", body.len());
    client.send(format!("{head}{body}").as_bytes()).await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.0 200") && !answer.contains("chunked"), "{answer}");
    assert!(answer.ends_with("data: [DONE]\n\n"), "{answer}");
}

#[tokio::test]
async fn who_waits_to_be_asked_for_a_body_is_asked() {
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), Settings::default()).await;
    let mut client = server.connect().await;
    let body = hello(true).to_string();
    let length = body.len();
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: g\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n");
    client.send(head.as_bytes()).await;
    assert_eq!(client.answer().await.status, 100);
    client.send(body.as_bytes()).await;
    assert_eq!(client.answer().await.text(), "Hello from afar");
}
