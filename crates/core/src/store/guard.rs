//! Guarded calls to a store on a request's way, so that a store that is down delays no request.
//!
//! Each call has a time limit. After a few failures in a row, or one call without an answer, the store is left alone:
//! callers are refused at once and continue with this process's own knowledge. Then one call at a time tries the store
//! again, after a wait that grows up to a bound. A store that refuses an operation (a full disk, a read-only file)
//! still gets calls, for those that it can serve. Both changes are reported once: see [`StoreWatch`].

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};
use tower::BoxError;

use super::{
    StoreError, StoreErrorKind,
    trouble::{StoreTrouble, StoreWatch},
};
use crate::{
    Events,
    internal::sync::{Mutex, lock},
};

/// A store's health, shared by all callers with the same purpose.
#[derive(Debug)]
pub struct StoreGuard {
    watch: StoreWatch,
    state: Mutex<State>,
}

/// The reason for which a store gave no useful answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardError {
    /// It is left alone and was not called.
    Bypassed,
    /// It was called and failed.
    Failed(StoreErrorKind),
}

/// The number of failures in a row after which it is left alone.
const FAILURES: u32 = 3;
/// The first wait before the next try, which doubles with each failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    outage: Option<Outage>,
}

#[derive(Debug)]
struct Outage {
    wait: Duration,
    try_at: Instant,
    /// True while a call tries the store.
    is_trying: bool,
}

impl State {
    /// Returns whether a call may proceed, and if so whether it is a try.
    fn admit(&mut self, now: Instant) -> Option<bool> {
        let Some(outage) = &mut self.outage else { return Some(false) };
        if outage.is_trying || now < outage.try_at {
            return None;
        }
        outage.is_trying = true;
        Some(true)
    }

    /// Records a failure. Returns true if the store is left alone from now on.
    fn record_failure(&mut self, now: Instant, at_once: bool, was_try: bool) -> bool {
        self.failures = self.failures.saturating_add(1);
        match &mut self.outage {
            Some(outage) if was_try => {
                outage.wait = outage.wait.saturating_mul(2).min(LONGEST_WAIT);
                outage.try_at = now + outage.wait;
                false
            }
            // The call began before the store was left alone.
            Some(_) => false,
            None if at_once || self.failures >= FAILURES => {
                self.outage = Some(Outage { wait: FIRST_WAIT, try_at: now + FIRST_WAIT, is_trying: false });
                true
            }
            None => false,
        }
    }
}

impl StoreGuard {
    /// Creates a guard of a store with this purpose.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { watch: StoreWatch::new(name), state: Mutex::default() }
    }

    /// Sets the channel that reports changes beside the log. Only the first call takes effect.
    pub fn set_events(&self, events: &Events) {
        self.watch.set_events(events);
    }

    /// Returns the current trouble, if there is any.
    pub fn trouble(&self) -> Option<StoreTrouble> {
        self.watch.trouble()
    }

    /// Returns whether it is left alone, apart from occasional tries.
    pub fn is_bypassed(&self) -> bool {
        lock(&self.state).outage.is_some()
    }

    /// Calls the store within the time limit. `proves` decides whether an answer shows that every operation works
    /// again, and not only those that need no space.
    pub async fn call<T, E: Into<BoxError>, F: Future<Output = Result<T, E>>>(
        &self,
        limit: Duration,
        call: impl FnOnce() -> F,
        proves: impl FnOnce(&T) -> bool,
    ) -> Result<T, GuardError> {
        let is_try = lock(&self.state).admit(Instant::now()).ok_or(GuardError::Bypassed)?;
        let _permit = is_try.then(|| TryPermit(self));
        let (kind, problem, at_once) = match timeout(limit, call()).await {
            Ok(Ok(answer)) => {
                self.record_answer(proves(&answer));
                return Ok(answer);
            }
            Ok(Err(error)) => {
                let error = error.into();
                (kind_of(&error), error.to_string(), false)
            }
            Err(_) => (StoreErrorKind::Unavailable, format!("no answer within {limit:?}"), true),
        };
        let now = Instant::now();
        if kind.is_refusal() {
            // The store has answered.
            self.record_answer(false);
            self.watch.record_failure(kind, &problem, now);
        } else if lock(&self.state).record_failure(now, at_once, is_try) {
            self.watch.record_failure(kind, &problem, now);
        }
        Err(GuardError::Failed(kind))
    }

    fn record_answer(&self, proves: bool) {
        let was_out = {
            let mut state = lock(&self.state);
            state.failures = 0;
            state.outage.take().is_some()
        };
        if proves || was_out {
            self.watch.record_success(Instant::now());
        }
    }
}

