//! The state that a stack shares with its replicas.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::{
    generation::Generation,
    parts::{replica_hub::ReplicaHub, tier_runtime::TierRuntime},
};
use steadfast_internal::sync::{Mutex, lock};
use steadfast_stores::replicas::{LimitSync, SharedLimits, SharedState};

/// The tasks that synchronize a stack with its replicas, while its configuration names a store for that.
#[derive(Default)]
pub(super) struct ReplicaSync {
    sharing: Mutex<Option<Sharing>>,
    /// The limits of callers, which a gateway knows.
    limits: Mutex<SharedLimits>,
}

/// The tasks, with the generation whose state they share.
struct Sharing {
    hub: ReplicaHub,
    generation: Arc<Generation>,
    task: steadfast_stores::replicas::ReplicaSync,
    limits: LimitSync,
}

impl ReplicaSync {
    /// Shares a generation's state from now on, if it has a store for that. Outside a runtime no task can start; the
    /// next call inside one starts it.
    pub(super) fn share(&self, generation: Arc<Generation>) {
        let mut sharing = lock(&self.sharing);
        let Some(hub) = &generation.stores.hub else {
            *sharing = None;
            return;
        };
        if Handle::try_current().is_err() {
            return;
        }
        match &mut *sharing {
            Some(known) if Arc::ptr_eq(&known.generation, &generation) => {}
            Some(known) if known.hub.redis.is(&hub.redis) => {
                known.task.share(generation.shares());
                known.generation = generation;
            }
            _ => {
                let task = steadfast_stores::replicas::ReplicaSync::start(hub.redis.clone(), generation.shares());
                let limits = LimitSync::start(hub.redis.clone(), &lock(&self.limits));
                *sharing = Some(Sharing { hub: hub.clone(), generation, task, limits });
            }
        }
    }

    /// Shares these limits from now on, as [`share`](Self::share) does.
    pub(super) fn set_limits(&self, limits: SharedLimits) {
        let mut sharing = lock(&self.sharing);
        if Handle::try_current().is_err() {
            *sharing = None;
        } else if let Some(sharing) = &mut *sharing {
            sharing.limits = LimitSync::start(sharing.hub.redis.clone(), &limits);
        }
        *lock(&self.limits) = limits;
    }
}

impl Generation {
    /// Returns the state that replicas with the same configuration share; differing state has another name.
    fn shares(&self) -> SharedState {
        let shares = SharedState::new().rates(&self.bulkhead);
        let shares = self.retry_budgets.iter().fold(shares, |shares, (tier, budget)| {
            let whose = tier.map_or_else(|| "all".to_owned(), |tier| format!("tier {tier}"));
            shares.retry_budget(&whose, budget)
        });
        self.config.tiers.iter().zip(self.tiers.circuits()).fold(shares, |shares, (tier, (name, circuit))| {
            let model = tier.model.as_deref().unwrap_or_default();
            let server = self.tiers.get(&tier.name).and_then(TierRuntime::server).unwrap_or_default();
            let place = [&tier.region, &tier.location, &tier.resource].into_iter().flatten().next();
            let at =
                tier.at.map(|at| format!(" {} {}", at.name(), place.map_or("", String::as_str))).unwrap_or_default();
            let shares = shares.circuit(format!("{name} {} {model} {server}{at}", tier.provider.name()), circuit);
            let balance = self.tiers.get(&tier.name).and_then(TierRuntime::balance);
            let deployments = balance.map(|balance| balance.circuits().zip(balance.servers()).zip(tier.endpoints()));
            deployments.into_iter().flatten().fold(shares, |shares, ((circuit, server), own)| {
                let model = own.model.as_deref().unwrap_or_default();
                let server = server.unwrap_or_default();
                shares.circuit(format!("{} {} {model} {server}", own.name, own.provider.name()), circuit)
            })
        })
    }
}
