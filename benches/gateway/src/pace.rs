//! Waiting more exactly than tokio's timer, whose tick is a millisecond.

use std::time::{Duration, Instant};

/// Waits until this instant. The last two milliseconds others have their turn again and again, so that nothing waits
/// for longer than the work that is ready takes.
pub async fn until(at: Instant) {
    loop {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        match left.checked_sub(TICKS) {
            Some(long) if !long.is_zero() => tokio::time::sleep(long).await,
            _ => tokio::task::yield_now().await,
        }
    }
}

/// The most by which a timer may be late, and a tick more.
const TICKS: Duration = Duration::from_millis(2);
