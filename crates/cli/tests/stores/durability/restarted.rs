//! The database's server is restarted under a gateway that goes on.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use crate::durability::{
    cluster::Cluster,
    gateway::{PATHS, Place, REASON, SECRET_WORDS, task_of},
    scale,
    storm::{Under, desk},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_gateway_said_is_queued_outlives_restarts_of_the_databases_server() {
    let Some(cluster) = Cluster::start("durability-gateway") else { return };
    let cluster = Arc::new(cluster);
    let (scale, started) = (scale(), Instant::now());
    let place = Place::new(&cluster.url(), "{}");
    let mut gateway = place.start().await;
    let mut under = Under::begins(place, &cluster.url());
    let storm = under.storm.clone();
    let mut random = fastrand::Rng::with_seed(6);
    for _ in 0..scale.restarts {
        // It heals by itself each time.
        under.until(storm.acknowledged() + random.usize(1..=2 * scale.tasks / (scale.restarts + 1))).await;
        let server = cluster.clone();
        tokio::task::spawn_blocking(move || server.crashes_and_restarts()).await.unwrap();
    }
    under.until(scale.tasks.max(storm.acknowledged() + 20)).await;
    drop(under.ends().await);

    let server = cluster.clone();
    tokio::task::spawn_blocking(move || server.crashes()).await.unwrap();
    let mut told = std::mem::take(&mut *storm.told.lock().unwrap());
    for path in PATHS {
        told.sends("while it is away", true);
        let answer = storm.place.asks(path, "while it is away", Some("away")).await.unwrap();
        assert_eq!(task_of(&answer, path), None, "{answer:?}");
    }
    let server = cluster.clone();
    tokio::task::spawn_blocking(move || server.starts_again()).await.unwrap();
    crate::durability::until("it is queued again", async || {
        told.sends("once it is back", true);
        let answer = storm.place.asks(PATHS[0], "once it is back", Some("back")).await.unwrap();
        task_of(&answer, PATHS[0]).map(|task| told.acknowledged("once it is back", task.parse().unwrap())).is_some()
    })
    .await;
    assert_eq!(gateway.ended(), None);
    gateway.kill();
    let found = told.is_borne_out(&desk(&cluster.url()).await.unwrap(), REASON).await;
    let (acknowledged, refused) = (told.acknowledgements(), storm.refused.load(Relaxed));
    println!("{acknowledged} acknowledged, {refused} refused, {found:?}, {:.1?}", started.elapsed());
    assert!(found.answered > 0);
    let log = storm.place.serve.log();
    assert!(!log.contains(SECRET_WORDS) && !log.contains("panicked"), "{log}");
}
