//! One call for all replicas with the same request at the same time. The calling replica holds the claim of an
//! idempotency key derived from the answer's key, and releases it after storing the answer.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{Instant, sleep},
};

use super::Redis;
use steadfast::layers::{
    cache::{Answer, AnswerStore, CacheKey, CallClaim, ClaimFuture, SharedCall, StoreLookup},
    idempotency::{Claim, Fingerprint, IdempotencyKey, IdempotencyStore, Ticket},
};

/// The time for which a claim holds without renewal, and so the others' wait for a process that is gone.
const LEASE: Duration = Duration::from_secs(5);
const RENEWED_EVERY: Duration = Duration::from_secs(2);
/// The interval at which waiters poll.
const LOOK: Duration = Duration::from_millis(500);

impl Redis {
    pub(super) fn claim_call(
        &self,
        key: CacheKey,
        is_fresh: Box<dyn Fn(&Answer) -> bool + Send + Sync>,
    ) -> ClaimFuture {
        let redis = self.clone();
        Box::pin(async move {
            let flight = flight(&key);
            loop {
                match IdempotencyStore::claim(&redis, &flight, &Fingerprint::from_bytes(*key.as_bytes()), LEASE).await {
                    Ok(Claim::Won(ticket) | Claim::Inherited(ticket)) => {
                        return CallClaim::Granted(Some(Box::new(Call::begin(redis, key, flight, ticket))));
                    }
                    Ok(Claim::Busy { .. }) => {}
                    // The state of the others is unknown: that costs one more call.
                    Ok(Claim::Done(_) | Claim::Conflict) | Err(_) => return CallClaim::Granted(None),
                }
                let begun = Instant::now();
                redis.changed(&flight, LOOK).await;
                if let StoreLookup::Pending(looking) = redis.get(&key)
                    && let Some(answer) = looking.await.filter(|answer| is_fresh(answer))
                {
                    return CallClaim::Answered(answer);
                }
                // The call ended without an answer for others, which do not wait for one another's failures.
                if begun.elapsed() < LOOK {
                    return CallClaim::Granted(None);
                }
            }
        })
    }
}

/// Returns the key of a call under way, which no request has.
fn flight(key: &CacheKey) -> IdempotencyKey {
    IdempotencyKey::from_bytes(key.as_bytes().map(|byte| !byte))
}

/// A call on behalf of all replicas.
struct Call {
    redis: Redis,
    key: CacheKey,
    flight: IdempotencyKey,
    /// `Some` until it is released.
    ticket: Option<Ticket>,
    renewing: Option<AbortHandle>,
}

impl Call {
    fn begin(redis: Redis, key: CacheKey, flight: IdempotencyKey, ticket: Ticket) -> Self {
        let renews = redis.clone();
        let renewing = Handle::try_current().ok().map(|runtime| {
            let renewing = async move {
                loop {
                    sleep(RENEWED_EVERY).await;
                    let _ = renews.renew(&flight, ticket, LEASE).await;
                }
            };
            runtime.spawn(renewing).abort_handle()
        });
        Self { redis, key, flight, ticket: Some(ticket), renewing }
    }

    /// Releases the claim, after storing the answer if there is one.
    fn release(&mut self, answer: Option<Arc<Answer>>) {
        let Some(ticket) = self.ticket.take() else { return };
        self.renewing.iter().for_each(AbortHandle::abort);
        let (redis, key, flight) = (self.redis.clone(), self.key, self.flight);
        self.redis.in_background(async move {
            if let Some(answer) = answer {
                redis.store_answer(&key, &answer).await;
            }
            let _ = redis.release(&flight, ticket).await;
        });
    }
}

impl SharedCall for Call {
    fn answered(mut self: Box<Self>, answer: Arc<Answer>) {
        self.release(Some(answer));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.release(None);
    }
}
