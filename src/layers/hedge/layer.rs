use std::{fmt, sync::Arc, time::Duration};

use tower::{Layer, ServiceExt as _, util::BoxCloneSyncService};

use super::{
    Hedge, HedgeHandle,
    plan::Plan,
    settings::{Delay, SecondTarget},
};
use crate::{
    Classifier, Events, InvalidConfig, LlmRequest, LlmService, RetryBudget, layers::draft::Draft, response::ShardedName,
};

/// Applies [`Hedge`]. See the [module docs](super).
///
/// Clones, and all services that one layer makes, share the observed times, the share of extra calls and the
/// totals.
#[derive(Clone)]
pub struct HedgeLayer {
    draft: Draft<Plan>,
}

impl HedgeLayer {
    /// Hedges the calls of the tier of this name with a second call to the same service, or [to
    /// another](Self::tier).
    pub fn new(tier: impl Into<Arc<str>>) -> Self {
        Self { draft: Draft::new(Plan::new(tier.into())) }
    }

    /// Sends second calls to another tier: its whole stack, with its own circuit. Default: to a fresh clone of the
    /// first call's service.
    #[must_use]
    pub fn tier<S>(mut self, name: impl Into<Arc<str>>, service: S) -> Self
    where
        S: LlmService + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        let service = BoxCloneSyncService::new(service.map_err(Into::into));
        self.draft.change(|plan| {
            plan.settings().second = SecondTarget::Tier { name: ShardedName::new(name.into()), service }
        });
        self
    }

    /// Lets another [tier](Self::tier) answer requests of a session too. Default: no, so that a slow answer does
    /// not make a session see two models.
    #[must_use]
    pub fn sessions(mut self, takes: bool) -> Self {
        self.draft.change(|plan| plan.settings().takes_sessions = takes);
        self
    }

    /// Sends the second call after the time within which this share of first calls was answered. Default: 0.95.
    ///
    /// One that is not at least 0.5 and below 1 is an error of [`checked`](Self::checked). Unchecked, the default
    /// counts.
    #[must_use]
    pub fn quantile(mut self, share: f64) -> Self {
        self.draft.change(|plan| plan.set_quantile(share));
        self
    }

    /// Sends the second call after this time, whatever was observed. Default: after a [quantile](Self::quantile).
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.draft.change(|plan| plan.settings().after = Delay::Fixed(delay));
        self
    }

    /// Sets the least and the longest delay that observation may yield. Default: 20 ms and 10 s.
    #[must_use]
    pub fn between(mut self, floor: Duration, ceiling: Duration) -> Self {
        self.draft.change(|plan| {
            let settings = plan.settings();
            (settings.floor, settings.ceiling) = (floor, ceiling.max(floor));
        });
        self
    }

    /// Sets how many answers must have been observed before a late call is hedged. Streams and whole answers are
    /// counted separately. Default: 20.
    #[must_use]
    pub fn min_observed(mut self, answers: u32) -> Self {
        self.draft.change(|plan| plan.settings().least = answers);
        self
    }

    /// Sets the most second calls, as a share of the first ones. Up to 100 are saved up. Default: 0.05.
    ///
    /// One that is not from 0 to 1 is an error of [`checked`](Self::checked). Unchecked, the default counts.
    #[must_use]
    pub fn extra(mut self, share: f64) -> Self {
        self.draft.change(|plan| plan.set_extra(share));
        self
    }

    /// Returns the layer if all that it was told is valid.
    ///
    /// # Errors
    ///
    /// Fails if the [quantile](Self::quantile) or the share of [extra](Self::extra) calls is out of its range.
    pub fn checked(self) -> Result<Self, InvalidConfig> {
        self.draft.plan().check()?;
        Ok(self)
    }

    /// Takes second calls from this retry budget as well: give it the budget of the retries to the same provider.
    /// Default: none, so that only the [share](Self::extra) limits them.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.draft.change(|plan| plan.settings().budget = budget);
        self
    }

    /// Sets which requests may have a second call. Exclude those with side effects, or whose answer must not be
    /// paid for twice. Default: all. A request that requires a person never has one.
    #[must_use]
    pub fn only(mut self, may: impl Fn(&LlmRequest) -> bool + Send + Sync + 'static) -> Self {
        self.draft.change(|plan| plan.settings().only = Some(Arc::new(may)));
        self
    }

    /// Sets a second condition, checked when a second call is about to be made: for a check that takes longer.
    pub fn at_last(mut self, may: impl Fn(&LlmRequest) -> bool + Send + Sync + 'static) -> Self {
        self.draft.change(|plan| plan.settings().at_last = Some(Arc::new(may)));
        self
    }

    /// Shares the state of this handle's layer: the observed times, the totals, and the [share](Self::extra) of extra
    /// calls with what is saved up of it. Default: a state of its own.
    #[must_use]
    pub fn state(mut self, handle: &HedgeHandle) -> Self {
        let other = handle.plan();
        self.draft.change(|plan| plan.share_state(&other));
        self
    }

    /// Sets the table that decides which failures a second call can help with, and which are the request's own.
    /// Default: the crate's.
    #[must_use]
    pub fn classifier(mut self, classifier: Classifier) -> Self {
        self.draft.change(|plan| plan.settings().classifier = classifier);
        self
    }

    /// Sets where [`Hedged`](crate::Event::Hedged) is sent. Default: nowhere.
    #[must_use]
    pub fn events(mut self, events: Events) -> Self {
        self.draft.change(|plan| plan.settings().events = Some(events));
        self
    }

    /// Returns a handle to the totals.
    pub fn handle(&self) -> HedgeHandle {
        HedgeHandle::new(self.draft.view())
    }
}

impl<S: Clone> Layer<S> for HedgeLayer {
    type Service = Hedge<S>;

    fn layer(&self, inner: S) -> Hedge<S> {
        if let Err(invalid) = self.draft.plan().check() {
            tracing::error!(%invalid, "a hedge takes the default instead");
        }
        let Plan { settings, state, .. } = &*self.draft.settle();
        Hedge::new(inner, settings.clone(), state.clone())
    }
}

impl fmt::Debug for HedgeLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeLayer").field("settings", &self.draft.plan().settings).finish_non_exhaustive()
    }
}
