//! One configuration at work: its tiers, and the service around them. A reload builds the next generation from it.

use std::{collections::HashMap, sync::Arc};

use tower::{Layer, ServiceBuilder, util::Either};

#[cfg(feature = "alerts")]
use super::parts::alert_plan::AlertPlan;
use super::{
    Reload, TierInfo,
    parts::{
        cache::CacheState,
        chain,
        context::StackContext,
        handoff::HandoffState,
        hedge::Hedges,
        idempotency::IdempotencyState,
        lane::{LaneState, WithLane},
        ledger::LedgerState,
        mirror::MirrorState,
        object_places::ObjectPlaces,
        queue::Queues,
        recovery_checks::RecoveryChecks,
        responses::ResponseArchive,
        retry_budgets::RetryBudgets,
        settings,
        stores::OpenStores,
        tier_runtime::{TierRuntime, TierService},
    },
    plan::Plan,
    previous::Previous,
    tier_set::TierSet,
};
use crate::{self as config, Config, ConfigError, Tier};
use steadfast::{
    BoxLlmService, BudgetLayer, Bulkhead, BulkheadHandle, BulkheadLayer, Cache, CacheHandle, CacheLayer, Context,
    Fallback, FallbackLayer, HedgeHandle, Idempotency, IdempotencyHandle, IdempotencyLayer, InvalidConfig, LlmRequest,
    Mirror, MirrorLayer, Observe, ObserveLayer, Timeout,
    events::Accountant,
    layers::{
        budget::{Budget, BudgetHandle},
        bulkhead::{CallerBulkhead, CallerBulkheadLayer},
        fallback::Eligibility,
        route::Route,
    },
    prices::PriceTable,
    request::WORST_LEVEL,
    store::StoreTrouble,
};
use steadfast_subscribers::ChainSetup;

/// The service for all requests.
pub(super) type RequestService = Observe<Timeout<Either<Idempotency<CacheService>, CacheService>>>;
type CacheService = Either<Cache<CallerLimitService>, CallerLimitService>;
type CallerLimitService = CallerBulkhead<BudgetService>;
type BudgetService = Either<Budget<BulkheadService>, BulkheadService>;
type BulkheadService = Bulkhead<Either<Mirror<LaneService>, LaneService>>;
type LaneService = WithLane<RouteService>;
/// Boxed if there is more than a plain chain, so that a plain chain takes no more room.
type RouteService = Either<Either<BoxLlmService, Route<FallbackService>>, FallbackService>;
type FallbackService = Fallback<TierService>;

/// One configuration at work.
pub(super) struct Generation {
    pub(super) config: Arc<Config>,
    #[cfg(feature = "alerts")]
    pub(super) alerts: Arc<AlertPlan>,
    pub(super) tiers: TierSet,
    /// The chain of the lane, which its services refer to.
    _lane: Option<LaneState>,
    pub(super) retry_budgets: RetryBudgets,
    /// The spending, by caps: of all tiers, and of single tiers by name.
    spend: Vec<(Option<String>, BudgetHandle)>,
    /// The crate's prices with the file's over them.
    pub(super) prices: PriceTable,
    fallback: FallbackLayer,
    /// The tiers' hedges.
    hedges: Hedges,
    /// The answers by idempotency key, if the file configures them.
    idempotency: Option<IdempotencyState>,
    /// The stores that the file names.
    pub(super) stores: OpenStores,
    /// The answer cache, if the file configures one.
    pub(super) cache: Option<CacheState>,
    /// The ledger, if the file configures one.
    pub(super) ledger: Option<LedgerState>,
    /// The kept responses, if the file configures them.
    pub(super) responses: Option<ResponseArchive>,
    /// The places of objects that providers keep.
    pub(super) objects: ObjectPlaces,
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

/// The tiers at work, in the configuration's order.
struct Tiers {
    runtimes: Vec<TierRuntime>,
    retry_budgets: RetryBudgets,
    services: Vec<TierService>,
}

/// The layers around the chain of tiers, as far as the configuration has them.
struct OuterLayers<'a> {
    keys: Option<IdempotencyLayer>,
    cache: Option<CacheLayer>,
    caps: Option<BudgetLayer>,
    bulkhead: &'a BulkheadLayer,
    mirror: Option<MirrorLayer>,
    accountant: Option<Arc<dyn Accountant>>,
}

