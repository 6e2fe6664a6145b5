//! The outage of `failover.rs` over HTTP: two simulated providers listen on loopback and speak the protocols of
//! Anthropic and OpenAI, so the requests take the real way: leaf, HTTP, sockets.
//!
//! `cargo run --example failover_over_http` needs no key and no service. Only the times are scaled down, so that the
//! outage is over in seconds.
//!
//! `cargo run --example failover_over_http -- --live "Explain closures."` sends one prompt through the same stack to the real
//! providers whose keys are in the environment: `ANTHROPIC_API_KEY`, `OPENAI_API_KEY`.

use std::{error::Error, process::ExitCode, time::Duration};

use steadfast::{
    BoxLlmService, BulkheadLayer, CircuitBreakerLayer, Events, FallbackLayer, InvalidConfig, LlmError, LlmRequest,
    LlmResponse, RetryWithJitterLayer, TimeoutLayer,
    layers::fallback::{FeaturePolicy, StreamBreak},
    providers::{
        Anthropic, Canned, OpenAi,
        simulated::{Latency, RateLimit, Simulated},
    },
};
use steadfast_simulator::SimulatedServer;
use tower::{Service, ServiceBuilder, ServiceExt};

mod outage;

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
        .default_policy(FeaturePolicy::new().stream_break(StreamBreak::Buffer))
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
    let llm = stack(tiers, SCALED, &events)?;
    let (limit, pauses) =
        (RateLimit::requests_per_minute(120).burst(5), [Duration::from_millis(10), SCALED.cooldown / 4]);
    Ok(outage::run(llm, &events, &anthropic.handle(), limit, pauses).await)
}
