//! A real process is killed at any moment, and many threads write at once.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a real process keeps real time")]

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use fastrand::Rng;
use steadfast_ledger::RowId;

use crate::place::{Flaky, Folder, found, open, row, sum};

/// The folder for the process that is killed.
const CHILD: &str = "STEADFAST_TEST_LEDGER_FOLDER";

/// The process that is killed: it says what its journal has.
#[tokio::test]
async fn child() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let store = Flaky::default();
    store.set_away(true);
    let settings = crate::place::settings().journal_bytes(1 << 20).memory_rows(100);
    let ledger = steadfast_ledger::Ledger::open(std::sync::Arc::new(store), Some(folder.as_ref()), settings).unwrap();
    let mut open = Vec::new();
    for nanos in 0.. {
        let entry = ledger.begin(row(1000));
        ledger.write().await;
        println!("\nbegun {} 1000", entry.row().id);
        open.push(entry);
        if nanos % 3 > 0 {
            let entry = open.swap_remove(nanos as usize % open.len());
            let id = entry.row().id;
            entry.end(row(nanos));
            ledger.write().await;
            println!("\nended {id} {nanos}");
        }
    }
}

#[tokio::test]
async fn what_a_killed_process_has_said_is_counted() {
    let mut random = Rng::with_seed(5);
    for kill in 0..10 {
        let folder = Folder::new(&format!("child-{kill}"));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::child", "--nocapture", "--test-threads=1"])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut said, wanted) = (BTreeMap::<RowId, (u64, bool)>::new(), random.usize(1..400));
        let mut hear = |line: String| {
            let words: Vec<_> = line.split(' ').collect();
            if let [mark @ ("begun" | "ended"), id, nanos] = words[..]
                && let (Ok(id), Ok(nanos)) = (id.parse(), nanos.parse())
            {
                said.insert(id, (nanos, mark == "begun"));
            }
            said.len()
        };
        for line in lines.by_ref() {
            if hear(line.unwrap()) >= wanted {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        lines.map_while(Result::ok).for_each(|line| {
            hear(line);
        });
        let store = Flaky::default();
        let ledger = open(&store, &folder);
        ledger.flush().await;
        let found = found(&store.inner).await;
        for (id, (nanos, is_open)) in &said {
            let (counted, is_estimate) = found[id];
            // Its end may have been written and not said.
            assert!((counted, is_estimate) == (*nanos, *is_open) || *is_open && !is_estimate, "{id}");
        }
        assert!(found.len() - said.len() <= 1, "a request that was not said");
        assert_eq!(sum(&store.inner).await.rows, found.len() as u64);
        assert_eq!(ledger.standing().damaged, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_many_threads_are_counted_once_each() {
    let (folder, store) = (Folder::new("threads"), Flaky::default());
    store.set_lost_answers(3);
    let ledger = open(&store, &folder);
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let ledger = ledger.clone();
            std::thread::spawn(move || {
                let mut entries = Vec::new();
                for nanos in 1..=1000 {
                    entries.push(ledger.begin(row(1_000_000)));
                    if nanos % 10 == 0 {
                        entries.drain(..).for_each(|entry| entry.end(row(nanos / 10)));
                    }
                }
            })
        })
        .collect();
    while !threads.iter().all(std::thread::JoinHandle::is_finished) {
        ledger.flush().await;
    }
    ledger.flush().await;
    let spend = sum(&store.inner).await;
    assert_eq!((spend.rows, spend.cost.nanos(), spend.estimates), (8000, 8 * 10 * 100 * 101 / 2, 0));
    assert_eq!((ledger.standing().open, ledger.standing().waiting), (0, 0));
}
