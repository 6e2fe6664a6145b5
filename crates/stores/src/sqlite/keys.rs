//! Idempotency keys in the file.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use rusqlite::{Connection, Error, OptionalExtension as _, types::ValueRef};

use super::{Sqlite, clock::now, forget::Table};
use crate::{
    poll::wait_for_change,
    quota::{MAX_BYTES, RETENTION, STEP, millis},
};
use steadfast::{
    layers::{
        cache::{Answer, AnswerOwner},
        idempotency::{Claim, Fingerprint, IdempotencyKey, IdempotencyStore, StoreFuture, Ticket},
    },
    store::StoreError,
};

type Hash = [u8; 32];

/// The outcome of a claim.
enum ClaimOutcome {
    Decided(Claim),
    /// It is done, with the bytes of this answer.
    Done(i64, Vec<u8>),
}

impl Sqlite {
    /// The default of [`set_max_answer_bytes`](Self::set_max_answer_bytes): 1 GiB.
    pub const MAX_ANSWER_BYTES: u64 = MAX_BYTES;

    /// Sets the space for answers under idempotency keys, in bytes. Beyond it the oldest answer is deleted first.
    /// Default: 1 GiB. The check is occasional, so each process may exceed it by a sixteenth.
    pub fn set_max_answer_bytes(&self, bytes: u64) {
        self.inner.quota.set_max_bytes(bytes);
    }

    async fn claim_key(
        &self,
        key: Hash,
        input: Hash,
        lease: Duration,
        ticket: Option<Ticket>,
    ) -> Result<Claim, StoreError> {
        let (lease, ticket) = (millis(lease), ticket.map(signed));
        loop {
            match self.call("claiming a key", move |file| claim(file, &key, &input, lease, ticket)).await? {
                ClaimOutcome::Decided(claim) => return Ok(claim),
                ClaimOutcome::Done(ticket, bytes) => match Answer::from_bytes(&bytes) {
                    Ok(answer) => return Ok(Claim::Done(Arc::new(answer))),
                    Err(damage) => {
                        tracing::warn!(%damage, store = ?self, "unreadable answer treated as missing");
                        self.call("deleting an answer", move |file| {
                            file.execute("DELETE FROM idempotency WHERE ticket = ?1", [ticket])
                        })
                        .await?;
                    }
                },
            }
        }
    }

    async fn store_answer(&self, key: Hash, ticket: i64, answer: &Answer, ttl: Duration) -> Result<bool, StoreError> {
        let (bytes, ttl) = (answer.to_bytes(), millis(ttl));
        let Some(taken) = self.inner.quota.size_of(&bytes) else {
            self.release_key(key, ticket).await?;
            return Ok(false);
        };
        let kept = "UPDATE idempotency SET answer = ?3, bytes = ?4, kept = ?5, until = ?5 + ?6
            WHERE key = ?1 AND ticket = ?2 AND answer IS NULL";
        let changed = self
            .call("storing an answer", move |file| file.execute(kept, (key, ticket, bytes, taken, now(), ttl)))
            .await?;
        if self.inner.quota.add(taken) {
            let file = self.clone();
            // After the answer is returned.
            tokio::spawn(async move { file.sweep_all().await });
        }
        Ok(changed > 0)
    }

    async fn release_key(&self, key: Hash, ticket: i64) -> Result<(), StoreError> {
        let sql = "DELETE FROM idempotency WHERE key = ?1 AND ticket = ?2 AND answer IS NULL";
        self.call("releasing a key", move |file| file.execute(sql, (key, ticket)).map(drop)).await
    }

    /// Removes expired records and answers beyond the space, step by step.
    pub(super) async fn sweep_all(&self) -> Result<(), StoreError> {
        let max_bytes = self.inner.quota.max_bytes();
        while self.call("sweeping", move |file| sweep(file, max_bytes)).await? >= STEP as usize {}
        Ok(())
    }
}

/// Claims a key with this ticket, or with the file's next one if it is `None`.
fn claim(file: &Connection, key: &Hash, input: &Hash, lease: i64, own: Option<i64>) -> Result<ClaimOutcome, Error> {
    // A repeat only reads. A caller that finds nothing and then does not win was a moment late, and finds the record
    // now.
    for _ in 0..3 {
        let now = now();
        if let Some(found) = look(file, key, input, now, own)? {
            return Ok(found);
        }
        let unsaid = "SELECT 1 FROM idempotency WHERE key = ?1 AND answer IS NULL AND ticket IS NOT ?2";
        let unsaid = file.query_row(unsaid, (key, own), |_| Ok(())).optional()?.is_some();
        let win = "REPLACE INTO idempotency (ticket, key, input, until) SELECT ?5, ?1, ?2, ?3 + ?4
            WHERE NOT EXISTS (SELECT 1 FROM idempotency WHERE key = ?1 AND until > ?3 AND ticket IS NOT ?5)";
        // Without `RETURNING`: after its row is read, the commit follows as a last step, and it may fail.
        if file.execute(win, (key, input, now, lease, own))? > 0 {
            let ticket = Ticket(file.last_insert_rowid().unsigned_abs());
            return Ok(ClaimOutcome::Decided(if unsaid { Claim::Inherited(ticket) } else { Claim::Won(ticket) }));
        }
    }
    Ok(ClaimOutcome::Decided(Claim::Busy { lease_left: Duration::ZERO }))
}

