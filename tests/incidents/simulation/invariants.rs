//! Invariants of every request, whatever has happened to it.

use std::{collections::BTreeMap, time::Duration};

use steadfast::{Attempt, layers::fallback::SessionPolicy};

use crate::simulation::{
    books::{Entry, Kept},
    caller::GRACE,
    opinions,
    plan::{Last, Plan},
    retries, steps,
    traffic::Manner,
};

/// The violations, each with its request.
type Violations = Vec<(Option<usize>, String)>;

/// Looks at all requests of a simulation that is over.
pub(crate) fn check(plan: &Plan, kept: &Kept) -> Violations {
    let mut violations = Vec::new();
    for entry in &kept.asks {
        let wrong = [in_time(plan, entry), attempts(plan, entry), record(plan, entry), steps::check(plan, kept, entry)];
        for wrong in wrong.into_iter().chain([opinions::check(plan, kept, entry)]) {
            violations.extend(wrong.map(|wrong| (Some(entry.ask.id), wrong)));
        }
    }
    violations.extend(pins(plan, kept));
    violations.extend((0..plan.tiers.len()).filter_map(|tier| opinions::believed(plan, kept, tier)));
    violations.extend(retries::check(plan, kept).map(|wrong| (None, wrong)));
    let unpolled = |entry: &&Entry| !matches!(entry.ask.manner, Manner::NeverPolls | Manner::OnlyReady);
    let asked = kept.asks.iter().filter(unpolled).count();
    let (least, most) = (asked, kept.asks.len());
    if !(least..=most).contains(&kept.told) {
        violations.push((None, format!("{asked} requests were made, and {} were told", kept.told)));
    }
    violations
}

/// It ends, and its response is there within its time.
fn in_time(plan: &Plan, entry: &Entry) -> Option<String> {
    let Some((ended, outcome)) = entry.ended else { return Some("it has never ended".to_owned()) };
    let limit = entry.ask.limit(plan);
    let responded = entry.responded.unwrap_or(ended) - entry.ask.at;
    let is_over = responded > limit + GRACE;
    // A caller who leaves in the end has waited, too.
    let waits = !matches!(entry.ask.manner, Manner::NeverPolls | Manner::OnlyReady);
    (is_over && waits)
        .then(|| format!("its response ({outcome:?}) came after {responded:?}, where {limit:?} is the limit"))
}

/// It costs no more attempts than it may.
fn attempts(plan: &Plan, entry: &Entry) -> Option<String> {
    let (made, most) = (entry.calls.len(), entry.ask.most_attempts(plan));
    if entry.ask.first_tier_only && entry.calls.iter().any(|call| call.tier != entry.calls[0].tier) {
        return Some("it went to a second tier, and wanted none".to_owned());
    }
    (made > most).then(|| format!("{made} attempts were made for it, and {most} are the most"))
}

/// Checks that the stack's record of attempts is what the providers saw.
fn record(plan: &Plan, entry: &Entry) -> Option<String> {
    let responded = entry.responded?;
    let before = entry.calls.iter().filter(|call| call.begun <= responded);
    // The stack counts an attempt that ran out of time before its leaf was ready, and the provider never had it.
    let failed = |attempt: &&Attempt| {
        attempt.failure.is_some() && !attempt.is_local() && !attempt.message.as_str().ends_with("waiting for readiness")
    };
    let mut said = vec![0_usize; plan.places()];
    for attempt in entry.record.iter().filter(failed) {
        let place = (0..plan.places()).find(|place| plan.is_at(*place, attempt));
        said[place?] += 1;
    }
    let mut seen = vec![0_usize; plan.places()];
    before.for_each(|call| seen[call.tier] += 1);
    if let Some(tier) = entry.served.filter(|tier| *tier < plan.tiers.len()) {
        said[tier] += 1;
    }
    // Providers do not see what stands behind them.
    said[plan.tiers.len()..].fill(0);
    (said != seen).then(|| format!("its record says {said:?} attempts by tier, and the providers saw {seen:?}"))
}

/// A pinned session stays where its first answer was.
fn pins(plan: &Plan, kept: &Kept) -> Violations {
    if plan.session != SessionPolicy::Pin {
        return Vec::new();
    }
    // The time of each session's first response, and its tier.
    let mut pinned: BTreeMap<u64, (Duration, usize)> = BTreeMap::new();
    for entry in &kept.asks {
        let (Some(session), Some(at), Some(tier)) = (entry.ask.session, entry.responded, entry.served) else {
            continue;
        };
        // People are where it goes for one answer.
        if plan.by_hand && plan.last == Last::Handoff && tier == plan.tiers.len() {
            continue;
        }
        let first = pinned.entry(session).or_insert((at, tier));
        *first = (*first).min((at, tier));
    }
    let mut violations = Vec::new();
    for entry in &kept.asks {
        let Some((since, tier)) = entry.ask.session.and_then(|session| pinned.get(&session)) else { continue };
        if entry.ask.at <= *since {
            continue;
        }
        let elsewhere = entry.calls.iter().find(|call| call.tier != *tier).map(|call| call.tier);
        if let Some(other) = elsewhere.or_else(|| entry.served.filter(|served| served != tier)) {
            let (pin, other) = (plan.name(*tier), plan.name(other));
            violations.push((Some(entry.ask.id), format!("its session is pinned to {pin}, and it went to {other}")));
        }
    }
    violations
}
