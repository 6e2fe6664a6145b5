//! A store of results over a store of idempotency keys.

use std::{fmt, sync::Arc, time::Duration};

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::{ActionClaim, ActionKey, ActionStore, ActionStoreFuture};
use steadfast::{
    layers::{
        cache::Answer,
        idempotency::{Claim, Fingerprint, IdempotencyKey, IdempotencyStore, Ticket},
    },
    response::CacheReason,
};

/// Keeps actions' results, as text, in any [`IdempotencyStore`]: in SQLite, PostgreSQL or Redis, so that they outlive
/// a process and can be shared. Feature `idempotency`.
///
/// Keys and arguments are stored as hashes (SHA-256), results as they are. The store may also serve an
/// `IdempotencyLayer`: their keys never collide.
///
/// ```
/// use steadfast_agent::{ActionKey, Actions, CompletedAnswer, StoredActions};
/// use steadfast::{chat::Message, layers::idempotency::MemoryIdempotency};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let store = MemoryIdempotency::new(); // in an application: stores::sqlite::Sqlite
/// let answer = CompletedAnswer::vouched(Message::assistant("All is well."));
/// let key = ActionKey::new(&"report-7".into(), "mail it");
/// for process in ["first", "second"] {
///     let actions = Actions::with_store(StoredActions::new(store.clone()));
///     let mailed = actions.once(&key, &answer, move || async move { Ok::<_, std::io::Error>(process.to_owned()) });
///     assert_eq!(mailed.await.unwrap(), "first");
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct StoredActions<S> {
    store: S,
}

impl<S: IdempotencyStore> StoredActions<S> {
    /// Creates a store of results over this one.
    pub fn new(store: S) -> Self {
        Self { store }
    }
}

fn hash(kind: &str, text: &str) -> [u8; 32] {
    Sha256::new().chain_update(kind).chain_update([0]).chain_update(text).finalize().into()
}

fn key(key: &ActionKey) -> IdempotencyKey {
    IdempotencyKey::from_bytes(hash("steadfast action key 1", key.as_str()))
}

fn input(key: &ActionKey) -> Fingerprint {
    Fingerprint::from_bytes(hash("steadfast action input 1", key.input()))
}

impl<S: IdempotencyStore> ActionStore<String> for StoredActions<S> {
    fn claim<'a>(&'a self, action: &'a ActionKey, lease: Duration) -> ActionStoreFuture<'a, ActionClaim<String>> {
        Box::pin(async move {
            Ok(match self.store.claim(&key(action), &input(action), lease).await? {
                Claim::Won(Ticket(ticket)) | Claim::Inherited(Ticket(ticket)) => ActionClaim::Won { ticket },
                Claim::Busy { lease_left } => ActionClaim::Busy { lease_left },
                Claim::Done(answer) => {
                    let response = answer.response(false, CacheReason::Replayed, Instant::now());
                    ActionClaim::Done(response.text().await?)
                }
                Claim::Conflict => ActionClaim::Conflict,
            })
        })
    }

    fn renew<'a>(&'a self, action: &'a ActionKey, ticket: u64, lease: Duration) -> ActionStoreFuture<'a, bool> {
        Box::pin(async move { self.store.renew(&key(action), Ticket(ticket), lease).await })
    }

    fn complete<'a>(
        &'a self,
        action: &'a ActionKey,
        ticket: u64,
        result: String,
        ttl: Duration,
    ) -> ActionStoreFuture<'a, bool> {
        let answer = Arc::new(Answer::of_text(result, ttl));
        Box::pin(async move { self.store.complete(&key(action), Ticket(ticket), answer, ttl).await })
    }

    fn release<'a>(&'a self, action: &'a ActionKey, ticket: u64) -> ActionStoreFuture<'a, ()> {
        Box::pin(async move { self.store.release(&key(action), Ticket(ticket)).await })
    }
}

impl<S> fmt::Debug for StoredActions<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredActions").finish_non_exhaustive()
    }
}
