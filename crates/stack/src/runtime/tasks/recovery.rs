//! Recovery checks: failed tiers are probed without a caller's request.
//!
//! Callers' requests probe a circuit. Where the file says `recovery_check: { active: true }`,
//! `StackHandle::check_recovery` sends requests of its own, through the tier's circuit and its caps and no other layer.
//! So the circuit says when and how many, and all that holds for probes holds for these: throttles, orders by hand,
//! notices of replicas. The check runs when an event reports a change, and sleeps until the earliest moment of a probe.
//! A circuit that closes reports to the fallback that its primary serves; where none opened, the answer to the check
//! does. A redriven task is such a request too, from the end of the cooldown on.

use std::{
    collections::HashMap,
    fmt,
    future::pending,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until},
};

use crate::runtime::{StackHandle, parts::recovery_checks::OutageState, state::StackState};
use steadfast::{
    BoxLlmService, CircuitBreakerHandle, Context, ErrorKind, Event, Events, LlmError, LlmRequest,
    events::{self, CircuitReason, CircuitState, Subscriber},
    layers::{
        circuit_breaker::{LONGEST_PROBE, ask},
        fallback::Eligibility,
    },
};
use steadfast_subscribers::ServingState;

/// The delay of the next probe, if a tier has answered and its circuit requires more than one answer.
const SOON: Duration = Duration::from_secs(1);

/// Returns the current problems of a stack.
fn outage(shared: &StackState, eligibility: Eligibility) -> OutageState {
    let status = shared.status().snapshot();
    let since = || Instant::now().checked_sub(Duration::try_from_secs_f64(status.since_seconds).ok()?);
    OutageState {
        eligibility,
        failed_since: matches!(status.state, ServingState::Failing | ServingState::Unavailable).then(since).flatten(),
        drained: shared.context.fallback.drained(),
    }
}

/// The result of a probe.
struct CheckOutcome {
    tier: Arc<str>,
    asked: Instant,
    /// True if the tier answered and its circuit requires another answer.
    wants_more: bool,
}

/// Probes a tier, and sends the result as an event.
async fn check(
    tier: Arc<str>,
    service: BoxLlmService,
    request: LlmRequest,
    circuit: CircuitBreakerHandle,
    outlook: Eligibility,
    events: Events,
) -> CheckOutcome {
    let asked = Instant::now();
    let request = request.with_context(Context::default()).with_timeout(LONGEST_PROBE);
    let silent = || Err(LlmError::new(ErrorKind::Timeout, "no answer in time"));
    let said = ask(service, request, LONGEST_PROBE).await.unwrap_or_else(silent);
    let failure = said.as_ref().err().map(LlmError::kind);
    let wants_more = failure.is_none() && circuit.awaits_call();
    if failure.is_none() && !wants_more {
        outlook.works(&tier, asked);
    }
    // Another probe was in flight, and reports its own result.
    if failure != Some(ErrorKind::CircuitOpen) {
        let (tier, at) = (tier.clone(), Instant::now());
        events.send(Event::RecoveryChecked { tier, failure, took: at.saturating_duration_since(asked), at });
    }
    CheckOutcome { tier, asked, wants_more }
}

/// The probes in flight, and each tier's next permitted probe.
#[derive(Default)]
struct CheckSchedule {
    under_way: JoinSet<CheckOutcome>,
    next: HashMap<Arc<str>, Instant>,
}

impl CheckSchedule {
    /// Starts all due probes, at most one per tier. Returns the time of the next check.
    fn run_due(&mut self, shared: &StackState) -> Option<Instant> {
        let generation = shared.current.load();
        let Some(checks) = &generation.checks else {
            // Abort the probes of an earlier configuration.
            self.next.clear();
            self.under_way.abort_all();
            return None;
        };
        let outage = outage(shared, generation.eligibility());
        let mut earliest: Option<Instant> = None;
        self.next.retain(|name, _| checks.tiers.iter().any(|tier| tier.name == *name));
        for tier in &checks.tiers {
            let Some(due) = checks.due(tier, &outage) else { continue };
            let due = self.next.get(&tier.name).map_or(due, |next| due.max(*next));
            // Read after the circuit's state, which is therefore not newer than this reading.
            let now = Instant::now();
            if due > now {
                earliest = Some(earliest.map_or(due, |earliest| earliest.min(due)));
                continue;
            }
            // This probe is over by then, with any result.
            self.next.insert(tier.name.clone(), now + checks.every.max(LONGEST_PROBE));
            self.under_way.spawn(check(
                tier.name.clone(),
                tier.service.clone(),
                checks.request.clone(),
                tier.circuit.clone(),
                generation.eligibility(),
                shared.context.events.clone(),
            ));
        }
        earliest
    }

