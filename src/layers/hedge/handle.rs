use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{response_times::ResponseTimes, settings::Settings};
use crate::RetryBudget;

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

/// A handle to the totals of a [`Hedge`](super::Hedge). Clones are handles of the same layer.
///
/// [`HedgeLayer::handle`](super::HedgeLayer::handle) creates it.
#[derive(Clone)]
pub struct HedgeHandle {
    state: Arc<State>,
    settings: Arc<Settings>,
}

impl HedgeHandle {
    pub(super) fn new(state: Arc<State>, settings: Arc<Settings>) -> Self {
        Self { state, settings }
    }

    pub(super) fn state(&self) -> &Arc<State> {
        &self.state
    }

    pub(super) fn extra(&self) -> &RetryBudget {
        &self.settings.extra
    }

    /// Returns the totals so far.
    pub fn stats(&self) -> HedgeStats {
        let Counts { calls, sent, won, unaffordable, .. } = &self.state.counts;
        let [calls, sent, won, unaffordable] = [calls, sent, won, unaffordable].map(|count| count.load(Relaxed));
        HedgeStats { calls, sent, won, unaffordable }
    }

    /// Returns how long a first call may take before the second goes out, for streams or for whole answers; `None`
    /// while too few answers were observed.
    pub fn delay(&self, is_stream: bool) -> Option<Duration> {
        self.state.observed(is_stream).delay(&self.settings)
    }
}

impl fmt::Debug for HedgeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeHandle").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// The totals of a [`Hedge`](super::Hedge) since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HedgeStats {
    /// Requests that might have had a second call.
    pub calls: u64,
    /// Second calls that were sent.
    pub sent: u64,
    /// Second calls that answered first.
    pub won: u64,
    /// Second calls that were not made because the share or the retry budget was used up.
    pub unaffordable: u64,
}

impl HedgeStats {
    /// Returns the extra load: second calls as a share of first ones, from 0 to 1.
    pub fn extra_load(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { self.sent as f64 / self.calls as f64 }
    }
}
