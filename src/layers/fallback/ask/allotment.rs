//! The share of a request's time and attempts that each tier gets.

use tokio::time::Instant;

use crate::{
    Context, RetryWithJitterLayer,
    layers::{deadline, fallback::choose::Config},
};

/// Returns the time limit of a tier that is begun now, if `after` others come after it and time is limited.
#[inline(always)]
pub(crate) fn tier_deadline(config: &Config, context: &Context, after: usize) -> Option<Instant> {
    let deadline = context.deadline?;
    if after == 0 {
        // The tier has all of the time. This layer ends it only if no layer further out does.
        return deadline::is_unkept(context).then_some(deadline);
    }
    let (begun, reserve) = (context.begun?, config.reserve_for_fallbacks);
    // The difference costs more than both sums, and is needed only if less than twice as much is left.
    match (deadline.checked_sub(reserve), begun.checked_add(reserve)) {
        (Some(tier_deadline), Some(least)) if least <= tier_deadline => Some(tier_deadline),
        _ => half(deadline, begun),
    }
}

#[cold]
fn half(deadline: Instant, begun: Instant) -> Option<Instant> {
    deadline.checked_sub(deadline.saturating_duration_since(begun) / 2)
}

/// Sets a tier's share in a request's context, with `after` others after it, and whether one of them is a model's.
// A call would keep the request in memory, and move each future around it.
#[inline(always)]
pub(crate) fn allot(
    config: &Config,
    tier: usize,
    after: usize,
    can_go_on: bool,
    context: &mut Context,
    tier_deadline: Option<Instant>,
) {
    context.prospects.note_can_go_on(can_go_on);
    // No configuration has more tiers than fit into the type.
    let after = u8::try_from(after).unwrap_or(u8::MAX);
    context.tiers_left = context.tiers_left.saturating_add(after);
    context.prospects.note_nothing_left(context.tiers_left == 0);
    // The tier gets all attempts but those that the tiers after it usually take, or an equal share if there are too few
    // for all. Attempts that it does not use go to the tiers after it.
    let (left, tiers) = (context.attempts_left, u16::from(after) + 1);
    context.attempts_left = match left.checked_sub(tiers * RetryWithJitterLayer::MAX_ATTEMPTS) {
        Some(spare) => spare + RetryWithJitterLayer::MAX_ATTEMPTS,
        None => left.div_ceil(tiers).max(1),
    };
    context.last_resort |= config.facts(tier).settings.last_resort;
    if tier_deadline.is_some() {
        context.deadline = tier_deadline;
        context.prospects.note_leaves_deadline(false);
    }
}
