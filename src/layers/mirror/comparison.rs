use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    CachedWhy, Degraded,
    chat::{Chat, FinishReason, Message, Usage},
    events::RequestOutcome,
    prices::Usd,
};

/// The outcome of one mirrored request on both sides, reported when both have ended.
///
/// It contains no text of the request or of the answers unless [`texts`](Self::texts) is enabled.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Comparison {
    /// The feature that asked.
    pub feature: Option<Arc<str>>,
    /// The session that the request belongs to. The event never contains it.
    pub session: Option<Arc<str>>,
    /// The caller's answer.
    pub primary: Side,
    /// The candidate's answer, which no caller has seen.
    pub candidate: Side,
    /// The similarity of the two answers, from 0 to 1, by the layer's [measure](super::MirrorLayer::measure);
    /// `None` unless both are whole.
    pub similarity: Option<f32>,
    /// True if both answers call the [same tools](super::measure::same_tools); `None` unless both are whole.
    pub same_tools: Option<bool>,
    /// True if the answers agree: the same tools, and a similarity of at least the layer's
    /// [threshold](super::MirrorLayer::agrees_from). `None` unless both are whole.
    pub agrees: Option<bool>,
    /// The request and both answers, if [enabled](super::MirrorLayer::keep_texts). The event never contains them.
    pub texts: Option<Box<Texts>>,
    /// The time of the comparison.
    pub at: Instant,
}

impl Comparison {
    /// Returns a copy without the session and the texts, for the event.
    pub(super) fn told(&self) -> Self {
        Self {
            feature: self.feature.clone(),
            session: None,
            primary: self.primary.clone(),
            candidate: self.candidate.clone(),
            texts: None,
            ..*self
        }
    }
}

/// One side of a [`Comparison`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Side {
    /// The tier that served, if there are tiers.
    pub tier: Option<Arc<str>>,
    /// The provider that served, or failed.
    pub provider: Option<Arc<str>>,
    /// The model that served, or failed.
    pub model: Option<Arc<str>>,
    /// The outcome. [`Abandoned`](RequestOutcome::Abandoned) means that the caller left; for a candidate, that its
    /// answer was larger than [`max_answer`](super::MirrorLayer::max_answer). A candidate that panicked has
    /// [failed](RequestOutcome::Failed) with [`ErrorKind::Other`](crate::ErrorKind::Other).
    pub outcome: RequestOutcome,
    /// True if the answer came as a stream.
    pub stream: bool,
    /// The time from the call to the response: for a stream, to its first token. `None` if there was no response.
    pub first_token: Option<Duration>,
    /// The time from the call to the end of the answer. For a stream of the primary, it includes its reader's pace.
    pub took: Duration,
    /// The number of attempts that were sent.
    pub attempts: usize,
    /// The tokens, if the provider reported them, including those of answers that broke and were restarted.
    pub usage: Option<Usage>,
    /// The cost, if the model has a price. An answer that is [cached](Self::cached) costs nothing.
    pub cost: Option<Usd>,
    /// The reason why the model stopped, if it gave one.
    pub finish: Option<FinishReason>,
    /// The number of characters of text in the answer, as far as it came.
    pub characters: u64,
    /// The number of tool calls in the answer, as far as it came.
    pub tool_calls: u32,
    /// The reason why the answer is an earlier one; `None` for one that was made for this request.
    pub cached: Option<CachedWhy>,
    /// The way in which the answer was degraded.
    pub degraded: Option<Degraded>,
}

impl Side {
    /// Returns a side of which nothing is known yet.
    pub(crate) fn nothing_yet() -> Self {
        Self {
            tier: None,
            provider: None,
            model: None,
            outcome: RequestOutcome::Abandoned,
            stream: false,
            first_token: None,
            took: Duration::ZERO,
            attempts: 0,
            usage: None,
            cost: None,
            finish: None,
            characters: 0,
            tool_calls: 0,
            cached: None,
            degraded: None,
        }
    }
}

/// The texts of a mirrored request: the input, and both answers.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Texts {
    /// The input; `None` if the bytes are no request of their dialect.
    pub chat: Option<Chat>,
    /// The caller's answer, as far as it came; `None` if it is larger than
    /// [`max_answer`](super::MirrorLayer::max_answer).
    pub primary: Option<Message>,
    /// The candidate's answer, likewise.
    pub candidate: Option<Message>,
}

impl fmt::Debug for Texts {
    /// Omits the texts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Texts").finish_non_exhaustive()
    }
}

/// A sink for [`Comparison`]s: a closure, a table, a judge.
///
/// The layer calls it in the mirrored request's own task, beside the requests and never in their way, from several
/// tasks at once. The request counts as [under way](super::MirrorLayer::max_in_flight) until it returns, so that
/// with a slow sink fewer requests are mirrored and no queue grows. It must not block, like any code in a task:
/// hand long work on. A panic is [counted](super::MirrorStats::panicked).
pub trait Compare: Send + Sync + 'static {
    /// Receives the comparison when both sides of a request have ended.
    fn compare(&self, comparison: Comparison);
}

impl<F: Fn(Comparison) + Send + Sync + 'static> Compare for F {
    fn compare(&self, comparison: Comparison) {
        self(comparison);
    }
}
