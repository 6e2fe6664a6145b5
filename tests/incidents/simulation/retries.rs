//! The cost that retries may have: the retry budget reckoned again, from what providers and callers saw.

use std::time::Duration;

use steadfast::{
    ErrorKind,
    layers::fallback::{AllOpen, StreamBreak},
    ledger::Next,
};

use crate::simulation::{
    books::{Call, Entry, Kept, Outcome},
    by_hand::FLOOR,
    plan::Plan,
};

/// The changes of the budget that are possible at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happened {
    /// A request came to a tier, and was counted: then, or at a moment between two that are known.
    Counted,
    MayCome,
    HasCome,
    /// A retry that was paid for and refused on this side. Meanwhile the floor may have filled the gap.
    GivenBack,
    Retried,
    Reserved,
}

/// No retry is made that the budget has nothing for: what was saved up, its share of the requests at each tier, its
/// floor.
///
/// An unknown moment counts as the one that leaves more in the budget.
pub(crate) fn check(plan: &Plan, kept: &Kept) -> Option<String> {
    // Elsewhere a tier may be asked twice that is not retried: the request has waited and starts over.
    if plan.all_open != AllOpen::Fail || plan.on_break == StreamBreak::Restart {
        return None;
    }
    let mut happened: Vec<(Duration, Happened)> = Vec::new();
    for entry in &kept.asks {
        counted(plan, entry, &mut happened);
        given_back(plan, entry, &mut happened);
        for (place, call) in entry.calls.iter().enumerate() {
            // It is paid for when the call before has failed.
            let before = entry.calls[..place].iter().rfind(|before| before.tier == call.tier);
            happened.extend(before.map(|before| (before.ended.unwrap_or(call.begun), Happened::Retried)));
        }
    }
    happened.sort();
    let cap = f64::from(plan.budget_cap);
    let floor_keeps = (10.0 * FLOOR).min(cap);
    let (mut saved, mut may_come, mut now) = (floor_keeps, 0_usize, Duration::ZERO);
    for (at, what) in happened {
        if at > now {
            // Of one moment nobody knows the order.
            saved = saved.min(cap);
            saved = saved.max((saved + FLOOR * (at - now).as_secs_f64()).min(floor_keeps));
            now = at;
        }
        match what {
            Happened::Counted => saved += plan.budget_ratio,
            Happened::MayCome => may_come += 1,
            Happened::HasCome => {
                may_come -= 1;
                saved += plan.budget_ratio;
            }
            Happened::Reserved => saved -= 1.0,
            Happened::GivenBack => saved += 1.0,
            Happened::Retried => {
                let most = saved + plan.budget_ratio * may_come as f64;
                if most < 0.999 {
                    return Some(format!("a retry at {at:?}, where the budget has {most:.3}"));
                }
                saved -= 1.0;
            }
        }
    }
    None
}

/// Retries that were refused before they were sent.
fn given_back(plan: &Plan, entry: &Entry, happened: &mut Vec<(Duration, Happened)>) {
    for steps in entry.record.windows(2) {
        if let Next::Retried { after } = steps[0].next
            && steps[1].is_local()
            && steps[1].tier == steps[0].tier
        {
            // There was no call after the one that failed.
            let is_there = |call: &&Call| plan.is_at(call.tier, &steps[0]);
            let failed = entry.calls.iter().rfind(is_there).and_then(|call| call.ended);
            happened.extend(
                failed.into_iter().flat_map(|at| [(at, Happened::Reserved), (at + after, Happened::GivenBack)]),
            );
        }
    }
}

/// Adds the times when a request was counted: at each tier that it came to, whether a provider saw it or its circuit
/// refused it.
fn counted(plan: &Plan, entry: &Entry, happened: &mut Vec<(Duration, Happened)>) {
    let ended = entry.ended.map_or(plan.ends, |(ended, _)| ended);
    let last = entry.responded.unwrap_or(ended);
    if entry.ended.is_some_and(|(_, outcome)| outcome == Outcome::Failed(ErrorKind::BulkheadFull)) {
        return;
    }
    // A caller who leaves has no record, and neither has a request that the limit of the whole request ended.
    let is_whole = entry.responded.is_some() && entry.record.iter().all(|step| step.tier.is_some());
    for tier in plan.chain(entry.ask.feature) {
        let call = entry.calls.iter().find(|call| call.tier == tier).map(|call| call.begun);
        let waits = plan.tiers.get(tier).is_some_and(|tier| tier.leaf_limit.is_some());
        if let Some(begun) = call.filter(|_| !waits) {
            happened.push((begun, Happened::Counted));
            continue;
        }
        let came = entry.record.iter().any(|step| step.next != Next::Skipped && plan.is_at(tier, step));
        if came || call.is_some() || entry.served == Some(tier) || !is_whole {
            happened.push((entry.ask.at, Happened::MayCome));
            happened.push((call.unwrap_or(last), Happened::HasCome));
        }
    }
}
