//! `steadfast simulate`: simulated providers on HTTP, in real time.

use std::{
    future::pending,
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use clap::Args;
use serde_json::Value;
use steadfast::providers::simulated::{Latency, Simulated, SimulatedHandle};
use steadfast_drill::Scenario;
use steadfast_simulator::SimulatedServer;
use steadfast_stack::Span;
use tokio::time::{Instant, sleep_until};

use super::{Failure, drill::scenario, terminal::on_a_line};

/// Serve simulated providers that fail along a scenario, for tests of any client or gateway
///
/// Each speaks Anthropic Messages, OpenAI Chat Completions, OpenAI Responses and Gemini on one port, streamed and not,
/// and takes any key but `bad-key`. A scenario's faults come in real time, from the start of the command; it has one
/// provider, and more where it has faults at fallbacks or named tiers. Features and callers are not told apart.
///
/// Ends on SIGINT with the number of requests, of answers, and of failures by kind. Exit code: 0; 1 if the address is
/// taken; 2 if the command line or the scenario is wrong.
#[derive(Args)]
pub(crate) struct Simulate {
    /// The scenario: a built-in name (see `drill --list`) or a file [default: all is well]
    #[arg(long, value_name = "NAME|FILE.yaml")]
    scenario: Option<String>,
    /// The address of the first provider; others get the ports after it, or any for port 0
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))]
    listen: SocketAddr,
    /// The seconds of the scenario that pass in one
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// The text of every answer [default: some words]
    #[arg(long, value_name = "TEXT")]
    reply: Option<String>,
    /// Call the first tool that a request offers, with these arguments; with made-up ones where it requires others, and
    /// without any
    #[arg(long, value_name = "JSON", num_args = 0..=1, default_missing_value = "true", value_parser = arguments)]
    call_tools: Option<Value>,
    /// The time to the first token [default: that of the scenario, or none]
    #[arg(long, value_name = "TIME")]
    latency: Option<Span>,
    /// A fault of every call in place of a scenario, as scenarios name it: overloaded, hang, slow=30s, status=530
    #[arg(long, value_name = "FAULT", conflicts_with = "scenario")]
    fault: Option<String>,
}

/// A provider that listens.
struct Provider {
    name: String,
    server: SimulatedServer,
}

