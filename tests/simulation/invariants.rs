//! What must be so of every request, whatever has happened to it.

use std::{collections::BTreeMap, time::Duration};

use steadfast::{
    Attempt, ErrorKind,
    layers::fallback::{AllOpen, SessionPolicy, StreamBreak},
    ledger::{Next, Stop},
};

use crate::{
    books::{Entry, Kept, Outcome},
    by_hand::FLOOR,
    caller::GRACE,
    plan::{Last, Plan, SECOND},
    traffic::Manner,
};

/// What was violated, and by which request.
type Violations = Vec<(Option<usize>, String)>;

/// Looks at all requests of a simulation that is over.
pub(crate) fn check(plan: &Plan, kept: &Kept) -> Violations {
    let mut violations = Vec::new();
    for entry in &kept.asks {
        for wrong in [in_time(plan, entry), attempts(plan, entry), record(plan, entry), steps(plan, entry)] {
            violations.extend(wrong.map(|wrong| (Some(entry.ask.id), wrong)));
        }
    }
    violations.extend(pins(plan, kept));
    violations.extend(retries(plan, kept).map(|wrong| (None, wrong)));
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
    // Who leaves in the end has waited, too.
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

/// What the stack says of its attempts is what the providers saw.
fn record(plan: &Plan, entry: &Entry) -> Option<String> {
    let responded = entry.responded?;
    let before = entry.calls.iter().filter(|call| call.begun <= responded);
    // What ran out of time before its leaf was ready is the stack's to count, and the provider never had it.
    let failed = |attempt: &&Attempt| {
        attempt.failure.is_some() && !attempt.is_local() && !attempt.message.ends_with("waiting for readiness")
    };
    let mut said = vec![0_usize; plan.places()];
    for attempt in entry.record.iter().filter(failed) {
        let place = (0..plan.places()).find(|place| attempt.tier.as_deref() == Some(plan.name(*place)));
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

/// Each step of its record is explained, and none is of those that never help.
fn steps(plan: &Plan, entry: &Entry) -> Option<String> {
    let failed = matches!(entry.ended?.1, Outcome::Failed(_));
    if failed && entry.record.is_empty() && entry.responded.is_some() {
        return Some("its error has no record".to_owned());
    }
    for (place, step) in entry.record.iter().enumerate() {
        let after = entry.record.get(place + 1);
        if step.is_local() && matches!(step.next, Next::Retried { .. }) {
            return Some(format!("a refusal on this side was retried: {step}"));
        }
        let hopeless = matches!(
            step.failure,
            Some(
                ErrorKind::Auth
                    | ErrorKind::QuotaExhausted
                    | ErrorKind::InvalidRequest
                    | ErrorKind::ContextLength
                    | ErrorKind::ContentPolicy
                    | ErrorKind::NotFound
            )
        );
        if hopeless && matches!(step.next, Next::Retried { .. }) {
            return Some(format!("what never helps was retried: {step}"));
        }
        // Who queues asks again and again, and its record does not have each refusal.
        if step.next == Next::FailedOver
            && !matches!(plan.all_open, AllOpen::Queue(_))
            && let Some(next) = after.filter(|next| next.begun > step.begun + step.took + Duration::from_millis(1))
        {
            return Some(format!(
                "it waited before another tier, {} after {step}",
                next.tier.as_deref().unwrap_or("-")
            ));
        }
        // The limit of the whole request knows of one attempt that nobody inside has given up.
        let whole = entry.record.len() == 1 && step.failure == Some(ErrorKind::Timeout);
        if !step.is_local() && step.tier.is_none() && !whole {
            return Some(format!("nobody knows which tier this was: {step}"));
        }
    }
    left_out(plan, entry)
}

/// A request that says that no tier is left has asked all of them.
fn left_out(plan: &Plan, entry: &Entry) -> Option<String> {
    let last = entry.record.last()?;
    let out = matches!(last.next, Next::Stopped(Stop::LastTier | Stop::Policy));
    let pinned = plan.session != SessionPolicy::Free && entry.ask.session.is_some();
    if !out || entry.ask.first_tier_only || pinned || last.failure == Some(ErrorKind::ContextLength) {
        return None;
    }
    let is_told = |tier: &usize| entry.record.iter().any(|step| step.tier.as_deref() == Some(plan.name(*tier)));
    let forgotten = plan.chain(entry.ask.feature).into_iter().find(|tier| !is_told(tier))?;
    Some(format!("it failed, and {} was neither asked nor left out for a reason", plan.name(forgotten)))
}

/// A pinned session stays where its first answer was.
fn pins(plan: &Plan, kept: &Kept) -> Violations {
    if plan.session != SessionPolicy::Pin {
        return Vec::new();
    }
    // When each session had its first response, and from whom.
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

/// In no ten seconds are there more retries than the budget has: what was saved up, its share of first tries, its floor.
fn retries(plan: &Plan, kept: &Kept) -> Option<String> {
    // Elsewhere a tier may be asked twice that is not retried: the request has waited and starts over.
    if plan.all_open != AllOpen::Fail || plan.on_break == StreamBreak::Restart {
        return None;
    }
    // When each came, by when its first try was counted, and when retries were paid for.
    let (mut came, mut counted, mut again) = (Vec::new(), Vec::new(), Vec::new());
    for entry in &kept.asks {
        let ended = entry.ended.map_or(Duration::MAX, |(ended, _)| ended);
        came.push(entry.ask.at);
        counted.push(entry.calls.first().map_or(ended, |call| call.begun));
        for (place, call) in entry.calls.iter().enumerate() {
            // It is paid for when the call before has failed.
            let before = entry.calls[..place].iter().rfind(|before| before.tier == call.tier);
            again.extend(before.map(|before| before.ended.unwrap_or(call.begun)));
        }
    }
    [&mut came, &mut counted, &mut again].into_iter().for_each(|times| times.sort());
    const WINDOW: Duration = Duration::from_secs(10);
    let before = |times: &[Duration], end: Duration| times.partition_point(|at| *at < end);
    let seconds = plan.ends.as_secs();
    (0..seconds).map(|second| SECOND * second as u32).find_map(|from| {
        let end = from + WINDOW;
        let (tries, retries) =
            (before(&came, end) - before(&counted, from), before(&again, end) - before(&again, from));
        // The budget is one for all tiers, and each that is asked counts the request.
        let tries = tries * plan.tiers.len();
        let floor = FLOOR * WINDOW.as_secs_f64();
        let most = f64::from(plan.budget_cap) + plan.budget_ratio * tries as f64 + floor + 1.0;
        (retries as f64 > most)
            .then(|| format!("{retries} retries in 10 s from {from:?} on, where the budget has {most:.0}"))
    })
}
