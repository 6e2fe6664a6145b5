use std::{fmt, time::Duration};

use tower::Layer;

use super::{
    Idempotency, IdempotencyHandle, IdempotencyStore, MemoryIdempotency, backing::Backing, settings::Settings,
};
use crate::Events;

/// Applies [`Idempotency`]. See the [module docs](super).
///
/// Clones, and all services that one layer makes, share the records and the calls under way.
#[derive(Clone)]
pub struct IdempotencyLayer {
    settings: Settings,
    handle: IdempotencyHandle,
}

impl IdempotencyLayer {
    /// Keeps answers for 24 hours, in the memory of this process.
    pub fn new() -> Self {
        Self::over(MemoryIdempotency::new())
    }

    /// Keeps answers in a store. Layers over one store, in this process or another, answer from each other's.
    pub fn over(store: impl IdempotencyStore) -> Self {
        Self { settings: Settings::default(), handle: IdempotencyHandle::over(store) }
    }

    /// Keeps answers in two stores: a quick one that is asked first, such as Redis, and a durable one beneath it.
    /// Each key is claimed in both, so that it is known as long as one of them is reachable and has lost nothing.
    pub fn over_both(quick: impl IdempotencyStore, durable: impl IdempotencyStore) -> Self {
        let backings = vec![Backing::new(quick), Backing::new(durable)];
        Self { settings: Settings::default(), handle: IdempotencyHandle::of(backings) }
    }

    /// Shares the state of this handle's layer: the records and the calls under way, in its stores. Default: a state of
    /// its own.
    #[must_use]
    pub fn state(mut self, handle: &IdempotencyHandle) -> Self {
        self.handle = handle.clone();
        self
    }

    /// Sets how long an answer is given again to requests with its key. Default: 24 hours.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.settings.ttl = ttl;
        self
    }

    /// Sets how long a call goes on after the last waiting caller has left, or its deadline has passed: its late
    /// answer is kept for the retry. Default: 1 minute. With zero the call ends with its callers.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// Sets how long a key stays claimed by a process that has crashed. While a call is under way, its lease is
    /// renewed at a third of this. Default: 30 seconds; at least 1 second.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease.max(Duration::from_secs(1));
        self
    }

    /// Sets the largest answer that is kept, in bytes. Default: 1 MiB. A larger one reaches the waiting callers,
    /// and a repeat of its key is a new call.
    #[must_use]
    pub fn max_answer(mut self, bytes: usize) -> Self {
        self.settings.max_answer = bytes;
        self
    }

    /// Sets whether a request without a key gets one derived from its tenant, feature, model and input. Default:
    /// no. Each repeat of a question then gets the same answer for the whole [`ttl`](Self::ttl). This suits jobs
    /// that may run twice, and not a chat.
    #[must_use]
    pub fn derive(mut self, derive: bool) -> Self {
        self.settings.derive = derive;
        self
    }

    /// Sets how long a claim, or the keeping of an answer, may take. After that the request goes on without the
    /// store, and the next ones do not ask it. A caller waits at most twice as long for all stores. Default: 500 ms.
    #[must_use]
    pub fn store_timeout(mut self, limit: Duration) -> Self {
        self.settings.store_timeout = limit;
        self
    }

    /// Sets where outages of the store and their ends are reported
    /// ([`Event::StoreChanged`](steadfast_core::Event::StoreChanged)). Default: in the log alone. Layers that
    /// share a handle report where the first of them does.
    #[must_use]
    pub fn events(self, events: &Events) -> Self {
        self.handle.tells(events);
        self
    }

    /// Returns a handle that watches the calls, and ends them.
    pub fn handle(&self) -> IdempotencyHandle {
        self.handle.clone()
    }
}

impl Default for IdempotencyLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = Idempotency<S>;

    fn layer(&self, inner: S) -> Idempotency<S> {
        Idempotency::new(inner, self.settings, self.handle.clone())
    }
}

impl fmt::Debug for IdempotencyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyLayer").field("settings", &self.settings).field("handle", &self.handle).finish()
    }
}
