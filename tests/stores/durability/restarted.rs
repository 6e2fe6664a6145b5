//! The server is restarted under a process that goes on.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use steadfast_handoff::Desk;
use tokio::time::timeout;

use crate::durability::{
    cluster::Cluster,
    process::{REASON, Request, asks, desk},
    scale,
    told::Told,
};

const CLIENTS: usize = 16;
/// A machine that is slower than this has another problem.
const LONG: Duration = Duration::from_secs(60);

/// The work of clients and people while the server comes and goes.
#[derive(Default)]
struct Storm {
    told: Mutex<Told>,
    numbers: AtomicUsize,
    refused: AtomicUsize,
    is_over: AtomicBool,
}

impl Storm {
    /// One client, who sends a request until it is acknowledged, and then the next.
    async fn client(self: Arc<Self>, desk: Desk) {
        let mut random = fastrand::Rng::with_seed(self.numbers.load(Ordering::Relaxed) as u64);
        while !self.is_over.load(Ordering::Relaxed) {
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let request = Request::new(number, &mut random);
            let id = loop {
                self.told.lock().unwrap().sends(&request.text, request.key.is_some());
                match asks(&desk, &request.text, request.key.as_deref()).await {
                    Ok(task) => break task.parse().unwrap(),
                    Err(error) => {
                        assert!(error.contains("the store cannot be reached"), "{error}");
                        self.refused.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            };
            self.told.lock().unwrap().acknowledged(&request.text, id);
            if random.u8(..).is_multiple_of(4) {
                let said = format!("ana's answer of {id}");
                self.told.lock().unwrap().answers(id, "ana", &said);
                if desk.answer(id, "ana", said).await.is_ok() {
                    self.told.lock().unwrap().answered(id, "ana");
                }
            }
        }
    }

    fn acknowledged(&self) -> usize {
        self.told.lock().unwrap().acknowledgements()
    }

    /// Waits until so many are acknowledged.
    async fn until(&self, acknowledged: usize) {
        let looks = async {
            while self.acknowledged() < acknowledged {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(LONG, looks).await.expect("it goes on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_in_a_database_outlive_restarts_of_its_server() {
    let Some(cluster) = Cluster::start("durability") else { return };
    let cluster = Arc::new(cluster);
    let (scale, started) = (scale(), Instant::now());
    let (storm, store) = (Arc::new(Storm::default()), desk(&cluster.url()).await);
    let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(storm.clone().client(store.clone()))).collect();
    let mut random = fastrand::Rng::with_seed(6);
    for restart in 1..=scale.restarts {
        let before = storm.acknowledged();
        // It heals by itself each time.
        storm.until(before + random.usize(1..=2 * scale.tasks / (scale.restarts + 1))).await;
        let server = cluster.clone();
        tokio::task::spawn_blocking(move || server.crashes_and_restarts()).await.unwrap();
        println!(
            "restart {restart}: {} acknowledged, {} refused",
            storm.acknowledged(),
            storm.refused.load(Ordering::Relaxed)
        );
    }
    storm.until(scale.tasks.max(storm.acknowledged() + CLIENTS)).await;
    storm.is_over.store(true, Ordering::Relaxed);
    for client in clients {
        timeout(LONG, client).await.unwrap().unwrap();
    }
    let Storm { told, refused, .. } = Arc::into_inner(storm).unwrap();
    assert!(refused.into_inner() > 0, "nobody noticed");
    let told = told.into_inner().unwrap();
    let found = told.is_borne_out(&store, REASON).await;
    println!("{} acknowledged, {found:?}, {:.1?}", told.acknowledgements(), started.elapsed());
    assert!(found.answered > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_is_away_nobody_is_told_that_a_request_is_queued() {
    let Some(cluster) = Cluster::start("durability-away") else { return };
    let desk = desk(&cluster.url()).await;
    let mut told = Told::default();
    told.sends("before", true);
    told.acknowledged("before", asks(&desk, "before", Some("1")).await.unwrap().parse().unwrap());
    cluster.crashes();
    for _ in 0..3 {
        told.sends("meanwhile", true);
        let error = asks(&desk, "meanwhile", Some("2")).await.unwrap_err();
        assert!(error.contains("the store cannot be reached"), "{error}");
    }
    cluster.starts_again();
    told.sends("after", true);
    told.acknowledged("after", asks(&desk, "after", Some("3")).await.unwrap().parse().unwrap());
    told.is_borne_out(&desk, REASON).await;
}
