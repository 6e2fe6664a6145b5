//! A tier's state that survives reloads, and its service.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tower::{Layer, ServiceBuilder, util::Either};

use super::{
    StackContext,
    generation::Generation,
    leaf::{Leaf, LeafPlan},
    settings,
};
use crate::{
    CircuitBreaker as BreakerSettings, Config, OnError, Provider, RecoveryCheck, Share, Span, Tier, TierTimeout,
    classifier,
};
use steadfast::{
    BoxLlmService, BudgetLayer, CircuitBreaker, CircuitBreakerLayer, CommitOnFirstToken, CommitOnFirstTokenLayer,
    Events, InvalidConfig, RetryBudget, RetryWithJitter, Timeout,
    layers::{budget::Budget, timeout::Silence},
};

/// A tier's service, boxed if more layers surround it, so that a plain tier takes no more room.
pub(super) type TierService = Either<BoxLlmService, BudgetService>;
/// With or without its own caps.
type BudgetService = Either<Budget<RetryService>, RetryService>;
type RetryService = RetryWithJitter<CommitOnFirstToken<CircuitBreaker<Timeout<Leaf>>>>;

/// The state of a tier that a reload keeps if it leaves the tier unchanged.
#[derive(Clone)]
pub(super) struct TierRuntime {
    pub(super) name: Arc<str>,
    plan: LeafPlan,
    leaf: Leaf,
    settings: BreakerSettings,
    /// The failures that count, if the file lists them.
    on_error: Option<Vec<OnError>>,
    pub(super) breaker: CircuitBreakerLayer,
    /// The usual duration of its answers.
    silence: Arc<Silence>,
}

/// The retry budgets: the shared one, and those of tiers with a share of their own, by name.
pub(super) type RetryBudgets = HashMap<Option<String>, (Option<Share>, RetryBudget)>;

impl TierRuntime {
    pub(super) fn new(
        tier: &Tier,
        place: Option<usize>,
        plan: LeafPlan,
        config: &Config,
        context: &StackContext,
        events: &Events,
        before: Option<&Self>,
    ) -> Result<Self, InvalidConfig> {
        // The primary's check interval acts as its circuit's cooldown.
        let check = config.fallback.recovery_check.as_ref().filter(|_| place == Some(0));
        let check = check.and_then(RecoveryCheck::every);
        let settings = settings::merged_breaker(tier.circuit_breaker.clone(), check, config.circuit_breaker.clone());
        let on_error = &config.fallback.on_error;
        let known = before.filter(|known| known.plan == plan);
        if let Some(known) = known
            && (&known.settings, &known.on_error) == (&settings, on_error)
        {
            return Ok(known.clone());
        }
        let leaf = match known {
            Some(known) => known.leaf.clone(),
            None => plan.leaf(context)?,
        };
        let mut breaker =
            CircuitBreakerLayer::new(tier.name.as_str()).classifier(classifier(config)).events(events.clone());
        if let Some(seed) = context.seed(&tier.name) {
            breaker = breaker.seed(seed);
        }
        let breaker = settings::breaker(&plan.place, tier.circuit_breaker.as_ref(), breaker, &settings)?;
        // Only models confirm an error with a second call, people least of all.
        let is_model = !matches!(tier.provider, Provider::Cached | Provider::Canned | Provider::Handoff);
        let asked = is_model.then(|| settings::attempt(tier.timeout).layer(leaf.clone()));
        let breaker = settings::confirmed(breaker, settings.confirm.as_ref(), asked);
        let (name, on_error) = (tier.name.as_str().into(), on_error.clone());
        let silence = known.map_or_else(Arc::default, |known| known.silence.clone());
        Ok(Self { name, plan, leaf, settings, on_error, breaker, silence })
    }

    pub(super) fn leaf(&self) -> Leaf {
        self.leaf.clone()
    }

    /// Returns whether its leaf and its circuit are those of an earlier generation.
    pub(super) fn is_unchanged_since(&self, before: &Generation) -> bool {
        before.runtime(&self.name).is_some_and(|known| {
            (&known.plan, &known.settings, &known.on_error) == (&self.plan, &self.settings, &self.on_error)
        })
    }

    /// Returns the server that replaces the provider's own.
    #[cfg(feature = "redis")]
    pub(super) fn server(&self) -> Option<&str> {
        self.plan.base_url.as_deref()
    }

    pub(super) fn service(
        &self,
        tier: &Tier,
        config: &Config,
        retries: RetryBudget,
        caps: Option<BudgetLayer>,
        context: &StackContext,
    ) -> TierService {
        let mut retry = settings::merged_retry(tier.retry, config.retry);
        let failover_first = !config.names_retries(tier);
        retry.max_attempts = Some(config.attempts(tier));
        let mut limits = tier.timeout;
        if tier.provider == Provider::Handoff {
            // A task is stored once, and a caller may wait for a person for the request's whole time.
            retry.max_attempts = Some(1);
            limits = limits.or(Some(TierTimeout::Attempt(Span(Duration::MAX))));
        }
        let service = ServiceBuilder::new()
            // This tier's own caps: their refusal moves on to the next tier at once.
            .option_layer(caps)
            .layer(settings::retry(retry, retries, context.seed(&tier.name)).failover_first(failover_first))
            // Around the limits of time: those of the first token and of silences hold for an answer that is held back too.
            .layer(CommitOnFirstTokenLayer::new().inner_commits().at(config.stream.commit.unwrap_or_default()))
            // Inside the retry, so that each attempt is admitted and counted, and an open circuit ends the retries.
            .layer(&self.breaker)
            // Inside the circuit breaker, so that a timeout counts as a failure.
            .layer(match tier.provider.is_model() {
                true => settings::adaptive_attempt(limits, &self.silence),
                false => settings::attempt(limits),
            })
            .service(self.leaf.clone());
        Either::Right(service)
    }
}

/// Returns the share of a tier's calls that may be retries, and the field that sets it.
pub(super) fn retry_share(tier: &Tier, place: &str, config: &Config) -> (Option<Share>, String) {
    match tier.retry.and_then(|retry| retry.budget) {
        Some(share) => (Some(share), format!("{place}.retry.budget")),
        None => (config.retry.budget, "retry.budget".to_owned()),
    }
}

/// Returns a tier's retry budget: the file's shared one, unless the tier has a share of its own.
pub(super) fn retry_budget(
    budgets: &mut RetryBudgets,
    tier: &Tier,
    config: &Config,
    before: Option<&Generation>,
) -> Result<RetryBudget, InvalidConfig> {
    let is_own = tier.retry.is_some_and(|retry| retry.budget.is_some());
    let key = is_own.then(|| tier.name.clone());
    let (share, field) = retry_share(tier, &format!("tiers.{}", tier.name), config);
    if let Some((_, budget)) = budgets.get(&key) {
        return Ok(budget.clone());
    }
    let known = before.and_then(|before| before.retry_budgets.get(&key)).filter(|(known, _)| *known == share);
    let budget = match known {
        Some((_, budget)) => budget.clone(),
        None => settings::retry_budget(&field, share)?,
    };
    budgets.insert(key, (share, budget.clone()));
    Ok(budget)
}
