use std::{fmt, sync::Arc, time::Duration};

use tower::{Layer, Service, ServiceExt as _, util::BoxCloneSyncService};

use super::{Compare, Mirror, MirrorHandle, choice::Choice, measure};
use crate::{BoxLlmService, Events, LlmError, LlmRequest, LlmResponse, chat::Message, prices::PriceTable};

/// Applies [`Mirror`]. See the [module docs](super).
///
/// Clones, and all services that one layer makes, share the candidate, the places for its calls, and what was counted.
#[derive(Clone)]
pub struct MirrorLayer {
    settings: Arc<Settings>,
}

/// The settings of a layer.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) candidate: BoxLlmService,
    pub(super) choice: Choice,
    pub(super) max_in_flight: usize,
    pub(super) timeout: Option<Duration>,
    pub(super) measure: Measure,
    pub(super) agrees_from: f32,
    pub(super) max_answer: u64,
    pub(super) keep_texts: bool,
    pub(super) sink: Option<Arc<dyn Compare>>,
    pub(super) events: Option<Events>,
    pub(super) prices: PriceTable,
    pub(super) handle: MirrorHandle,
}

/// How much alike two answers are.
pub(super) type Measure = Arc<dyn Fn(&Message, &Message) -> f32 + Send + Sync>;

/// The default of [`MirrorLayer::max_in_flight`].
const MAX_IN_FLIGHT: usize = 10;
/// The default of [`MirrorLayer::timeout`], for requests that have less time or no bound.
pub(super) const TIMEOUT: Duration = Duration::from_secs(60);
/// The default of [`MirrorLayer::agrees_from`].
const AGREES_FROM: f32 = 0.8;
/// The default of [`MirrorLayer::max_answer`], in bytes.
const MAX_ANSWER: u64 = 1024 * 1024;

impl MirrorLayer {
    /// The default of [`share`](Self::share).
    pub const SHARE: f64 = 0.01;

    /// Sends one in a hundred requests to this candidate too. Nobody hears of it before a [`compare`](Self::compare) or
    /// [`events`](Self::events) says where.
    ///
    /// What bounds the candidate's calls is put around it: a `BudgetLayer` caps what they cost, a `CircuitBreakerLayer`
    /// leaves it alone while it is down.
    pub fn new<S>(candidate: S) -> Self
    where
        S: Service<LlmRequest, Response = LlmResponse> + Clone + Send + Sync + 'static,
        S::Error: Into<LlmError>,
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
            handle: MirrorHandle::new(),
        };
        Self { settings: Arc::new(settings) }
    }

    /// Sets the share of requests that are mirrored, from 0 (none) to 1 (all); what is no number counts as 0. Default: 0.01.
    /// Each mirrored request is paid for twice, so that the default adds about one part in a hundred to the bill; at ten
    /// requests a second that is 360 comparisons an hour.
    #[must_use]
    pub fn share(mut self, share: f64) -> Self {
        self.change().choice.set_share(share);
        self
    }

    /// Chooses by [session](LlmRequest::session): all requests of one or none, in every process that has the same
    /// [`seed`](Self::seed). Requests without a session are chosen one by one all the same. Default: each request for
    /// itself.
    #[must_use]
    pub fn by_session(mut self) -> Self {
        self.change().choice.by_session();
        self
    }

    /// Sets the seed of the choice, so that it is the same in each run. Default: by chance; sessions by a seed of 0.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.change().choice.reseed(seed);
        self
    }

    /// Mirrors only requests that this is true of: the share is one of those. It runs on the way of the request, so that it
    /// must be quick; where it panics, the request is not mirrored. Default: all but those that [require a
    /// person](LlmRequest::requires_human), which are never mirrored.
    #[must_use]
    pub fn only(mut self, only: impl Fn(&LlmRequest) -> bool + Send + Sync + 'static) -> Self {
        self.change().choice.only(Arc::new(only));
        self
    }

    /// Sets how many mirrored requests are under way at once, from the candidate's call to the comparison. Beyond it
    /// requests are not mirrored, and [counted](super::MirrorStats::full). Default: 10.
    #[must_use]
    pub fn max_in_flight(mut self, most: usize) -> Self {
        self.change().max_in_flight = most;
        self
    }

    /// Sets how long the candidate may take, to the end of its answer; and how long after that the comparison waits for the
    /// primary's answer to end. Default: the time that the request has left, and at least 60 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.change().timeout = Some(timeout);
        self
    }

    /// Sets who is told of each comparison. See [`Compare`]. Default: nobody.
    #[must_use]
    pub fn compare(mut self, sink: impl Compare) -> Self {
        self.change().sink = Some(Arc::new(sink));
        self
    }

    /// Sets how it is measured how much alike two whole answers are: the primary's and the candidate's, to a number from 0
    /// (nothing in common) to 1 (the same). Default: [`measure::words`]. It runs in the mirrored request's own task.
    #[must_use]
    pub fn measure(mut self, measure: impl Fn(&Message, &Message) -> f32 + Send + Sync + 'static) -> Self {
        self.change().measure = Arc::new(measure);
        self
    }

    /// Sets from which [similarity](super::Comparison::similarity) on two answers [agree](super::Comparison::agrees), if
    /// their tool calls do. Default: 0.8, which lets a changed word or two pass in a sentence.
    #[must_use]
    pub fn agrees_from(mut self, similarity: f32) -> Self {
        self.change().agrees_from = similarity;
        self
    }

    /// Sets whether a comparison has with it [what was asked and said](super::Comparison::kept). Default: no. The event
    /// never has.
    #[must_use]
    pub fn keep_texts(mut self, keep: bool) -> Self {
        self.change().keep_texts = keep;
        self
    }

    /// Sets how much of an answer is kept to compare it, in bytes. A larger one of the primary is compared by all but its
    /// words, and a larger one of the candidate is read no further. Default: 1 MiB.
    #[must_use]
    pub fn max_answer(mut self, bytes: u64) -> Self {
        self.change().max_answer = bytes;
        self
    }

    /// Sets where [`Event::Mirrored`](crate::Event::Mirrored) and [`Event::NotCompared`](crate::Event::NotCompared) are sent.
    /// Default: nowhere.
    #[must_use]
    pub fn events(mut self, events: Events) -> Self {
        self.change().events = Some(events);
        self
    }

    /// Sets the prices that the costs go by. Default: the built-in ones.
    #[must_use]
    pub fn prices(mut self, prices: PriceTable) -> Self {
        self.change().prices = prices;
        self
    }

    /// Takes the place of another layer while its requests still run: shares its places and its counts.
    #[must_use]
    pub fn succeeding(mut self, handle: &MirrorHandle) -> Self {
        self.change().handle = handle.clone();
        self
    }

    /// What watches the mirrored requests, and ends them.
    pub fn handle(&self) -> MirrorHandle {
        self.settings.handle.clone()
    }

    fn change(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }
}

impl<S> Layer<S> for MirrorLayer {
    type Service = Mirror<S>;

    fn layer(&self, inner: S) -> Mirror<S> {
        Mirror::new(inner, self.settings.clone())
    }
}

impl fmt::Debug for MirrorLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MirrorLayer").field(&self.settings).finish()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("choice", &self.choice)
            .field("max_in_flight", &self.max_in_flight)
            .field("timeout", &self.timeout)
            .field("keep_texts", &self.keep_texts)
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}
