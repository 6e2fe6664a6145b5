//! Idempotency keys in the database.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio_postgres::{Error, Row, types::ToSql};

use super::Postgres;
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

const LOOK: &str = "SELECT input = $2, greatest(until - steadfast_now(), 0), ticket, answer
    FROM steadfast_idempotency
    WHERE key = $1 AND until > steadfast_now() AND (answer IS NOT NULL OR ticket IS DISTINCT FROM $3::bigint)";
const WIN: &str = "WITH before AS (
        SELECT answer IS NULL AND ticket IS DISTINCT FROM $4::bigint AS unsaid
        FROM steadfast_idempotency WHERE key = $1)
    INSERT INTO steadfast_idempotency AS had (key, input, ticket, until)
    VALUES ($1, $2, coalesce($4::bigint, nextval('steadfast_ticket')), steadfast_now() + $3)
    ON CONFLICT (key) DO UPDATE SET input = excluded.input, ticket = excluded.ticket, until = excluded.until,
        kept = NULL, bytes = 0, answer = NULL
    WHERE had.until <= steadfast_now() OR had.ticket = $4::bigint AND had.answer IS NULL RETURNING ticket, coalesce((SELECT unsaid FROM before), false)";
const RENEW: &str = "UPDATE steadfast_idempotency SET until = steadfast_now() + $3
    WHERE key = $1 AND ticket = $2 AND answer IS NULL";
const KEEP: &str = "UPDATE steadfast_idempotency
    SET answer = $3, bytes = $4, kept = steadfast_now(), until = steadfast_now() + $5
    WHERE key = $1 AND ticket = $2 AND answer IS NULL";
const GIVE_BACK: &str = "DELETE FROM steadfast_idempotency WHERE key = $1 AND ticket = $2 AND answer IS NULL";
const FORGET: &str = "DELETE FROM steadfast_idempotency WHERE key = $1 AND ticket = $2";
const WAIT: &str = "SELECT ticket FROM steadfast_idempotency
    WHERE key = $1 AND until > steadfast_now() AND answer IS NULL";
const OVER: &str = "DELETE FROM steadfast_idempotency WHERE key IN (
    SELECT key FROM steadfast_idempotency WHERE until <= steadfast_now() - $1
    ORDER BY until LIMIT $2 FOR UPDATE SKIP LOCKED)";
const TAKEN: &str = "SELECT coalesce(sum(bytes), 0)::bigint FROM steadfast_idempotency WHERE kept IS NOT NULL";
const FIRST: &str = "DELETE FROM steadfast_idempotency WHERE key IN (
    SELECT key FROM (
        SELECT key, kept, ticket, sum(bytes) OVER (ORDER BY kept DESC, ticket DESC) AS newer
        FROM steadfast_idempotency WHERE kept IS NOT NULL) AS answers
    WHERE newer > $1::bigint ORDER BY kept, ticket LIMIT $2)";

type Hash = [u8; 32];

impl Postgres {
    /// The default of [`set_max_answer_bytes`](Self::set_max_answer_bytes): 1 GiB.
    pub const MAX_ANSWER_BYTES: u64 = MAX_BYTES;

    /// Sets the space for answers under idempotency keys, in bytes. Beyond it the oldest answer is deleted first.
    /// Default: 1 GiB. The check is occasional, so each process may exceed it by a sixteenth.
    pub fn set_max_answer_bytes(&self, bytes: u64) {
        self.inner.quota.set_max_bytes(bytes);
    }

