//! One configuration at work: its tiers, and the service around them. A reload builds the next generation from it.

use std::{collections::HashMap, sync::Arc};

use tower::{Layer, ServiceBuilder, util::Either};

#[cfg(feature = "alerts")]
use super::alerts::AlertPlan;
use super::{
    Reload, StackContext, TierInfo,
    cache::CacheState,
    chain,
    handoff::{HandoffPlan, HandoffState},
    hedge::Hedges,
    leaf::LeafPlan,
    mirror::{CandidatePlan, MirrorState},
    queue::Queues,
    recovery::RecoveryChecks,
    settings, spend,
    stores::{KeyStore, OpenStores},
    tier_runtime::{self, RetryBudgets, TierRuntime, TierService},
    validate::Validators,
};
use crate::{self as config, Config, ConfigError, Problem, Tier};
use steadfast::{
    BoxLlmService, BudgetLayer, Bulkhead, BulkheadHandle, Cache, CacheHandle, CircuitBreakerHandle, Context, Fallback,
    FallbackLayer, HedgeHandle, Idempotency, IdempotencyHandle, InvalidConfig, LlmRequest, Mirror, Observe,
    ObserveLayer, Timeout,
    layers::{
        budget::{Budget, BudgetHandle},
        bulkhead::{CallerBulkhead, CallerBulkheadLayer},
        fallback::Eligibility,
        route::Route,
    },
    models::FamilyTable,
    prices::PriceTable,
    request::WORST_LEVEL,
    store::StoreTrouble,
};

/// The service for all requests.
pub(super) type RequestService = Observe<Timeout<Either<Idempotency<CacheService>, CacheService>>>;
type CacheService = Either<Cache<CallerLimitService>, CallerLimitService>;
type CallerLimitService = CallerBulkhead<BudgetService>;
type BudgetService = Either<Budget<BulkheadService>, BulkheadService>;
type BulkheadService = Bulkhead<Either<Mirror<RouteService>, RouteService>>;
/// Boxed if there is more than a plain chain, so that a plain chain takes no more room.
type RouteService = Either<Either<BoxLlmService, Route<FallbackService>>, FallbackService>;
type FallbackService = Fallback<TierService>;

/// One configuration at work.
pub(super) struct Generation {
    pub(super) config: Arc<Config>,
    #[cfg(feature = "alerts")]
    pub(super) alerts: Arc<AlertPlan>,
    runtimes: Vec<TierRuntime>,
    pub(super) retry_budgets: RetryBudgets,
    /// The spending, by caps: of all tiers, and of single tiers by name.
    spend: Vec<(Option<String>, BudgetHandle)>,
    /// The crate's prices with the file's over them.
    pub(super) prices: PriceTable,
    fallback: FallbackLayer,
    /// The tiers' hedges.
    hedges: Hedges,
    /// The answers by idempotency key, if the file configures them.
    idempotency: Option<(KeyStore, IdempotencyHandle)>,
    /// The stores that the file names.
    pub(super) stores: OpenStores,
    /// The answer cache, if the file configures one.
    pub(super) cache: Option<CacheState>,
    /// The handoff to people, if any tier or queue uses it.
    pub(super) handoff: Option<HandoffState>,
    /// The recovery checks, if the file configures them.
    pub(super) checks: Option<RecoveryChecks>,
    /// The mirror to a candidate, if the file configures one.
    pub(super) mirror: Option<MirrorState>,
    pub(super) bulkhead: BulkheadHandle,
    /// The service for features without their own time limit.
    pub(super) whole: RequestService,
    /// Services for named features with their own time limit.
    timed: HashMap<String, RequestService>,
    /// The service for unnamed features, if they have their own time limit.
    others: Option<RequestService>,
    /// True if `worst_level` must be set here: the fallback or the cache would miss it.
    sets_level: bool,
    /// True if any feature has its own commit point.
    sets_commit: bool,
    /// The attempts of a request that sets none itself, if the tiers' own settings exceed the usual number.
    attempts: Option<u16>,
}

/// The caps of a tier, or those of no tier.
type Caps<'a> = (Option<&'a str>, Option<BudgetLayer>);

/// A configuration with its keys resolved.
pub(super) struct Plan {
    config: Arc<Config>,
    #[cfg(feature = "alerts")]
    alerts: Arc<AlertPlan>,
    leaves: Vec<LeafPlan>,
    candidate: Option<CandidatePlan>,
    handoff: Option<HandoffPlan>,
}

