//! The crate's main job: 200 requests through an outage, and none of them lost.
//!
//! `cargo run --example failover` needs no key and no service. Two simulated providers listen on loopback and speak the
//! protocols of Anthropic and OpenAI, so the requests take the real way: leaf, HTTP, sockets. Only the times are scaled
//! down, so that the outage is over in seconds.
//!
//! `cargo run --example failover -- --live "Explain closures."` sends one prompt through the same stack to the real
//! providers whose keys are in the environment: `ANTHROPIC_API_KEY`, `OPENAI_API_KEY`.

use std::{collections::BTreeMap, error::Error, process::ExitCode, time::Duration};

use steadfast::{
    BoxLlmService, BulkheadLayer, CircuitBreakerLayer, Event, Events, FallbackLayer, InvalidConfig, LlmError,
    LlmRequest, LlmResponse, RetryWithJitterLayer, TimeoutLayer,
    layers::fallback::{FeaturePolicy, StreamBreak},
    providers::{
        Anthropic, Canned, OpenAi,
        simulated::{Fault, Latency, RateLimit, Simulated},
    },
};
use steadfast_simulator::SimulatedServer;
use tokio::{sync::broadcast, task::JoinSet, time::Instant};
use tower::{Service, ServiceBuilder, ServiceExt};

/// The stack's limits of time.
#[derive(Clone, Copy)]
struct Times {
    total: Duration,
    attempt: Duration,
    longest_backoff: Duration,
    cooldown: Duration,
}

const LIVE: Times = Times {
    total: Duration::from_secs(90),
    attempt: Duration::from_secs(30),
    longest_backoff: Duration::from_secs(8),
    cooldown: Duration::from_secs(60),
};

/// About a hundredth of the above.
const SCALED: Times = Times {
    total: Duration::from_millis(900),
    attempt: Duration::from_millis(250),
    longest_backoff: Duration::from_millis(40),
    cooldown: Duration::from_millis(400),
};

/// The stack of one model: retry briefly, stop hammering, never wait for ever.
fn tier<S>(name: &'static str, leaf: S, times: Times, events: &Events) -> BoxLlmService
where
    S: Service<LlmRequest, Response = LlmResponse> + Clone + Send + Sync + 'static,
    S::Error: Into<LlmError>,
    S::Future: Send,
{
    let service = ServiceBuilder::new()
        .layer(RetryWithJitterLayer::new().max_delay(times.longest_backoff))
        .layer(CircuitBreakerLayer::new(name).cooldown(times.cooldown).events(events.clone()))
        .layer(TimeoutLayer::new(times.attempt))
        .service(leaf);
    BoxLlmService::new(service)
}

/// The application's stack: the tiers in their order, a limit for each feature, one deadline for everything.
fn stack(
    mut tiers: Vec<(&'static str, BoxLlmService)>,
    times: Times,
    events: &Events,
) -> Result<BoxLlmService, InvalidConfig> {
    let (name, primary) = tiers.remove(0);
    let mut fallback = FallbackLayer::new(name)
        // Another tier answers where a stream breaks off; the reader sees whole answers only.
        .default_policy(FeaturePolicy::new().stream_break(StreamBreak::Buffer))?
        .events(events.clone());
    for (name, service) in tiers {
        fallback = fallback.tier(name, service);
    }
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(times.total))
        .layer(BulkheadLayer::new().feature("chat", 20).feature("summary", 10).feature("background", 5))
        .layer(fallback.tier("canned", Canned::text("Please try again in a minute.")))
        .service(primary);
    Ok(BoxLlmService::new(service))
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        None => drill().await,
        Some("--live") => live(&arguments.collect::<Vec<_>>().join(" ")).await,
        Some(other) => Err(format!("unknown argument {other}; there is only --live \"prompt\"").into()),
    }
}

/// One prompt to the real providers.
async fn live(prompt: &str) -> Result<ExitCode, Box<dyn Error>> {
    if prompt.is_empty() {
        return Err("--live needs a prompt".into());
    }
    let has_key = |name| std::env::var_os(name).is_some_and(|key| !key.is_empty());
    let events = Events::new();
    let mut tiers = Vec::new();
    if has_key("ANTHROPIC_API_KEY") {
        let leaf = Anthropic::from_env()?.model("claude-sonnet-4-5");
        tiers.push(("sonnet", tier("sonnet", leaf, LIVE, &events)));
    }
    if has_key("OPENAI_API_KEY") {
        let leaf = OpenAi::from_env()?.model("gpt-4o");
        tiers.push(("gpt-4o", tier("gpt-4o", leaf, LIVE, &events)));
    }
    if tiers.is_empty() {
        return Err("set ANTHROPIC_API_KEY or OPENAI_API_KEY, or leave --live out".into());
    }
    let mut llm = stack(tiers, LIVE, &events)?;
    let answer = llm.ready().await?.call(LlmRequest::prompt(prompt).with_feature("chat")).await?;
    println!("served by {}", answer.served_by());
    for attempt in answer.attempts() {
        println!("  before that, {attempt}");
    }
    println!("{}", answer.text().await?);
    Ok(ExitCode::SUCCESS)
}

