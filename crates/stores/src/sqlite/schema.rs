//! The file's tables, and the migrations that bring them up to date.

use rusqlite::{Connection, Error, OptionalExtension as _, Transaction, TransactionBehavior};

use steadfast::store::{StoreError, StoreErrorKind};

/// In order: a file of version *n* has had the first *n* of them. A published migration never changes.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_idempotency.sql"),
    include_str!("migrations/0002_tasks.sql"),
    include_str!("migrations/0003_answers.sql"),
    include_str!("migrations/0004_task_bytes.sql"),
    include_str!("migrations/0005_task_caller.sql"),
    include_str!("migrations/0006_responses.sql"),
    include_str!("migrations/0007_places.sql"),
    include_str!("migrations/0008_place_times.sql"),
    include_str!("migrations/0009_ledger.sql"),
    include_str!("migrations/0010_ledger_grants.sql"),
    include_str!("migrations/0011_registry.sql"),
    include_str!("migrations/0012_worked_keys.sql"),
    include_str!("migrations/0013_owner.sql"),
    include_str!("migrations/0014_response_leases.sql"),
];

/// The mark of this crate's files (SQLite's `application_id`): `stdf`.
const APPLICATION: i32 = i32::from_be_bytes(*b"stdf");

/// The reason for which a file is not brought up to date.
pub(super) enum MigrationRefusal {
    Sqlite(Error),
    /// Its version is later than this crate's.
    Newer(usize),
    /// It is another program's.
    Foreign,
    /// It is damaged, in this way.
    Damaged(String),
}

impl From<Error> for MigrationRefusal {
    fn from(error: Error) -> Self {
        Self::Sqlite(error)
    }
}

impl MigrationRefusal {
    pub(super) fn into_error(self, file: &str, kind: impl FnOnce(&Error) -> StoreErrorKind) -> StoreError {
        match self {
            Self::Sqlite(cause) => StoreError::new(kind(&cause), format!("opening {file}")).with_source(cause),
            Self::Newer(version) => {
                let known = MIGRATIONS.len();
                StoreError::new(
                    StoreErrorKind::NewerSchema,
                    format!(
                        "{file} has version {version}, but this program supports versions up to {known}; use a later program, or another file"
                    ),
                )
            }
            Self::Damaged(problem) => StoreError::new(
                StoreErrorKind::Corrupt,
                format!("{file} {problem}: restore it from a backup, or name another file"),
            ),
            Self::Foreign => StoreError::new(
                StoreErrorKind::Misconfigured,
                format!("{file} is another program's database: name a file of its own"),
            ),
        }
    }
}

/// Checks, by reading only, that a file is whole and may be changed.
pub(super) fn check(connection: &mut Connection) -> Result<(), MigrationRefusal> {
    // One transaction, because another process may be creating the tables.
    let reading = connection.transaction()?;
    let version = version(&reading)?;
    let there = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    for table in tables(&MIGRATIONS[..version]) {
        if reading.query_row(there, [table], |_| Ok(())).optional()?.is_none() {
            return Err(MigrationRefusal::Damaged(format!("has lost its table `{table}`")));
        }
    }
    intact(&reading)
}

/// Returns an error if a page of the file is damaged.
pub(super) fn intact(reading: &Connection) -> Result<(), MigrationRefusal> {
    let found: String = reading.query_row("PRAGMA quick_check(1)", (), |row| row.get(0))?;
    match &*found {
        "ok" => Ok(()),
        problem => Err(MigrationRefusal::Damaged(format!("is damaged ({})", problem.replace('\n', " ")))),
    }
}

/// Returns the tables that migrations create.
fn tables(migrations: &'static [&'static str]) -> impl Iterator<Item = &'static str> {
    let lines = migrations.iter().flat_map(|migration| migration.lines());
    lines.filter_map(|line| line.strip_prefix("CREATE TABLE ")?.split_whitespace().next())
}

/// Returns the number of migrations that the file has had.
fn version(reading: &Transaction<'_>) -> Result<usize, MigrationRefusal> {
    let number = |pragma| reading.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    if application != APPLICATION {
        let tables: i64 = reading.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
        if application != 0 || version != 0 || tables > 0 {
            return Err(MigrationRefusal::Foreign);
        }
    }
    match usize::try_from(version) {
        Ok(version) if version <= MIGRATIONS.len() => Ok(version),
        Ok(version) => Err(MigrationRefusal::Newer(version)),
        Err(_) => Err(MigrationRefusal::Foreign),
    }
}

/// Brings the tables up to date, all or nothing.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), MigrationRefusal> {
    let writing = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version = version(&writing)?;
    if version == MIGRATIONS.len() {
        return Ok(());
    }
    for migration in &MIGRATIONS[version..] {
        writing.execute_batch(migration)?;
    }
    writing.pragma_update(None, "application_id", APPLICATION)?;
    writing.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    Ok(writing.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The migrations of a file from before tasks had limits.
    const BEFORE: usize = 3;

    #[test]
    fn tasks_of_a_file_of_before_count_and_one_index_has_all_that_is_measured() {
        let mut file = Connection::open_in_memory().unwrap();
        for migration in &MIGRATIONS[..BEFORE] {
            file.execute_batch(migration).unwrap();
        }
        file.pragma_update(None, "application_id", APPLICATION).unwrap();
        file.pragma_update(None, "user_version", BEFORE as i64).unwrap();
        let task = "INSERT INTO tasks (id, created_at, expires_at, tenant, reason, preview, requires_human, redrive, request, attempts)
            VALUES ('t', 1, 2, 'ada', 'order', '', 0, 1, 'five\u{e9}', '[]')";
        file.execute(task, ()).unwrap();
        assert!(migrate(&mut file).is_ok());
        let bytes: i64 = file.query_row("SELECT bytes FROM tasks", (), |row| row.get(0)).unwrap();
        assert_eq!(bytes, 8, "bytes, and not characters");
        let plan: String = file
            .query_row(&format!("EXPLAIN QUERY PLAN {}", super::super::tasks::TAKEN), (0, "ada"), |row| {
                row.get("detail")
            })
            .unwrap();
        assert!(plan.contains("COVERING INDEX tasks_taken"), "{plan}");
    }
}
