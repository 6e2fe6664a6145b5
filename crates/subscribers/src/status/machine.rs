//! The board's state, and how each event changes it. It reads no clock.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    ChainSetup, LastFailure, Latency, RecentRequests, Status, Switch, TierHealth, TierSetup, TierStatus,
    TimeOnFallback, chains::ChainRecords, rates::Rates, recent::Recent,
};
use crate::{chains::first_asked, setup::Setup};
use steadfast::{
    Attempt, ErrorKind,
    events::{CircuitReason, CircuitState, Event, Failure, Operation, RequestEnded, RequestOutcome},
};
use steadfast_internal::wall_clock::rfc3339;

/// The number of switches that the board remembers.
const SWITCHES: usize = 20;
/// The number of tiers and circuits. Circuits named after keys that callers choose cannot fill the memory.
const TIERS: usize = 64;
/// The usual time of a healthy model to its first token: who waits for less learns nothing of it.
const LEAST_WAIT: Duration = Duration::from_secs(1);
/// The primary's index among the tiers.
const PRIMARY: usize = 0;
/// The time after which a refusal of the setup is tried again: that of a circuit that a refused key has opened. Without
/// it, a gateway that gets no requests while it is not ready would never be.
const REFUSED: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Machine {
    start: Instant,
    chains: ChainRecords,
    /// True if a request's outcome was ever seen.
    is_observed: bool,
    last_recovery: Option<Duration>,
    requests: Recent,
    switches: VecDeque<SwitchRecord>,
    failovers: Hour,
    pinned_level: Option<u8>,
    /// The primary first.
    tiers: Vec<Tier>,
    /// The number of tiers that the file names.
    configured: usize,
    lost: u64,
    /// The names of deployments' circuits, which are no tiers.
    deployments: HashSet<Arc<str>>,
}

#[derive(Debug)]
struct SwitchRecord {
    chain: Arc<str>,
    first: Arc<str>,
    from: Arc<str>,
    to: Arc<str>,
    /// `None` means that the first tier recovered.
    reason: Option<ErrorKind>,
    failure: Option<Failure>,
    at: Instant,
}

#[derive(Debug)]
struct Tier {
    name: Arc<str>,
    /// The model of its last answer.
    model: Option<Arc<str>>,
    circuit: CircuitState,
    changed: Option<(Instant, CircuitReason)>,
    /// The state that an operator forced.
    forced: Option<CircuitState>,
    drained: bool,
    /// True if its last answer was degraded.
    degraded: bool,
    setup: Setup,
    rates: Rates,
    recent: Recent,
    failure: Option<Failure>,
}

impl Machine {
    pub(super) fn new(primary: Arc<str>, now: Instant) -> Self {
        Self {
            start: now,
            chains: ChainRecords::new(&primary, now),
            is_observed: false,
            tiers: vec![Tier::new(primary, now)],
            configured: 1,
            last_recovery: None,
            requests: Recent::new(),
            switches: VecDeque::with_capacity(SWITCHES),
            failovers: Hour::new(now),
            pinned_level: None,
            lost: 0,
            deployments: HashSet::new(),
        }
    }

    pub(super) fn name_tiers(&mut self, names: Vec<Arc<str>>) {
        self.configured += names.len();
        for name in names {
            self.tier(&name);
        }
    }

    pub(super) fn name_deployments(&mut self, names: HashSet<Arc<str>>) {
        self.deployments = names;
    }

    /// Replaces the tiers, and the chains by the one of all of them.
    pub(super) fn change_tiers(&mut self, primary: Arc<str>, others: Vec<Arc<str>>, now: Instant) {
        let mut before = std::mem::take(&mut self.tiers);
        self.configured = others.len() + 1;
        for name in std::iter::once(&primary).chain(&others) {
            match before.iter().position(|tier| tier.name == *name) {
                Some(place) => self.tiers.push(before.swap_remove(place)),
                None => drop(self.tier(name)),
            }
        }
        self.configure(vec![ChainSetup { id: primary.clone(), first: primary, names: vec!["default".into()] }], now);
    }

    pub(super) fn configure(&mut self, chains: Vec<ChainSetup>, now: Instant) {
        let tiers = &self.tiers;
        self.chains.configure(chains, |name| tiers.iter().any(|tier| *tier.name == *name), now);
    }

    /// Takes events, in their order.
    pub(super) fn events(&mut self, mut events: &[Event]) {
        while let [event, others @ ..] = events {
            self.event(event);
            let alike = match event {
                Event::RequestEnded(ended) if is_plain_answer(ended) => self.answers_like(ended, others),
                _ => 0,
            };
            events = &others[alike..];
        }
    }

