//! One token for all callers, and one refresh.
//!
//! A task of its own fetches tokens, so that no caller's end cuts a fetch off, and waits for the next refresh between
//! them. It ends with its last [`Credentials`](super::Credentials). Callers read the state behind a lock that is held
//! for a few instructions, and never while foreign code runs.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use futures_util::FutureExt;
use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

use super::{Source, SourceError, Token};
use crate::{
    ErrorKind, Event, Events, LlmError,
    internal::{
        sync::{Mutex, MutexGuard, lock},
        wall_clock,
    },
};

/// The time before a token's end at which it is refreshed. The SDKs of AWS, Google and Azure choose between 3 and 5
/// minutes; metadata servers have the next token 5 minutes before.
const MARGIN: Duration = Duration::from_secs(5 * 60);
/// The time after which a token without a known end is fetched again.
const UNKNOWN_LIFE: Duration = Duration::from_secs(10 * 60);
/// The shortest time from a token to the refresh of it while it holds.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// The longest time for a source to give a token, with all its steps.
const FETCH_LIMIT: Duration = Duration::from_secs(60);
/// The time after which a fetch must have ended. One that has not belongs to a runtime that no thread drives.
const STUCK: Duration = Duration::from_secs(65);
/// The pause after a first failure, doubled with each further one up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two failures; also the pause after a mistake of the configuration.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The time between two refreshes that refusals cause. A refusal may be about the request.
const REFUSAL_PAUSE: Duration = Duration::from_secs(30);
/// The time after a correction of the clock in which refusals may be of requests from before it.
const CORRECTION_AGE: Duration = Duration::from_secs(30);
/// The difference of clocks from which signing times are corrected. AWS accepts five minutes.
const SMALLEST_SKEW: Duration = Duration::from_secs(60);

/// The state that all clones of [`Credentials`](super::Credentials) share.
pub(super) struct Refresh {
    pub(super) name: Arc<str>,
    /// `None` for a fixed token.
    source: Option<Box<dyn Source>>,
    state: Mutex<State>,
    /// Wakes the task.
    wake: Arc<Notify>,
    /// Wakes the callers that wait for a token.
    settled: Notify,
    events: OnceLock<Events>,
    /// The milliseconds by which the provider's clock is ahead of this machine's.
    skew: AtomicI64,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    trouble: Option<Trouble>,
    /// The moment since which a fetch is wanted or under way.
    wanted: Option<Instant>,
    /// True if a caller has used the credentials since the last fetch began.
    used: bool,
    /// The number of fetches that have ended.
    round: u64,
    /// The task that may change this state; `None` if there is none.
    task: Option<u64>,
    /// The number of tasks so far.
    tasks: u64,
    refused_at: Option<Instant>,
    corrected_at: Option<Instant>,
}

struct Held {
    token: Arc<Token>,
    ends: Option<Instant>,
    due: Option<Instant>,
}

struct Trouble {
    error: Arc<SourceError>,
    failures: u32,
    again_at: Instant,
    reported: Option<Report>,
}

/// The severity of a trouble that was reported.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Report {
    Usable,
    Ended,
}

impl Held {
    fn new(token: Token, now: Instant) -> Self {
        let life = token.life();
        // An end beyond the clock's range is none.
        let ends = life.and_then(|life| now.checked_add(life));
        // Many processes that began together do not refresh together.
        let jitter = 1.0 + 0.2 * fastrand::f64();
        let due = match life.zip(ends) {
            Some((life, ends)) => {
                let margin = MARGIN.min(life / 2).mul_f64(jitter);
                Some(ends.checked_sub(margin).unwrap_or(now).max(now + SHORTEST_PAUSE))
            }
            // The end is not known, or there is none: keys in a file may still change.
            None => now.checked_add(UNKNOWN_LIFE.mul_f64(jitter)),
        };
        Self { token: Arc::new(token), ends, due }
    }

    /// Returns true if the token still holds, by tokio's clock and by the date: neither alone knows of a machine that
    /// slept.
    fn is_usable(&self, now: Instant) -> bool {
        self.ends.is_none_or(|ends| now < ends) && self.token.expires.is_none_or(|ends| wall_clock::now() < ends)
    }
}

impl State {
    fn usable(&self, now: Instant) -> Option<&Arc<Token>> {
        self.held.as_ref().filter(|held| held.is_usable(now)).map(|held| &held.token)
    }

