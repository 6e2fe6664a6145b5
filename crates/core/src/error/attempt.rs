//! The record of one step: what was tried, and what came of it.

use std::{fmt, sync::Arc, time::Duration};

use http::StatusCode;
use tokio::time::Instant;

use super::{ErrorKind, ErrorMessage, ExpiredLimit, Phase, known_words};
use crate::usage::Usage;

/// One step in the life of a request: a call to a tier, or a refusal on this side.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// The tier's name, once it is known.
    pub tier: Option<Arc<str>>,
    /// The deployment that a `Balance` chose; `None` without one.
    pub deployment: Option<Arc<str>>,
    /// The provider that was called.
    pub provider: Option<Arc<str>>,
    /// The model that was asked.
    pub model: Option<Arc<str>>,
    /// The moment at which the step began.
    pub begun: Instant,
    /// The duration of the step.
    pub took: Duration,
    /// The failure; `None` for an answer, and for a call that was [cancelled](Next::Cancelled) before any outcome.
    pub failure: Option<ErrorKind>,
    /// The HTTP status, where there was one.
    pub status: Option<StatusCode>,
    /// The failure's message, in the words of [`LlmError::message`](super::LlmError::message).
    pub message: ErrorMessage,
    /// The wait that the provider asked for.
    pub retry_after: Option<Duration>,
    /// The limit of time that ended it, if one of ours did.
    pub timeout: Option<ExpiredLimit>,
    /// The tokens that it took, where the provider answered and said so: an answer that is not of the shape asked for
    /// has its price too.
    pub usage: Option<Usage>,
    /// The next step, and its reason.
    pub next: Next,
}

impl Attempt {
    /// Returns true if nothing was sent: a layer on this side refused, or time ran out before the service was ready.
    /// Such a step costs no attempt and counts against no tier.
    pub fn is_local(&self) -> bool {
        self.next == Next::Skipped
            || self.failure.is_some_and(ErrorKind::is_local)
            || self.timeout.is_some_and(|out| out.phase == Phase::Readiness)
    }

    /// Returns true if the step cost an attempt in vain: it was sent, and failed or was [cancelled](Next::Cancelled).
    pub fn is_wasted(&self) -> bool {
        !self.is_local() && (self.failure.is_some() || self.next == Next::Cancelled)
    }

    /// Returns true for a step that may cost money, though the provider reported no tokens: it has read the prompt at
    /// least.
    #[doc(hidden)]
    pub fn is_silent(&self) -> bool {
        let came_to_nothing = self.next != Next::Skipped && (self.failure.is_some() || self.is_wasted());
        came_to_nothing && self.usage.is_none() && self.failure.is_none_or(ErrorKind::may_have_cost)
    }

    /// The words of the message that anybody may read, as in
    /// [`LlmError::public_message`](super::LlmError::public_message). Empty for a step that was not sent.
    pub fn public_message(&self) -> ErrorMessage {
        match self.failure {
            Some(kind) if !self.is_local() => known_words::excerpt(kind, &self.message),
            _ => ErrorMessage::default(),
        }
    }

    /// The words of the message that an operator may read: the public ones, and those about a request's parameters. No
    /// prompt, no key. The whole message of a step that was not sent, which is this side's own.
    pub fn operators_message(&self) -> ErrorMessage {
        match self.is_local() {
            true => self.message.clone(),
            false => known_words::excerpt_for_operators(&self.message),
        }
    }

    /// Returns a copy with the [public message](Self::public_message) alone: the whole one may quote the request.
    #[doc(hidden)]
    pub fn to_public(&self) -> Self {
        Self {
            tier: self.tier.clone(),
            deployment: self.deployment.clone(),
            provider: self.provider.clone(),
            model: self.model.clone(),
            message: self.public_message(),
            ..*self
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", StepName(self))?;
        if self.next == Next::Skipped {
            return write!(f, "{}; {}", self.message, self.next);
        }
        match (self.failure, self.status) {
            (None, _) if self.next == Next::Cancelled => f.write_str("no answer")?,
            (None, _) => f.write_str("answered")?,
            (Some(kind), Some(status)) => write!(f, "{kind} (HTTP {})", status.as_u16())?,
            (Some(kind), None) => write!(f, "{kind}")?,
        }
        write!(f, " after {:?}; {}", self.took, self.next)
    }
}

/// The name of a step's place: its tier and deployment, or else its model.
pub(super) struct StepName<'a>(pub(super) &'a Attempt);

impl fmt::Display for StepName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.tier, &self.0.deployment) {
            (Some(tier), Some(deployment)) => write!(f, "{tier}/{deployment}"),
            (Some(name), None) | (None, Some(name)) => f.write_str(name),
            (None, None) => f.write_str(self.0.model.as_deref().unwrap_or("call")),
        }
    }
}

/// A layer's decision after a step, and its reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Next {
    /// The layer returned the failure unchanged.
    #[default]
    GaveUp,
    /// The caller received the answer.
    Answered,
    /// The layer called the same service again after this wait.
    Retried {
        /// The wait before the next attempt.
        after: Duration,
    },
    /// The layer called the next tier at once.
    FailedOver,
    /// The layer called another deployment of the same tier at once.
    Rebalanced,
    /// The tier was never called: it cannot carry the request. The failover passed it over.
    Skipped,
    /// The layer asked the same service again, with a description of what was wrong with its answer.
    AskedAgain,
    /// The layer left the request to its other call: a hedge under way, or one that began at once.
    Hedged,
    /// The layer cancelled the call, because the request's other call (its hedge, or the hedged one)
    /// ended first.
    Cancelled,
    /// The layer stopped, for this reason.
    Stopped(Stop),
}

/// The reason of a layer to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// Another attempt does not help with this kind, by the [`Classifier`](crate::Classifier).
    Kind,
    /// The provider sent `x-should-retry: false`.
    Forbidden,
    /// The attempts of the layer or of the request are spent.
    Attempts,
    /// The retry budget is empty.
    Budget,
    /// The provider's wait is longer than the layer's longest delay.
    LongWait,
    /// The wait, or another tier, does not fit before the deadline.
    Deadline,
    /// Another tier is left, and is the better choice.
    OtherTier,
    /// The session is pinned to this tier.
    Pinned,
    /// The feature's policy names no further tier.
    Policy,
    /// No tier is left.
    LastTier,
    /// No deployment of the tier is left.
    LastDeployment,
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GaveUp => f.write_str("gave up"),
            Self::Answered => f.write_str("done"),
            Self::Retried { after } => write!(f, "retried after {after:?}"),
            Self::FailedOver => f.write_str("went to the next tier"),
            Self::Rebalanced => f.write_str("went to another deployment"),
            Self::Skipped => f.write_str("not asked"),
            Self::AskedAgain => f.write_str("asked again, with what was wrong"),
            Self::Hedged => f.write_str("left to the other call"),
            Self::Cancelled => f.write_str("cancelled for the other call"),
            Self::Stopped(stop) => f.write_str(match stop {
                Stop::Kind => "stopped: another try does not help",
                Stop::Forbidden => "stopped: the provider forbids a retry",
                Stop::Attempts => "stopped: no attempt is left",
                Stop::Budget => "stopped: the retry budget is empty",
                Stop::LongWait => "stopped: the wait asked for is too long",
                Stop::Deadline => "stopped: no time is left",
                Stop::OtherTier => "stopped: left to another tier",
                Stop::Pinned => "stopped: the session is pinned",
                Stop::Policy => "stopped: the feature's policy",
                Stop::LastTier => "stopped: no tier is left",
                Stop::LastDeployment => "stopped: no deployment is left",
            }),
        }
    }
}
