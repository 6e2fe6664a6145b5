//! One configuration at work: its tiers, and the whole around them. A reload makes the next one out of this.

use std::{collections::HashMap, sync::Arc};

use tower::{Layer, ServiceBuilder, util::Either};

#[cfg(feature = "alerts")]
use super::alerts::AlertPlan;
use super::{
    Makings, Reload, TierInfo,
    cache::Kept,
    chain,
    handoff::{People, PeoplePlan},
    hedge::Hedges,
    leaf::LeafPlan,
    mirror::{CandidatePlan, Mirroring},
    part::{self, Part, RetryBudgets, TierService},
    queue::Queues,
    recovery::Checks,
    settings, spend,
    stores::{Keys, Opened},
    validate::Validating,
};
use crate::{
    BoxLlmService, BudgetLayer, Bulkhead, BulkheadHandle, Cache, CacheHandle, CircuitBreakerHandle, Context, Fallback,
    FallbackLayer, HedgeHandle, Idempotency, IdempotencyHandle, InvalidConfig, LlmRequest, Mirror, Observe,
    ObserveLayer, Timeout,
    config::{self, Config, ConfigError, Problem, Tier},
    layers::{
        budget::{Budget, BudgetHandle},
        bulkhead::{CallerBulkhead, CallerBulkheadLayer},
        fallback::Outlook,
        route::Route,
    },
    models::FamilyTable,
    prices::PriceTable,
    request::WORST_LEVEL,
    store::StoreTrouble,
};

/// The whole.
pub(super) type Whole = Observe<Timeout<Either<Idempotency<Keeping>, Keeping>>>;
type Keeping = Either<Cache<Limited>, Limited>;
type Limited = CallerBulkhead<Capped>;
type Capped = Either<Budget<Places>, Places>;
type Places = Bulkhead<Either<Mirror<Routed>, Routed>>;
/// One that simply goes along the tiers takes no more room for what else there may be.
type Routed = Either<Either<BoxLlmService, Route<Chain>>, Chain>;
type Chain = Fallback<TierService>;

/// One configuration at work.
pub(super) struct Generation {
    pub(super) config: Arc<Config>,
    #[cfg(feature = "alerts")]
    pub(super) alerts: Arc<AlertPlan>,
    parts: Vec<Part>,
    pub(super) retry_budgets: RetryBudgets,
    /// What was spent, where there are caps: of all tiers, and of some (by name).
    spend: Vec<(Option<String>, BudgetHandle)>,
    /// The crate's with the file's over them.
    pub(super) prices: PriceTable,
    fallback: FallbackLayer,
    /// The tiers' second calls.
    hedges: Hedges,
    /// What was answered under which key, where the file asks for it.
    idempotency: Option<(Keys, IdempotencyHandle)>,
    /// What the file names of stores.
    pub(super) stores: Opened,
    /// The answers that are kept, where the file asks for it.
    pub(super) kept: Option<Kept>,
    /// Those to whom requests are handed.
    pub(super) people: Option<People>,
    /// How tiers are asked whether they work again, where the file asks for that.
    pub(super) checks: Option<Checks>,
    /// Where requests are also sent to a candidate.
    pub(super) mirror: Option<Mirroring>,
    pub(super) bulkhead: BulkheadHandle,
    /// For all features that have no time of their own.
    pub(super) whole: Whole,
    /// The same with another limit of time, for those that have one.
    timed: HashMap<String, Whole>,
    /// The same for features that are not named, where those have another.
    others: Option<Whole>,
    /// Whether any feature says which level it accepts that the fallback is not told of, or not it alone.
    levels: bool,
    /// Whether any feature has a commit point of its own.
    commits: bool,
    /// How many attempts a request may take that does not say so itself, where the tiers' own say more than is usual.
    attempts: Option<u16>,
}

/// The caps of a tier, or those of no tier.
type Caps<'a> = (Option<&'a str>, Option<BudgetLayer>);

/// A configuration with the keys looked up.
pub(super) struct Plan {
    config: Arc<Config>,
    #[cfg(feature = "alerts")]
    alerts: Arc<AlertPlan>,
    leaves: Vec<LeafPlan>,
    candidate: Option<CandidatePlan>,
    people: Option<PeoplePlan>,
}

