//! The reasons for which a call ends without an answer.

use steadfast::LlmError;

use super::{body_error::BodyError, keys::Denial};

/// The end of a call without an answer.
pub(crate) enum Failure {
    /// The caller's key is not for it.
    Denied(Denial),
    /// The caller's body cannot be read.
    Body(BodyError),
    /// The request is invalid, or no tier answers it.
    Error(LlmError),
}

impl From<Denial> for Failure {
    fn from(denied: Denial) -> Self {
        Self::Denied(denied)
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

impl From<LlmError> for Failure {
    fn from(error: LlmError) -> Self {
        Self::Error(error)
    }
}
