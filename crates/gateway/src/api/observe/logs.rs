//! The log: lines on standard error, written by a thread of its own ([`writer`]).

mod format;
mod writer;

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use steadfast::{StackHandle, events::Logs};
use tracing::Level;
use tracing_subscriber::EnvFilter;

use self::{
    format::{Json, values},
    writer::Writer,
};
use crate::error::ServeError;

/// The content and the format of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogOptions<'a> {
    /// A level, or one for each target.
    pub(crate) filter: &'a str,
    pub(crate) format: LogFormat,
}

/// The format of the log's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFormat {
    /// Text for people; a line for each request at the level `debug`.
    #[default]
    Text,
    /// A JSON object for each line; a line for each request at the level `info`.
    Json,
}

const DEFAULT: &str = "info";
/// How long the last lines are waited for when the process ends. Who has not read them by then does not read at all.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

impl LogOptions<'_> {
    /// Begins the log, for the whole process. Its last lines are written when what it gives is dropped.
    pub(crate) fn begin(&self) -> Result<Log, ServeError> {
        // An empty variable is one that nobody meant to set.
        let filter = if self.filter.trim().is_empty() { DEFAULT } else { self.filter };
        let filter = EnvFilter::builder()
            .parse(filter)
            .map_err(|error| ServeError::invalid(format_args!("--log (or RUST_LOG) is not a filter: {error}")))?;
        let writer = Writer::begin(io::stderr(), |lines| {
            tracing::warn!(lines, "lines of the log were lost: they came faster than they were read");
        })?;
        let lines = writer.clone();
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || lines.clone());
        // Where somebody else has installed a subscriber, it is theirs that counts.
        let _ = match self.format {
            LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).fmt_fields(values()).try_init(),
            LogFormat::Json => log.event_format(Json).try_init(),
        };
        Ok(Log(writer))
    }

    /// What writes the stack's events into it.
    pub(super) fn subscriber(&self, stack: &StackHandle) -> Logs {
        Logs::new().stack(stack.clone()).requests(match self.format {
            // Somebody reads along: a line for each request is there for who asks for it.
            LogFormat::Text => Level::DEBUG,
            LogFormat::Json => Level::INFO,
        })
    }
}

/// The log of this process. Dropped, it waits for its last lines to be written.
#[derive(Clone, Debug)]
#[must_use = "the last lines are lost without it"]
pub(crate) struct Log(Writer);

impl Log {
    /// Waits for the lines of until now to be written.
    pub(crate) fn flush(&self) {
        self.0.flush(FLUSH_TIMEOUT);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush();
    }
}
