//! Both clouds through `Credentials`: a token server that is down for an hour, a crowd of callers, and the log.

use std::{
    io::{self, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::Response;
use tokio::time::{Instant, advance, sleep};

use crate::{
    ErrorKind,
    credentials::{
        Credentials, Identity, azure, google,
        oauth::testing::{Reply, Server, assert_no_secret, json, machine},
    },
};

const USER: &str = r#"{"type":"authorized_user","client_id":"c","client_secret":"s3cr3t-client",
    "refresh_token":"s3cr3t-refresh"}"#;

/// Credentials of each cloud, with this server for their tokens.
fn both(server: impl Fn() -> Server) -> [(Credentials, Server); 2] {
    let none = Server::unasked();
    let (of_google, of_azure) = (server(), server());
    let google = google::json(&machine(&[], &of_google, &none), USER, "the test's user").unwrap();
    let azure = machine(&[], &of_azure, &none);
    let azure = azure::client_secret(&azure, "t", "c", "s3cr3t-client", azure::AI).unwrap();
    [(google, of_google), (azure, of_azure)]
}

fn granted(number: usize) -> String {
    format!(r#"{{"access_token":"token-{number}","expires_in":3600,"token_type":"Bearer"}}"#)
}

async fn text(credentials: &Credentials) -> Result<String, ErrorKind> {
    match credentials.get().await {
        Ok(token) => match &token.identity {
            Identity::Bearer(text) => Ok(text.to_string()),
            Identity::Aws(_) => panic!("no bearer"),
        },
        Err(error) => Err(error.kind()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_used_to_its_end_while_its_server_is_down_and_renewed_when_it_is_back() {
    const STEP: Duration = Duration::from_secs(5);
    for number in 0..2 {
        let is_down = Arc::new(AtomicBool::new(false));
        let down = is_down.clone();
        let given = Arc::new(AtomicUsize::new(0));
        let server = move || {
            let (down, given) = (down.clone(), given.clone());
            Server::new(move |_| match down.load(SeqCst) {
                true => Reply::Down,
                false => json(200, &granted(given.fetch_add(1, SeqCst) + 1)),
            })
        };
        let (credentials, server) = both(server).into_iter().nth(number).unwrap();
        let begin = Instant::now();
        let at = |minutes: u64| begin + Duration::from_secs(60 * minutes);
        assert_eq!(text(&credentials).await.as_deref(), Ok("token-1"));
        // Down from minute 50 to minute 110; the token ends in minute 60.
        let mut renewed = None;
        while Instant::now() < at(113) {
            is_down.store(Instant::now() >= at(50) && Instant::now() < at(110), SeqCst);
            let now = Instant::now();
            let got = text(&credentials).await;
            assert!(Instant::now() - now < STEP, "no caller waits for a server that is down");
            match &got {
                Ok(token) if now < at(60) => assert_eq!(token, "token-1"),
                Ok(token) => {
                    assert!(now >= at(110), "{token}");
                    renewed.get_or_insert(now);
                }
                Err(kind) => {
                    assert!(now >= at(60) && renewed.is_none());
                    assert_eq!(*kind, ErrorKind::Credentials);
                }
            }
            sleep(STEP).await;
        }
        let wait = renewed.expect("the server is back") - at(110);
        assert!(wait <= Duration::from_secs(65), "{wait:?}");
        // Repeated with growing pauses: a server that comes back meets no crowd.
        let asked = server.asked().len();
        assert!((40..100).contains(&asked), "{asked}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_ask_once() {
    let server = || {
        let given = AtomicUsize::new(0);
        Server::new(move |_| {
            let body = granted(given.fetch_add(1, SeqCst) + 1);
            let answer = Response::builder().header("content-type", "application/json").body(body);
            Reply::Late(Duration::from_secs(2), answer.unwrap())
        })
    };
    for (credentials, server) in both(server) {
        for round in 1..=3 {
            let callers: Vec<_> = (0..1000)
                .map(|_| {
                    let credentials = credentials.clone();
                    tokio::spawn(async move { text(&credentials).await })
                })
                .collect();
            for (number, caller) in callers.into_iter().enumerate() {
                // Some leave before there is a token.
                if number % 10 == 0 {
                    caller.abort();
                } else {
                    assert_eq!(caller.await.unwrap(), Ok(format!("token-{round}")));
                }
            }
            assert_eq!(server.asked().len(), round);
            advance(Duration::from_secs(3601)).await;
        }
    }
}

/// A log that is kept.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_has_no_secret() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // With one subscriber alone, tracing asks the thread that meets a line first, which may be another test's.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _here = tracing::subscriber::set_default(subscriber);
    let replies: [fn(&str) -> Reply; 4] = [
        |body| json(400, &serde_json::json!({ "error": "invalid_grant", "error_description": body }).to_string()),
        |body| json(200, &serde_json::json!({ "access_token": body.replace('&', " ") }).to_string()),
        |body| json(500, body),
        |_| json(200, &granted(1)),
    ];
    for reply in replies {
        for (credentials, _) in both(|| Server::new(move |asked| reply(&asked.body))) {
            let _ = text(&credentials).await;
        }
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("credentials not renewed") && text.contains("invalid_grant"), "{text}");
    assert_no_secret(&text);
}
