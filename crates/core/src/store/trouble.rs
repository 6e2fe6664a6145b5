//! A store's trouble: reported once when it begins, and once when it ends.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::StoreErrorKind;
use crate::{
    Event, Events,
    internal::sync::{Mutex, lock},
};

/// The current trouble of a store. It names no server and no file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreTrouble {
    /// The store's purpose, such as `idempotency`; or the server that is unavailable, such as `redis`.
    pub store: Arc<str>,
    /// The kind of trouble.
    pub kind: StoreErrorKind,
    /// The time of its beginning.
    pub since: Instant,
}

impl StoreTrouble {
    /// Creates a trouble of this store, or server.
    pub fn new(store: impl Into<Arc<str>>, kind: StoreErrorKind, since: Instant) -> Self {
        Self { store: store.into(), kind, since }
    }
}

impl fmt::Display for StoreTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.store, self.kind.sentence())
    }
}

/// The watch over a store of one purpose.
#[derive(Debug)]
pub struct StoreWatch {
    name: Arc<str>,
    /// True during trouble, readable without the lock, for the many calls while all is well.
    troubled: AtomicBool,
    state: Mutex<Option<Trouble>>,
    events: OnceLock<Events>,
}

#[derive(Debug)]
struct Trouble {
    kind: StoreErrorKind,
    since: Instant,
    last: Instant,
}

/// The time without failures after which a store that refused counts as well again: one that refuses some calls and
/// answers others is not reported with each of them.
pub(crate) const QUIET: Duration = Duration::from_secs(2);

impl StoreWatch {
    /// Creates the watch over a store of this purpose.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let (troubled, state, events) = (AtomicBool::new(false), Mutex::new(None), OnceLock::new());
        Self { name: name.into(), troubled, state, events }
    }

    /// Sets the channel that reports changes beside the log. Only the first call takes effect.
    pub fn set_events(&self, events: &Events) {
        let _ = self.events.set(events.clone());
    }

    /// Records a failure.
    pub fn record_failure(&self, kind: StoreErrorKind, problem: &dyn fmt::Display, now: Instant) {
        let is_new = {
            let mut state = lock(&self.state);
            let since = state.as_ref().map_or(now, |trouble| trouble.since);
            let before = state.replace(Trouble { kind, since, last: now });
            self.troubled.store(true, Ordering::Release);
            before.is_none()
        };
        if is_new {
            let problem = problem.to_string();
            tracing::warn!(store = &*self.name, problem, "store unavailable; the process continues on its own");
            self.changed(false);
        }
    }

    /// Records a success of a formerly failing operation.
    pub fn record_success(&self, now: Instant) {
        if !self.troubled.load(Ordering::Acquire) {
            return;
        }
        let is_over = |trouble: &mut Trouble| {
            // A store that did not reply is back with its first reply.
            !trouble.kind.is_refusal() || now.saturating_duration_since(trouble.last) >= QUIET
        };
        if lock(&self.state).take_if(is_over).is_none() {
            return;
        }
        self.troubled.store(false, Ordering::Release);
        tracing::info!(store = &*self.name, "store available again");
        self.changed(true);
    }

    /// Returns the current trouble, if there is any.
    pub fn trouble(&self) -> Option<StoreTrouble> {
        let state = lock(&self.state);
        let Trouble { kind, since, .. } = state.as_ref()?;
        Some(StoreTrouble { store: self.name.clone(), kind: *kind, since: *since })
    }

    fn changed(&self, available: bool) {
        if let Some(events) = self.events.get() {
            events.send_with(|| Event::StoreChanged { store: self.name.clone(), available, at: Instant::now() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_fails_and_works_by_turns_is_told_of_once() {
        let (watch, events) = (StoreWatch::new("replicas"), Events::new());
        let mut heard = events.subscribe();
        watch.set_events(&events);
        watch.record_success(Instant::now());
        for _ in 0..300 {
            watch.record_failure(StoreErrorKind::Full, &"OOM", Instant::now());
            watch.record_success(Instant::now());
            tokio::time::advance(QUIET / 3).await;
        }
        let told = watch.trouble().unwrap();
        assert_eq!(told.to_string(), "replicas: the store is full");
        tokio::time::advance(QUIET).await;
        watch.record_success(Instant::now());
        assert_eq!(watch.trouble(), None);
        let mut turns = Vec::new();
        while let Ok(Event::StoreChanged { available, .. }) = heard.try_recv() {
            turns.push(available);
        }
        assert_eq!(turns, [false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_said_nothing_is_back_with_its_first_word() {
        let watch = StoreWatch::new("idempotency");
        watch.record_failure(StoreErrorKind::Unavailable, &"refused", Instant::now());
        watch.record_success(Instant::now());
        assert_eq!(watch.trouble(), None);
    }
}
