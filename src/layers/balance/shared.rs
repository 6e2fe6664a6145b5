//! The list of deployments, as all clones of a balancer share and change it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::time::Instant;

use super::{
    deployment::{Deployment, DeploymentFacts},
    exchange::Exchange,
    members::Members,
    moved::Moved,
    settings::Settings,
    state::DeploymentState,
    task::Task,
};
use crate::internal::{
    mix,
    sync::{Mutex, lock},
};

/// The parts that all clones and handles share.
pub(super) struct Shared<S> {
    pub(super) common: Common,
    current: Mutex<Arc<Members<S>>>,
    /// The version of the current list. A call compares it with that of its own, and takes no lock.
    version: AtomicU64,
    /// The tasks that follow changes. They hold no reference to this, and end with it.
    followers: Mutex<Vec<Task>>,
}

/// The parts that do not depend on the services' type.
pub(super) struct Common {
    pub(super) settings: Settings,
    pub(super) moved: Arc<Moved>,
    /// The exchange of headroom with other replicas.
    pub(super) exchange: Option<Exchange>,
    /// The start of the clock by which states count.
    pub(super) begun: Instant,
    /// The draws so far, if they follow from a seed.
    draws: Option<AtomicU64>,
}

impl Common {
    /// Returns a random number.
    #[inline]
    pub(super) fn random(&self) -> u64 {
        match &self.draws {
            None => fastrand::u64(..),
            Some(draws) => mix::spread(mix::numbered(draws.fetch_add(1, Relaxed))),
        }
    }
}

impl<S> Shared<S> {
    pub(super) fn new(deployments: Vec<Deployment<S>>, settings: Settings, known: Option<&Known>) -> Self {
        let now = Instant::now();
        let begun = known.map_or(now, |known| known.begun);
        let state_of = |facts: &DeploymentFacts| {
            let known = known.and_then(|known| known.states.iter().find(|state| *state.name.value() == facts.name));
            let state = known.cloned().unwrap_or_else(|| Arc::new(DeploymentState::new(facts, begun)));
            declared(state, facts, now)
        };
        let members = Arc::new(Members::new(deployments, &settings, 0, state_of));
        let exchange = settings.sharing.clone().map(Exchange::new);
        if let Some(exchange) = &exchange {
            exchange.set(members.list.iter().map(|member| member.state.clone()));
        }
        let common = Common {
            begun,
            exchange,
            moved: known.map_or_else(|| Arc::new(Moved::new(fastrand::u64(..))), |known| known.moved.clone()),
            draws: settings.seed.map(AtomicU64::new),
            settings,
        };
        Self { common, current: Mutex::new(members), version: AtomicU64::new(0), followers: Mutex::default() }
    }

    /// Returns the version of the current list.
    #[inline]
    pub(super) fn version(&self) -> u64 {
        self.version.load(Relaxed)
    }

    /// Keeps a task that follows changes, to end it with this.
    pub(super) fn keep(&self, follower: Task) {
        lock(&self.followers).push(follower);
    }

    pub(super) fn members(&self) -> Arc<Members<S>> {
        lock(&self.current).clone()
    }

    pub(super) fn known(&self) -> Known {
        let Common { begun, moved, .. } = &self.common;
        let states = self.members().list.iter().map(|member| member.state.clone()).collect();
        Known { begun: *begun, moved: moved.clone(), states }
    }

    /// Replaces the list by what `change` makes of its deployments. A deployment keeps the state of its name; a new one
    /// begins slowly.
    pub(super) fn change<E>(
        &self,
        change: impl FnOnce(Vec<Deployment<S>>) -> Result<Vec<Deployment<S>>, E>,
    ) -> Result<(), E>
    where
        S: Clone,
    {
        let now = Instant::now();
        let mut current = lock(&self.current);
        let known = current.list.iter();
        let list =
            change(known.map(|it| Deployment { service: it.service.clone(), facts: it.facts.clone() }).collect())?;
        let state_of = |facts: &DeploymentFacts| match find(&current, &facts.name) {
            Some(state) => state,
            None => {
                let state = Arc::new(DeploymentState::new(facts, self.common.begun));
                state.begin_return(now);
                state
            }
        };
        let version = current.version + 1;
        let members =
            Arc::new(Members::new(list, &self.common.settings, version, |facts| declared(state_of(facts), facts, now)));
        if let Some(exchange) = &self.common.exchange {
            exchange.set(members.list.iter().map(|member| member.state.clone()));
        }
        // The old list is dropped after the lock: its services are foreign code.
        let old = std::mem::replace(&mut *current, members);
        self.version.store(version, Relaxed);
        drop(current);
        drop(old);
        Ok(())
    }
}

fn find<S>(members: &Members<S>, name: &str) -> Option<Arc<DeploymentState>> {
    members.list.iter().find(|member| *member.facts.name == *name).map(|member| member.state.clone())
}

/// Returns the state with the limits that are known beforehand.
fn declared(state: Arc<DeploymentState>, facts: &DeploymentFacts, now: Instant) -> Arc<DeploymentState> {
    state.headroom.declare(facts.requests_per_minute, facts.tokens_per_minute, state.time(now).moment);
    state
}

/// What is known of deployments, for a balancer with other settings.
#[derive(Clone)]
pub(super) struct Known {
    begun: Instant,
    moved: Arc<Moved>,
    states: Vec<Arc<DeploymentState>>,
}
