use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt as _};
use tower::{Service, discover::Change};

use super::{
    BalanceHandle, ResponseFuture,
    deployment::Deployment,
    members::Members,
    settings::Settings,
    shared::{Known, Shared},
    task::Task,
};
use crate::{
    LlmError, LlmRequest, LlmResponse, LlmService,
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

impl<S> Balance<S> {
    pub(super) fn new(deployments: Vec<Deployment<S>>, settings: Settings, known: Option<&Known>) -> Self {
        let shared = Arc::new(Shared::new(deployments, settings, known));
        Self { members: shared.members(), shared }
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
        self.shared.keep(Task(task.abort_handle()));
        self
    }

    /// Returns a handle that reads and changes the deployments.
    pub fn handle(&self) -> BalanceHandle<S> {
        BalanceHandle::new(self.shared.clone())
    }

    /// Takes the current list, if another one was seen last.
    #[inline]
    fn refresh(&mut self) {
        if self.shared.version() != self.members.version {
            self.members = self.shared.members();
        }
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