/// The services for all requests.
struct RequestServices {
    whole: RequestService,
    timed: HashMap<String, RequestService>,
    others: Option<RequestService>,
}

impl Generation {
    /// Builds the stack of a plan. Unchanged parts of an earlier generation continue in it.
    ///
    /// # Errors
    ///
    /// A store cannot be opened. The earlier generation is untouched then.
    pub(super) fn new(plan: Plan, context: &StackContext, before: Previous<'_>) -> Result<Self, InvalidConfig> {
        let stores = OpenStores::new(&plan.config, context, before.stores)?;
        let ledger = LedgerState::new(&plan.config, &stores, context, before.ledger)?;
        Ok(Self::assemble(plan, stores, ledger, context, before))
    }

    /// Puts the checked parts together. From here on nothing fails, so that state of the earlier generation may
    /// continue in this one at any step.
    fn assemble(
        mut plan: Plan,
        stores: OpenStores,
        ledger: Option<LedgerState>,
        context: &StackContext,
        before: Previous<'_>,
    ) -> Self {
        let config = plan.config.clone();
        let shared = context.answers.clone().or_else(|| stores.shared_answers());
        let cache = CacheState::new(&config, shared, before.cache);
        let responses = ResponseArchive::new(&config, &stores, context, before.responses);
        let objects = ObjectPlaces::new(&stores, context, before.objects);
        let handoff = plan.handoff.take().map(|handoff| HandoffState::new(handoff, &stores, context, before.handoff));
        plan.caps.continue_from(&config, |tier| before.spend(tier));
        if let Some(known) = before.bulkhead {
            plan.bulkhead = plan.bulkhead.state(known);
        }
        let mirror = plan.mirror.take().zip(config.mirror.as_ref());
        let mirror = mirror
            .map(|(plan_of, mirror)| MirrorState::new(plan_of, mirror, &config, &plan.prices, context, before.mirror));
        let (idempotency, keys) =
            IdempotencyState::new(config.idempotency, &stores, &context.events, before.idempotency).unzip();
        let headroom = stores.shared_headroom();
        for tier in plan.tiers.iter_mut().chain(&mut plan.lane) {
            tier.share(headroom.as_ref());
        }
        let tiers = Tiers::new(&mut plan, cache.as_ref(), handoff.as_ref(), context, before);
        let plans = std::mem::take(&mut plan.lane).into_iter();
        let plans = plans.zip(plan.caps.tiers[config.tiers.len()..].iter().cloned()).collect();
        let lane = LaneState::new(&config, plans, &tiers.retry_budgets, context, |name| before.tier(name));
        let (lane_runtimes, lane) = lane.unzip();
        let (chain, fallback, hedges) = tiers.chain(&mut plan, handoff.as_ref(), context, before);
        if let Some(cache) = &cache {
            cache.apply_size();
        }
        let outer = OuterLayers {
            keys,
            cache: cache.as_ref().map(CacheState::layer),
            caps: plan.caps.all.clone(),
            bulkhead: &plan.bulkhead,
            mirror: mirror.as_ref().map(|mirror| mirror.layer.clone()),
            accountant: ledger.as_ref().map(|ledger| ledger.accountant(&config, &plan.prices)),
        };
        let RequestServices { whole, timed, others } =
            outer.around(WithLane::new(chain, lane.as_ref()), &plan, context);
        Self {
            sets_level: names_level(config.default_feature.as_ref())
                || cache.is_some() && config.features.values().any(|feature| names_level(Some(feature))),
            sets_commit: config.features.values().chain(&config.default_feature).any(names_commit),
            attempts: chain::attempts(&config),
            spend: plan.caps.handles(&config),
            checks: RecoveryChecks::new(&config, &tiers.runtimes, &plan.caps),
            bulkhead: plan.bulkhead.handle(),
            config,
            #[cfg(feature = "alerts")]
            alerts: plan.alerts,
            tiers: TierSet { conversations: tiers.runtimes, lane: lane_runtimes.unwrap_or_default() },
            _lane: lane,
            retry_budgets: tiers.retry_budgets,
            prices: plan.prices,
            fallback,
            hedges,
            idempotency,
            stores,
            cache,
            ledger,
            responses,
            objects,
            handoff,
            mirror,
            whole,
            timed,
            others,
        }
    }

