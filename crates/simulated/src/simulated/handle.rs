//! The state that all clones share, the handle that controls it, and the record of a call under way.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{
    answer::Voice,
    fault::{Fault, FaultMix, Outage},
    latency::Latency,
    rate_limit::{Limiter, RateLimit},
    script::{Override, Plan, Script},
};
use crate::{
    CommitPoint,
    internal::sync::{Mutex, MutexGuard, lock},
};

/// Controls and watches a [`Simulated`](super::Simulated) provider while it is in use.
///
/// Clones are cheap and share the provider. A handle keeps no call alive and can outlive the provider.
#[derive(Clone, Debug)]
pub struct SimulatedHandle {
    pub(crate) shared: Arc<Shared>,
}

impl SimulatedHandle {
    /// Makes every call from now on end in this fault, or in one of this mix, in place of the script.
    pub fn fail(&self, faults: impl Into<FaultMix>) {
        self.shared.lock().script.forced = Some(Override::Faults(faults.into()));
    }

    /// Makes the next `calls` calls end in this fault, before all other settings, the rate limit included.
    pub fn fail_next(&self, calls: usize, fault: &Fault) {
        let mut state = self.shared.lock();
        let faults = std::iter::repeat_n(fault.clone(), calls);
        state.next.extend(faults);
    }

    /// Answers every call from now on: no faults, no outages, no rate limit.
    pub fn heal(&self) {
        let mut state = self.shared.lock();
        state.script.forced = Some(Override::Healthy);
        state.next.clear();
    }

    /// Returns to the script: its fault mix, its outages and its rate limit.
    pub fn follow_script(&self) {
        let mut state = self.shared.lock();
        state.script.forced = None;
        state.next.clear();
    }

    /// Changes the time to the first token, for calls from now on.
    pub fn latency(&self, latency: impl Into<Latency>) {
        self.shared.lock().script.latency = latency.into();
    }

    /// Changes the time between two tokens, for calls from now on.
    pub fn pace(&self, between_tokens: Duration) {
        self.shared.lock().script.pace = between_tokens;
    }

    /// Changes the tools that are called in each turn of the user's: see
    /// [`Simulated::plan_calls`](super::Simulated::plan_calls).
    pub fn plan_calls<N: Into<String>>(&self, calls: impl IntoIterator<Item = (N, serde_json::Value)>) {
        let calls = calls.into_iter().map(|(name, arguments)| (name.into(), arguments));
        self.shared.lock().voice.set_calls(calls);
    }

    /// Changes the fault mix of the script.
    pub fn fault_mix(&self, faults: impl Into<FaultMix>) {
        self.shared.lock().script.faults = faults.into();
    }

    /// Adds an outage to the script; its times count from the creation of the provider.
    pub fn outage(&self, outage: Outage) {
        self.shared.lock().script.outages.push(outage);
    }

    /// Sets the rate limit, with full buckets, or removes it.
    pub fn rate_limit(&self, limit: Option<RateLimit>) {
        let now = Instant::now();
        self.shared.lock().limiter = limit.map(|limit| Limiter::new(limit, now));
    }

    /// Returns the counts so far.
    #[must_use]
    pub fn stats(&self) -> SimulatedStats {
        self.shared.lock().stats.clone()
    }

    /// Returns the times of the newest calls, oldest first, up to 256: a test can see a client that calls too often.
    #[must_use]
    pub fn arrivals(&self) -> Vec<Instant> {
        self.shared.lock().arrivals.iter().copied().collect()
    }

    /// Waits until the counts satisfy `wanted`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn until(&self, mut wanted: impl FnMut(&SimulatedStats) -> bool) {
        let mut changes = self.shared.changes.subscribe();
        loop {
            changes.mark_unchanged();
            if wanted(&self.stats()) {
                return;
            }
            // The sender lives in `shared`, which this handle keeps.
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

/// The numbers of a simulated provider's calls, by their ends.
///
/// `calls == answered + failed + cancelled + in_flight` at every moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SimulatedStats {
    /// Calls begun.
    pub calls: u64,
    /// Calls whose whole answer was sent.
    pub answered: u64,
    /// Calls that ended in a fault.
    pub failed: u64,
    /// Calls that the caller left before their end. A call that hangs can end in no other way.
    pub cancelled: u64,
    /// Calls under way, up to the end of the answer's body.
    pub in_flight: u64,
    /// Calls that ended in each fault, by [`Fault::name`].
    pub failed_by: BTreeMap<&'static str, u64>,
    /// Requests refused as malformed before they became a call.
    pub rejected: u64,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    state: Mutex<State>,
    changes: watch::Sender<()>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) script: Script,
    pub(crate) voice: Voice,
    pub(crate) limiter: Option<Limiter>,
    pub(crate) models: Option<Vec<String>>,
    pub(crate) commit: CommitPoint,
    next: VecDeque<Fault>,
    stats: SimulatedStats,
    arrivals: VecDeque<Instant>,
}

