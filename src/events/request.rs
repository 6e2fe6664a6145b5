use std::{sync::Arc, time::Duration};

use http::StatusCode;
use tokio::time::Instant;

use crate::{CacheReason, Degradation, ErrorKind, body::Delivery, chat::Usage, ledger::Attempt, prices::Usd};

/// One request, told when its answer has ended: who served it, what was tried before, how long it took, what it cost.
///
/// No word of the request or of the answer is in it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RequestEnded {
    /// The request's [id](crate::LlmRequest::id), where it was given one.
    pub request_id: Option<Arc<str>>,
    /// The HTTP status that its caller got, where [that is known](crate::LlmRequest::status_of): 200 for an answer that has
    /// begun. Of a stream whose head was out before it failed, the one that its error stands for.
    pub status: Option<StatusCode>,
    /// The task that stands for it, where it was handed to people.
    // One pointer wide, for few have one and every event is moved about.
    pub task: Option<Arc<String>>,
    /// The feature that asked.
    pub feature: Option<Arc<str>>,
    /// The tier that served; of a request that failed, `None`.
    pub tier: Option<Arc<str>>,
    /// The provider that served.
    pub provider: Option<Arc<str>>,
    /// The model that served.
    pub model: Option<Arc<str>>,
    /// The name of the `Route`'s rule that chose a cheaper chain, where one did.
    pub route: Option<Arc<str>>,
    /// How it ended.
    pub outcome: RequestOutcome,
    /// What failed before, in order; `None` where the first attempt answered, which costs nothing to tell. Their
    /// [`message`](Attempt::message) is empty: a provider's may quote the request.
    pub failures: Option<Arc<[Attempt]>>,
    /// Whether the answer came as a stream.
    pub stream: bool,
    /// Whether the call under its idempotency key may have been made before.
    pub possible_repeat: bool,
    /// How the answer was less than what was asked for, and why.
    pub degraded: Option<Degradation>,
    /// From the call to the response: for a stream, the time to its first token.
    pub first_token: Duration,
    /// From the start of the attempt that served to the response: the latency of its tier, without what failed before
    /// and the wait after it. Where nothing failed that is all the time since the call, queues included. Zero where
    /// nothing served.
    pub served_in: Duration,
    /// From the call to the end of the answer.
    pub took: Duration,
    /// The tokens, where the provider said them: of a stream all that it has told, those of answers that broke and began anew
    /// included. Of one that broke or whose caller left, at least its prompt and what came of it, a token for four bytes.
    pub usage: Option<Usage>,
    /// What the answer cost, where the model's price is known.
    pub cost: Option<Usd>,
    /// Where a `Route`'s rule chose a cheaper chain: what the same tokens would have cost at the model whose place that
    /// took. Less [`cost`](Self::cost), it is what was saved. `None` where the `Route` does not know that model.
    pub cost_without_route: Option<Usd>,
    /// What the caller had of a stream that broke; `None` of any other request, one whose caller left included.
    pub delivered: Option<Arc<Delivery>>,
    /// How the answer came to be this request's, where it was not made for it.
    // Boxed, for few have one and every event is moved about.
    pub cached: Option<Box<CachedAnswer>>,
    /// When it ended.
    pub at: Instant,
}

impl RequestEnded {
    /// How many attempts were sent, the one that served included. Refusals on this side count none.
    pub fn attempts(&self) -> usize {
        let failed = self.failures.as_deref().unwrap_or_default();
        let sent = failed.iter().filter(|attempt| attempt.is_wasted()).count();
        sent + usize::from(!matches!(self.outcome, RequestOutcome::Failed(_)))
    }

    /// From the start of the attempt that served to the end of its answer.
    #[cfg(feature = "metrics")]
    pub(crate) fn took_there(&self) -> Duration {
        self.served_in.saturating_add(self.took.saturating_sub(self.first_token))
    }

    /// Whether there was a response: an answer, or at least the beginning of one.
    pub fn is_served(&self) -> bool {
        match self.outcome {
            RequestOutcome::Answered | RequestOutcome::Broken(_) => true,
            RequestOutcome::Failed(_) => false,
            // Before its response there is no stream, and a complete answer has nothing to leave.
            RequestOutcome::Abandoned => self.stream,
        }
    }
}

/// An answer that was not made for the request that it was given to.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct CachedAnswer {
    /// Why it is given.
    pub why: CacheReason,
    /// How old it is.
    pub age: Duration,
    /// What its tokens cost when it was made, where its model has a price that holds at every provider: what was saved.
    pub saved: Option<Usd>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestOutcome {
    /// The caller had the whole answer.
    Answered,
    /// There was no answer: the error went up.
    Failed(ErrorKind),
    /// The answer broke after its first token: the caller had a part.
    Broken(ErrorKind),
    /// The caller left before the end.
    Abandoned,
}

impl RequestOutcome {
    /// A stable name: `answered`, `failed`, `broken`, `abandoned`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed(_) => "failed",
            Self::Broken(_) => "broken",
            Self::Abandoned => "abandoned",
        }
    }

    /// What went wrong, if something did.
    pub fn kind(self) -> Option<ErrorKind> {
        match self {
            Self::Failed(kind) | Self::Broken(kind) => Some(kind),
            Self::Answered | Self::Abandoned => None,
        }
    }
}

/// Whether a failure is the caller's own doing, or was asked for: it says nothing about the service.
pub(crate) fn is_callers_own(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::InvalidRequest
            | ErrorKind::ContextLength
            | ErrorKind::TooLarge
            | ErrorKind::ContentPolicy
            | ErrorKind::Refusal
            | ErrorKind::UnsupportedFeature
            | ErrorKind::Budget
    )
}
