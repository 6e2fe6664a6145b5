//! What is served when nothing was configured: simulated providers.

use std::time::Duration;

use steadfast::{
    BoxLlmService, CircuitBreakerLayer, FallbackLayer, RetryWithJitterLayer, TimeoutLayer,
    providers::simulated::{Fault, FaultMix, Latency, Simulated},
};
use tower::ServiceBuilder;

/// The models of the demonstration.
pub(crate) const MODELS: [&str; 2] = ["simulated-primary", "simulated-backup"];

/// Two simulated models: the primary fails one call in twenty, and the backup answers in its place.
pub(crate) fn service() -> BoxLlmService {
    let [primary, backup] = MODELS.map(|name| {
        Simulated::new(name)
            .latency(Latency::percentiles(Duration::from_millis(250), Duration::from_millis(900)))
            .pace(Duration::from_millis(25))
            .tokens(24..=72)
    });
    let primary = primary.fault_mix(FaultMix::new().with(0.05, Fault::Overloaded));
    let guarded = |name: &'static str, model: Simulated| {
        ServiceBuilder::new()
            .layer(RetryWithJitterLayer::new())
            .layer(CircuitBreakerLayer::new(name))
            .layer(TimeoutLayer::new(Duration::from_secs(30)))
            .service(model)
    };
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(90)))
        .layer(FallbackLayer::new(MODELS[0]).tier(MODELS[1], guarded(MODELS[1], backup)))
        .service(guarded(MODELS[0], primary));
    BoxLlmService::new(stack)
}
