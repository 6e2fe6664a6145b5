//! A cache whose answers are in a file.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use steadfast::{
    BoxLlmService, CacheHandle, CacheLayer, CacheReason, LlmError, LlmRequest, LlmResponse,
    layers::{
        cache::{AnswerOwner, AnswerStore as _, Tenant},
        idempotency::{IdempotencyKey, IdempotencyStore as _, Ticket},
    },
    provider_fn,
};
use steadfast_stores::sqlite::Sqlite;
use tower::{Layer as _, ServiceExt as _};

use crate::{contract::SECOND, testing::Folder};

/// A program whose provider answers each call differently.
struct Program {
    llm: BoxLlmService,
    file: Sqlite,
    cache: CacheHandle,
    calls: Arc<AtomicUsize>,
}

impl Program {
    fn over(file: Sqlite) -> Self {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let leaf = provider_fn(move |_| {
            let call = counted.fetch_add(1, SeqCst) + 1;
            async move { Ok::<_, LlmError>(LlmResponse::from_text(format!("answer {call}"))) }
        });
        let cache = CacheHandle::over(file.clone());
        let llm = BoxLlmService::new(CacheLayer::over(&cache).ttl(600 * SECOND).layer(leaf));
        Self { llm, file, cache, calls }
    }

    /// The answer, and whether it was kept.
    async fn asks(&self, words: &str, feature: &str) -> (String, bool) {
        let response = self.llm.clone().oneshot(LlmRequest::prompt(words).with_feature(feature)).await.unwrap();
        let kept = response.cached().is_some_and(|cached| cached.reason == CacheReason::Fresh);
        let text = response.text().await.unwrap();
        self.written().await;
        (text, kept)
    }

    /// Waits until every answer is written: the file does one job after the other. A lookup behind a write would find
    /// nothing on a disk that is slow.
    async fn written(&self) {
        self.file.release(&IdempotencyKey::from_bytes([0; 32]), Ticket(0)).await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_is_given_again_after_a_restart_and_in_another_process() {
    let folder = Folder::new("cache-restart");
    let one = Program::over(Sqlite::open(folder.file()).unwrap());
    assert_eq!(one.asks("hi", "chat").await, ("answer 1".into(), false));
    assert_eq!(one.asks("hi", "chat").await, ("answer 1".into(), true));
    let other = Program::over(Sqlite::open(folder.file()).unwrap());
    assert_eq!(other.asks("hi", "chat").await, ("answer 1".into(), true));
    drop((one, other));
    let again = Program::over(Sqlite::open(folder.file()).unwrap());
    assert_eq!(again.asks("hi", "chat").await, ("answer 1".into(), true));
    assert_eq!(again.asks("hi", "code").await, ("answer 1".into(), false), "another feature's");
    assert_eq!(again.calls.load(SeqCst), 1);
}

#[tokio::test]
async fn what_is_forgotten_is_gone_and_the_other_features_answers_stay() {
    let folder = Folder::new("cache-forget");
    let program = Program::over(Sqlite::open(folder.file()).unwrap());
    for feature in ["chat", "code"] {
        program.asks("hi", feature).await;
    }
    program.cache.invalidate("chat");
    program.written().await;
    assert_eq!(program.asks("hi", "chat").await, ("answer 3".into(), false));
    assert_eq!(program.asks("hi", "code").await, ("answer 2".into(), true));
    program.cache.clear();
    program.written().await;
    assert_eq!(program.asks("hi", "code").await, ("answer 4".into(), false));
}

#[tokio::test]
async fn what_was_made_for_a_tenant_is_forgotten_and_the_others_answers_stay() {
    let folder = Folder::new("cache-forget-owner");
    let program = Program::over(Sqlite::open(folder.file()).unwrap());
    let asks = async |words: &str, tenant: &str| {
        let asked = LlmRequest::prompt(words).with_extension(Tenant::new(tenant));
        let response = program.llm.clone().oneshot(asked).await.unwrap();
        program.written().await;
        response.cached().is_some()
    };
    for words in ["one", "two", "three"] {
        for tenant in ["ada", "bob"] {
            assert!(!asks(words, tenant).await);
            assert!(asks(words, tenant).await);
        }
    }
    program.cache.forget_owner(&AnswerOwner::tenant("ada"));
    let file = rusqlite::Connection::open(folder.file()).unwrap();
    let left = || file.query_row("SELECT count(*) FROM answers", (), |row| row.get::<_, i64>(0)).unwrap();
    let gone = async {
        while left() > 3 {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(20 * SECOND, gone).await.expect("they are gone soon");
    assert_eq!(left(), 3);
    assert!(asks("one", "bob").await && !asks("one", "ada").await);
}

#[tokio::test]
async fn over_its_room_the_answer_that_was_kept_first_goes_first() {
    let folder = Folder::new("cache-room");
    let program = Program::over(Sqlite::open(folder.file()).unwrap());
    program.file.set_max_bytes(2000);
    for number in 0..20 {
        program.asks(&format!("question {number}"), "chat").await;
    }
    assert!(program.asks("question 19", "chat").await.1, "the last one is there");
    assert!(!program.asks("question 0", "chat").await.1, "the first one is not");
    program.file.set_max_bytes(10);
    program.asks("one more", "chat").await;
    assert!(!program.asks("one more", "chat").await.1, "there is never room for it");
}
