//! How the command ends when something is wrong.

use std::{fmt, io, process::ExitCode};

use steadfast::{LlmError, config::ConfigError};

/// What went wrong: it decides the exit code.
pub(crate) enum Failure {
    /// The configuration or the command line is wrong: 2.
    Config(String),
    /// The models failed: 1.
    Models(String),
    /// A gateway is not ready, or not there: 1.
    Unready(String),
    /// A gateway, or a store of tasks, does not do what it is asked: 1.
    Refused(String),
    /// A drill missed a target: 1.
    Missed(String),
    /// The output cannot be written: 1; if its reader has gone, silently.
    Output(io::Error),
}

impl Failure {
    /// Says it on standard error.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Config(message) => {
                eprintln!("{message}");
                ExitCode::from(2)
            }
            Self::Models(message) | Self::Unready(message) | Self::Refused(message) | Self::Missed(message) => {
                eprintln!("{message}");
                ExitCode::FAILURE
            }
            // `steadfast ask .. | head -1` is no failure to speak of.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
            Self::Output(error) => {
                eprintln!("cannot write the output: {error}");
                ExitCode::FAILURE
            }
        }
    }

    /// A wrong command line.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::Config(format!("error: {message}"))
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error.to_string())
    }
}

impl From<LlmError> for Failure {
    fn from(error: LlmError) -> Self {
        Self::Models(format!("error: {error}"))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