/// A stretch of the drill: its requests, its title, and the pause after five of them.
type Phase = (usize, &'static str, Duration);

/// 200 requests while the primary works, is limited, goes down and comes back.
async fn drill() -> Result<ExitCode, Box<dyn Error>> {
    let quick = Latency::percentiles(Duration::from_millis(6), Duration::from_millis(20));
    let provider = |name| Simulated::new(name).latency(quick).pace(Duration::from_millis(1)).tokens(4..=10);
    let anthropic = SimulatedServer::start(provider("sonnet")).await?;
    let openai = SimulatedServer::start(provider("gpt-4o")).await?;
    println!("sonnet: simulated, Anthropic Messages at {}", anthropic.base_url());
    println!("gpt-4o: simulated, OpenAI Chat Completions at {}", openai.base_url());
    println!("canned: a fixed sentence, if all else fails");

    let events = Events::new();
    let sonnet = Anthropic::new("no key needed").base_url(&anthropic.base_url())?.model("claude-sonnet-4-5");
    let gpt = OpenAi::new("no key needed").base_url(&format!("{}/v1", openai.base_url()))?.model("gpt-4o");
    let tiers =
        vec![("sonnet", tier("sonnet", sonnet, SCALED, &events)), ("gpt-4o", tier("gpt-4o", gpt, SCALED, &events))];
    let mut run = Run {
        llm: stack(tiers, SCALED, &events)?,
        events: events.subscribe(),
        asked: 0,
        served: BTreeMap::new(),
        lost: 0,
    };

    let primary = anthropic.handle();
    let (brisk, slow) = (Duration::from_millis(10), SCALED.cooldown / 4);
    run.phase((40, "all is well", brisk)).await;
    primary.rate_limit(Some(RateLimit::requests_per_minute(120).burst(5)));
    run.phase((40, "sonnet is rate-limited: 429 with Retry-After", slow)).await;
    primary.rate_limit(None);
    // Retry-After is in whole seconds, and the circuit keeps to it.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    primary.fail(Fault::Unavailable);
    run.phase((30, "sonnet is down: 503", brisk)).await;
    primary.fail(Fault::Hang);
    run.phase((25, "sonnet is down: it takes requests and never answers", slow)).await;
    primary.fail(Fault::CutAfter(3));
    run.phase((25, "sonnet is half up: its answers break off in the middle", slow)).await;
    primary.heal();
    let back = run.phase((40, "sonnet is well again", slow)).await;

    let stats = primary.stats();
    println!(
        "\nsonnet had {} calls: {} answered, {} failed {:?}, {} given up on while they hung",
        stats.calls, stats.answered, stats.failed, stats.failed_by, stats.cancelled
    );
    let answered: usize = run.served.values().sum();
    let (asked, lost) = (run.asked, run.lost);
    let recovered = back.contains_key("sonnet");
    if !recovered {
        println!("sonnet was not used again after its recovery");
    }
    println!("answered {answered} of {asked}, lost {lost}; served by {}", list(&run.served));
    Ok(if lost == 0 && answered == asked && recovered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Run {
    llm: BoxLlmService,
    events: broadcast::Receiver<Event>,
    asked: usize,
    served: BTreeMap<String, usize>,
    lost: usize,
}

impl Run {
    /// Sends the requests of a phase, five at a time, and prints the events. Returns the tiers that served them.
    async fn phase(&mut self, (requests, title, pause): Phase) -> BTreeMap<String, usize> {
        println!("\n{}-{}: {title}", self.asked + 1, self.asked + requests);
        let (mut served, mut slowest) = (BTreeMap::new(), Duration::ZERO);
        for _ in 0..requests / 5 {
            let mut wave = JoinSet::new();
            for _ in 0..5 {
                self.asked += 1;
                wave.spawn(ask(self.llm.clone(), self.asked));
            }
            while let Some(result) = wave.join_next().await {
                match result.expect("a request does not panic") {
                    Ok((tier, took)) => {
                        *served.entry(tier).or_insert(0) += 1;
                        slowest = slowest.max(took);
                    }
                    Err(error) => {
                        self.lost += 1;
                        println!("  LOST: {error}");
                    }
                }
            }
            self.print_events();
            tokio::time::sleep(pause).await;
        }
        println!("  served by {}; the slowest took {slowest:.0?}", list(&served));
        for (tier, count) in &served {
            *self.served.entry(tier.clone()).or_default() += count;
        }
        served
    }

    /// Prints the layers' events since the last call.
    fn print_events(&mut self) {
        let asked = self.asked;
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::ModelSwitched { from, to, reason, .. } => {
                    println!("  by request {asked}: switched from {from} to {to} ({reason})");
                }
                Event::ModelRecovered { from, to, after, .. } => {
                    println!("  by request {asked}: back from {from} to {to} after {after:.1?}");
                }
                Event::CircuitChanged { circuit, from, to, reason, .. } => {
                    println!("  by request {asked}: circuit of {circuit}: {from} -> {to} ({reason})");
                }
                _ => {}
            }
        }
    }
}

/// Sends one request, every other one as a stream, reads the answer to its end, and returns its tier and its time.
async fn ask(mut llm: BoxLlmService, number: usize) -> Result<(String, Duration), LlmError> {
    let asked = Instant::now();
    let stream = number.is_multiple_of(2);
    let feature = if stream { "chat" } else { "summary" };
    let request =
        LlmRequest::prompt(format!("Question {number}: what is a closure?")).with_feature(feature).with_stream(stream);
    let answer = llm.ready().await?.call(request).await?;
    let tier = answer.served_by().tier.unwrap_or("nobody").to_owned();
    match answer.text().await?.is_empty() {
        false => Ok((tier, asked.elapsed())),
        true => Err(LlmError::new(steadfast::ErrorKind::EmptyAnswer, "an answer without text")),
    }
}

/// Formats the counts: `gpt-4o 30, sonnet 10`.
fn list(served: &BTreeMap<String, usize>) -> String {
    let each: Vec<String> = served.iter().map(|(tier, count)| format!("{tier} {count}")).collect();
    each.join(", ")
}
