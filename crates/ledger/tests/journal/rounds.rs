//! Random lives of processes: whatever fails, the sum is that of a count by hand.

use std::{collections::BTreeMap, sync::Arc};

use fastrand::Rng;
use steadfast_ledger::{Ledger, MemoryLedger};

use crate::place::{Flaky, Folder, found, row, settings, sum};

/// The count by hand: settled amounts in all, and those with a known id.
#[derive(Default)]
struct Count {
    nanos: u64,
    rows: u64,
    estimates: u64,
    entries: BTreeMap<steadfast_ledger::RowId, (u64, bool)>,
}

impl Count {
    fn add(&mut self, nanos: u64, is_estimate: bool) {
        self.nanos += nanos;
        self.rows += 1;
        self.estimates += u64::from(is_estimate);
    }
}

async fn run(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let (all, mut count) = (MemoryLedger::new(), Count::default());
    let mut folder = Folder::new(&format!("rounds-{seed}-0"));
    for life in 1..=random.u64(2..6) {
        let store = Flaky::over(all.clone());
        store.set_lost_answers(random.u64(0..4));
        let settings = settings()
            .memory_rows([1, 7, 20_000][random.usize(..3)])
            .journal_bytes([200_000, 1_000_000, 256 << 20][random.usize(..3)]);
        let ledger = Ledger::open(Arc::new(store.clone()), Some(folder.path()), settings).unwrap();
        let mut open = Vec::new();
        for _ in 0..random.usize(1..150) {
            match random.u8(..16) {
                0..=5 => open.push(ledger.begin(row(random.u64(1..1000)))),
                6..=10 if !open.is_empty() => {
                    let entry = open.swap_remove(random.usize(..open.len()));
                    let (id, nanos) = (entry.row().id, random.u64(1..1000));
                    count.add(nanos, false);
                    count.entries.insert(id, (nanos, false));
                    entry.end(row(nanos));
                }
                11 if !open.is_empty() => {
                    let entry = open.swap_remove(random.usize(..open.len()));
                    let nanos = entry.row().list.unwrap().nanos();
                    count.add(nanos, true);
                    count.entries.insert(entry.row().id, (nanos, true));
                }
                12 => {
                    let nanos = random.u64(1..1000);
                    count.add(nanos, false);
                    ledger.record(row(nanos));
                }
                13 => store.set_away(random.bool()),
                14 => ledger.write().await,
                _ => tokio::time::sleep(std::time::Duration::from_millis(random.u64(..3000))).await,
            }
        }
        ledger.write().await;
        assert_eq!((ledger.standing().lost, ledger.standing().journal_problem), (0, None), "{seed}");
        // The kill: nothing of this life reaches the store any longer.
        store.set_away(true);
        for entry in &open {
            let nanos = entry.row().list.unwrap().nanos();
            count.add(nanos, true);
            count.entries.insert(entry.row().id, (nanos, true));
        }
        folder = folder.killed(&format!("rounds-{seed}-{life}"));
        drop((open, ledger));
    }
    let store = Flaky::over(all.clone());
    let ledger = Ledger::open(Arc::new(store), Some(folder.path()), settings()).unwrap();
    ledger.flush().await;
    let (spend, rows) = (sum(&all).await, found(&all).await);
    assert_eq!((spend.cost.nanos(), spend.rows, spend.estimates), (count.nanos, count.rows, count.estimates), "{seed}");
    for (id, entry) in &count.entries {
        assert_eq!(rows.get(id), Some(entry), "{seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn fifty_random_rounds_come_to_the_sum_of_a_count_by_hand() {
    for seed in 0..50 {
        run(seed).await;
    }
}
