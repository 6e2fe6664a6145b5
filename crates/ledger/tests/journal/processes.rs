//! Processes that share a folder.

use crate::place::{Flaky, Folder, open, row, sum};

#[tokio::test(start_paused = true)]
async fn two_writers_in_one_folder_leave_each_others_files_alone() {
    let (folder, store) = (Folder::new("writers"), Flaky::default());
    let here = open(&store, &folder);
    let entry = here.begin(row(1000));
    here.write().await;
    let there = open(&store, &folder);
    there.record(row(2));
    there.flush().await;
    assert_eq!(sum(&store.inner).await.cost.nanos(), 2, "what is in flight elsewhere is not counted");
    entry.end(row(1));
    here.flush().await;
    assert_eq!(sum(&store.inner).await.cost.nanos(), 3);
}

#[tokio::test(start_paused = true)]
async fn of_all_that_start_at_once_each_journal_is_read_by_one() {
    let (folder, store) = (Folder::new("at-once"), Flaky::default());
    store.set_away(true);
    let ledger = open(&store, &folder);
    for nanos in 1..=1000 {
        ledger.begin(row(1_000_000)).end(row(nanos));
    }
    let _in_flight = ledger.begin(row(77));
    ledger.write().await;
    let killed = folder.killed("at-once-killed");
    let store = Flaky::default();
    let starts: Vec<_> = (0..8).map(|_| open(&store, &killed)).collect();
    let replays: u64 = starts.iter().map(|ledger| ledger.standing().replays).sum();
    assert_eq!(replays, 1);
    for ledger in &starts {
        ledger.flush().await;
    }
    let spend = sum(&store.inner).await;
    assert_eq!((spend.cost.nanos(), spend.rows, spend.estimates), (1000 * 1001 / 2 + 77, 1001, 1));
}

#[tokio::test(start_paused = true)]
async fn files_of_others_in_the_folder_stay_as_they_are() {
    let names = ["ledger-.jsonl", "ledger-12-1.jsonl.bak", "ledger-x-1.jsonl", "notes.txt", "ledger-1-2.damaged"];
    let files = names.map(|name| (name.to_owned(), b"hello\n".to_vec())).into();
    let folder = Folder::with("others", &files);
    let store = Flaky::default();
    let ledger = open(&store, &folder);
    ledger.flush().await;
    let mut left = folder.files();
    left.retain(|name, _| files.contains_key(name));
    assert_eq!(left, files);
    assert_eq!(ledger.standing().damaged, 0);
}