    #[inline]
    pub(super) fn event(&mut self, event: &Event) {
        // Nearly all events are of this kind; the others together are larger code than it.
        match event {
            Event::RequestEnded(ended) => self.request(ended),
            other => self.change(other),
        }
    }

    #[inline(never)]
    fn change(&mut self, event: &Event) {
        match event {
            Event::ModelSwitched { chain, first, from, to, reason, failure, at } => {
                let (reason, failure) = (Some(*reason), failure.clone());
                self.remember(SwitchRecord {
                    chain: chain.clone(),
                    first: first.clone(),
                    from: from.clone(),
                    to: to.clone(),
                    reason,
                    failure,
                    at: *at,
                });
                self.chains.switched(chain, first, to, *at);
            }
            Event::ModelRecovered { chain, from, to, after, at } => {
                self.chains.recovered(chain, to, *after, *at);
                let (chain, first, from, to) = (chain.clone(), to.clone(), from.clone(), to.clone());
                self.remember(SwitchRecord { chain, first, from, to, reason: None, failure: None, at: *at });
                self.last_recovery = Some(*after);
            }
            Event::CircuitChanged { circuit, .. } if self.deployments.contains(circuit) => {}
            Event::CircuitChanged { circuit, to, reason, failure, at, .. } => {
                let works = *to == CircuitState::Closed;
                if let Some(tier) = self.tier(circuit) {
                    (tier.circuit, tier.changed) = (*to, Some((*at, *reason)));
                    if works {
                        tier.recent.clear_failures();
                    } else if failure.is_some() {
                        tier.failure.clone_from(failure);
                    }
                }
                if works {
                    self.chains.clear_failures(circuit);
                }
            }
            Event::Operated { operation, .. } => self.operated(operation),
            // At least one tier works, as the next request would find.
            Event::RecoveryChecked { tier, failure: None, .. } => {
                self.chains.checked(tier);
                if let Some(tier) = self.tier(tier) {
                    tier.recent.clear_failures();
                    // A check may be of the key alone.
                    if tier.setup != Setup::Works {
                        tier.setup = Setup::Untried;
                    }
                }
            }
            Event::AllTiersFailed { at, .. } if !self.is_observed => self.chains.all_failed(*at),
            // Others leave the state as it is. The active tier continues over a reload; if it cannot, a recovery
            // reports that.
            _ => {}
        }
    }

    fn operated(&mut self, operation: &Operation) {
        match operation {
            Operation::LevelPinned { level, feature: None } => self.pinned_level = Some(*level),
            Operation::LevelUnpinned { feature: None } => self.pinned_level = None,
            Operation::LevelPinned { .. }
            | Operation::LevelUnpinned { .. }
            | Operation::AnswersForgotten { .. }
            | Operation::OwnerForgotten { .. } => {}
            Operation::CircuitForced { circuit: tier, .. }
            | Operation::CircuitReleased { circuit: tier }
            | Operation::TierDrained { tier }
            | Operation::TierUndrained { tier } => {
                if self.deployments.contains(tier) {
                    return;
                }
                let Some(known) = self.tier(tier) else { return };
                match operation {
                    Operation::CircuitForced { to, .. } => known.forced = Some(*to),
                    Operation::CircuitReleased { .. } => known.forced = None,
                    _ => known.drained = matches!(operation, Operation::TierDrained { .. }),
                }
            }
            _ => {}
        }
    }

    /// Resets the circuits of these tiers, and the proof of their setup.
    pub(super) fn reset_circuits(&mut self, tiers: &[Arc<str>]) {
        for name in tiers {
            if let Some(tier) = self.tier(name) {
                (tier.circuit, tier.changed, tier.forced) = (CircuitState::Closed, None, None);
                tier.setup = Setup::Untried;
                tier.recent.clear_failures();
            }
        }
    }

    pub(super) fn lost(&mut self, events: u64) {
        self.lost = self.lost.saturating_add(events);
        self.chains.lost();
    }

    fn remember(&mut self, switch: SwitchRecord) {
        if switch.reason.is_some() {
            self.failovers.count(switch.at);
        }
        self.tier(&switch.to);
        if self.switches.len() == SWITCHES {
            self.switches.pop_back();
        }
        self.switches.push_front(switch);
    }

