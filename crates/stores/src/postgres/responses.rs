//! Kept responses in the database.

use std::time::Duration;

use tokio_postgres::{Error, Row};

use super::Postgres;
use crate::{
    quota::{STEP, millis},
    responses::{
        PathLimits, ResponseOrigin, ResponsePath, ResponseState, ResponseStore, StoreFuture, StoredResponse, slack,
    },
};
use steadfast::{layers::cache::AnswerOwner, store::StoreError};

const COLUMNS: &str = "stored.id, stored.owner, stored.session, stored.previous, stored.account, stored.origin,
    stored.input, stored.response, stored.bytes,
    (SELECT lease.until > steadfast_now() FROM steadfast_response_leases AS lease
        WHERE lease.response = stored.number) AS running";
/// The response, its items, its lease up to `$13` from now on, if it has one, and its predecessors up to `$6` from now
/// on, unless they stay as long as `$5` anyway.
const PUT: &str = "WITH RECURSIVE stored AS (
        INSERT INTO steadfast_responses (id, owner, session, previous, until, bytes, account, origin, input, response)
        VALUES ($1, $2, $3, $4, steadfast_now() + $5, $7, $8, $9, $10, $11) RETURNING number),
    items AS (
        INSERT INTO steadfast_response_items (owner, item, response)
        SELECT DISTINCT $2, item, stored.number FROM stored, unnest($12::text[]) AS item),
    lease AS (
        INSERT INTO steadfast_response_leases (response, until)
        SELECT stored.number, steadfast_now() + $13 FROM stored WHERE $13::bigint IS NOT NULL),
    path AS (
        SELECT number, previous FROM steadfast_responses WHERE id = $4 AND owner = $2
        UNION SELECT before.number, before.previous FROM steadfast_responses AS before
        JOIN path ON before.id = path.previous WHERE before.owner = $2)
    UPDATE steadfast_responses SET until = steadfast_now() + $6
    WHERE until < steadfast_now() + $5 AND number IN (SELECT number FROM path)";
const RENEW: &str = "UPDATE steadfast_response_leases SET until = steadfast_now() + $3 WHERE response = (
    SELECT number FROM steadfast_responses WHERE id = $1 AND owner = $2 AND until > steadfast_now())";
/// The end of a response that has a lease, its items, and its predecessors as [`PUT`] keeps them. One that has none
/// counts as 0.
const END: &str = "WITH RECURSIVE released AS (
        DELETE FROM steadfast_response_leases WHERE response = (
            SELECT number FROM steadfast_responses WHERE id = $1 AND owner = $2 AND until > steadfast_now())
        RETURNING response AS number),
    stored AS (
        UPDATE steadfast_responses
        SET until = steadfast_now() + $3, bytes = $5, account = $6, origin = $7, response = $8
        WHERE number IN (SELECT number FROM released) RETURNING number, previous),
    items AS (
        INSERT INTO steadfast_response_items (owner, item, response)
        SELECT DISTINCT $2, item, stored.number FROM stored, unnest($9::text[]) AS item ON CONFLICT DO NOTHING),
    path AS (
        SELECT before.number, before.previous FROM steadfast_responses AS before
        JOIN stored ON before.id = stored.previous WHERE before.owner = $2
        UNION SELECT before.number, before.previous FROM steadfast_responses AS before
        JOIN path ON before.id = path.previous WHERE before.owner = $2),
    kept AS (
        UPDATE steadfast_responses SET until = steadfast_now() + $4
        WHERE until < steadfast_now() + $3 AND number IN (SELECT number FROM path))
    SELECT count(*) FROM stored";
const GET: &str = "FROM steadfast_responses AS stored WHERE id = $1 AND owner = $2 AND until > steadfast_now()";
const PATH: &str = "WITH RECURSIVE path AS (
        SELECT number, previous, 1::bigint AS depth, bytes AS total FROM steadfast_responses
        WHERE id = $1 AND owner = $2 AND until > steadfast_now()
        UNION ALL SELECT before.number, before.previous, path.depth + 1, path.total + before.bytes
        FROM steadfast_responses AS before JOIN path ON before.id = path.previous
        WHERE before.owner = $2 AND before.until > steadfast_now() AND path.depth < $3 AND path.total < $4)";
