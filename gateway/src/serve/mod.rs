//! `steadfast serve`: the stack as a gateway, for everything that speaks Anthropic's or OpenAI's protocol.
//!
//! [`control`] is a thread of its own, for what must not wait behind a request: signals, new connections, `/healthz`.
//!
//! A request's way: [`listener`] → [`connection`] → [`routes`] (paths) → [`pipeline`] (one for both protocols: [`inbound`], the
//! service, then a whole answer, a [`stream`], or a [`refusal`]). What happened to it is kept in [`record`], and [`observe`]
//! tells of all together. What an operator does meanwhile is [`admin`]'s.
//!
//! Nothing is fetched for a caller but the answer: a picture or document at a web address goes on as it is to providers that
//! take addresses, and is refused, or left to another tier, where one wants the bytes. There is no setting to change that: a
//! prompt would reach into the gateway's own network by it.

mod admin;
mod cache;
mod catalog;
mod connection;
mod control;
mod demo;
mod events;
mod files;
mod framing;
mod handoff;
mod heads;
mod html;
mod inbound;
mod itself;
mod keys;
mod listener;
mod lock;
mod mark;
mod memory;
mod observe;
mod patience;
mod pipeline;
mod quiet;
mod record;
mod refusal;
mod routes;
mod settings;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod unknown;
pub(crate) mod wall_clock;

use std::{
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use clap::Args;
use serde_json::json;
use steadfast::{
    BoxLlmService, Stack, StackHandle,
    config::{self, Config, ConfigError, Environment, FileWatch},
    handoff::Desk,
};
use tokio::{runtime::Handle, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use self::{
    catalog::Catalog,
    control::{Control, Handler, Signals},
    keys::Keys,
    memory::Memory,
    observe::Observing,
    record::Records,
    settings::{Reloads, Said, Settings},
    unknown::UnknownPaths,
};
pub(crate) use self::{itself::refuse_itself, keys::MakeKey};
use crate::exit::Failure;

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

    #[command(flatten)]
    observe: observe::Options,
}

/// What all connections share.
struct Gateway {
    service: BoxLlmService,
    catalog: Catalog,
    /// Who may call; `None`: everybody.
    keys: Option<Arc<Keys>>,
    /// As they were at the start, for what holds from there on.
    settings: Settings,
    /// The memory for the bodies of requests.
    memory: Arc<Memory>,
    /// The memory for long heads.
    heads: Arc<Memory>,
    /// As they are at the moment, for what follows the configuration.
    now: ArcSwap<Settings>,
    records: Records,
    unknown_paths: UnknownPaths,
    /// Where people find what was handed to them, in place of the stack's.
    #[cfg(test)]
    desk: Option<Desk>,
    /// The server has been asked to stop.
    stop: CancellationToken,
    /// The time to finish is over.
    cut: CancellationToken,
}

impl Gateway {
    fn new(service: BoxLlmService, catalog: Catalog, keys: Option<Keys>, settings: Settings) -> Self {
        Self {
            service,
            catalog,
            keys: keys.map(Arc::new),
            records: Records::new(settings.records),
            unknown_paths: UnknownPaths::default(),
            now: ArcSwap::from_pointee(settings.clone()),
            memory: Arc::new(Memory::new(settings.memory)),
            heads: Arc::new(Memory::new(settings.memory / 4)),
            settings,
            #[cfg(test)]
            desk: None,
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
        }
    }

    /// Where people find what was handed to them, if anything is.
    fn desk(&self) -> Option<Desk> {
        match &self.catalog {
            // As it is after the last reload.
            Catalog::Stack(stack) => stack.desk(),
            #[cfg(test)]
            Catalog::Fixed(_) => self.desk.clone(),
        }
    }
}

impl Serve {
    /// Serves until it is asked to stop, by SIGTERM or Ctrl-C.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let log = self.observe.begin_log()?;
        let stack = match &self.config {
            Some(path) => Stack::builder().without_restarts().load(path)?,
            None => demo::stack()?,
        };
        let handle = stack.handle();
        match handle.check_stores().await {
            Ok(()) => {}
            Err(error) if error.heals() => {
                tracing::warn!(error = %told(&error), "a store cannot be reached: serving goes on without it until it can");
            }
            Err(error) => return Err(Failure::Config(format!("error: {}", told(&error)))),
        }
        let observing = Observing::begin(&handle, &self.observe)?;
        // Notifications, callbacks and redrives, until the server has stopped.
        let _handing_over = handle.hand_over();
        // And tiers that failed are asked whether they work again, also while nobody calls.
        let _checking_recovery = handle.check_recovery();
        // Until then, too: what is over goes from the stores when nobody asks for anything.
        let mut sweeping = JoinSet::new();
        sweeping.spawn(sweep(handle.clone()));
        let begun = handle.config();
        warn_of_restarts(&begun);
        let configured = self.config.is_some().then(|| address(&begun));
        let address = self.listen.or(configured).unwrap_or(LOCAL);
        refuse_itself(&begun, &Environment::process(), address)?;
        let keys = self.keys_file(&begun.gateway);
        let keys = keys.map(|path| Keys::load(&path)?.kept_by(handle.clone())).transpose()?;
        if !address.ip().is_loopback() && keys.is_none() && !self.insecure_no_auth {
            return Err(Failure::usage(format_args!(
                "{address} can be reached from elsewhere, and callers need no key: name a file with --keys, listen on \
                 127.0.0.1, or say --insecure-no-auth"
            )));
        }
        let said = Said {
            grace: self.grace.map(Duration::from_secs),
            listen: self.listen.is_some(),
            keys: self.keys.is_some(),
        };
        let settings = Settings::of(&begun, said.grace);
        let gateway = Arc::new(Gateway::new(stack.service(), Catalog::Stack(handle.clone()), keys, settings));
        let control = Control::new()?;
        let listener = control
            .make(|| listener::listen(address))
            .map_err(|error| Failure::Config(format!("error: cannot listen on {address}: {error}")))?;
        let address = listener.local_addr()?;
        // Listening for signals begins before anybody can know that there is somebody to signal.
        let signals = control.make(Signals::new)?;
        let reloads = Reloads::of(gateway.clone(), handle.clone(), begun, said);
        let _following = handle.events().follow_only(Reloads::wanted, reloads);
        let configuration = self.config.as_ref().map(|_| handle.watch());
        let watched = [("configuration", configuration), ("keys", gateway.keys.as_ref().map(Keys::watch))];
        let _watching = watched.map(|(what, watching)| watching.and_then(|watching| watch(what, watching)));
        // A server does not end because nobody reads its greeting.
        let _ = io::stdout().write_all(greeting(address, &handle, self.config.as_deref()).as_bytes());
        let read_again = {
            let (stack, keys) = (self.config.is_some().then(|| handle.clone()), gateway.keys.clone());
            move || reload(stack.as_ref(), keys.as_deref())
        };
        let requests = Handle::current();
        let handler =
            Handler { gateway: gateway.clone(), requests: requests.clone(), log: log.clone(), reload: read_again };
        let router = routes::router(gateway.clone()).merge(observing.router(&gateway.unknown_paths));
        let serving = listener::serve(listener, router, gateway, requests);
        let ended = control.run(signals.obey(handler), serving)?.await;
        end_calls(&handle).await;
        // The thread has said what it stumbled over.
        ended.map_err(|_| Failure::Refused("error: the server ended before it was asked to".to_owned()))?;
        tracing::info!("stopped");
        Ok(())
    }

    /// The file of keys: the one that was asked for, or the configuration's, which is named from that file's folder.
    fn keys_file(&self, said: &config::Gateway) -> Option<PathBuf> {
        let configured = || Some(self.config.as_ref()?.parent()?.join(said.keys.as_ref()?));
        self.keys.clone().or_else(configured)
    }
}

