//! The places of objects in the database.

use std::time::Duration;

use super::Postgres;
use crate::{
    places::{Place, PlaceStore, StoreFuture, forgotten},
    quota::{STEP, millis},
};
use steadfast::layers::cache::AnswerOwner;

const PUT: &str = "INSERT INTO steadfast_places (id, owner, tier, until)
    SELECT id, owner, tier, steadfast_now() + $4::bigint
    FROM unnest($1::text[], $2::text[], $3::text[]) AS place (id, owner, tier) ON CONFLICT (id) DO NOTHING";
const FIND: &str = "SELECT id, owner, tier FROM steadfast_places
    WHERE id = ANY($1::text[]) AND (until IS NULL OR until > steadfast_now())";
const OVER: &str = "DELETE FROM steadfast_places WHERE id IN (SELECT id FROM steadfast_places
    WHERE until <= steadfast_now() ORDER BY until LIMIT $1 FOR UPDATE SKIP LOCKED)";
const DELETE: &str = "DELETE FROM steadfast_places WHERE id = $1";
const FORGET: &str = "DELETE FROM steadfast_places WHERE owner = $1";

impl PlaceStore for Postgres {
    fn put(&self, places: Vec<Place>, keep: Option<Duration>) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            const WHAT: &str = "storing the places of objects";
            let keep = keep.map(millis);
            if keep.is_some() {
                self.execute(WHAT, OVER, &[&STEP]).await?;
            }
            let (mut ids, mut owners, mut tiers) = (Vec::new(), Vec::new(), Vec::new());
            for Place { id, owner, tier } in places {
                ids.push(id);
                owners.push(owner);
                tiers.push(tier);
            }
            self.execute(WHAT, PUT, &[&ids, &owners, &tiers, &keep]).await?;
            Ok(())
        })
    }

    fn find(&self, ids: Vec<String>) -> StoreFuture<'_, Vec<Place>> {
        Box::pin(async move {
            const WHAT: &str = "reading the places of objects";
            let client = self.client(WHAT).await?;
            let rows = client.query(FIND, &[&ids]).await.map_err(|cause| self.failed(WHAT, cause))?;
            let place = |row: &tokio_postgres::Row| {
                Ok(Place { id: row.try_get(0)?, owner: row.try_get(1)?, tier: row.try_get(2)? })
            };
            rows.iter().map(place).collect::<Result<_, _>>().map_err(|cause| self.failed(WHAT, cause))
        })
    }

    fn delete<'a>(&'a self, id: &'a str) -> StoreFuture<'a, bool> {
        Box::pin(async move { Ok(self.execute("deleting the place of an object", DELETE, &[&id]).await? > 0) })
    }

    fn forget_owner<'a>(&'a self, owner: &'a AnswerOwner) -> StoreFuture<'a, u64> {
        Box::pin(async move {
            let Some(owner) = forgotten(owner) else { return Ok(0) };
            self.execute("forgetting the places of objects", FORGET, &[&owner]).await
        })
    }
}