const WITH_ITEM: &str = "FROM steadfast_response_items AS entry
    JOIN steadfast_responses AS stored ON stored.number = entry.response
    WHERE entry.owner = $1 AND entry.item = $2 AND stored.until > steadfast_now()
    ORDER BY stored.number DESC LIMIT 1";
const DELETE: &str = "DELETE FROM steadfast_responses WHERE id = $1 AND owner = $2 AND until > steadfast_now()";
const FORGET: &str = "DELETE FROM steadfast_responses WHERE number IN (SELECT number FROM steadfast_responses
    WHERE ($1::text IS NOT NULL OR $2::text IS NOT NULL)
        AND ($1::text IS NULL OR owner = $1) AND ($2::text IS NULL OR session = $2) LIMIT $3)";
const OVER: &str = "DELETE FROM steadfast_responses WHERE number IN (SELECT number FROM steadfast_responses
    WHERE until <= steadfast_now() ORDER BY until LIMIT $1 FOR UPDATE SKIP LOCKED)";
const FIRST: &str = "DELETE FROM steadfast_responses WHERE number IN (
    SELECT number FROM (SELECT number, sum(bytes) OVER (PARTITION BY owner ORDER BY number DESC) AS newer
        FROM steadfast_responses) AS sizes
    WHERE newer > $1::bigint ORDER BY number LIMIT $2)";

fn read(row: &Row) -> Result<(StoredResponse, usize), Error> {
    let origin = row.try_get::<_, Option<String>>(4)?.zip(row.try_get(5)?);
    let response = StoredResponse {
        id: row.try_get(0)?,
        owner: row.try_get(1)?,
        session: row.try_get(2)?,
        previous: row.try_get(3)?,
        origin: origin.map(|(account, id)| ResponseOrigin { account, id }),
        input: row.try_get(6)?,
        response: row.try_get(7)?,
        items: Vec::new(),
        state: ResponseState::of_lease(row.try_get(9)?),
    };
    Ok((response, usize::try_from(row.try_get::<_, i64>(8)?).unwrap_or(usize::MAX)))
}

impl Postgres {
    fn response_of(&self, what: &'static str, row: Option<Row>) -> Result<Option<StoredResponse>, StoreError> {
        let found = row.as_ref().map(read).transpose().map_err(|cause| self.failed(what, cause))?;
        Ok(found.map(|(response, _)| response))
    }

    async fn store(
        &self,
        response: &StoredResponse,
        keep: Duration,
        lease: Option<Duration>,
    ) -> Result<(), StoreError> {
        let (account, origin) = response.origin.as_ref().map(|origin| (&origin.account, &origin.id)).unzip();
        let StoredResponse { id, owner, session, previous, input, response: text, items, .. } = response;
        let bytes = i64::try_from(response.size()).unwrap_or(i64::MAX);
        let (keep, longer) = (millis(keep), millis(keep).saturating_add(millis(slack(keep))));
        let lease = lease.map(millis);
        // One statement is one transaction.
        self.execute(
            "storing a response",
            PUT,
            &[id, owner, session, previous, &keep, &longer, &bytes, &account, &origin, input, text, items, &lease],
        )
        .await?;
        Ok(())
    }
}