impl Simulate {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let scenario = self.scenario()?;
        let begin = Instant::now();
        let names = scenario.as_ref().map_or_else(|| vec!["primary".to_owned()], Scenario::providers);
        let mut providers = Vec::new();
        for (place, name) in names.into_iter().enumerate() {
            let mut addr = self.listen;
            if addr.port() != 0 {
                let port = u16::try_from(place).ok().and_then(|place| addr.port().checked_add(place));
                addr.set_port(port.ok_or_else(|| Failure::usage("--listen leaves too few ports for all providers"))?);
            }
            let provider = self.provider(&name, scenario.as_ref(), begin);
            let server = SimulatedServer::start_on(provider, addr).await;
            let server =
                server.map_err(|error| Failure::Unready(format!("error: cannot listen on {addr}: {error}")))?;
            providers.push(Provider { name, server });
        }
        let told = async {
            tell(&providers.iter().map(Provider::urls).collect::<String>())?;
            self.tell_events(scenario.as_ref(), &providers, begin).await?;
            pending::<Result<(), Failure>>().await
        };
        tokio::select! {
            // The signal is listened for before the first word.
            biased;
            stopped = tokio::signal::ctrl_c() => stopped?,
            told = told => told?,
        }
        tell(&providers.iter().map(Provider::summary).collect::<String>())
    }

    fn scenario(&self) -> Result<Option<Scenario>, Failure> {
        if let Some(name) = &self.scenario {
            return scenario(name).map(Some);
        }
        let Some(fault) = &self.fault else { return Ok(None) };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '=' | '/' | '.');
        let wrong = |said: &str| {
            let form = "a fault is a name such as overloaded, or a name with its number such as slow=30s";
            Failure::usage(format_args!("--fault {fault}: {form}{said}"))
        };
        if !fault.chars().all(plain) {
            return Err(wrong(""));
        }
        let value = match fault.split_once('=') {
            Some((name, number)) => format!("{{ {name}: {number} }}"),
            None => fault.clone(),
        };
        let text = format!(
            "name: fault\nlasts: 744h\nrequests: {{ rate: 1/h }}\nfaults: [{{ from: 0s, to: 744h, fault: {value} }}]\n"
        );
        match Scenario::from_yaml(&text) {
            Ok(scenario) => Ok(Some(scenario)),
            Err(error) => {
                let said =
                    error.problems().first().map_or_else(String::new, |problem| format!("; {}", problem.message));
                Err(wrong(&said))
            }
        }
    }

    fn provider(&self, name: &str, scenario: Option<&Scenario>, begin: Instant) -> Simulated {
        let mut provider = Simulated::new(name).starting_at(begin);
        if let Some(scenario) = scenario {
            provider = provider.outages(scenario.outages(name, self.speed));
            if self.fault.is_none() {
                let (latency, pace) = scenario.latency();
                provider = provider.latency(latency).pace(pace);
            }
        }
        if let Some(Span(latency)) = self.latency {
            provider = provider.latency(Latency::from(latency));
        }
        if let Some(arguments) = &self.call_tools {
            provider = provider.call_tools(arguments.clone());
        }
        match &self.reply {
            Some(reply) => provider.reply(reply),
            None => provider,
        }
    }

    /// Tells each event of the scenario when it comes, and the time of the next.
    async fn tell_events(
        &self,
        scenario: Option<&Scenario>,
        providers: &[Provider],
        begin: Instant,
    ) -> Result<(), Failure> {
        // A single fault neither begins nor ends.
        let Some(scenario) = scenario.filter(|_| self.fault.is_none()) else { return Ok(()) };
        let events = scenario.events(self.speed);
        let next = |place: usize, now: Duration| match events.get(place) {
            Some(next) => format!("next in {}", span(next.at.saturating_sub(now))),
            None => "no more; all is well from now on".to_owned(),
        };
        tell(&format!("{} begins; {}\n", on_a_line(scenario.name()), next(0, Duration::ZERO)))?;
        for (place, event) in events.iter().enumerate() {
            sleep_until(begin + event.at).await;
            if let Some(limit) = event.limit {
                let of = providers.iter().find(|provider| provider.name == event.provider);
                of.map(Provider::handle).iter().for_each(|handle| handle.rate_limit(limit));
            }
            let (name, what) = (on_a_line(&event.provider), on_a_line(&event.what));
            tell(&format!("{} {name}: {what}; {}\n", clock(event.at), next(place + 1, event.at)))?;
        }
        Ok(())
    }
}

impl Provider {
    fn handle(&self) -> SimulatedHandle {
        self.server.handle()
    }

    /// Returns its base URLs, as the vendors' SDKs want them.
    fn urls(&self) -> String {
        let url = self.server.base_url();
        format!(
            "{}\n  ANTHROPIC_BASE_URL={url}\n  OPENAI_BASE_URL={url}/v1\n  GOOGLE_GEMINI_BASE_URL={url}\n",
            on_a_line(&self.name)
        )
    }

    fn summary(&self) -> String {
        let stats = self.handle().stats();
        let failed: Vec<String> = stats.failed_by.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let failed = if failed.is_empty() { String::new() } else { format!(" ({})", failed.join(", ")) };
        format!(
            "{}: {} requests, {} answered, {} failed{failed}, {} left by the caller, {} refused as malformed\n",
            on_a_line(&self.name),
            stats.calls + stats.rejected,
            stats.answered,
            stats.failed,
            stats.cancelled + stats.in_flight,
            stats.rejected
        )
    }
}

/// Prints at once, also into a pipe.
fn tell(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn clock(at: Duration) -> String {
    let seconds = at.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn span(time: Duration) -> String {
    match time.as_secs() {
        0..=9 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse::<f64>().ok().filter(|speed| (0.001..=100_000.0).contains(speed));
    speed.ok_or_else(|| "a number from 0.001 to 100000, such as 60: a minute of the scenario in a second".to_owned())
}

fn arguments(text: &str) -> Result<Value, String> {
    // `true` makes some up.
    let arguments = serde_json::from_str(text).ok().filter(|said: &Value| said.is_object() || *said == true);
    arguments.ok_or_else(|| r#"a JSON object, such as {"city": "Oslo"}"#.to_owned())
}
