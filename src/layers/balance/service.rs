use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt as _};
use tokio::time::Instant;
use tower::{Service, discover::Change};

use super::{
    BalanceHandle, ResponseFuture,
    deployment::{Deployment, DeploymentFacts},
    layer::Settings,
    members::Members,
    moved::Moved,
    shared::Exchange,
    state::DeploymentState,
    task::Task,
};
use crate::{
    LlmError, LlmRequest, LlmResponse, LlmService,
    internal::{
        mix,
        sync::{Mutex, lock},
    },
    layers::{
        clock::Reading,
        deadline::{self, Deadline},
    },
};

/// A service that sends each request to one of several deployments of a model. See the [module docs](super).
///
/// Clones share the list of deployments and all that is known of them.
pub struct Balance<S> {
    pub(super) shared: Arc<Shared<S>>,
    /// The list as this clone last saw it.
    members: Arc<Members<S>>,
}

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
    exchange: Option<Exchange>,
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
    pub(super) fn members(&self) -> Arc<Members<S>> {
        lock(&self.current).clone()
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

impl<S> Balance<S> {
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
        let shared = Shared {
            common,
            current: Mutex::new(members.clone()),
            version: AtomicU64::new(0),
            followers: Mutex::default(),
        };
        Self { shared: Arc::new(shared), members }
    }

    /// Follows a stream of changes in a task of its own, as [`BalanceHandle::follow`] does without one. The task ends
    /// with the stream, or at its first error, which it logs; the deployments stay as they are then. It also ends when
    /// the last clone of the service, its handles and its calls are gone, even while it waits for the next change.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    #[must_use]
    pub fn discover<K, E>(
        self,
        changes: impl Stream<Item = Result<Change<K, Deployment<S>>, E>> + Send + 'static,
    ) -> Self
    where
        S: Clone + Send + Sync + 'static,
        K: AsRef<str> + Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let shared = Arc::downgrade(&self.shared);
        let task = tokio::spawn(async move {
            let mut changes = std::pin::pin!(changes);
            while let Some(change) = changes.next().await {
                let Some(shared) = shared.upgrade() else { return };
                match change {
                    Ok(change) => BalanceHandle::new(shared).apply(change),
                    Err(error) => {
                        return tracing::warn!(%error, "end of the changes of deployments; they stay as they are");
                    }
                }
            }
        });
        lock(&self.shared.followers).push(Task(task.abort_handle()));
        self
    }

    /// Returns a handle that reads and changes the deployments.
    pub fn handle(&self) -> BalanceHandle<S> {
        BalanceHandle::new(self.shared.clone())
    }

    /// Takes the current list, if another one was seen last.
    #[inline]
    fn refresh(&mut self) {
        if self.shared.version.load(Relaxed) != self.members.version {
            self.members = self.shared.members();
        }
    }
}

impl<S> BalanceHandle<S> {
    pub(super) fn known(&self) -> Known {
        let Common { begun, moved, .. } = &self.shared.common;
        let states = self.shared.members().list.iter().map(|member| member.state.clone()).collect();
        Known { begun: *begun, moved: moved.clone(), states }
    }
}

impl<S> Service<LlmRequest> for Balance<S>
where
    S: LlmService + Clone,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture<S>;

    /// Always ready: the choice needs the request.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, mut request: LlmRequest) -> ResponseFuture<S> {
        if deadline::is_unkept(request.context()) {
            return self.call_in_time(request.clone());
        }
        self.refresh();
        if let Some(exchange) = &self.shared.common.exchange {
            exchange.begin();
        }
        self.shared.common.settings.budget.count(request.context_mut());
        let (now, _reading) = Reading::pass_on();
        ResponseFuture::begin(self.shared.clone(), self.members.clone(), request, now)
    }
}

impl<S> Balance<S>
where
    S: LlmService + Clone,
{
    /// A call that ends at its deadline, whichever deployments it goes to.
    #[cold]
    fn call_in_time(&mut self, mut request: LlmRequest) -> ResponseFuture<S> {
        match Deadline::keep(&mut request) {
            Ok(deadline) => self.call(request).until(deadline),
            Err(late) => ResponseFuture::failed(self.shared.clone(), self.members.clone(), request, late),
        }
    }
}

impl<S> Clone for Balance<S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), members: self.members.clone() }
    }
}

impl<S> fmt::Debug for Balance<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.members.list.iter().map(|member| &member.facts.name).collect::<Vec<_>>();
        f.debug_struct("Balance").field("deployments", &names).finish_non_exhaustive()
    }
}
