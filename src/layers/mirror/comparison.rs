use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    CacheReason, Degradation,
    chat::{Chat, FinishReason, Message, Usage},
    events::RequestOutcome,
    prices::Usd,
};

/// What became of one mirrored request on both sides, told when both have ended.
///
/// No word of the request or of the answers is in it unless [`kept`](Self::kept) is asked for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Comparison {
    /// The feature that asked.
    pub feature: Option<Arc<str>>,
    /// The session that the request belongs to. The event never has it.
    pub session: Option<Arc<str>>,
    /// What the caller had.
    pub primary: Side,
    /// What the candidate said, which nobody else has seen.
    pub candidate: Side,
    /// How much alike the two answers are, from 0 to 1, by the layer's [measure](super::MirrorLayer::measure); `None` unless
    /// both are here in whole.
    pub similarity: Option<f32>,
    /// Whether they call the [same tools](super::measure::same_tools); `None` unless both are here in whole.
    pub same_tools: Option<bool>,
    /// Whether they agree: the same tools, and a similarity of at least the layer's
    /// [threshold](super::MirrorLayer::agrees_from). `None` unless both are here in whole.
    pub agrees: Option<bool>,
    /// What was asked and said, where that is [wanted](super::MirrorLayer::keep_texts). The event never has it.
    pub kept: Option<Box<Kept>>,
    /// When.
    pub at: Instant,
}

impl Comparison {
    /// The same without whatever says more of the caller than its feature: what is told to all.
    pub(super) fn told(&self) -> Self {
        Self {
            feature: self.feature.clone(),
            session: None,
            primary: self.primary.clone(),
            candidate: self.candidate.clone(),
            kept: None,
            ..*self
        }
    }
}

/// One side of a [`Comparison`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Side {
    /// The tier that served, where there are tiers.
    pub tier: Option<Arc<str>>,
    /// The provider that served, or failed.
    pub provider: Option<Arc<str>>,
    /// The model that served, or failed.
    pub model: Option<Arc<str>>,
    /// How it ended. [`Abandoned`](RequestOutcome::Abandoned): the caller left; of a candidate, its answer was larger than
    /// is [kept](super::MirrorLayer::max_answer). A candidate that panicked has
    /// [failed](RequestOutcome::Failed) with [`ErrorKind::Other`](crate::ErrorKind::Other).
    pub outcome: RequestOutcome,
    /// Whether the answer came as a stream.
    pub stream: bool,
    /// From the call to the response: for a stream, the time to its first token. `None` where there was no response.
    pub first_token: Option<Duration>,
    /// From the call to the end of the answer. Of a stream of the primary, its reader's pace is in it.
    pub took: Duration,
    /// How many attempts were sent.
    pub attempts: usize,
    /// The tokens, where the provider said them, those of answers that broke and began anew included.
    pub usage: Option<Usage>,
    /// What they cost, where the model has a price. An answer that is [cached](Self::cached) costs nothing.
    pub cost: Option<Usd>,
    /// Why the model stopped, where it said so.
    pub finish: Option<FinishReason>,
    /// How many characters of text the answer has, as far as it came.
    pub characters: u64,
    /// How many tools it calls, as far as it came.
    pub tool_calls: u32,
    /// Why the answer is one that was made before; `None` of one that was made for this request.
    pub cached: Option<CacheReason>,
    /// How the answer was less than what was asked for.
    pub degraded: Option<Degradation>,
}

impl Side {
    /// Nothing is known of it yet.
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

/// What was asked, and what was said on both sides.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Kept {
    /// What was asked; `None` of bytes that are no request of their dialect.
    pub chat: Option<Chat>,
    /// What the caller had, as far as it came; `None` of more than is [kept](super::MirrorLayer::max_answer).
    pub primary: Option<Message>,
    /// What the candidate said, likewise.
    pub candidate: Option<Message>,
}

impl fmt::Debug for Kept {
    /// Shows nothing of what was said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

/// Somebody who is told of each [`Comparison`]: a closure, a table, a judge.
///
/// It is called in the mirrored request's own task, beside the requests and never in their way, from several tasks at once.
/// Until it returns, the request counts as [under way](super::MirrorLayer::max_in_flight), so that one who is slow has fewer
/// requests mirrored and no queue grows. It must not block, like all that runs in a task: hand on what takes time. If it
/// panics, that is [counted](super::MirrorStats::panicked).
pub trait Compare: Send + Sync + 'static {
    /// Both sides of a request have ended.
    fn compare(&self, comparison: Comparison);
}

impl<F: Fn(Comparison) + Send + Sync + 'static> Compare for F {
    fn compare(&self, comparison: Comparison) {
        self(comparison);
    }
}
