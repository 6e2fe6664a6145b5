//! Tiers that failed are asked whether they work again, without anybody's request.

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
use tower::ServiceBuilder;

use super::{Shared, StackHandle, generation::Generation, settings, tier_runtime::TierRuntime};
use crate::{
    BoxLlmService, BudgetLayer, CircuitBreakerHandle, Context, ErrorKind, Event, Events, LlmError, LlmRequest,
    config::{Config, Tier},
    events::{self, CircuitReason, CircuitState, ServingState, Subscriber},
    layers::{
        circuit_breaker::{LONGEST_PROBE, ask},
        fallback::Outlook,
    },
};

/// How a configuration asks its tiers.
pub(super) struct RecoveryChecks {
    every: Duration,
    request: LlmRequest,
    tiers: Vec<ProbeTarget>,
}

/// A tier where a model answers.
struct ProbeTarget {
    name: Arc<str>,
    is_primary: bool,
    circuit: CircuitBreakerHandle,
    service: BoxLlmService,
}

/// How long an answer may be: some models refuse to give a single token.
const TOKENS: u32 = 16;
/// How soon a tier is asked again that has answered and whose circuit wants more than one answer.
const SOON: Duration = Duration::from_secs(1);

impl RecoveryChecks {
    /// `None` where the file does not ask for it. `caps` are those of each tier, and `whole` those around all.
    pub(super) fn new<'a>(
        config: &Config,
        runtimes: impl Iterator<Item = (&'a TierRuntime, &'a Tier, Option<BudgetLayer>)>,
        whole: Option<&BudgetLayer>,
    ) -> Option<Self> {
        let settings = config.fallback.recovery_check.as_ref()?.active()?;
        let text = settings.probe_with.as_deref().unwrap_or("ping");
        let target = |(place, (runtime, tier, caps)): (usize, (&TierRuntime, &Tier, Option<BudgetLayer>))| {
            let service = ServiceBuilder::new()
                // It is paid for like any other: where there is no money left, nobody is asked.
                .option_layer(whole.cloned())
                .option_layer(caps)
                // The circuit decides whether it may be asked, and when: as a caller's request would be, it is its probe.
                .layer(&runtime.breaker)
                .layer(settings::attempt(tier.timeout))
                .service(runtime.leaf());
            let (name, circuit) = (runtime.name.clone(), runtime.breaker.handle());
            ProbeTarget { name, is_primary: place == 0, circuit, service: BoxLlmService::new(service) }
        };
        Some(Self {
            every: settings.interval(config.circuit_breaker.cooldown),
            request: LlmRequest::prompt(text).max_tokens(TOKENS),
            tiers: runtimes.enumerate().filter(|(_, (_, tier, _))| tier.provider.is_model()).map(target).collect(),
        })
    }

    /// When a tier is to be asked; `None` where nothing is the matter with it, or somebody has taken it out of service.
    fn due(&self, tier: &ProbeTarget, stack: &OutageState) -> Option<Instant> {
        if tier.circuit.forced().is_some() || stack.drained.contains(&tier.name) {
            return None;
        }
        if tier.circuit.awaits_call() {
            return tier.circuit.earliest_probe();
        }
        let since = stack.away_since.filter(|_| tier.is_primary).or(stack.failed_since)?;
        since.checked_add(self.every)
    }
}

/// What is the matter with a stack, beside its circuits.
struct OutageState {
    /// When requests last found that the primary does not serve.
    away_since: Option<Instant>,
    /// Since when requests fail, some or all.
    failed_since: Option<Instant>,
    drained: Vec<Arc<str>>,
}

impl Shared {
    fn outage(&self, generation: &Generation) -> OutageState {
        let status = self.status().snapshot();
        let since = || Instant::now().checked_sub(Duration::try_from_secs_f64(status.since_seconds).ok()?);
        OutageState {
            away_since: generation.outlook().away_since(),
            failed_since: matches!(status.state, ServingState::Failing | ServingState::Unavailable)
                .then(since)
                .flatten(),
            drained: self.context.fallback.drained(),
        }
    }
}

/// What outcome of asking a tier.
struct CheckOutcome {
    tier: Arc<str>,
    asked: Instant,
    /// Whether it answered, and its circuit wants to see it once more.
    wants_more: bool,
}

/// Asks a tier, and tells what outcome of it.
async fn check(
    tier: Arc<str>,
    service: BoxLlmService,
    request: LlmRequest,
    circuit: CircuitBreakerHandle,
    outlook: Outlook,
    events: Events,
) -> CheckOutcome {
    let asked = Instant::now();
    let request = request.with_context(Context::default()).timeout(LONGEST_PROBE);
    let silent = || Err(LlmError::new(ErrorKind::Timeout, "no answer in time"));
    let said = ask(service, request, LONGEST_PROBE).await.unwrap_or_else(silent);
    let failure = said.as_ref().err().map(LlmError::kind);
    let wants_more = failure.is_none() && circuit.awaits_call();
    if failure.is_none() && !wants_more {
        outlook.works(&tier, asked);
    }
    // Another's probe was under way: what outcome of that is told by it.
    if failure != Some(ErrorKind::CircuitOpen) {
        let (tier, at) = (tier.clone(), Instant::now());
        events.send(Event::RecoveryChecked { tier, failure, took: at.saturating_duration_since(asked), at });
    }
    CheckOutcome { tier, asked, wants_more }
}

