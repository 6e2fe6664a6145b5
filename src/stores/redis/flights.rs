//! One call for all replicas that ask the same at the same time: who calls holds the claim of an idempotency key that is made of the
//! answer's, and gives it back behind the answer.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{Instant, sleep},
};

use super::Redis;
use crate::layers::{
    cache::{Answer, AnswerStore, CacheKey, CallClaim, ClaimFuture, SharedCall, StoreLookup},
    idempotency::{Claim, Fingerprint, IdempotencyKey, IdempotencyStore, Ticket},
};

/// How long a claim stands that nobody renews: so long the others wait for a process that is gone.
const LEASE: Duration = Duration::from_secs(5);
const RENEWED_EVERY: Duration = Duration::from_secs(2);
/// How often those who wait look by themselves.
const LOOK: Duration = Duration::from_millis(500);

impl Redis {
    pub(super) fn claims_call(
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
                    // Nothing is known of the others: it costs a call more.
                    Ok(Claim::Done(_) | Claim::Conflict) | Err(_) => return CallClaim::Granted(None),
                }
                let begun = Instant::now();
                redis.changed(&flight, LOOK).await;
                if let StoreLookup::Pending(looking) = redis.get(&key)
                    && let Some(answer) = looking.await.filter(|answer| is_fresh(answer))
                {
                    return CallClaim::Answered(answer);
                }
                // It has ended, and has no answer for others: they do not wait for one another's failures.
                if begun.elapsed() < LOOK {
                    return CallClaim::Granted(None);
                }
            }
        })
    }
}

/// The key of a call under way, which no request has.
fn flight(key: &CacheKey) -> IdempotencyKey {
    IdempotencyKey::from_bytes(key.as_bytes().map(|byte| !byte))
}

/// A call that is made for all replicas.
struct Call {
    redis: Redis,
    key: CacheKey,
    flight: IdempotencyKey,
    /// Until it is given back.
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

    /// Gives the claim back, behind the answer if there is one.
    fn ends(&mut self, answer: Option<Arc<Answer>>) {
        let Some(ticket) = self.ticket.take() else { return };
        self.renewing.iter().for_each(AbortHandle::abort);
        let (redis, key, flight) = (self.redis.clone(), self.key, self.flight);
        self.redis.in_background(async move {
            if let Some(answer) = answer {
                redis.keeps(&key, &answer).await;
            }
            let _ = redis.release(&flight, ticket).await;
        });
    }
}

impl SharedCall for Call {
    fn answered(mut self: Box<Self>, answer: Arc<Answer>) {
        self.ends(Some(answer));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.ends(None);
    }
}