impl Plan {
    /// # Errors
    ///
    /// Every tier or webhook whose key is missing, every tier whose headers cannot be, and a file without tiers.
    pub(super) fn new(config: Config, makings: &Makings) -> Result<Self, ConfigError> {
        let environment = makings.environment();
        let mut problems: Vec<Problem> = Vec::new();
        if config.tiers.is_empty() {
            problems.push(InvalidConfig::new("tiers", "there is none; name at least one tier").into());
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
            match LeafPlan::new(tier, format!("tiers.{}", tier.name), &families, makings, &environment) {
                Ok(plan) => leaves.push(plan),
                Err(error) => problems.extend_from_slice(error.problems()),
            }
        }
        let candidate = CandidatePlan::new(&config, &families, makings, &environment).unwrap_or_else(|error| {
            // What is wrong with one that is a tier too has been told of the tier.
            let news: Vec<_> = error.problems().iter().filter(|problem| !problems.contains(problem)).cloned().collect();
            problems.extend(news);
            None
        });
        let people = PeoplePlan::new(&config, makings, &environment, &mut problems);
        #[cfg(feature = "alerts")]
        let alerts = Arc::new(AlertPlan::new(&config.alerts, makings, &environment, &mut problems));
        if !problems.is_empty() {
            return Err(ConfigError::new(problems));
        }
        Ok(Self {
            config: Arc::new(config),
            #[cfg(feature = "alerts")]
            alerts,
            leaves,
            candidate,
            people,
        })
    }

    /// The configuration that is at work, once more.
    pub(super) fn again(before: &Generation, makings: &Makings) -> Result<Self, ConfigError> {
        let plan = Self::new((*before.config).clone(), makings)?;
        Ok(Self {
            config: before.config.clone(),
            // Its webhooks go on.
            #[cfg(feature = "alerts")]
            alerts: before.alerts.clone(),
            ..plan
        })
    }
}

