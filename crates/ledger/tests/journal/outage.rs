//! Stores that are away, and handles that go.

use std::{sync::Arc, time::Duration};

use steadfast::{Event, Events};
use steadfast_ledger::{Ledger, RowKind};
use tokio::time::Instant;

use crate::place::{Flaky, Folder, found, open, row, settings, sum, until};

#[tokio::test(start_paused = true)]
async fn rows_are_stored_a_second_later_at_most() {
    let (folder, store) = (Folder::new("second"), Flaky::default());
    let ledger = open(&store, &folder);
    let begun = Instant::now();
    ledger.record(row(5));
    ledger.write().await;
    until(async || ledger.standing().waiting == 0).await;
    // The clock runs ahead while the journal's thread is at work, and the task's second begins after it.
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(sum(&store.inner).await.cost.nanos(), 5);
    assert!(ledger.standing().is_well());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_told_of_once_and_gets_everything_when_it_is_back() {
    let (folder, store, events) = (Folder::new("away"), Flaky::default(), Events::new());
    let mut heard = events.subscribe();
    store.set_away(true);
    let ledger = open(&store, &folder);
    ledger.set_events(&events);
    for nanos in 1..=1200 {
        ledger.record(row(nanos));
    }
    ledger.write().await;
    let calls = || store.calls.load(std::sync::atomic::Ordering::SeqCst);
    let (begun, before) = (Instant::now(), calls());
    tokio::time::sleep(Duration::from_secs(300)).await;
    let standing = ledger.standing();
    assert!(standing.away_since.is_some_and(|since| since < begun + Duration::from_secs(5)), "{standing:?}");
    assert_eq!((standing.waiting, standing.lost, standing.is_well()), (1200, 0, false));
    assert!(standing.store_problem.unwrap().contains("cannot be reached"));
    // 1, 2, 4, 8, 16, 30, 30 .. seconds, of which some may be over.
    let calls = calls() - before;
    assert!((9..=16).contains(&calls), "{calls}");
    store.set_away(false);
    ledger.flush().await;
    assert_eq!(sum(&store.inner).await.cost.nanos(), 1200 * 1201 / 2);
    let standing = ledger.standing();
    assert_eq!((standing.waiting, standing.away_since, standing.store_problem), (0, None, None));
    let mut turns = Vec::new();
    while let Ok(Event::StoreChanged { available, .. }) = heard.try_recv() {
        turns.push(available);
    }
    assert_eq!(turns, [false, true]);
    // Nothing is left to keep.
    until(async || ledger.standing().journal_bytes == 0).await;
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_count_nothing_twice() {
    let (folder, store) = (Folder::new("answers"), Flaky::default());
    store.set_lost_answers(2);
    let ledger = open(&store, &folder);
    for nanos in 0..2000 {
        ledger.record(row(nanos));
    }
    ledger.flush().await;
    assert_eq!(sum(&store.inner).await.cost.nanos(), 1999 * 2000 / 2);
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_dropped_is_settled_by_its_estimate() {
    let (folder, store) = (Folder::new("dropped"), Flaky::default());
    let ledger = open(&store, &folder);
    let entry = ledger.begin(row(7));
    let id = entry.row().id;
    assert_eq!(ledger.standing().open, 1);
    drop(entry);
    ledger.flush().await;
    let rows = found(&store.inner).await;
    assert_eq!(rows.into_iter().collect::<Vec<_>>(), [(id, (7, true))]);
    use steadfast_ledger::LedgerStore as _;
    let rows = store.inner.rows(Duration::ZERO, Duration::MAX, None, 10).await.unwrap();
    assert_eq!(rows[0].kind, RowKind::Left);
    assert_eq!(ledger.standing().open, 0);
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_is_dropped_loses_nothing() {
    let (folder, store) = (Folder::new("flush"), Flaky::default());
    store.set_away(true);
    let ledger = open(&store, &folder);
    ledger.record(row(3));
    assert!(tokio::time::timeout(Duration::from_secs(10), ledger.flush()).await.is_err());
    store.set_away(false);
    until(async || ledger.standing().waiting == 0).await;
    assert_eq!(sum(&store.inner).await.cost.nanos(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_leaves_with_rows_and_they_are_stored() {
    let (folder, store) = (Folder::new("handle"), Flaky::default());
    let ledger = open(&store, &folder);
    for nanos in 0..700 {
        ledger.record(row(nanos));
    }
    let entry = ledger.begin(row(1_000_000));
    drop(ledger);
    // The entry is a handle too.
    entry.end(row(1));
    until(async || sum(&store.inner).await.rows == 701).await;
    assert_eq!(sum(&store.inner).await.cost.nanos(), 699 * 700 / 2 + 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_leaves_while_the_store_is_away_and_the_next_start_has_the_rows() {
    let (folder, store) = (Folder::new("next"), Flaky::default());
    store.set_away(true);
    let ledger = open(&store, &folder);
    ledger.record(row(8));
    ledger.write().await;
    drop(ledger);
    // Its files are locked until its thread has ended.
    store.set_away(false);
    let away = Flaky::over(store.inner.clone());
    until(async || {
        open(&away, &folder).flush().await;
        sum(&store.inner).await.rows == 1
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_ledger_without_a_folder_stores_its_rows() {
    let store = Flaky::default();
    let ledger = Ledger::open(Arc::new(store.clone()), None, settings()).unwrap();
    ledger.begin(row(100)).end(row(1));
    ledger.record(row(2));
    ledger.flush().await;
    assert_eq!(sum(&store.inner).await.cost.nanos(), 3);
    assert_eq!(ledger.standing().journal_bytes, 0);
}
