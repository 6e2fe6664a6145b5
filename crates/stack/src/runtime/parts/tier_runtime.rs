//! A tier's state that survives reloads, and its service.

use std::{sync::Arc, time::Duration};

use ::http::{Method, Request};
use bytes::Bytes;
use tower::{Layer, ServiceBuilder, util::Either};

use super::{
    asked::Asked,
    cache::CacheState,
    context::StackContext,
    deployments::{self, BalancePlan, BalancedTier},
    handoff::HandoffState,
    headroom::SharedHeadroom,
    leaf::Leaf,
    leaf_plan::{LeafPlan, LeafPlans},
    resume::{Resume, ResumeLayer},
    settings,
};
use crate::{
    CircuitBreaker as BreakerSettings, Config, Cooldown, OnError, Provider, RecoveryCheck, Span, Tier, TierTimeout,
    Timeout as Limits, classifier,
};
use steadfast::{
    BoxLlmService, BudgetLayer, CircuitBreaker, CircuitBreakerHandle, CircuitBreakerLayer, CommitOnFirstToken,
    CommitOnFirstTokenLayer, ErrorKind, Events, InvalidConfig, LlmError, RetryBudget, RetryWithJitter,
    RetryWithJitterLayer, Timeout, TimeoutLayer,
    layers::{budget::Budget, timeout::Silence},
};

/// A tier's service, boxed if more layers surround it, so that a plain tier takes no more room.
pub(crate) type TierService = Either<BoxLlmService, Asked<BudgetService>>;
/// With or without its own caps.
type BudgetService = Either<Budget<RetryService>, RetryService>;
type RetryService = RetryWithJitter<CommitOnFirstToken<CircuitBreaker<Timeout<Resume<Leaf>>>>>;

/// A tier's checked settings.
pub(crate) struct TierPlan {
    leaf: SourcePlan,
    settings: BreakerSettings,
    /// The failures that count, if the file lists them.
    on_error: Option<Vec<OnError>>,
    breaker: CircuitBreakerLayer,
}

/// The source of a tier's answers: a leaf, or a balancer over several.
enum SourcePlan {
    Leaf(Box<LeafPlan>),
    Balance(Box<BalancePlan>),
}

impl TierPlan {
    /// Checks the settings of a tier's circuit. `place` is the tier's index in the configuration, unless it is a
    /// candidate.
    ///
    /// # Errors
    ///
    /// A window has both bounds, or neither.
    pub(crate) fn new(
        tier: &Tier,
        place: Option<usize>,
        leaves: LeafPlans,
        config: &Config,
        context: &StackContext,
        events: &Events,
    ) -> Result<Self, InvalidConfig> {
        // The primary's check interval acts as its circuit's cooldown.
        let check = config.fallback.recovery_check.as_ref().filter(|_| place == Some(0));
        let check = check.and_then(RecoveryCheck::every);
        let of_check =
            BreakerSettings { cooldown: check.map(Cooldown::Fixed), latch: check, ..BreakerSettings::default() };
        let own = tier.circuit_breaker.clone().unwrap_or_default();
        let settings = own.or(of_check).or(config.circuit_breaker.clone());
        let mut breaker =
            CircuitBreakerLayer::new(tier.name.as_str()).classifier(classifier(config)).events(events.clone());
        if let Some(seed) = context.seed(&tier.name) {
            breaker = breaker.seed(seed);
        }
        let (leaf, breaker) = match leaves {
            LeafPlans::One(leaf) => {
                let own = tier.circuit_breaker.as_ref();
                let breaker = settings::breaker(leaf.place(), own, breaker, &settings)?;
                (SourcePlan::Leaf(leaf), breaker)
            }
            LeafPlans::Many { place, leaves } => {
                let plan = BalancePlan::new(tier, &place, leaves, &settings, config, context, events)?;
                (SourcePlan::Balance(Box::new(plan)), deployments::passive(breaker))
            }
        };
        Ok(Self { leaf, settings, on_error: config.fallback.on_error.clone(), breaker })
    }

    /// Shares the headroom of a tier's deployments with replicas, if there is a store for that.
    pub(crate) fn share(&mut self, headroom: Option<&SharedHeadroom>) {
        if let SourcePlan::Balance(plan) = &mut self.leaf {
            plan.share(headroom.cloned());
        }
    }

    /// Adds the cache of a cached tier, and the handoff of a tier of people.
    pub(crate) fn over(self, cache: Option<&CacheState>, handoff: Option<&HandoffState>) -> Self {
        let leaf = match self.leaf {
            SourcePlan::Leaf(leaf) => SourcePlan::Leaf(Box::new(leaf.over(cache).of(handoff))),
            balance @ SourcePlan::Balance(_) => balance,
        };
        Self { leaf, ..self }
    }
}

