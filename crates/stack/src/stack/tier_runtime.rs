//! A tier's state that survives reloads, and its service.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use ::http::{Method, Request};
use tower::{Layer, ServiceBuilder, util::Either};

use super::{
    StackContext,
    cache::CacheState,
    generation::Generation,
    handoff::HandoffState,
    leaf::{Leaf, LeafPlan},
    resume::{Resume, ResumeLayer},
    settings,
};
use crate::{
    CircuitBreaker as BreakerSettings, Config, OnError, Provider, RecoveryCheck, Share, Span, Tier, TierTimeout,
    classifier,
};
use steadfast::{
    BoxLlmService, BudgetLayer, CircuitBreaker, CircuitBreakerLayer, CommitOnFirstToken, CommitOnFirstTokenLayer,
    Events, InvalidConfig, LlmError, RetryBudget, RetryWithJitter, Timeout,
    layers::{budget::Budget, timeout::Silence},
};

/// A tier's service, boxed if more layers surround it, so that a plain tier takes no more room.
pub(super) type TierService = Either<BoxLlmService, BudgetService>;
/// With or without its own caps.
type BudgetService = Either<Budget<RetryService>, RetryService>;
type RetryService = RetryWithJitter<CommitOnFirstToken<CircuitBreaker<Timeout<Resume<Leaf>>>>>;

/// A tier's checked settings.
pub(super) struct TierPlan {
    leaf: LeafPlan,
    settings: BreakerSettings,
    /// The failures that count, if the file lists them.
    on_error: Option<Vec<OnError>>,
    breaker: CircuitBreakerLayer,
}

impl TierPlan {
    /// Checks the settings of a tier's circuit. `place` is the tier's index in the configuration, unless it is a
    /// candidate.
    ///
    /// # Errors
    ///
    /// A window has both bounds, or neither.
    pub(super) fn new(
        tier: &Tier,
        place: Option<usize>,
        leaf: LeafPlan,
        config: &Config,
        context: &StackContext,
        events: &Events,
    ) -> Result<Self, InvalidConfig> {
        // The primary's check interval acts as its circuit's cooldown.
        let check = config.fallback.recovery_check.as_ref().filter(|_| place == Some(0));
        let check = check.and_then(RecoveryCheck::every);
        let settings = settings::merged_breaker(tier.circuit_breaker.clone(), check, config.circuit_breaker.clone());
        let mut breaker =
            CircuitBreakerLayer::new(tier.name.as_str()).classifier(classifier(config)).events(events.clone());
        if let Some(seed) = context.seed(&tier.name) {
            breaker = breaker.seed(seed);
        }
        let breaker = settings::breaker(leaf.place(), tier.circuit_breaker.as_ref(), breaker, &settings)?;
        Ok(Self { leaf, settings, on_error: config.fallback.on_error.clone(), breaker })
    }

    /// Adds the cache of a cached tier, and the handoff of a tier of people.
    pub(super) fn over(self, cache: Option<&CacheState>, handoff: Option<&HandoffState>) -> Self {
        Self { leaf: self.leaf.over(cache).of(handoff), ..self }
    }
}

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
    /// Starts a tier. It is the earlier one if nothing that its circuit depends on has changed; a tier whose circuit
    /// alone has changed keeps its leaf.
    pub(super) fn new(tier: &Tier, plan: TierPlan, context: &StackContext, before: Option<&Self>) -> Self {
        let TierPlan { leaf: plan, settings, on_error, breaker } = plan;
        let known = before.filter(|known| known.plan == plan);
        if let Some(known) = known
            && (&known.settings, &known.on_error) == (&settings, &on_error)
        {
            return known.clone();
        }
        let leaf = known.map_or_else(|| plan.leaf(context), |known| known.leaf.clone());
        // Only models confirm an error with a second call, people least of all.
        let is_model = !matches!(tier.provider, Provider::Cached | Provider::Canned | Provider::Handoff);
        let asked = is_model.then(|| settings::attempt(tier.timeout).layer(leaf.clone()));
        let breaker = settings::confirmed(breaker, settings.confirm.as_ref(), asked);
        let silence = known.map_or_else(Arc::default, |known| known.silence.clone());
        Self { name: tier.name.as_str().into(), plan, leaf, settings, on_error, breaker, silence }
    }

    pub(super) fn leaf(&self) -> Leaf {
        self.leaf.clone()
    }

    /// Returns a fingerprint of the provider's account, if the provider keeps conversations of its own.
    pub(super) fn account(&self) -> Option<Arc<str>> {
        self.plan.account()
    }

    /// Returns a fingerprint of the account that keeps objects such as files, if the provider does.
    pub(super) fn object_account(&self) -> Option<Arc<str>> {
        self.plan.object_account()
    }

    /// Returns the head of a request for an object to the provider.
    ///
    /// # Errors
    ///
    /// The provider keeps no objects, or the path fits into no URL.
    pub(super) fn object_head(&self, method: Method, path: &str) -> Result<Request<()>, LlmError> {
        self.plan.object_head(method, path)
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
        self.plan.server()
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
            // Around the limits of time, so that the limits of the first token and of silences hold for a held-back
            // answer too.
            .layer(CommitOnFirstTokenLayer::new().inner_commits().at(config.stream.commit.unwrap_or_default()))
            // Inside the retry, so that each attempt is admitted and counted, and an open circuit ends the retries.
            .layer(&self.breaker)
            // Inside the circuit breaker, so that a timeout counts as a failure.
            .layer(match tier.provider.is_model() {
                true => settings::adaptive_attempt(limits, &self.silence),
                false => settings::attempt(limits),
            })
            // Just outside the leaf: each attempt decides again which form of a conversation its account gets.
            .layer(ResumeLayer::new(self.account()))
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

/// Returns the name under which a tier's retry budget is known: `None` for the file's shared one, which serves all
/// tiers without a share of their own.
fn retry_key(tier: &Tier) -> Option<String> {
    tier.retry.is_some_and(|retry| retry.budget.is_some()).then(|| tier.name.clone())
}

/// Creates the retry budgets of all tiers.
///
/// # Errors
///
/// A share is invalid.
pub(super) fn retry_budgets(config: &Config) -> Result<RetryBudgets, InvalidConfig> {
    let mut budgets = RetryBudgets::new();
    for tier in config.all_tiers() {
        if let Entry::Vacant(new) = budgets.entry(retry_key(tier)) {
            let (share, field) = retry_share(tier, &format!("tiers.{}", tier.name), config);
            new.insert((share, settings::retry_budget(&field, share)?));
        }
    }
    Ok(budgets)
}

/// Returns a tier's retry budget.
pub(super) fn retry_budget(budgets: &RetryBudgets, tier: &Tier) -> RetryBudget {
    budgets[&retry_key(tier)].1.clone()
}

/// Puts earlier retry budgets in the place of new ones with the same share.
pub(super) fn keep_retry_budgets(budgets: &mut RetryBudgets, before: &RetryBudgets) {
    for (key, (share, budget)) in budgets {
        if let Some((_, known)) = before.get(key).filter(|(known, _)| known == share) {
            *budget = known.clone();
        }
    }
}
