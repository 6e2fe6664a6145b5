//! Tests of keys in the file, beyond the tests of every store.

use std::sync::Arc;

use super::*;
use crate::testing_keys::{INPUT, LONG, complete_claim, is_done, key, taken, win};
use steadfast::{
    IdempotencyLayer,
    layers::{
        cache::Answer,
        idempotency::{Claim, IdempotencyStore as _},
    },
};

async fn execute(file: &Sqlite, sql: &'static str) {
    file.call("a test", move |file| file.execute_batch(sql)).await.unwrap();
}

#[tokio::test]
async fn what_is_over_is_swept_out_step_by_step_and_what_lives_stays() {
    let folder = Folder::new("sqlite-sweep");
    let file = Sqlite::open(folder.file()).unwrap();
    complete_claim(&file, 1).await;
    complete_claim(&file, 2).await;
    win(&file, 3).await;
    execute(&file, "UPDATE idempotency SET until = 1000 WHERE key = zeroblob(32) OR ticket = 2").await;
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1300)
        INSERT INTO idempotency (key, input, until) SELECT randomblob(32), x'00', i FROM n";
    execute(&file, many).await;
    IdempotencyLayer::over(file.clone()).handle().sweep().await.unwrap();
    assert_eq!(count(&file).await.unwrap(), 2);
    assert!(is_done(&file, 1).await);
}

#[tokio::test]
async fn over_the_room_the_answer_that_was_kept_first_goes_first() {
    let folder = Folder::new("sqlite-room");
    let file = Sqlite::open(folder.file()).unwrap();
    // The extra half absorbs the time in an answer, whose length varies by a byte.
    file.set_max_answer_bytes(3 * taken() + taken() / 2);
    for number in 1..=5 {
        complete_claim(&file, number).await;
    }
    win(&file, 6).await;
    file.sweep_all().await.unwrap();
    assert_eq!(count(&file).await.unwrap(), 4);
    for number in 3..=5 {
        assert!(is_done(&file, number).await, "{number}");
    }
    assert!(!is_done(&file, 1).await && !is_done(&file, 2).await);
}

#[tokio::test]
async fn an_answer_that_is_not_readable_is_as_not_there_and_the_others_are() {
    let folder = Folder::new("sqlite-corrupt-row");
    let file = Sqlite::open(folder.file()).unwrap();
    for broken in [
        "UPDATE idempotency SET answer = x'0102030405060708090a0b0c' WHERE key = zeroblob(0) OR ticket % 2 = 1",
        "UPDATE idempotency SET answer = substr(answer, 1, 20) WHERE ticket % 2 = 1",
        // Of a later version.
        "UPDATE idempotency SET answer = x'ff0102' WHERE ticket % 2 = 1",
        "UPDATE idempotency SET answer = 'a text' WHERE ticket % 2 = 1",
        "UPDATE idempotency SET answer = 7 WHERE ticket % 2 = 1",
    ] {
        execute(&file, "DELETE FROM idempotency; DELETE FROM sqlite_sequence").await;
        complete_claim(&file, 1).await;
        complete_claim(&file, 2).await;
        execute(&file, broken).await;
        assert!(is_done(&file, 2).await, "{broken}");
        complete_claim(&file, 1).await;
        assert!(is_done(&file, 1).await, "{broken}");
    }
}

#[tokio::test]
async fn a_full_disk_keeps_no_answer_and_gives_those_that_are_there() {
    let folder = Folder::new("sqlite-full-keys");
    let file = Sqlite::open(folder.file()).unwrap();
    complete_claim(&file, 1).await;
    file.call("a bound", |file| {
        let pages: i64 = file.pragma_query_value(None, "page_count", |row| row.get(0))?;
        file.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
    })
    .await
    .unwrap();
    let ticket = win(&file, 2).await;
    let large = Arc::new(Answer::of_text("x".repeat(100_000), Duration::MAX));
    let error = file.complete(&key(2), ticket, large, LONG).await.unwrap_err();
    assert_eq!(error.downcast_ref::<StoreError>().unwrap().kind(), StoreErrorKind::Full);
    assert!(is_done(&file, 1).await);
    assert!(matches!(file.claim(&key(2), &INPUT, LONG).await.unwrap(), Claim::Busy { .. }));
}

/// A statement's last step is its commit: without it the failure would go unnoticed.
#[cfg(unix)]
#[tokio::test]
async fn on_a_full_disk_no_key_is_won_and_what_was_answered_is_given() {
    let folder = Folder::new("sqlite-disk-full");
    let Some(disk) = crate::testing::Disk::at(folder.path()) else { return };
    let file = Sqlite::open(folder.file()).unwrap();
    complete_claim(&file, 1).await;
    let held = win(&file, 2).await;
    disk.fills();
    for _ in 0..3 {
        let error = file.claim(&key(3), &INPUT, LONG).await.expect_err("nothing was written down");
        let error = error.downcast::<StoreError>().unwrap();
        assert_eq!(error.kind(), StoreErrorKind::Full, "{error}");
    }
    let error = file.complete(&key(2), held, crate::testing_keys::answer(), LONG).await.unwrap_err();
    assert_eq!(error.downcast::<StoreError>().unwrap().kind(), StoreErrorKind::Full);
    assert!(is_done(&file, 1).await);
    disk.empties();
    complete_claim(&file, 3).await;
    assert!(file.complete(&key(2), held, crate::testing_keys::answer(), LONG).await.unwrap());
    assert!(is_done(&file, 2).await && is_done(&file, 3).await);
}