/// The state of a tier that a reload keeps if it leaves the tier unchanged.
#[derive(Clone)]
pub(crate) struct TierRuntime {
    pub(crate) name: Arc<str>,
    source: Source,
    settings: BreakerSettings,
    /// The failures that count, if the file lists them.
    on_error: Option<Vec<OnError>>,
    pub(crate) breaker: CircuitBreakerLayer,
    /// The usual duration of its answers.
    silence: Arc<Silence>,
}

/// A tier's answers at work.
#[derive(Clone)]
enum Source {
    Leaf(Box<LeafPlan>, Leaf),
    Balance(Box<BalancedTier>),
}

impl TierRuntime {
    /// Starts a tier. It is the earlier one if nothing that its circuit depends on has changed; a tier whose circuit
    /// alone has changed keeps its leaf.
    pub(crate) fn new(tier: &Tier, plan: TierPlan, context: &StackContext, before: Option<&Self>) -> Self {
        let TierPlan { leaf: source, settings, on_error, breaker } = plan;
        match source {
            SourcePlan::Leaf(leaf) => Self::of_leaf(tier, leaf, (settings, on_error), breaker, context, before),
            SourcePlan::Balance(plan) => {
                let known = before.and_then(Self::balance);
                let balance = BalancedTier::new(*plan, context, known);
                match before.zip(known) {
                    Some((before, known)) if balance.is_unchanged_since(known) => before.clone(),
                    _ => Self {
                        name: tier.name.as_str().into(),
                        source: Source::Balance(Box::new(balance)),
                        settings,
                        on_error,
                        breaker,
                        silence: Arc::default(),
                    },
                }
            }
        }
    }

    fn of_leaf(
        tier: &Tier,
        plan: Box<LeafPlan>,
        (settings, on_error): (BreakerSettings, Option<Vec<OnError>>),
        breaker: CircuitBreakerLayer,
        context: &StackContext,
        before: Option<&Self>,
    ) -> Self {
        let known = before.and_then(|known| match &known.source {
            Source::Leaf(before, leaf) if *before == plan => Some((known, leaf)),
            _ => None,
        });
        if let Some((known, _)) = known
            && (&known.settings, &known.on_error) == (&settings, &on_error)
        {
            return known.clone();
        }
        let leaf = known.map_or_else(|| plan.leaf(context), |(_, leaf)| leaf.clone());
        // Only models confirm an error with a second call, people least of all.
        let is_model = !matches!(tier.provider, Provider::Cached | Provider::Canned | Provider::Handoff);
        let asked = is_model.then(|| Limits::from(tier.timeout).attempt_layer().layer(leaf.clone()));
        let breaker = settings.apply_confirmation(breaker, asked);
        let silence = known.map_or_else(Arc::default, |(known, _)| known.silence.clone());
        let source = Source::Leaf(plan, leaf);
        Self { name: tier.name.as_str().into(), source, settings, on_error, breaker, silence }
    }

    pub(crate) fn leaf(&self) -> Leaf {
        match &self.source {
            Source::Leaf(_, leaf) => leaf.clone(),
            Source::Balance(balance) => balance.leaf(),
        }
    }

    /// Returns the tier's deployments, if it has some.
    pub(crate) fn balance(&self) -> Option<&BalancedTier> {
        match &self.source {
            Source::Leaf(..) => None,
            Source::Balance(balance) => Some(balance),
        }
    }

    /// Returns a fingerprint of the provider's account, if the provider keeps conversations of its own and the tier has
    /// one account alone.
    pub(crate) fn account(&self) -> Option<Arc<str>> {
        match &self.source {
            Source::Leaf(plan, _) => plan.account(),
            Source::Balance(_) => None,
        }
    }

    /// Returns each circuit whose key a provider has given, with the name of the fact that it has worked.
    pub(crate) fn keys(&self) -> Vec<(Arc<str>, CircuitBreakerHandle)> {
        match &self.source {
            Source::Leaf(plan, _) => {
                plan.key_name(&self.name).map(|name| (name, self.breaker.handle())).into_iter().collect()
            }
            Source::Balance(balance) => balance.keys().collect(),
        }
    }

    /// Returns a fingerprint of the account that keeps objects such as files, if the provider does.
    pub(crate) fn object_account(&self) -> Option<Arc<str>> {
        match &self.source {
            Source::Leaf(plan, _) => plan.object_account(),
            Source::Balance(_) => None,
        }
    }

