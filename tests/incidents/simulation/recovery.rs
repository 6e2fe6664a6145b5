//! Invariants of the time after the last fault: the stack comes back by itself, and soon.

use std::time::Duration;

use steadfast::{
    ErrorKind,
    events::{CircuitReason, CircuitState},
};
use tokio::time::sleep;

use crate::simulation::{
    books::{Entry, Kept, Outcome},
    plan::{Plan, SECOND, Tier},
    world::World,
};

/// The moment at which the last call has ended that any fault could touch, and what the circuits were then.
#[derive(Debug)]
pub(crate) struct DeliveryOutcome {
    pub(crate) at: Duration,
    /// For each tier, until when it is closed off.
    pub(crate) open_until: Vec<Option<Duration>>,
}

/// Waits until the faults have left nothing under way. A fault ends for the stack when the last call that it broke has.
pub(crate) async fn settled(world: &World) -> DeliveryOutcome {
    let (plan, books) = (&world.plan, &world.books);
    while books.left_from(plan.healed) > 0 || world.providers.iter().any(|provider| provider.is_busy()) {
        sleep(Duration::from_millis(100)).await;
    }
    // It touched those, too, that waited behind such a call for a place: a probe that did is a slow one.
    let waited = books.now();
    while books.left_from(waited) > 0 {
        sleep(Duration::from_millis(100)).await;
    }
    let circuit = |tier| world.handles.circuit(plan, tier);
    let open = |tier| Some(circuit(tier)).filter(|circuit| circuit.state() == CircuitState::Open);
    let until = |tier| Some(open(tier)?.earliest_probe()?.saturating_duration_since(books.start));
    let settled = DeliveryOutcome { at: books.now(), open_until: (0..plan.tiers.len()).map(until).collect() };
    books.line(&format!("settled: {settled:?}"));
    settled
}

/// Looks at all requests after the faults.
pub(crate) fn check(plan: &Plan, kept: &Kept, settled: &DeliveryOutcome) -> Vec<(Option<usize>, String)> {
    let mut violations: Vec<_> = amplification(plan, kept).map(|wrong| (None, wrong)).into_iter().collect();
    for tier in 0..plan.tiers.len() {
        let interval = interval(plan, kept, settled, tier);
        violations.extend(interval.map(|wrong| (None, format!("{}: {wrong}", plan.name(tier)))));
        violations.extend(preferred(plan, kept, settled, tier));
    }
    violations
}

/// A minute after the last fault, a request costs one attempt again.
fn amplification(plan: &Plan, kept: &Kept) -> Option<String> {
    let late = kept.asks.iter().filter(|entry| entry.ask.at >= plan.healed + 60 * SECOND && !entry.calls.is_empty());
    let (requests, attempts) =
        late.fold((0, 0), |(requests, attempts), entry| (requests + 1, attempts + entry.calls.len()));
    let ratio = attempts as f64 / f64::max(f64::from(requests), 1.0);
    (requests > 0 && !(0.99..=1.01).contains(&ratio))
        .then(|| format!("{ratio:.3} attempts for a request from 60 s after the last fault on ({requests} requests)"))
}

/// No circuit is closed off for longer than its settings say.
fn interval(plan: &Plan, kept: &Kept, settled: &DeliveryOutcome, tier: usize) -> Option<String> {
    let Tier { breaker, .. } = &plan.tiers[tier];
    let until = settled.open_until[tier]?;
    let (_, reason) = kept.tiers[tier].opened?;
    let grown = if breaker.growth > 1.0 { breaker.longest.max(breaker.cooldown) } else { breaker.cooldown };
    let usual = match reason {
        CircuitReason::Quota | CircuitReason::Auth => breaker.latch,
        // A storm stays one, however often its probes fail.
        CircuitReason::ProbeFailed | CircuitReason::InvalidRequestStorm => grown,
        // A circuit that is closed off already does not report another trip.
        CircuitReason::Throttled => grown.max(breaker.latch),
        _ => breaker.cooldown,
    };
    // A provider may ask for more while it is closed off, and it is believed so far.
    let most = usual.max(breaker.max_throttle);
    let after = until.saturating_sub(settled.at);
    (after > most).then(|| format!("closed off for {after:?} more ({reason}), where {most:?} is the most"))
}

/// From one interval on, and the probes that it takes to close, the first tier that may serve a request serves it.
fn preferred(plan: &Plan, kept: &Kept, settled: &DeliveryOutcome, tier: usize) -> Vec<(Option<usize>, String)> {
    let settings = &plan.tiers[tier];
    let asked_first = |entry: &&Entry| {
        let chain = plan.chain(entry.ask.feature);
        chain.first() == Some(&tier) && entry.ask.session.is_none()
    };
    let asked: Vec<&Entry> = kept.asks.iter().filter(asked_first).collect();
    let opens = settled.open_until[tier].unwrap_or(settled.at).max(settled.at);
    // Each probe is the next request that comes after the one before has ended; at the latest, for after a relapse
    // several go at once.
    let mut back = opens;
    let probes = settings.breaker.successes * kept.tiers[tier].evidence();
    // Once the first has succeeded, a gradual return lets through only its share of the requests, further probes too.
    let one_in = if tier == 0 { plan.ramp.first().map_or(1, |(share, _)| 100 / usize::from(*share).max(1)) } else { 1 };
    for number in 0..probes {
        let passed_over = if number == 0 { 0 } else { one_in - 1 };
        let Some(probe) = asked.iter().filter(|entry| entry.ask.at >= back).nth(passed_over) else {
            return Vec::new();
        };
        let ended = probe.ended.filter(|_| probe.served == Some(tier)).map_or(Duration::ZERO, |(ended, _)| ended);
        back = ended.max(probe.ask.at + settings.healthy());
    }
    back += GRACE;
    // A gradual return begins with the first answer after that.
    if tier == 0 && !plan.ramp.is_empty() {
        // Until then it may take several: of few requests, fewer are probes.
        let Some(first) = asked.iter().find(|entry| entry.ask.at >= back) else { return Vec::new() };
        let begins = (first.ask.at + settings.healthy()).max(kept.recovered.unwrap_or_default());
        back = begins + plan.ramp.iter().map(|(_, lasts)| *lasts).sum::<Duration>();
        back += 2 * GRACE;
    }
    if back + 5 * SECOND > plan.ends {
        if kept.tiers[tier].evidence() > 1 {
            return Vec::new();
        }
        return vec![(
            None,
            format!("{} is back at {back:?} at the earliest, and nobody is left to ask", settings.name),
        )];
    }
    let wrong = |entry: &&Entry| {
        let (_, outcome) = entry.ended?;
        let well = matches!(outcome, Outcome::Answered { .. }) && entry.served == Some(tier) && entry.calls.len() == 1;
        // A limit of its feature is a clear answer.
        (!well && outcome != Outcome::Failed(ErrorKind::BulkheadFull)).then(|| {
            let (served, name) = (entry.served.map_or("nobody", |tier| plan.name(tier)), settings.name);
            let text = format!(
                "{name} is well, and should have been back at {back:?}; it came at {:?} and was served by {served} \
                 ({outcome:?}, {} calls)",
                entry.ask.at,
                entry.calls.len(),
            );
            (Some(entry.ask.id), text)
        })
    };
    asked.iter().filter(|entry| entry.ask.at >= back).filter_map(wrong).take(3).collect()
}

/// The uncertainty of a moment.
const GRACE: Duration = Duration::from_millis(50);
