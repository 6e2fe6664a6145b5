//! The comparison of a mirrored request's two answers.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    CacheReason, Degradation,
    chat::{Chat, FinishReason, Message, Usage},
    events::RequestOutcome,
    prices::{PricedNames, Usd},
};

/// The outcome of one mirrored request on both sides, reported when both have ended.
///
/// It contains no text of the request or of the answers unless [`texts`](Self::texts) is enabled.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The feature that asked.
    pub feature: Option<Arc<str>>,
    /// The session that the request belongs to. The event never contains it.
    pub session: Option<Arc<str>>,
    /// The caller's answer.
    pub primary: ComparisonSide,
    /// The candidate's answer, which no caller has seen.
    pub candidate: ComparisonSide,
    /// The likeness of the two answers, from 0 to 1, by the layer's measure. `None`
    /// unless both are here in whole.
    pub similarity: Option<f32>,
    /// True if the answers call the same tools. `None` unless both are
    /// here in whole.
    pub same_tools: Option<bool>,
    /// True if the answers agree: the same tools, and a similarity of at least the layer's
    /// threshold. `None` unless both are here in whole.
    pub agrees: Option<bool>,
    /// The texts of the request and of both answers, if the layer keeps them. The
    /// event never has them.
    pub texts: Option<Box<ComparedTexts>>,
    /// The time of the comparison.
    pub at: Instant,
}

impl Comparison {
    /// Returns a copy without the session and the texts, for the event.
    #[doc(hidden)]
    pub fn told(&self) -> Self {
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
pub struct ComparisonSide {
    /// The tier that served, if there are tiers.
    pub tier: Option<Arc<str>>,
    /// The provider that served, or failed.
    pub provider: Option<Arc<str>>,
    /// The model that served, or failed.
    pub model: Option<Arc<str>>,
    /// The model by the answer's own word, if that is another.
    pub served_model: Option<Arc<str>>,
    /// The side's outcome. [`Abandoned`](RequestOutcome::Abandoned): the caller left, or the candidate's answer was
    /// larger than the layer keeps. A candidate that panicked has
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
    pub cached: Option<CacheReason>,
    /// The way in which the answer was degraded.
    pub degraded: Option<Degradation>,
}

impl ComparisonSide {
    /// Returns a side of which nothing is known yet.
    pub fn nothing_yet() -> Self {
        Self {
            tier: None,
            provider: None,
            model: None,
            served_model: None,
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

    /// The names by which the answer's price is found.
    #[doc(hidden)]
    pub fn priced_names(&self) -> PricedNames<'_> {
        PricedNames::of([&self.provider, &self.model, &self.served_model])
    }
}

/// The texts of a mirrored request: the input, and both answers.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct ComparedTexts {
    /// The input; `None` if the bytes are no request of their dialect.
    pub chat: Option<Chat>,
    /// The answer that the caller received, as far as it came. `None` if it was larger than the layer
    /// keeps.
    pub primary: Option<Message>,
    /// The candidate's answer, likewise.
    pub candidate: Option<Message>,
}

impl ComparedTexts {
    #[doc(hidden)]
    pub fn new(chat: Option<Chat>, primary: Option<Message>, candidate: Option<Message>) -> Self {
        Self { chat, primary, candidate }
    }
}

impl fmt::Debug for ComparedTexts {
    /// Omits the texts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComparedTexts").finish_non_exhaustive()
    }
}

/// The reason why the layer did not compare a request that it had chosen to mirror.
/// `MirrorStats` counts each, and
/// [`Event::NotCompared`](crate::Event::NotCompared) reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ComparisonSkipReason {
    /// Requests that were not mirrored: too many were under way, or the layer was closed.
    Full,
    /// Not mirrored: there was no tokio runtime for the task.
    WithoutRuntime,
    /// The candidate's own layers refused (its circuit is open, its bulkhead full, its budget spent), so that nothing
    /// was sent.
    Refused,
    /// The primary's answer had not ended in time.
    Unpaired,
    /// A measure or a sink panicked. Where it was the sink, [`Event::Mirrored`](crate::Event::Mirrored) was sent
    /// before.
    Panicked,
}

impl ComparisonSkipReason {
    /// Returns a stable name in `snake_case`, for logs and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::WithoutRuntime => "without_runtime",
            Self::Refused => "refused",
            Self::Unpaired => "unpaired",
            Self::Panicked => "panicked",
        }
    }
}
