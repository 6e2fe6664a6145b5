//! What is asked of a store on the way of an answer, so that a store that is down is in nobody's way.
//!
//! Each question is bounded in time. After a few failures in a row, or one question without an answer, the store is left
//! alone: whoever asks is told so at once and goes on with what this process knows. One question at a time then tries
//! whether it is back, after a wait that grows up to a bound. Both turns are told once: in the log, and as
//! [`Event::StoreChanged`].

use std::{
    fmt::{Debug, Display},
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use crate::{
    Event, Events,
    sync::{Mutex, lock},
};

/// How a store is, as seen by one who asks it: shared by all who ask for the same purpose.
#[derive(Debug)]
pub(crate) struct Guard {
    /// What it is asked for, such as `idempotency`.
    name: Arc<str>,
    state: Mutex<State>,
    events: OnceLock<Events>,
}

/// This many failures in a row, and it is left alone.
const FAILURES: u32 = 3;
/// The first wait before it is tried again, which doubles with each failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    away: Option<Away>,
}

#[derive(Debug)]
struct Away {
    wait: Duration,
    try_at: Instant,
    /// Whether somebody tries.
    trying: bool,
}

impl State {
    /// Whether it may be asked, and whether that is a try.
    fn admit(&mut self, now: Instant) -> Option<bool> {
        let Some(away) = &mut self.away else { return Some(false) };
        if away.trying || now < away.try_at {
            return None;
        }
        away.trying = true;
        Some(true)
    }

    /// `true` where it answers again.
    fn succeeded(&mut self) -> bool {
        self.failures = 0;
        self.away.take().is_some()
    }

    /// `true` where it is left alone from now on.
    fn failed(&mut self, now: Instant, at_once: bool, was_try: bool) -> bool {
        self.failures = self.failures.saturating_add(1);
        match &mut self.away {
            Some(away) if was_try => {
                away.wait = away.wait.saturating_mul(2).min(LONGEST_WAIT);
                away.try_at = now + away.wait;
                false
            }
            // Asked before it was left alone.
            Some(_) => false,
            None if at_once || self.failures >= FAILURES => {
                self.away = Some(Away { wait: FIRST_WAIT, try_at: now + FIRST_WAIT, trying: false });
                true
            }
            None => false,
        }
    }
}

impl Guard {
    /// Of a store that is asked for this.
    pub(crate) fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), state: Mutex::default(), events: OnceLock::new() }
    }

    /// Where its turns are told, besides the log. The first who says so is heeded.
    pub(crate) fn tells(&self, events: &Events) {
        let _ = self.events.set(events.clone());
    }

    /// What the store says, in time; `None` where it is left alone, fails or says nothing. `failed` is told of the latter
    /// two.
    pub(crate) async fn ask<T, E: Display, F: Future<Output = Result<T, E>>>(
        &self,
        limit: Duration,
        asks: impl FnOnce() -> F,
        failed: impl FnOnce(),
    ) -> Option<T> {
        let is_try = lock(&self.state).admit(Instant::now())?;
        let _trying = is_try.then(|| Trying(self));
        let (problem, at_once) = match timeout(limit, asks()).await {
            Ok(Ok(said)) => {
                if lock(&self.state).succeeded() {
                    tracing::info!(store = &*self.name, "the store answers again");
                    self.changed(true);
                }
                return Some(said);
            }
            Ok(Err(error)) => (error.to_string(), false),
            Err(_) => (format!("it said nothing for {limit:?}"), true),
        };
        failed();
        if lock(&self.state).failed(Instant::now(), at_once, is_try) {
            tracing::warn!(
                store = &*self.name,
                problem,
                "the store is away: this process goes on with what it knows itself"
            );
            self.changed(false);
        }
        None
    }

    fn changed(&self, available: bool) {
        if let Some(events) = self.events.get() {
            events.send(Event::StoreChanged { store: self.name.clone(), available, at: Instant::now() });
        }
    }
}

/// Somebody tries whether the store is back; dropped half-way, the next one does.
struct Trying<'a>(&'a Guard);

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if let Some(away) = &mut lock(&self.0.state).away {
            away.trying = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        future::{pending, ready},
    };

    use futures_util::FutureExt as _;
    use tokio::time::advance;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(500);

    async fn works(guard: &Guard) -> bool {
        guard.ask(LIMIT, || ready(Ok::<_, String>(())), || {}).await.is_some()
    }

    /// Whether it was asked at all.
    async fn fails(guard: &Guard) -> bool {
        let asked = Cell::new(false);
        guard.ask(LIMIT, || ready(Err::<(), _>("refused")), || asked.set(true)).await;
        asked.get()
    }

    async fn hangs(guard: &Guard) -> bool {
        let asked = Cell::new(false);
        guard.ask(LIMIT, pending::<Result<(), String>>, || asked.set(true)).await;
        asked.get()
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_failures_in_a_row_and_it_is_left_alone() {
        let guard = Guard::new("keys");
        assert!(fails(&guard).await && fails(&guard).await && works(&guard).await);
        assert!(fails(&guard).await && fails(&guard).await && fails(&guard).await);
        assert!(!works(&guard).await && !fails(&guard).await, "nobody asks it");
        advance(FIRST_WAIT).await;
        assert!(works(&guard).await && works(&guard).await);
    }

    #[tokio::test(start_paused = true)]
    async fn one_question_without_an_answer_is_enough_and_costs_its_limit_once() {
        let guard = Guard::new("keys");
        let begun = Instant::now();
        assert!(hangs(&guard).await && !hangs(&guard).await && !hangs(&guard).await);
        assert_eq!(begun.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_grows_up_to_a_bound_and_begins_anew_once_it_is_back() {
        let guard = Guard::new("keys");
        let mut waits = Vec::new();
        assert!(hangs(&guard).await);
        for _ in 0..8 {
            let begun = Instant::now();
            while !fails(&guard).await {
                advance(Duration::from_millis(500)).await;
            }
            waits.push(begun.elapsed().as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        advance(LONGEST_WAIT).await;
        assert!(works(&guard).await && hangs(&guard).await && !works(&guard).await);
        advance(FIRST_WAIT).await;
        assert!(works(&guard).await);
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_tries_and_one_that_is_dropped_makes_way() {
        let guard = Guard::new("keys");
        assert!(hangs(&guard).await);
        advance(FIRST_WAIT).await;
        let mut trying = Box::pin(guard.ask(LIMIT, pending::<Result<(), String>>, || {}));
        assert!((&mut trying).now_or_never().is_none());
        assert!(!works(&guard).await, "somebody tries");
        drop(trying);
        assert!(works(&guard).await);
    }

    #[tokio::test(start_paused = true)]
    async fn each_turn_is_told_once() {
        let (guard, events) = (Guard::new("keys"), Events::new());
        let mut heard = events.subscribe();
        guard.tells(&events);
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
