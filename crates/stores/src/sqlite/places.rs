//! The places of objects in the file.

use std::time::Duration;

use rusqlite::OptionalExtension as _;

use super::{Sqlite, clock::now};
use crate::{
    places::{Place, PlaceStore, StoreFuture, forgotten},
    quota::{STEP, millis},
};
use steadfast::layers::cache::AnswerOwner;

const PUT: &str = "INSERT OR IGNORE INTO places (id, owner, tier, until) VALUES (?1, ?2, ?3, ?4)";
const FIND: &str = "SELECT id, owner, tier FROM places WHERE id = ?1 AND (until IS NULL OR until > ?2)";
const OVER: &str = "DELETE FROM places WHERE id IN (SELECT id FROM places WHERE until <= ?1 ORDER BY until LIMIT ?2)";

impl PlaceStore for Sqlite {
    fn put(&self, places: Vec<Place>, keep: Option<Duration>) -> StoreFuture<'_, ()> {
        Box::pin(self.call("storing the places of objects", move |file| {
            let now = now();
            let until = keep.map(|keep| now.saturating_add(millis(keep)));
            let writing = file.transaction()?;
            if keep.is_some() {
                writing.execute(OVER, (now, STEP))?;
            }
            for Place { id, owner, tier } in &places {
                writing.execute(PUT, (id, owner, tier, until))?;
            }
            writing.commit()
        }))
    }

    fn find(&self, ids: Vec<String>) -> StoreFuture<'_, Vec<Place>> {
        Box::pin(self.call("reading the places of objects", move |file| {
            let mut sql = file.prepare(FIND)?;
            let mut found = Vec::new();
            for id in &ids {
                let place = sql
                    .query_row((id, now()), |row| Ok(Place { id: row.get(0)?, owner: row.get(1)?, tier: row.get(2)? }));
                found.extend(place.optional()?);
            }
            Ok(found)
        }))
    }

    fn delete<'a>(&'a self, id: &'a str) -> StoreFuture<'a, bool> {
        let id = id.to_owned();
        Box::pin(self.call("deleting the place of an object", move |file| {
            Ok(file.execute("DELETE FROM places WHERE id = ?1", [id])? > 0)
        }))
    }

    fn forget_owner<'a>(&'a self, owner: &'a AnswerOwner) -> StoreFuture<'a, u64> {
        let owner = forgotten(owner).map(str::to_owned);
        Box::pin(async move {
            let Some(owner) = owner else { return Ok(0) };
            let forget = |file: &mut rusqlite::Connection| file.execute("DELETE FROM places WHERE owner = ?1", [owner]);
            Ok(self.call("forgetting the places of objects", forget).await? as u64)
        })
    }
}
