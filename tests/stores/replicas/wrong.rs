//! A Redis that answers slowly, wrongly, or not at all: what is asked ends in time with an error, and nothing worse.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use steadfast::{
    layers::idempotency::{Claim, Fingerprint, IdempotencyKey, IdempotencyStore as _},
    store::StoreErrorKind,
};
use steadfast_stack::{Config, Format, Stack};
use steadfast_stores::{
    redis::Redis,
    replicas::{Notice, ReplicaStore, Report},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::replicas::server::Server;

/// More than a limit of 250 ms, on a busy machine.
const BOUNDED: Duration = Duration::from_secs(10);

/// The behaviour, beside its replies, of a server that is none.
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

fn said() -> Report {
    Report { replica: 1, notices: vec![("sonnet".into(), None)], counts: vec![("chat".into(), 1)] }
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
async fn an_unreachable_redis_gets_one_attempt_in_half_a_second() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let redis = Redis::open(&format!("redis://{}", listener.local_addr().unwrap())).unwrap();
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = attempts.clone();
    tokio::spawn(async move {
        // Each is closed at once.
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Relaxed);
        }
    });
    let begun = Instant::now();
    let mut pings = 0;
    while attempts.load(Relaxed) < 3 {
        assert_eq!(redis.ping().await.unwrap_err().kind(), StoreErrorKind::Unavailable);
        pings += 1;
        tokio::task::yield_now().await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(1) && pings > 100, "{pings} in {:?}", begun.elapsed());
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
async fn a_stack_waits_for_a_slow_redis_as_long_as_its_file_says() {
    let Some(server) = Server::start().await else { return };
    let slow = proxy(server.address(), Duration::from_millis(300)).await;
    let stack = |more: &str| {
        let file = format!(
            "tiers: [{{ name: sorry, provider: canned, text: Later. }}]\nstores: {{ shared: '{slow}'{more} }}\n"
        );
        Stack::from_config(Config::from_str(&file, Format::Yaml).unwrap()).unwrap()
    };
    let (hasty, patient) = (stack("").handle(), stack(", shared_timeout: 20s").handle());
    assert_eq!(hasty.check_stores().await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    patient.check_stores().await.unwrap();
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
async fn a_resumed_redis_does_not_execute_abandoned_commands() {
    let Some(server) = Server::start().await else { return };
    let redis = Redis::open(&server.url()).unwrap().limit(Duration::from_secs(1));
    let patient = Redis::open(&server.url()).unwrap().limit(Duration::from_secs(20));
    let (key, input) = (IdempotencyKey::from_bytes([1; 32]), Fingerprint::from_bytes([2; 32]));
    // It knows the time there by now.
    redis.exchange(&said()).await.unwrap();
    server.stops();
    let opened = Notice { change: "open".into(), age: Duration::ZERO, remaining: Duration::from_secs(60) };
    let telling = Report { notices: vec![("sonnet".into(), Some(opened))], ..said() };
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

#[tokio::test]
async fn a_late_redis_still_executes_abandoned_commands() {
    let Some(server) = Server::start().await else { return };
    let redis = Redis::open(&server.url()).unwrap().limit(Duration::from_secs(1));
    let patient = Redis::open(&server.url()).unwrap().limit(Duration::from_secs(20));
    let (first, key) = (IdempotencyKey::from_bytes([1; 32]), IdempotencyKey::from_bytes([2; 32]));
    let (input, lease) = (Fingerprint::from_bytes([3; 32]), Duration::from_secs(600));
    for (key, is_late) in [(first, false), (key, true)] {
        let Claim::Won(ticket) = patient.claim(&key, &input, lease).await.unwrap() else { panic!("a new key") };
        if is_late {
            // The script is known there by now.
            server.asks(&["CLIENT", "PAUSE", "1500", "ALL"]).await.unwrap();
        }
        // Another command on the connection has no answer either.
        let (released, ping) = tokio::join!(redis.release(&key, ticket), redis.ping());
        assert_eq!((released.is_err(), ping.is_err()), (is_late, is_late));
    }
    let claim = patient.claim(&key, &input, lease).await.unwrap();
    assert!(matches!(claim, Claim::Won(_)), "it was given back: {claim:?}");
    // A reply ends the outage, although no caller asks.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !redis.troubles().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", redis.troubles());
        sleep(Duration::from_millis(10)).await;
    }
}

/// A claim that is won can be completed: where there is no room for that, none is won.
#[tokio::test]
async fn a_redis_without_memory_wins_no_key_and_completes_those_that_are_won() {
    let Some(server) = Server::start().await else { return };
    let redis = Redis::open(&server.url()).unwrap().limit(BOUNDED);
    let input = Fingerprint::from_bytes([2; 32]);
    let long = Duration::from_secs(600);
    let claim = async |number: u8| redis.claim(&IdempotencyKey::from_bytes([number; 32]), &input, long).await;
    let Claim::Won(ticket) = claim(1).await.unwrap() else { panic!("it is new") };
    server.asks(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    for number in 2..5 {
        let error = claim(number).await.unwrap_err().downcast::<steadfast::store::StoreError>().unwrap();
        assert_eq!(error.kind(), StoreErrorKind::Full, "{error}");
    }
    assert_eq!(server.asks(&["DBSIZE"]).await.unwrap(), ":2\r\n", "the key that was won, and the ledger");
    let said: Vec<String> = redis.troubles().iter().map(ToString::to_string).collect();
    assert_eq!(said, ["idempotency: the store is full"]);
    let leaf =
        steadfast::provider_fn(|_| async { Ok::<_, steadfast::LlmError>(steadfast::LlmResponse::from_text("fine")) });
    // An answer, as a layer keeps it.
    let spy = Arc::new(Mutex::new(None));
    let keeps = Keeps(spy.clone());
    let llm = tower::Layer::layer(&steadfast::IdempotencyLayer::over(keeps), leaf);
    let asked = steadfast::LlmRequest::prompt("hello").with_idempotency_key("k");
    tower::ServiceExt::oneshot(llm, asked).await.unwrap();
    let answer = spy.lock().unwrap().take().unwrap();
    let key = IdempotencyKey::from_bytes([1; 32]);
    assert!(redis.renew(&key, ticket, long).await.unwrap());
    assert!(redis.complete(&key, ticket, answer, long).await.unwrap());
    assert!(matches!(claim(1).await.unwrap(), Claim::Done(_)));
    // The replicas share nothing meanwhile, and that is another matter.
    assert_eq!(redis.exchange(&said_of_replicas()).await.unwrap_err().kind(), StoreErrorKind::Full);
    server.asks(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    assert!(matches!(claim(2).await.unwrap(), Claim::Won(_)));
}

fn said_of_replicas() -> Report {
    Report { counts: vec![("another".into(), 1)], ..said() }
}

type Kept = Arc<Mutex<Option<Arc<steadfast::layers::cache::Answer>>>>;

/// Gives away the answer that it is to keep.
struct Keeps(Kept);

impl steadfast::layers::idempotency::IdempotencyStore for Keeps {
    fn claim<'a>(
        &'a self,
        _: &'a IdempotencyKey,
        _: &'a Fingerprint,
        _: Duration,
    ) -> steadfast::layers::idempotency::StoreFuture<'a, Claim> {
        Box::pin(async { Ok(Claim::Won(steadfast::layers::idempotency::Ticket(1))) })
    }

    fn renew<'a>(
        &'a self,
        _: &'a IdempotencyKey,
        _: steadfast::layers::idempotency::Ticket,
        _: Duration,
    ) -> steadfast::layers::idempotency::StoreFuture<'a, bool> {
        Box::pin(async { Ok(true) })
    }

    fn complete<'a>(
        &'a self,
        _: &'a IdempotencyKey,
        _: steadfast::layers::idempotency::Ticket,
        answer: Arc<steadfast::layers::cache::Answer>,
        _: Duration,
    ) -> steadfast::layers::idempotency::StoreFuture<'a, bool> {
        *self.0.lock().unwrap() = Some(answer);
        Box::pin(async { Ok(true) })
    }

    fn release<'a>(
        &'a self,
        _: &'a IdempotencyKey,
        _: steadfast::layers::idempotency::Ticket,
    ) -> steadfast::layers::idempotency::StoreFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn a_redis_that_comes_back_without_what_it_knew_says_so_of_what_is_won_then() {
    let Some(mut server) = Server::start().await else { return };
    let input = Fingerprint::from_bytes([2; 32]);
    let wins = async |redis: &Redis, number: u8| {
        let (key, long) = (IdempotencyKey::from_bytes([number; 32]), Duration::from_secs(600));
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match redis.claim(&key, &input, long).await {
                Ok(Claim::Won(_)) => return redis.may_have_lost(),
                other => assert!(other.is_err() && Instant::now() < deadline, "{other:?}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let open = || Redis::open(&server.url()).unwrap().limit(BOUNDED);
    let (one, other, late) = (open(), open(), open());
    assert!(!wins(&one, 1).await && !wins(&other, 2).await && !wins(&one, 3).await);
    server.dies();
    server.begin().await;
    assert!(wins(&one, 1).await, "it has answered this before");
    assert!(wins(&other, 3).await && wins(&late, 2).await, "all are told");
}

#[tokio::test]
async fn a_cluster_and_a_database_that_is_not_there_are_named() {
    let Some(server) = Server::start().await else { return };
    let error = Redis::open(&format!("{}/99", server.url())).unwrap().limit(BOUNDED).ping().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("DB index"), "{cause}");
    let Some(cluster) = Server::start_as_cluster().await else { return };
    let error = Redis::open(&cluster.url()).unwrap().limit(BOUNDED).ping().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("this is a Redis Cluster"), "{error}");
}

/// A trouble with one purpose is reported for that purpose, and once.
#[tokio::test]
async fn one_script_that_fails_is_one_trouble_and_the_others_go_on() {
    let Some(server) = Server::start().await else { return };
    let events = steadfast::Events::new();
    let mut heard = events.subscribe();
    let redis = Redis::open(&server.url()).unwrap().limit(BOUNDED).events(&events);
    server.asks(&["SET", "steadfast:circuits", "somebody else's"]).await.unwrap();
    let input = Fingerprint::from_bytes([2; 32]);
    for number in 0..50 {
        assert_eq!(redis.exchange(&said()).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
        redis.claim(&IdempotencyKey::from_bytes([number; 32]), &input, Duration::from_secs(60)).await.unwrap();
    }
    let troubles: Vec<String> = redis.troubles().iter().map(ToString::to_string).collect();
    assert_eq!(troubles, ["replicas: the store is damaged"]);
    let mut told = Vec::new();
    while let Ok(steadfast::Event::StoreChanged { store, available, .. }) = heard.try_recv() {
        told.push((store.to_string(), available));
    }
    assert_eq!(told, [("replicas".to_owned(), false)]);
}