    /// Returns true if a new token should be fetched now.
    fn is_due(&self, now: Instant) -> bool {
        let is_due = match &self.held {
            Some(held) => held.due.is_some_and(|due| due <= now) || !held.is_usable(now),
            None => true,
        };
        is_due && self.trouble.as_ref().is_none_or(|trouble| trouble.again_at <= now)
    }

    /// Returns true if a fetch is wanted or under way, by a task that lives.
    fn is_fetching(&self, now: Instant) -> bool {
        self.task.is_some() && self.wanted.is_some_and(|since| now.saturating_duration_since(since) < STUCK)
    }

    /// Returns the event of a trouble that callers' owners have not been sent yet, or that has become worse.
    fn report(&mut self, name: &Arc<str>, now: Instant) -> Option<Event> {
        let usable = self.usable(now).is_some();
        let report = if usable { Report::Usable } else { Report::Ended };
        let trouble = self.trouble.as_mut()?;
        if trouble.reported == Some(report) || trouble.reported == Some(Report::Ended) {
            return None;
        }
        trouble.reported = Some(report);
        let problem: Arc<str> = trouble.error.to_string().into();
        let cause = std::error::Error::source(&*trouble.error).map(ToString::to_string);
        tracing::warn!(source = &**name, problem = &*problem, cause, usable, "credentials not renewed");
        Some(Event::CredentialsFailed { source: name.clone(), problem, usable, at: now })
    }
}

impl Refresh {
    pub(super) fn new(source: impl Source) -> Arc<Self> {
        Arc::new(Self::with(source.name().into(), Some(Box::new(source)), State::default()))
    }

    pub(super) fn fixed(name: &str, token: Token) -> Arc<Self> {
        let held = Held::new(token, Instant::now());
        Arc::new(Self::with(name.into(), None, State { held: Some(held), ..State::default() }))
    }

    fn with(name: Arc<str>, source: Option<Box<dyn Source>>, state: State) -> Self {
        Self {
            name,
            source,
            state: Mutex::new(state),
            wake: Arc::default(),
            settled: Notify::new(),
            events: OnceLock::new(),
            skew: AtomicI64::new(0),
        }
    }

    pub(super) fn set_events(&self, events: &Events) {
        let _ = self.events.set(events.clone());
    }

    /// Returns the token if it holds, and has it refreshed if that is due.
    pub(super) fn current(self: &Arc<Self>) -> Option<Arc<Token>> {
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.used = true;
        let token = state.usable(now).cloned();
        if self.source.is_some() && state.is_due(now) && !state.is_fetching(now) {
            self.want(state, now);
        }
        token
    }

