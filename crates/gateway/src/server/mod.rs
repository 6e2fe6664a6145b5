//! A running gateway: the configuration, the listener, the API and the signals, put together.
//!
//! [`control`] is a thread of its own, for what must not wait behind a request: signals, new connections, `/healthz`.

mod control;
mod demo;
mod reloads;
mod self_call;

use std::{
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use serde_json::json;
use steadfast_internal::{calendar, system, wall_clock};
use steadfast_stack::{
    self as config, Config, ConfigError, Environment, FileWatch, KeyRegistry, KeySource, Stack, StackHandle,
};
use tokio::{net::TcpListener, runtime::Handle, sync::oneshot, task::JoinSet, time::timeout};

pub use self::self_call::check_self_calls;
use self::{
    control::{Control, Stop, StopHandler},
    reloads::{Overrides, Reloads},
};
use crate::{
    api::{
        Catalog, GatewayState, Keys, LogFormat, Routes,
        observe::{self, LogOptions, Observer},
        router,
        standing_orders::StandingOrders,
    },
    error::ServeError,
    http::{self, LAST_BYTES},
    limits::Settings,
};

/// The options of a gateway.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ServeOptions {
    /// The configuration, which is loaded again when it changes and on SIGHUP. Without one the gateway serves simulated
    /// models.
    pub config: Option<PathBuf>,
    /// The configuration where no file has one.
    pub in_memory: Option<Config>,
    /// The address to listen on, in place of the configuration's.
    pub listen: Option<SocketAddr>,
    /// The time for open streams once the server is asked to stop, in place of the configuration's.
    pub grace: Option<Duration>,
    /// The file of the callers' keys, in place of the configuration's. Without either, anyone who can reach the port
    /// may call.
    pub keys: Option<PathBuf>,
    /// True to listen beyond loopback although callers need no key.
    pub insecure_no_auth: bool,
    /// The log's filter: a level, or one for each target. Default: `info`.
    pub log: String,
    /// The log's format.
    pub log_format: LogFormat,
    /// The file to which the log is appended. Default: standard error.
    pub log_file: Option<PathBuf>,
    /// An OpenTelemetry collector that takes a trace of each request, by OTLP over HTTP. A build without the feature
    /// `otlp` logs that it has no traces.
    pub otlp_endpoint: Option<String>,
}

/// The program around the gateway.
enum Host {
    /// The command: it greets, and obeys signals.
    Command,
    /// A program with a terminal of its own.
    Program { stop: BoxFuture<'static, ()>, listening: oneshot::Sender<SocketAddr> },
}

impl ServeOptions {
    /// Serves until SIGTERM or Ctrl-C.
    ///
    /// The greeting goes to standard output and the log to standard error. A log in JSON has the event `listening` in
    /// place of the greeting. A second signal ends the process at once.
    ///
    /// # Errors
    ///
    /// The configuration, the keys or an option is wrong, or the system refuses the address.
    pub async fn serve(self) -> Result<(), ServeError> {
        self.serve_for(Host::Command).await
    }

    /// Serves until `stop` completes, and sends the address to `listening` once it takes calls.
    ///
    /// It prints no greeting and leaves signals alone, for a program that has a terminal of its own.
    ///
    /// # Errors
    ///
    /// As in [`serve`](Self::serve).
    pub async fn serve_until(
        self,
        stop: impl Future<Output = ()> + Send + 'static,
        listening: oneshot::Sender<SocketAddr>,
    ) -> Result<(), ServeError> {
        self.serve_for(Host::Program { stop: Box::pin(stop), listening }).await
    }

