//! Kept responses in the file.

use std::time::Duration;

use rusqlite::{Connection, Error, OptionalExtension as _, Row, TransactionBehavior};

use super::{Sqlite, clock::now};
use crate::{
    quota::{STEP, millis},
    responses::{
        PathLimits, ResponseOrigin, ResponsePath, ResponseState, ResponseStore, StoreFuture, StoredResponse, slack,
    },
};
use steadfast::layers::cache::AnswerOwner;

const COLUMNS: &str = "responses.id, responses.owner, responses.session, responses.previous, responses.account,
    responses.origin, responses.input, responses.response, responses.bytes,
    (SELECT until FROM response_leases WHERE response_leases.response = responses.number)";
const PUT: &str = "INSERT INTO responses (id, owner, session, previous, until, bytes, account, origin, input, response)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
const LEASE: &str = "INSERT INTO response_leases (response, until) VALUES (?1, ?2)";
const RENEW: &str = "UPDATE response_leases SET until = ?4
    WHERE response = (SELECT number FROM responses WHERE id = ?1 AND owner = ?2 AND until > ?3)";
const RELEASE: &str = "DELETE FROM response_leases
    WHERE response = (SELECT number FROM responses WHERE id = ?1 AND owner = ?2 AND until > ?3) RETURNING response";
const END: &str = "UPDATE responses SET until = ?2, bytes = ?3, account = ?4, origin = ?5, response = ?6
    WHERE number = ?1 RETURNING previous";
const PUT_ITEM: &str = "INSERT OR IGNORE INTO response_items (owner, item, response) VALUES (?1, ?2, ?3)";
/// Keeps the predecessors up to `?3`, unless they stay as long as `?4` anyway.
const EXTEND: &str = "WITH RECURSIVE path (number, previous) AS (
        SELECT number, previous FROM responses WHERE id = ?1 AND owner = ?2
        UNION SELECT responses.number, responses.previous FROM responses JOIN path ON responses.id = path.previous
        WHERE responses.owner = ?2)
    UPDATE responses SET until = ?3 WHERE until < ?4 AND number IN (SELECT number FROM path)";
const PATH: &str = "WITH RECURSIVE path (number, previous, depth, total) AS (
        SELECT number, previous, 1, bytes FROM responses WHERE id = ?1 AND owner = ?2 AND until > ?3
        UNION ALL SELECT responses.number, responses.previous, path.depth + 1, path.total + responses.bytes
        FROM responses JOIN path ON responses.id = path.previous
        WHERE responses.owner = ?2 AND responses.until > ?3 AND path.depth < ?4 AND path.total < ?5)";
const FORGET: &str = "DELETE FROM responses WHERE number IN (SELECT number FROM responses
    WHERE (?1 IS NOT NULL OR ?2 IS NOT NULL) AND (?1 IS NULL OR owner = ?1) AND (?2 IS NULL OR session = ?2) LIMIT ?3)";
const OVER: &str = "DELETE FROM responses WHERE number IN (SELECT number FROM responses
    WHERE until <= ?1 ORDER BY until LIMIT ?2)";
const FIRST: &str = "DELETE FROM responses WHERE number IN (
    SELECT number FROM (
        SELECT number, sum(bytes) OVER (PARTITION BY owner ORDER BY number DESC) AS newer FROM responses)
    WHERE newer > ?1 ORDER BY number LIMIT ?2)";

fn read(row: &Row<'_>) -> Result<(StoredResponse, usize), Error> {
    let origin = row.get::<_, Option<String>>(4)?.zip(row.get(5)?);
    let response = StoredResponse {
        id: row.get(0)?,
        owner: row.get(1)?,
        session: row.get(2)?,
        previous: row.get(3)?,
        origin: origin.map(|(account, id)| ResponseOrigin { account, id }),
        input: row.get(6)?,
        response: row.get(7)?,
        items: Vec::new(),
        state: ResponseState::of_lease(row.get::<_, Option<i64>>(9)?.map(|until| until > now())),
    };
    Ok((response, usize::try_from(row.get::<_, i64>(8)?).unwrap_or(usize::MAX)))
}

fn put(file: &mut Connection, response: &StoredResponse, keep: Duration, lease: Option<Duration>) -> Result<(), Error> {
    let writing = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let until = now().saturating_add(millis(keep));
    let (account, origin) = response.origin.as_ref().map(|origin| (&origin.account, &origin.id)).unzip();
    let StoredResponse { id, owner, session, previous, input, response: text, .. } = response;
    let bytes = i64::try_from(response.size()).unwrap_or(i64::MAX);
    writing.execute(PUT, (id, owner, session, previous, until, bytes, account, origin, input, text))?;
    let number = writing.last_insert_rowid();
    if let Some(lease) = lease {
        writing.execute(LEASE, (number, now().saturating_add(millis(lease))))?;
    }
    put_items(&writing, response, number)?;
    extend(&writing, owner, previous.as_deref(), until, keep)?;
    writing.commit()
}

/// Ends a response that has not ended. Returns false if there is none.
fn end(file: &mut Connection, response: &StoredResponse, keep: Duration) -> Result<bool, Error> {
    let writing = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let StoredResponse { id, owner, response: text, .. } = response;
    let released = writing.query_row(RELEASE, (id, owner, now()), |row| row.get::<_, i64>(0)).optional()?;
    let Some(number) = released else { return Ok(false) };
    let until = now().saturating_add(millis(keep));
    let (account, origin) = response.origin.as_ref().map(|origin| (&origin.account, &origin.id)).unzip();
    let bytes = i64::try_from(response.size()).unwrap_or(i64::MAX);
    let previous: Option<String> =
        writing.query_row(END, (number, until, bytes, account, origin, text), |row| row.get(0))?;
    put_items(&writing, response, number)?;
    extend(&writing, owner, previous.as_deref(), until, keep)?;
    writing.commit()?;
    Ok(true)
}

