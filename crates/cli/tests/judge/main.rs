//! Never worse than nothing: each client in each situation twice, straight at the provider and through the gateway.
//!
//! Real sockets, real processes and real time. `STEADFAST_JUDGE=full` adds the situations that take minutes, and
//! `STEADFAST_JUDGE=all` adds them, and more others, for the SDKs, which takes a quarter of an hour.
//!
//! `STEADFAST_JUDGE_ONLY` names a part of a row's name, and `STEADFAST_JUDGE_LOG` shows the gateways' logs. The SDKs
//! take part where they are ([`common::sdk`]), and so do agents ([`agents`]).

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a real process keeps real time")]
#![cfg(unix)]

#[path = "../common/mod.rs"]
pub mod common;

mod agents;
mod known;
mod manner;
mod names;
mod plain;
mod plan;
mod provider;
mod sdk;
mod situations;
mod verdict;
mod world;

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{sync::Semaphore, task::JoinHandle, time::timeout};

use self::{
    agents::Agent,
    known::{BY_CHANCE, KNOWN},
    names::NameServer,
    plain::Plain,
    plan::Outcome,
    sdk::Sdk,
    situations::Situation,
    verdict::{HEAD, Row, Run},
    world::{Dialect, World},
};

/// The rows that run at one time.
const ROWS: usize = 32;
/// The rows that run at one time where a busy machine shall not matter.
const QUIET_ROWS: usize = 6;

/// The extent of what is judged.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Extent {
    Short,
    Full,
    All,
}

impl Extent {
    fn asked_for() -> Self {
        match std::env::var("STEADFAST_JUDGE").as_deref() {
            Ok("all") => Self::All,
            Ok("full") => Self::Full,
            Ok(other) => panic!("STEADFAST_JUDGE is 'full' or 'all', not '{other}'"),
            Err(_) => Self::Short,
        }
    }
}

type Following<'a> = Pin<Box<dyn Future<Output = Vec<Outcome>> + Send + 'a>>;
type Begun = Box<dyn FnOnce() + Send>;

/// A client that follows plans.
trait Client: Send + Sync + 'static {
    /// Returns its name in the table.
    fn name(&self) -> String;

    /// Returns the protocol that it speaks.
    fn dialect(&self) -> Dialect;

    /// Returns whether it is judged in a situation.
    fn takes(&self, situation: &Situation, extent: Extent) -> bool;

    /// Makes a call that must be served, and then follows the plan; `begun` is called at its beginning.
    fn follow<'a>(&'a self, world: &'a Arc<World>, situation: &'a Situation, begun: Begun) -> Following<'a>;
}

/// Runs a client in a situation.
async fn run(client: &dyn Client, situation: &Situation, through: bool) -> Run {
    let world = World::start(situation.stage, client.dialect(), through).await;
    let (begin, begun) = tokio::sync::oneshot::channel();
    let happens = tokio::spawn({
        let happening = situation.happens(world.clone());
        async move {
            if begun.await.is_ok() {
                happening.await;
            }
        }
    });
    let before = Arc::new(OnceLock::new());
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

/// A client in a situation.
#[derive(Clone)]
struct Pair {
    client: Arc<dyn Client>,
    situation: Arc<Situation>,
}

impl Pair {
    /// Returns its row once it has run, alone and through the gateway.
    fn row(&self, places: &Arc<Semaphore>) -> JoinHandle<Row> {
        let (Self { client, situation }, places) = (self.clone(), places.clone());
        let name = verdict::name(&situation.name, &client.name());
        tokio::spawn(async move {
            let _places = places.acquire_many(situation.weight()).await.unwrap();
            let limit = Duration::from_secs_f64(situation.plan.lasts()) + Duration::from_secs(120);
            let both = async { tokio::join!(run(&*client, &situation, false), run(&*client, &situation, true)) };
            let (alone, through) = timeout(limit, both).await.expect(&name);
            Row { situation: situation.name.clone(), client: client.name(), promise: situation.promise, alone, through }
        })
    }
}

/// Returns the rows of all pairs, in their order, so many at one time.
async fn rows(pairs: &[Pair], at_once: usize) -> Vec<Row> {
    let places = Arc::new(Semaphore::new(at_once));
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    // The longest first.
    order.sort_by(|one, other| pairs[*other].situation.plan.lasts().total_cmp(&pairs[*one].situation.plan.lasts()));
    let mut running: Vec<_> = order.into_iter().map(|number| (number, pairs[number].row(&places))).collect();
    running.sort_by_key(|(number, _)| *number);
    let mut rows = Vec::new();
    for (_, row) in running {
        rows.push(row.await.unwrap());
        println!("{}", rows[rows.len() - 1]);
    }
    rows
}

/// Returns the problem of a row whose verdict is not the known one.
fn surprise(row: &Row) -> Option<String> {
    let (name, broken) = (row.name(), row.broken());
    let is_known = |list: &[(&str, &str, &str)]| {
        list.iter().any(|(situation, clients, _)| row.situation == *situation && row.client.ends_with(clients))
    };
    match (broken.is_empty(), is_known(KNOWN), is_known(BY_CHANCE)) {
        (true, true, _) => Some(format!("{name:?} is well: it leaves KNOWN")),
        (false, false, false) => Some(format!("{name:?}: {}", broken.join("; "))),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_is_worse_off() {
    let extent = Extent::asked_for();
    let only = std::env::var("STEADFAST_JUDGE_ONLY").unwrap_or_default();
    let mut clients: Vec<Arc<dyn Client>> = vec![Arc::new(Plain)];
    clients.extend(Sdk::all().into_iter().map(|sdk| Arc::new(sdk) as _));
    clients.extend(Agent::all().into_iter().map(|agent| Arc::new(agent) as _));
    let has_names = NameServer::is_possible();
    if !has_names {
        eprintln!("skipped: the situations of names: only root may give a gateway a name server of its own");
    }
    let mut pairs = Vec::new();
    for client in clients {
        let situations = Situation::all().into_iter().map(Arc::new);
        let pair = |situation| Pair { client: client.clone(), situation };
        pairs.extend(situations.map(pair).filter(|Pair { client, situation }| {
            let name = verdict::name(&situation.name, &client.name());
            client.takes(situation, extent) && (has_names || !situation.stage.has_names) && name.contains(&only)
        }));
    }
    println!("{HEAD}");
    let seen = rows(&pairs, ROWS).await;
    let again: Vec<_> = seen.iter().zip(pairs).filter_map(|(row, pair)| surprise(row).map(|_| pair)).collect();
    if again.is_empty() {
        return;
    }
    println!("{} once more, on a quieter machine", again.len());
    let wrong: Vec<_> = rows(&again, QUIET_ROWS).await.iter().filter_map(surprise).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
