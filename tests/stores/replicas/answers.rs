//! Answers that replicas share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use steadfast::{
    BoxLlmService, CacheHandle, CacheLayer, CacheReason, ErrorKind, LlmError, LlmRequest, LlmResponse, provider_fn,
};
use steadfast_stores::redis::Redis;
use tokio::time::sleep;
use tower::{Layer as _, ServiceExt as _};

use crate::replicas::server::{self, Server};

struct Replica {
    llm: BoxLlmService,
    cache: CacheHandle,
}

impl Replica {
    fn over(redis: Redis, calls: &Arc<AtomicUsize>) -> Self {
        let calls = calls.clone();
        let provider = provider_fn(move |request: LlmRequest| {
            let call = calls.fetch_add(1, Relaxed);
            async move {
                let said = format!("answer {call}");
                let response = if request.is_stream() {
                    LlmResponse::new(steadfast::LlmBody::from_text(said))
                } else {
                    LlmResponse::from_text(said)
                };
                Ok::<_, LlmError>(response)
            }
        });
        let cache = CacheHandle::over(redis);
        let layer = CacheLayer::over(&cache).ttl(Duration::from_secs(600));
        Self { llm: BoxLlmService::new(layer.layer(provider)), cache }
    }

    /// The answer's words, and whether it was kept.
    async fn asks(&self, feature: &str, prompt: &str) -> (String, bool) {
        let answer = self.llm.clone().oneshot(LlmRequest::prompt(prompt).with_feature(feature)).await.unwrap();
        let kept = answer.cached().is_some_and(|cached| cached.reason == CacheReason::Fresh);
        (answer.text().await.unwrap(), kept)
    }

