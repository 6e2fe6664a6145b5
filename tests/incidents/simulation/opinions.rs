//! Invariants of requests that a provider calls invalid: whose mistake it is, and who is asked about it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use steadfast::{
    Attempt, ErrorKind,
    events::CircuitState,
    layers::fallback::{AllOpen, SessionPolicy},
    ledger::{Next, Stop},
};

use crate::simulation::{
    books::{Call, Entry, Kept},
    plan::{Last, NEVER_DOUBTED, Plan, SECOND, Tier},
};

/// Returns whether a provider has called the request wrong, at once. An error of that kind within an accepted answer is
/// another thing.
fn is_mistake(step: &Attempt) -> bool {
    step.failure == Some(ErrorKind::InvalidRequest) && !step.status.is_some_and(|status| status.is_success())
}

/// Returns the tier of a step.
fn tier(plan: &Plan, step: &Attempt) -> Option<usize> {
    (0..plan.tiers.len()).find(|tier| plan.is_at(*tier, step))
}

/// Returns whether a model answers there, as far as the stack knows: by hand, a canned answer is made no level of its
/// own.
fn is_model(plan: &Plan, place: usize) -> bool {
    place < plan.tiers.len() || (plan.by_hand && plan.last == Last::Canned)
}

/// Looks at one request that was called invalid.
pub(crate) fn check(plan: &Plan, kept: &Kept, entry: &Entry) -> Option<String> {
    // A request that queues starts over, and forgets the doubts.
    if matches!(plan.all_open, AllOpen::Queue(_)) {
        return None;
    }
    let place = entry.record.iter().position(is_mistake)?;
    let (first, after) = (&entry.record[place], &entry.record[place + 1..]);
    let at = tier(plan, first)?;
    let Tier { breaker, last_resort, .. } = &plan.tiers[at];
    let circuit = entry.calls.iter().rfind(|call| call.tier == at).and_then(|call| call.circuit);
    if first.next == Next::Stopped(Stop::Kind) {
        // A last resort's call past its open circuit does not count for that.
        let is_seen = !last_resort || circuit == Some(CircuitState::Closed);
        let is_probe = !last_resort && circuit == Some(CircuitState::HalfOpen);
        let is_doubted = is_probe || (breaker.second_opinion_after == 0 && is_seen);
        return (is_doubted && could_ask(plan, kept, entry)).then(|| format!("nobody else was asked about: {first}"));
    }
    if first.next != Next::FailedOver {
        return None;
    }
    // On record, what a circuit knows to be a storm looks like a mistake still.
    let may_be_storm =
        |tier: usize| plan.tiers[tier].breaker_outside || kept.tiers[tier].may_have_had_storm() || kept.was_operated;
    if may_be_storm(at) {
        return None;
    }
    if breaker.second_opinion_after >= NEVER_DOUBTED && circuit == Some(CircuitState::Closed) {
        return Some(format!("it was doubted without a reason: {first}"));
    }
    // From here on it is doubted: models are asked, until one says the same.
    let again = after.iter().find(|step| is_mistake(step) && tier(plan, step).is_some_and(|at| !may_be_storm(at)));
    if let Some(again) = again.filter(|again| again.next != Next::Stopped(Stop::Kind)) {
        return Some(format!("two models called it invalid, and a third was asked: {again}"));
    }
    let mut asked = (0..plan.places()).filter(|place| {
        let is_told = |step: &Attempt| step.next != Next::Skipped && plan.is_at(*place, step);
        after.iter().any(is_told) || entry.served == Some(*place)
    });
    let other = asked.find(|place| !is_model(plan, *place))?;
    Some(format!("{} cannot say whether it is invalid, and was asked", plan.name(other)))
}

/// Returns whether there is another model that could have been asked.
fn could_ask(plan: &Plan, kept: &Kept, entry: &Entry) -> bool {
    let pinned = plan.session != SessionPolicy::Free && entry.ask.session.is_some();
    let spent = entry.responded.map_or(Duration::MAX, |at| at - entry.ask.at);
    if pinned || kept.was_operated || entry.ask.first_tier_only || spent + SECOND > entry.ask.limit(plan) {
        return false;
    }
    plan.chain(entry.ask.feature).into_iter().any(|tier| is_model(plan, tier) && !entry.tells_of(plan, tier))
}

/// In an unbroken row of requests that a provider calls invalid, no more are believed than its circuit was told to
/// believe.
pub(crate) fn believed(plan: &Plan, kept: &Kept, tier: usize) -> Option<(Option<usize>, String)> {
    let settings = &plan.tiers[tier];
    // A call that waits was let through long before; an operator makes a circuit forget.
    let waits = settings.breaker_outside || settings.leaf_limit.is_some();
    if waits || kept.was_operated || matches!(plan.all_open, AllOpen::Queue(_)) {
        return None;
    }
    let mut ends: Vec<(Duration, Option<(&Call, &Entry)>)> = Vec::new();
    for entry in &kept.asks {
        let mistaken = entry.record.iter().rfind(|step| is_mistake(step) && self::tier(plan, step) == Some(tier));
        let last = entry.calls.iter().rposition(|call| call.tier == tier);
        for (place, call) in entry.calls.iter().enumerate().filter(|(_, call)| call.tier == tier) {
            let is_it = mistaken.is_some() && Some(place) == last && call.circuit == Some(CircuitState::Closed);
            ends.push((call.ended.unwrap_or(Duration::MAX), is_it.then_some((call, entry))));
        }
    }
    ends.extend(kept.tiers[tier].changed.iter().map(|at| (*at, None)));
    ends.sort_by_key(|(at, mistake)| (*at, mistake.is_some()));
    // A storm has up to four callers, of whom the circuit has met no more than these.
    let callers: BTreeSet<_> = kept.asks.iter().map(|entry| entry.ask.session).collect();
    let share = 20_usize.div_ceil(callers.len().clamp(1, 4));
    // The mistakes in a row, one after the other, and the time when the last one had ended.
    let (mut row, mut over) = (Vec::new(), Duration::ZERO);
    for (at, mistake) in ends {
        let Some((call, entry)) = mistake else {
            (row, over) = (Vec::new(), at);
            continue;
        };
        // Two that are under way together may be taken for one, and one from before a change is not heard.
        if call.begun <= over {
            continue;
        }
        row.push((at, entry.ask.session));
        over = at;
        let is_believed =
            entry.record.last().is_some_and(|step| is_mistake(step) && step.next == Next::Stopped(Stop::Kind));
        let alone = entry.record.iter().filter(|step| is_mistake(step)).count() == 1;
        let counted = match settings.breaker.second_opinion_after {
            NEVER_DOUBTED.. => of_a_storm(&row, share, at),
            _ => row.len(),
        };
        if counted > settings.breaker.second_opinion_after as usize
            && is_believed
            && alone
            && could_ask(plan, kept, entry)
        {
            let text = format!(
                "{} has called {counted} requests invalid one after the other, and this was believed",
                settings.name
            );
            return Some((Some(entry.ask.id), text));
        }
    }
    None
}

/// Of a row of mistakes, those that may make a storm: of the last minute, and at most a share of each caller.
fn of_a_storm(row: &[(Duration, Option<u64>)], share: usize, now: Duration) -> usize {
    let mut by_caller: BTreeMap<Option<u64>, usize> = BTreeMap::new();
    for (_, caller) in row.iter().filter(|(at, _)| now - *at <= 60 * SECOND) {
        *by_caller.entry(*caller).or_default() += 1;
    }
    by_caller.values().map(|count| (*count).min(share)).sum()
}
