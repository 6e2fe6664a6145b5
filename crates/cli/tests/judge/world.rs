//! Three providers, and the gateway before them or not.

use std::{
    fmt::{self, Write as _},
    io,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use serde::Serialize;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use crate::{
    common::serve::{Serve, Served},
    names::{NAME, NameServer},
    provider::Provider,
};

/// A vendor's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Dialect {
    Anthropic,
    Openai,
    Gemini,
}

impl Dialect {
    pub(crate) const ALL: [Self; 3] = [Self::Anthropic, Self::Openai, Self::Gemini];
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anthropic => "anthropic",
            Self::Openai => "openai",
            Self::Gemini => "gemini",
        })
    }
}

/// The gateway's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum File {
    /// One tier of the client's dialect, and nothing else: every default.
    One,
    /// The README's.
    Readme,
    /// The README's, with these failures as the only ones that go to the next tier, as an imported list says.
    OnError(&'static str),
    /// Two models of one provider.
    TwoModels,
    /// Three tiers, at three providers.
    Three,
}

/// The way to the providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// HTTP/2 with TLS.
    Http2,
    /// HTTP/1.1 without TLS.
    Http1,
}

/// The place of a situation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage {
    pub(crate) file: File,
    pub(crate) wire: Wire,
    /// The number of gateways. Behind more than one is a balancer of connections.
    pub(crate) replicas: usize,
    /// True if the providers have a name, of a name server that may be told how to answer.
    pub(crate) has_names: bool,
}

/// The providers, and what a client asks.
pub(crate) struct World {
    pub(crate) providers: [Provider; 3],
    gateways: Mutex<Vec<Served>>,
    pub(crate) names: Option<NameServer>,
    /// Keeps the balancer.
    _balancer: Option<Balancer>,
    /// The URL that a client is given.
    pub(crate) target: String,
}

impl World {
    /// Starts the providers, and the gateways if the client is to go through them.
    pub(crate) async fn start(stage: Stage, dialect: Dialect, through: bool) -> Arc<Self> {
        let providers = [Provider::start().await, Provider::start().await, Provider::start().await];
        let config = config(stage, dialect, &providers);
        let replicas = if through { stage.replicas } else { 0 };
        let names = match stage.has_names {
            true => Some(NameServer::start(providers[0].port()).await),
            false => None,
        };
        let resolv_conf = names.as_ref().map(NameServer::resolv_conf);
        let start = move || {
            let serve = || match &resolv_conf {
                Some(names) => serve(&config).resolv_conf(names),
                None => serve(&config),
            };
            (0..replicas).map(|_| serve().start()).collect::<Vec<_>>()
        };
        let gateways = tokio::task::spawn_blocking(start).await.unwrap();
        let (target, balancer) = match &gateways[..] {
            [] => (providers[0].plain(), None),
            [gateway] => (gateway.url(), None),
            many => {
                let balancer = Balancer::start(many.iter().map(|gateway| gateway.address().to_owned()).collect()).await;
                (balancer.url.clone(), Some(balancer))
            }
        };
        Arc::new(Self { providers, gateways: Mutex::new(gateways), names, _balancer: balancer, target })
    }

    /// The provider that a client alone asks.
    pub(crate) fn first(&self) -> &Provider {
        &self.providers[0]
    }

    /// Kills every gateway, and starts it again where it was.
    pub(crate) async fn restart(self: &Arc<Self>) {
        let world = self.clone();
        let restart = move || world.gateways.lock().unwrap().iter_mut().for_each(Served::start_again);
        tokio::task::spawn_blocking(restart).await.unwrap();
    }

    /// Asks one of the gateways to stop, if there is one.
    pub(crate) fn stop_one(&self) {
        if let Some(gateway) = self.gateways.lock().unwrap().first() {
            gateway.signal("-TERM");
        }
    }

    /// Waits for the name of what a client asks, if it has one. A gateway has an address.
    pub(crate) async fn look_up(&self) -> io::Result<()> {
        match &self.names {
            Some(names) if self.gateways.lock().unwrap().is_empty() => names.look_up().await,
            _ => Ok(()),
        }
    }

    /// Returns the logs of the gateways.
    pub(crate) fn log(&self) -> String {
        self.gateways.lock().unwrap().iter().map(Served::log).collect()
    }
}

fn serve(config: &str) -> Serve {
    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/judge/tls/ca.pem");
    let keys = ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"].map(|name| (name, "sk-of-the-gateway"));
    Serve::with(config).envs(&keys).env("SSL_CERT_FILE", ca)
}

fn config(stage: Stage, dialect: Dialect, providers: &[Provider; 3]) -> String {
    let [first, second, third] = providers.each_ref().map(|provider| match stage.wire {
        Wire::Http2 => provider.tls("localhost"),
        Wire::Http1 if stage.has_names => provider.named(NAME),
        Wire::Http1 => provider.plain(),
    });
    let tier = |name: &str, url: &str| {
        let (path, key) = match dialect {
            Dialect::Anthropic => ("", "ANTHROPIC_API_KEY"),
            Dialect::Openai => ("/v1", "OPENAI_API_KEY"),
            Dialect::Gemini => ("", "GEMINI_API_KEY"),
        };
        format!(
            "  - {{ name: {name}, provider: {dialect}, model: {name}, base_url: '{url}{path}', api_key: '${{{key}}}' }}\n"
        )
    };
    match stage.file {
        File::One => format!("tiers:\n{}", tier("sonnet", &first)),
        File::TwoModels => format!("tiers:\n{}{}", tier("sonnet", &first), tier("opus", &first)),
        File::Three => {
            format!("tiers:\n{}{}{}", tier("sonnet", &first), tier("opus", &second), tier("haiku", &third))
        }
        File::Readme => readme(&first, &second),
        File::OnError(list) => {
            let mut config = readme(&first, &second);
            writeln!(config, "fallback: {{ on_error: [{list}] }}").unwrap();
            config
        }
    }
}

/// Returns the README's file, with these servers in place of the providers' own.
fn readme(first: &str, second: &str) -> String {
    let readme = include_str!("../../../../README.md");
    let (_, file) = readme.split_once("```yaml\n").expect("a file in the README");
    let (file, _) = file.split_once("```").expect("its end");
    let [claude, gpt] = ["provider: anthropic,", "provider: openai,"];
    assert!(file.matches(claude).count() == 1 && file.matches(gpt).count() == 1, "{file}");
    file.replace(claude, &format!("{claude} base_url: '{first}',"))
        .replace(gpt, &format!("{gpt} base_url: '{second}/v1', api_key: '${{OPENAI_API_KEY}}',"))
}

/// Passes each connection on to the next replica that takes it.
#[derive(Debug)]
struct Balancer {
    url: String,
    task: JoinHandle<()>,
}

impl Balancer {
    async fn start(replicas: Vec<String>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (replicas, turn) = (Arc::new(replicas), AtomicUsize::new(0));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let (replicas, turn) = (replicas.clone(), turn.fetch_add(1, Relaxed));
                connections.spawn(async move {
                    for number in 0..replicas.len() {
                        let replica = &replicas[(turn + number) % replicas.len()];
                        if let Ok(mut server) = TcpStream::connect(replica).await {
                            let _ = copy_bidirectional(&mut client, &mut server).await;
                            return;
                        }
                    }
                });
            }
        });
        Self { url, task }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