    #[inline]
    fn request(&mut self, ended: &RequestEnded) {
        if !std::mem::replace(&mut self.is_observed, true) {
            self.chains.forget_all_failed();
        }
        if let Some(failures) = &ended.failures {
            failures.iter().for_each(|failure| self.count_failure(failure, ended));
        }
        let failed = match ended.outcome {
            RequestOutcome::Answered => Some(false),
            _ if ended.is_by_callers_deadline() => self.was_impatient(ended).then_some(true),
            outcome => outcome.kind().filter(|kind| shows_trouble(*kind)).map(|_| true),
        };
        match failed {
            Some(true) => self.requests.record_failure(ended.at),
            Some(false) => self.requests.record_answers(ended.at, 1),
            None => {}
        }
        self.chains.ended(&self.tiers[PRIMARY].name, ended, failed);
        // Before a response it is unknown which tier would have served.
        if ended.is_served() {
            self.served(ended, matches!(ended.outcome, RequestOutcome::Broken(_)));
        }
    }

    /// Takes a request that its caller's own limit ended. Returns whether it shows trouble all the same: not if answers
    /// of the tier usually take as long, nor unless several such requests in a row had no answer between them.
    #[cold]
    fn was_impatient(&mut self, ended: &RequestEnded) -> bool {
        let limits = ended.failures.iter().flat_map(|steps| steps.iter()).filter_map(|step| step.timeout);
        let waited = limits.map(|out| out.after).max().unwrap_or_default();
        let first = first_asked(ended).unwrap_or(&self.tiers[PRIMARY].name).clone();
        let usual = place(&self.tiers, &first).and_then(|place| self.tiers[place].rates.sum(ended.at).latency());
        let usual = usual.map_or(LEAST_WAIT, |usual| Duration::from_secs_f64(usual.p95_ms / 1e3).max(LEAST_WAIT));
        waited >= usual && self.chains.count_impatient(ended, &first)
    }

    /// Takes an answer, or its beginning if it `failed` after that.
    #[inline(always)]
    fn served(&mut self, ended: &RequestEnded, failed: bool) {
        let Some(place) = self.place_served(ended) else { return };
        let tier = &mut self.tiers[place];
        tier.degraded = ended.degraded.is_some();
        tier.setup.answered(ended);
        tier.rates.record(ended.at, failed, Some(ended.served_in));
        match failed {
            true => tier.recent.record_failure(ended.at),
            // A cached answer says nothing about a tier.
            false if ended.cached.is_none() => tier.recent.record_answers(ended.at, 1),
            false => {}
        }
        if let Some(model) = &ended.model
            && tier.model.as_ref().is_none_or(|known| !Arc::ptr_eq(known, model))
        {
            tier.model = Some(model.clone());
        }
    }

    /// Takes the plain answers that follow one of the same tier and model at once: until a window moves on, they change
    /// nothing but counts. Returns their number.
    #[inline]
    fn answers_like(&mut self, first: &RequestEnded, others: &[Event]) -> usize {
        let Some(place) = self.place_served(first) else { return 0 };
        let tier = &mut self.tiers[place];
        let of_chain = self.chains.until(first, &tier.name);
        let windows = [self.requests.until(), of_chain, tier.recent.until(), Some(tier.rates.until())];
        let Some(until) = windows.into_iter().min().flatten() else { return 0 };
        let rates = tier.rates.counts(first.at);
        let (mut alike, mut last) = (0, first.at);
        for event in others {
            let Event::RequestEnded(ended) = event else { break };
            let names = [(&ended.tier, &first.tier), (&ended.model, &first.model), (&ended.chain, &first.chain)];
            let same = names.iter().all(|(one, other)| is_same(one, other));
            if !(same && is_plain_answer(ended) && ended.at < until) {
                break;
            }
            rates.count_answer(ended.served_in);
            (alike, last) = (alike + 1, ended.at);
        }
        if alike == 0 {
            return 0;
        }
        self.requests.record_answers(last, alike as u64);
        self.chains.answers(first, &tier.name, last, alike as u64);
        tier.recent.record_answers(last, alike as u64);
        alike
    }

    /// Counts a failed call, unless nothing was sent.
    #[inline(never)]
    fn count_failure(&mut self, failure: &Attempt, ended: &RequestEnded) {
        if failure.failure.is_none() || failure.is_local() {
            return;
        }
        let now = ended.at;
        let name = failure.tier.clone().unwrap_or_else(|| self.tiers[PRIMARY].name.clone());
        if let Some(tier) = self.tier(&name) {
            let failed = failure.is_tiers_failure();
            if failed {
                tier.failure = Failure::of_attempt(failure, ended.request_id.clone());
            }
            tier.setup.failed(failure, now);
            tier.rates.record(now, failed, None);
            if failed {
                tier.recent.record_failure(now);
            }
        }
    }

