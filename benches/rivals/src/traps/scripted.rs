//! A service that does what it is told, call by call.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use tokio::sync::oneshot;
use tower::Service;

use crate::subject::Subject;

/// The fate of a call.
pub(super) enum Step {
    Answer,
    Fail,
    /// Waits to be told: `true` is an answer.
    Wait(oneshot::Receiver<bool>),
}

/// Does the steps in order, and after the last one what it does by default. Clones share all of it.
pub(super) struct Scripted<K: Subject> {
    shared: Arc<Shared>,
    error: fn() -> K::Error,
}

struct Shared {
    steps: Mutex<VecDeque<Step>>,
    healthy: AtomicBool,
    ready: AtomicBool,
    calls: AtomicUsize,
}

impl<K: Subject> Clone for Scripted<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), error: self.error }
    }
}

impl<K: Subject> Scripted<K> {
    pub(super) fn new() -> Self {
        Self::failing_with(K::error)
    }

    pub(super) fn failing_with(error: fn() -> K::Error) -> Self {
        let shared = Shared {
            steps: Mutex::default(),
            healthy: AtomicBool::new(true),
            ready: AtomicBool::new(true),
            calls: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared), error }
    }

    /// Sets the outcome of every call that has no step of its own.
    pub(super) fn set_healthy(&self, healthy: bool) {
        self.shared.healthy.store(healthy, SeqCst);
    }

    /// Sets whether it is ever ready.
    pub(super) fn set_ready(&self, ready: bool) {
        self.shared.ready.store(ready, SeqCst);
    }

    pub(super) fn plan(&self, step: Step) {
        self.shared.steps.lock().unwrap_or_else(PoisonError::into_inner).push_back(step);
    }

    /// The next call waits to be told.
    pub(super) fn plan_wait(&self) -> oneshot::Sender<bool> {
        let (tell, told) = oneshot::channel();
        self.plan(Step::Wait(told));
        tell
    }

    /// Forgets what was planned.
    pub(super) fn forget(&self) {
        self.shared.steps.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Returns the number of calls that have come here.
    pub(super) fn calls(&self) -> usize {
        self.shared.calls.load(SeqCst)
    }
}

impl<K: Subject> Service<K::Request> for Scripted<K> {
    type Response = K::Answer;
    type Error = K::Error;
    type Future = Pin<Box<dyn Future<Output = Result<K::Answer, K::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), K::Error>> {
        if self.shared.ready.load(SeqCst) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&mut self, _: K::Request) -> Self::Future {
        let (shared, error) = (self.shared.clone(), self.error);
        // Not before it is polled: some make the call's future, and then do not poll it.
        Box::pin(async move {
            shared.calls.fetch_add(1, SeqCst);
            let step = shared.steps.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let by_default = if shared.healthy.load(SeqCst) { Step::Answer } else { Step::Fail };
            let well = match step.unwrap_or(by_default) {
                Step::Answer => true,
                Step::Fail => false,
                Step::Wait(told) => match told.await {
                    Ok(well) => well,
                    Err(_) => std::future::pending().await,
                },
            };
            if well { Ok(K::answer()) } else { Err(error()) }
        })
    }
}