    async fn serve_for(self, host: Host) -> Result<(), ServeError> {
        let observe = self.observe();
        let log = observe.log.begin()?;
        let builder = || Stack::builder().without_restarts().listen(self.listen);
        let stack = match (&self.config, &self.in_memory) {
            (Some(path), _) => builder().load(path)?,
            (None, Some(config)) => builder().build(config.clone())?,
            (None, None) => demo::stack()?,
        };
        let handle = stack.handle();
        check_stores(&handle).await?;
        let observer = Observer::begin(&handle, observe)?;
        // Notifications, callbacks and redrives go on until the server has stopped.
        let _handing_over = handle.hand_over();
        // Failed tiers are probed even while no caller sends a request.
        let _checking_recovery = handle.check_recovery();
        // A restart and the other replicas know the providers' keys that have worked.
        let _remembering_keys = handle.remember_keys();
        // Expired entries leave the stores even while no caller sends a request.
        let mut sweeping = JoinSet::new();
        sweeping.spawn(sweep(handle.clone()));
        sweeping.spawn(system::reap_orphans());
        let begun = handle.config();
        warn_of_restarts(&begun);
        warn_of_names(&begun);
        warn_of_old_prices(&begun, &handle);
        let address = self.address(&begun);
        check_self_calls(&begun, &Environment::process(), address)?;
        if let Some(path) = self.keys_file(&begun.gateway) {
            Keys::settle(&path).await;
        }
        let keys = self.load_keys(&begun, &handle).await?;
        self.check_open_access(address, keys.is_none())?;
        recount(&handle).await;
        let recounting = sweeping.spawn(recount_often(handle.clone()));
        let overrides = Overrides { grace: self.grace, listen: self.listen.is_some(), keys: self.keys.is_some() };
        let settings = Settings::of(&begun, overrides.grace);
        let is_local = address.ip().is_loopback() && keys.is_none() && !self.insecure_no_auth;
        let mut gateway = GatewayState::new(stack.service(), Catalog::Stack(handle.clone()), keys, settings);
        gateway.has_local_names_alone = is_local;
        if let Some(store) = handle.registry() {
            let orders = Arc::new(StandingOrders::new(store, handle.clone()));
            orders.turn().await;
            sweeping.spawn(orders.clone().follow());
            gateway.standing_orders = Some(orders);
        }
        let gateway = Arc::new(gateway);
        let control = Control::new()?;
        let listener = control.make(|| listen(address))?;
        let address = listener.local_addr()?;
        let (stop, listening) = match host {
            // Receive signals from here on: the greeting names the process, and signals may follow it.
            Host::Command => (Stop::Signals(control.make(system::ServerSignals::new)?), None),
            Host::Program { stop, listening } => (Stop::Program(stop), Some(listening)),
        };
        let reloads = Reloads::of(gateway.lifecycle.clone(), handle.clone(), begun, overrides, gateway.keys.clone());
        let _subscription = handle.events().follow_only(Reloads::wanted, reloads);
        let configuration = self.config.as_ref().map(|_| handle.watch());
        let watched = [("configuration", configuration), ("keys", gateway.keys.as_ref().and_then(Keys::watch))];
        if let Some(keys) = &gateway.keys {
            sweeping.spawn(keys.clone().follow());
        }
        let _watching = watched.map(|(what, watching)| watching.and_then(|watching| watch(what, watching)));
        match listening {
            None => self.greet(address, &handle, gateway.keys.is_some()),
            Some(listening) => {
                self.log_address(address, &handle);
                // A program that does not wait for it has `stop`.
                let _ = listening.send(address);
            }
        }
        let read_again = {
            let (stack, keys) = (self.config.is_some().then(|| handle.clone()), gateway.keys.clone());
            move || reload(stack.as_ref(), keys.as_deref())
        };
        let requests = Handle::current();
        let handler = StopHandler {
            lifecycle: gateway.lifecycle.clone(),
            requests: requests.clone(),
            log: log.clone(),
            reload: read_again,
        };
        let router = router(gateway.clone()).merge(observer.router(gateway.clone()));
        let (lifecycle, calls_out) = (gateway.lifecycle.clone(), gateway.catalog.calls_out());
        let routes = Routes::new(gateway, router);
        let serving = http::serve(listener, routes, lifecycle, calls_out, requests);
        let ended = control.run(stop.handle(handler), serving)?.await;
        end_calls(&handle).await;
        if let Some(ledger) = handle.ledger() {
            // The journal keeps the rest for the next process.
            let _ = timeout(LAST_ROWS, ledger.flush()).await;
            // None comes after what is given up here.
            recounting.abort();
            let _ = timeout(LAST_GRANTS, handle.return_grants()).await;
        }
        // The last requests belong into the log, the metrics and the traces too.
        let _ = timeout(LAST_CALLS, handle.events().heard()).await;
        // The control thread has logged its own panic.
        ended.map_err(|_| ServeError::Ended)?;
        tracing::info!("stopped");
        Ok(())
    }

