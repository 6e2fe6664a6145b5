//! Clients who ask until they are told that their request is queued, and people who answer.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use steadfast_handoff::{Desk, TaskId};
use tokio::{sync::mpsc, task::JoinSet};

use crate::durability::{
    LONG,
    gateway::{PATHS, Place, SECRET_WORDS, task_of},
    told::Told,
    until,
};

const CLIENTS: usize = 16;

pub(crate) struct Storm {
    pub(crate) told: Mutex<Told>,
    pub(crate) place: Place,
    store: String,
    numbers: AtomicUsize,
    /// The number of requests that were not queued.
    pub(crate) refused: AtomicUsize,
    is_over: AtomicBool,
}

/// A desk over what a configuration names as its durable store.
pub(crate) async fn desk(store: &str) -> Result<Desk, steadfast::store::StoreError> {
    #[cfg(feature = "postgres")]
    if store.starts_with("postgres:") {
        return steadfast_stores::postgres::Postgres::connect(store).await.map(Desk::new);
    }
    let file = store.trim_start_matches("sqlite:").to_owned();
    tokio::task::spawn_blocking(|| steadfast_stores::sqlite::Sqlite::open(file).map(Desk::new)).await.unwrap()
}

/// Clients and people at work.
pub(crate) struct Under {
    pub(crate) storm: Arc<Storm>,
    clients: JoinSet<()>,
    people: JoinSet<()>,
}

impl Under {
    pub(crate) fn begins(place: Place, store: &str) -> Self {
        let storm = Arc::new(Storm {
            told: Mutex::default(),
            place,
            store: store.to_owned(),
            numbers: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        });
        let (mut clients, mut people) = (JoinSet::new(), JoinSet::new());
        let (tells, told) = mpsc::unbounded_channel();
        for client in 0..CLIENTS {
            clients.spawn(storm.clone().asks(client, tells.clone()));
        }
        people.spawn(storm.clone().answers(told));
        Self { storm, clients, people }
    }

    /// Waits until so many are acknowledged.
    pub(crate) async fn until(&mut self, acknowledged: usize) {
        until("requests are acknowledged", async || {
            if let Some(ended) = self.clients.try_join_next() {
                ended.unwrap();
            }
            self.storm.acknowledged() >= acknowledged
        })
        .await;
    }

    /// Every client has its last answer, while a gateway is there.
    pub(crate) async fn ends(self) -> Arc<Storm> {
        self.storm.is_over.store(true, Relaxed);
        for mut those in [self.clients, self.people] {
            let ended = async {
                while let Some(ended) = those.join_next().await {
                    ended.unwrap();
                }
            };
            tokio::time::timeout(LONG, ended).await.expect("it is over in time");
        }
        self.storm
    }
}

impl Storm {
    pub(crate) fn acknowledged(&self) -> usize {
        self.told.lock().unwrap().acknowledgements()
    }

    /// Runs a client that sends one request after another.
    async fn asks(self: Arc<Self>, client: usize, tells: mpsc::UnboundedSender<TaskId>) {
        let mut random = fastrand::Rng::with_seed(client as u64);
        while !self.is_over.load(Relaxed) {
            let number = self.numbers.fetch_add(1, Relaxed);
            let path = PATHS[random.usize(..2)];
            // From a word to several pages of the store.
            let length = if random.bool() { random.usize(0..200) } else { random.usize(0..40_000) };
            let text = format!("{number} {SECRET_WORDS} {}", "w".repeat(length));
            let key = random.bool().then(|| format!("key-{number}"));
            let task = loop {
                self.told.lock().unwrap().sends(&text, key.is_some());
                // An error is of a connection that a killed gateway broke off, or has not taken yet.
                if let Ok(answer) = self.place.asks(path, &text, key.as_deref()).await {
                    if let Some(task) = task_of(&answer, path) {
                        break task.parse().unwrap();
                    }
                    self.refused.fetch_add(1, Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            };
            self.told.lock().unwrap().acknowledged(&text, task);
            if random.u8(..).is_multiple_of(4) {
                let _ = tells.send(task);
            }
        }
    }

    /// A person, who opens the store anew each time: of the gateway and people, one or the other finds what a kill has
    /// left.
    async fn answers(self: Arc<Self>, mut told: mpsc::UnboundedReceiver<TaskId>) {
        while let Some(task) = told.recv().await {
            let said = format!("ana's answer of {task}");
            let Ok(desk) = desk(&self.store).await else { continue };
            self.told.lock().unwrap().answers(task, "ana", &said);
            if desk.answer(task, "ana", said).await.is_ok() {
                self.told.lock().unwrap().answered(task, "ana");
            }
        }
    }
}
