use std::{fmt, sync::Arc};

use tokio::time::Instant;

use crate::{
    ErrorKind, LlmError,
    error::{Attempt, ErrorMessage, ExpiredLimit},
};

/// A failure that led to an event, as anybody may read it: no word of a prompt, and no key.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Failure {
    /// The failure's kind.
    pub kind: ErrorKind,
    /// The HTTP status of the provider's answer, where there was one.
    pub status: Option<u16>,
    /// The provider's or the network's words, if they say something of these: at most 200 bytes, with `…` for each gap.
    /// The [record](LlmError::attempts) has the whole message, for whoever may read prompts.
    pub message: Option<Arc<str>>,
    /// The [id](crate::LlmRequest::with_id) of the request that failed, if it has one.
    pub request_id: Option<Arc<str>>,
    /// The time of the failure.
    pub at: Instant,
}

impl Failure {
    /// Creates the report of an error that the request of this id met at this time.
    pub fn of_error(error: &LlmError, request_id: Option<Arc<str>>, at: Instant) -> Self {
        Self {
            kind: error.kind(),
            status: error.status().map(|status| status.as_u16()),
            message: message(error.own_timeout(), &error.public_message()),
            request_id,
            at,
        }
    }

    /// Creates the report of a failed step of the request with this id; `None` if the step has not failed.
    pub fn of_attempt(attempt: &Attempt, request_id: Option<Arc<str>>) -> Option<Self> {
        Some(Self {
            kind: attempt.failure?,
            status: attempt.status.map(|status| status.as_u16()),
            message: message(attempt.timeout, &attempt.public_message()),
            request_id,
            at: attempt.begun.checked_add(attempt.took).unwrap_or(attempt.begun),
        })
    }
}

impl fmt::Display for Failure {
    /// Writes the kind, the status and the words: `server 503: Service unavailable`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        self.status.map_or(Ok(()), |status| write!(f, " {status}"))?;
        self.message.as_ref().map_or(Ok(()), |message| write!(f, ": {message}"))
    }
}

/// Returns the words, or those of the limit of ours that ran out.
fn message(timeout: Option<ExpiredLimit>, message: &ErrorMessage) -> Option<Arc<str>> {
    match (message.as_str(), timeout) {
        ("", timeout) => timeout.map(|limit| limit.to_string().into()),
        (words, _) => Some(words.into()),
    }
}
