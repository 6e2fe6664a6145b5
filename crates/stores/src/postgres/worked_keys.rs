//! The providers' keys that have worked, in the database.

use std::{sync::Arc, time::Duration};

use super::Postgres;
use crate::{
    quota::millis,
    worked_keys::{KEEP, REFRESH, StoreFuture, WorkedKey, WorkedKeyStore},
};

const FIND: &str = "SELECT name, greatest(steadfast_now() - at, 0) FROM steadfast_worked_keys
    WHERE name = ANY($1::text[]) AND at > steadfast_now() - $2::bigint";
/// In one order, so that two replicas do not wait for each other.
const NOTE: &str = "INSERT INTO steadfast_worked_keys (name, at) SELECT name, max(steadfast_now() - ago)
    FROM unnest($1::text[], $2::bigint[]) AS worked (name, ago) GROUP BY name ORDER BY name
    ON CONFLICT (name) DO UPDATE SET at = excluded.at WHERE excluded.at >= steadfast_worked_keys.at + $3::bigint";
const OVER: &str = "DELETE FROM steadfast_worked_keys WHERE name IN (SELECT name FROM steadfast_worked_keys
    WHERE at <= steadfast_now() - $1::bigint FOR UPDATE SKIP LOCKED)";

impl WorkedKeyStore for Postgres {
    fn find(&self, names: Vec<Arc<str>>) -> StoreFuture<'_, Vec<WorkedKey>> {
        Box::pin(async move {
            const WHAT: &str = "reading which keys have worked";
            let client = self.client(WHAT).await?;
            let names: Vec<&str> = names.iter().map(|name| &**name).collect();
            let rows = client.query(FIND, &[&names, &millis(KEEP)]).await.map_err(|cause| self.failed(WHAT, cause))?;
            let key = |row: &tokio_postgres::Row| {
                let ago = Duration::from_millis(row.try_get::<_, i64>(1)?.unsigned_abs());
                Ok(WorkedKey { name: row.try_get::<_, &str>(0)?.into(), ago })
            };
            rows.iter().map(key).collect::<Result<_, _>>().map_err(|cause| self.failed(WHAT, cause))
        })
    }

    fn note(&self, worked: Vec<WorkedKey>) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            const WHAT: &str = "noting which keys have worked";
            let names: Vec<&str> = worked.iter().map(|worked| &*worked.name).collect();
            let ago: Vec<i64> = worked.iter().map(|worked| millis(worked.ago)).collect();
            self.execute(WHAT, NOTE, &[&names, &ago, &millis(REFRESH)]).await?;
            self.execute(WHAT, OVER, &[&millis(KEEP)]).await?;
            Ok(())
        })
    }
}
