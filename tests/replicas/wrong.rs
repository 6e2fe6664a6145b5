//! A Redis that answers slowly, wrongly, or not at all: what is asked ends in time with an error, and nothing worse.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use steadfast::{
    layers::idempotency::{Claim, Fingerprint, IdempotencyKey, IdempotencyStore as _},
    store::{
        StoreErrorKind,
        redis::Redis,
        replicas::{Notice, ReplicaStore, Said},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::server::Server;

/// More than a limit of 250 ms, on a busy machine.
const BOUNDED: Duration = Duration::from_secs(2);

/// How a server that is none behaves beside what it says.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    /// It greets as a Redis does.
    Greets,
    /// It says the same from the first.
    Blunt,
    /// It says it once, and closes.
    Closes,
}

/// A server that says this to everything.
async fn scripted(reply: Vec<u8>, manner: Manner) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let reply = reply.clone();
            tokio::spawn(async move {
                let mut asked = vec![0; 4096];
                while let Ok(read @ 1..) = connection.read(&mut asked).await {
                    let greetings = String::from_utf8_lossy(&asked[..read]).matches("SETINFO").count();
                    let says = match manner {
                        Manner::Greets if greetings > 0 => b"+OK\r\n".repeat(greetings),
                        _ => reply.clone(),
                    };
                    if connection.write_all(&says).await.is_err() || manner == Manner::Closes {
                        return;
                    }
                }
            });
        }
    });
    format!("redis://{address}")
}

fn said() -> Said {
    Said { replica: 1, notices: vec![("sonnet".into(), None)], counts: vec![("chat".into(), 1)] }
}