impl Generation {
    /// The stack of a plan. What an earlier one had and this one has unchanged goes on in it; nothing of the earlier one
    /// is touched unless all is well.
    /// `beside` are caps that the configuration does not have.
    pub(super) fn new(
        plan: Plan,
        makings: &Makings,
        beside: &[config::Budget],
        before: Option<&Self>,
    ) -> Result<Self, InvalidConfig> {
        let Plan { config, leaves, candidate, people, .. } = plan;
        let prices = spend::prices(&config)?;
        let stores = Opened::new(&config, makings, before.map(|before| &before.stores))?;
        let shared = makings.answers.clone().or_else(|| stores.shared_answers());
        let kept = Kept::new(&config, shared, before.and_then(|before| before.kept.as_ref()))?;
        let known = before.and_then(|before| before.people.as_ref());
        let people = people.map(|people| People::new(people, &stores, makings, known)).transpose()?;
        let mut retry_budgets = RetryBudgets::new();
        let mut parts: Vec<Part> = Vec::new();
        let (mut retries, mut caps) = (Vec::new(), Vec::new());
        for (place, (tier, plan)) in config.tiers.iter().zip(leaves).enumerate() {
            let (plan, known) =
                (plan.over(kept.as_ref()).of(people.as_ref()), before.and_then(|before| before.part(&tier.name)));
            parts.push(Part::new(tier, Some(place), plan, &config, makings, &makings.events, known)?);
            retries.push(part::retry_budget(&mut retry_budgets, tier, &config, before)?);
            caps.push((Some(&*tier.name), spend::tier_budget(&config, tier, &prices, &makings.events)?));
        }
        caps.push((None, spend::budget(&config, beside, &prices, &makings.events)?));
        let mut bulkhead = settings::bulkhead(&config)?;
        let validating = Validating::new(&config)?;
        let services = |caps: &[Caps<'_>]| -> Vec<TierService> {
            let own = |place: usize| caps.get(place).and_then(|(_, caps)| caps.clone());
            let tiers = parts.iter().zip(&config.tiers).zip(&retries).enumerate();
            tiers
                .map(|(place, ((part, tier), retries))| {
                    let service = part.service(tier, &config, retries.clone(), own(place), makings);
                    validating.around(tier, service)
                })
                .collect()
        };
        // Once without the caps: they go on from those before as soon as they are used, and the names of tiers may still be
        // wrong.
        let unbound = services(&[]);
        spend::routes(&config, &prices, &unbound, makings)?;
        chain::chain(&config, &unbound, makings)?;
        let mirror = candidate.zip(config.mirror.as_ref());
        let mirror =
            mirror.map(|(plan, mirror)| Mirroring::new(plan, mirror, &config, &prices, makings, before)).transpose()?;

        if let Some(before) = before {
            for (tier, caps) in &mut caps {
                if let Some(known) = before.spend(*tier) {
                    *caps = caps.take().map(|caps| caps.succeeding(known));
                }
            }
        }
        let services = services(&caps);
        let routes = spend::routes(&config, &prices, &services, makings)?;
        // The cheaper chains are without them: who is sent there need not be quick, and a second call would be a dear one.
        let known = before.map(|before| &before.hedges);
        let (services, hedges) = Hedges::around(&config, &services, &retries, makings, known)?;
        let (mut fallback, primary) = chain::chain(&config, &services, makings)?;
        if let Some(before) = before {
            let kept = parts.iter().filter(|part| part.is_of(before)).map(|part| &*part.name);
            fallback = fallback.succeeding(&before.fallback, kept);
            bulkhead = bulkhead.succeeding(&before.bulkhead);
        }
        hedges.go_by(&fallback);
        let handle = |(tier, caps): &Caps<'_>| Some((tier.map(str::to_owned), caps.as_ref()?.handle()));
        let spend = caps.iter().filter_map(handle).collect();
        let caps_of_all = caps.pop().and_then(|(_, caps)| caps);
        let asked = parts.iter().zip(&config.tiers).zip(caps).map(|((part, tier), (_, caps))| (part, tier, caps));
        let checks = Checks::new(&config, asked, caps_of_all.as_ref());
        let known = before.and_then(|before| before.idempotency.as_ref());
        let (idempotency, keys) = settings::idempotency(config.idempotency, known, &stores, &makings.events).unzip();
        if let Some(kept) = &kept {
            kept.settle();
        }
        let chain = ServiceBuilder::new()
            // Around the tiers, which serve when a cheaper chain cannot.
            .option_layer(routes)
            .layer(&fallback)
            .service(primary);
        // Around all of them: what none has answered in its time.
        let chain = match (Queues::new(&config, people.as_ref()), chain) {
            (Some(queues), chain) => Either::Left(Either::Left(queues.around(chain))),
            (None, Either::Left(routed)) => Either::Left(Either::Right(routed)),
            (None, Either::Right(chain)) => Either::Right(chain),
        };
        let inner = ServiceBuilder::new()
            // Outside of all that costs something: a repeat is answered from what is there.
            .option_layer(keys)
            // So is what was asked before; and a call that is shared costs one place, and once.
            .option_layer(kept.as_ref().map(Kept::layer))
            // Inside of what goes on with a call whose caller has left: it keeps its caller's place.
            .layer(CallerBulkheadLayer::new())
            // Before a place is taken: what is refused for its cost takes none.
            .option_layer(caps_of_all)
            // One place for a request, however many tiers it tries; its wait counts against the request's time.
            .layer(&bulkhead)
            // What has its place is compared by what its caller gets, whichever tier serves.
            .option_layer(mirror.as_ref().map(|mirror| mirror.layer.clone()))
            .service(chain);
        // Outermost, so that what is told is what the caller saw.
        let observe = ObserveLayer::new(makings.events.clone()).prices(prices.clone());
        let whole = |limit| observe.layer(settings::total(limit).layer(inner.clone()));
        let own = |(name, feature): (&String, &config::Feature)| Some((name.clone(), whole(Some(feature.timeout?))));
        let timed = config.features.iter().filter_map(own).collect();
        let others = config.default_feature.as_ref().and_then(|feature| feature.timeout);
        let (others, whole) = (others.map(|limit| whole(Some(limit))), whole(config.timeout));
        Ok(Self {
            bulkhead: bulkhead.handle(),
            levels: said_of_levels(config.default_feature.as_ref())
                || kept.is_some() && config.features.values().any(|feature| said_of_levels(Some(feature))),
            commits: config
                .features
                .values()
                .chain(&config.default_feature)
                .any(|feature| feature.stream.commit.is_some()),
            attempts: chain::attempts(&config),
            config,
            #[cfg(feature = "alerts")]
            alerts: plan.alerts,
            parts,
            retry_budgets,
            spend,
            prices,
            fallback,
            hedges,
            idempotency,
            stores,
            kept,
            people,
            checks,
            mirror,
            whole,
            timed,
            others,
        })
    }