    /// Until it is so: what is kept and forgotten goes to Redis behind the answer.
    async fn asks_until(&self, feature: &str, prompt: &str, kept: bool) -> String {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let (text, is_kept) = self.asks(feature, prompt).await;
            if is_kept == kept {
                return text;
            }
            assert!(Instant::now() < deadline);
            sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn what_one_replica_was_answered_all_can_give_until_it_is_forgotten() {
    let Some(redis) = server::shared("answers") else { return };
    let calls = Arc::default();
    let (one, other) = (Replica::over(redis.clone(), &calls), Replica::over(redis, &calls));
    for feature in ["chat", "batch"] {
        one.asks_until(feature, "hello", true).await;
        let (text, kept) = other.asks(feature, "hello").await;
        assert!(kept);
        assert_eq!(text, one.asks(feature, "hello").await.0);
    }
    other.cache.invalidate("chat");
    let deadline = Instant::now() + Duration::from_secs(10);
    let before = one.asks("batch", "hello").await;
    // The new answer is kept in its turn.
    let mut first = one.asks("chat", "hello").await.0;
    loop {
        let again = one.asks("chat", "hello").await.0;
        if again != first && other.asks("chat", "hello").await == (again.clone(), true) {
            break;
        }
        assert!(Instant::now() < deadline, "it is not forgotten");
        first = first.min(again);
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(one.asks("batch", "hello").await, before, "another feature's stays");
    one.cache.clear();
    let text = before.0;
    while other.asks("batch", "hello").await.0 == text {
        assert!(Instant::now() < deadline, "it is not forgotten");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_as_if_it_were_not_there() {
    let Some(server) = Server::start().await else { return };
    let calls = Arc::default();
    let replica = Replica::over(Redis::open(&server.url()).unwrap().limit(Duration::from_secs(5)), &calls);
    replica.asks_until("chat", "hello", true).await;
    let keys = server.asks(&["KEYS", "steadfast:answer:*"]).await.unwrap();
    let key = keys.lines().find(|line| line.starts_with("steadfast:")).unwrap().to_owned();
    for damage in ["", "garbage", "\u{1}"] {
        server.asks(&["HSET", &key, "answer", damage]).await.unwrap();
        assert!(!replica.asks("chat", "hello").await.1, "{damage:?}");
        // It is kept anew.
        replica.asks_until("chat", "hello", true).await;
    }
    server.asks(&["SET", &key, "something else"]).await.unwrap();
    assert!(!replica.asks("chat", "hello").await.1);
}

#[tokio::test]
async fn while_redis_is_away_each_call_is_made() {
    let Some(mut server) = Server::start().await else { return };
    let calls = Arc::default();
    let replica = Replica::over(Redis::open(&server.url()).unwrap().limit(Duration::from_secs(1)), &calls);
    replica.asks_until("chat", "hello", true).await;
    server.dies();
    let begun = Instant::now();
    for _ in 0..20 {
        assert!(!replica.asks("chat", "hello").await.1);
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "not each waits as long as it may: {:?}", begun.elapsed());
    server.begin().await;
    replica.asks_until("chat", "hello", true).await;
}

/// Replicas with a cache each over one Redis, before a provider that takes its time, and what it is asked.
struct Fleet {
    replicas: Vec<BoxLlmService>,
    calls: Arc<AtomicUsize>,
}

const SLOWLY: Duration = Duration::from_millis(400);

impl Fleet {
    fn over(redis: &Redis, fails: bool) -> Self {
        let calls = Arc::new(AtomicUsize::new(0));
        let provider = {
            let calls = calls.clone();
            provider_fn(move |request: LlmRequest| {
                let call = calls.fetch_add(1, Relaxed);
                async move {
                    sleep(SLOWLY).await;
                    match (fails, request.is_stream()) {
                        (true, _) => Err(LlmError::new(ErrorKind::Overloaded, "no capacity")),
                        (_, true) => Ok(LlmResponse::new(steadfast::LlmBody::from_text(format!("answer {call}")))),
                        (_, false) => Ok(LlmResponse::from_text(format!("answer {call}"))),
                    }
                }
            })
        };
        let replica =
            |_| BoxLlmService::new(CacheLayer::over(&CacheHandle::over(redis.clone())).layer(provider.clone()));
        Self { replicas: (0..3).map(replica).collect(), calls }
    }

    /// Each replica is asked the same so often, all at once.
    async fn asks(&self, request: &LlmRequest, times: usize) -> Vec<Result<String, ErrorKind>> {
        let asks = self.replicas.iter().flat_map(|replica| (0..times).map(|_| replica.clone()));
        let mut asked: Vec<_> = Vec::new();
        for replica in asks {
            let request = request.clone();
            asked.push(tokio::spawn(async move {
                let answer = replica.oneshot(request).await.map_err(|error| error.kind())?;
                answer.text().await.map_err(|error| error.kind())
            }));
        }
        let mut answers = Vec::new();
        for asked in asked {
            answers.push(asked.await.unwrap());
        }
        answers
    }
}

#[tokio::test]
async fn of_replicas_that_are_asked_the_same_at_once_one_calls() {
    let Some(redis) = server::shared("flights") else { return };
    let fleet = Fleet::over(&redis, false);
    for round in 0..3 {
        let answers = fleet.asks(&LlmRequest::prompt(format!("question {round}")), 4).await;
        assert!(answers.iter().all(|answer| *answer == Ok(format!("answer {round}"))), "{answers:?}");
        assert_eq!(fleet.calls.load(Relaxed), round + 1);
    }
    // A stream is each replica's own: who reads it slowly holds up nobody elsewhere.
    fleet.asks(&LlmRequest::prompt("a stream").with_stream(true), 2).await;
    assert_eq!(fleet.calls.load(Relaxed), 3 + 3);
}

#[tokio::test]
async fn replicas_do_not_wait_for_one_anothers_failures() {
    let Some(redis) = server::shared("failed-flights") else { return };
    let fleet = Fleet::over(&redis, true);
    let answers = fleet.asks(&LlmRequest::prompt("hello"), 2).await;
    assert!(answers.iter().all(|answer| *answer == Err(ErrorKind::Overloaded)), "{answers:?}");
    assert_eq!(fleet.calls.load(Relaxed), 3, "one for each replica");
}

#[tokio::test]
async fn a_replica_whose_caller_leaves_hands_the_call_on_to_another() {
    let Some(redis) = server::shared("left-flights") else { return };
    let fleet = Fleet::over(&redis, false);
    let leaves = tokio::spawn(fleet.replicas[0].clone().oneshot(LlmRequest::prompt("hello")));
    let deadline = Instant::now() + Duration::from_secs(10);
    while fleet.calls.load(Relaxed) == 0 {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(5)).await;
    }
    let waits = tokio::spawn(fleet.replicas[1].clone().oneshot(LlmRequest::prompt("hello")));
    sleep(SLOWLY / 4).await;
    leaves.abort();
    let answer = waits.await.unwrap().unwrap();
    assert_eq!((answer.text().await.unwrap().as_str(), fleet.calls.load(Relaxed)), ("answer 1", 2));
}
