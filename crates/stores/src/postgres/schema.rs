//! The database's tables, and the migrations that bring them up to date.

use tokio_postgres::{Client, Error};

/// In order: a database of version *n* has had the first *n* of them. A published migration never changes.
const MIGRATIONS: &[(&str, &str)] = &[
    ("idempotency", include_str!("migrations/0001_idempotency.sql")),
    ("tasks", include_str!("migrations/0002_tasks.sql")),
    ("task_bytes", include_str!("migrations/0003_task_bytes.sql")),
    ("task_caller", include_str!("migrations/0004_task_caller.sql")),
    ("responses", include_str!("migrations/0005_responses.sql")),
    ("places", include_str!("migrations/0006_places.sql")),
    ("place_times", include_str!("migrations/0007_place_times.sql")),
    ("ledger", include_str!("migrations/0008_ledger.sql")),
    ("ledger_grants", include_str!("migrations/0009_ledger_grants.sql")),
    ("registry", include_str!("migrations/0010_registry.sql")),
    ("worked_keys", include_str!("migrations/0011_worked_keys.sql")),
    ("owner", include_str!("migrations/0012_owner.sql")),
    ("response_leases", include_str!("migrations/0013_response_leases.sql")),
];

/// The PostgreSQL advisory lock during a change of the tables: `stdf`.
const LOCK: i64 = i32::from_be_bytes(*b"stdf") as i64;

/// The reason for which a database is not brought up to date.
pub(super) enum MigrationRefusal {
    Postgres(Error),
    /// Its version is later than this crate's.
    Newer(i32),
    /// This table is missing.
    Lost(String),
}

impl From<Error> for MigrationRefusal {
    fn from(error: Error) -> Self {
        Self::Postgres(error)
    }
}

/// Returns the latest version that this crate knows.
pub(super) fn latest() -> i32 {
    MIGRATIONS.len() as i32
}

/// Brings the tables up to date, all or nothing. If they are, it only reads.
pub(super) async fn migrate(client: &mut Client) -> Result<(), MigrationRefusal> {
    if version(client).await? == latest() {
        return whole(client).await;
    }
    let writing = client.transaction().await?;
    // Holds until the transaction's end, so that one of all processes creates the tables.
    writing.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let version = version(writing.client()).await?;
    if version == 0 {
        let table = "CREATE TABLE IF NOT EXISTS steadfast_schema (
            version integer PRIMARY KEY, name text NOT NULL, applied timestamptz NOT NULL DEFAULT now())";
        writing.batch_execute(table).await?;
    }
    for ((name, migration), number) in MIGRATIONS.iter().zip(1i32..).skip(version as usize) {
        writing.batch_execute(migration).await?;
        writing.execute("INSERT INTO steadfast_schema (version, name) VALUES ($1, $2)", &[&number, name]).await?;
    }
    Ok(writing.commit().await?)
}

/// Returns the tables that migrations create.
pub(super) fn tables() -> impl Iterator<Item = &'static str> {
    let lines = MIGRATIONS.iter().flat_map(|(_, migration)| migration.lines());
    lines.filter_map(|line| line.strip_prefix("CREATE TABLE ")?.split_whitespace().next())
}

/// Returns an error if a table is missing.
async fn whole(client: &Client) -> Result<(), MigrationRefusal> {
    let sql = "SELECT name FROM unnest($1::text[]) AS name WHERE NOT EXISTS (SELECT FROM pg_tables
        WHERE tablename = name AND schemaname = ANY (current_schemas(false))) LIMIT 1";
    match client.query_opt(sql, &[&tables().collect::<Vec<_>>()]).await? {
        None => Ok(()),
        Some(lost) => Err(MigrationRefusal::Lost(lost.try_get(0)?)),
    }
}

/// Returns the number of migrations that the database has had.
async fn version(client: &Client) -> Result<i32, MigrationRefusal> {
    // `to_regclass` would remember a missing table until the transaction's end.
    let there = "SELECT EXISTS (SELECT FROM pg_tables
        WHERE tablename = 'steadfast_schema' AND schemaname = ANY (current_schemas(false)))";
    if !client.query_one(there, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(0);
    }
    let last = client.query_one("SELECT coalesce(max(version), 0) FROM steadfast_schema", &[]).await?;
    match last.try_get(0)? {
        version if version > latest() => Err(MigrationRefusal::Newer(version)),
        version => Ok(i32::max(version, 0)),
    }
}
