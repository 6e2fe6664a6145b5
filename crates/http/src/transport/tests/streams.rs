//! HTTP/2 over TLS: as many connections as the calls need, and nothing lost that the server has not processed.

use std::{
    collections::BTreeSet,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::Reason;
use http::Response;
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Barrier,
    time::{Instant, sleep, timeout},
};
use tower::ServiceExt;

use super::{
    get, sources,
    tls_server::{Http2, Server, client, say_hi, serve_all},
};

/// Answers each request once `together` of them are there.
async fn answer_together(connection: Http2, together: Arc<Barrier>) {
    serve_all(connection, move |_, respond| {
        let together = together.clone();
        async move {
            together.wait().await;
            say_hi(respond);
        }
    })
    .await;
}

#[tokio::test]
async fn calls_beyond_the_limit_of_streams_get_another_connection() {
    for (calls, limit, connections) in [(130, 100, 2), (60, 3, 20), (250, 1000, 3)] {
        let together = Arc::new(Barrier::new(calls));
        let server = Server::http2(limit, move |_, connection| answer_together(connection, together.clone())).await;
        let client = client();
        let asked = server.ask_all(&client, calls).await;
        assert!(asked.iter().all(|answer| answer.as_ref().is_ok_and(|it| it == "hi")), "{asked:?}");
        assert_eq!(server.connections(), connections, "{calls} calls, {limit} streams");
        let figures = client.connections();
        assert_eq!((figures[0].streams, figures[0].connections), (0, connections));
        assert_eq!(figures[0].host, server.address.to_string());
    }
}

#[tokio::test]
async fn a_server_without_streams_is_named_within_the_limit_to_connect() {
    let server = Server::http2(0, |_, connection| serve_all(connection, |_, respond| async { say_hi(respond) })).await;
    let asked = server.ask_all(&client(), 20).await;
    let mut numbers = BTreeSet::new();
    for answer in asked {
        let error = answer.unwrap_err();
        assert!(error.is_connect() && !error.is_local_network());
        assert!(sources(&error).contains("SETTINGS_MAX_CONCURRENT_STREAMS was 0"), "{}", sources(&error));
        numbers.insert(error.connection());
    }
    assert_eq!((numbers.len(), server.connections()), (1, 2), "one attempt for all, and one at HTTP/1.1");
}

#[tokio::test]
async fn a_server_without_streams_is_asked_by_http1_from_then_on() {
    let h2 = Arc::new(AtomicUsize::new(0));
    let count = h2.clone();
    let server = Server::with_any(&[b"h2", b"http/1.1"], move |_, mut stream| {
        let count = count.clone();
        async move {
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                count.fetch_add(1, SeqCst);
                let connection = h2::server::Builder::new().max_concurrent_streams(0).handshake(stream).await.unwrap();
                return serve_all(connection, |_, respond| async { say_hi(respond) }).await;
            }
            let mut read = [0; 4096];
            while stream.read(&mut read).await.is_ok_and(|read| read > 0) {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi").await.unwrap();
            }
        }
    })
    .await;
    let client = client();
    let begun = Instant::now();
    assert!(server.ask_all(&client, 5).await.iter().all(|answer| answer.as_ref().is_ok_and(|it| it == "hi")));
    assert!(server.ask_all(&client, 5).await.iter().all(Result::is_ok));
    assert!(begun.elapsed() < Duration::from_millis(1900), "{:?}", begun.elapsed());
    assert_eq!(h2.load(SeqCst), 1, "and HTTP/2 only once");
}

#[tokio::test]
async fn a_server_that_agrees_on_http2_and_says_nothing_is_named_within_the_limit_to_connect() {
    let server = Server::with(b"h2", |_, stream| async move {
        let _open = stream;
        pending().await
    })
    .await;
    let error = server.ask(&client()).await.unwrap_err();
    assert!(error.is_connect() && sources(&error).contains("sent no SETTINGS within 2s"), "{}", sources(&error));
}

#[tokio::test]
async fn what_a_goaway_leaves_out_goes_to_another_connection() {
    // In frames: the library of the other servers cannot say that it has processed nothing.
    let server = Server::with(b"h2", |number, mut stream| async move {
        if number > 0 {
            let connection = h2::server::handshake(stream).await.unwrap();
            return serve_all(connection, |_, respond| async { say_hi(respond) }).await;
        }
        let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        stream.write_all(&SETTINGS).await.unwrap();
        stream.flush().await.unwrap();
        sleep(Duration::from_millis(200)).await;
        stream.write_all(&goaway).await.unwrap();
        stream.flush().await.unwrap();
        pending().await
    })
    .await;
    let asked = server.ask_all(&client(), 5).await;
    assert!(asked.iter().all(Result::is_ok), "{asked:?}");
    // The second one got one call more for each answer.
    assert!(server.connections() <= 6, "{}", server.connections());
}

#[tokio::test]
async fn a_refused_stream_goes_out_again_without_an_error() {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = refused.clone();
    let server = Server::http2(100, move |number, connection| {
        let count = count.clone();
        serve_all(connection, move |_, mut respond| {
            let is_refused = number == 0 && count.fetch_add(1, SeqCst) % 3 < 2;
            async move {
                sleep(Duration::from_millis(20)).await;
                if is_refused { respond.send_reset(Reason::REFUSED_STREAM) } else { say_hi(respond) }
            }
        })
    })
    .await;
    let asked = server.ask_all(&client(), 30).await;
    assert!(asked.iter().all(Result::is_ok), "{asked:?}");
    assert!(refused.load(SeqCst) >= 20);
}