    /// Returns the token, and waits for one only if none holds.
    pub(super) async fn get(self: &Arc<Self>) -> Result<Arc<Token>, LlmError> {
        let mut first_round = None;
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            settled.as_mut().enable();
            let now = Instant::now();
            let until = {
                let mut state = lock(&self.state);
                state.used = true;
                if let Some(token) = state.usable(now) {
                    let token = token.clone();
                    if self.source.is_some() && state.is_due(now) && !state.is_fetching(now) {
                        self.want(state, now);
                    }
                    return Ok(token);
                }
                if self.source.is_none() {
                    return Err(self.error(&SourceError::setup("it has ended; set another one"), None));
                }
                let first = *first_round.get_or_insert(state.round);
                let is_over = state.round != first;
                match &state.trouble {
                    Some(trouble) if is_over || trouble.again_at > now => {
                        let error = self.shared_error(trouble);
                        let report = state.report(&self.name, now);
                        drop(state);
                        self.send(report);
                        return Err(error);
                    }
                    // A token that ended while this caller's task waited for its turn.
                    None if is_over => {
                        if let Some(held) = &state.held {
                            return Ok(held.token.clone());
                        }
                    }
                    _ => {}
                }
                match state.wanted.filter(|_| state.is_fetching(now)) {
                    Some(since) => since + STUCK,
                    None => {
                        if !self.want(state, now) {
                            return Err(self.error(&SourceError::setup("it needs a tokio runtime"), None));
                        }
                        now + STUCK
                    }
                }
            };
            tokio::select! {
                () = settled => {}
                // The task's runtime does not run: the next turn starts another one in this caller's.
                () = sleep_until(until) => {}
            }
        }
    }

    /// Has a token fetched by the task, which this starts if there is none. Returns false outside of a runtime.
    fn want(self: &Arc<Self>, mut state: MutexGuard<'_, State>, now: Instant) -> bool {
        let is_stuck = state.wanted.is_some();
        state.wanted = Some(now);
        if state.task.is_some() && !is_stuck {
            drop(state);
            self.wake.notify_one();
            return true;
        }
        let Ok(runtime) = Handle::try_current() else {
            state.wanted = None;
            return false;
        };
        state.tasks += 1;
        let id = state.tasks;
        state.task = Some(id);
        // A runtime that shuts down drops the task at once, and the task's end takes the lock.
        drop(state);
        let task = Task { shared: Arc::downgrade(self), id };
        runtime.spawn(task.run(self.wake.clone()));
        true
    }

    /// Records that the provider refused a token. Returns true if a second attempt may succeed: there is another token
    /// already, or another date to sign with.
    pub(super) fn refused(self: &Arc<Self>, token: &Arc<Token>, date: Option<SystemTime>) -> bool {
        let now = Instant::now();
        let is_new = date.is_some_and(|date| self.correct(date));
        let mut state = lock(&self.state);
        if is_new {
            state.corrected_at = Some(now);
        }
        // Requests under way were signed before the correction that another one's refusal caused.
        let is_recent = |at| now.saturating_duration_since(at) < CORRECTION_AGE;
        let corrected = is_new || date.is_some() && state.corrected_at.is_some_and(is_recent);
        let Some(held) = &mut state.held else { return corrected };
        if !Arc::ptr_eq(&held.token, token) {
            return held.is_usable(now) || corrected;
        }
        let is_allowed = state.refused_at.is_none_or(|last| now.saturating_duration_since(last) >= REFUSAL_PAUSE);
        if self.source.is_some() && !corrected && is_allowed {
            state.refused_at = Some(now);
            if let Some(held) = &mut state.held {
                held.due = Some(now);
            }
            if state.is_due(now) && !state.is_fetching(now) {
                self.want(state, now);
            }
        }
        corrected
    }

    /// Waits for the fetch that is under way, and returns another token than this one, if it brought one.
    pub(super) async fn renewed(self: &Arc<Self>, refused: &Arc<Token>) -> Option<Arc<Token>> {
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            settled.as_mut().enable();
            let until = {
                let now = Instant::now();
                let state = lock(&self.state);
                if let Some(token) = state.usable(now).filter(|token| !Arc::ptr_eq(token, refused)) {
                    return Some(token.clone());
                }
                state.wanted.filter(|_| state.is_fetching(now))? + STUCK
            };
            tokio::select! {
                () = settled => {}
                () = sleep_until(until) => return None,
            }
        }
    }

    /// Corrects the time of signatures by the provider's date. Returns true if that changed it.
    fn correct(&self, date: SystemTime) -> bool {
        let now = wall_clock::now();
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let skew = match date.duration_since(now) {
            Ok(ahead) => millis(ahead),
            Err(behind) => -millis(behind.duration()),
        };
        let skew = if skew.unsigned_abs() < wall_clock::millis(SMALLEST_SKEW) { 0 } else { skew };
        let before = self.skew.swap(skew, Relaxed);
        let changed = before.abs_diff(skew) >= wall_clock::millis(SMALLEST_SKEW);
        if changed {
            tracing::warn!(source = &*self.name, ahead_ms = skew, "this machine's clock differs from the provider's");
        }
        changed
    }

    /// Returns the time to sign with.
    pub(super) fn signing_time(&self) -> SystemTime {
        let (now, skew) = (wall_clock::now(), self.skew.load(Relaxed));
        let by = Duration::from_millis(skew.unsigned_abs());
        if skew < 0 { now.checked_sub(by) } else { now.checked_add(by) }.unwrap_or(now)
    }

    /// Fetches a token, for the task.
    async fn fetch(&self) -> Result<Token, SourceError> {
        let Some(source) = &self.source else { return Err(SourceError::setup("a fixed token has no source")) };
        let fetch = AssertUnwindSafe(async { source.fetch().await }).catch_unwind();
        let token = match timeout(FETCH_LIMIT, fetch).await {
            Ok(Ok(fetched)) => fetched?,
            Ok(Err(_panic)) => return Err(SourceError::new("it panicked; see the log")),
            Err(_) => {
                return Err(SourceError::new(format!("it gave no token within {} s", FETCH_LIMIT.as_secs())));
            }
        };
        if let Some(problem) = token.problem() {
            return Err(SourceError::setup(problem));
        }
        match token.life() {
            Some(Duration::ZERO) => {
                Err(SourceError::new("its token has ended already; renew it, and check this machine's clock"))
            }
            _ => Ok(token),
        }
    }

    /// Records the end of a fetch by this task.
    fn settle(&self, task: u64, outcome: Result<Token, SourceError>) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        if state.task != Some(task) {
            return;
        }
        state.wanted = None;
        state.round += 1;
        let event = match outcome {
            Ok(token) => {
                state.held = Some(Held::new(token, now));
                let reported = state.trouble.take().is_some_and(|trouble| trouble.reported.is_some());
                reported.then(|| {
                    tracing::info!(source = &*self.name, "credentials renewed");
                    Event::CredentialsRenewed { source: self.name.clone(), at: now }
                })
            }
            Err(error) => {
                let before = state.trouble.take();
                let failures = before.as_ref().map_or(0, |trouble| trouble.failures).saturating_add(1);
                let reported = before.and_then(|trouble| trouble.reported);
                let again_at = now + pause(failures, error.is_setup);
                state.trouble = Some(Trouble { error: Arc::new(error), failures, again_at, reported });
                state.report(&self.name, now)
            }
        };
        drop(state);
        self.settled.notify_waiters();
        self.send(event);
    }

    fn send(&self, event: Option<Event>) {
        if let Some((event, events)) = event.zip(self.events.get()) {
            events.send(event);
        }
    }

    fn shared_error(&self, trouble: &Trouble) -> LlmError {
        self.error(&trouble.error, Some(trouble.again_at)).with_source(trouble.error.clone())
    }

    fn error(&self, error: &SourceError, again_at: Option<Instant>) -> LlmError {
        LlmError::new(ErrorKind::Credentials, format!("{}: {error}", self.name)).with_retry_at(again_at)
    }
}

