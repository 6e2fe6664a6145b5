use std::{sync::Arc, time::Duration};

use http::StatusCode;
use tokio::time::Instant;

use crate::{
    CacheReason, Degradation, ErrorKind,
    body::Delivery,
    chat::Usage,
    ledger::Attempt,
    prices::{PricedNames, Usd},
};

/// The record of a request that ended: who served it, which attempts failed, how long it took, how much it cost.
///
/// It contains no word of the request or the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestEnded {
    /// The request's [id](crate::LlmRequest::with_id), if it has one.
    pub request_id: Option<Arc<str>>,
    /// The HTTP status that the caller got, if [known](crate::LlmRequest::with_status_of): 200 once an answer has
    /// begun. For a stream that failed after its head was sent, the status that its error stands for.
    pub status: Option<StatusCode>,
    /// The request's task, if it was handed to people.
    // One pointer wide: few requests have one, and every event is moved about.
    pub task: Option<Arc<String>>,
    /// The feature that made the request.
    pub feature: Option<Arc<str>>,
    /// The names of the caller's `key`, of the `team` that pays, and of its `session`, if the request has any.
    // One pointer wide: every event is moved about.
    pub caller: Option<Arc<Caller>>,
    /// The id of the chain that the request took; `None` if it is the first that
    /// begins at the tier that the request asked first, whose name is the chain's id.
    pub chain: Option<Arc<str>>,
    /// The tier that served; `None` if the request failed.
    pub tier: Option<Arc<str>>,
    /// The provider that served.
    pub provider: Option<Arc<str>>,
    /// The model that served, by the name in the request to the provider.
    pub model: Option<Arc<str>>,
    /// The model that served by the answer's own word, if that is another: a snapshot, or the choice of a server that
    /// routes by itself.
    pub served_model: Option<Arc<str>>,
    /// The name of the `Route` rule that chose a cheaper chain, if one did.
    pub route: Option<Arc<str>>,
    /// The outcome.
    pub outcome: RequestOutcome,
    /// The attempts that failed before, in order. `None` if the first attempt answered, which makes the record free.
    /// Their [`message`](Attempt::message) is the [public](Attempt::public_message) one, because a provider's message
    /// may quote the request.
    pub failures: Option<Arc<[Attempt]>>,
    /// True if the answer was a stream.
    pub stream: bool,
    /// True if the call under the request's idempotency key may have been made before.
    pub possible_repeat: bool,
    /// The degradation: the level of service, and the reason.
    pub degraded: Option<Degradation>,
    /// The time from the call to the response: for a stream, to its first token.
    pub first_token: Duration,
    /// The time from the start of the attempt that served to the response: its tier's latency, without earlier failures
    /// and the waits after them. With no failures it covers all the time since the call, queues included. Zero if no
    /// tier served.
    pub served_in: Duration,
    /// The time from the call to the end of the answer.
    pub took: Duration,
    /// The tokens, if the provider reported them. A stream counts all that it reported, including answers that broke
    /// and were restarted. A stream that broke or whose caller left counts at least its prompt and the text sent so
    /// far, at one token for four bytes.
    pub usage: Option<Usage>,
    /// The cost of the answer: the provider's [own figure](Usage::cost), or else by the price of the model that served.
    pub cost: Option<Usd>,
    /// The cost of the same tokens at the model that a `Route` rule replaced by a cheaper chain. Subtract
    /// [`cost`](Self::cost) for the saving. `None` if no rule did, or if the `Route` does not know that model.
    pub cost_without_route: Option<Usd>,
    /// The part of a broken stream that the caller received. `None` for any other request, also if its caller left.
    pub delivered: Option<Arc<Delivery>>,
    /// The source of an answer that was not made for this request.
    // Boxed: few requests have one, and every event is moved about.
    pub cached: Option<Box<CachedAnswer>>,
    /// The time of the request's end.
    pub at: Instant,
}

/// The names of a request's caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[doc(hidden)]
pub struct Caller {
    /// The name of its [key](crate::request::BudgetKey).
    pub key: Option<Arc<str>>,
    /// The name of the team that pays.
    pub team: Option<Arc<str>>,
    /// Its [session](crate::LlmRequest::with_session).
    pub session: Option<Arc<str>>,
}

impl RequestEnded {
    /// The name of the caller's key, if the request has one.
    pub fn key(&self) -> Option<&str> {
        self.caller.as_ref()?.key.as_deref()
    }

    /// Returns the number of attempts sent, the successful one included. Calls that were refused before sending do not
    /// count.
    pub fn attempts(&self) -> usize {
        let failed = self.failures.as_deref().unwrap_or_default();
        let sent = failed.iter().filter(|attempt| attempt.is_wasted()).count();
        sent + usize::from(!matches!(self.outcome, RequestOutcome::Failed(_)))
    }

    /// Returns true if the request failed or broke, and its caller's own limit ended it or a step of it: another caller
    /// may be answered.
    pub fn is_by_callers_deadline(&self) -> bool {
        let steps = self.failures.as_deref().unwrap_or_default();
        self.outcome.kind().is_some() && steps.iter().any(Attempt::is_by_callers_deadline)
    }

    /// The names by which the answer's price is found.
    #[doc(hidden)]
    pub fn priced_names(&self) -> PricedNames<'_> {
        PricedNames::of([&self.provider, &self.model, &self.served_model])
    }

    /// Returns the time from the start of the attempt that served to the end of its answer.
    pub fn took_there(&self) -> Duration {
        self.served_in.saturating_add(self.took.saturating_sub(self.first_token))
    }

    /// Returns whether there was a response: an answer, or at least the beginning of one.
    pub fn is_served(&self) -> bool {
        match self.outcome {
            RequestOutcome::Answered | RequestOutcome::Broken(_) => true,
            RequestOutcome::Failed(_) => false,
            // Before its response a request has no stream, and a caller cannot leave a complete answer.
            RequestOutcome::Abandoned => self.stream,
        }
    }
}

/// An answer that was not made for the request that received it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CachedAnswer {
    /// The reason for giving it.
    pub why: CacheReason,
    /// Its age.
    pub age: Duration,
    /// The saving: the cost of its tokens when it was made, if its model has a price that holds at every provider.
    pub saved: Option<Usd>,
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestOutcome {
    /// The caller received the whole answer.
    Answered,
    /// The request failed before an answer; the caller received the error.
    Failed(ErrorKind),
    /// The answer broke after its first token; the caller received a part.
    Broken(ErrorKind),
    /// The caller left before the end.
    Abandoned,
}

impl RequestOutcome {
    /// Returns a stable name: `answered`, `failed`, `broken`, `abandoned`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed(_) => "failed",
            Self::Broken(_) => "broken",
            Self::Abandoned => "abandoned",
        }
    }

    /// Returns the kind of failure, if there was one.
    pub fn kind(self) -> Option<ErrorKind> {
        match self {
            Self::Failed(kind) | Self::Broken(kind) => Some(kind),
            Self::Answered | Self::Abandoned => None,
        }
    }
}