    fn observe(&self) -> observe::Options<'_> {
        observe::Options {
            log: LogOptions { filter: &self.log, format: self.log_format, file: self.log_file.as_deref() },
            otlp_endpoint: self.otlp_endpoint.as_deref(),
        }
    }

    /// Returns the address to listen on: the option's, or the configuration's.
    fn address(&self, config: &Config) -> SocketAddr {
        let configured = self.config.is_some().then(|| listen_address(config));
        self.listen.or(configured).unwrap_or(DEFAULT_ADDRESS)
    }

    /// Loads the callers' keys, if there is a file or a store of them.
    async fn load_keys(&self, config: &Config, stack: &StackHandle) -> Result<Option<Keys>, ServeError> {
        let file = self.keys_file(&config.gateway);
        let stored = config.gateway.keys.as_ref().and_then(KeySource::registry);
        let oidc = config.gateway.oidc.as_ref();
        if file.is_none() && stored.is_none() && oidc.is_none() {
            return Ok(None);
        }
        let mut keys = match file {
            Some(path) if stored.is_some() || oidc.is_some() => Keys::load_beside_others(&path)?,
            Some(path) => Keys::load(&path)?,
            None => Keys::none(),
        };
        if let Some(said) = stored {
            let store =
                stack.registry().ok_or_else(|| ServeError::invalid(format_args!("keys need a durable store")))?;
            keys = keys.with_store(store, copy_folder(said), stack.events());
        }
        if let Some(oidc) = oidc {
            keys = keys.with_tokens(oidc, config)?;
        }
        let keys = keys.with_budgets_in(stack.clone())?;
        keys.warn_of_names();
        keys.begin().await.map_err(|error| ServeError::Invalid(with_cause(&error)))?;
        if keys.is_empty() && oidc.is_none() && !keys.is_unread() {
            tracing::warn!(
                "no caller has a key yet: make the first with `steadfast key create NAME --admin --config FILE`"
            );
        }
        Ok(Some(keys))
    }

    /// Tells where the server listens: people by a greeting, those who read JSON by a line of the log.
    fn greet(&self, address: SocketAddr, handle: &StackHandle, has_keys: bool) {
        match self.log_format {
            LogFormat::Text => {
                let config = self.config.as_deref();
                // A failed write must not stop the server.
                let _ = io::stdout().write_all(greeting(address, handle, config, has_keys).as_bytes());
            }
            LogFormat::Json => self.log_address(address, handle),
        }
    }

    fn log_address(&self, address: SocketAddr, handle: &StackHandle) {
        let tiers = tier_names(handle);
        let config = self.config.as_deref().map(|path| path.display().to_string());
        tracing::info!(event = "listening", address = address.to_string(), tiers, config);
    }

    /// Refuses an address beyond loopback if callers need no key, unless the options allow it.
    fn check_open_access(&self, address: SocketAddr, no_keys: bool) -> Result<(), ServeError> {
        if !address.ip().is_loopback() && no_keys && !self.insecure_no_auth {
            return Err(ServeError::invalid(format_args!(
                "{address} can be reached from elsewhere, and callers need no key: name a file with --keys, listen on \
                 127.0.0.1, or say --insecure-no-auth"
            )));
        }
        Ok(())
    }

    /// Returns the file of keys: the option's, or the configuration's, relative to that file's folder.
    fn keys_file(&self, said: &config::Gateway) -> Option<PathBuf> {
        let configured = || configured_keys(self.config.as_ref()?, said);
        self.keys.clone().or_else(configured)
    }
}

