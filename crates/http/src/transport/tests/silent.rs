//! Connections that die without a word, and those that only seem to.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tower::ServiceExt;

use super::{
    get,
    tls_server::{Server, client, say_hi, serve_all},
};
use crate::transport::HttpClient;

/// A forwarder that stops forwarding what was connected before.
struct Forwarder {
    address: std::net::SocketAddr,
    is_stopped: watch::Sender<bool>,
}

impl Forwarder {
    async fn to(server: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (is_stopped, stopped) = watch::channel(false);
        tokio::spawn(async move {
            let mut forwarded = JoinSet::new();
            while let Ok((mut from, _)) = listener.accept().await {
                let (mut stopped, is_old) = (stopped.clone(), !*stopped.borrow());
                forwarded.spawn(async move {
                    let mut to = TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut from, &mut to) => {}
                        () = async { let _ = stopped.wait_for(|is| *is && is_old).await.map(drop); } => pending().await,
                    }
                });
            }
        });
        Self { address, is_stopped }
    }
}

/// A server, and a client whose one connection to it has died without a word.
async fn dead_connection() -> (Server, HttpClient, String, Forwarder) {
    let server = Server::http2(100, |_, connection| async move {
        serve_all(connection, |_, respond| async { say_hi(respond) }).await;
    })
    .await;
    let forwarder = Forwarder::to(server.address).await;
    let client = client();
    let url = format!("https://{}/", forwarder.address);
    assert!(client.clone().oneshot(get(&url)).await.is_ok());
    forwarder.is_stopped.send(true).unwrap();
    (server, client, url, forwarder)
}

#[tokio::test]
async fn a_connection_that_died_without_a_word_is_left() {
    let (server, client, url, _forwarder) = dead_connection().await;
    // One call gives up by itself; the next ones are served on a new connection.
    let impatient = timeout(Duration::from_millis(1500), client.clone().oneshot(get(&url))).await;
    assert!(impatient.is_err());
    let begun = Instant::now();
    assert!(client.clone().oneshot(get(&url)).await.is_ok());
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_silent_call_is_sent_again_where_pings_are_unanswered() {
    let (server, client, url, _forwarder) = dead_connection().await;
    let (begun, calls) = (Instant::now(), (0..3).map(|_| client.clone().oneshot(get(&url))));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(server.connections(), 2, "one connection for all");
}

#[tokio::test]
async fn a_call_that_only_takes_long_is_left_alone() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let server = Server::http2(100, move |_, connection| {
        let count = count.clone();
        serve_all(connection, move |_, respond| {
            count.fetch_add(1, SeqCst);
            async move {
                sleep(Duration::from_secs(14)).await;
                say_hi(respond);
            }
        })
    })
    .await;
    assert_eq!(server.ask(&client()).await.unwrap(), "hi");
    assert_eq!((asked.load(SeqCst), server.connections()), (1, 1), "its pings were answered");
}