impl Plan {
    /// Resolves keys and secrets.
    ///
    /// # Errors
    ///
    /// Every missing key of a tier or webhook, every tier with invalid headers, and a file without tiers.
    pub(super) fn new(config: Config, context: &StackContext) -> Result<Self, ConfigError> {
        let environment = context.environment();
        let mut problems: Vec<Problem> = Vec::new();
        if config.tiers.is_empty() {
            problems.push(InvalidConfig::new("tiers", "no tiers; name at least one").into());
        }
        let families = config.family_table().unwrap_or_else(|error| {
            problems.push(error.into());
            FamilyTable::builtin()
        });
        let mut leaves = Vec::new();
        for (place, tier) in config.tiers.iter().enumerate() {
            if tier.name.is_empty() {
                problems.push(InvalidConfig::new("tiers", "a tier has no name; name it after its model").into());
            } else if config.tiers[..place].iter().any(|other| other.name == tier.name) {
                let problem = format!("two tiers are named `{}`; give each a name of its own", tier.name);
                problems.push(InvalidConfig::new("tiers", problem).into());
            }
            match LeafPlan::new(tier, format!("tiers.{}", tier.name), &families, context, &environment) {
                Ok(plan) => leaves.push(plan),
                Err(error) => problems.extend_from_slice(error.problems()),
            }
        }
        let candidate = CandidatePlan::new(&config, &families, context, &environment).unwrap_or_else(|error| {
            // The errors of a candidate that is also a tier are reported with the tier.
            let news: Vec<_> = error.problems().iter().filter(|problem| !problems.contains(problem)).cloned().collect();
            problems.extend(news);
            None
        });
        let handoff = HandoffPlan::new(&config, context, &environment, &mut problems);
        #[cfg(feature = "alerts")]
        let alerts = Arc::new(AlertPlan::new(&config.alerts, context, &environment, &mut problems));
        if !problems.is_empty() {
            return Err(ConfigError::new(problems));
        }
        Ok(Self {
            config: Arc::new(config),
            #[cfg(feature = "alerts")]
            alerts,
            leaves,
            candidate,
            handoff,
        })
    }

    /// Plans the active configuration again.
    pub(super) fn of_current(before: &Generation, context: &StackContext) -> Result<Self, ConfigError> {
        let plan = Self::new((*before.config).clone(), context)?;
        Ok(Self {
            config: before.config.clone(),
            // The active webhooks continue.
            #[cfg(feature = "alerts")]
            alerts: before.alerts.clone(),
            ..plan
        })
    }
}

