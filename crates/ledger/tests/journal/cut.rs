//! A kill may cut the journal anywhere.

use std::collections::BTreeMap;

use serde_json::Value;
use steadfast_ledger::{Ledger, LedgerRow, MemoryLedger, RowId};

use crate::place::{Flaky, Folder, found, open, row, settings, sum};

/// Reads whole lines without the code under test: settled rows as they are, open ones by their estimate.
fn model(text: &[u8]) -> BTreeMap<RowId, (u64, bool)> {
    let mut rows = BTreeMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let Ok(line) = serde_json::from_slice::<Value>(line) else { continue };
        for (mark, is_estimate) in [("begun", true), ("ended", false)] {
            if let Some(row) = line.get(mark) {
                let is_estimate = is_estimate || row["is_estimate"] == true;
                rows.insert(row["id"].as_str().unwrap().parse().unwrap(), (row["list"].as_u64().unwrap(), is_estimate));
            }
        }
    }
    rows
}

/// A journal of which nothing is stored: three requests, of which two end and one stays open.
async fn journal(test: &str) -> (String, Vec<u8>) {
    let (folder, store) = (Folder::new(test), Flaky::default());
    store.set_away(true);
    let ledger = open(&store, &folder);
    let entries = [1000, 2000, 4000].map(|nanos| ledger.begin(row(nanos)));
    let [one, other, _open] = entries;
    one.end(row(1));
    ledger.record(row(10));
    other.end(row(2));
    ledger.write().await;
    let mut files = folder.files().into_iter();
    let file = files.next().unwrap();
    assert!(files.next().is_none());
    file
}

#[tokio::test(start_paused = true)]
async fn a_file_cut_at_every_byte_of_its_last_records_has_all_before() {
    let (name, text) = journal("cut").await;
    let lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len(), 6);
    let first = text.len() - lines[4].len() - lines[5].len();
    let mut sums = std::collections::BTreeSet::new();
    for at in first..=text.len() {
        let cut = &text[..at];
        let folder = Folder::with("cut-again", &[(name.clone(), cut.to_vec())].into());
        let store = Flaky::default();
        let ledger = open(&store, &folder);
        ledger.flush().await;
        assert_eq!(found(&store.inner).await, model(cut), "{at}");
        sums.insert(sum(&store.inner).await.cost.nanos());
        assert_eq!(ledger.standing().damaged, 0, "{at}");
        assert!(!folder.files().contains_key(&name), "{at}: it is gone once it is stored");
    }
    // By the model's words: the last two settle 10, and 2 in place of 2000.
    assert_eq!(sums.into_iter().collect::<Vec<_>>(), [4013, 6001, 6011]);
}

#[tokio::test(start_paused = true)]
async fn a_journal_replayed_twice_counts_once() {
    let (name, text) = journal("twice").await;
    let store = Flaky::default();
    for _ in 0..2 {
        let folder = Folder::with("twice-again", &[(name.clone(), text.clone())].into());
        open(&store, &folder).flush().await;
        assert_eq!(sum(&store.inner).await.cost.nanos(), 4013);
    }
}

#[tokio::test(start_paused = true)]
async fn damage_in_the_middle_costs_its_line_alone_and_the_file_is_kept() {
    let (name, text) = journal("damage").await;
    let mut lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    lines[4] = b"{\"ended\":{\"id\":\xff\n".to_vec();
    let text = lines.concat();
    let folder = Folder::with("damage-again", &[(name.clone(), text.clone())].into());
    let store = Flaky::default();
    let ledger = open(&store, &folder);
    ledger.flush().await;
    assert_eq!(found(&store.inner).await, model(&text));
    assert_eq!(ledger.standing().damaged, 1);
    let left = folder.files();
    assert_eq!(left.get(&name.replace(".jsonl", ".damaged")), Some(&text));
    drop(ledger);
    // Nobody reads it again.
    let again = open(&store, &folder);
    again.flush().await;
    assert_eq!(again.standing().damaged, 0);
}

#[tokio::test(start_paused = true)]
async fn fields_of_a_later_version_are_left_out() {
    let (name, text) = journal("later").await;
    let text = String::from_utf8(text).unwrap().replace("\"usage\"", "\"colour\":[1,{\"a\":2}],\"usage\"");
    let folder = Folder::with("later-again", &[(name, text.into_bytes())].into());
    let store = Flaky::default();
    open(&store, &folder).flush().await;
    assert_eq!(sum(&store.inner).await.cost.nanos(), 4013);
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn the_journal_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new("mode");
    let inner = folder.path().join("journal");
    let ledger = Ledger::open(std::sync::Arc::new(MemoryLedger::new()), Some(&inner), settings()).unwrap();
    ledger.record(LedgerRow::default());
    ledger.write().await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&inner), 0o700);
    for file in std::fs::read_dir(&inner).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
}
