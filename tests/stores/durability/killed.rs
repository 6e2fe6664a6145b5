//! The process is killed at random moments, and another goes on with the same store.

use std::{
    collections::{BTreeSet, HashSet},
    thread,
    time::{Duration, Instant},
};

use crate::{
    durability::{
        process::{Heard, Process, REASON, Request, desk},
        scale,
        told::{Found, Told},
    },
    testing::Folder,
};

/// Requests under way at a time.
const CLIENTS: usize = 16;

/// The work of clients, people and the killer.
struct Storm {
    told: Told,
    random: fastrand::Rng,
    requests: Vec<Request>,
    /// The requests that are sent and not acknowledged: sent again when the process is killed.
    under_way: BTreeSet<usize>,
    kills: usize,
    /// The requests that the store was too late for.
    refused: usize,
}

impl Storm {
    fn new() -> Self {
        let random = fastrand::Rng::with_seed(6);
        Self { told: Told::default(), random, requests: Vec::new(), under_way: BTreeSet::new(), kills: 0, refused: 0 }
    }

    /// Until enough is acknowledged and the process was killed often enough.
    fn rages(&mut self, store: &str) {
        let scale = scale();
        while self.kills < scale.kills || self.told.acknowledgements() < scale.tasks {
            let left = scale.tasks.saturating_sub(self.told.acknowledgements());
            let lives = scale.kills.saturating_sub(self.kills).max(1);
            let mut process = Process::start(store);
            // Some are killed while they open the store, or right after.
            if !self.random.u8(..).is_multiple_of(8) {
                let share = self.random.usize(1..=(2 * left / lives).max(2));
                self.lives(&mut process, share);
            }
            // In the middle of whatever it is at.
            thread::sleep(Duration::from_micros(self.random.u64(..5000)));
            for heard in process.kill() {
                self.hears(heard);
            }
            self.kills += 1;
        }
    }

    /// Until so many more are acknowledged.
    fn lives(&mut self, process: &mut Process, acknowledged: usize) {
        for &number in &self.under_way {
            process.ask(&mut self.told, number, &self.requests[number]);
        }
        let until = self.told.acknowledgements() + acknowledged;
        while self.told.acknowledgements() < until {
            while self.under_way.len() < CLIENTS {
                let number = self.requests.len();
                self.requests.push(Request::new(number, &mut self.random));
                self.under_way.insert(number);
                process.ask(&mut self.told, number, &self.requests[number]);
            }
            let heard = process.hear();
            if let Heard::Refused(number) = heard {
                self.refused += 1;
                assert!(self.refused < 100, "the store is late again and again");
                process.ask(&mut self.told, number, &self.requests[number]);
            }
            if let Some(task) = self.hears(heard)
                && self.random.u8(..).is_multiple_of(4)
            {
                let who = ["ana", "ben"][self.random.usize(..2)];
                process.answer(&mut self.told, &task, who, &format!("{who}'s answer of {task}"));
            }
        }
    }

    /// Gives the task that was acknowledged.
    fn hears(&mut self, heard: Heard) -> Option<String> {
        match heard {
            Heard::Ready | Heard::Refused(_) => None,
            Heard::Answered(task, who) => {
                self.told.answered(task.parse().unwrap(), &who);
                None
            }
            Heard::Asked(number, task) => {
                self.under_way.remove(&number);
                self.told.acknowledged(&self.requests[number].text, task.parse().unwrap());
                Some(task)
            }
        }
    }

    /// Another process finds all of it.
    async fn ends(self, store: &str, started: Instant) -> Found {
        let found = self.told.is_borne_out(&desk(store).await, REASON).await;
        let acknowledged = self.told.acknowledgements();
        println!("{} kills, {acknowledged} acknowledged, {found:?}, {:.1?}", self.kills, started.elapsed());
        assert!(found.answered > 0 && found.tasks >= acknowledged);
        found
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_in_a_file_outlive_kills() {
    let folder = Folder::new("durability-file");
    let (started, mut storm) = (Instant::now(), Storm::new());
    let store = folder.file().display().to_string();
    storm.rages(&store);
    storm.ends(&store, started).await;
    let file = rusqlite::Connection::open(&store).unwrap();
    let said: String = file.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(said, "ok");
    let mut ids = file.prepare("SELECT id FROM tasks").unwrap();
    let ids: Vec<String> = ids.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(ids.len(), ids.iter().collect::<HashSet<_>>().len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_in_a_database_outlive_kills() {
    let Some(schema) = crate::testing::Schema::new("durability").await else { return };
    let (started, mut storm) = (Instant::now(), Storm::new());
    storm.rages(schema.url());
    storm.ends(schema.url(), started).await;
    schema.ends().await;
}
