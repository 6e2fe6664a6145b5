//! Bounds of the journal and of the memory.

use std::sync::Arc;

use steadfast_ledger::{Ledger, LedgerSettings};

use crate::place::{Flaky, Folder, row, settings, sum, until};

fn open(store: &Flaky, folder: Option<&Folder>, settings: LedgerSettings) -> Ledger {
    Ledger::open(Arc::new(store.clone()), folder.map(Folder::path), settings).unwrap()
}

#[tokio::test(start_paused = true)]
async fn rows_beyond_the_memory_wait_in_the_journal_and_come_back() {
    let (folder, store) = (Folder::new("spilled"), Flaky::default());
    store.set_away(true);
    let ledger = open(&store, Some(&folder), settings().memory_rows(10));
    for nanos in 1..=5000 {
        ledger.record(row(nanos));
    }
    ledger.write().await;
    let standing = ledger.standing();
    assert_eq!((standing.waiting, standing.lost, standing.journal_problem), (5000, 0, None));
    assert!(standing.journal_bytes > 500_000);
    store.set_away(false);
    ledger.flush().await;
    assert_eq!(sum(&store.inner).await.cost.nanos(), 5000 * 5001 / 2);
    assert_eq!(ledger.standing().waiting, 0);
    until(async || ledger.standing().journal_bytes == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_journal_and_a_full_memory_lose_rows_and_tell_how_many() {
    let (folder, store) = (Folder::new("full"), Flaky::default());
    store.set_away(true);
    let ledger = open(&store, Some(&folder), settings().memory_rows(10).journal_bytes(8192));
    let entries: Vec<_> = (0..200).map(|_| ledger.begin(row(1))).collect();
    for entry in entries {
        entry.end(row(1));
    }
    ledger.write().await;
    let standing = ledger.standing();
    assert!(standing.lost > 100 && standing.waiting + standing.lost == 200, "{standing:?}");
    assert!(standing.journal_bytes <= 8192 && standing.journal_problem.is_some(), "{standing:?}");
    assert!(!standing.is_well());
    let waiting = standing.waiting;
    store.set_away(false);
    ledger.flush().await;
    assert_eq!(sum(&store.inner).await.rows, waiting);
    until(async || ledger.standing().journal_problem.is_none()).await;
    ledger.record(row(1));
    ledger.flush().await;
    assert_eq!(sum(&store.inner).await.rows, waiting + 1);
    assert_eq!(ledger.standing().lost, standing.lost);
}

#[tokio::test(start_paused = true)]
async fn a_memory_without_a_journal_is_bounded_too() {
    let store = Flaky::default();
    store.set_away(true);
    let ledger = open(&store, None, settings().memory_rows(10));
    for _ in 0..100 {
        ledger.record(row(1));
    }
    ledger.write().await;
    let standing = ledger.standing();
    assert!(standing.waiting <= 20 && standing.waiting + standing.lost == 100, "{standing:?}");
    store.set_away(false);
    ledger.flush().await;
    assert_eq!(sum(&store.inner).await.rows + ledger.standing().lost, 100);
}

#[tokio::test(start_paused = true)]
async fn segments_are_deleted_while_requests_stay_open_and_a_kill_counts_those() {
    let (folder, store) = (Folder::new("segments"), Flaky::default());
    // Segments of 16 KiB.
    let ledger = open(&store, Some(&folder), settings().journal_bytes(65_536));
    let open_entries: Vec<_> = (0..20).map(|_| ledger.begin(row(1_000_000))).collect();
    for round in 0..40 {
        for _ in 0..50 {
            ledger.begin(row(100)).end(row(1));
        }
        ledger.flush().await;
        let standing = ledger.standing();
        assert_eq!((standing.lost, standing.journal_problem), (0, None), "{round}");
    }
    ledger.record(row(0));
    ledger.write().await;
    let names: Vec<_> = folder.files().into_keys().collect();
    assert!(names.len() <= 3 && !names[0].ends_with("-00000001.jsonl"), "{names:?}");
    let killed = folder.killed("segments-killed");
    let again = open(&store, Some(&killed), settings());
    again.flush().await;
    let spend = sum(&store.inner).await;
    assert_eq!((spend.cost.nanos(), spend.estimates), (2000 + 20 * 1_000_000, 20));
    drop(open_entries);
    ledger.flush().await;
    assert_eq!(sum(&store.inner).await.rows, spend.rows, "the ids are known");
}
