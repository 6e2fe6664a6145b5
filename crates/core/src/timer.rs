//! Timers that fire whatever else has run in the same poll.

use std::{
    future::Future as _,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use tokio::{
    task::coop::{has_budget_remaining, unconstrained},
    time::Sleep,
};

/// Polls a timer, also where the poll has spent tokio's cooperative budget before.
///
/// A service that is always busy spends it in each poll. Then every timer of tokio is pending, so that no limit would
/// end the call. `tokio::time::timeout` polls its timer in the same way (tokio-rs/tokio#4314).
#[inline]
pub fn poll(timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    match has_budget_remaining() {
        true => timer.poll(cx),
        false => pin!(unconstrained(timer)).poll(cx),
    }
}
