use std::{
    future::Future,
    sync::{Arc, LazyLock},
};

use redis::Script;
use tokio::{runtime::Handle, sync::Semaphore};

use super::{Redis, link::Purpose, millis};
use steadfast::layers::cache::{Answer, AnswerOwner, AnswerStore, CacheKey, ClaimFuture, StoreLookup};
use steadfast_internal::hex;

static PUT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/put.lua")));
static GET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/get.lua")));
static FORGET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/forget.lua")));

/// The number of answers under way to Redis at once. A further one is not stored.
const UNDER_WAY: usize = 64;

/// A hash for each answer, `answer:` and its key behind the prefix, which expires when the answer could no longer be
/// given. Redis's own `maxmemory` limits their total size, and its `maxmemory-policy` (for example `volatile-lru`)
/// selects which go first.
///
/// Each lookup is a call to Redis with the usual time limit. Answers deleted by [`forget`](AnswerStore::forget) are
/// gone for every replica once Redis has received the order; during an outage it does not receive it. The number of
/// answers is unknown.
impl AnswerStore for Redis {
    fn get(&self, key: &CacheKey) -> StoreLookup {
        if self.link.is_out() {
            return StoreLookup::Ready(None);
        }
        let (redis, key) = (self.clone(), self.answer(key));
        StoreLookup::Pending(Box::pin(async move {
            let turns = redis.key(TURNS);
            let bytes: Option<Vec<u8>> = redis.look("an answer", GET.key(key).key(turns)).await.ok()?;
            match Answer::from_bytes(&bytes?) {
                Ok(answer) => Some(Arc::new(answer)),
                Err(error) => {
                    tracing::debug!(%error, "unreadable answer in Redis");
                    None
                }
            }
        }))
    }

    fn put(&self, key: CacheKey, answer: Arc<Answer>) {
        let redis = self.clone();
        self.in_background(async move { redis.store_answer(&key, &answer).await });
    }

    fn claim(&self, key: &CacheKey, is_fresh: Box<dyn Fn(&Answer) -> bool + Send + Sync>) -> Option<ClaimFuture> {
        (!self.link.is_out()).then(|| self.claim_call(*key, is_fresh))
    }

    fn retain(&self, _: &dyn Fn(&Answer) -> bool) {
        // This store cannot list all answers; see `forget`.
    }

    fn forget(&self, feature: Option<&str>) {
        let (redis, feature) = (self.clone(), of_feature(feature));
        self.in_background(async move {
            let mut call = FORGET.key(redis.key(TURNS));
            if let Err(error) = redis.run::<i64>("deleting answers", Purpose::Answers, call.arg(feature)).await {
                tracing::warn!(%error, "answers not deleted");
            }
        });
    }

    fn forget_owner(&self, owner: &AnswerOwner) {
        let (redis, owner) = (self.clone(), owner.clone());
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Err(error) = redis.delete_owner(Purpose::Answers, "answer:", &owner).await {
                tracing::warn!(%error, "answers not deleted");
            }
        });
    }

    fn len(&self) -> usize {
        0
    }

    fn bytes(&self) -> u64 {
        0
    }
}

/// The key that records which answers are forgotten.
const TURNS: &str = "turns";

impl Redis {
    fn answer(&self, key: &CacheKey) -> String {
        self.key(&format!("answer:{}", hex::encode(key.as_bytes())))
    }

    pub(super) async fn store_answer(&self, key: &CacheKey, answer: &Answer) {
        let mut call = PUT.key(self.answer(key));
        call.key(self.key(TURNS)).arg(answer.to_bytes()).arg(millis(answer.usable_for()).max(1));
        call.arg(of_feature(answer.feature()));
        // A lost answer costs one more call.
        let _ = self.run::<i64>("storing an answer", Purpose::Answers, &call).await;
    }

    /// Runs work that no caller waits for, and drops it if too much is under way.
    pub(super) fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        static PLACES: Semaphore = Semaphore::const_new(UNDER_WAY);
        let (Ok(runtime), Ok(place)) = (Handle::try_current(), PLACES.try_acquire()) else { return };
        runtime.spawn(async move {
            work.await;
            drop(place);
        });
    }
}

fn of_feature(feature: Option<&str>) -> String {
    feature.map_or_else(String::new, |feature| format!("={feature}"))
}
