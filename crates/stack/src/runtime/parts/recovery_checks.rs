//! The recovery checks of a configuration: the tiers that are probed, and when each is due.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tower::ServiceBuilder;

use super::{spend::Caps, tier_runtime::TierRuntime};
use crate::{Config, Tier};
use steadfast::{BoxLlmService, CircuitBreakerHandle, LlmRequest, layers::fallback::Eligibility};

/// The recovery checks of a configuration.
pub(crate) struct RecoveryChecks {
    pub(crate) every: Duration,
    pub(crate) request: LlmRequest,
    pub(crate) tiers: Vec<ProbeTarget>,
}

/// A tier whose model is probed.
pub(crate) struct ProbeTarget {
    pub(crate) name: Arc<str>,
    pub(crate) circuit: CircuitBreakerHandle,
    pub(crate) service: BoxLlmService,
}

/// The length of a probe's answer; some models refuse to generate a single token.
const TOKENS: u32 = 16;

impl RecoveryChecks {
    /// Creates the checks; `None` unless the file activates them.
    pub(crate) fn new(config: &Config, runtimes: &[TierRuntime], caps: &Caps) -> Option<Self> {
        let settings = config.fallback.recovery_check.as_ref()?.active()?;
        let text = settings.probe_with.as_deref().unwrap_or("ping");
        let target = |(place, tier): (usize, &Tier)| {
            let runtime = &runtimes[place];
            let service = ServiceBuilder::new()
                // A probe is billed like any call: without budget there is none.
                .option_layer(caps.all.clone())
                .option_layer(caps.tiers[place].clone())
                // The circuit decides whether and when a probe may go out; it counts as the circuit's own probe.
                .layer(&runtime.breaker)
                .layer(runtime.attempt(tier.timeout, false, false))
                .service(runtime.leaf());
            let (name, circuit) = (runtime.name.clone(), runtime.breaker.handle());
            ProbeTarget { name, circuit, service: BoxLlmService::new(service) }
        };
        Some(Self {
            every: settings.interval(config.circuit_breaker.cooldown),
            request: LlmRequest::prompt(text).with_max_tokens(TOKENS),
            tiers: config.tiers.iter().enumerate().filter(|(_, tier)| tier.provider.is_model()).map(target).collect(),
        })
    }

    /// Returns the time of a tier's next probe; `None` if the tier works, or an operator has taken it out of service.
    pub(crate) fn due(&self, tier: &ProbeTarget, stack: &OutageState) -> Option<Instant> {
        if tier.circuit.forced().is_some() || stack.drained.contains(&tier.name) {
            return None;
        }
        if tier.circuit.awaits_call() {
            return tier.circuit.earliest_probe();
        }
        let since = stack.eligibility.away_since(&tier.name).or(stack.failed_since)?;
        since.checked_add(self.every)
    }
}

/// The current problems of a stack, apart from its circuits.
pub(crate) struct OutageState {
    /// It knows when a request last found a chain's first tier out of service.
    pub(crate) eligibility: Eligibility,
    /// The start of the current period in which requests fail.
    pub(crate) failed_since: Option<Instant>,
    pub(crate) drained: Vec<Arc<str>>,
}