/// Returns the record of a key, unless it has expired, or is processing under the caller's own ticket.
fn look(
    file: &Connection,
    key: &Hash,
    input: &Hash,
    now: i64,
    own: Option<i64>,
) -> Result<Option<ClaimOutcome>, Error> {
    let sql = "SELECT input = ?2, until - ?3, ticket, answer FROM idempotency
        WHERE key = ?1 AND until > ?3 AND (answer IS NOT NULL OR ticket IS NOT ?4)";
    let found = file.query_row(sql, (key, input, now, own), |row| {
        if !row.get::<_, bool>(0)? {
            return Ok(ClaimOutcome::Decided(Claim::Conflict));
        }
        Ok(match row.get_ref(3)? {
            ValueRef::Blob(answer) => ClaimOutcome::Done(row.get(2)?, answer.to_vec()),
            ValueRef::Null => {
                let left = Duration::from_millis(row.get::<_, i64>(1)?.unsigned_abs());
                ClaimOutcome::Decided(Claim::Busy { lease_left: left })
            }
            // No answer at all counts as an unreadable one.
            _ => ClaimOutcome::Done(row.get(2)?, Vec::new()),
        })
    });
    found.optional()
}

/// Returns the number of removed records.
fn sweep(file: &mut Connection, max_bytes: i64) -> Result<usize, Error> {
    let over = "DELETE FROM idempotency WHERE ticket IN
        (SELECT ticket FROM idempotency WHERE until <= ?1 ORDER BY until LIMIT ?2)";
    let gone = file.execute(over, (now() - millis(RETENTION), STEP))?;
    let taken = "SELECT coalesce(sum(bytes), 0) FROM idempotency WHERE kept IS NOT NULL";
    if file.query_row(taken, (), |row| row.get::<_, i64>(0))? <= max_bytes {
        return Ok(gone);
    }
    let first = "DELETE FROM idempotency WHERE ticket IN (
        SELECT ticket FROM (
            SELECT ticket, kept, sum(bytes) OVER (ORDER BY kept DESC, ticket DESC) AS newer
            FROM idempotency WHERE kept IS NOT NULL)
        WHERE newer > ?1 ORDER BY kept, ticket LIMIT ?2)";
    Ok(gone.max(file.execute(first, (max_bytes, STEP))?))
}

impl IdempotencyStore for Sqlite {
    fn claim<'a>(&'a self, key: &'a IdempotencyKey, input: &'a Fingerprint, lease: Duration) -> StoreFuture<'a, Claim> {
        Box::pin(async move { Ok(self.claim_key(*key.as_bytes(), *input.as_bytes(), lease, None).await?) })
    }

    fn claim_as<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        input: &'a Fingerprint,
        lease: Duration,
        ticket: Ticket,
    ) -> StoreFuture<'a, Claim> {
        Box::pin(async move { Ok(self.claim_key(*key.as_bytes(), *input.as_bytes(), lease, Some(ticket)).await?) })
    }

    fn renew<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket, lease: Duration) -> StoreFuture<'a, bool> {
        let (key, ticket, lease) = (*key.as_bytes(), signed(ticket), millis(lease));
        let sql = "UPDATE idempotency SET until = ?3 WHERE key = ?1 AND ticket = ?2 AND answer IS NULL";
        Box::pin(async move {
            let renewed = self.call("renewing a lease", move |file| file.execute(sql, (key, ticket, now() + lease)));
            Ok(renewed.await? > 0)
        })
    }

    fn complete<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        ticket: Ticket,
        answer: Arc<Answer>,
        ttl: Duration,
    ) -> StoreFuture<'a, bool> {
        Box::pin(async move { Ok(self.store_answer(*key.as_bytes(), signed(ticket), &answer, ttl).await?) })
    }

    fn release<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket) -> StoreFuture<'a, ()> {
        Box::pin(async move { Ok(self.release_key(*key.as_bytes(), signed(ticket)).await?) })
    }

    fn sweep(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move { Ok(self.sweep_all().await?) })
    }

    fn forget_owner<'a>(&'a self, owner: &'a AnswerOwner) -> StoreFuture<'a, u64> {
        Box::pin(async move { Ok(self.delete_owner(Table::Keys, owner.clone()).await?) })
    }

    fn changed<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        at_most: Duration,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        let key = *key.as_bytes();
        let sql = "SELECT ticket FROM idempotency WHERE key = ?1 AND until > ?2 AND answer IS NULL";
        let processing = move || {
            let work = move |file: &mut Connection| file.query_row(sql, (key, now()), |row| row.get(0)).optional();
            self.call("waiting for a key", work)
        };
        Box::pin(wait_for_change(at_most, processing))
    }
}

/// Converts a ticket to the file's type, in which valid tickets are positive and all others match none.
fn signed(Ticket(ticket): Ticket) -> i64 {
    i64::try_from(ticket).unwrap_or(-1)
}