    fn record(&mut self, outcome: CheckOutcome, every: Duration) {
        let next = if outcome.wants_more { Instant::now() + SOON.min(every) } else { outcome.asked + every };
        if let Some(known) = self.next.get_mut(&outcome.tier) {
            *known = next;
        }
    }
}

async fn run(stack: Weak<StackState>, changed: Arc<Notify>) {
    let mut schedule = CheckSchedule::default();
    loop {
        let Some(shared) = stack.upgrade() else { return };
        let next = schedule.run_due(&shared);
        let every = shared.current.load().checks.as_ref().map_or(SOON, |checks| checks.every);
        // The checks must not keep the stack alive.
        drop(shared);
        let due = async {
            match next {
                Some(next) => sleep_until(next).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = changed.notified() => {}
            Some(outcome) = schedule.under_way.join_next() => {
                // Otherwise the probe was aborted, or a custom leaf panicked.
                if let Ok(outcome) = outcome {
                    schedule.record(outcome, every);
                }
            }
        }
    }
}

/// Wakes the checks after relevant events.
struct ChangeListener {
    stack: Weak<StackState>,
    changed: Arc<Notify>,
}

impl ChangeListener {
    fn wanted(event: &Event) -> bool {
        matches!(
            event,
            Event::CircuitChanged { .. }
                | Event::ModelSwitched { .. }
                | Event::AllTiersFailed { .. }
                | Event::Operated { .. }
                | Event::Reloaded { .. }
        )
    }
}

impl Subscriber for ChangeListener {
    fn event(&mut self, event: &Event) {
        // A probe of this replica or another succeeded, so no further probe is needed.
        if let Event::CircuitChanged { circuit, to: CircuitState::Closed, reason: CircuitReason::Recovered, at, .. } =
            event
            && let Some(shared) = self.stack.upgrade()
        {
            let generation = shared.current.load();
            if generation.checks.is_some() {
                generation.eligibility().works(circuit, *at);
            }
        }
        self.changed.notify_one();
    }

    fn lost(&mut self, _: u64) {
        // A relevant event may have been among the lost ones.
        self.changed.notify_one();
    }
}

impl StackHandle {
    /// Starts a task that probes failed tiers until the [`RecoveryCheckTask`] is dropped or the stack is gone, if the
    /// configuration's `fallback.recovery_check` is `active`. So the status recovers and the time on a fallback ends
    /// even without callers. It follows reloads.
    ///
    /// A small request goes to each model tier whose circuit is not closed, as that circuit's awaited probe. It goes
    /// out after the circuit's cooldown or the provider's requested wait, one at a time, never beside another
    /// replica's probe, and at most once per interval. If no circuit opened, a chain's first tier is probed one
    /// interval after its requests went elsewhere, and each tier one interval after all have failed. Probes count
    /// against the caps like other calls, and report their result by [`Event::RecoveryChecked`]. Tiers that work, are
    /// drained, or are forced open or closed are not probed.
    ///
    /// Call this once per process: further calls send further probes.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn check_recovery(&self) -> RecoveryCheckTask {
        let (stack, changed) = (Arc::downgrade(&self.shared), Arc::new(Notify::new()));
        // The board shows whether all tiers fail.
        self.shared.status();
        let changes = ChangeListener { stack: stack.clone(), changed: changed.clone() };
        let subscription = self.events().follow_only(ChangeListener::wanted, changes);
        RecoveryCheckTask { task: tokio::spawn(run(stack, changed)).abort_handle(), _subscription: subscription }
    }
}

/// The task that probes failed tiers: see [`StackHandle::check_recovery`].
#[must_use = "it ends when this is dropped"]
pub struct RecoveryCheckTask {
    task: AbortHandle,
    _subscription: events::Subscription,
}

impl Drop for RecoveryCheckTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for RecoveryCheckTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveryCheckTask").finish_non_exhaustive()
    }
}
