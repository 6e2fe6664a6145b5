//! The rest between two looks at idle connections.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::internal::wall_clock;

/// Waits until the next look. Returns true if the machine was asleep meanwhile, or the process stopped: what was
/// connected before may be dead, and nobody has told it.
pub(super) async fn rest() -> bool {
    let (begun, date) = (Instant::now(), wall_clock::now());
    sleep(SWEEP).await;
    // On most systems only one of the clocks goes on in a sleep.
    let by_date = wall_clock::now().duration_since(date).unwrap_or_default();
    begun.elapsed().max(by_date) > SWEEP + ASLEEP
}

/// The longest time for which a connection that its server has closed is held, and is not thought to be dead.
pub(super) const SWEEP: Duration = Duration::from_secs(1);
/// The lateness that only a sleep explains. A busy machine that is as late connects once more, in vain.
const ASLEEP: Duration = Duration::from_secs(5);
