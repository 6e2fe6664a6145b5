//! The providers' keys that have worked, in the file.

use std::{sync::Arc, time::Duration};

use rusqlite::OptionalExtension as _;

use super::{Sqlite, clock::now};
use crate::{
    quota::millis,
    worked_keys::{KEEP, REFRESH, StoreFuture, WorkedKey, WorkedKeyStore},
};

const FIND: &str = "SELECT at FROM worked_keys WHERE name = ?1 AND at > ?2";
const NOTE: &str = "INSERT INTO worked_keys (name, at) VALUES (?1, ?2)
    ON CONFLICT (name) DO UPDATE SET at = excluded.at WHERE excluded.at >= worked_keys.at + ?3";
const OVER: &str = "DELETE FROM worked_keys WHERE at <= ?1";

impl WorkedKeyStore for Sqlite {
    fn find(&self, names: Vec<Arc<str>>) -> StoreFuture<'_, Vec<WorkedKey>> {
        Box::pin(self.call("reading which keys have worked", move |file| {
            let now = now();
            let (mut sql, mut found) = (file.prepare(FIND)?, Vec::new());
            for name in names {
                let at = sql.query_row((&*name, now - millis(KEEP)), |row| row.get::<_, i64>(0)).optional()?;
                let ago = at.map(|at| Duration::from_millis(now.saturating_sub(at).max(0).unsigned_abs()));
                found.extend(ago.map(|ago| WorkedKey { name, ago }));
            }
            Ok(found)
        }))
    }

    fn note(&self, worked: Vec<WorkedKey>) -> StoreFuture<'_, ()> {
        Box::pin(self.call("noting which keys have worked", move |file| {
            let now = now();
            let writing = file.transaction()?;
            for WorkedKey { name, ago } in &worked {
                writing.execute(NOTE, (&**name, now.saturating_sub(millis(*ago)), millis(REFRESH)))?;
            }
            writing.execute(OVER, [now - millis(KEEP)])?;
            writing.commit()
        }))
    }
}
