//! Answers that replicas share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use steadfast::{
    BoxLlmService, CacheHandle, CacheLayer, CachedWhy, LlmError, LlmRequest, LlmResponse, provider_fn,
    store::redis::Redis,
};
use tokio::time::sleep;
use tower::{Layer as _, ServiceExt as _};

use crate::server::{self, Server};

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
        let answer = self.llm.clone().oneshot(LlmRequest::prompt(prompt).feature(feature)).await.unwrap();
        let kept = answer.cached().is_some_and(|cached| cached.why == CachedWhy::Fresh);
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
    let replica = Replica::over(Redis::open(&server.url()).unwrap(), &calls);
    replica.asks_until("chat", "hello", true).await;
    server.dies();
    let begun = Instant::now();
    for _ in 0..20 {
        assert!(!replica.asks("chat", "hello").await.1);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    server.begin().await;
    replica.asks_until("chat", "hello", true).await;
}