/// Returns the file of keys that a configuration names, relative to its own folder.
fn configured_keys(config: &Path, said: &config::Gateway) -> Option<PathBuf> {
    Some(config.parent()?.join(said.keys.as_ref()?.file()?))
}

/// Returns the folder for the copy of stored keys.
fn copy_folder(said: &KeyRegistry) -> Option<PathBuf> {
    let in_state = || Environment::process().state_folder().map(|folder| folder.join("keys"));
    said.folder.as_ref().map(PathBuf::from).or_else(in_state)
}

/// Checks the file of callers' keys against the configuration in this file: that it can be read, and that it names what
/// there is. `keys` takes precedence over the file that the configuration names; without either there is nothing to
/// check. Returns the keys' budgets, for [`check_with_budgets`](steadfast_stack::StackBuilder::check_with_budgets).
///
/// # Errors
///
/// The file is wrong; the error has each place.
pub fn check_keys(config_file: &Path, config: &Config, keys: Option<&Path>) -> Result<Vec<config::Budget>, ServeError> {
    let configured = configured_keys(config_file, &config.gateway);
    let mut budgets = Keys::check_tokens(config)?;
    let Some(path) = keys.map(Path::to_owned).or(configured) else { return Ok(budgets) };
    let others = config.gateway.keys.as_ref().and_then(KeySource::registry).is_some() || config.gateway.oidc.is_some();
    let keys = if others { Keys::load_beside_others(&path)? } else { Keys::load(&path)? };
    keys.check_names(config)?;
    budgets.extend(keys.budgets());
    Ok(budgets)
}

/// Checks that the stores answer. The gateway starts without a store that is only unreachable.
async fn check_stores(stack: &StackHandle) -> Result<(), ServeError> {
    match stack.check_stores().await {
        Ok(()) => Ok(()),
        Err(error) if error.heals() => {
            tracing::warn!(error = %with_cause(&error), "store unreachable; serving without it");
            Ok(())
        }
        Err(error) => Err(ServeError::Invalid(with_cause(&error))),
    }
}

/// Ends the calls that no caller waits for: mirrored requests, and calls that go on for a retry. Their keys become free
/// for another process, since no retry comes here any more.
pub(crate) async fn end_calls(stack: &StackHandle) {
    if let Some(mirror) = stack.mirror() {
        // They end at once, for no one needs their outcome.
        let _ = timeout(LAST_CALLS, mirror.close()).await;
    }
    if let Some(keys) = stack.idempotency()
        && timeout(LAST_CALLS, keys.close()).await.is_err()
    {
        tracing::warn!(calls = keys.under_way(), "calls under an idempotency key did not end in time");
    }
}

/// The time for calls without a caller to end: a store may have to record them.
const LAST_CALLS: Duration = Duration::from_secs(5);

fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    http::listen(address).map_err(|error| ServeError::Invalid(format!("cannot listen on {address}: {error}")))
}

/// Returns the address on which a gateway of this configuration listens.
pub fn listen_address(config: &Config) -> SocketAddr {
    config.listen.unwrap_or(DEFAULT_ADDRESS)
}

/// The address without a configuration or an option.
const DEFAULT_ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8080));

/// Returns an error with its cause.
fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Warns about `on_break: restart`: neither protocol has a way to discard what came before, so no stream restarts here.
fn warn_of_restarts(config: &Config) {
    let of_features = config.features.values().chain(&config.default_feature).map(|feature| &feature.stream);
    if of_features.chain([&config.stream]).any(|stream| stream.on_break == Some(config::StreamBreak::Restart)) {
        tracing::warn!(
            "`on_break: restart` does not work through the gateway: a broken stream ends with an error; \
             `continue` lets another call go on with it, and `commit: complete` lets another tier answer"
        );
    }
}

