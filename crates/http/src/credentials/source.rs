//! The contract of sources, and their errors.

use std::{borrow::Cow, error::Error, fmt, pin::Pin};

use tower::BoxError;

use super::Token;
use crate::InvalidConfig;

/// A place that tokens come from. It keeps no token: [`Credentials`](super::Credentials) does.
pub(crate) trait Source: Send + Sync + 'static {
    /// Returns the source's name in errors and logs, such as ``the profile `work` ``. It has no secret.
    fn name(&self) -> String;

    /// Fetches a token. The future may be dropped at any time.
    fn fetch(&self) -> TokenFuture<'_>;
}

/// The future of [`Source::fetch`].
pub(crate) type TokenFuture<'a> = Pin<Box<dyn Future<Output = Result<Token, SourceError>> + Send + 'a>>;

/// A source's failure. Neither it nor its cause holds a secret.
#[derive(Debug)]
pub(crate) struct SourceError {
    message: Cow<'static, str>,
    /// True for a mistake of the configuration: a repeat soon after is useless.
    pub(crate) is_setup: bool,
    /// True if the source has nothing to read here, so that a chain goes on to its next source.
    pub(crate) is_absent: bool,
    cause: Option<BoxError>,
}

impl SourceError {
    /// Creates an error that a repeat may mend. The message is lower case, and holds no secret.
    pub(crate) fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), is_setup: false, is_absent: false, cause: None }
    }

    /// Creates an error of the configuration. The message says what to change.
    pub(crate) fn setup(message: impl Into<Cow<'static, str>>) -> Self {
        Self { is_setup: true, ..Self::new(message) }
    }

    /// Creates the error of a source that is not configured on this machine.
    pub(crate) fn absent(message: impl Into<Cow<'static, str>>) -> Self {
        Self::setup(message).into_absent()
    }

    /// Marks the source as one that is not configured on this machine.
    #[must_use]
    pub(crate) fn into_absent(mut self) -> Self {
        self.is_absent = true;
        self
    }

    /// Sets the cause. It must hold no secret: no body, no excerpt of a file.
    #[must_use]
    pub(crate) fn with_source(mut self, cause: impl Into<BoxError>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Puts words before the message.
    #[must_use]
    pub(crate) fn within(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message).into();
        self
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for SourceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

impl From<InvalidConfig> for SourceError {
    fn from(error: InvalidConfig) -> Self {
        Self::setup(error.to_string())
    }
}
