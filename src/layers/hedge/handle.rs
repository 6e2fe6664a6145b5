use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use super::{plan::Plan, state::Counts};
use crate::layers::draft::View;

/// A handle to the totals of a [`Hedge`](super::Hedge). Clones are handles of the same layer.
///
/// [`HedgeLayer::handle`](super::HedgeLayer::handle) creates it.
#[derive(Clone)]
pub struct HedgeHandle {
    view: View<Plan>,
}

impl HedgeHandle {
    pub(super) fn new(view: View<Plan>) -> Self {
        Self { view }
    }

    pub(super) fn plan(&self) -> Arc<Plan> {
        self.view.state()
    }

    /// Returns the totals so far.
    pub fn stats(&self) -> HedgeStats {
        let plan = self.plan();
        let Counts { calls, sent, won, unaffordable, .. } = &plan.state.counts;
        let [calls, sent, won, unaffordable] = [calls, sent, won, unaffordable].map(|count| count.load(Relaxed));
        HedgeStats { calls, sent, won, unaffordable }
    }

    /// Returns how long a first call may take before the second goes out, for streams or for whole answers; `None`
    /// while too few answers were observed.
    pub fn delay(&self, is_stream: bool) -> Option<Duration> {
        self.view.look(|plan| plan.state.observed(is_stream).delay(&plan.settings))
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