impl Generation {
    /// Builds the stack of a plan. Unchanged parts of an earlier generation continue in it; the earlier one stays
    /// untouched if an error occurs. `beside` holds caps from outside the configuration.
    pub(super) fn new(
        plan: Plan,
        context: &StackContext,
        beside: &[config::Budget],
        before: Option<&Self>,
    ) -> Result<Self, InvalidConfig> {
        let Plan { config, leaves, candidate, handoff, .. } = plan;
        let prices = spend::prices(&config)?;
        let stores = OpenStores::new(&config, context, before.map(|before| &before.stores))?;
        let shared = context.answers.clone().or_else(|| stores.shared_answers());
        let cache = CacheState::new(&config, shared, before.and_then(|before| before.cache.as_ref()))?;
        let known = before.and_then(|before| before.handoff.as_ref());
        let handoff = handoff.map(|handoff| HandoffState::new(handoff, &stores, context, known)).transpose()?;
        let mut retry_budgets = RetryBudgets::new();
        let mut runtimes: Vec<TierRuntime> = Vec::new();
        let (mut retries, mut caps) = (Vec::new(), Vec::new());
        for (place, (tier, plan)) in config.tiers.iter().zip(leaves).enumerate() {
            let (plan, known) =
                (plan.over(cache.as_ref()).of(handoff.as_ref()), before.and_then(|before| before.runtime(&tier.name)));
            runtimes.push(TierRuntime::new(tier, Some(place), plan, &config, context, &context.events, known)?);
            retries.push(tier_runtime::retry_budget(&mut retry_budgets, tier, &config, before)?);
            caps.push((Some(&*tier.name), spend::tier_budget(&config, tier, &prices, &context.events)?));
        }
        caps.push((None, spend::budget(&config, beside, &prices, &context.events)?));
        let mut bulkhead = settings::bulkhead(&config)?;
        let validators = Validators::new(&config)?;
        let services = |caps: &[Caps<'_>]| -> Vec<TierService> {
            let own = |place: usize| caps.get(place).and_then(|(_, caps)| caps.clone());
            let tiers = runtimes.iter().zip(&config.tiers).zip(&retries).enumerate();
            tiers
                .map(|(place, ((runtime, tier), retries))| {
                    let service = runtime.service(tier, &config, retries.clone(), own(place), context);
                    validators.around(tier, service)
                })
                .collect()
        };
        // Once without the caps: using them already continues the earlier ones, and the names of tiers may still be
        // wrong.
        let unbound = services(&[]);
        spend::routes(&config, &prices, &unbound, context)?;
        chain::chain(&config, &unbound, context)?;
        let mirror = candidate.zip(config.mirror.as_ref());
        let mirror = mirror
            .map(|(plan, mirror)| MirrorState::new(plan, mirror, &config, &prices, context, before))
            .transpose()?;

        if let Some(before) = before {
            for (tier, caps) in &mut caps {
                if let Some(known) = before.spend(*tier) {
                    *caps = caps.take().map(|caps| caps.succeeding(known));
                }
            }
        }
        let services = services(&caps);
        let routes = spend::routes(&config, &prices, &services, context)?;
        // The cheaper chains have no hedges: their requests need no speed, and a second call would be expensive.
        let known = before.map(|before| &before.hedges);
        let (services, hedges) = Hedges::around(&config, &services, &retries, context, known)?;
        let (mut fallback, primary) = chain::chain(&config, &services, context)?;
        if let Some(before) = before {
            let kept =
                runtimes.iter().filter(|runtime| runtime.is_unchanged_since(before)).map(|runtime| &*runtime.name);
            fallback = fallback.succeeding(&before.fallback, kept);
            bulkhead = bulkhead.succeeding(&before.bulkhead);
        }
        hedges.set_outlook(&fallback);
        let handle = |(tier, caps): &Caps<'_>| Some((tier.map(str::to_owned), caps.as_ref()?.handle()));
        let spend = caps.iter().filter_map(handle).collect();
        let caps_of_all = caps.pop().and_then(|(_, caps)| caps);
        let asked =
            runtimes.iter().zip(&config.tiers).zip(caps).map(|((runtime, tier), (_, caps))| (runtime, tier, caps));
        let checks = RecoveryChecks::new(&config, asked, caps_of_all.as_ref());
        let known = before.and_then(|before| before.idempotency.as_ref());
        let (idempotency, keys) = settings::idempotency(config.idempotency, known, &stores, &context.events).unzip();
        if let Some(cache) = &cache {
            cache.apply_size();
        }
        let chain = ServiceBuilder::new()
            // Around the tiers, which serve if a cheaper chain fails.
            .option_layer(routes)
            .layer(&fallback)
            .service(primary);
        // Around all of them: handles requests that none answered in time.
        let chain = match (Queues::new(&config, handoff.as_ref()), chain) {
            (Some(queues), chain) => Either::Left(Either::Left(queues.around(chain))),
            (None, Either::Left(routed)) => Either::Left(Either::Right(routed)),
            (None, Either::Right(chain)) => Either::Right(chain),
        };
        let inner = ServiceBuilder::new()
            // Outside everything that costs something: a repeat is answered from the store.
            .option_layer(keys)
            // Outside the budget too: a shared call takes one place and is paid once.
            .option_layer(cache.as_ref().map(CacheState::layer))
            // Inside the layers whose calls outlive their callers: such a call keeps its caller's place.
            .layer(CallerBulkheadLayer::new())
            // Before the bulkhead: a request refused for its cost takes no place.
            .option_layer(caps_of_all)
            // One place for a request, however many tiers it tries; its wait counts against the request's time.
            .layer(&bulkhead)
            // Inside the bulkhead: compares the answer that the caller receives, whichever tier serves.
            .option_layer(mirror.as_ref().map(|mirror| mirror.layer.clone()))
            .service(chain);
        // Outermost, so that it reports what the caller saw.
        let observe = ObserveLayer::new(context.events.clone()).prices(prices.clone());
        let whole = |limit| observe.layer(settings::total(limit).layer(inner.clone()));
        let own = |(name, feature): (&String, &config::Feature)| Some((name.clone(), whole(Some(feature.timeout?))));
        let timed = config.features.iter().filter_map(own).collect();
        let others = config.default_feature.as_ref().and_then(|feature| feature.timeout);
        let (others, whole) = (others.map(|limit| whole(Some(limit))), whole(config.timeout));
        Ok(Self {
            bulkhead: bulkhead.handle(),
            sets_level: names_level(config.default_feature.as_ref())
                || cache.is_some() && config.features.values().any(|feature| names_level(Some(feature))),
            sets_commit: config
                .features
                .values()
                .chain(&config.default_feature)
                .any(|feature| feature.stream.commit.is_some()),
            attempts: chain::attempts(&config),
            config,
            #[cfg(feature = "alerts")]
            alerts: plan.alerts,
            runtimes,
            retry_budgets,
            spend,
            prices,
            fallback,
            hedges,
            idempotency,
            stores,
            cache,
            handoff,
            checks,
            mirror,
            whole,
            timed,
            others,
        })
    }