    /// Returns the head of a request for an object to the provider.
    ///
    /// # Errors
    ///
    /// The provider keeps no objects, or the path fits into no URL.
    pub(crate) fn object_head(&self, method: Method, path: &str) -> Result<Request<()>, LlmError> {
        match &self.source {
            Source::Leaf(plan, _) => plan.object_head(method, path),
            Source::Balance(_) => {
                let message = format!("the tier `{}` has several deployments, and an object belongs to one", self.name);
                Err(LlmError::new(ErrorKind::NotFound, message))
            }
        }
    }

    /// Returns a provider's text without the tier's key.
    pub(crate) fn without_key(&self, text: &Bytes) -> Bytes {
        match &self.source {
            Source::Leaf(plan, _) => plan.without_key(text),
            Source::Balance(_) => text.clone(),
        }
    }

    /// Returns whether its leaf and its circuit are those of an earlier tier.
    pub(crate) fn is_unchanged_since(&self, known: &Self) -> bool {
        match (&known.source, &self.source) {
            (Source::Leaf(before, _), Source::Leaf(plan, _)) => {
                (before, &known.settings, &known.on_error) == (plan, &self.settings, &self.on_error)
            }
            (Source::Balance(before), Source::Balance(balance)) => balance.is_unchanged_since(before),
            _ => false,
        }
    }

    /// Returns the limits of an attempt, and of the silences of its stream. Over deployments, each has them. `repeats`
    /// is true where the file repeats an attempt whose time is over.
    pub(crate) fn attempt(&self, limits: Option<TierTimeout>, is_model: bool, repeats: bool) -> TimeoutLayer {
        match &self.source {
            Source::Balance(_) => {
                let none = Duration::MAX;
                TimeoutLayer::new(none).idle(none).progress(none, none)
            }
            Source::Leaf(plan, _) if is_model => {
                Limits::from(limits).adaptive_layer((plan.thinks(), repeats), &self.silence)
            }
            Source::Leaf(..) => Limits::from(limits).attempt_layer(),
        }
    }

    /// Returns the server that replaces the provider's own.
    #[cfg(feature = "redis")]
    pub(crate) fn server(&self) -> Option<&str> {
        match &self.source {
            Source::Leaf(plan, _) => plan.server(),
            Source::Balance(_) => None,
        }
    }

    pub(crate) fn service(
        &self,
        tier: &Tier,
        config: &Config,
        retries: RetryBudget,
        caps: Option<BudgetLayer>,
        context: &StackContext,
    ) -> TierService {
        let mut retry = tier.retry.unwrap_or_default().or(config.retry);
        let failover_first = !config.names_retries(tier);
        retry.max_attempts = Some(config.attempts(tier));
        let mut limits = tier.timeout;
        if tier.provider == Provider::Handoff {
            // A task is stored once, and a caller may wait for a person for the request's whole time.
            retry.max_attempts = Some(1);
            limits = limits.or(Some(TierTimeout::Attempt(Span(Duration::MAX))));
        }
        let mut layer = RetryWithJitterLayer::new().budget(retries).failover_first(failover_first);
        if let Some(seed) = context.seed(&tier.name) {
            layer = layer.seed(seed);
        }
        let retry = retry.apply(layer);
        if let Source::Balance(balance) = &self.source {
            // Each deployment has the other layers, so that another one answers whatever happens in them.
            let service = ServiceBuilder::new().option_layer(caps).layer(retry).layer(&self.breaker);
            let service = Asked::new(service.service(balance.leaf()), self.name.clone());
            return Either::Left(BoxLlmService::new(service));
        }
        let service = ServiceBuilder::new()
            // This tier's own caps: their refusal moves on to the next tier at once.
            .option_layer(caps)
            .layer(retry)
            // Around the limits of time, so that the limits of the first token and of silences hold for a held-back
            // answer too.
            .layer(CommitOnFirstTokenLayer::new().inner_commits().at(config.stream.commit.unwrap_or_default()))
            // Inside the retry, so that each attempt is admitted and counted, and an open circuit ends the retries.
            .layer(&self.breaker)
            // Inside the circuit breaker, so that a timeout counts as a failure.
            .layer(self.attempt(limits, tier.provider.is_model(), settings::repeats_timeouts(tier, config)))
            // Just outside the leaf: each attempt decides again which form of a conversation its account gets.
            .layer(ResumeLayer::new(self.account()))
            .service(self.leaf());
        Either::Right(Asked::new(service, self.name.clone()))
    }
}
