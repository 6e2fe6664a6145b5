//! Never worse than nothing: each client in each situation twice, straight at the provider and through the gateway.
//!
//! Real sockets, real processes and real time. `STEADFAST_JUDGE=full` adds the situations that take minutes,
//! `STEADFAST_JUDGE_ONLY` names a part of a situation's name, and `STEADFAST_JUDGE_LOG` shows the gateways' logs.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a real process keeps real time")]
#![cfg(unix)]

#[path = "../common/mod.rs"]
pub mod common;

mod known;
mod plain;
mod plan;
mod provider;
mod situations;
mod verdict;
mod world;

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::timeout};

use self::{
    known::KNOWN,
    plan::Outcome,
    situations::Situation,
    verdict::{HEAD, Row, Run},
    world::World,
};

/// The worlds that are there at one time.
const WORLDS: usize = 80;

/// A client that follows plans.
trait Client: Send + Sync + 'static {
    /// Returns its name in the table.
    fn name(&self) -> String;

    /// Returns whether it repeats a stream that broke.
    fn repeats_streams(&self) -> bool;

    /// Makes a call that must be served, and then follows the plan; `begun` is called at its beginning.
    fn follow(
        &self,
        world: &World,
        situation: &Situation,
        begun: Box<dyn FnOnce() + Send>,
    ) -> impl Future<Output = Vec<Outcome>> + Send;
}

/// Runs a client in a situation.
async fn run(client: &impl Client, situation: &Situation, through: bool) -> Run {
    let world = World::start(situation.stage, through).await;
    let (begin, begun) = tokio::sync::oneshot::channel();
    let happens = tokio::spawn({
        let happening = situation.happens(world.clone());
        async move {
            if begun.await.is_ok() {
                happening.await;
            }
        }
    });
    let before = Arc::new(std::sync::OnceLock::new());
    let counted = (world.clone(), before.clone());
    let begun = Box::new(move || {
        let _ = counted.1.set(counted.0.first().calls());
        let _ = begin.send(());
    });
    let outcomes = client.follow(&world, situation, begun).await;
    happens.abort();
    let calls = world.first().calls() - before.get().copied().unwrap_or_default();
    if through && std::env::var_os("STEADFAST_JUDGE_LOG").is_some() {
        println!("{}, {}:\n{}", situation.name, client.name(), world.log());
    }
    Run { outcomes, calls }
}

/// Runs clients in all situations, prints the table, and compares it with what is known.
async fn judge<C: Client>(clients: Vec<C>) {
    let is_full = std::env::var("STEADFAST_JUDGE").is_ok_and(|judge| judge == "full");
    let only = std::env::var("STEADFAST_JUDGE_ONLY").unwrap_or_default();
    let places = Arc::new(Semaphore::new(WORLDS));
    let mut rows = Vec::new();
    for client in clients {
        let client = Arc::new(client);
        for situation in Situation::all() {
            let is_its = client.repeats_streams() || !situation.needs_repeats;
            if !is_its || situation.is_long && !is_full || !situation.name.contains(&only) {
                continue;
            }
            let (client, places) = (client.clone(), places.clone());
            rows.push(tokio::spawn(async move {
                let _places = places.acquire_many(2).await.unwrap();
                let limit = Duration::from_secs(400);
                let both = async { tokio::join!(run(&*client, &situation, false), run(&*client, &situation, true)) };
                let (alone, through) = timeout(limit, both).await.expect("a run ends");
                Row { situation: situation.name, client: client.name(), promise: situation.promise, alone, through }
            }));
        }
    }
    let mut wrong = Vec::new();
    println!("{HEAD}");
    for row in rows {
        let row = row.await.unwrap();
        println!("{row}");
        match (row.broken().is_empty(), KNOWN.contains(&&*row.name())) {
            (true, true) => wrong.push(format!("{:?} is well: it leaves KNOWN", row.name())),
            (false, false) => wrong.push(format!("{:?}: {}", row.name(), row.broken().join("; "))),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The client of a few lines.
struct Plain;

impl Client for Plain {
    fn name(&self) -> String {
        "plain".to_owned()
    }

    fn repeats_streams(&self) -> bool {
        true
    }

    async fn follow(&self, world: &World, situation: &Situation, begun: Box<dyn FnOnce() + Send>) -> Vec<Outcome> {
        let servers = [world.target.clone()];
        plain::ask(&servers, "hello", situation.plan.stream).await.expect("all is well before");
        begun();
        plain::follow(&servers, &situation.plan).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_client_is_no_worse_off() {
    judge(vec![Plain]).await;
}
