//! Tests of the one refresh for all callers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt, future::join_all};
use http::HeaderValue;
use tokio::time::{Instant, advance, sleep};

use super::{Credentials, Identity, Source, SourceError, Token, TokenFuture};
use crate::{ErrorKind, Event, Events, internal::wall_clock};

/// A source's answer to a fetch.
enum Answer {
    /// A token of this life, after this time.
    Token(Duration, Duration),
    Ended,
    Down,
    Wrong,
    Hang,
    Panic,
}

/// A source that answers by the number of the fetch and the time since its start.
struct Fake<F> {
    answer: F,
    fetches: Arc<AtomicUsize>,
    start: Instant,
}

impl<F: Fn(usize, Duration) -> Answer + Send + Sync + 'static> Source for Fake<F> {
    fn name(&self) -> String {
        "the fake".to_owned()
    }

    fn fetch(&self) -> TokenFuture<'_> {
        let fetch = self.fetches.fetch_add(1, SeqCst);
        let answer = (self.answer)(fetch, self.start.elapsed());
        Box::pin(async move {
            match answer {
                Answer::Token(after, life) => {
                    sleep(after).await;
                    Ok(Token::bearer(format!("secret-{fetch}")).expires_in(life))
                }
                Answer::Ended => Ok(Token::bearer("secret").expires_at(SystemTime::UNIX_EPOCH)),
                Answer::Down => Err(SourceError::new("the server is down")),
                Answer::Wrong => Err(SourceError::setup("the file is not there")),
                Answer::Hang => std::future::pending().await,
                Answer::Panic => panic!("a source's mistake"),
            }
        })
    }
}

/// Creates credentials over a fake, and the number of its fetches.
fn fake(answer: impl Fn(usize, Duration) -> Answer + Send + Sync + 'static) -> (Credentials, Arc<AtomicUsize>) {
    let fetches = Arc::new(AtomicUsize::new(0));
    let source = Fake { answer, fetches: fetches.clone(), start: Instant::now() };
    (Credentials::from_source(source), fetches)
}

