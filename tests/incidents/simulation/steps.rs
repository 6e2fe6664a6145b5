//! Invariants of each step on a request's record.

use std::time::Duration;

use steadfast::{
    Attempt, ErrorKind,
    layers::fallback::{AllOpen, SessionPolicy},
    ledger::{Next, Stop},
};

use crate::simulation::{
    books::{Entry, Kept, Outcome},
    plan::Plan,
};

/// Each step of its record is explained, and none is of those that never help.
pub(crate) fn check(plan: &Plan, kept: &Kept, entry: &Entry) -> Option<String> {
    // A tier that a pinned level leaves out comes into question only when all others have failed.
    let may_give_way = kept.was_operated;
    let failed = matches!(entry.ended?.1, Outcome::Failed(_));
    if failed && entry.record.is_empty() && entry.responded.is_some() {
        return Some("its error has no record".to_owned());
    }
    for (place, step) in entry.record.iter().enumerate() {
        let after = entry.record.get(place + 1);
        if let Some(wrong) = waited(plan, step) {
            return Some(wrong);
        }
        if let Some(wrong) = waited_in_vain(plan, entry, place).filter(|_| !may_give_way) {
            return Some(wrong);
        }
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
        // A request that queues asks again and again, and its record does not have each refusal.
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
    left_out(plan, entry).or_else(|| kept_for_others(plan, entry).filter(|_| !may_give_way))
}

/// A request that says that no tier is left has asked all of them.
fn left_out(plan: &Plan, entry: &Entry) -> Option<String> {
    let last = entry.record.last()?;
    let out = matches!(last.next, Next::Stopped(Stop::LastTier | Stop::Policy));
    let pinned = plan.session != SessionPolicy::Free && entry.ask.session.is_some();
    if !out || entry.ask.first_tier_only || pinned || last.failure == Some(ErrorKind::ContextLength) {
        return None;
    }
    let forgotten = plan.chain(entry.ask.feature).into_iter().find(|tier| !entry.tells_of(plan, *tier))?;
    Some(format!("it failed, and {} was neither asked nor left out for a reason", plan.name(forgotten)))
}

/// Checks that a retry waits as long as the provider asked, and no longer than the tier's settings allow.
fn waited(plan: &Plan, step: &Attempt) -> Option<String> {
    let (Next::Retried { after: wait }, Some(asked)) = (step.next, step.retry_after) else { return None };
    let tier = plan.tiers.iter().find(|tier| step.tier.as_deref() == Some(tier.name))?;
    if asked > tier.max_delay {
        return Some(format!("it waited longer than {:?}: {step}", tier.max_delay));
    }
    (wait < asked).then(|| format!("it came back sooner than asked ({asked:?}): {step}"))
}

/// Nobody waits for more than a moment while another model is left: one that the request was given to afterwards.
fn waited_in_vain(plan: &Plan, entry: &Entry, place: usize) -> Option<String> {
    let step = &entry.record[place];
    let Next::Retried { after: wait } = step.next else { return None };
    let is_models = |name: &str| plan.tiers.iter().any(|tier| tier.name == name) && step.tier.as_deref() != Some(name);
    let asked = |later: &Attempt| later.next != Next::Skipped && later.tier.as_deref().is_some_and(is_models);
    let before = |tier: usize| entry.record[..place].iter().any(|step| plan.is_at(tier, step));
    let served = entry.served.filter(|tier| *tier < plan.tiers.len() && !before(*tier));
    let was_left = entry.record[place + 1..].iter().any(asked) || served.is_some_and(|tier| is_models(plan.name(tier)));
    // A request that waits until any tier works starts over, and was at the last one then.
    (was_left && plan.all_open == AllOpen::Fail && wait > Duration::from_secs(2))
        .then(|| format!("it waited {wait:?} although another model was left: {step}"))
}

/// Nobody spends the last attempt while a tier is left: one is kept for each.
fn kept_for_others(plan: &Plan, entry: &Entry) -> Option<String> {
    let last = entry.record.last()?;
    let chain = plan.chain(entry.ask.feature);
    let enough = entry.ask.most_attempts(plan) >= chain.len();
    // A request that queues has asked all of them before.
    let is_spent = last.next == Next::Stopped(Stop::Attempts) && !matches!(plan.all_open, AllOpen::Queue(_));
    (is_spent && enough && chain.into_iter().any(|tier| !entry.tells_of(plan, tier)))
        .then(|| format!("no attempt was kept for the tiers after this one: {last}"))
}
