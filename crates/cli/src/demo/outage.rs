//! `steadfast demo outage`: a provider that fails at a key, and a gateway whose callers do not notice.

use std::{
    env,
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    panic,
    time::Duration,
};

use clap::Args;
use http::{Method, Uri};
use serde_json::{Value, json};
use steadfast::providers::simulated::{Latency, Simulated};
use steadfast_gateway::ServeOptions;
use steadfast_simulator::SimulatedServer;
use steadfast_stack::{Config, Format};
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    console::{Console, Key},
    journal::Journal,
    trouble::Trouble,
};
use crate::{Failure, remote::Remote, serve::log_panic};

/// Watch an outage: a provider that fails at a key, and a gateway whose callers do not notice
///
/// It starts two simulated providers and a gateway over them, on this machine alone, and prints its address, its
/// configuration and the command that points a client at it. Then each key is a trouble of the first provider: f fails,
/// s slow, c cuts streams, l limits, d away; Enter or h heals it, q ends. Each request is one line: who answered, and
/// what failed. At the end there is a sum, with what the first provider alone would have lost.
///
/// Without a terminal it reads lines in place of keys. No answer means anything.
#[derive(Args)]
pub(crate) struct Outage {
    /// The gateway's port [default: 8080, or a free one where that is taken]
    #[arg(long)]
    port: Option<u16>,

    /// The calls that it makes itself, such as 2/s; 0 makes none [default: 1/s, until a client calls]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    traffic: Option<f64>,
}

const FIRST: &str = "first";
const SECOND: &str = "second";
/// The model that the demo's own calls name.
const OWN_MODEL: &str = "demo";
const USUAL_PORT: u16 = 8080;
/// The calls in a second while there is no client.
const USUAL_RATE: f64 = 1.0;
const HIGHEST_RATE: f64 = 50.0;
/// The time between two looks at the requests.
const LOOK: Duration = Duration::from_millis(100);
/// The time for answers under way at the end.
const GRACE: Duration = Duration::from_secs(3);

/// Reads calls in a second.
fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).trim().parse().ok();
    let rate = number.filter(|rate| (0.0..=HIGHEST_RATE).contains(rate));
    rate.ok_or_else(|| format!("a rate is a number of calls in a second, from 0 to {HIGHEST_RATE}, such as 2/s"))
}

/// The two providers.
struct Providers {
    first: SimulatedServer,
    second: SimulatedServer,
}

impl Providers {
    async fn start() -> io::Result<Self> {
        let voice = |name| {
            Simulated::new(name)
                .latency(Latency::percentiles(Duration::from_millis(150), Duration::from_millis(400)))
                .pace(Duration::from_millis(15))
                .tokens(16..=32)
        };
        Ok(Self {
            first: SimulatedServer::start(voice(FIRST)).await?,
            second: SimulatedServer::start(voice(SECOND)).await?,
        })
    }

    /// Returns the configuration's text. Its limits are narrow, so that a person sees them at work.
    fn config(&self) -> String {
        let (first, second) = (self.first.base_url(), self.second.base_url());
        format!(
            "tiers:\n\
             \x20 - {{ name: {FIRST}, provider: anthropic, base_url: '{first}', model: claude-first,\n\
             \x20     timeout: {{ first_token: 2s }}, circuit_breaker: {{ cooldown: 2s }}, prefill: true }}\n\
             \x20 - {{ name: {SECOND}, provider: openai, base_url: '{second}/v1', model: gpt-second, prefill: true }}\n\
             stream: {{ on_break: continue }}\n"
        )
    }
}

