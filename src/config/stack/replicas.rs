//! Where the replicas of a stack meet, and what they share there.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::{Shared, generation::Generation, part::Part};
use crate::{
    CacheHandle,
    internal::sync::lock,
    stores::{
        redis::Redis,
        replicas::{ReplicaSync, SharedState},
    },
};

/// A Redis, with what is kept there. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Meeting {
    pub(super) redis: Redis,
    /// Where the file's cache is `shared`.
    pub(super) answers: CacheHandle,
}

impl Meeting {
    pub(super) fn at(redis: Redis) -> Self {
        Self { answers: CacheHandle::over(redis.clone()), redis }
    }
}

/// The task that keeps a stack in step with its replicas.
pub(super) struct InStep {
    meeting: Meeting,
    generation: Arc<Generation>,
    sharing: ReplicaSync,
}

impl Shared {
    /// SharedState what the present configuration has from now on, if it says where. Without a runtime there is nobody to do it:
    /// then it begins with the next service or handle that is made in one.
    pub(super) fn keep_in_step(&self) {
        let generation = self.current.load_full();
        let mut in_step = lock(&self.in_step);
        let Some(meeting) = &generation.stores.meeting else {
            *in_step = None;
            return;
        };
        if Handle::try_current().is_err() {
            return;
        }
        match &mut *in_step {
            Some(known) if Arc::ptr_eq(&known.generation, &generation) => {}
            Some(known) if known.meeting.redis.is(&meeting.redis) => {
                known.sharing.share(generation.shares());
                known.generation = generation;
            }
            _ => {
                let sharing = ReplicaSync::start(meeting.redis.clone(), generation.shares());
                *in_step = Some(InStep { meeting: meeting.clone(), generation, sharing });
            }
        }
    }
}

impl Generation {
    /// What replicas with the same configuration have, too: what differs has another name.
    fn shares(&self) -> SharedState {
        let shares = SharedState::new().rates(&self.bulkhead);
        let shares = self.retry_budgets.iter().fold(shares, |shares, (tier, (_, budget))| {
            let whose = tier.as_ref().map_or_else(|| "all".to_owned(), |tier| format!("tier {tier}"));
            shares.retry_budget(&whose, budget)
        });
        self.config.tiers.iter().zip(self.circuits()).fold(shares, |shares, (tier, (name, circuit))| {
            let model = tier.model.as_deref().unwrap_or_default();
            let server = self.part(&tier.name).and_then(Part::server).unwrap_or_default();
            shares.circuit(format!("{name} {} {model} {server}", tier.provider.name()), circuit)
        })
    }
}