#[tokio::test]
async fn a_server_that_refuses_all_is_asked_four_times_a_call() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let server = Server::http2(100, move |_, connection| {
        let count = count.clone();
        serve_all(connection, move |_, mut respond| {
            count.fetch_add(1, SeqCst);
            async move { respond.send_reset(Reason::REFUSED_STREAM) }
        })
    })
    .await;
    let error = server.ask(&client()).await.unwrap_err();
    assert!(sources(&error).contains("refused stream"), "{}", sources(&error));
    assert_eq!(asked.load(SeqCst), 4);
}

#[tokio::test]
async fn calls_that_fail_with_one_connection_have_its_number() {
    let together = Arc::new(Barrier::new(20));
    let server = Server::http2(100, move |number, mut connection| {
        let together = together.clone();
        async move {
            if number > 0 {
                return serve_all(connection, |_, respond| async { say_hi(respond) }).await;
            }
            let mut held = Vec::new();
            // The connection ends once it has read all of them.
            while let Some(Ok(call)) = connection.accept().await {
                held.push(call);
                if held.len() == 20 {
                    break;
                }
            }
            drop(together);
        }
    })
    .await;
    let client = client();
    let asked = server.ask_all(&client, 20).await;
    let failed: Vec<_> = asked.into_iter().map(Result::unwrap_err).collect();
    let numbers: BTreeSet<_> = failed.iter().map(super::TransportError::connection).collect();
    assert!(numbers.len() == 1 && !numbers.contains(&None), "{failed:?}");
    assert!(failed.iter().all(|error| !error.is_connect()), "they may have been processed");
    assert_eq!(server.ask(&client).await.unwrap(), "hi", "the next one is served at once");
}

#[tokio::test]
async fn callers_who_do_not_read_do_not_stop_the_others() {
    const LARGE: usize = 8 << 20;
    let begun = Arc::new(AtomicUsize::new(0));
    let count = begun.clone();
    let server = Server::http2(100, move |_, connection| {
        let count = count.clone();
        serve_all(connection, move |_, mut respond| {
            let nth = count.fetch_add(1, SeqCst);
            async move {
                if nth >= 8 {
                    return say_hi(respond);
                }
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                body.send_data(Bytes::from(vec![b'x'; LARGE]), true).unwrap();
            }
        })
    })
    .await;
    let client = client();
    let mut unread = Vec::new();
    for _ in 0..8 {
        unread.push(client.clone().oneshot(get(&server.url())).await.unwrap());
    }
    sleep(Duration::from_millis(300)).await;
    for _ in 0..5 {
        let small = timeout(Duration::from_secs(5), server.ask(&client)).await.expect("nobody stops it");
        assert_eq!(small.unwrap(), "hi");
    }
    assert_eq!(server.connections(), 1);
    for response in unread {
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), LARGE);
    }
}

#[tokio::test]
async fn hostile_servers_get_bounded_work() {
    // Ends each connection after one answer, and leaves out all other calls.
    let one = Server::with(b"h2", |_, mut stream| async move {
        stream.write_all(&SETTINGS).await.unwrap();
        stream.flush().await.unwrap();
        let mut read = Vec::new();
        // The preface, and then the head of a request on stream 1.
        while !read.windows(9).any(|frame| frame[3] == 1 && frame[5..] == [0, 0, 0, 1]) {
            if stream.read_buf(&mut read).await.is_ok_and(|read| read == 0) {
                return;
            }
        }
        sleep(Duration::from_millis(20)).await;
        let answer = [0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88];
        let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        let _ = stream.write_all(&[&answer[..], &goaway].concat()).await;
        let _ = stream.shutdown().await;
        sleep(Duration::from_millis(200)).await;
    })
    .await;
    let ask = client();
    for _ in 0..5 {
        assert_eq!(one.ask(&ask).await.unwrap(), "");
    }
    let asked = one.ask_all(&ask, 20).await;
    assert!(asked.iter().all(Result::is_ok), "{asked:?}");
    // Resets each connection at its first write.
    let reset = Server::with(b"h2", |_, mut stream| async move {
        let _ = stream.read(&mut [0; 9]).await;
        let (tcp, _) = stream.into_inner();
        tcp.set_zero_linger().unwrap();
    })
    .await;
    let error = reset.ask(&ask).await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");
    assert!(reset.connections() <= 4);
}

#[tokio::test]
async fn http1_through_tls_is_kept_and_begun_by_each_call() {
    let server = Server::with(b"http/1.1", |_, mut stream| async move {
        let mut read = vec![0; 4096];
        while stream.read(&mut read).await.is_ok_and(|read| read > 0) {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
        }
    })
    .await;
    let client = client();
    for _ in 0..5 {
        assert_eq!(server.ask(&client).await.unwrap(), "hi");
    }
    assert_eq!(server.connections(), 1);
    let asked = server.ask_all(&client, 10).await;
    assert!(asked.iter().all(Result::is_ok), "{asked:?}");
    assert!(server.connections() <= 10);
}

#[tokio::test]
async fn who_connects_may_leave() {
    let server = Server::http2(100, |_, connection| async move {
        serve_all(connection, |_, respond| async { say_hi(respond) }).await;
    })
    .await;
    let client = client();
    let mut first = Box::pin(server.ask(&client));
    assert!(futures_util::poll!(&mut first).is_pending());
    drop(first);
    assert_eq!(server.ask(&client).await.unwrap(), "hi");
    assert_eq!(server.connections(), 1);
}

/// An empty frame of settings.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
