//! Metrics of states: circuits, models, budgets.

use std::{collections::HashMap, sync::Arc, time::Duration};

use metrics::{Counter, Gauge};
use tokio::time::Instant;

use super::{
    series::{Name, Names, Registry, SeriesOf},
    table,
};
use steadfast::{
    CircuitBreakerHandle, ErrorKind,
    events::{CircuitReason, CircuitState},
    prices::Usd,
};
use steadfast_internal::sync::{Mutex, MutexGuard, lock};

/// The circuits' states: of the three series of a circuit exactly one is 1.
#[derive(Debug)]
pub(super) struct Circuits {
    registry: Registry,
    names: Names,
    states: SeriesOf<Name, [Gauge; 3]>,
    transitions: SeriesOf<(Name, CircuitState, CircuitReason), Counter>,
}

impl Circuits {
    pub(super) fn new(registry: Registry) -> Self {
        Self {
            registry,
            names: Names::new(MOST_CIRCUITS),
            states: SeriesOf::default(),
            transitions: SeriesOf::default(),
        }
    }

    pub(super) fn record_change(&mut self, circuit: &Arc<str>, to: CircuitState, reason: CircuitReason) {
        let name = self.set(circuit, to);
        let count = || {
            let labels = [self.names.text(name), state_name(to).into(), reason.name().into()];
            self.registry.counter(&table::CIRCUIT_TRANSITIONS, labels)
        };
        self.transitions.entry((name, to, reason)).or_insert_with(count).increment(1);
    }

    /// Reads the state from the circuit itself: at the start, and after events were lost.
    pub(super) fn read(&mut self, circuit: &CircuitBreakerHandle) {
        self.set(&circuit.name(), circuit.state());
    }

    /// Replaces the circuits, after a reload. Removed circuits are in no state.
    pub(super) fn replace(&mut self, circuits: &[CircuitBreakerHandle]) {
        let there: std::collections::HashSet<Name> =
            circuits.iter().map(|circuit| self.set(&circuit.name(), circuit.state())).collect();
        let gone = self.states.iter().filter(|(name, _)| !there.contains(name));
        gone.flat_map(|(_, states)| states).for_each(|state| state.set(0.0));
    }

    pub(super) fn set(&mut self, circuit: &Arc<str>, to: CircuitState) -> Name {
        let name = self.names.name(Some(circuit));
        // Several circuits under one name have no common state.
        if name != Name::OTHER {
            let gauges = self.states.entry(name).or_insert_with(|| {
                STATES.map(|state| {
                    let labels = [self.names.text(name), state_name(state).into()];
                    self.registry.gauge(&table::CIRCUIT_STATE, labels)
                })
            });
            for (state, gauge) in STATES.iter().zip(gauges) {
                gauge.set(if *state == to { 1.0 } else { 0.0 });
            }
        }
        name
    }
}

const STATES: [CircuitState; 3] = [CircuitState::Closed, CircuitState::Open, CircuitState::HalfOpen];

fn state_name(state: CircuitState) -> &'static str {
    match state {
        CircuitState::Closed => "closed",
        CircuitState::Open => "open",
        _ => "half_open",
    }
}

/// The time for which other tiers serve in place of chains' first ones. Shared with the sampler, because it grows
/// without events.
#[derive(Debug)]
pub(super) struct Switches {
    registry: Registry,
    stays: Mutex<HashMap<Arc<str>, Meter>>,
    /// The fraction of a second left over from each chain's past stays on a fallback. It counts with the next
    /// stay, so that many short stays add up.
    remainders: Mutex<HashMap<Arc<str>, Duration>>,
}

/// The time on a fallback, in the whole seconds of a counter.
#[derive(Debug)]
struct Meter {
    seconds: Counter,
    /// The time is counted up to here. A fraction of a second is left for later, also from one stay to the next.
    counted: Instant,
    on: Gauge,
}

impl Meter {
    /// Returns the seconds that are not counted yet.
    fn take_pending(&mut self, now: Instant) -> PendingSeconds {
        let seconds = now.saturating_duration_since(self.counted).as_secs();
        self.counted += Duration::from_secs(seconds);
        PendingSeconds { counter: self.seconds.clone(), seconds }
    }
}

/// Seconds to count once no lock is held.
struct PendingSeconds {
    counter: Counter,
    seconds: u64,
}

impl PendingSeconds {
    fn count(self) {
        self.counter.increment(self.seconds);
    }
}

impl Switches {
    pub(super) fn new(registry: Registry) -> Self {
        Self { registry, stays: Mutex::default(), remainders: Mutex::default() }
    }

    /// Adds a chain whose first tier serves, as far as is known.
    pub(super) fn add_chain(&self, name: &Arc<str>) {
        self.registry.gauge(&table::ON_FALLBACK, [name.clone().into()]).set(0.0);
    }

    /// Adds a chain that another tier may serve already. See [`add_chain`](Self::add_chain).
    pub(super) fn ensure_chain(&self, name: &Arc<str>) {
        let is_away = self.stays().contains_key(name);
        if !is_away {
            self.add_chain(name);
        }
    }

    /// Counts a reported switch.
    pub(super) fn count_switch(&self, from: &Arc<str>, to: &Arc<str>, reason: ErrorKind) {
        let labels = [from.clone().into(), to.clone().into(), reason.name().into()];
        self.registry.counter(&table::FALLBACK_ACTIVATIONS, labels).increment(1);
    }

