//! The log: lines on standard error or in a file, which a thread of its own writes ([`writer`]).

mod format;
mod writer;

use std::{
    fs::OpenOptions,
    io::{self, IsTerminal},
    path::Path,
    time::Duration,
};

use steadfast_internal::system;
use steadfast_stack::StackHandle;
use steadfast_subscribers::Logs;
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
    /// The file that takes the lines. Default: standard error.
    pub(crate) file: Option<&'a Path>,
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
/// The time to write the last lines when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

impl LogOptions<'_> {
    /// Starts the log of the whole process. Dropping it writes the last lines.
    pub(crate) fn begin(&self) -> Result<Log, ServeError> {
        // An empty variable counts as unset.
        let filter = if self.filter.trim().is_empty() { DEFAULT } else { self.filter };
        let filter = EnvFilter::builder()
            .parse(filter)
            .map_err(|error| ServeError::invalid(format_args!("--log (or RUST_LOG) is not a filter: {error}")))?;
        let writer = Writer::begin(self.output()?, |lines| {
            tracing::warn!(lines, "log lines lost; the reader is too slow");
        })?;
        let lines = writer.clone();
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || lines.clone());
        // A subscriber that is installed already takes precedence.
        let _ = match self.format {
            LogFormat::Text => {
                log.with_ansi(self.file.is_none() && io::stderr().is_terminal()).fmt_fields(values()).try_init()
            }
            LogFormat::Json => log.event_format(Json).try_init(),
        };
        Ok(Log(writer))
    }

    fn output(&self) -> Result<Box<dyn io::Write + Send>, ServeError> {
        let Some(path) = self.file else { return Ok(Box::new(io::stderr())) };
        // The log names models, tiers and callers, which are nobody else's business.
        let file = system::for_owner(OpenOptions::new().create(true).append(true)).open(path);
        let file =
            file.map_err(|error| ServeError::invalid(format_args!("cannot log to {}: {error}", path.display())))?;
        Ok(Box::new(file))
    }

    /// Returns the subscriber that logs the stack's events.
    pub(super) fn subscriber(&self, stack: &StackHandle) -> Logs {
        Logs::new().stack(stack.clone()).requests(match self.format {
            // People read text: lines for each request are for debugging.
            LogFormat::Text => Level::DEBUG,
            LogFormat::Json => Level::INFO,
        })
    }
}

/// The log of this process. Dropping it waits for the last lines.
#[derive(Clone, Debug)]
#[must_use = "the last lines are lost without it"]
pub(crate) struct Log(Writer);

impl Log {
    /// Waits until all lines are written.
    pub(crate) fn flush(&self) {
        self.0.flush(FLUSH_TIMEOUT);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush();
    }
}
