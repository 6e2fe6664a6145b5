use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, LazyLock},
    time::Duration,
};

use redis::{Script, ScriptInvocation};
use tower::BoxError;

use super::{Redis, clock::late, hex, listener::Channel, millis, number};
use crate::{
    layers::{
        cache::{Answer, AnswerOwner},
        idempotency::{Claim, Fingerprint, IdempotencyKey, IdempotencyStore, StoreFuture, Ticket},
    },
    store::{StoreError, StoreErrorKind},
};

static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/claim.lua")));
static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/renew.lua")));
static COMPLETE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/complete.lua")));
static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/release.lua")));

const CLAIMING: &str = "a claim of an idempotency key";
/// How long a record outlives its lease: a lease that is over, and that nobody has taken, can be given again.
const AFTER_LEASE: Duration = Duration::from_secs(60 * 60);

/// A hash for each key, `key:` and the key's hash behind the prefix, which goes when its time is over.
///
/// A record that Redis loses (a restart without persistence, eviction) is as one that was never there: the next request with
/// its key is a new call, and a call under way keeps its answer for those who wait for it in its own process. Where that
/// must not be, give Redis persistence and `maxmemory-policy noeviction`.
impl IdempotencyStore for Redis {
    fn claim<'a>(&'a self, key: &'a IdempotencyKey, input: &'a Fingerprint, lease: Duration) -> StoreFuture<'a, Claim> {
        Box::pin(async move {
            let mut call = CLAIM.key(self.record(key));
            call.arg(self.not_after()).arg(&input.as_bytes()[..]).arg(at_least_one(lease)).arg(millis(AFTER_LEASE));
            match self.claimed(&call).await {
                Ok(claim) => Ok(claim),
                Err(Unclear::Answer(error)) => {
                    tracing::warn!(%key, %error, "an answer kept in Redis cannot be read: the call is made again");
                    Ok(self.claimed(call.arg("anew")).await?)
                }
                Err(unclear) => Err(unclear.into()),
            }
        })
    }

    fn renew<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket, lease: Duration) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let mut call = RENEW.key(self.record(key));
            call.arg(ticket.0).arg(at_least_one(lease)).arg(millis(AFTER_LEASE));
            Ok(self.run("the renewal of a lease", &call).await?)
        })
    }

    fn complete<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        ticket: Ticket,
        answer: Arc<Answer>,
        ttl: Duration,
    ) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let mut call = COMPLETE.key(self.record(key));
            call.arg(ticket.0).arg(at_least_one(ttl)).arg(answer.to_bytes());
            call.arg(self.key(Channel::Keys.name())).arg(&key.as_bytes()[..]);
            Ok(self.run("the keeping of an answer", &call).await?)
        })
    }

    fn release<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let mut call = RELEASE.key(self.record(key));
            call.arg(ticket.0).arg(self.key(Channel::Keys.name())).arg(&key.as_bytes()[..]);
            let _: i64 = self.run("the release of an idempotency key", &call).await?;
            Ok(())
        })
    }

    fn forget_owner<'a>(&'a self, owner: &'a AnswerOwner) -> StoreFuture<'a, u64> {
        Box::pin(async move { Ok(self.forgets_owner("key:", owner).await?) })
    }

    fn changed<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        at_most: Duration,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.listener().hears(Channel::Keys, key.as_bytes(), at_most))
    }

    fn is_guarded(&self) -> bool {
        true
    }
}

impl Redis {
    async fn claimed(&self, call: &ScriptInvocation<'_>) -> Result<Claim, Unclear> {
        let told: Vec<Vec<u8>> = self.run(CLAIMING, call).await.map_err(Unclear::Reply)?;
        self.tells_time(told.get(1));
        claimed(&told)
    }

    fn record(&self, key: &IdempotencyKey) -> String {
        self.key(&format!("key:{}", hex(key.as_bytes())))
    }
}

/// A lease of nothing is over at the next look and no sooner.
fn at_least_one(span: Duration) -> u64 {
    millis(span).max(1)
}

enum Unclear {
    /// What is kept there is no answer.
    Answer(StoreError),
    Reply(StoreError),
}

/// What the script has said.
fn claimed(told: &[Vec<u8>]) -> Result<Claim, Unclear> {
    let claim = match told {
        [won, _, ticket] if won == b"won" => number(ticket).map(|ticket| Claim::Won(Ticket(ticket))),
        [busy, _, left] if busy == b"busy" => {
            number(left).map(|left| Claim::Busy { lease_left: Duration::from_millis(left) })
        }
        [done, _, answer] if done == b"done" => {
            let answer = Answer::from_bytes(answer).map_err(Unclear::Answer)?;
            Some(Claim::Done(Arc::new(answer)))
        }
        [conflict, _] if conflict == b"conflict" => Some(Claim::Conflict),
        [is_late, _] if is_late == b"late" => return Err(Unclear::Reply(late(CLAIMING))),
        _ => None,
    };
    claim.ok_or_else(|| Unclear::Reply(StoreError::new(StoreErrorKind::Corrupt, CLAIMING)))
}

impl From<Unclear> for BoxError {
    fn from(unclear: Unclear) -> Self {
        match unclear {
            Unclear::Answer(error) | Unclear::Reply(error) => error.into(),
        }
    }
}
