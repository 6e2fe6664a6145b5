//! The hub of a stack's replicas, and the state that they share.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::{Shared, generation::Generation, stores::SharedHeadroom, tier_runtime::TierRuntime};
use steadfast::CacheHandle;
use steadfast_internal::sync::lock;
use steadfast_stores::{redis::Redis, replicas::SharedState};

/// A Redis with the state kept there. Clones are the same hub.
#[derive(Clone, Debug)]
pub(super) struct ReplicaHub {
    pub(super) redis: Redis,
    /// The answers of a `shared` cache.
    pub(super) answers: CacheHandle,
    pub(super) headroom: SharedHeadroom,
}

impl ReplicaHub {
    pub(super) fn at(redis: Redis) -> Self {
        Self { answers: CacheHandle::over(redis.clone()), headroom: SharedHeadroom::new(redis.clone()), redis }
    }
}

/// The task that synchronizes a stack with its replicas.
pub(super) struct ReplicaSync {
    hub: ReplicaHub,
    generation: Arc<Generation>,
    sharing: steadfast_stores::replicas::ReplicaSync,
}

impl Shared {
    /// Shares the current configuration's state from now on, if it names a store for that. Outside a runtime no task
    /// can start; the next service or handle created inside one starts it.
    pub(super) fn sync_replicas(&self) {
        let generation = self.current.load_full();
        let mut replica_sync = lock(&self.replica_sync);
        let Some(hub) = &generation.stores.hub else {
            *replica_sync = None;
            return;
        };
        if Handle::try_current().is_err() {
            return;
        }
        match &mut *replica_sync {
            Some(known) if Arc::ptr_eq(&known.generation, &generation) => {}
            Some(known) if known.hub.redis.is(&hub.redis) => {
                known.sharing.share(generation.shares());
                known.generation = generation;
            }
            _ => {
                let sharing = steadfast_stores::replicas::ReplicaSync::start(hub.redis.clone(), generation.shares());
                *replica_sync = Some(ReplicaSync { hub: hub.clone(), generation, sharing });
            }
        }
    }
}

impl Generation {
    /// Returns the state that replicas with the same configuration share; differing state has another name.
    fn shares(&self) -> SharedState {
        let shares = SharedState::new().rates(&self.bulkhead);
        let shares = self.retry_budgets.iter().fold(shares, |shares, (tier, (_, budget))| {
            let whose = tier.as_ref().map_or_else(|| "all".to_owned(), |tier| format!("tier {tier}"));
            shares.retry_budget(&whose, budget)
        });
        self.config.tiers.iter().zip(self.circuits()).fold(shares, |shares, (tier, (name, circuit))| {
            let model = tier.model.as_deref().unwrap_or_default();
            let server = self.runtime(&tier.name).and_then(TierRuntime::server).unwrap_or_default();
            let place = [&tier.region, &tier.location, &tier.resource].into_iter().flatten().next();
            let at =
                tier.at.map(|at| format!(" {} {}", at.name(), place.map_or("", String::as_str))).unwrap_or_default();
            let shares = shares.circuit(format!("{name} {} {model} {server}{at}", tier.provider.name()), circuit);
            let balance = self.runtime(&tier.name).and_then(TierRuntime::balance);
            let deployments = balance.map(|balance| balance.circuits().zip(balance.servers()).zip(tier.endpoints()));
            deployments.into_iter().flatten().fold(shares, |shares, ((circuit, server), own)| {
                let model = own.model.as_deref().unwrap_or_default();
                let server = server.unwrap_or_default();
                shares.circuit(format!("{} {} {model} {server}", own.name, own.provider.name()), circuit)
            })
        })
    }
}