impl ResponseStore for Postgres {
    fn put(&self, response: StoredResponse, keep: Duration) -> StoreFuture<'_, ()> {
        Box::pin(async move { self.store(&response, keep, None).await })
    }

    fn begin(&self, response: StoredResponse, keep: Duration, lease: Duration) -> StoreFuture<'_, ()> {
        Box::pin(async move { self.store(&response, keep, Some(lease)).await })
    }

    fn renew<'a>(&'a self, owner: &'a str, id: &'a str, lease: Duration) -> StoreFuture<'a, bool> {
        Box::pin(
            async move { Ok(self.execute("renewing a response", RENEW, &[&id, &owner, &millis(lease)]).await? > 0) },
        )
    }

    fn end(&self, response: StoredResponse, keep: Duration) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            const WHAT: &str = "ending a response";
            let (account, origin) = response.origin.as_ref().map(|origin| (&origin.account, &origin.id)).unzip();
            let StoredResponse { id, owner, response: text, items, .. } = &response;
            let bytes = i64::try_from(response.size()).unwrap_or(i64::MAX);
            let (keep, longer) = (millis(keep), millis(keep).saturating_add(millis(slack(keep))));
            let client = self.client(WHAT).await?;
            let ended =
                client.query_one(END, &[id, owner, &keep, &longer, &bytes, &account, &origin, text, items]).await;
            let ended = ended.and_then(|row| row.try_get::<_, i64>(0));
            Ok(ended.map_err(|cause| self.failed(WHAT, cause))? > 0)
        })
    }

    fn get<'a>(&'a self, owner: &'a str, id: &'a str) -> StoreFuture<'a, Option<StoredResponse>> {
        Box::pin(async move {
            const WHAT: &str = "reading a response";
            let client = self.client(WHAT).await?;
            let row = client.query_opt(&format!("SELECT {COLUMNS} {GET}"), &[&id, &owner]).await;
            self.response_of(WHAT, row.map_err(|cause| self.failed(WHAT, cause))?)
        })
    }

    fn path<'a>(&'a self, owner: &'a str, id: &'a str, limits: PathLimits) -> StoreFuture<'a, ResponsePath> {
        Box::pin(async move {
            const WHAT: &str = "reading a conversation";
            let count = |limit: usize| i64::try_from(limit).unwrap_or(i64::MAX);
            let sql = format!(
                "{PATH} SELECT {COLUMNS} FROM path JOIN steadfast_responses AS stored ON stored.number = path.number
                ORDER BY path.depth"
            );
            let client = self.client(WHAT).await?;
            let rows = client.query(&sql, &[&id, &owner, &count(limits.responses), &count(limits.bytes)]).await;
            let rows = rows.map_err(|cause| self.failed(WHAT, cause))?;
            let chain: Result<Vec<_>, _> = rows.iter().map(read).collect();
            Ok(ResponsePath::of_chain(chain.map_err(|cause| self.failed(WHAT, cause))?, limits))
        })
    }

    fn with_item<'a>(&'a self, owner: &'a str, item: &'a str) -> StoreFuture<'a, Option<StoredResponse>> {
        Box::pin(async move {
            const WHAT: &str = "reading an item";
            let client = self.client(WHAT).await?;
            let row = client.query_opt(&format!("SELECT {COLUMNS} {WITH_ITEM}"), &[&owner, &item]).await;
            self.response_of(WHAT, row.map_err(|cause| self.failed(WHAT, cause))?)
        })
    }

    fn delete<'a>(&'a self, owner: &'a str, id: &'a str) -> StoreFuture<'a, bool> {
        Box::pin(async move { Ok(self.execute("deleting a response", DELETE, &[&id, &owner]).await? > 0) })
    }

    fn forget_owner<'a>(&'a self, owner: &'a AnswerOwner) -> StoreFuture<'a, u64> {
        Box::pin(async move {
            let (tenant, session) = (owner.tenant.as_deref(), owner.session.as_deref());
            let mut all = 0;
            loop {
                let gone = self.execute("forgetting responses", FORGET, &[&tenant, &session, &STEP]).await?;
                all += gone;
                if gone < STEP as u64 {
                    return Ok(all);
                }
            }
        })
    }

    fn sweep(&self, bytes_per_owner: u64) -> StoreFuture<'_, ()> {
        let bytes = i64::try_from(bytes_per_owner).unwrap_or(i64::MAX);
        Box::pin(async move {
            const WHAT: &str = "sweeping responses";
            loop {
                let over = self.execute(WHAT, OVER, &[&STEP]).await?;
                let first = self.execute(WHAT, FIRST, &[&bytes, &STEP]).await?;
                if over.max(first) < STEP as u64 {
                    return Ok(());
                }
            }
        })
    }
}