    /// The service for a feature that has another limit of time than most.
    #[inline]
    pub(super) fn timed(&self, feature: Option<&str>) -> Option<&Whole> {
        if self.timed.is_empty() && self.others.is_none() {
            return None;
        }
        match feature {
            Some(name) if self.config.features.contains_key(name) => self.timed.get(name),
            _ => self.others.as_ref(),
        }
    }

    /// What the configuration says of a request, beyond what the layers ask.
    #[inline]
    pub(super) fn prepare(&self, request: &mut LlmRequest) {
        if let Some(attempts) = self.attempts
            && request.context().attempts_left == Context::default().attempts_left
        {
            request.context_mut().attempts_left = attempts;
        }
        if self.commits && request.context().commit.is_none() {
            let named = request.feature_name().and_then(|feature| self.config.features.get(feature));
            request.context_mut().commit =
                named.or(self.config.default_feature.as_ref()).and_then(|own| own.stream.commit);
        }
        if self.levels {
            let named = request.feature_name().and_then(|feature| self.config.features.get(feature));
            // Of those that are named the fallback knows by itself; a cache around it does not.
            let worst = named.or(self.config.default_feature.as_ref()).and_then(|own| own.worst_level);
            let context = request.context_mut();
            context.worst_level = context.worst_level.min(worst.unwrap_or(WORST_LEVEL));
        }
    }

    /// What the reload that made this one has kept and changed.
    pub(super) fn since(&self, before: &Self) -> Reload {
        let name = |part: &Part| part.name.clone();
        let (kept, changed) = self.parts.iter().partition::<Vec<_>, _>(|part| part.is_of(before));
        let gone = |part: &&Part| self.parts.iter().all(|now| now.name != part.name);
        Reload {
            kept: kept.into_iter().map(name).collect(),
            changed: changed.into_iter().map(name).collect(),
            removed: before.parts.iter().filter(gone).map(name).collect(),
        }
    }

    pub(super) fn idempotency(&self) -> Option<IdempotencyHandle> {
        self.idempotency.as_ref().map(|(_, handle)| handle.clone())
    }

    /// What is the matter with the stores at the moment.
    pub(super) fn store_troubles(&self) -> Vec<StoreTrouble> {
        let mut troubles = self.stores.troubles();
        troubles.extend(self.idempotency.iter().flat_map(|(_, keys)| keys.troubles()));
        troubles.extend(self.people.iter().filter_map(|people| people.desk.trouble()));
        troubles
    }

    pub(super) fn cache(&self) -> Option<CacheHandle> {
        self.kept.as_ref().map(Kept::handle)
    }

    /// The primary's name, and those of the others in their order.
    pub(super) fn names(&self) -> (Arc<str>, Vec<Arc<str>>) {
        let mut names = self.parts.iter().map(|part| part.name.clone());
        let primary = names.next().expect("a plan has at least one tier");
        (primary, names.collect())
    }

    /// What looks at its chain of tiers.
    pub(super) fn outlook(&self) -> Outlook {
        self.fallback.outlook()
    }

    pub(super) fn circuits(&self) -> impl Iterator<Item = (Arc<str>, CircuitBreakerHandle)> {
        self.parts.iter().map(|part| (part.name.clone(), part.breaker.handle()))
    }

    pub(super) fn tiers(&self) -> impl Iterator<Item = TierInfo> {
        let info = |(part, tier): (&Part, &Tier)| TierInfo {
            name: part.name.clone(),
            provider: tier.provider,
            model: tier.model.as_deref().map(Into::into),
            level: tier.service_level(),
        };
        self.parts.iter().zip(&self.config.tiers).map(info)
    }

    pub(super) fn hedges(&self) -> impl Iterator<Item = (Arc<str>, HedgeHandle)> {
        self.hedges.handles()
    }

    /// What was spent of the caps of a tier, or of those of no tier.
    fn spend(&self, tier: Option<&str>) -> Option<&BudgetHandle> {
        self.spend.iter().find(|(of, _)| of.as_deref() == tier).map(|(_, handle)| handle)
    }

    pub(super) fn budgets(&self) -> impl Iterator<Item = &BudgetHandle> {
        let candidate = self.mirror.as_ref().and_then(|mirror| mirror.spend.as_ref());
        self.spend.iter().map(|(_, handle)| handle).chain(candidate)
    }

    pub(super) fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| &*part.name == name)
    }
}

fn said_of_levels(feature: Option<&config::Feature>) -> bool {
    feature.is_some_and(|feature| feature.worst_level.is_some())
}