    /// Returns the tier of this name, adding it if it is new; `None` if there are too many.
    fn tier(&mut self, name: &Arc<str>) -> Option<&mut Tier> {
        let place = self.place(name)?;
        self.tiers.get_mut(place)
    }

    /// Returns the place of the tier that served.
    #[inline]
    fn place_served(&mut self, ended: &RequestEnded) -> Option<usize> {
        ended.tier.as_ref().map_or(Some(PRIMARY), |name| self.place(name))
    }

    #[inline]
    fn place(&mut self, name: &Arc<str>) -> Option<usize> {
        if let Some(place) = self.tiers.iter().position(|tier| Arc::ptr_eq(&tier.name, name)) {
            return Some(place);
        }
        self.place_of_text(name)
    }

    #[cold]
    fn place_of_text(&mut self, name: &Arc<str>) -> Option<usize> {
        let Some(place) = place(&self.tiers, name) else { return self.add(name) };
        // The next lookup then compares the allocation and not the text.
        self.tiers[place].name = name.clone();
        Some(place)
    }

    #[cold]
    fn add(&mut self, name: &Arc<str>) -> Option<usize> {
        if self.tiers.len() >= self.configured + TIERS {
            return None;
        }
        self.tiers.push(Tier::new(name.clone(), self.start));
        Some(self.tiers.len() - 1)
    }

    /// Returns the status now, a moment that is `since_1970` by the wall clock.
    pub(super) fn status(&self, now: Instant, since_1970: Duration) -> Status {
        let dates = Dates { now, since_1970 };
        let (state, since, chain) = self.chains.state(now, |tier| self.is_degraded(tier));
        let (active, first) = (self.chains.active(chain), &chain.first);
        let [was_away, away] = self.chains.longest_away(now);
        let tiers = |name: &Arc<str>| self.model_of(name);
        Status {
            state,
            ready: self.is_ready(now),
            active_model: self.model_of(active),
            active_tier: active.as_ref().into(),
            primary_model: self.model_of(first),
            primary_tier: first.as_ref().into(),
            chain: chain.id.as_ref().into(),
            chains: self.chains.statuses(now, |tier| self.is_degraded(tier), tiers, |at| dates.date(at)),
            since: dates.date(since),
            since_seconds: dates.seconds_ago(since),
            tiers: self.tiers.iter().map(|tier| tier.status(&dates)).collect(),
            requests: {
                let [ended, failed] = self.requests.counts(now);
                RecentRequests { ended, failed }
            },
            recent_switches: self.switches.iter().map(|switch| switch.status(&dates)).collect(),
            failovers_last_hour: self.failovers.sum(now),
            pinned_level: self.pinned_level,
            time_on_fallback: TimeOnFallback {
                total_seconds: was_away.saturating_add(away).as_secs_f64(),
                current_seconds: away.as_secs_f64(),
            },
            last_recovery_seconds: self.last_recovery.map(|took| took.as_secs_f64()),
            cache: None,
            lost_events: self.lost,
        }
    }

    /// Returns the id of a tier's model if its answers have named one, else the tier's name.
    fn model_of(&self, tier: &Arc<str>) -> String {
        let known = place(&self.tiers, tier).and_then(|place| self.tiers[place].model.as_ref());
        known.unwrap_or(tier).as_ref().into()
    }

    /// Returns false while the primary's setup is refused and no tier has ever answered.
    fn is_ready(&self, now: Instant) -> bool {
        match self.tiers[PRIMARY].setup {
            Setup::Refused { last, .. } if now.saturating_duration_since(last) < REFUSED => {
                self.tiers.iter().any(|tier| tier.setup == Setup::Works)
            }
            _ => true,
        }
    }

    fn is_degraded(&self, tier: &str) -> bool {
        self.tiers.iter().any(|known| known.degraded && *known.name == *tier)
    }
}

/// Returns whether a failure shows that callers get no answers. Their own mistakes do not, nor does a lack of places or
/// time, which a caller can cause alone.
fn shows_trouble(kind: ErrorKind) -> bool {
    let refused_alone = matches!(
        kind,
        ErrorKind::BulkheadFull | ErrorKind::Deadline | ErrorKind::Blocked | ErrorKind::IdempotencyConflict
    );
    !refused_alone && !kind.is_callers_own()
}

/// Returns whether a request came to a whole answer of its first tier, made for it.
#[inline]
fn is_plain_answer(ended: &RequestEnded) -> bool {
    ended.outcome == RequestOutcome::Answered
        && ended.failures.is_none()
        && ended.degraded.is_none()
        && ended.cached.is_none()
}

