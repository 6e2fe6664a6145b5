//! `steadfast serve`: the stack as a gateway.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    net::SocketAddr,
    panic::{self, PanicHookInfo},
    path::PathBuf,
    thread,
    time::Duration,
};

use clap::{Args, ValueEnum};
use serde_json::json;
use steadfast_gateway::{LogFormat, ServeOptions};
use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime as _, SystemTime},
};

use super::{Failure, exit::say};

/// Serve the models to every client of Anthropic's, OpenAI's or Google's API
///
/// Without a configuration the gateway serves simulated models on loopback, for a first look.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// The configuration, reloaded when it changes and on SIGHUP, which Windows lacks
    #[arg(short, long, value_name = "FILE", env = "STEADFAST_CONFIG")]
    config: Option<PathBuf>,

    /// The address to listen on; port 0 takes any free one [default: the configuration's, or 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,

    /// The seconds that open streams may go on once the server is asked to stop [default: the configuration's, or 30]
    #[arg(long, value_name = "SECONDS")]
    grace: Option<u64>,

    /// The file of the callers' keys, read again when it changes and on SIGHUP [default: the configuration's]. Without
    /// a key file, anyone who can reach the port may call
    #[arg(long, value_name = "FILE", env = "STEADFAST_KEYS")]
    keys: Option<PathBuf>,

    /// Listen beyond loopback without keys: anyone who can reach the port spends your money
    #[arg(long)]
    insecure_no_auth: bool,

    /// The log's filter: a level (error, warn, info, debug, trace), or one for each target, such as
    /// `info,steadfast=debug`
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "info")]
    log: String,

    /// The log's format. JSON has a line for each request, and no greeting; text has those lines at the level `debug`
    #[arg(long, value_enum, value_name = "FORMAT", env = "STEADFAST_LOG_FORMAT", default_value_t = Format::Text)]
    log_format: Format,

    /// The OpenTelemetry collector for a trace of each request, by OTLP over HTTP: <ENDPOINT>/v1/traces
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
}

/// The format of the log's lines.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Text for people
    Text,
    /// A JSON object for each line, with `timestamp` and `event`
    Json,
}

impl Serve {
    /// Serves until the process is asked to stop.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let mut options = ServeOptions::default();
        options.config = self.config;
        options.listen = self.listen;
        options.grace = self.grace.map(Duration::from_secs);
        options.keys = self.keys;
        options.insecure_no_auth = self.insecure_no_auth;
        options.log = self.log;
        options.log_format = match self.log_format {
            Format::Text => LogFormat::Text,
            Format::Json => LogFormat::Json,
        };
        options.otlp_endpoint = self.otlp_endpoint;
        panic::set_hook(Box::new(log_panic));
        let failure = match options.serve().await {
            Ok(()) => return Ok(()),
            Err(error) => Failure::from(error),
        };
        match self.log_format {
            Format::Text => Err(failure),
            Format::Json => Err(failure.with_message(|message| not_serving(&message))),
        }
    }
}

/// Returns the line of a server that ends with an error, for those who read JSON.
fn not_serving(message: &str) -> String {
    let mut timestamp = String::new();
    // Writing to a string cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    json!({ "timestamp": timestamp, "level": "ERROR", "event": "not_serving", "message": message }).to_string()
}

/// Logs a panic by its place. Its message may repeat a prompt, and is left out unless it is a literal of the program.
pub(super) fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    let literal = panic.payload().downcast_ref::<&'static str>();
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!(place, panic = literal, thread = thread::current().name(), backtrace, "panicked");
    } else {
        // The log has not begun.
        let place = place.unwrap_or_default();
        say(format_args!("panicked at {place}: {}\n", literal.copied().unwrap_or("(message left out)")));
    }
}
