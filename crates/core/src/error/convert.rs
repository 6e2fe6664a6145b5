//! Other errors as the one error.

use std::error::Error as StdError;

use tower::BoxError;

use super::{ErrorKind, InvalidConfig, LlmError};

impl From<BoxError> for LlmError {
    /// Recovers an `LlmError` from any depth of the causes. Reads the errors of tower's `timeout` and `load_shed`, of
    /// tokio's `timeout` and of the network ([`std::io::Error`]: [`ErrorKind::Connect`]) by their meaning. Any other
    /// error becomes the cause of an [`ErrorKind::Other`].
    fn from(error: BoxError) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(own) => return *own,
            Err(error) => error,
        };
        // Wrappers such as `tower::buffer`'s hide ours one level down.
        let mut cause = Some(&*error as &(dyn StdError + 'static));
        while let Some(this) = cause {
            // The `source` of an `io::Error` skips the error that it wraps: ask for that one here.
            let wrapped = this.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            if let Some(own) = this.downcast_ref::<Self>().or_else(|| wrapped?.downcast_ref()) {
                return own.clone();
            }
            let kind = if this.is::<tower::timeout::error::Elapsed>() {
                Some((ErrorKind::Timeout, "tower's timeout layer"))
            } else if this.is::<tokio::time::error::Elapsed>() {
                Some((ErrorKind::Timeout, "a limit of time inside the leaf"))
            } else if this.is::<InvalidConfig>() {
                Some((ErrorKind::InvalidRequest, A_SETTING_IS_WRONG))
            } else if this.is::<tower::load_shed::error::Overloaded>() {
                Some((ErrorKind::Overloaded, "tower's load_shed layer refused"))
            } else if this.is::<std::io::Error>() {
                Some((ErrorKind::Connect, ""))
            } else {
                None
            };
            if let Some((kind, message)) = kind {
                return Self::new(kind, message).with_source(error);
            }
            cause = this.source();
        }
        Self::new(ErrorKind::Other, "").with_source(error)
    }
}

impl From<InvalidConfig> for LlmError {
    fn from(error: InvalidConfig) -> Self {
        Self::new(ErrorKind::InvalidRequest, A_SETTING_IS_WRONG).with_source(error)
    }
}

impl From<std::convert::Infallible> for LlmError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

const A_SETTING_IS_WRONG: &str = "a setting is wrong";