/// Returns whether two names share their allocation.
#[inline]
fn is_same(one: &Option<Arc<str>>, other: &Option<Arc<str>>) -> bool {
    one.as_deref().map(str::as_ptr) == other.as_deref().map(str::as_ptr)
}

fn place(tiers: &[Tier], name: &Arc<str>) -> Option<usize> {
    tiers.iter().position(|tier| tier.name == *name)
}

impl Tier {
    fn new(name: Arc<str>, start: Instant) -> Self {
        Self {
            name,
            model: None,
            circuit: CircuitState::Closed,
            changed: None,
            forced: None,
            drained: false,
            degraded: false,
            setup: Setup::Untried,
            rates: Rates::new(start),
            recent: Recent::new(),
            failure: None,
        }
    }

    fn status(&self, dates: &Dates) -> TierStatus {
        let sum = self.rates.sum(dates.now);
        let latency: Option<Latency> = sum.latency();
        let health = match () {
            () if self.circuit != CircuitState::Closed => TierHealth::Down,
            () if self.recent.failing(dates.now).is_some() => TierHealth::Failing,
            () => TierHealth::Ok,
        };
        TierStatus {
            name: self.name.as_ref().into(),
            model: self.model.as_deref().map(Into::into),
            health,
            setup: match self.setup {
                Setup::Untried => TierSetup::Untried,
                Setup::Works => TierSetup::Works,
                Setup::Refused { kind: ErrorKind::Auth, .. } => TierSetup::KeyRefused,
                Setup::Refused { .. } => TierSetup::ModelUnknown,
            },
            circuit: self.circuit.name(),
            circuit_since: self.changed.map(|(at, _)| dates.date(at)),
            circuit_reason: self.changed.map(|(_, reason)| reason.to_string()),
            circuit_until: None,
            forced: self.forced.map(CircuitState::name),
            drained: self.drained,
            calls: sum.calls,
            failures: sum.failures,
            failure_rate: sum.failure_rate(),
            latency,
            last_failure: self.failure.as_ref().map(|failure| LastFailure::new(failure, dates)),
            deployments: Vec::new(),
        }
    }
}

impl SwitchRecord {
    fn status(&self, dates: &Dates) -> Switch {
        Switch {
            chain: self.chain.as_ref().into(),
            first: self.first.as_ref().into(),
            from: self.from.as_ref().into(),
            to: self.to.as_ref().into(),
            reason: self.reason.map_or("recovered", ErrorKind::name),
            failure: self.failure.as_ref().map(|failure| LastFailure::new(failure, dates)),
            at: dates.date(self.at),
            seconds_ago: dates.seconds_ago(self.at),
        }
    }
}

impl LastFailure {
    fn new(failure: &Failure, dates: &Dates) -> Self {
        Self {
            kind: failure.kind.name(),
            status: failure.status,
            message: failure.message.as_deref().map(Into::into),
            request_id: failure.request_id.as_deref().map(Into::into),
            at: dates.date(failure.at),
            seconds_ago: dates.seconds_ago(failure.at),
        }
    }
}

/// Converts moments of the monotonic clock into dates of the wall clock.
struct Dates {
    now: Instant,
    since_1970: Duration,
}

impl Dates {
    fn date(&self, at: Instant) -> String {
        rfc3339(self.since_1970.saturating_sub(self.now.saturating_duration_since(at)))
    }

    fn seconds_ago(&self, at: Instant) -> f64 {
        self.now.saturating_duration_since(at).as_secs_f64()
    }
}

/// The number of times that something happened within the last hour, to the minute.
#[derive(Debug)]
struct Hour {
    start: Instant,
    /// For each slot, the minute since the start and its count.
    minutes: [(u64, u32); 60],
}

impl Hour {
    fn new(start: Instant) -> Self {
        Self { start, minutes: [(0, 0); 60] }
    }

    fn count(&mut self, now: Instant) {
        let number = self.number(now);
        let minute = &mut self.minutes[number as usize % 60];
        if minute.0 < number {
            *minute = (number, 0);
        }
        minute.1 = minute.1.saturating_add(1);
    }

    fn sum(&self, now: Instant) -> u32 {
        let number = self.number(now);
        let oldest = (number + 1).saturating_sub(60);
        let counted = self.minutes.iter().filter(|minute| (oldest..=number).contains(&minute.0));
        counted.fold(0, |sum, minute| sum.saturating_add(minute.1))
    }

    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / 60
    }
}