#[tokio::test]
async fn a_server_that_is_no_redis_is_an_error_in_time() {
    let replies: &[(&str, &[u8])] = &[
        ("silence", b""),
        ("a web page", b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"),
        ("binary", &[0, 159, 146, 150, 255, 13, 10]),
        ("yes to everything", b"+OK\r\n"),
        ("no to everything", b"-ERR unknown command\r\n"),
        ("errors without end", b"-\r\n-\r\n-\r\n"),
        ("a number", b":1\r\n"),
        ("nothing", b"$-1\r\n"),
        ("a text that never ends", b"$9999999999\r\nabc"),
        ("a text of less than nothing", b"$-5\r\n"),
        ("too long a number", b":99999999999999999999999999\r\n"),
        ("a list that never ends", b"*2147483647\r\n"),
        ("numbers for texts", b"*4\r\n:1\r\n:2\r\n:3\r\n:4\r\n"),
        ("a map of nonsense", b"%1\r\n+a\r\n-b\r\n"),
        ("full", b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"),
        ("who are you", b"-NOAUTH Authentication required.\r\n"),
        ("busy", b"-BUSY Redis is busy running a script.\r\n"),
        ("loading", b"-LOADING Redis is loading the dataset in memory\r\n"),
        ("only for reading", b"-READONLY You can't write against a read only replica.\r\n"),
    ];
    let deep = b"*1\r\n".repeat(100_000);
    let cases = replies.iter().copied().chain([("lists within lists", &deep[..])]);
    for (name, reply) in cases {
        for manner in [Manner::Greets, Manner::Blunt, Manner::Closes] {
            let redis = Redis::open(&scripted(reply.to_vec(), manner).await).unwrap();
            for _ in 0..3 {
                let begun = Instant::now();
                let exchange = redis.exchange(&said()).await;
                assert!(exchange.is_err(), "{name}, {manner:?}: {exchange:?}");
                // Whatever it says to that.
                let _ = redis.ping().await;
                assert!(begun.elapsed() < BOUNDED, "{name}: {:?}", begun.elapsed());
            }
        }
    }
}

#[tokio::test]
async fn an_error_says_what_is_the_matter() {
    let cases: [(&[u8], _); 5] = [
        (b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", StoreErrorKind::Full),
        (b"-READONLY You can't write against a read only replica.\r\n", StoreErrorKind::ReadOnly),
        (b"-MISCONF Redis is configured to save RDB snapshots\r\n", StoreErrorKind::ReadOnly),
        (b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n", StoreErrorKind::Corrupt),
        (b"-LOADING Redis is loading the dataset in memory\r\n", StoreErrorKind::Unavailable),
    ];
    for (reply, kind) in cases {
        let redis = Redis::open(&scripted(reply.to_vec(), Manner::Greets).await).unwrap().limit(BOUNDED);
        let error = redis.exchange(&said()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[tokio::test]
async fn while_it_is_away_only_one_in_half_a_second_asks() {
    // Nobody listens on a port that was just given back.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let redis = Redis::open(&format!("redis://{address}")).unwrap();
    assert!(redis.ping().await.is_err());
    let begun = Instant::now();
    for _ in 0..10_000 {
        assert_eq!(redis.ping().await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_wrong_password_is_told_without_it() {
    let Some(server) = Server::start().await else { return };
    server.asks(&["CONFIG", "SET", "requirepass", "s3cret"]).await.unwrap();
    let redis = |url: String| Redis::open(&url).unwrap().limit(BOUNDED);
    let good = redis(format!("redis://:s3cret@127.0.0.1:{}", server.port));
    good.ping().await.unwrap();
    assert!(!format!("{good:?}").contains("s3cret"), "{good:?}");
    for wrong in [format!("redis://:guess@127.0.0.1:{}", server.port), server.url()] {
        let error = redis(wrong).ping().await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error:?}");
        assert!(!format!("{error:?}").contains("guess"), "{error:?}");
    }
}

/// Passes everything on, each piece of an answer after this time.
async fn proxy(to: SocketAddr, delay: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (Ok(server), (mut asks, mut hears)) = (TcpStream::connect(to).await, client.into_split()) else {
                    return;
                };
                let (mut says, mut takes) = server.into_split();
                let asking = tokio::io::copy(&mut asks, &mut takes);
                let answering = async {
                    let mut bytes = vec![0; 4096];
                    while let Ok(read @ 1..) = says.read(&mut bytes).await {
                        sleep(delay).await;
                        if hears.write_all(&bytes[..read]).await.is_err() {
                            return;
                        }
                    }
                };
                tokio::select! { _ = asking => {}, () = answering => {} }
            });
        }
    });
    format!("redis://{address}")
}

#[tokio::test]
async fn a_slow_redis_is_waited_for_within_the_limit_and_no_longer() {
    let Some(server) = Server::start().await else { return };
    let slow = proxy(server.address(), Duration::from_millis(300)).await;
    let patient = Redis::open(&slow).unwrap().limit(Duration::from_secs(20));
    patient.exchange(&said()).await.unwrap();
    let redis = Redis::open(&slow).unwrap();
    for _ in 0..5 {
        let begun = Instant::now();
        let error = redis.exchange(&said()).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert!(begun.elapsed() < BOUNDED);
        sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_is_made_again() {
    let Some(server) = Server::start().await else { return };
    let redis = Redis::open(&server.url()).unwrap().limit(BOUNDED);
    redis.ping().await.unwrap();
    server.asks(&["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(error) = redis.ping().await {
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_was_given_up_is_not_done_when_a_redis_goes_on_that_stood_still() {
    let Some(server) = Server::start().await else { return };
    let redis = Redis::open(&server.url()).unwrap();
    let patient = Redis::open(&server.url()).unwrap().limit(Duration::from_secs(20));
    let (key, input) = (IdempotencyKey::from_bytes([1; 32]), Fingerprint::from_bytes([2; 32]));
    // It knows the time there by now.
    redis.exchange(&said()).await.unwrap();
    server.stops();
    let opened = Notice { what: "open".into(), age: Duration::ZERO, left: Duration::from_secs(60) };
    let telling = Said { notices: vec![("sonnet".into(), Some(opened))], ..said() };
    redis.exchange(&telling).await.unwrap_err();
    sleep(Duration::from_millis(550)).await;
    redis.claim(&key, &input, Duration::from_secs(600)).await.unwrap_err();
    sleep(Duration::from_millis(2500)).await;
    server.goes_on();
    let heard = patient.exchange(&said()).await.unwrap();
    assert_eq!((heard.notices, heard.totals), (vec![None], vec![2]), "as it was, and one more now");
    let claim = patient.claim(&key, &input, Duration::from_secs(600)).await.unwrap();
    assert!(matches!(claim, Claim::Won(_)), "{claim:?}");
    // And it goes on as before.
    let deadline = Instant::now() + Duration::from_secs(10);
    while redis.exchange(&telling).await.is_err() {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(50)).await;
    }
}