    async fn row(
        &self,
        what: &'static str,
        sql: &'static str,
        with: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, StoreError> {
        let client = self.client(what).await?;
        let found = async { client.query_opt(&client.prepare_cached(sql).await?, with).await };
        found.await.map_err(|cause| self.failed(what, cause))
    }

    pub(super) async fn execute(
        &self,
        what: &'static str,
        sql: &'static str,
        with: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, StoreError> {
        let client = self.client(what).await?;
        let done = async { client.execute(&client.prepare_cached(sql).await?, with).await };
        done.await.map_err(|cause| self.failed(what, cause))
    }

    async fn claim_key(
        &self,
        key: &Hash,
        input: &Hash,
        lease: Duration,
        own: Option<Ticket>,
    ) -> Result<Claim, StoreError> {
        const WHAT: &str = "claiming a key";
        let (key, input, lease, own) = (&key[..], &input[..], millis(lease), own.map(signed));
        // A repeat only reads. A caller that finds nothing and then does not win was a moment late, and finds the
        // record now.
        for _ in 0..3 {
            if let Some(row) = self.row(WHAT, LOOK, &[&key, &input, &own]).await? {
                let found = key_record(&row).map_err(|cause| self.failed(WHAT, cause))?;
                match found {
                    KeyRecord::Claim(claim) => return Ok(claim),
                    KeyRecord::Done(ticket, bytes) => match Answer::from_bytes(bytes) {
                        Ok(answer) => return Ok(Claim::Done(Arc::new(answer))),
                        Err(damage) => {
                            tracing::warn!(%damage, store = ?self, "unreadable answer treated as missing");
                            self.execute("deleting an answer", FORGET, &[&key, &ticket]).await?;
                        }
                    },
                }
            }
            if let Some(won) = self.row(WHAT, WIN, &[&key, &input, &lease, &own]).await? {
                let read = |cause| self.failed(WHAT, cause);
                let (ticket, unsaid): (i64, bool) = (won.try_get(0).map_err(read)?, won.try_get(1).map_err(read)?);
                let ticket = Ticket(ticket.unsigned_abs());
                return Ok(if unsaid { Claim::Inherited(ticket) } else { Claim::Won(ticket) });
            }
        }
        Ok(Claim::Busy { lease_left: Duration::ZERO })
    }

    async fn store_answer(&self, key: &Hash, ticket: i64, answer: &Answer, ttl: Duration) -> Result<bool, StoreError> {
        let (key, bytes, ttl) = (&key[..], answer.to_bytes(), millis(ttl));
        let Some(taken) = self.inner.quota.size_of(&bytes) else {
            self.execute("releasing a key", GIVE_BACK, &[&key, &ticket]).await?;
            return Ok(false);
        };
        let kept = self.execute("storing an answer", KEEP, &[&key, &ticket, &bytes, &taken, &ttl]).await?;
        if self.inner.quota.add(taken) {
            let postgres = self.clone();
            // After the answer is returned.
            tokio::spawn(async move { postgres.sweep_all().await });
        }
        Ok(kept > 0)
    }

    /// Removes expired records and answers beyond the space, step by step.
    pub(super) async fn sweep_all(&self) -> Result<(), StoreError> {
        const WHAT: &str = "sweeping";
        let (stays, max_bytes) = (millis(RETENTION), self.inner.quota.max_bytes());
        loop {
            let over = self.execute(WHAT, OVER, &[&stays, &STEP]).await?;
            let taken = self.row(WHAT, TAKEN, &[]).await?;
            let taken: Option<i64> = taken.map(|row| row.try_get(0)).transpose().map_err(|e| self.failed(WHAT, e))?;
            let first = match taken.is_some_and(|taken| taken > max_bytes) {
                true => self.execute(WHAT, FIRST, &[&max_bytes, &STEP]).await?,
                false => 0,
            };
            if over.max(first) < STEP as u64 {
                return Ok(());
            }
        }
    }
}

/// The record of a key that is not free.
enum KeyRecord<'a> {
    Claim(Claim),
    /// It is done, with the bytes of this answer.
    Done(i64, &'a [u8]),
}

fn key_record(row: &Row) -> Result<KeyRecord<'_>, Error> {
    if !row.try_get::<_, bool>(0)? {
        return Ok(KeyRecord::Claim(Claim::Conflict));
    }
    Ok(match row.try_get(3)? {
        Some(answer) => KeyRecord::Done(row.try_get(2)?, answer),
        None => {
            let left = Duration::from_millis(row.try_get::<_, i64>(1)?.unsigned_abs());
            KeyRecord::Claim(Claim::Busy { lease_left: left })
        }
    })
}

impl IdempotencyStore for Postgres {
    fn claim<'a>(&'a self, key: &'a IdempotencyKey, input: &'a Fingerprint, lease: Duration) -> StoreFuture<'a, Claim> {
        Box::pin(async move { Ok(self.claim_key(key.as_bytes(), input.as_bytes(), lease, None).await?) })
    }

    fn claim_as<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        input: &'a Fingerprint,
        lease: Duration,
        ticket: Ticket,
    ) -> StoreFuture<'a, Claim> {
        Box::pin(async move { Ok(self.claim_key(key.as_bytes(), input.as_bytes(), lease, Some(ticket)).await?) })
    }

    fn renew<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket, lease: Duration) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let (key, ticket, lease) = (&key.as_bytes()[..], signed(ticket), millis(lease));
            Ok(self.execute("renewing a lease", RENEW, &[&key, &ticket, &lease]).await? > 0)
        })
    }

    fn complete<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        ticket: Ticket,
        answer: Arc<Answer>,
        ttl: Duration,
    ) -> StoreFuture<'a, bool> {
        Box::pin(async move { Ok(self.store_answer(key.as_bytes(), signed(ticket), &answer, ttl).await?) })
    }

    fn release<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let (key, ticket) = (&key.as_bytes()[..], signed(ticket));
            self.execute("releasing a key", GIVE_BACK, &[&key, &ticket]).await?;
            Ok(())
        })
    }

    fn sweep(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move { Ok(self.sweep_all().await?) })
    }

    fn forget_owner<'a>(&'a self, owner: &'a AnswerOwner) -> StoreFuture<'a, u64> {
        Box::pin(async move { Ok(self.delete_owner(owner).await?) })
    }

    fn changed<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        at_most: Duration,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        let processing = move || async move {
            const WHAT: &str = "waiting for a key";
            let row = self.row(WHAT, WAIT, &[&&key.as_bytes()[..]]).await?;
            row.map(|row| row.try_get(0)).transpose().map_err(|cause| self.failed(WHAT, cause))
        };
        Box::pin(wait_for_change(at_most, processing))
    }
}

/// Converts a ticket to the database's type, in which valid tickets are positive and all others match none.
fn signed(Ticket(ticket): Ticket) -> i64 {
    i64::try_from(ticket).unwrap_or(-1)
}
