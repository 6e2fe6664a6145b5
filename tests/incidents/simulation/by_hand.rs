//! The stack of a plan, made with `ServiceBuilder` out of the public layers.

use std::sync::Arc;

use steadfast::{
    BoxLlmService, BulkheadLayer, CircuitBreakerLayer, CommitOnFirstTokenLayer, ErrorKind, Events, FallbackLayer,
    ObserveLayer, RetryBudget, RetryWithJitterLayer, TimeoutLayer,
    classify::{Classifier, Retry},
    layers::{
        bulkhead::Limits,
        circuit_breaker::Window,
        fallback::{FeaturePolicy, RampStep, Tier as Place, TierSettings},
    },
    providers::Canned,
};
use steadfast_handoff::{Desk, Handoff};
use tower::{Layer, ServiceBuilder, limit::ConcurrencyLimitLayer};

use crate::simulation::{
    books::DEFAULT_LIMIT,
    caller::SORRY,
    plan::{Last, Over, Plan},
    provider::Watched,
    world::Handles,
};

/// The number of retries a second that the budget always allows.
pub(crate) const FLOOR: f64 = 1.0;

pub(crate) fn stack(
    plan: &Arc<Plan>,
    events: &Events,
    providers: &[Watched],
    desk: Option<&Desk>,
) -> (BoxLlmService, Handles) {
    let budget = RetryBudget::with_limits(plan.budget_ratio, FLOOR, plan.budget_cap).expect("a good budget");
    let circuits: Vec<CircuitBreakerLayer> = (0..plan.tiers.len()).map(|tier| circuit(plan, tier, events)).collect();
    let mut tiers = (0..plan.tiers.len()).map(|tier| service(plan, tier, &circuits[tier], &budget, &providers[tier]));
    let primary = tiers.next().expect("a tier");
    let policy = FeaturePolicy::new().min_useful(plan.min_useful).stream_break(plan.on_break).all_open(plan.all_open);
    let mut fallback = FallbackLayer::new(plan.name(0))
        .default_policy(policy)
        .events(events.clone())
        .reserve_for_fallbacks(plan.keep_back)
        .session(plan.session)
        .primary(settings(plan, 0))
        .gradually(plan.ramp.iter().map(|(percent, lasts)| RampStep::new(*percent, *lasts)));
    for (place, service) in tiers.enumerate() {
        fallback = fallback.push(Place::new(plan.name(place + 1), service).settings(settings(plan, place + 1)));
    }
    match (plan.last, desk) {
        (Last::Canned, _) => fallback = fallback.tier("last", Canned::text(SORRY)),
        (Last::Handoff, Some(desk)) => fallback = fallback.push(Place::new("last", people(desk)).human()),
        _ => {}
    }
    let mut bulkhead = BulkheadLayer::new().default_limit(DEFAULT_LIMIT);
    for feature in &plan.features {
        let limits = Limits::new(feature.concurrency).queue(feature.queue).max_wait(feature.max_wait);
        bulkhead = bulkhead.feature(feature.name, limits);
        if let Some(chain) = &feature.chain {
            let names = chain.iter().map(|tier| plan.name(*tier));
            fallback = fallback.feature(feature.name, FeaturePolicy::new().tiers(names));
        }
    }
    let handles = Handles::Hand {
        circuits: circuits.iter().map(CircuitBreakerLayer::handle).collect(),
        bulkhead: bulkhead.handle(),
        fallback: fallback.handle(),
    };
    let llm = ServiceBuilder::new()
        .layer(ObserveLayer::new(events.clone()))
        .layer(TimeoutLayer::new(plan.total))
        .layer(bulkhead)
        .layer(fallback)
        .service(primary);
    (BoxLlmService::new(llm), handles)
}

fn settings(plan: &Plan, tier: usize) -> TierSettings {
    let settings = TierSettings::new().level(plan.tiers[tier].level);
    if plan.tiers[tier].last_resort { settings.last_resort() } else { settings }
}

/// Writes requests down for people, and says so at once.
pub(crate) fn people(desk: &Desk) -> Handoff {
    Handoff::new(desk).allow_volatile()
}

fn service(
    plan: &Plan,
    tier: usize,
    circuit: &CircuitBreakerLayer,
    budget: &RetryBudget,
    leaf: &Watched,
) -> BoxLlmService {
    let settings = &plan.tiers[tier];
    let mut timeout =
        TimeoutLayer::new(settings.timeout).idle(settings.idle).progress(settings.progress, settings.ceiling);
    if let Some(limit) = settings.first_token {
        timeout = timeout.first_token(limit);
    }
    let mut retry = RetryWithJitterLayer::new()
        .budget(budget.clone())
        .seed(plan.seed ^ tier as u64)
        .max_attempts(settings.max_attempts)
        .max_delay(settings.max_delay)
        .jitter(settings.jitter);
    if settings.retry_timeouts {
        retry = retry.retry_timeouts(true).classifier(Classifier::overridden(|error, mut class| {
            if error.kind() == ErrorKind::Timeout {
                class.retry = Retry::Yes;
            }
            class
        }));
    }
    let leaf = match settings.leaf_limit {
        Some(limit) => BoxLlmService::new(ConcurrencyLimitLayer::new(limit).layer(leaf.clone())),
        None => BoxLlmService::new(leaf.clone()),
    };
    let commit = CommitOnFirstTokenLayer::new().inner_commits().at(plan.commit);
    let limited = ServiceBuilder::new().layer(timeout).service(leaf);
    match settings.breaker_outside {
        true => {
            BoxLlmService::new(ServiceBuilder::new().layer(circuit.clone()).layer(retry).layer(commit).service(limited))
        }
        false => {
            BoxLlmService::new(ServiceBuilder::new().layer(retry).layer(commit).layer(circuit.clone()).service(limited))
        }
    }
}

fn circuit(plan: &Plan, tier: usize, events: &Events) -> CircuitBreakerLayer {
    let settings = &plan.tiers[tier].breaker;
    let window = |over| match over {
        Over::Calls(calls) => Window::last_calls(calls),
        Over::Time(span) => Window::last(span),
    };
    let mut layer = CircuitBreakerLayer::new(plan.name(tier))
        .events(events.clone())
        .seed(plan.seed.rotate_left(17) ^ tier as u64)
        .consecutive_failures(settings.consecutive)
        .cooldown(settings.cooldown)
        .cooldown_growth(settings.growth, settings.longest)
        .probes(settings.probes)
        .probe_successes(settings.successes)
        .latch(settings.latch)
        .max_throttle(settings.max_throttle)
        .second_opinion_after(settings.second_opinion_after)
        // A latch is judged by what callers met.
        .without_confirmation();
    if let Some((share, over)) = settings.failure_rate {
        layer = layer.failure_rate(share, window(over));
    }
    if let Some((after, share, over)) = settings.slow {
        layer = layer.slow_calls(after, share, window(over));
    }
    layer
}
