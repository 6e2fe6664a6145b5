//! The log: lines on standard error.

use std::io::{self, IsTerminal};

use clap::{Args, ValueEnum};
use steadfast::events::Logs;
use tracing::Level;
use tracing_subscriber::EnvFilter;

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

impl LogOptions {
    /// Begins the log, for the whole process.
    pub(super) fn begin(&self) -> Result<(), Failure> {
        // An empty variable is one that nobody meant to set.
        let filter = if self.log.trim().is_empty() { DEFAULT } else { &self.log };
        let filter = EnvFilter::builder()
            .parse(filter)
            .map_err(|error| Failure::usage(format_args!("--log (or RUST_LOG) is not a filter: {error}")))?;
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
        // Where somebody else has installed a subscriber, it is theirs that counts.
        let _ = match self.log_format {
            Format::Text => log.with_ansi(io::stderr().is_terminal()).try_init(),
            Format::Json => log.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
        };
        Ok(())
    }

    /// What writes the stack's events into it.
    pub(super) fn subscriber(&self) -> Logs {
        Logs::new().requests(match self.log_format {
            // Somebody reads along: a line for each request is there for who asks for it.
            Format::Text => Level::DEBUG,
            Format::Json => Level::INFO,
        })
    }
}
