//! The balancer's clock, which counts from when the balancer began.

use tokio::time::Instant;

/// A moment, in seconds since the balancer began.
pub(super) type Moment = f64;

/// One reading of the clock in the forms that a choice needs. It is converted once, and not at each deployment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    pub(super) instant: Instant,
    pub(super) moment: Moment,
    /// The microseconds since the balancer began.
    pub(super) micros: u64,
}

impl Time {
    /// Returns the time of a balancer that began at `begun`.
    #[inline]
    pub(super) fn new(instant: Instant, begun: Instant) -> Self {
        let since = instant.saturating_duration_since(begun);
        // Not by `as_micros`, which multiplies in 128 bits: these are full after half a million years.
        let micros = since.as_secs().saturating_mul(1_000_000) + u64::from(since.subsec_micros());
        Self { instant, moment: micros as f64 / 1e6, micros }
    }
}