/// Returns the kind of a store's error. One without a kind counts as unavailable.
#[doc(hidden)]
pub fn kind_of(error: &BoxError) -> StoreErrorKind {
    error.downcast_ref::<StoreError>().map_or(StoreErrorKind::Unavailable, StoreError::kind)
}

/// A try of the store. If its future is dropped, the next caller tries.
struct TryPermit<'a>(&'a StoreGuard);

impl Drop for TryPermit<'_> {
    fn drop(&mut self) {
        if let Some(outage) = &mut lock(&self.0.state).outage {
            outage.is_trying = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt as _;
    use tokio::time::advance;

    use super::*;
    use crate::Event;

    const LIMIT: Duration = Duration::from_millis(500);

    async fn works(guard: &StoreGuard) -> bool {
        guard.call(LIMIT, || ready(Ok::<_, String>(())), |()| true).await.is_ok()
    }

    /// Returns whether the store was called at all.
    async fn fails(guard: &StoreGuard) -> bool {
        guard.call(LIMIT, || ready(Err::<(), _>("refused")), |()| true).await != Err(GuardError::Bypassed)
    }

    async fn hangs(guard: &StoreGuard) -> bool {
        guard.call(LIMIT, pending::<Result<(), String>>, |()| true).await != Err(GuardError::Bypassed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_failures_in_a_row_and_it_is_left_alone() {
        let guard = StoreGuard::new("keys");
        assert!(fails(&guard).await && fails(&guard).await && works(&guard).await);
        assert!(fails(&guard).await && fails(&guard).await && fails(&guard).await);
        assert!(!works(&guard).await && !fails(&guard).await, "nobody asks it");
        advance(FIRST_WAIT).await;
        assert!(works(&guard).await && works(&guard).await);
    }

    #[tokio::test(start_paused = true)]
    async fn one_question_without_an_answer_is_enough_and_costs_its_limit_once() {
        let guard = StoreGuard::new("keys");
        let begun = Instant::now();
        assert!(hangs(&guard).await && !hangs(&guard).await && !hangs(&guard).await);
        assert_eq!(begun.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_grows_up_to_a_bound_and_begins_anew_once_it_is_back() {
        let guard = StoreGuard::new("keys");
        let mut waits = Vec::new();
        assert!(hangs(&guard).await);
        for _ in 0..8 {
            let begun = Instant::now();
            while !fails(&guard).await {
                advance(Duration::from_millis(500)).await;
            }
            waits.push(begun.elapsed().as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 5, 5, 5, 5, 5]);
        advance(LONGEST_WAIT).await;
        assert!(works(&guard).await && hangs(&guard).await && !works(&guard).await);
        advance(FIRST_WAIT).await;
        assert!(works(&guard).await);
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_tries_and_one_that_is_dropped_makes_way() {
        let guard = StoreGuard::new("keys");
        assert!(hangs(&guard).await);
        advance(FIRST_WAIT).await;
        let mut trial = Box::pin(guard.call(LIMIT, pending::<Result<(), String>>, |()| true));
        assert!((&mut trial).now_or_never().is_none());
        assert!(!works(&guard).await, "somebody tries");
        drop(trial);
        assert!(works(&guard).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_no_room_is_told_at_once_and_asked_on_for_what_it_has() {
        let guard = StoreGuard::new("keys");
        let full = || ready(Err::<(), _>(StoreError::new(StoreErrorKind::Full, "claiming a key")));
        for _ in 0..10 {
            let said = guard.call(LIMIT, full, |()| true).await;
            assert_eq!(said, Err(GuardError::Failed(StoreErrorKind::Full)));
            assert_eq!(guard.trouble().unwrap().to_string(), "keys: the store is full");
            // A read does not prove that writes work.
            advance(FIRST_WAIT * 3).await;
            guard.call(LIMIT, || ready(Ok::<_, String>(())), |()| false).await.unwrap();
            assert!(guard.trouble().is_some());
        }
        advance(FIRST_WAIT * 3).await;
        assert!(works(&guard).await && guard.trouble().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn each_turn_is_told_once() {
        let (guard, events) = (StoreGuard::new("keys"), Events::new());
        let mut heard = events.subscribe();
        guard.set_events(&events);
        for _ in 0..3 {
            hangs(&guard).await;
            works(&guard).await;
        }
        advance(FIRST_WAIT).await;
        works(&guard).await;
        works(&guard).await;
        let mut told = Vec::new();
        while let Ok(Event::StoreChanged { store, available, .. }) = heard.try_recv() {
            assert_eq!(&*store, "keys");
            told.push(available);
        }
        assert_eq!(told, [false, true]);
    }
}