/// The tiers that are being asked, and when each may be again.
#[derive(Default)]
struct CheckSchedule {
    under_way: JoinSet<CheckOutcome>,
    next: HashMap<Arc<str>, Instant>,
}

impl CheckSchedule {
    /// Asks whom it is time to ask, each once at a time. Gives when to look again.
    fn run_due(&mut self, shared: &Shared) -> Option<Instant> {
        let generation = shared.current.load();
        let Some(checks) = &generation.checks else {
            // What was asked in the name of an earlier configuration is told to it.
            self.next.clear();
            self.under_way.abort_all();
            return None;
        };
        let outage = shared.outage(&generation);
        let mut earliest: Option<Instant> = None;
        self.next.retain(|name, _| checks.tiers.iter().any(|tier| tier.name == *name));
        for tier in &checks.tiers {
            let Some(due) = checks.due(tier, &outage) else { continue };
            let due = self.next.get(&tier.name).map_or(due, |next| due.max(*next));
            // Read after what a circuit says, which is no earlier than its own reading.
            let now = Instant::now();
            if due > now {
                earliest = Some(earliest.map_or(due, |earliest| earliest.min(due)));
                continue;
            }
            // By then what is asked now is over, whatever comes of it.
            self.next.insert(tier.name.clone(), now + checks.every.max(LONGEST_PROBE));
            self.under_way.spawn(check(
                tier.name.clone(),
                tier.service.clone(),
                checks.request.clone(),
                tier.circuit.clone(),
                generation.outlook(),
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

async fn run(stack: Weak<Shared>, changed: Arc<Notify>) {
    let mut schedule = CheckSchedule::default();
    loop {
        let Some(shared) = stack.upgrade() else { return };
        let next = schedule.run_due(&shared);
        let every = shared.current.load().checks.as_ref().map_or(SOON, |checks| checks.every);
        // A stack is not kept for this.
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
                // Else it was ended, or a leaf of somebody else's has panicked.
                if let Ok(outcome) = outcome {
                    schedule.record(outcome, every);
                }
            }
        }
    }
}

/// Hears of what may have to be looked at.
struct ChangeListener {
    stack: Weak<Shared>,
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
        // Somebody's probe has shown it, of this replica or another: nobody has to be asked again.
        if let Event::CircuitChanged { circuit, to: CircuitState::Closed, reason: CircuitReason::Recovered, at, .. } =
            event
            && let Some(shared) = self.stack.upgrade()
        {
            let generation = shared.current.load();
            if generation.checks.is_some() {
                generation.outlook().works(circuit, *at);
            }
        }
        self.changed.notify_one();
    }

    fn lost(&mut self, _: u64) {
        // One may have been among them.
        self.changed.notify_one();
    }
}

impl StackHandle {
    /// Asks tiers that failed whether they work again, from now on and where the configuration's `fallback.recovery_check` is
    /// `active`, in a task of its own, until the [`RecoveryCheckTask`] is dropped or the stack is gone: so that the status and the
    /// time on a fallback end also while nobody calls. It follows reloads.
    ///
    /// A small request goes to each model's tier whose circuit is not closed, as the probe for which that circuit waits: when its
    /// cooldown or the time that the provider asked for is over, one at a time, not while another replica's is under way, and at
    /// most once in each interval. Where no circuit opened, the primary is asked an interval after requests went elsewhere, and
    /// each tier an interval after all have failed. It counts against the caps, as other calls do, and tells its outcome by
    /// [`Event::RecoveryChecked`]. Nobody asks a tier that is well, drained, or forced open or closed by hand.
    ///
    /// Call it once for each process: more of them ask more.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn check_recovery(&self) -> RecoveryCheckTask {
        let (stack, changed) = (Arc::downgrade(&self.shared), Arc::new(Notify::new()));
        // By the board it is known that no tier answers.
        self.shared.status();
        let changes = ChangeListener { stack: stack.clone(), changed: changed.clone() };
        let following = self.events().follow_only(ChangeListener::wanted, changes);
        RecoveryCheckTask { task: tokio::spawn(run(stack, changed)).abort_handle(), _following: following }
    }
}

/// What asks tiers whether they work again: see [`StackHandle::check_recovery`].
#[must_use = "it ends when this is dropped"]
pub struct RecoveryCheckTask {
    task: AbortHandle,
    _following: events::Following,
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