/// The number of calls whose times are kept.
const ARRIVALS: usize = 256;

impl Shared {
    pub(crate) fn new(name: Arc<str>, script: Script, voice: Voice) -> Self {
        Self {
            name,
            state: Mutex::new(State {
                script,
                voice,
                limiter: None,
                models: None,
                commit: CommitPoint::default(),
                next: VecDeque::new(),
                stats: SimulatedStats::default(),
                arrivals: VecDeque::new(),
            }),
            changes: watch::Sender::new(()),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // No code under the lock leaves the state half-changed.
        lock(&self.state)
    }

    /// Begins a call that costs `prompt_tokens` and at most `max_tokens` more. `own` is the fault that it carries.
    pub(crate) fn begin(
        self: &Arc<Self>,
        now: Instant,
        prompt_tokens: u64,
        max_tokens: Option<u32>,
        own: Option<&Fault>,
    ) -> SimulatedCall {
        let mut guard = self.lock();
        let state = &mut *guard;
        let number = state.stats.calls;
        state.stats.calls += 1;
        state.stats.in_flight += 1;
        if state.arrivals.len() == ARRIVALS {
            state.arrivals.pop_front();
        }
        state.arrivals.push_back(now);

        let mut plan = state.script.decide(now, number);
        if let Some(length) = state.voice.length() {
            plan.tokens = length;
        }
        let wanted = plan.tokens;
        plan.tokens = max_tokens.map_or(wanted, |max| wanted.min(max));
        if let Some(fault) = own.cloned().or_else(|| state.next.pop_front()) {
            if let Fault::Slow(extra) = fault {
                plan.delay = plan.delay.saturating_add(extra);
            }
            plan.fault = Some(fault);
        } else if let Some(limiter) = &mut state.limiter
            && !matches!(state.script.forced, Some(Override::Healthy))
        {
            let cost = prompt_tokens.saturating_add(u64::from(plan.tokens));
            if let Err(wait) = limiter.admit(cost, now) {
                // The provider checks the limit before it runs the model, so the refusal comes at once.
                plan.delay = Duration::ZERO;
                plan.fault = Some(Fault::RateLimited { retry_after: Some(wait) });
            }
        }
        if let Some(limiter) = &mut state.limiter {
            plan.rate = limiter.status(now);
        }
        let voice = state.voice.clone();
        drop(guard);

        self.changes.send_replace(());
        SimulatedCall { shared: Arc::clone(self), cut_short: plan.tokens < wanted, plan, voice, number, settled: false }
    }

    pub(crate) fn reject(&self) {
        self.count(|stats| stats.rejected += 1);
    }

    fn count(&self, change: impl FnOnce(&mut SimulatedStats)) {
        change(&mut self.lock().stats);
        self.changes.send_replace(());
    }
}

/// A call of a simulated provider under way, for those who answer in its place, as its HTTP server does.
///
/// Dropped before its [end](Self::finish) it counts as cancelled.
#[derive(Debug)]
pub struct SimulatedCall {
    shared: Arc<Shared>,
    /// The plan of the call: its delay, and its answer or fault.
    pub plan: Plan,
    /// The words of its answer.
    pub voice: Voice,
    /// The number of the call, counted from 0.
    pub number: u64,
    /// True if the answer is cut at the caller's limit of tokens.
    pub cut_short: bool,
    settled: bool,
}

impl SimulatedCall {
    /// Records the end that the call's plan has for it.
    pub fn finish(&mut self) {
        match self.plan.fault.as_ref() {
            None | Some(Fault::Slow(_)) => self.settle(|stats| stats.answered += 1),
            Some(fault) => {
                let name = fault.name();
                self.settle(|stats| {
                    stats.failed += 1;
                    *stats.failed_by.entry(name).or_default() += 1;
                });
            }
        }
    }

    fn settle(&mut self, change: impl FnOnce(&mut SimulatedStats)) {
        if !self.settled {
            self.settled = true;
            self.shared.count(|stats| {
                stats.in_flight -= 1;
                change(stats);
            });
        }
    }
}

impl Drop for SimulatedCall {
    fn drop(&mut self) {
        self.settle(|stats| stats.cancelled += 1);
    }
}
