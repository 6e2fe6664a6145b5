//! `steadfast serve`: the stack as a gateway.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use steadfast_gateway::{LogFormat, ServeOptions};

use super::Failure;

/// Serves the models to everything that speaks Anthropic's or OpenAI's protocol.
///
/// Without a configuration it serves simulated models on loopback, for a first look.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// The configuration; it is loaded again when it changes, and on SIGHUP
    #[arg(short, long, value_name = "FILE", env = "STEADFAST_CONFIG")]
    config: Option<PathBuf>,

    /// Where to listen, in place of what the configuration says; port 0 takes any free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,

    /// How many seconds open streams may go on when the server is asked to stop, in place of what the configuration says
    /// [default: 30]
    #[arg(long, value_name = "SECONDS")]
    grace: Option<u64>,

    /// The keys of those who may call; read again when they change, and on SIGHUP. Without it, and
    /// without one that the configuration names, everybody may who reaches the port
    #[arg(long, value_name = "FILE", env = "STEADFAST_KEYS")]
    keys: Option<PathBuf>,

    /// Listen beyond loopback although callers need no key: everybody who reaches the port spends your money
    #[arg(long)]
    insecure_no_auth: bool,

    /// What goes into the log: a level (error, warn, info, debug, trace), or one for each target, such as
    /// `info,steadfast=debug`
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "info")]
    log: String,

    /// How lines of the log look. In JSON there is one for each request; as text those are at the level `debug`
    #[arg(long, value_enum, value_name = "FORMAT", env = "STEADFAST_LOG_FORMAT", default_value_t = Format::Text)]
    log_format: Format,

    /// An OpenTelemetry collector that takes a trace of each request, by OTLP over HTTP: <ENDPOINT>/v1/traces
    #[cfg(feature = "otlp")]
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
}

/// The format of the log's lines.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// An object for each line, with `timestamp` and `event`
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
        #[cfg(feature = "otlp")]
        {
            options.otlp_endpoint = self.otlp_endpoint;
        }
        Ok(options.serve().await?)
    }
}