/// Mirrored requests end, which nobody waits for. Calls that go on for a retry end, and their keys are free for another process: no
/// retry comes here any more.
async fn end_calls(stack: &StackHandle) {
    if let Some(mirror) = stack.mirror() {
        // Nothing of them has to be told to anybody: they end at once.
        let _ = timeout(LAST_CALLS, mirror.close()).await;
    }
    if let Some(keys) = stack.idempotency()
        && timeout(LAST_CALLS, keys.close()).await.is_err()
    {
        tracing::warn!(calls = keys.under_way(), "calls under an idempotency key did not end in time");
    }
}

/// How long calls have to end that nobody waits for: a store may have to be told.
const LAST_CALLS: Duration = Duration::from_secs(5);

/// Where a gateway of this configuration listens.
pub(crate) fn address(config: &Config) -> SocketAddr {
    config.listen.unwrap_or(LOCAL)
}

/// Where it listens unless somebody says otherwise.
const LOCAL: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8080));

/// An error with its cause.
fn told(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Neither protocol has a word for "discard what came before": no stream begins anew here.
fn warn_of_restarts(config: &Config) {
    let of_features = config.features.values().chain(&config.default_feature).map(|feature| &feature.stream);
    if of_features.chain([&config.stream]).any(|stream| stream.on_break == Some(config::StreamBreak::Restart)) {
        tracing::warn!(
            "`on_break: restart` cannot be told to callers of the gateway, whose streams end with an error when they break; \
             `commit: complete` lets another tier answer"
        );
    }
}

/// Files are read again when they change. A folder that cannot be watched is no reason not to serve.
fn watch(what: &str, watching: Result<FileWatch, ConfigError>) -> Option<FileWatch> {
    if let Err(error) = &watching {
        tracing::warn!(%error, "changes of the {what} are not seen: send SIGHUP after one");
    }
    watching.ok()
}

/// Says what is served, where, and how to try it.
fn greeting(address: SocketAddr, handle: &StackHandle, config: Option<&Path>) -> String {
    let tiers = handle.tiers();
    let model = tiers.first().map_or(demo::MODEL, |tier| tier.model.as_ref().unwrap_or(&tier.name));
    let served = match config {
        Some(path) => {
            let names: Vec<&str> = tiers.iter().map(|tier| &*tier.name).collect();
            format!("Its tiers, in order: {} ({})", names.join(", "), path.display())
        }
        None => "Its models are simulated: nothing leaves this machine, and no answer means anything.".to_owned(),
    };
    let body = json!({ "model": model, "stream": true, "messages": [{ "role": "user", "content": "hello" }] });
    format!(
        "steadfast listens on http://{address}\n{served}\nIts page, for a browser: http://{address}/\n\n  \
         curl -N http://{address}/v1/chat/completions -H 'content-type: application/json' \\\n    -d '{body}'\n\n  \
         ANTHROPIC_BASE_URL=http://{address}    OPENAI_BASE_URL=http://{address}/v1\n"
    )
}

/// Reads the files again.
fn reload(stack: Option<&StackHandle>, keys: Option<&Keys>) {
    if let Some(stack) = stack {
        // What came of it is an event, and so it is in the log.
        let _ = stack.reload_from_path();
    }
    if let Some(keys) = keys {
        keys.reload();
    }
}

/// How often what is over is removed from the stores.
const SWEEP: Duration = Duration::from_secs(600);

async fn sweep(stack: StackHandle) {
    loop {
        tokio::time::sleep(SWEEP).await;
        if let Err(problem) = stack.sweep().await {
            tracing::debug!(%problem, "what is over stays in the store for a while longer");
        }
    }
}
