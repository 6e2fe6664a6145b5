use std::{fmt, sync::Arc, time::Duration};

use tower::{Layer, ServiceExt as _, util::BoxCloneSyncService};

use super::{
    Compare, Mirror, MirrorHandle,
    choice::{self, Choice},
    measure,
    settings::Settings,
};
use crate::{Events, LlmRequest, LlmService, chat::Message, layers::draft::Draft, prices::PriceTable};

/// Applies [`Mirror`]. See the [module docs](super).
///
/// Clones, and all services that one layer makes, share the candidate, the places for its calls, and the counts.
#[derive(Clone)]
pub struct MirrorLayer {
    draft: Draft<Settings>,
}

/// The default of [`MirrorLayer::max_in_flight`].
const MAX_IN_FLIGHT: usize = 10;

/// The default of [`MirrorLayer::agrees_from`].
const AGREES_FROM: f32 = 0.8;
/// The default of [`MirrorLayer::max_answer`], in bytes.
const MAX_ANSWER: u64 = 1024 * 1024;

impl MirrorLayer {
    /// The default of [`share`](Self::share).
    pub const SHARE: f64 = choice::SHARE;

    /// Mirrors one in a hundred requests to this candidate. Set [`compare`](Self::compare) or
    /// [`events`](Self::events) to receive the comparisons.
    ///
    /// Bound the candidate's calls with layers around it: a `BudgetLayer` caps their cost, a `CircuitBreakerLayer`
    /// spares it while it is down.
    pub fn new<S>(candidate: S) -> Self
    where
        S: LlmService + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        let settings = Settings {
            candidate: BoxCloneSyncService::new(candidate.map_err(Into::into)),
            choice: Choice::default(),
            max_in_flight: MAX_IN_FLIGHT,
            timeout: None,
            measure: Arc::new(measure::words),
            agrees_from: AGREES_FROM,
            max_answer: MAX_ANSWER,
            keep_texts: false,
            sink: None,
            events: None,
            prices: PriceTable::builtin(),
            shared: Arc::default(),
        };
        Self { draft: Draft::new(settings) }
    }

    /// Sets the share of requests that are mirrored, from 0 (none) to 1 (all); NaN counts as 0. Default: 0.01. Each
    /// mirrored request is paid for twice, so that the default adds about one part in a hundred to the bill. At ten
    /// requests a second it yields 360 comparisons an hour.
    #[must_use]
    pub fn share(mut self, share: f64) -> Self {
        self.draft.change(|settings| settings.choice.set_share(share));
        self
    }

    /// Chooses by [session](LlmRequest::with_session): all requests of a session or none, in every process with the
    /// same [`seed`](Self::seed). Requests without a session are still chosen one by one. Default: each request for
    /// itself.
    #[must_use]
    pub fn by_session(mut self) -> Self {
        self.draft.change(|settings| settings.choice.by_session());
        self
    }

    /// Sets the seed of the choice, so that it is the same in each run. Default: random for requests, 0 for
    /// sessions.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.draft.change(|settings| settings.choice.reseed(seed));
        self
    }

    /// Mirrors only requests for which this returns true; the share is taken of those. The function runs before the
    /// caller's call returns, so keep it quick. If it panics, the request is not mirrored. Default: all requests
    /// except those that [require a person](LlmRequest::with_human_required), which are never mirrored.
    #[must_use]
    pub fn only(mut self, only: impl Fn(&LlmRequest) -> bool + Send + Sync + 'static) -> Self {
        self.draft.change(|settings| settings.choice.only(Arc::new(only)));
        self
    }

    /// Sets how many mirrored requests may be under way at once, from the candidate's call to the comparison.
    /// Beyond that, requests are not mirrored, and are [counted](super::MirrorStats::full). Default: 10.
    #[must_use]
    pub fn max_in_flight(mut self, most: usize) -> Self {
        self.draft.change(|settings| settings.max_in_flight = most);
        self
    }

    /// Sets how long the candidate may take, to the end of its answer. The comparison waits for the end of the
    /// primary's answer for as long again. Default: the time that the request has left, and at least 60 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.draft.change(|settings| settings.timeout = Some(timeout));
        self
    }

    /// Sets the sink that receives each comparison. See [`Compare`]. Default: none.
    #[must_use]
    pub fn compare(mut self, sink: impl Compare) -> Self {
        self.draft.change(|settings| settings.sink = Some(Arc::new(sink)));
        self
    }

    /// Sets the measure of similarity of two whole answers, the primary's and the candidate's: from 0 (nothing in
    /// common) to 1 (the same). Default: [`measure::words`]. It runs in the mirrored request's own task.
    #[must_use]
    pub fn measure(mut self, measure: impl Fn(&Message, &Message) -> f32 + Send + Sync + 'static) -> Self {
        self.draft.change(|settings| settings.measure = Arc::new(measure));
        self
    }

    /// Sets the [similarity](super::Comparison::similarity) from which two answers
    /// [agree](super::Comparison::agrees), if their tool calls do. Default: 0.8, which allows for a changed word or
    /// two in a sentence.
    #[must_use]
    pub fn agrees_from(mut self, similarity: f32) -> Self {
        self.draft.change(|settings| settings.agrees_from = similarity);
        self
    }

    /// Sets whether a comparison carries the [request and both answers](super::Comparison::texts). Default: no. The
    /// event never does.
    #[must_use]
    pub fn keep_texts(mut self, keep: bool) -> Self {
        self.draft.change(|settings| settings.keep_texts = keep);
        self
    }

    /// Sets how much of an answer is kept to compare it, in bytes. For a larger answer of the primary, everything
    /// but the words is compared; a larger one of the candidate is read no further. Default: 1 MiB.
    #[must_use]
    pub fn max_answer(mut self, bytes: u64) -> Self {
        self.draft.change(|settings| settings.max_answer = bytes);
        self
    }

    /// Sets where [`Event::Mirrored`](crate::Event::Mirrored) and [`Event::NotCompared`](crate::Event::NotCompared) are
    /// sent. Default: nowhere.
    #[must_use]
    pub fn events(mut self, events: Events) -> Self {
        self.draft.change(|settings| settings.events = Some(events));
        self
    }

    /// Sets the prices for the costs. Default: the built-in ones.
    #[must_use]
    pub fn prices(mut self, prices: PriceTable) -> Self {
        self.draft.change(|settings| settings.prices = prices);
        self
    }

    /// Shares the state of this handle's layer: the mirrored requests under way, and the counts. Default: a state of
    /// its own.
    #[must_use]
    pub fn state(mut self, handle: &MirrorHandle) -> Self {
        let shared = handle.shared();
        self.draft.change(|settings| settings.shared = shared);
        self
    }

    /// Returns a handle that watches the mirrored requests, and ends them.
    pub fn handle(&self) -> MirrorHandle {
        MirrorHandle::new(self.draft.view())
    }
}

impl<S> Layer<S> for MirrorLayer {
    type Service = Mirror<S>;

    fn layer(&self, inner: S) -> Mirror<S> {
        Mirror::new(inner, self.draft.settle())
    }
}

impl fmt::Debug for MirrorLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MirrorLayer").field(&self.draft.plan()).finish()
    }
}