impl Drop for Refresh {
    fn drop(&mut self) {
        // The task finds that no one is left.
        self.wake.notify_one();
    }
}

/// Returns the pause after a failure, with jitter: servers that come back meet no crowd.
fn pause(failures: u32, is_setup: bool) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10));
    let pause = if is_setup { LONGEST_PAUSE / 2 } else { doubled.min(LONGEST_PAUSE) };
    pause.mul_f64(0.75 + 0.25 * fastrand::f64())
}

/// The task that fetches tokens. Its drop, by a panic or the end of its runtime, lets the next caller start another.
struct Task {
    shared: Weak<Refresh>,
    id: u64,
}

/// The next thing for the task to do.
enum Step {
    Fetch,
    WaitUntil(Instant),
    Wait,
    End,
}

impl Task {
    async fn run(self, wake: Arc<Notify>) {
        loop {
            let Some(shared) = self.shared.upgrade() else { return };
            match self.step(&shared) {
                Step::Fetch => {
                    let outcome = shared.fetch().await;
                    shared.settle(self.id, outcome);
                }
                Step::WaitUntil(at) => {
                    drop(shared);
                    tokio::select! {
                        () = wake.notified() => {}
                        () = sleep_until(at) => {}
                    }
                }
                Step::Wait => {
                    drop(shared);
                    wake.notified().await;
                }
                Step::End => return,
            }
        }
    }

    fn step(&self, shared: &Refresh) -> Step {
        let now = Instant::now();
        let mut state = lock(&shared.state);
        if state.task != Some(self.id) {
            return Step::End;
        }
        // Unused credentials lapse. A server that is away is asked until it is back, so that an alert ends.
        let repeats = state.trouble.as_ref().is_some_and(|trouble| !trouble.error.is_setup);
        let is_kept = state.used || repeats;
        if state.wanted.is_some() || state.is_due(now) && is_kept {
            state.wanted = Some(now);
            state.used = false;
            return Step::Fetch;
        }
        let due = state.held.as_ref().and_then(|held| held.due);
        let again_at = state.trouble.as_ref().map(|trouble| trouble.again_at);
        match again_at.or(due) {
            Some(at) if at > now => Step::WaitUntil(at),
            _ => Step::Wait,
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut state = lock(&shared.state);
        if state.task == Some(self.id) {
            state.task = None;
            state.wanted = None;
            drop(state);
            shared.settled.notify_waiters();
        }
    }
}