    /// Records that another tier serves a chain in place of its first one.
    pub(super) fn record_away(&self, chain: &Arc<str>, to: &Arc<str>, at: Instant) {
        // The recorder is foreign code: its series is requested before the lock is taken.
        let seconds = self.registry.counter(&table::FALLBACK_SECONDS, [chain.clone().into(), to.clone().into()]);
        let on = self.registry.gauge(&table::ON_FALLBACK, [chain.clone().into()]);
        let mut stays = self.stays();
        let is_full = stays.len() == MOST_CHAINS;
        let due = match stays.get_mut(chain) {
            Some(meter) => {
                let due = meter.take_pending(at);
                meter.seconds = seconds;
                Some(due)
            }
            None if is_full => return,
            None => {
                let counted = at.checked_sub(self.take_remainder(chain)).unwrap_or(at);
                stays.insert(chain.clone(), Meter { seconds, counted, on: on.clone() });
                None
            }
        };
        drop(stays);
        on.set(1.0);
        if let Some(due) = due {
            due.count();
        }
    }

    /// Records a reported recovery after this time. If the switch's event was lost, the time counts all the same.
    pub(super) fn record_recovery(
        &self,
        chain: &Arc<str>,
        [from, first]: [&Arc<str>; 2],
        after: Duration,
        at: Instant,
    ) {
        self.registry.histogram(&table::RECOVERY, [first.clone().into()]).record(after);
        if !self.record_home(chain, at) {
            let labels = [chain.clone().into(), from.clone().into()];
            let seconds = self.registry.counter(&table::FALLBACK_SECONDS, labels);
            let on = self.registry.gauge(&table::ON_FALLBACK, [chain.clone().into()]);
            let stay = after.saturating_add(self.take_remainder(chain));
            self.record_end(chain, Meter { seconds, counted: at.checked_sub(stay).unwrap_or(at), on }, at);
        }
    }

    /// Records that a chain's first tier serves again. Returns whether it was away.
    pub(super) fn record_home(&self, chain: &Arc<str>, at: Instant) -> bool {
        let meter = self.stays().remove(chain);
        meter.is_some_and(|meter| {
            self.record_end(chain, meter, at);
            true
        })
    }

    /// Records the end of a stay on a fallback.
    fn record_end(&self, chain: &Arc<str>, mut meter: Meter, at: Instant) {
        meter.take_pending(at).count();
        meter.on.set(0.0);
        let mut left = lock(&self.remainders);
        if left.len() < MOST_CHAINS {
            left.insert(chain.clone(), at.saturating_duration_since(meter.counted));
        }
    }

    /// Removes and returns the fraction left over from a chain's stays.
    fn take_remainder(&self, chain: &Arc<str>) -> Duration {
        lock(&self.remainders).remove(chain).unwrap_or_default()
    }

    /// Counts the time up to now.
    pub(super) fn sample(&self, now: Instant) {
        let due: Vec<PendingSeconds> = self.stays().values_mut().map(|meter| meter.take_pending(now)).collect();
        due.into_iter().for_each(PendingSeconds::count);
    }

    fn stays(&self) -> MutexGuard<'_, HashMap<Arc<str>, Meter>> {
        lock(&self.stays)
    }
}

/// The last reported spending under each cap. A cap per key shows the key that has spent the most, as in a
/// [sample](super::MetricsHandle::sample): a series for each key would have no bound.
#[derive(Debug)]
pub(super) struct Budgets {
    registry: Registry,
    caps: Names,
    gauges: SeriesOf<Name, BudgetGauges>,
}

#[derive(Debug)]
struct BudgetGauges {
    spent: Gauge,
    reserved: Gauge,
    limit: Gauge,
    /// The largest reported amounts of this period, spent and reserved, and the period's end.
    largest: [Usd; 2],
    until: Instant,
}

impl BudgetGauges {
    fn set(&mut self, largest: [Usd; 2]) {
        self.largest = largest;
        for (gauge, amount) in [&self.spent, &self.reserved].into_iter().zip(largest) {
            gauge.set(amount.dollars());
        }
    }
}

impl Budgets {
    pub(super) fn new(registry: Registry) -> Self {
        Self { registry, caps: Names::new(MOST_CAPS), gauges: SeriesOf::default() }
    }

    pub(super) fn record_reached(&mut self, cap: &Arc<str>, used: [Usd; 2], limit: Usd, until: Instant) {
        let name = self.caps.name(Some(cap));
        if name == Name::OTHER {
            return;
        }
        let gauges = self.gauges.entry(name).or_insert_with(|| BudgetGauges {
            spent: self.registry.gauge(&table::BUDGET_SPENT, [cap.clone().into()]),
            reserved: self.registry.gauge(&table::BUDGET_RESERVED, [cap.clone().into()]),
            limit: self.registry.gauge(&table::BUDGET_LIMIT, [cap.clone().into()]),
            largest: [Usd::ZERO; 2],
            until,
        });
        let sum = |[spent, reserved]: [Usd; 2]| spent + reserved;
        let largest = if gauges.until < until || sum(used) > sum(gauges.largest) { used } else { gauges.largest };
        gauges.until = gauges.until.max(until);
        gauges.set(largest);
        gauges.limit.set(limit.dollars());
    }

    /// Records the end of a period. A key's amount of the next period stays.
    pub(super) fn record_reset(&mut self, cap: &Arc<str>, at: Instant) {
        let name = self.caps.name(Some(cap));
        let is_over = |gauges: &&mut BudgetGauges| gauges.until.saturating_duration_since(at) <= CLOCKS_DIFFER;
        if let Some(gauges) = self.gauges.get_mut(&name).filter(is_over) {
            gauges.set([Usd::ZERO; 2]);
        }
    }
}

/// After a reload another reading of the clock determines a period's end.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);
const MOST_CIRCUITS: u16 = 256;
/// More chains than are away at once.
const MOST_CHAINS: usize = 256;
const MOST_CAPS: u16 = 256;
