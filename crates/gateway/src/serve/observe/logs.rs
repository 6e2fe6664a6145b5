//! The log: lines on standard error, written by a thread of its own ([`writer`]).

mod format;
mod writer;

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use clap::{Args, ValueEnum};
use steadfast::{StackHandle, events::Logs};
use tracing::Level;
use tracing_subscriber::EnvFilter;

use self::{
    format::{Json, values},
    writer::Writer,
};
use crate::exit::Failure;

/// What the log holds, and how.
#[derive(Args, Debug)]
pub(crate) struct LogOptions {
    /// What goes into the log: a level (error, warn, info, debug, trace), or one for each target, such as
    /// `info,steadfast=debug`
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = DEFAULT)]
    log: String,

    /// How lines of the log look. In JSON there is one for each request; as text those are at the level `debug`
    #[arg(long, value_enum, value_name = "FORMAT", env = "STEADFAST_LOG_FORMAT", default_value_t = Format::Text)]
    log_format: Format,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// An object for each line, with `timestamp` and `event`
    Json,
}

const DEFAULT: &str = "info";
/// How long the last lines are waited for when the process ends. Who has not read them by then does not read at all.
const LAST_LINES: Duration = Duration::from_secs(1);

impl LogOptions {
    /// Begins the log, for the whole process. Its last lines are written when what it gives is dropped.
    pub(super) fn begin(&self) -> Result<Log, Failure> {
        // An empty variable is one that nobody meant to set.
        let filter = if self.log.trim().is_empty() { DEFAULT } else { &self.log };
        let filter = EnvFilter::builder()
            .parse(filter)
            .map_err(|error| Failure::usage(format_args!("--log (or RUST_LOG) is not a filter: {error}")))?;
        let writer = Writer::begin(io::stderr(), |lines| {
            tracing::warn!(lines, "lines of the log were lost: they came faster than they were read");
        })?;
        let lines = writer.clone();
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || lines.clone());
        // Where somebody else has installed a subscriber, it is theirs that counts.
        let _ = match self.log_format {
            Format::Text => log.with_ansi(io::stderr().is_terminal()).fmt_fields(values()).try_init(),
            Format::Json => log.event_format(Json).try_init(),
        };
        Ok(Log(writer))
    }

    /// What writes the stack's events into it.
    pub(super) fn subscriber(&self, stack: &StackHandle) -> Logs {
        Logs::new().stack(stack.clone()).requests(match self.log_format {
            // Somebody reads along: a line for each request is there for who asks for it.
            Format::Text => Level::DEBUG,
            Format::Json => Level::INFO,
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
        self.0.flush(LAST_LINES);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush();
    }
}
