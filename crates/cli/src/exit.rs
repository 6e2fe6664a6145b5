//! The command's failures and exit codes.

use std::{
    fmt,
    io::{self, Write as _},
    process::ExitCode,
};

use steadfast::{LlmError, error::Reader};
use steadfast_gateway::ServeError;
use steadfast_stack::ConfigError;

use super::terminal::printable;

/// A failure, which decides the exit code.
pub(crate) enum Failure {
    /// The configuration or the command line is wrong: 2.
    Config(String),
    /// The models failed: 1.
    Models(String),
    /// The gateway is not ready or not reachable: 1.
    Unready(String),
    /// The gateway or the store of tasks refuses an order: 1.
    Refused(String),
    /// A drill or a comparison missed a target: 1.
    Missed(String),
    /// A client cannot be started: 126, or 127 if there is no such program.
    Client(u8, String),
    /// The output cannot be written: 1; silently if its reader has gone.
    Output(io::Error),
}

/// Prints to standard error. `2>&1 | head` leaves nobody to read it, which is no reason to panic, as `eprint!` does.
pub(crate) fn say(words: fmt::Arguments<'_>) {
    let _ = io::stderr().lock().write_fmt(words);
}

impl Failure {
    /// Prints the failure to standard error.
    pub(crate) fn report(self) -> ExitCode {
        if let Some(message) = self.message() {
            say(format_args!("{message}\n"));
        }
        match self {
            Self::Config(_) => ExitCode::from(2),
            Self::Client(code, _) => ExitCode::from(code),
            _ => ExitCode::FAILURE,
        }
    }

    /// Returns the message, safe for a terminal: it may contain a provider's or a gateway's words.
    fn message(&self) -> Option<String> {
        match self {
            Self::Config(message)
            | Self::Models(message)
            | Self::Unready(message)
            | Self::Refused(message)
            | Self::Missed(message)
            | Self::Client(_, message) => Some(printable(message).into_owned()),
            // `steadfast ask .. | head -1` is not a failure.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => None,
            Self::Output(error) => Some(format!("cannot write the output: {error}")),
        }
    }

    /// Returns the failure with its message in another form.
    pub(crate) fn with_message(self, form: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Config(message) => Self::Config(form(message)),
            Self::Models(message) => Self::Models(form(message)),
            Self::Unready(message) => Self::Unready(form(message)),
            Self::Refused(message) => Self::Refused(form(message)),
            Self::Missed(message) => Self::Missed(form(message)),
            Self::Client(code, message) => Self::Client(code, form(message)),
            Self::Output(error) => Self::Output(error),
        }
    }

    /// Creates the failure of a wrong command line.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::Config(format!("error: {message}"))
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error.to_string())
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Config(error) => error.into(),
            ServeError::Io(error) => error.into(),
            ServeError::Ended => Self::Refused(format!("error: {error}")),
            error => Self::usage(error),
        }
    }
}

impl From<LlmError> for Failure {
    fn from(error: LlmError) -> Self {
        Self::Models(format!("error: {}", error.for_reader(Reader::Operator)))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

#[cfg(test)]
mod tests {
    use steadfast::ErrorKind;

    use super::*;

    #[test]
    fn what_a_provider_says_cannot_command_the_terminal() {
        let failed = Failure::from(LlmError::new(ErrorKind::Server, "down\u{1b}[2J\u{202e}"));
        let said = failed.message().unwrap();
        assert!(said.contains("down") && !said.contains(['\u{1b}', '\u{202e}']), "{said:?}");
    }
}
