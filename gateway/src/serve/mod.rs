//! `steadfast serve`: the stack as a gateway, for everything that speaks Anthropic's or OpenAI's protocol.
//!
//! A request's way: [`listener`] (connections) → [`routes`] (paths) → [`pipeline`] (one for both protocols: [`inbound`], the
//! service, then a whole answer, a [`stream`], or a [`refusal`]). What happened to it is kept in [`record`].

mod catalog;
mod demo;
mod inbound;
mod listener;
mod patience;
mod pipeline;
mod record;
mod refusal;
mod routes;
mod settings;
mod stream;
#[cfg(test)]
mod tests;
mod wall_clock;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use steadfast::BoxLlmService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use self::{record::Records, settings::Settings};
use crate::exit::Failure;

/// Serves the models to everything that speaks Anthropic's or OpenAI's protocol.
///
/// Without a configuration it serves simulated models on loopback, for a first look.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// Where to listen; port 0 takes any free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,

    /// How many seconds open streams may go on when the server is asked to stop
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    grace: u64,

    /// Listen beyond loopback although callers need no key: everybody who reaches the port spends your money
    #[arg(long)]
    insecure_no_auth: bool,
}

/// What all connections share.
struct Gateway {
    service: BoxLlmService,
    /// The names that callers may ask for.
    models: Vec<Box<str>>,
    settings: Settings,
    records: Records,
    /// The server has been asked to stop.
    stop: CancellationToken,
    /// The time to finish is over.
    cut: CancellationToken,
}

impl Gateway {
    fn new(service: BoxLlmService, models: impl IntoIterator<Item = impl Into<Box<str>>>, settings: Settings) -> Self {
        Self {
            service,
            models: models.into_iter().map(Into::into).collect(),
            records: Records::new(settings.records),
            settings,
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
        }
    }
}

impl Serve {
    /// Serves until it is asked to stop, by SIGTERM or Ctrl-C.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        // Where somebody else has installed a subscriber, it is theirs that counts.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).try_init();

        let address = self.listen.unwrap_or(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8080)));
        if !address.ip().is_loopback() && !self.insecure_no_auth {
            return Err(Failure::usage(format_args!(
                "{address} can be reached from elsewhere, and callers need no key: listen on 127.0.0.1, or say \
                 --insecure-no-auth"
            )));
        }
        let settings = Settings { grace: Duration::from_secs(self.grace), ..Settings::default() };
        let gateway = Arc::new(Gateway::new(demo::service(), demo::MODELS, settings));
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| Failure::Config(format!("error: cannot listen on {address}: {error}")))?;
        let address = listener.local_addr()?;
        // Listening for signals begins before anybody can know that there is somebody to signal.
        let signals = Signals::new()?;
        greet(address);
        let stop = gateway.stop.clone();
        tokio::spawn(async move {
            let name = signals.next().await;
            tracing::info!(signal = name, "stopping: no new connections, open streams may finish");
            stop.cancel();
        });
        listener::serve(listener, routes::router(gateway.clone()), gateway).await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Says what is served, where, and how to try it.
fn greet(address: SocketAddr) {
    println!("steadfast listens on http://{address}");
    println!("Its models are simulated: nothing leaves this machine, and no answer means anything.");
    println!();
    println!("  curl -N http://{address}/v1/chat/completions -H 'content-type: application/json' \\");
    println!(
        "    -d '{{\"model\":\"{}\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"hello\"}}]}}'",
        demo::MODELS[0]
    );
    println!();
    println!("  ANTHROPIC_BASE_URL=http://{address}    OPENAI_BASE_URL=http://{address}/v1");
}

/// The signals that ask the server to stop.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?,
        })
    }

    /// The name of the first that comes.
    async fn next(self) -> &'static str {
        #[cfg(unix)]
        {
            let mut terminate = self.terminate;
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = tokio::signal::ctrl_c() => "SIGINT",
            }
        }
        #[cfg(not(unix))]
        {
            // An error says that it cannot be heard: then it never comes.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            "Ctrl-C"
        }
    }
}