    /// Returns what the next generation may continue.
    pub(super) fn previous(&self) -> Previous<'_> {
        Previous {
            tiers: Some(&self.tiers),
            retry_budgets: Some(&self.retry_budgets),
            spend: &self.spend,
            fallback: Some(&self.fallback),
            hedges: Some(&self.hedges),
            bulkhead: Some(&self.bulkhead),
            stores: Some(&self.stores),
            idempotency: self.idempotency.as_ref(),
            cache: self.cache.as_ref(),
            ledger: self.ledger.as_ref(),
            responses: self.responses.as_ref(),
            objects: Some(&self.objects),
            handoff: self.handoff.as_ref(),
            mirror: self.mirror.as_ref(),
        }
    }

    /// Checks the configuration again, with other caps beside it.
    ///
    /// # Errors
    ///
    /// As of [`Plan::new`].
    pub(super) fn plan_with(&self, context: &StackContext, beside: &[config::Budget]) -> Result<Plan, ConfigError> {
        let plan = Plan::new((*self.config).clone(), context, beside)?;
        Ok(Plan {
            config: self.config.clone(),
            // The active webhooks continue.
            #[cfg(feature = "alerts")]
            alerts: self.alerts.clone(),
            ..plan
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
        let is_kept =
            |now: &&TierRuntime| before.tiers.get(&now.name).is_some_and(|known| now.is_unchanged_since(known));
        let (kept, changed) = self.tiers.iter().partition::<Vec<_>, _>(is_kept);
        let gone = |runtime: &&TierRuntime| self.tiers.get(&runtime.name).is_none();
        Reload {
            kept: kept.into_iter().map(name).collect(),
            changed: changed.into_iter().map(name).collect(),
            removed: before.tiers.iter().filter(gone).map(name).collect(),
            settings: self.config.changes_since(&before.config).into_iter().map(String::into_boxed_str).collect(),
        }
    }

    /// Returns the spending under each cap, with its tier.
    pub(super) fn spend(&self) -> &[(Option<String>, BudgetHandle)] {
        &self.spend
    }

    pub(super) fn idempotency(&self) -> Option<IdempotencyHandle> {
        self.idempotency.as_ref().map(IdempotencyState::handle)
    }

    /// Returns the current problems of the stores.
    pub(super) fn store_troubles(&self) -> Vec<StoreTrouble> {
        let mut troubles = self.stores.troubles();
        troubles.extend(self.idempotency.iter().flat_map(IdempotencyState::troubles));
        troubles.extend(self.ledger.iter().filter_map(|state| state.ledger.trouble()));
        troubles.extend(self.responses.iter().filter_map(ResponseArchive::trouble));
        troubles.extend(self.objects.trouble());
        troubles.extend(self.handoff.iter().filter_map(|handoff| handoff.desk.trouble()));
        troubles
    }

    pub(super) fn cache(&self) -> Option<CacheHandle> {
        self.cache.as_ref().map(CacheState::handle)
    }

    /// Returns the chains that the file names.
    pub(super) fn chains(&self) -> Vec<ChainSetup> {
        chain::setups(&self.config, &self.fallback)
    }

    /// Returns the outlook on the chain of tiers.
    pub(super) fn eligibility(&self) -> Eligibility {
        self.fallback.eligibility()
    }

    pub(super) fn tier_infos(&self) -> Vec<TierInfo> {
        self.tiers.infos(&self.config).collect()
    }

    pub(super) fn hedges(&self) -> impl Iterator<Item = (Arc<str>, HedgeHandle)> {
        self.hedges.handles()
    }

    pub(super) fn budgets(&self) -> impl Iterator<Item = &BudgetHandle> {
        let candidate = self.mirror.as_ref().and_then(|mirror| mirror.spend.as_ref());
        self.spend.iter().map(|(_, handle)| handle).chain(candidate)
    }
}

impl Tiers {
    /// Starts all tiers; unchanged ones continue.
    fn new(
        plan: &mut Plan,
        cache: Option<&CacheState>,
        handoff: Option<&HandoffState>,
        context: &StackContext,
        before: Previous<'_>,
    ) -> Self {
        let config = &plan.config;
        let mut retry_budgets = std::mem::take(&mut plan.retry_budgets);
        if let Some(known) = before.retry_budgets {
            retry_budgets.continue_from(known);
        }
        let (mut runtimes, mut services) = (Vec::new(), Vec::new());
        let plans = std::mem::take(&mut plan.tiers).into_iter().zip(&plan.caps.tiers);
        for (tier, (tier_plan, caps)) in config.tiers.iter().zip(plans) {
            let runtime = TierRuntime::new(tier, tier_plan.over(cache, handoff), context, before.tier(&tier.name));
            let service = runtime.service(tier, config, retry_budgets.of(tier), caps.clone(), context);
            services.push(plan.validators.around(tier, service));
            runtimes.push(runtime);
        }
        Self { runtimes, retry_budgets, services }
    }

    /// Returns the chain of the tiers with the cheaper chains and the queues around it, its layer, and its hedges.
    fn chain(
        &self,
        plan: &mut Plan,
        handoff: Option<&HandoffState>,
        context: &StackContext,
        before: Previous<'_>,
    ) -> (RouteService, FallbackLayer, Hedges) {
        let (config, services) = (plan.config.clone(), &self.services);
        // The cheaper chains have no hedges: their requests need no speed, and a second call would be expensive.
        let routes = plan.routes.take().map(|routes| routes.layer(&config, &plan.families, services, context));
        let (plans, retries) = (std::mem::take(&mut plan.hedges), |tier: &Tier| self.retry_budgets.of(tier));
        let (services, hedges) = Hedges::around(plans, &config, services, retries, before.hedges);
        let (mut fallback, primary) =
            chain::chain(&config, &services, context).expect("the plan has checked the chain");
        if let Some(known) = before.fallback {
            fallback = fallback.state(known);
        }
        hedges.set_outlook(&fallback);
        let chain = ServiceBuilder::new()
            // Around the tiers, which serve if a cheaper chain fails.
            .option_layer(routes)
            .layer(&fallback)
            .service(primary);
        // Around all of them: handles requests that none answered in time.
        let chain = match (Queues::new(&config, handoff), chain) {
            (Some(queues), chain) => Either::Left(Either::Left(queues.around(chain))),
            (None, Either::Left(routed)) => Either::Left(Either::Right(routed)),
            (None, Either::Right(chain)) => Either::Right(chain),
        };
        (chain, fallback, hedges)
    }
}

impl OuterLayers<'_> {
    /// Puts the layers around the chain of tiers, and each time limit around all of them.
    fn around(self, chain: LaneService, plan: &Plan, context: &StackContext) -> RequestServices {
        let config = &plan.config;
        let inner = ServiceBuilder::new()
            // Outside everything that costs something: a repeat is answered from the store.
            .option_layer(self.keys)
            // Outside the budget too: a shared call takes one place and is paid once.
            .option_layer(self.cache)
            // Inside the layers whose calls outlive their callers: such a call keeps its caller's place.
            .layer(CallerBulkheadLayer::new())
            // Before the bulkhead: a request refused for its cost takes no place.
            .option_layer(self.caps)
            // One place for a request, however many tiers it tries; its wait counts against the request's time.
            .layer(self.bulkhead)
            // Inside the bulkhead: compares the answer that the caller receives, whichever tier serves.
            .option_layer(self.mirror)
            .service(chain);
        // Outermost, so that it reports what the caller saw.
        let mut observe = ObserveLayer::new(context.events.clone()).prices(plan.prices.clone());
        if let Some(accountant) = self.accountant {
            observe = observe.accountant(accountant);
        }
        let whole = |limit| observe.layer(settings::total(limit).layer(inner.clone()));
        let own = |(name, feature): (&String, &config::Feature)| Some((name.clone(), whole(Some(feature.timeout?))));
        RequestServices {
            timed: config.features.iter().filter_map(own).collect(),
            others: config.default_feature.as_ref().and_then(|other| Some(whole(Some(other.timeout?)))),
            whole: whole(config.timeout),
        }
    }
}

fn names_level(feature: Option<&config::Feature>) -> bool {
    feature.is_some_and(|feature| feature.worst_level.is_some())
}

fn names_commit(feature: &config::Feature) -> bool {
    feature.stream.commit.is_some()
}
