//! The crate's main job: 200 requests through an outage, and none of them lost.
//!
//! It needs no key, no service and no network: its two providers are simulated, and its clock is paused, so that the
//! outage is over at once. `failover_over_http.rs` is the same over sockets, and asks real providers with `--live`.

use std::{process::ExitCode, time::Duration};

use steadfast::{
    BoxLlmService, BulkheadLayer, CircuitBreakerLayer, Events, FallbackLayer, RetryWithJitterLayer, TimeoutLayer,
    layers::fallback::{FeaturePolicy, StreamBreak},
    providers::{
        Canned,
        simulated::{Latency, RateLimit, Simulated},
    },
};
use tower::{BoxError, ServiceBuilder};

mod outage;

const COOLDOWN: Duration = Duration::from_secs(60);

/// The stack of one model: retry briefly, stop hammering, never wait for ever.
fn tier(name: &'static str, leaf: Simulated, events: &Events) -> BoxLlmService {
    let service = ServiceBuilder::new()
        .layer(RetryWithJitterLayer::new())
        .layer(CircuitBreakerLayer::new(name).cooldown(COOLDOWN).events(events.clone()))
        .layer(TimeoutLayer::new(Duration::from_secs(30)))
        .service(leaf);
    BoxLlmService::new(service)
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<ExitCode, BoxError> {
    let latency = Latency::percentiles(Duration::from_millis(600), Duration::from_secs(2));
    let provider = |name| Simulated::new(name).latency(latency).pace(Duration::from_millis(20)).tokens(4..=10);
    let (sonnet, gpt) = (provider("sonnet"), provider("gpt-4o"));
    let (primary, events) = (sonnet.handle(), Events::new());

    // The application's stack: the tiers in their order, a limit for each feature, one deadline for everything.
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(90)))
        .layer(BulkheadLayer::new().feature("chat", 20).feature("summary", 10).feature("background", 5))
        .layer(
            FallbackLayer::new("sonnet")
                // Another tier answers where a stream breaks off; the reader sees whole answers only.
                .default_policy(FeaturePolicy::new().stream_break(StreamBreak::Buffer))
                .events(events.clone())
                .tier("gpt-4o", tier("gpt-4o", gpt, &events))
                .tier("canned", Canned::text("Please try again in a minute.")),
        )
        .service(tier("sonnet", sonnet, &events));
    let limit = RateLimit::requests_per_minute(10).burst(5);
    Ok(outage::run(BoxLlmService::new(llm), &events, &primary, limit, [Duration::from_secs(1), COOLDOWN / 4]).await)
}
