//! The stack of the first screen over simulated providers, observed, and an outage of its primary.

use std::time::Duration;

use steadfast::{
    BoxLlmService, BulkheadHandle, BulkheadLayer, CircuitBreakerHandle, CircuitBreakerLayer, Events, FallbackLayer,
    ObserveLayer, RetryWithJitterLayer, TimeoutLayer,
    providers::{Simulated, simulated::Fault},
};
use tokio::time::Instant;
use tower::{ServiceBuilder, util::BoxCloneSyncService};

use super::scenario::{self, Report};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
/// 2026-06-15, 06:20 to 08:56 UTC: the primary answers every request with an error for 2 h 36 min.
pub(crate) const LASTS: Duration = Duration::from_secs(156 * 60);
/// The time that it is healthy before.
pub(crate) const BEFORE: Duration = Duration::from_secs(2 * 60);
pub(crate) const PER_SECOND: u32 = 5;

/// The stack, every setting at its default, and what there is to watch it by.
pub(crate) struct Stack {
    pub(crate) start: Instant,
    pub(crate) llm: BoxLlmService,
    pub(crate) events: Events,
    pub(crate) bulkhead: BulkheadHandle,
    pub(crate) circuit: CircuitBreakerHandle,
}

impl Stack {
    /// The primary is down from [`BEFORE`] on, for so long; `backup` stands in.
    pub(crate) fn with_outage(lasts: Duration, backup: Simulated) -> Self {
        let (start, events) = (Instant::now(), Events::new());
        let primary = Simulated::new("claude").latency(Duration::from_millis(300)).reply("an answer").outage(
            BEFORE,
            BEFORE + lasts,
            Fault::ServerError,
        );
        let breaker = |name, seed| CircuitBreakerLayer::new(name).seed(seed).events(events.clone());
        let (sonnet, gpt) = (breaker("sonnet", 1), breaker("gpt", 2));
        let circuit = sonnet.handle();
        let backup = ServiceBuilder::new()
            .layer(RetryWithJitterLayer::new().seed(1))
            .layer(gpt)
            .layer(TimeoutLayer::new(Duration::from_secs(30)))
            .service(backup);
        let bulkhead = BulkheadLayer::new().feature("chat", 2000);
        let handle = bulkhead.handle();
        let llm = ServiceBuilder::new()
            .layer(ObserveLayer::new(events.clone()))
            .layer(TimeoutLayer::new(Duration::from_secs(90)))
            .layer(bulkhead)
            .layer(FallbackLayer::new("sonnet").events(events.clone()).tier("gpt", backup))
            .layer(RetryWithJitterLayer::new().seed(2))
            .layer(sonnet)
            .layer(TimeoutLayer::new(Duration::from_secs(30)))
            .service(primary);
        let llm = BoxCloneSyncService::new(llm);
        Self { start, llm, events, bulkhead: handle, circuit }
    }

    /// The incident with a backup that is well.
    pub(crate) fn incident() -> Self {
        Self::with_outage(LASTS, backup())
    }

    /// Traffic for so long, streamed or not.
    pub(crate) async fn run(&self, lasts: Duration, stream: bool) -> Report {
        scenario::run(self.llm.clone(), self.start, PER_SECOND, lasts, stream).await
    }
}

/// A provider that is well.
pub(crate) fn backup() -> Simulated {
    Simulated::new("gpt-4o").latency(Duration::from_millis(300)).reply("an answer")
}
