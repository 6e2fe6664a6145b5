//! The errors of reading a request's body.

use std::{error, fmt, time::Duration};

use http::{HeaderMap, StatusCode, header};
use http_body_util::LengthLimitError;
use steadfast::{ErrorKind, LlmError};
use steadfast_internal::codings::OpenError;

use crate::{
    lifecycle::stopping,
    limits::{Settings, memory::OutOfMemory},
};

/// An error of reading a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// The body is over the limit.
    TooLarge,
    /// The memory for bodies has no room.
    OutOfMemory(OutOfMemory),
    /// The body does not come, or too slowly.
    TooSlow,
    /// The body broke off, or does not match its head.
    Broken,
    /// The body is not in the encoding that its head names.
    Damaged,
    /// The server was asked to stop before the body was complete.
    Stopping,
}

impl BodyError {
    pub(crate) fn error(self, settings: &Settings) -> LlmError {
        let error = match self {
            Self::TooLarge => {
                let message =
                    format!("the body is over the gateway's limit of {} bytes (`gateway.max_body`)", settings.body);
                LlmError::new(ErrorKind::TooLarge, message)
            }
            Self::OutOfMemory(OutOfMemory::Always) => LlmError::new(
                ErrorKind::TooLarge,
                "the body is over the gateway's memory for bodies (`gateway.memory`)",
            ),
            Self::OutOfMemory(OutOfMemory::Now) => {
                let message = "the gateway has no memory left for a body of this size at the moment (`gateway.memory`)";
                LlmError::new(ErrorKind::Overloaded, message).with_retry_after(MEMORY_RETRY_AFTER)
            }
            Self::TooSlow => LlmError::new(ErrorKind::InvalidRequest, "the body did not arrive in time"),
            Self::Broken => LlmError::new(ErrorKind::InvalidRequest, "the body broke off"),
            Self::Damaged => LlmError::new(
                ErrorKind::InvalidRequest,
                "the body is not in the encoding that its head names (`Content-Encoding`)",
            ),
            Self::Stopping => stopping(),
        };
        error.with_source(self)
    }

    /// Returns the meaning of a body's failure.
    pub(super) fn of(failure: &(dyn error::Error + 'static)) -> Self {
        let mut next = Some(failure);
        while let Some(cause) = next {
            match cause.downcast_ref() {
                Some(OpenError::TooLong) => return Self::TooLarge,
                Some(OpenError::Damaged(_)) => return Self::Damaged,
                // The limit around the routed paths.
                None if cause.is::<LengthLimitError>() => return Self::TooLarge,
                Some(OpenError::Body(_)) | None => next = cause.source(),
            }
        }
        Self::Broken
    }

    /// Returns the status, if it differs from the error's own in some dialect.
    pub(crate) fn status(self) -> Option<StatusCode> {
        match self {
            Self::TooSlow => Some(StatusCode::REQUEST_TIMEOUT),
            Self::OutOfMemory(OutOfMemory::Now) | Self::Stopping => Some(StatusCode::SERVICE_UNAVAILABLE),
            Self::OutOfMemory(OutOfMemory::Always) | Self::TooLarge | Self::Broken | Self::Damaged => None,
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "body over the limit",
            Self::OutOfMemory(_) => "no memory for the body",
            Self::TooSlow => "body too slow",
            Self::Broken => "body broken off",
            Self::Damaged => "body in another encoding",
            Self::Stopping => "stopped while the body came",
        })
    }
}

impl error::Error for BodyError {}

/// The time after which there may be memory again.
const MEMORY_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Returns the length that a request announces for its body.
pub(super) fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