fn put_items(writing: &Connection, response: &StoredResponse, number: i64) -> Result<(), Error> {
    let mut sql = writing.prepare(PUT_ITEM)?;
    for item in &response.items {
        sql.execute((&response.owner, item, number))?;
    }
    Ok(())
}

/// Keeps the predecessors of a response as long as it.
fn extend(writing: &Connection, owner: &str, previous: Option<&str>, until: i64, keep: Duration) -> Result<(), Error> {
    let Some(previous) = previous else { return Ok(()) };
    writing.execute(EXTEND, (previous, owner, until.saturating_add(millis(slack(keep))), until))?;
    Ok(())
}

fn path(file: &Connection, owner: &str, id: &str, limits: PathLimits) -> Result<ResponsePath, Error> {
    let count = |limit: usize| i64::try_from(limit).unwrap_or(i64::MAX);
    let mut sql = file.prepare(&format!(
        "{PATH} SELECT {COLUMNS} FROM path JOIN responses ON responses.number = path.number ORDER BY path.depth"
    ))?;
    let rows = sql.query_map((id, owner, now(), count(limits.responses), count(limits.bytes)), read)?;
    Ok(ResponsePath::of_chain(rows.collect::<Result<_, _>>()?, limits))
}

/// Removes a few expired responses, and a few beyond the space of their owners. Returns their number.
fn sweep(file: &mut Connection, bytes_per_owner: i64) -> Result<usize, Error> {
    Ok(file.execute(OVER, (now(), STEP))?.max(file.execute(FIRST, (bytes_per_owner, STEP))?))
}

impl ResponseStore for Sqlite {
    fn put(&self, response: StoredResponse, keep: Duration) -> StoreFuture<'_, ()> {
        Box::pin(self.call("storing a response", move |file| put(file, &response, keep, None)))
    }

    fn begin(&self, response: StoredResponse, keep: Duration, lease: Duration) -> StoreFuture<'_, ()> {
        Box::pin(self.call("storing a response", move |file| put(file, &response, keep, Some(lease))))
    }

    fn renew<'a>(&'a self, owner: &'a str, id: &'a str, lease: Duration) -> StoreFuture<'a, bool> {
        let (owner, id) = (owner.to_owned(), id.to_owned());
        Box::pin(self.call("renewing a response", move |file| {
            let until = now().saturating_add(millis(lease));
            Ok(file.execute(RENEW, (id, owner, now(), until))? > 0)
        }))
    }

    fn end(&self, response: StoredResponse, keep: Duration) -> StoreFuture<'_, bool> {
        Box::pin(self.call("ending a response", move |file| end(file, &response, keep)))
    }

    fn get<'a>(&'a self, owner: &'a str, id: &'a str) -> StoreFuture<'a, Option<StoredResponse>> {
        let (owner, id) = (owner.to_owned(), id.to_owned());
        Box::pin(self.call("reading a response", move |file| {
            let sql = format!("SELECT {COLUMNS} FROM responses WHERE id = ?1 AND owner = ?2 AND until > ?3");
            Ok(file.query_row(&sql, (id, owner, now()), read).optional()?.map(|(response, _)| response))
        }))
    }

    fn path<'a>(&'a self, owner: &'a str, id: &'a str, limits: PathLimits) -> StoreFuture<'a, ResponsePath> {
        let (owner, id) = (owner.to_owned(), id.to_owned());
        Box::pin(self.call("reading a conversation", move |file| path(file, &owner, &id, limits)))
    }

    fn with_item<'a>(&'a self, owner: &'a str, item: &'a str) -> StoreFuture<'a, Option<StoredResponse>> {
        let (owner, item) = (owner.to_owned(), item.to_owned());
        Box::pin(self.call("reading an item", move |file| {
            let sql = format!(
                "SELECT {COLUMNS} FROM response_items JOIN responses ON responses.number = response_items.response
                WHERE response_items.owner = ?1 AND response_items.item = ?2 AND responses.until > ?3
                ORDER BY responses.number DESC LIMIT 1"
            );
            Ok(file.query_row(&sql, (owner, item, now()), read).optional()?.map(|(response, _)| response))
        }))
    }

    fn delete<'a>(&'a self, owner: &'a str, id: &'a str) -> StoreFuture<'a, bool> {
        let (owner, id) = (owner.to_owned(), id.to_owned());
        Box::pin(self.call("deleting a response", move |file| {
            let sql = "DELETE FROM responses WHERE id = ?1 AND owner = ?2 AND until > ?3";
            Ok(file.execute(sql, (id, owner, now()))? > 0)
        }))
    }

    fn forget_owner<'a>(&'a self, owner: &'a AnswerOwner) -> StoreFuture<'a, u64> {
        Box::pin(async move {
            let mut all = 0;
            loop {
                let AnswerOwner { tenant, session, .. } = owner.clone();
                let step =
                    move |file: &mut Connection| file.execute(FORGET, (tenant.as_deref(), session.as_deref(), STEP));
                let gone = self.call("forgetting responses", step).await?;
                all += gone as u64;
                if gone < STEP as usize {
                    return Ok(all);
                }
            }
        })
    }

    fn sweep(&self, bytes_per_owner: u64) -> StoreFuture<'_, ()> {
        let bytes = i64::try_from(bytes_per_owner).unwrap_or(i64::MAX);
        Box::pin(async move {
            while self.call("sweeping responses", move |file| sweep(file, bytes)).await? >= STEP as usize {}
            Ok(())
        })
    }
}
