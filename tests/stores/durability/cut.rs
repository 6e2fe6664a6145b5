//! The power fails: of what was being written, the disk has a part, or noise.

use std::{fs, time::Duration};

use crate::{
    durability::{
        process::{REASON, Request, asks, desk},
        told::Told,
    },
    testing::Folder,
};

/// SQLite's log, cut or spoilt anywhere, holds the tasks that were written before that place, and each of them whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_ends_anywhere_holds_whole_tasks_and_loses_only_the_last() {
    let folder = Folder::new("durability-cut");
    let store = folder.file();
    let mut random = fastrand::Rng::with_seed(6);
    let open = desk(store.to_str().unwrap()).await;
    // The length of the log when each was acknowledged.
    let (mut requests, mut ends) = (Vec::new(), Vec::new());
    let log = store.with_extension("db-wal");
    for number in 0..12 {
        let request = Request::new(number, &mut random);
        let task = asks(&open, &request.text, request.key.as_deref()).await.unwrap();
        requests.push((request, task));
        ends.push(fs::metadata(&log).unwrap().len());
    }
    let (file, log) = (fs::read(&store).unwrap(), fs::read(&log).unwrap());
    assert!(ends.is_sorted() && ends[0] < log.len() as u64, "a checkpoint came in between");
    for cut in 0..40 {
        let at = random.usize(..=log.len());
        let mut left = log[..at].to_vec();
        if cut % 2 == 0 {
            left.resize_with(log.len(), || random.u8(..));
        }
        let again = folder.path().join(format!("cut-{cut}.db"));
        fs::write(&again, &file).unwrap();
        fs::write(again.with_extension("db-wal"), left).unwrap();
        let mut told = Told::default();
        for ((request, task), end) in requests.iter().zip(&ends) {
            told.sends(&request.text, request.key.is_some());
            if *end <= at as u64 {
                told.acknowledged(&request.text, task.parse().unwrap());
            }
        }
        let desk = desk(again.to_str().unwrap()).await.store_timeout(Duration::from_secs(60));
        told.is_borne_out(&desk, REASON).await;
    }
}

async fn a_file_with_one_task(test: &str, then: &str) -> (Folder, Told) {
    let (folder, mut told) = (Folder::new(test), Told::default());
    let desk = desk(folder.file().to_str().unwrap()).await;
    told.sends("hello", false);
    told.acknowledged("hello", asks(&desk, "hello", None).await.unwrap().parse().unwrap());
    rusqlite::Connection::open(folder.file()).unwrap().execute_batch(then).unwrap();
    (folder, told)
}

#[tokio::test]
#[should_panic(expected = "acknowledged and not there")]
async fn a_lost_task_would_be_noticed() {
    let (folder, told) = a_file_with_one_task("durability-lost", "DELETE FROM tasks").await;
    told.is_borne_out(&desk(folder.file().to_str().unwrap()).await, REASON).await;
}

#[tokio::test]
#[should_panic(expected = "some cannot be read")]
async fn a_damaged_task_would_be_noticed() {
    let (folder, told) = a_file_with_one_task("durability-damaged", "UPDATE tasks SET created_at = 'x'").await;
    told.is_borne_out(&desk(folder.file().to_str().unwrap()).await, REASON).await;
}