    /// Returns the service for a feature with its own time limit.
    #[inline]
    pub(super) fn timed(&self, feature: Option<&str>) -> Option<&RequestService> {
        if self.timed.is_empty() && self.others.is_none() {
            return None;
        }
        match feature {
            Some(name) if self.config.features.contains_key(name) => self.timed.get(name),
            _ => self.others.as_ref(),
        }
    }

    /// Applies settings to a request that the layers do not read themselves.
    #[inline]
    pub(super) fn prepare(&self, request: &mut LlmRequest) {
        if let Some(attempts) = self.attempts
            && request.context().attempts_left == Context::default().attempts_left
        {
            request.context_mut().attempts_left = attempts;
        }
        if self.sets_commit && request.context().commit.is_none() {
            let named = request.feature().and_then(|feature| self.config.features.get(feature));
            request.context_mut().commit =
                named.or(self.config.default_feature.as_ref()).and_then(|own| own.stream.commit);
        }
        if self.sets_level {
            let named = request.feature().and_then(|feature| self.config.features.get(feature));
            // The fallback knows the named features' levels; a cache around it does not.
            let worst = named.or(self.config.default_feature.as_ref()).and_then(|own| own.worst_level);
            let context = request.context_mut();
            context.worst_level = context.worst_level.min(worst.unwrap_or(WORST_LEVEL));
        }
    }

    /// Returns what the reload from `before` kept and changed.
    pub(super) fn since(&self, before: &Self) -> Reload {
        let name = |runtime: &TierRuntime| runtime.name.clone();
        let (kept, changed) = self.runtimes.iter().partition::<Vec<_>, _>(|runtime| runtime.is_unchanged_since(before));
        let gone = |runtime: &&TierRuntime| self.runtimes.iter().all(|now| now.name != runtime.name);
        Reload {
            kept: kept.into_iter().map(name).collect(),
            changed: changed.into_iter().map(name).collect(),
            removed: before.runtimes.iter().filter(gone).map(name).collect(),
        }
    }

    pub(super) fn idempotency(&self) -> Option<IdempotencyHandle> {
        self.idempotency.as_ref().map(|(_, handle)| handle.clone())
    }

    /// Returns the current problems of the stores.
    pub(super) fn store_troubles(&self) -> Vec<StoreTrouble> {
        let mut troubles = self.stores.troubles();
        troubles.extend(self.idempotency.iter().flat_map(|(_, keys)| keys.troubles()));
        troubles.extend(self.handoff.iter().filter_map(|handoff| handoff.desk.trouble()));
        troubles
    }

    pub(super) fn cache(&self) -> Option<CacheHandle> {
        self.cache.as_ref().map(CacheState::handle)
    }

    /// Returns the primary's name, and the other tiers' names in order.
    pub(super) fn names(&self) -> (Arc<str>, Vec<Arc<str>>) {
        let mut names = self.runtimes.iter().map(|runtime| runtime.name.clone());
        let primary = names.next().expect("a plan has at least one tier");
        (primary, names.collect())
    }

    /// Returns the outlook on the chain of tiers.
    pub(super) fn eligibility(&self) -> Eligibility {
        self.fallback.eligibility()
    }

    pub(super) fn circuits(&self) -> impl Iterator<Item = (Arc<str>, CircuitBreakerHandle)> {
        self.runtimes.iter().map(|runtime| (runtime.name.clone(), runtime.breaker.handle()))
    }

    pub(super) fn tiers(&self) -> impl Iterator<Item = TierInfo> {
        let info = |(runtime, tier): (&TierRuntime, &Tier)| TierInfo {
            name: runtime.name.clone(),
            provider: tier.provider,
            model: tier.model.as_deref().map(Into::into),
            level: tier.service_level(),
        };
        self.runtimes.iter().zip(&self.config.tiers).map(info)
    }

    pub(super) fn hedges(&self) -> impl Iterator<Item = (Arc<str>, HedgeHandle)> {
        self.hedges.handles()
    }

    /// Returns the spending under a tier's caps, or under those of no tier.
    fn spend(&self, tier: Option<&str>) -> Option<&BudgetHandle> {
        self.spend.iter().find(|(of, _)| of.as_deref() == tier).map(|(_, handle)| handle)
    }

    pub(super) fn budgets(&self) -> impl Iterator<Item = &BudgetHandle> {
        let candidate = self.mirror.as_ref().and_then(|mirror| mirror.spend.as_ref());
        self.spend.iter().map(|(_, handle)| handle).chain(candidate)
    }

    pub(super) fn runtime(&self, name: &str) -> Option<&TierRuntime> {
        self.runtimes.iter().find(|runtime| &*runtime.name == name)
    }
}

fn names_level(feature: Option<&config::Feature>) -> bool {
    feature.is_some_and(|feature| feature.worst_level.is_some())
}