/// Warns about prices that are probably no longer those of the providers, where money is counted.
fn warn_of_old_prices(config: &Config, stack: &StackHandle) {
    let prices = stack.prices();
    let Some(as_of) = prices.as_of() else { return };
    let today = wall_clock::since_1970().as_secs() / (24 * 60 * 60);
    let days = calendar::parse_day(as_of).map(|day| today.saturating_sub(day));
    let counts = !config.budgets.is_empty() || config.ledger.is_some();
    if let Some(days) = days.filter(|days| counts && *days > OLD_PRICES) {
        tracing::warn!(
            as_of,
            days,
            "the built-in prices are old: `steadfast prices import FILE --config FILE` prints LiteLLM's for this file's `prices`"
        );
    }
}

/// The age from which prices are said to be old, in days.
const OLD_PRICES: u64 = 60;

/// Warns about models' names that are probably misspelled: the provider would refuse each call.
fn warn_of_names(config: &Config) {
    for note in config.model_name_notes() {
        tracing::warn!("{note}");
    }
}

/// Logs a failure to watch a file. The server runs without the watch.
fn watch(what: &str, watching: Result<FileWatch, ConfigError>) -> Option<FileWatch> {
    match watching {
        Ok(watching) => {
            if let Some(problem) = watching.blind_spot() {
                tracing::warn!(problem, "not every change of the {what} can be followed");
            }
            Some(watching)
        }
        Err(error) => {
            tracing::warn!(%error, "changes of the {what} are not watched; after a change send SIGHUP, or restart where there is none");
            None
        }
    }
}

fn tier_names(handle: &StackHandle) -> String {
    handle.tiers().iter().map(|tier| &*tier.name).collect::<Vec<_>>().join(", ")
}

/// Returns the greeting: the models, the address, and a command to try.
fn greeting(address: SocketAddr, handle: &StackHandle, config: Option<&Path>, has_keys: bool) -> String {
    let tiers = handle.tiers();
    let model = tiers.first().map_or(demo::MODEL, |tier| tier.model.as_ref().unwrap_or(&tier.name));
    let served = match config {
        Some(path) => format!("Its tiers, in order: {} ({})", tier_names(handle), path.display()),
        None => "Its models are simulated: nothing leaves this machine, and no answer means anything.".to_owned(),
    };
    let key = if has_keys { " -H \"authorization: Bearer $KEY\"" } else { "" };
    let body = json!({ "model": model, "stream": true, "messages": [{ "role": "user", "content": "hello" }] });
    format!(
        "steadfast listens on http://{address}\n{served}\nIts page, for a browser: http://{address}/\n\n  \
         curl -N http://{address}/v1/chat/completions{key} -H 'content-type: application/json' \\\n    -d '{body}'\n\n  \
         ANTHROPIC_BASE_URL=http://{address}    OPENAI_BASE_URL=http://{address}/v1\n"
    )
}

/// Reads the configuration and the keys again.
fn reload(stack: Option<&StackHandle>, keys: Option<&Keys>) {
    if let Some(stack) = stack {
        // The outcome is an event, which is in the log.
        let _ = stack.reload_from_path();
    }
    if let Some(keys) = keys {
        keys.reload();
    }
}

/// The time for the ledger's last rows when the server ends.
const LAST_ROWS: Duration = Duration::from_secs(5);

/// The time for giving up what the other replicas may spend.
const LAST_GRANTS: Duration = Duration::from_secs(1);

/// The interval at which replicas agree on their caps. They trust each other's word for a few seconds.
const RECOUNT_INTERVAL: Duration = Duration::from_secs(1);
/// The time for one agreement.
const RECOUNT_TIMEOUT: Duration = Duration::from_secs(10);

/// Lets the caps go on from the ledger. A store that is away has its own line in the log.
async fn recount(stack: &StackHandle) {
    match timeout(RECOUNT_TIMEOUT, stack.recount_spend()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "caps not counted from the ledger"),
        Err(_) => tracing::debug!("caps not counted from the ledger in time"),
    }
}

async fn recount_often(stack: StackHandle) {
    loop {
        tokio::time::sleep(RECOUNT_INTERVAL).await;
        recount(&stack).await;
    }
}

/// The interval at which expired entries are removed from the stores.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

async fn sweep(stack: StackHandle) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        if let Err(problem) = stack.sweep().await {
            tracing::debug!(%problem, "expired entries not removed");
        }
    }
}
