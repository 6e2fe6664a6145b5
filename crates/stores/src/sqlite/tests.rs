//! Tests of opening files, and of damaged ones.

mod keys;

use std::{error::Error as _, fs};

use rusqlite::Connection;

use super::*;
use crate::testing::Folder;

fn kind_at_open(path: impl AsRef<Path>) -> StoreErrorKind {
    Sqlite::open(path).unwrap_err().kind()
}

async fn count(sqlite: &Sqlite) -> Result<i64, StoreError> {
    sqlite.call("counting", |file| file.query_row("SELECT count(*) FROM idempotency", (), |row| row.get(0))).await
}

fn insert(file: &mut Connection, key: u8, bytes: usize) -> Result<usize, rusqlite::Error> {
    let sql = "INSERT INTO idempotency (key, input, until, answer) VALUES (?1, x'00', 0, zeroblob(?2))";
    file.execute(sql, ([key], bytes as i64))
}

#[tokio::test]
async fn what_was_written_is_there_when_the_file_is_opened_again() {
    let folder = Folder::new("sqlite-again");
    let file = Sqlite::open(folder.file()).unwrap();
    file.call("writing", |file| insert(file, 1, 10)).await.unwrap();
    let other = Sqlite::open(folder.file()).unwrap();
    assert_eq!(count(&other).await.unwrap(), 1, "two at a time have the same file");
    drop((file, other));
    assert_eq!(count(&Sqlite::open(folder.file()).unwrap()).await.unwrap(), 1);
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new("sqlite-mode");
    let file = Sqlite::open(folder.file()).unwrap();
    file.call("writing", |file| insert(file, 1, 10)).await.unwrap();
    for found in fs::read_dir(folder.path()).unwrap() {
        let found = found.unwrap();
        assert_eq!(found.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", found.file_name());
    }
}

#[tokio::test]
async fn many_that_open_a_new_file_at_once_all_have_it() {
    let folder = Folder::new("sqlite-at-once");
    let opening: Vec<_> = (0..8)
        .map(|_| {
            let path = folder.file();
            tokio::task::spawn_blocking(move || Sqlite::open(path))
        })
        .collect();
    for opened in opening {
        assert_eq!(count(&opened.await.unwrap().unwrap()).await.unwrap(), 0);
    }
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_not_touched() {
    let folder = Folder::new("sqlite-newer");
    drop(Sqlite::open(folder.file()).unwrap());
    let other = Connection::open(folder.file()).unwrap();
    other.execute_batch("PRAGMA user_version = 4711; PRAGMA wal_checkpoint(TRUNCATE);").unwrap();
    drop(other);
    let before = fs::read(folder.file()).unwrap();
    let error = Sqlite::open(folder.file()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NewerSchema);
    assert!(error.to_string().contains("has version 4711"), "{error}");
    assert_eq!(fs::read(folder.file()).unwrap(), before);
}

#[test]
fn another_programs_database_is_refused_and_not_touched() {
    let folder = Folder::new("sqlite-foreign");
    let other = Connection::open(folder.file()).unwrap();
    other.execute_batch("CREATE TABLE bookmarks (url TEXT)").unwrap();
    drop(other);
    let before = fs::read(folder.file()).unwrap();
    assert_eq!(kind_at_open(folder.file()), StoreErrorKind::Misconfigured);
    assert_eq!(fs::read(folder.file()).unwrap(), before);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_not_touched() {
    let folder = Folder::new("sqlite-text");
    let text = "dear diary, today I was not a database. ".repeat(40);
    fs::write(folder.file(), &text).unwrap();
    let error = Sqlite::open(folder.file()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
    assert!(error.source().unwrap().to_string().contains("not a database"), "{error}");
    assert_eq!(fs::read_to_string(folder.file()).unwrap(), text);
}

#[test]
fn a_path_that_cannot_be_a_file_is_refused() {
    let folder = Folder::new("sqlite-path");
    assert_eq!(kind_at_open(folder.path()), StoreErrorKind::Misconfigured, "a folder");
    assert_eq!(kind_at_open(folder.path().join("no/such/folder.db")), StoreErrorKind::Misconfigured);
    assert_eq!(kind_at_open(""), StoreErrorKind::Misconfigured);
    assert_eq!(kind_at_open(":memory:"), StoreErrorKind::Misconfigured);
}

#[cfg(unix)]
#[test]
fn a_file_or_folder_that_may_not_be_written_is_read_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new("sqlite-read-only");
    drop(Sqlite::open(folder.file()).unwrap());
    let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    allow(&folder.file(), 0o400);
    if OpenOptions::new().append(true).open(folder.file()).is_ok() {
        println!("skipped: this user may write whatever the mode says");
        return;
    }
    assert_eq!(kind_at_open(folder.file()), StoreErrorKind::ReadOnly);
    allow(&folder.file(), 0o600);
    allow(folder.path(), 0o500);
    assert_eq!(kind_at_open(folder.path().join("new.db")), StoreErrorKind::ReadOnly);
    allow(folder.path(), 0o700);
}

#[tokio::test]
async fn a_file_that_became_read_only_is_read_and_says_so_when_it_is_to_be_written() {
    let folder = Folder::new("sqlite-query-only");
    let file = Sqlite::open(folder.file()).unwrap();
    file.call("a switch", |file| file.execute_batch("PRAGMA query_only = ON")).await.unwrap();
    let error = file.call("writing", |file| insert(file, 1, 10)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::ReadOnly);
    assert_eq!(count(&file).await.unwrap(), 0);
}

#[tokio::test]
async fn a_full_disk_is_said_and_the_rest_is_served() {
    let folder = Folder::new("sqlite-full");
    let file = Sqlite::open(folder.file()).unwrap();
    file.call("a bound", |file| {
        let pages: i64 = file.pragma_query_value(None, "page_count", |row| row.get(0))?;
        file.pragma_update_and_check(None, "max_page_count", pages + 2, |_| Ok(()))
    })
    .await
    .unwrap();
    let error = file.call("keeping", |file| insert(file, 1, 1_000_000)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Full);
    assert!(error.to_string().starts_with("the store is full: keeping, in "), "{error}");
    assert_eq!(count(&file).await.unwrap(), 0);
    file.call("keeping less", |file| insert(file, 1, 10)).await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_said_and_panics_nobody() {
    let folder = Folder::new("sqlite-damaged");
    let file = Sqlite::open(folder.file()).unwrap();
    for key in 0..50 {
        file.call("writing", move |file| insert(file, key, 5000)).await.unwrap();
    }
    file.call("ending", |file| file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))).await.unwrap();
    drop(file);
    let mut bytes = fs::read(folder.file()).unwrap();
    // All but its head.
    bytes[4096..].fill(0xab);
    fs::write(folder.file(), bytes).unwrap();
    let opened = Sqlite::open(folder.file());
    let error = match opened {
        Ok(file) => count(&file).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
}

/// Fills a file with records.
async fn filled(folder: &Folder) -> Sqlite {
    let file = Sqlite::open(folder.file()).unwrap();
    for key in 0..50 {
        file.call("writing", move |file| insert(file, key, 5000)).await.unwrap();
    }
    file.call("ending", |file| file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))).await.unwrap();
    file
}

fn cut(folder: &Folder, length: u64) {
    OpenOptions::new().write(true).open(folder.file()).unwrap().set_len(length).unwrap();
}

#[tokio::test]
async fn a_file_that_was_truncated_damaged_or_has_lost_a_table_is_refused_at_its_opening() {
    let corrupt = |folder: &Folder| {
        let error = Sqlite::open(folder.file()).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
        error.to_string()
    };
    let length = |folder: &Folder| fs::metadata(folder.file()).unwrap().len();
    let folder = Folder::new("sqlite-refused-cut");
    drop(filled(&folder).await);
    cut(&folder, length(&folder) / 2 / 4096 * 4096);
    corrupt(&folder);
    let folder = Folder::new("sqlite-refused-emptied");
    let file = filled(&folder).await;
    // The state after a kill: with a log.
    file.call("writing", |file| insert(file, 77, 5000)).await.unwrap();
    cut(&folder, 0);
    assert!(corrupt(&folder).contains("was truncated"));
    drop(file);

    let folder = Folder::new("sqlite-refused-damaged");
    drop(filled(&folder).await);
    let mut bytes = fs::read(folder.file()).unwrap();
    // One page in the middle.
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xab);
    fs::write(folder.file(), bytes).unwrap();
    corrupt(&folder);

    let folder = Folder::new("sqlite-refused-dropped");
    drop(filled(&folder).await);
    let other = Connection::open(folder.file()).unwrap();
    other.execute_batch("DROP TABLE tasks").unwrap();
    drop(other);
    let said = corrupt(&folder);
    assert!(said.contains("has lost its table `tasks`: restore it"), "{said}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_is_truncated_while_it_is_open_says_so_and_one_that_was_vacuumed_does_not() {
    let folder = Folder::new("sqlite-vacuumed");
    let file = filled(&folder).await;
    file.call("clearing", |file| file.execute("DELETE FROM idempotency", ())).await.unwrap();
    let other = Connection::open(folder.file()).unwrap();
    let before = fs::metadata(folder.file()).unwrap().len();
    other.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    assert!(fs::metadata(folder.file()).unwrap().len() < before);
    for key in 0..3 {
        file.call("writing", move |file| insert(file, key, 5000)).await.unwrap();
    }
    drop((file, other));

    for part in [0, 2] {
        let folder = Folder::new(&format!("sqlite-cut-{part}"));
        let file = filled(&folder).await;
        let length = fs::metadata(folder.file()).unwrap().len();
        cut(&folder, length * part / 4 / 4096 * 4096);
        for _ in 0..3 {
            let error = count(&file).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
            assert!(error.to_string().contains("which was truncated"), "{error}");
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_is_not_where_it_was_keeps_nothing_until_it_is_back() {
    let folder = Folder::new("sqlite-moved");
    let file = Sqlite::open(folder.file()).unwrap();
    for name in ["steadfast.db", "steadfast.db-wal"] {
        let (path, aside) = (folder.path().join(name), folder.path().join("aside"));
        file.call("writing", |file| insert(file, 1, 10)).await.unwrap();
        fs::rename(&path, &aside).unwrap();
        let error = file.call("writing", |file| insert(file, 2, 10)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
        assert!(error.to_string().contains("which was deleted, moved or replaced"), "{error}");
        fs::copy(&aside, &path).unwrap();
        assert!(count(&file).await.is_err(), "another of its name");
        fs::rename(&aside, &path).unwrap();
        file.call("clearing", |file| file.execute("DELETE FROM idempotency", ())).await.unwrap();
    }
}

#[tokio::test]
async fn a_table_that_somebody_has_dropped_is_damage() {
    let folder = Folder::new("sqlite-dropped");
    let file = Sqlite::open(folder.file()).unwrap();
    file.call("a mishap", |file| file.execute_batch("DROP TABLE idempotency")).await.unwrap();
    assert_eq!(count(&file).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
}

#[tokio::test]
async fn work_that_panics_is_an_error_and_the_next_is_done() {
    let folder = Folder::new("sqlite-panics");
    let file = Sqlite::open(folder.file()).unwrap();
    let error = file.call("a slip", |_| -> Result<(), _> { panic!("as it should") }).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert_eq!(count(&file).await.unwrap(), 0);
}

#[tokio::test]
async fn a_transaction_that_was_left_open_is_undone() {
    let folder = Folder::new("sqlite-open-end");
    let file = Sqlite::open(folder.file()).unwrap();
    file.call("half of it", |file| {
        file.execute_batch("BEGIN IMMEDIATE")?;
        insert(file, 1, 10)
    })
    .await
    .unwrap();
    assert_eq!(count(&file).await.unwrap(), 0);
}

#[tokio::test]
async fn work_that_nobody_waits_for_any_more_is_not_begun() {
    let folder = Folder::new("sqlite-left");
    let file = Sqlite::open(folder.file()).unwrap();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (begins, begun) = oneshot::channel();
    let busy = tokio::spawn({
        let file = file.clone();
        async move {
            let work = move |_: &mut Connection| Ok(begins.send(()).is_ok() && wait.recv().is_ok());
            file.call("waiting", work).await
        }
    });
    begun.await.unwrap();
    let left = file.call("writing", |file| insert(file, 1, 10));
    let polled = tokio::time::timeout(Duration::ZERO, left).await;
    assert!(polled.is_err(), "the thread is busy");
    go.send(()).unwrap();
    assert!(busy.await.unwrap().unwrap());
    assert_eq!(count(&file).await.unwrap(), 0);
}

#[test]
fn debug_names_the_file() {
    let folder = Folder::new("sqlite-debug");
    let said = format!("{:?}", Sqlite::open(folder.file()).unwrap());
    assert!(said.starts_with("Sqlite { file: ") && said.contains("steadfast.db"), "{said}");
}