impl Outage {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        check_proxy(|name| env::var(name).ok())?;
        let providers = Providers::start().await.map_err(unready)?;
        let config = providers.config();
        let mut options = ServeOptions::default();
        options.in_memory = Some(Config::from_str(&config, Format::Yaml)?);
        options.listen = Some(self.address());
        options.grace = Some(GRACE);
        options.log = "off".to_owned();
        panic::set_hook(Box::new(log_panic));
        let (listening, listens) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = options.serve_until(async { _ = stopped.await }, listening);
        let showing = async {
            // Without an address the gateway has failed, and says why.
            let shown = self.show(listens.await.ok()?, &providers, &config).await;
            drop(stop);
            Some(shown)
        };
        match tokio::join!(serving, showing) {
            (Err(error), None) => Err(error.into()),
            (Ok(()), None) => Err(Failure::Unready("error: the gateway ended at once".to_owned())),
            (_, Some(shown)) => shown,
        }
    }

    /// Returns the gateway's address: its usual port only while no other program has it.
    fn address(&self) -> SocketAddr {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match self.port {
            Some(port) => local(port),
            None if TcpListener::bind(local(USUAL_PORT)).is_ok() => local(USUAL_PORT),
            None => local(0),
        }
    }

    /// Obeys the keys and shows the requests, until the end.
    async fn show(&self, address: SocketAddr, providers: &Providers, config: &str) -> Result<(), Failure> {
        let url = format!("http://{address}");
        let mut console = Console::begin()?;
        print(&greeting(&url, config, console.has_single_keys()))?;
        let uri = Uri::try_from(&url).map_err(|error| Failure::Unready(error.to_string()))?;
        let mut journal = Journal::new(Remote::without_key(uri.clone())?, FIRST, OWN_MODEL);
        let mut calls = JoinSet::new();
        let rate = self.traffic.unwrap_or(USUAL_RATE);
        let mut next_call = interval(Duration::from_secs_f64(1.0 / rate.max(1e-3)));
        next_call.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_look = interval(LOOK);
        next_look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut trouble, mut calls_itself) = (None, rate > 0.0);
        loop {
            let key = tokio::select! {
                key = console.key() => key,
                _ = next_look.tick() => {
                    print_all(journal.read_on(trouble).await?)?;
                    if calls_itself && self.traffic.is_none() && journal.has_clients() {
                        calls_itself = false;
                        print("----  a client calls: no more calls of the demo's own")?;
                    }
                    continue;
                }
                _ = next_call.tick(), if calls_itself => {
                    let remote = Remote::without_key(uri.clone())?;
                    calls.spawn(async move { remote.answer(Method::POST, "/v1/messages", Some(own_call())).await });
                    continue;
                }
                Some(_) = calls.join_next() => continue,
            };
            // The requests until now came before the key.
            print_all(journal.read_on(trouble).await?)?;
            match key {
                Key::Trouble(begun) => {
                    begun.begin(&providers.first).await.map_err(unready)?;
                    trouble = Some(begun);
                    if begun.ends_connections() {
                        journal.connections_end(begun);
                    }
                    print(&format!("----  {FIRST} {}: {begun}", begun.state()))?;
                }
                Key::Heal => {
                    Trouble::end(&providers.first).await.map_err(unready)?;
                    trouble = None;
                    print(&format!("----  {FIRST} is well"))?;
                }
                Key::Quit => break,
                Key::Unknown => print(&keys(console.has_single_keys()))?,
            }
        }
        // A call of the demo's own that goes on is no client's.
        let _ = timeout(GRACE, async { while calls.join_next().await.is_some() {} }).await;
        print_all(journal.read_on(trouble).await?)?;
        print(&format!("\n{}", journal.into_sum()))
    }
}

/// Refuses a proxy of the environment that would stand before the simulated providers.
fn check_proxy(variable: impl Fn(&str) -> Option<String>) -> Result<(), Failure> {
    let set = |names: &[&str]| names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
    let Some(_) = set(&["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]) else { return Ok(()) };
    let direct = set(&["NO_PROXY", "no_proxy"]).unwrap_or_default();
    if direct.split(',').any(|name| ["*", "127.0.0.1", "127.0.0.0/8"].contains(&name.trim())) {
        return Ok(());
    }
    Err(Failure::usage(
        "the environment has a proxy: add 127.0.0.1 to NO_PROXY, so that the providers here are reached",
    ))
}

/// Returns the failure of a simulated provider.
fn unready(error: io::Error) -> Failure {
    Failure::Unready(format!("error: a simulated provider: {error}"))
}

fn own_call() -> Value {
    let messages = json!([{ "role": "user", "content": "How is the weather?" }]);
    json!({ "model": OWN_MODEL, "max_tokens": 64, "stream": true, "messages": messages })
}

fn greeting(url: &str, config: &str, has_single_keys: bool) -> String {
    let config: String = config.lines().map(|line| format!("  {line}\n")).collect();
    let call = json!({ "model": "any", "max_tokens": 64, "messages": [{ "role": "user", "content": "Hello" }] });
    format!(
        "A gateway on {url}, over two simulated providers:\n\n{config}\n\
         Point a client at it, in another terminal:\n\n\
         \x20 steadfast run --url {url} -- claude      (or codex, gemini, opencode, aider, any other)\n\
         \x20 curl {url}/v1/messages -d '{call}'\n\n{}\n",
        keys(has_single_keys)
    )
}

/// Returns the list of keys.
fn keys(has_single_keys: bool) -> String {
    let troubles = Trouble::ALL.map(|trouble| format!("{} {}", trouble.key(), trouble.name())).join(", ");
    let how = if has_single_keys { "Keys" } else { "Keys, each on a line" };
    format!("{how}: {FIRST} {troubles}; Enter or h heals it; q ends")
}

/// Prints a line, at once.
fn print(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn print_all(lines: Vec<String>) -> Result<(), Failure> {
    lines.iter().try_for_each(|line| print(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_calls_in_a_second() {
        assert_eq!([rate("2/s"), rate("0.5"), rate("0")], [Ok(2.0), Ok(0.5), Ok(0.0)]);
        for wrong in ["", "2/m", "-1", "51", "NaN", "inf/s"] {
            assert!(rate(wrong).is_err_and(|said| said.contains("2/s")), "{wrong}");
        }
    }

    #[test]
    fn a_proxy_before_this_machine_is_refused() {
        let of = |variables: &'static [(&str, &str)]| {
            let found = |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
            check_proxy(|name| found(name).map(str::to_owned)).is_ok()
        };
        assert!(of(&[]) && of(&[("HTTP_PROXY", "")]));
        assert!(of(&[("http_proxy", "http://p"), ("NO_PROXY", "example.com, 127.0.0.1")]));
        assert!(!of(&[("http_proxy", "http://p")]) && !of(&[("ALL_PROXY", "http://p"), ("no_proxy", "example.com")]));
    }
}
