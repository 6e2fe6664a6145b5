//! The service that stands under every layer's tests.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

// By the crate's own name, so that `tests/` can include this file too.
use steadfast::{LlmError, LlmRequest, LlmResponse};
use tower::{BoxError, Service};

/// A leaf that panics if `call` is not preceded by `poll_ready` on that very instance, and that is slow, fails and
/// is unready to order. Clones share the script and the counters, and no readiness.
#[derive(Debug)]
pub(crate) struct Strict {
    shared: Arc<Shared>,
    takes: Duration,
    /// The polls for which this instance is still pending, and those for which each fresh one is.
    pending: usize,
    pending_each: usize,
    readiness: Readiness,
}

#[derive(Debug, PartialEq)]
enum Readiness {
    Unknown,
    Ready,
    /// Failed: must be thrown away.
    Dead,
}

#[derive(Debug, Default)]
struct Shared {
    script: Mutex<VecDeque<Result<(), LlmError>>>,
    readiness_failures: AtomicUsize,
    calls: AtomicUsize,
    polled_ready: AtomicUsize,
    running: AtomicUsize,
    seen: Mutex<Vec<LlmRequest>>,
}

impl Strict {
    /// Creates a leaf that answers "hello" at once.
    pub(crate) fn new() -> Self {
        Self {
            shared: Arc::default(),
            takes: Duration::ZERO,
            pending: 0,
            pending_each: 0,
            readiness: Readiness::Unknown,
        }
    }

    /// Makes each answer take so long.
    pub(crate) fn takes(mut self, takes: Duration) -> Self {
        self.takes = takes;
        self
    }

    /// Makes each instance pending for so many polls of its readiness.
    pub(crate) fn pending(mut self, polls: usize) -> Self {
        (self.pending, self.pending_each) = (polls, polls);
        self
    }

    /// Makes the next so many readiness polls, over all clones, fail.
    pub(crate) fn fails_readiness(self, times: usize) -> Self {
        self.shared.readiness_failures.store(times, SeqCst);
        self
    }

    /// Makes the next calls, over all clones, end like this; those after them answer.
    pub(crate) fn script(self, ends: impl IntoIterator<Item = Result<(), LlmError>>) -> Self {
        self.shared.script.lock().unwrap().extend(ends);
        self
    }

    /// Makes the next `n` calls fail like this.
    pub(crate) fn fails(self, n: usize, error: LlmError) -> Self {
        self.script(std::iter::repeat_with(|| Err(error.clone())).take(n))
    }

    /// Returns how many calls were made, over all clones.
    pub(crate) fn calls(&self) -> usize {
        self.shared.calls.load(SeqCst)
    }

    /// Returns how often readiness was polled, over all clones.
    pub(crate) fn polled_ready(&self) -> usize {
        self.shared.polled_ready.load(SeqCst)
    }

    /// Returns how many calls are running now.
    pub(crate) fn running(&self) -> usize {
        self.shared.running.load(SeqCst)
    }

    /// Returns the requests seen, in order.
    pub(crate) fn seen(&self) -> Vec<LlmRequest> {
        self.shared.seen.lock().unwrap().clone()
    }
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            takes: self.takes,
            pending: self.pending_each,
            pending_each: self.pending_each,
            readiness: Readiness::Unknown,
        }
    }
}

/// Counts a call as running until it is dropped.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

impl Service<LlmRequest> for Strict {
    type Response = LlmResponse;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<LlmResponse, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        assert!(self.readiness != Readiness::Dead, "polled after its readiness failed");
        self.shared.polled_ready.fetch_add(1, SeqCst);
        let failures = &self.shared.readiness_failures;
        if failures.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            self.readiness = Readiness::Dead;
            return Poll::Ready(Err("readiness failed".into()));
        }
        if self.pending > 0 {
            self.pending -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.readiness = Readiness::Ready;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: LlmRequest) -> Self::Future {
        let readiness = std::mem::replace(&mut self.readiness, Readiness::Unknown);
        assert!(readiness == Readiness::Ready, "called without readiness: {readiness:?}");
        self.shared.calls.fetch_add(1, SeqCst);
        self.shared.running.fetch_add(1, SeqCst);
        self.shared.seen.lock().unwrap().push(request);
        let end = self.shared.script.lock().unwrap().pop_front().unwrap_or(Ok(()));
        let (running, takes) = (Running(self.shared.clone()), self.takes);
        Box::pin(async move {
            let _running = running;
            if !takes.is_zero() {
                tokio::time::sleep(takes).await;
            }
            end.map(|()| LlmResponse::from_text("hello")).map_err(Into::into)
        })
    }
}
