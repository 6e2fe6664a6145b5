use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, LazyLock},
    time::Duration,
};

use redis::{Script, ScriptInvocation};
use tower::BoxError;

use super::{Redis, clock::late, link::Purpose, listener::Channel, millis, number};
use steadfast::{
    layers::{
        cache::{Answer, AnswerOwner},
        idempotency::{Claim, Fingerprint, IdempotencyKey, IdempotencyStore, StoreFuture, Ticket},
    },
    store::{StoreError, StoreErrorKind},
};
use steadfast_internal::{hex, sync::lock};

static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/claim.lua")));
static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/renew.lua")));
static COMPLETE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/complete.lua")));
static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/release.lua")));

const CLAIMING: &str = "claiming an idempotency key";
/// The time by which a record outlives its lease: an expired lease that no other caller has taken can be given again.
const AFTER_LEASE: Duration = Duration::from_secs(60 * 60);
/// The time after a loss for which a won key may have been answered before: as long as answers are kept by default.
const LOSS_MATTERS: Duration = Duration::from_secs(24 * 60 * 60);

/// A hash for each key, `key:` and the key's hash behind the prefix, which expires with its record.
///
/// A record that Redis loses (a restart without persistence, eviction) is as if it never existed: the next request with
/// its key is a new call, and a call under way keeps its answer for waiters of its own process. The store notices a
/// Redis that comes back without records, or with older ones: for a day each won key reports that its call [may have
/// been made before](IdempotencyStore::may_have_lost). If that is not acceptable, give Redis persistence and
/// `maxmemory-policy noeviction`, or use a durable store beneath it.
impl IdempotencyStore for Redis {
    fn claim<'a>(&'a self, key: &'a IdempotencyKey, input: &'a Fingerprint, lease: Duration) -> StoreFuture<'a, Claim> {
        Box::pin(async move { Ok(self.claim_key(key, input, lease, None).await?) })
    }

    fn claim_as<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        input: &'a Fingerprint,
        lease: Duration,
        ticket: Ticket,
    ) -> StoreFuture<'a, Claim> {
        Box::pin(async move { Ok(self.claim_key(key, input, lease, Some(ticket)).await?) })
    }

    fn renew<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket, lease: Duration) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let mut call = RENEW.key(self.record(key));
            call.arg(ticket.0).arg(at_least_one(lease)).arg(millis(AFTER_LEASE));
            Ok(self.run("renewing a lease", Purpose::Keys, &call).await?)
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
            Ok(self.run("storing an answer", Purpose::Keys, &call).await?)
        })
    }

    fn release<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let mut call = RELEASE.key(self.record(key));
            call.arg(ticket.0).arg(self.key(Channel::Keys.name())).arg(&key.as_bytes()[..]);
            let _: i64 = self.run_script("releasing an idempotency key", Purpose::Keys, |_| false, &call).await?;
            Ok(())
        })
    }

    fn forget_owner<'a>(&'a self, owner: &'a AnswerOwner) -> StoreFuture<'a, u64> {
        Box::pin(async move { Ok(self.delete_owner(Purpose::Keys, "key:", owner).await?) })
    }

    fn changed<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        at_most: Duration,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.listener().wait_for(Channel::Keys, key.as_bytes(), at_most))
    }

    fn is_guarded(&self) -> bool {
        true
    }

    fn may_have_lost(&self) -> bool {
        lock(&self.link.ledger).lost
    }
}

impl Redis {
    async fn claim_key(
        &self,
        key: &IdempotencyKey,
        input: &Fingerprint,
        lease: Duration,
        ticket: Option<Ticket>,
    ) -> Result<Claim, ClaimFailure> {
        let mut call = CLAIM.key(self.record(key));
        call.key(self.key("ledger"));
        call.arg(self.not_after()).arg(&input.as_bytes()[..]).arg(at_least_one(lease)).arg(millis(AFTER_LEASE));
        {
            let ledger = lock(&self.link.ledger);
            call.arg(&*ledger.epoch).arg(ledger.count).arg(millis(LOSS_MATTERS));
        }
        call.arg(ticket.map_or_else(String::new, |ticket| ticket.0.to_string()));
        match self.claimed(&call).await {
            Err(ClaimFailure::Answer(error)) => {
                tracing::warn!(%key, %error, "unreadable answer in Redis; calling again");
                self.claimed(call.arg("anew")).await
            }
            claimed => claimed,
        }
    }

    async fn claimed(&self, call: &ScriptInvocation<'_>) -> Result<Claim, ClaimFailure> {
        // Only a won claim was a write.
        let proves = |reply: &Vec<Vec<u8>>| reply.len() > 3;
        let reply: Vec<Vec<u8>> =
            self.run_script(CLAIMING, Purpose::Keys, proves, call).await.map_err(ClaimFailure::Reply)?;
        self.set_clock(reply.get(1));
        if let [_, _, _, epoch, count, lost] = &reply[..] {
            let mut ledger = lock(&self.link.ledger);
            ledger.epoch = String::from_utf8_lossy(epoch).into_owned();
            (ledger.count, ledger.lost) = (number(count).unwrap_or(0), lost == b"1");
        }
        claimed(&reply)
    }

    fn record(&self, key: &IdempotencyKey) -> String {
        self.key(&format!("key:{}", hex::encode(key.as_bytes())))
    }
}

/// A lease of zero expires at the next look and no sooner.
fn at_least_one(span: Duration) -> u64 {
    millis(span).max(1)
}

enum ClaimFailure {
    /// The stored value is no answer.
    Answer(StoreError),
    Reply(StoreError),
}

/// Parses the script's reply.
fn claimed(reply: &[Vec<u8>]) -> Result<Claim, ClaimFailure> {
    let claim = match reply {
        [won, _, ticket, ..] if won == b"won" => number(ticket).map(|ticket| Claim::Won(Ticket(ticket))),
        [won, _, ticket, ..] if won == b"inherited" => number(ticket).map(|ticket| Claim::Inherited(Ticket(ticket))),
        [busy, _, left] if busy == b"busy" => {
            number(left).map(|left| Claim::Busy { lease_left: Duration::from_millis(left) })
        }
        [done, _, answer] if done == b"done" => {
            let answer = Answer::from_bytes(answer).map_err(ClaimFailure::Answer)?;
            Some(Claim::Done(Arc::new(answer)))
        }
        [conflict, _] if conflict == b"conflict" => Some(Claim::Conflict),
        [is_late, _] if is_late == b"late" => return Err(ClaimFailure::Reply(late(CLAIMING))),
        _ => None,
    };
    claim.ok_or_else(|| ClaimFailure::Reply(StoreError::new(StoreErrorKind::Corrupt, CLAIMING)))
}

impl From<ClaimFailure> for BoxError {
    fn from(unclear: ClaimFailure) -> Self {
        match unclear {
            ClaimFailure::Answer(error) | ClaimFailure::Reply(error) => error.into(),
        }
    }
}
