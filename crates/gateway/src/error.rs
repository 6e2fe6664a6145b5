use std::{error, fmt, io};

use steadfast_stack::ConfigError;

/// An error that keeps the gateway from serving, or that ended it.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// The configuration is wrong.
    Config(ConfigError),
    /// An option, a file of keys, or an address is wrong.
    Invalid(String),
    /// The system refused a thread, a signal handler or an address.
    Io(io::Error),
    /// The server ended before it was asked to stop.
    Ended,
}

impl ServeError {
    /// Creates the error of an option or a file that is wrong.
    pub(crate) fn invalid(problem: impl fmt::Display) -> Self {
        Self::Invalid(problem.to_string())
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Invalid(problem) => f.write_str(problem),
            Self::Io(error) => error.fmt(f),
            Self::Ended => f.write_str("the server ended before it was asked to stop"),
        }
    }
}

impl error::Error for ServeError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Config(error) => error::Error::source(error),
            Self::Io(error) => error::Error::source(error),
            Self::Invalid(_) | Self::Ended => None,
        }
    }
}

impl From<ConfigError> for ServeError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<io::Error> for ServeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
