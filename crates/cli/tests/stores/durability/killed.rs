//! The gateway is killed at random moments, and the next one goes on with the same file.

use std::time::{Duration, Instant};

use steadfast_handoff::{Delivery, DeliveryKind, DeliveryState, Desk, Task, TaskFilter};

use crate::{
    common::Folder,
    durability::{
        gateway::{Place, REASON, SECRET_WORDS},
        receiver::{Came, Receiver},
        scale,
        storm::{Under, desk},
        until,
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_gateway_said_is_queued_outlives_kills() {
    let (scale, started) = (scale(), Instant::now());
    let (folder, receiver) = (Folder::new("durability-killed"), Receiver::start().await);
    let file = folder.path("tasks.db");
    let (to, store) = (receiver.address, format!("sqlite:{}", file.display()));
    let handoff = format!(
        "{{ notify: {{ url: 'http://{to}/notify' }}, callbacks: {{ secret: '${{CALLBACK_SECRET}}', url: 'http://{to}/done' }} }}"
    );
    let place = Place::new(&store, &handoff);
    let mut under = Under::begins(place, &store);
    let storm = under.storm.clone();
    let mut random = fastrand::Rng::with_seed(6);
    let mut kills = 0;
    while kills < scale.kills || storm.acknowledged() < scale.tasks {
        let left = scale.tasks.saturating_sub(storm.acknowledged());
        let lives = scale.kills.saturating_sub(kills).max(1);
        // Some are killed while they start.
        let is_early = random.u8(..).is_multiple_of(8);
        let mut gateway = if is_early { storm.place.serve.spawn() } else { storm.place.start().await };
        if !is_early {
            under.until(storm.acknowledged() + random.usize(1..=(2 * left / lives).max(2))).await;
        }
        // In the middle of whatever it is at.
        tokio::time::sleep(Duration::from_micros(random.u64(..20_000))).await;
        gateway.kill();
        kills += 1;
    }
    let mut gateway = storm.place.start().await;
    drop(under.ends().await);
    if scale.waits_for_deliveries {
        let desk = desk(&store).await.unwrap();
        until("all is delivered", async || desk.stats().await.unwrap().deliveries_pending == 0).await;
    }
    gateway.kill();

    let desk = desk(&store).await.unwrap();
    let told = std::mem::take(&mut *storm.told.lock().unwrap());
    let found = told.is_borne_out(&desk, REASON).await;
    let (acknowledged, took) = (told.acknowledgements(), started.elapsed());
    let told = deliveries_are_borne_out(&desk, &receiver.came()).await;
    println!("{kills} kills, {acknowledged} acknowledged, {found:?}, {told:?}, {took:.1?}");
    assert!(found.answered > 0 && told.arrived > 0);
    assert_eq!(storm.refused.load(std::sync::atomic::Ordering::Relaxed), 0, "a gateway that runs queues");
    drop(desk);
    let sqlite = rusqlite::Connection::open(&file).unwrap();
    let said: String = sqlite.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(said, "ok");
    let twice = "SELECT count(*) - count(DISTINCT id) FROM tasks";
    assert_eq!(sqlite.query_row(twice, (), |row| row.get::<_, i64>(0)), Ok(0));
    let log = storm.place.serve.log();
    assert!(!log.contains(SECRET_WORDS) && !log.contains("panicked"), "{log}");
}

/// Returns the number of deliveries.
#[derive(Debug, Default)]
struct Deliveries {
    arrived: usize,
    pending: usize,
    repeated: usize,
}

/// Every task has one notification, every answered one a callback; and what is noted as done has arrived.
async fn deliveries_are_borne_out(desk: &Desk, came: &Came) -> Deliveries {
    let mut deliveries = Deliveries::default();
    let mut filter = TaskFilter::new().limit(1000);
    loop {
        let page = desk.list(filter.clone()).await.unwrap();
        let Some(last) = page.last() else { break };
        filter = filter.after(last.id);
        for listed in page {
            let task = desk.show(listed.id).await.unwrap();
            let of = |kind| {
                let those: Vec<_> = task.deliveries.iter().filter(|delivery| delivery.kind == kind).collect();
                assert!(those.len() <= 1, "{those:?}");
                those.first().copied()
            };
            let notification = of(DeliveryKind::Notification).unwrap_or_else(|| panic!("{}: nobody is told", task.id));
            let callback = of(DeliveryKind::Callback);
            assert_eq!(callback.is_some(), task.answer.is_some(), "{}", task.id);
            for delivery in [Some(notification), callback].into_iter().flatten() {
                deliveries.arrived += usize::from(delivery.state == DeliveryState::Done);
                deliveries.pending += usize::from(delivery.state == DeliveryState::Pending);
                is_borne_out(delivery, &task, came);
            }
        }
    }
    deliveries.repeated = came.notifications.values().filter(|&&times| times > 1).count();
    deliveries
}

fn is_borne_out(delivery: &Delivery, task: &Task, came: &Came) {
    assert_ne!(delivery.state, DeliveryState::Dead, "{delivery:?}");
    if delivery.state == DeliveryState::Pending {
        return;
    }
    let id = task.id.to_string();
    match delivery.kind {
        // Nobody needs to be told of a task that was answered meanwhile.
        DeliveryKind::Notification => {
            assert!(task.answer.is_some() || came.notifications.contains_key(&id), "{delivery:?}");
        }
        _ => {
            let callback = came.callbacks.get(&id).unwrap_or_else(|| panic!("{delivery:?}"));
            assert_eq!(callback.id, delivery.id);
            assert_eq!(Some(&callback.output), task.result().output.as_ref());
        }
    }
}