fn text(token: &Token) -> &str {
    match &token.identity {
        Identity::Bearer(text) => text,
        Identity::Aws(_) => panic!("no bearer token"),
    }
}

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_share_one_fetch() {
    let (credentials, fetches) = fake(|_, _| Answer::Token(SECOND, HOUR));
    let callers = (0..1000).map(|_| {
        let credentials = credentials.clone();
        tokio::spawn(async move { credentials.get().await })
    });
    let tokens: Vec<_> = join_all(callers).await.into_iter().map(|token| token.unwrap().unwrap()).collect();
    assert!(tokens.iter().all(|token| Arc::ptr_eq(token, &tokens[0])));
    assert_eq!((tokens.len(), fetches.load(SeqCst)), (1000, 1));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_outlives_its_callers_at_every_await() {
    for polls in 0..4 {
        let (credentials, fetches) = fake(|_, _| Answer::Token(SECOND, HOUR));
        let mut caller = Box::pin(credentials.get());
        for _ in 0..polls {
            assert!((&mut caller).now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        drop(caller);
        let begun = Instant::now();
        sleep(2 * SECOND).await;
        assert_eq!(text(&credentials.get().await.unwrap()), "secret-0", "{polls}");
        assert_eq!((begun.elapsed() <= 3 * SECOND, fetches.load(SeqCst)), (true, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_refreshed_before_its_end_beside_the_requests() {
    let (credentials, fetches) = fake(|_, _| Answer::Token(3 * SECOND, HOUR));
    credentials.get().await.unwrap();
    let first = Instant::now();
    while first.elapsed() < 10 * HOUR {
        let asked = Instant::now();
        let token = credentials.get().await.unwrap();
        assert_eq!(asked.elapsed(), Duration::ZERO);
        assert_eq!(credentials.current().as_deref().map(text), Some(text(&token)));
        sleep(7 * SECOND).await;
    }
    // Each token serves for at least 54 minutes, and for at most 55.
    assert!((10..=12).contains(&fetches.load(SeqCst)), "{fetches:?}");
}

#[tokio::test(start_paused = true)]
async fn the_task_refreshes_used_credentials_once_and_lets_unused_ones_lapse() {
    let (credentials, fetches) = fake(|_, _| Answer::Token(SECOND, HOUR));
    credentials.get().await.unwrap();
    sleep(HOUR - MINUTE).await;
    assert_eq!(fetches.load(SeqCst), 2, "nobody had to ask for it");
    sleep(10 * HOUR).await;
    assert_eq!(fetches.load(SeqCst), 2);
    assert!(credentials.current().is_none());
    credentials.get().await.unwrap();
    assert_eq!(fetches.load(SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_its_last_credentials() {
    let (credentials, _) = fake(|_, _| Answer::Token(SECOND, HOUR));
    let clone = credentials.clone();
    clone.get().await.unwrap();
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 1);
    drop((credentials, clone));
    sleep(SECOND).await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_for_an_hour_costs_no_request_while_the_token_holds() {
    let down = MINUTE..61 * MINUTE;
    let (credentials, fetches) = fake(move |_, at| match down.contains(&at) {
        true => Answer::Down,
        false => Answer::Token(SECOND, 30 * MINUTE),
    });
    let events = Events::new();
    let mut sent = events.subscribe();
    let credentials = credentials.events(&events);
    let start = Instant::now();
    credentials.get().await.unwrap();
    while start.elapsed() < 90 * MINUTE {
        let asked = Instant::now();
        let outcome = credentials.get().await;
        match start.elapsed() {
            at if at < 30 * MINUTE => assert_eq!((outcome.is_ok(), asked.elapsed()), (true, Duration::ZERO)),
            at if at > 31 * MINUTE && at < 60 * MINUTE => {
                let error = outcome.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Credentials);
                assert!(error.to_string().contains("the fake: the server is down"), "{error}");
                assert!(error.retry_after().unwrap() <= MINUTE && asked.elapsed() <= SECOND);
            }
            at if at > 63 * MINUTE => assert!(outcome.is_ok()),
            _ => {}
        }
        sleep(SECOND).await;
    }
    // At most one a minute, jitter aside, after the first pauses have grown.
    assert!((35..=100).contains(&fetches.load(SeqCst)), "{fetches:?}");
    let mut seen = Vec::new();
    while let Ok(event) = sent.try_recv() {
        seen.push(match event {
            Event::CredentialsFailed { source, problem, usable, .. } => format!("{source}: {problem}, {usable}"),
            Event::CredentialsRenewed { source, .. } => format!("{source} renewed"),
            other => panic!("{other:?}"),
        });
    }
    let failed = "the fake: the server is down";
    assert_eq!(seen, [format!("{failed}, true"), format!("{failed}, false"), "the fake renewed".to_owned()]);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_holds_no_request_up_while_a_token_holds() {
    let (credentials, _) = fake(|fetch, _| match fetch {
        0 => Answer::Token(Duration::ZERO, 10 * MINUTE),
        _ => Answer::Hang,
    });
    let start = Instant::now();
    credentials.get().await.unwrap();
    while start.elapsed() < 590 * SECOND {
        let asked = Instant::now();
        credentials.get().await.unwrap();
        assert_eq!(asked.elapsed(), Duration::ZERO);
        sleep(SECOND).await;
    }
    sleep(15 * SECOND).await;
    let error = credentials.get().await.unwrap_err();
    assert!(error.to_string().contains("60 s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_hanging_source_fails_all_who_wait_after_its_limit() {
    let (credentials, fetches) = fake(|_, _| Answer::Hang);
    let start = Instant::now();
    let waiting = join_all((0..100).map(|_| credentials.get())).await;
    assert!(waiting.iter().all(|outcome| outcome.as_ref().unwrap_err().kind() == ErrorKind::Credentials));
    assert_eq!((start.elapsed().as_secs(), fetches.load(SeqCst)), (60, 1));
    let again = Instant::now();
    assert!(credentials.get().await.is_err());
    assert_eq!(again.elapsed(), Duration::ZERO, "a failure a moment ago answers at once");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_of_the_source() {
    let (credentials, _) = fake(|fetch, _| match fetch {
        0 => Answer::Panic,
        _ => Answer::Token(SECOND, HOUR),
    });
    let error = credentials.get().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials);
    sleep(2 * SECOND).await;
    assert!(credentials.get().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_has_ended_already_is_a_failure() {
    let (credentials, _) = fake(|_, _| Answer::Ended);
    let error = credentials.get().await.unwrap_err();
    assert!(error.to_string().contains("ended already") && error.to_string().contains("clock"), "{error}");
    let fixed = Credentials::token(Token::bearer("secret").expires_in(MINUTE));
    assert!(fixed.get().await.is_ok());
    advance(MINUTE).await;
    assert_eq!(fixed.get().await.unwrap_err().kind(), ErrorKind::Credentials);
    assert!(fixed.current().is_none());
}

#[tokio::test(start_paused = true)]
async fn short_lived_tokens_are_refreshed_halfway_and_not_more() {
    let (credentials, fetches) = fake(|_, _| Answer::Token(SECOND / 10, 10 * SECOND));
    credentials.get().await.unwrap();
    let start = Instant::now();
    while start.elapsed() < 100 * SECOND {
        let asked = Instant::now();
        credentials.get().await.unwrap();
        assert_eq!(asked.elapsed(), Duration::ZERO);
        sleep(SECOND / 7).await;
    }
    assert!((18..=28).contains(&fetches.load(SeqCst)), "{fetches:?}");
}

#[tokio::test(start_paused = true)]
async fn a_mistake_of_the_configuration_is_not_repeated_soon() {
    let (credentials, fetches) = fake(|_, _| Answer::Wrong);
    let start = Instant::now();
    while start.elapsed() < 10 * MINUTE {
        assert!(credentials.get().await.is_err());
        sleep(SECOND).await;
    }
    assert!((15..=30).contains(&fetches.load(SeqCst)), "{fetches:?}");
}

#[tokio::test(start_paused = true)]
async fn refused_tokens_cause_no_storm() {
    let (credentials, fetches) = fake(|_, _| Answer::Token(SECOND / 10, HOUR));
    let start = Instant::now();
    let first = credentials.get().await.unwrap();
    assert!(!credentials.refused(&first, None));
    sleep(SECOND).await;
    assert_eq!(text(&credentials.get().await.unwrap()), "secret-1");
    assert!(credentials.refused(&first, None), "there is another token already");
    while start.elapsed() < 2 * MINUTE {
        for _ in 0..10 {
            let token = credentials.get().await.unwrap();
            credentials.refused(&token, None);
        }
        sleep(SECOND / 10).await;
    }
    assert!((3..=6).contains(&fetches.load(SeqCst)), "{fetches:?}");
}

#[tokio::test(start_paused = true)]
async fn the_date_of_a_refusal_corrects_the_time_of_signatures() {
    let (credentials, fetches) = fake(|_, _| Answer::Token(Duration::ZERO, HOUR));
    let token = credentials.get().await.unwrap();
    let ahead = |at: SystemTime| at.duration_since(wall_clock::now()).unwrap_or_default().as_secs();
    let date = |at| HeaderValue::from_str(&httpdate::fmt_http_date(at)).unwrap();
    assert!(credentials.refused(&token, Some(&date(wall_clock::now() + HOUR))));
    assert!((3590..=3600).contains(&ahead(credentials.signing_time())));
    assert!(credentials.refused(&token, Some(&date(wall_clock::now() + HOUR))), "it was signed before the correction");
    advance(MINUTE).await;
    assert!(!credentials.refused(&token, Some(&date(wall_clock::now() + HOUR))), "it was signed after it");
    let behind = date(wall_clock::now() - HOUR);
    assert!(credentials.refused(&token, Some(&behind)));
    assert!(credentials.signing_time() < wall_clock::now() - 59 * MINUTE);
    assert!(credentials.refused(&token, Some(&date(wall_clock::now()))));
    assert!(ahead(credentials.signing_time()) <= 1);
    advance(MINUTE).await;
    assert!(!credentials.refused(&token, Some(&HeaderValue::from_static("yesterday"))));
    sleep(SECOND).await;
    assert!(fetches.load(SeqCst) <= 3);
}

#[test]
fn a_runtime_that_ends_or_stands_still_hurts_no_other() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    for ends in [true, false] {
        let (first, second) = (runtime(), runtime());
        let (credentials, fetches) = second.block_on(async { fake(|_, _| Answer::Token(SECOND, HOUR)) });
        let handle = credentials.clone();
        first.block_on(async move { assert!(handle.get().now_or_never().is_none()) });
        let mut still = Some(first);
        if ends {
            still = None;
        }
        let token = second.block_on(credentials.get()).unwrap();
        assert!(text(&token).starts_with("secret-"));
        assert!(fetches.load(SeqCst) <= 2);
        drop(still);
        assert!(second.block_on(credentials.get()).is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_of_the_users_is_a_source() {
    let service = tower::service_fn(|()| async { Err::<Token, _>(std::io::Error::other("the vault is sealed")) });
    let error = Credentials::service(service).get().await.unwrap_err();
    let cause = std::error::Error::source(&error).and_then(std::error::Error::source).unwrap();
    assert_eq!(cause.to_string(), "the vault is sealed");
    let service = tower::service_fn(|()| async { Ok::<_, std::convert::Infallible>(Token::bearer(" secret\n")) });
    assert_eq!(text(&Credentials::service(service).get().await.unwrap()), "secret");
    let service = tower::service_fn(|()| async { Ok::<_, std::convert::Infallible>(Token::bearer("two words")) });
    assert!(Credentials::service(service).get().await.unwrap_err().to_string().contains("characters"));
}

#[tokio::test(start_paused = true)]
async fn debug_and_errors_show_no_secret() {
    let keys = Token::aws("AKID", "secret", Some("secret".into()));
    let (credentials, _) = fake(|_, _| Answer::Token(Duration::ZERO, HOUR));
    credentials.get().await.unwrap();
    let shown = format!("{keys:?} {:?} {credentials:?}", Token::bearer("secret"));
    assert!(!shown.contains("secret") && shown.contains("the fake"), "{shown}");
}