#[tokio::test]
async fn kept_http1_connections_that_died_together_cost_one_call() {
    let server = Server::with(b"http/1.1", |_, mut stream| async move {
        let mut read = vec![0; 4096];
        while stream.read(&mut read).await.is_ok_and(|read| read > 0) {
            // Several at once are on a connection each.
            sleep(Duration::from_millis(100)).await;
            let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    })
    .await;
    let forwarder = Forwarder::to(server.address).await;
    let client = client();
    let url = format!("https://{}/", forwarder.address);
    let asked = futures_util::future::join_all((0..4).map(|_| client.clone().oneshot(get(&url)))).await;
    assert!(asked.iter().all(Result::is_ok));
    drop(asked);
    forwarder.is_stopped.send(true).unwrap();
    let impatient = timeout(Duration::from_millis(3500), client.clone().oneshot(get(&url))).await;
    assert!(impatient.is_err());
    let next = timeout(Duration::from_secs(3), client.oneshot(get(&url))).await;
    assert!(next.expect("on a new connection").is_ok());
}

#[tokio::test]
async fn a_silence_is_a_question_after_a_second_and_then_every_five() {
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = asked.clone();
    let server = Server::with(b"h2", move |_, mut stream| {
        let log = log.clone();
        async move {
            stream.write_all(&SETTINGS).await.unwrap();
            stream.flush().await.unwrap();
            let (mut read, begun) = (Vec::new(), Instant::now());
            // The preface.
            while read.len() < 24 {
                stream.read_buf(&mut read).await.unwrap();
            }
            read.drain(..24);
            loop {
                while read.len() >= 9 {
                    let end = 9 + (usize::from(read[1]) << 8 | usize::from(read[2]));
                    let Some(frame) = read.get(..end) else { break };
                    if frame[3..5] == [6, 0] {
                        log.lock().unwrap().push(begun.elapsed().as_secs_f64());
                        let mut answer = frame.to_vec();
                        answer[4] = 1;
                        stream.write_all(&answer).await.unwrap();
                        stream.flush().await.unwrap();
                    }
                    read.drain(..end);
                }
                if stream.read_buf(&mut read).await.is_ok_and(|read| read == 0) {
                    return;
                }
            }
        }
    })
    .await;
    let client = client();
    let url = server.url();
    let silent = timeout(Duration::from_secs(12), client.clone().oneshot(get(&url)));
    let (first, second) = tokio::join!(silent, async {
        sleep(Duration::from_secs(8)).await;
        timeout(Duration::from_secs(2), client.clone().oneshot(get(&url))).await
    });
    assert!(first.is_err() && second.is_err(), "nobody has answered");
    let asked = asked.lock().unwrap().clone();
    // After a second, five later, for the second call.
    let near = |seen: f64, due: f64| (due - 0.2..due + 1.5).contains(&seen);
    let times = [1.0, 6.0, 8.0];
    assert!(asked.len() == 3 && asked.iter().zip(times).all(|(seen, due)| near(*seen, due)), "{asked:?}");
    assert_eq!(server.connections(), 1);
}

/// An empty frame of settings.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Drops all that comes to a connection from now on, so that nobody confirms it.
#[cfg(target_os = "linux")]
fn cut_off(stream: &TcpStream) {
    // BPF_RET with no byte to keep.
    socket2::SockRef::from(stream).attach_filter(&[socket2::SockFilter::new(6, 0, 0, 0)]).unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_kept_http1_connection_that_nobody_confirms_is_left_after_two_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (cut, is_cut) = watch::channel(false);
    let server = tokio::spawn(async move {
        let mut served = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut is_cut, is_old) = (is_cut.clone(), !*is_cut.borrow());
            served.spawn(async move {
                let serving = async {
                    let mut read = [0; 4096];
                    while stream.read(&mut read).await.is_ok_and(|read| read > 0) {
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                    }
                };
                tokio::select! {
                    () = serving => return,
                    () = async { let _ = is_cut.wait_for(|is| *is && is_old).await.map(drop); } => {}
                }
                cut_off(&stream);
                pending().await
            });
        }
    });
    let client = HttpClient::new().no_proxy();
    let asked = futures_util::future::join_all((0..3).map(|_| client.clone().oneshot(get(&url)))).await;
    assert!(asked.iter().all(Result::is_ok));
    drop(asked);
    cut.send(true).unwrap();
    sleep(Duration::from_millis(2500)).await;
    let begun = Instant::now();
    for _ in 0..2 {
        assert!(client.clone().oneshot(get(&url)).await.is_ok());
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    server.abort();
}

/// Lets the clock jump by an hour, as in a sleep. A clock that stands still does not wait for a socket.
async fn jump() {
    sleep(Duration::from_millis(100)).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3600)).await;
    tokio::time::resume();
    sleep(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn connections_that_were_idle_in_a_sleep_are_left_and_calls_under_way_are_not() {
    let rows = [(&b"h2"[..], true, 2), (b"h2", false, 1), (b"http/1.1", true, 2), (b"http/1.1", false, 1)];
    for (protocol, is_idle, connections) in rows {
        let (asked, answer) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(usize::from(is_idle) * 2)));
        let both = (asked.clone(), answer.clone());
        let server = Server::with(protocol, move |_, mut stream| {
            let (asked, answer) = both.clone();
            let turn = move || {
                asked.add_permits(1);
                let answer = answer.clone();
                async move { answer.acquire().await.unwrap().forget() }
            };
            async move {
                if protocol == b"h2" {
                    let connection = h2::server::handshake(stream).await.unwrap();
                    let answers = |_, respond| {
                        let turn = turn();
                        async move {
                            turn.await;
                            say_hi(respond);
                        }
                    };
                    return serve_all(connection, answers).await;
                }
                let mut read = [0; 4096];
                while stream.read(&mut read).await.is_ok_and(|read| read > 0) {
                    turn().await;
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
                }
            }
        })
        .await;
        let client = client();
        let sleeps = async {
            if !is_idle {
                asked.acquire().await.unwrap().forget();
                jump().await;
                answer.add_permits(1);
            }
        };
        let (first, ()) = tokio::join!(server.ask_on(&client), sleeps);
        assert_eq!(first.unwrap(), "hi");
        if is_idle {
            jump().await;
            assert_eq!(server.ask_on(&client).await.unwrap(), "hi");
        }
        assert_eq!(server.connections(), connections, "{}, idle: {is_idle}", protocol.escape_ascii());
    }
}
