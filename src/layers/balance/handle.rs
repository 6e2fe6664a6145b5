use std::{fmt, sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration};

use futures_util::{Stream, StreamExt as _};
use tokio::time::Instant;
use tower::discover::Change;

use super::{
    Deployment, Deployments,
    shared::Shared,
    state::{DeploymentState, OutReason, Standing},
    time::Time,
};
use crate::InvalidConfig;

/// Reads the deployments of a [`Balance`](super::Balance), and changes them while it runs. Clones are the same handle.
///
/// A change concerns requests that come after it: those under way end where they are, streams included. A deployment
/// that stays keeps what is known of it.
pub struct BalanceHandle<S> {
    pub(super) shared: Arc<Shared<S>>,
}

/// The state of a deployment at one moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DeploymentStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Its zone.
    pub zone: Option<Arc<str>>,
    /// Its weight.
    pub weight: f64,
    /// Its availability to requests.
    pub availability: Availability,
    /// The requests that it serves; a stream counts until its end.
    pub in_flight: usize,
    /// The whole answers so far.
    pub answered: u64,
    /// The calls so far that were sent and failed, broken streams included.
    pub failed: u64,
    /// The expected time to the first token of a stream; `None` before the first stream.
    pub first_token: Option<Duration>,
    /// The share of its rate limits that is left, from 0 to 1; 1 if none is known.
    pub headroom: f64,
}

/// The availability of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Availability {
    /// It serves requests.
    Serving,
    /// It has come back or is new, and gets its share by and by.
    Returning,
    /// Its circuit waits for a request that shows that it is well.
    AwaitingProbe,
    /// Its circuit is open.
    CircuitOpen,
    /// Its provider has asked to wait until this moment, or a layer of its own refused.
    ClosedOff(Instant),
    /// Its places are taken.
    Full,
    /// Its rate limits have no room.
    NoHeadroom,
    /// An operator has drained it.
    Drained,
}

impl<S> BalanceHandle<S> {
    pub(super) fn new(shared: Arc<Shared<S>>) -> Self {
        Self { shared }
    }

    /// Returns the state of each deployment, in order.
    pub fn deployments(&self) -> Vec<DeploymentStatus> {
        let now = Time::new(Instant::now(), self.shared.common.begun);
        let slow_start = self.shared.common.settings.slow_start;
        let members = self.shared.members();
        let status = members.list.iter().map(|member| {
            let (state, facts) = (&member.state, &member.facts);
            let availability = match state.standing(facts, || 1, now) {
                Standing::Serves if state.returned_share(slow_start, now) < 1.0 => Availability::Returning,
                Standing::Serves => Availability::Serving,
                Standing::AwaitsProbe => Availability::AwaitingProbe,
                Standing::Out(OutReason::CircuitOpen) => Availability::CircuitOpen,
                Standing::Out(OutReason::ClosedOff) => {
                    Availability::ClosedOff(state.closed_until(now).unwrap_or(now.instant))
                }
                Standing::Out(OutReason::Full) => Availability::Full,
                Standing::Out(OutReason::NoHeadroom) => Availability::NoHeadroom,
                Standing::Out(OutReason::Drained) => Availability::Drained,
            };
            DeploymentStatus {
                name: facts.name.clone(),
                zone: facts.zone.clone(),
                weight: facts.weight.into(),
                availability,
                in_flight: state.headroom.in_flight(),
                answered: state.answered.load(Relaxed),
                failed: state.failed.load(Relaxed),
                first_token: state.cost.time(true, now.moment).map(Duration::from_secs_f32),
                headroom: state.headroom.share_left(now.moment).clamp(0.0, 1.0),
            }
        });
        status.collect()
    }

    /// Gives a deployment no further requests until it is [undrained](Self::undrain). Those under way end where they
    /// are. Returns whether there is a deployment of this name that was not drained.
    pub fn drain(&self, name: &str) -> bool {
        self.of(name).is_some_and(|state| !state.headroom.set_drained(true))
    }

    /// Gives a drained deployment requests again. Returns whether there is a deployment of this name that was drained.
    pub fn undrain(&self, name: &str) -> bool {
        self.of(name).is_some_and(|state| state.headroom.set_drained(false))
    }

    fn of(&self, name: &str) -> Option<Arc<DeploymentState>> {
        let members = self.shared.members();
        members.list.iter().find(|member| *member.facts.name == *name).map(|member| member.state.clone())
    }
}

impl<S: Clone> BalanceHandle<S> {
    /// Replaces all deployments. One of a known name takes the place of that one, with its service and settings.
    pub fn set(&self, deployments: Deployments<S>) {
        let replaced: Result<(), std::convert::Infallible> = self.shared.change(|_| Ok(deployments.0));
        let Ok(()) = replaced;
    }

    /// Adds a deployment, or replaces the one of its name.
    pub fn add(&self, deployment: Deployment<S>) {
        let added: Result<(), std::convert::Infallible> = self.shared.change(|mut list| {
            match list.iter_mut().find(|known| known.name() == deployment.name()) {
                Some(known) => *known = deployment,
                None => list.push(deployment),
            }
            Ok(list)
        });
        let Ok(()) = added;
    }

    /// Removes a deployment. Returns whether there was one of this name.
    ///
    /// # Errors
    ///
    /// Fails if it is the last one: [drain](Self::drain) it to refuse all requests.
    pub fn remove(&self, name: &str) -> Result<bool, InvalidConfig> {
        let mut was_there = false;
        self.shared.change(|mut list| {
            was_there = list.iter().any(|known| known.name() == name);
            if was_there && list.len() == 1 {
                let problem = format!("{name:?} is the last one; add another one first, or drain it");
                return Err(InvalidConfig::new("deployments", problem));
            }
            list.retain(|known| known.name() != name);
            Ok(list)
        })?;
        Ok(was_there)
    }

    /// Follows a stream of changes, such as tower's [`Discover`](tower::discover::Discover) of deployments by name.
    /// The key of an insertion has no effect: the deployment has a name. The last deployment is not removed.
    ///
    /// It spawns nothing: the caller spawns this future. It ends with the stream.
    ///
    /// # Errors
    ///
    /// The first error of the stream. The deployments stay as they are then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no change that the stream has not yielded.
    pub async fn follow<K, E>(&self, changes: impl Stream<Item = Result<Change<K, Deployment<S>>, E>>) -> Result<(), E>
    where
        K: AsRef<str>,
    {
        let mut changes = std::pin::pin!(changes);
        while let Some(change) = changes.next().await {
            self.apply(change?);
        }
        Ok(())
    }

    pub(super) fn apply<K: AsRef<str>>(&self, change: Change<K, Deployment<S>>) {
        match change {
            Change::Insert(_, deployment) => self.add(deployment),
            Change::Remove(name) => drop(self.remove(name.as_ref())),
        }
    }
}

impl<S> Clone for BalanceHandle<S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<S> fmt::Debug for BalanceHandle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalanceHandle").field("deployments", &self.deployments()).finish_non_exhaustive()
    }
}
