//! One simulation, from its seed to what was wrong in it.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::{Builder, Handle},
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};

use crate::simulation::{caller, invariants, operations, plan::Plan, recovery, traffic, world::World};

/// The result of a simulation.
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) log: String,
    /// The violations, each with its request.
    pub(crate) violations: Vec<(Option<usize>, String)>,
    pub(crate) requests: usize,
    pub(crate) calls: usize,
}

/// Runs one simulation in a runtime of its own, whose clock runs as fast as it can.
pub(crate) fn simulate(seed: u64) -> Report {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(run(seed))
}

async fn run(seed: u64) -> Report {
    let plan = Plan::new(seed);
    let (asks, operations) = (traffic::plan(&plan), operations::plan(&plan));
    let world = Arc::new(World::new(plan, &asks));
    // The operator is one of them.
    let (mut callers, mut panicked) = (JoinSet::new(), 0);
    let operated = world.clone();
    callers.spawn(async move { operations::run(&operated, operations).await });
    let (healed, ends) = (world.plan.healed, world.plan.ends);
    let settled = {
        let world = world.clone();
        tokio::spawn(async move {
            sleep_until(world.books.start + healed).await;
            operations::put_right(&world);
            recovery::settled(&world).await
        })
    };
    for ask in asks {
        sleep_until(world.books.start + ask.at).await;
        callers.spawn(caller::call(world.clone(), ask));
        while let Some(ended) = callers.try_join_next() {
            panicked += usize::from(ended.is_err());
        }
    }
    sleep_until(world.books.start + ends).await;
    let mut violations = Vec::new();
    // Whoever has not ended then never will.
    let all = async {
        while let Some(ended) = callers.join_next().await {
            panicked += usize::from(ended.is_err());
        }
    };
    if timeout(Duration::from_secs(3600), all).await.is_err() {
        violations.push((None, format!("{} callers still wait after an hour", callers.len())));
    }
    callers.shutdown().await;
    if panicked > 0 {
        violations.push((None, format!("{panicked} callers or the operator panicked")));
    }
    match timeout(Duration::from_secs(1), settled).await {
        Ok(Ok(settled)) => violations.extend(recovery::check(&world.plan, &world.books.kept(), &settled)),
        _ => violations.push((None, "what the faults broke has never ended".to_owned())),
    }
    violations.extend(invariants::check(&world.plan, &world.books.kept()));
    violations.extend(at_rest(&world).await.into_iter().map(|wrong| (None, wrong)));
    close(world, seed, violations).await
}

/// Everything that was taken has been given back.
async fn at_rest(world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    let plan = &world.plan;
    let bulkhead = world.handles.bulkhead();
    for feature in plan.features.iter().map(|feature| feature.name).chain(["no such feature"]) {
        let (under_way, queued) = (bulkhead.in_flight(feature), bulkhead.queued(feature));
        if (under_way, queued) != (0, 0) {
            wrong.push(format!(
                "{feature}: {under_way} places are taken and {queued} requests wait, and nobody is there"
            ));
        }
    }
    for tier in 0..plan.tiers.len() {
        let (name, circuit) = (plan.name(tier), world.handles.circuit(plan, tier).in_flight());
        let (calls, simulated) = (world.books.kept().tiers[tier].under_way, world.simulated(tier).stats().in_flight);
        if (circuit, calls, simulated) != (0, 0, 0) {
            wrong.push(format!(
                "{name}: {circuit} calls are out at its circuit, {calls} and {simulated} at the provider"
            ));
        }
    }
    if let Some(desk) = &world.desk {
        let tasks = desk.stats().await.map_or(0, |stats| stats.waiting);
        let promised = world.books.kept().asks.iter().filter(|entry| entry.was_promised()).count() as u64;
        if tasks < promised {
            wrong.push(format!("{promised} requests were handed over, and {tasks} tasks are there"));
        }
    }
    wrong
}

/// Takes it all down, and looks whether anything is left.
async fn close(world: Arc<World>, seed: u64, mut violations: Vec<(Option<usize>, String)>) -> Report {
    let books = world.books.clone();
    drop(world);
    sleep(Duration::from_millis(1)).await;
    let alive = Handle::current().metrics().num_alive_tasks();
    if alive > 0 {
        violations.push((None, format!("{alive} tasks are left behind")));
    }
    let mut kept = books.kept();
    violations.append(&mut kept.violations);
    let (requests, calls) = (kept.asks.len(), kept.asks.iter().map(|entry| entry.calls.len()).sum());
    Report { seed, log: std::mem::take(&mut kept.log), violations, requests, calls }
}
