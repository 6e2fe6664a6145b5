//! The stack: retry briefly, stop hammering, never wait for ever, and have an answer all the same.

use std::time::Duration;

use steadfast::{
    BoxLlmService, BulkheadLayer, CircuitBreakerLayer, FallbackLayer, RetryWithJitterLayer, TimeoutLayer,
    providers::{Canned, simulated::Simulated},
};
use tower::ServiceBuilder;

/// The stack around one model. The bulkhead's layer comes from outside, for its handle knows what is under way.
pub(crate) fn stack(sonnet: Simulated, bulkhead: BulkheadLayer) -> BoxLlmService {
    BoxLlmService::new(
        ServiceBuilder::new()
            .layer(TimeoutLayer::new(Duration::from_secs(90)))
            .layer(bulkhead)
            .layer(FallbackLayer::new("sonnet").tier("canned", Canned::text("Please try again in a minute.")))
            .layer(RetryWithJitterLayer::new())
            .layer(CircuitBreakerLayer::new("sonnet"))
            .layer(TimeoutLayer::new(Duration::from_secs(30)))
            .service(sonnet),
    )
}

/// The stack to try out, with a model of its own. In earnest: `Anthropic::from_env()?.model("claude-sonnet-4-5")`.
pub(crate) fn demo() -> BoxLlmService {
    let sonnet = Simulated::new("sonnet").latency(Duration::from_millis(300)).pace(Duration::from_millis(50));
    stack(sonnet, BulkheadLayer::new().feature("chat", 20))
}
