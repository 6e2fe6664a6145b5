use std::sync::atomic::AtomicU64;

use super::response_times::ResponseTimes;

/// The state that all services of one layer share.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The times of whole answers, and of first tokens of streams.
    observed: [ResponseTimes; 2],
    pub(super) counts: Counts,
}

/// Running totals.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) calls: AtomicU64,
    /// The number of answers that the first service has given, hedged or not.
    pub(super) answers: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) won: AtomicU64,
    pub(super) unaffordable: AtomicU64,
}

impl State {
    pub(super) fn observed(&self, is_stream: bool) -> &ResponseTimes {
        &self.observed[usize::from(is_stream)]
    }
}
