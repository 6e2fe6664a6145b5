//! One configuration at work: its tiers, and the whole around them. A reload makes the next one out of this.

use std::{collections::HashMap, sync::Arc};

use tower::{Layer, ServiceBuilder};

use super::{
    Makings, Reload, TierInfo,
    leaf::{Leaf, LeafPlan},
    settings,
};
use crate::{
    Bulkhead, BulkheadHandle, CircuitBreaker, CircuitBreakerHandle, CircuitBreakerLayer, Context, Fallback,
    FallbackLayer, InvalidConfig, LlmRequest, Observe, ObserveLayer, RetryBudget, RetryWithJitter, Timeout,
    config::{
        self, CircuitBreaker as BreakerSettings, Config, ConfigError, OnError, Problem, Provider, Share, Tier,
        classifier,
    },
    layers::fallback::{self, Capabilities, RampStep},
};

/// A tier's service.
type TierService = RetryWithJitter<CircuitBreaker<Timeout<Leaf>>>;
/// The whole.
pub(super) type Whole = Observe<Timeout<Bulkhead<Fallback<TierService>>>>;

/// One configuration at work.
pub(super) struct Generation {
    pub(super) config: Arc<Config>,
    parts: Vec<Part>,
    budgets: Budgets,
    fallback: FallbackLayer,
    pub(super) bulkhead: BulkheadHandle,
    /// For all features that have no time of their own.
    pub(super) whole: Whole,
    /// The same with another limit of time, for those that have one.
    timed: HashMap<String, Whole>,
    /// The same for features that are not named, where those have another.
    others: Option<Whole>,
    /// The worst level that these accept, where it is said.
    others_worst_level: Option<u8>,
    /// How many attempts a request may take that does not say so itself, where the tiers' own say more than is usual.
    attempts: Option<u16>,
}

/// What a tier keeps over a reload that does not change it.
#[derive(Clone)]
struct Part {
    name: Arc<str>,
    plan: LeafPlan,
    leaf: Leaf,
    settings: BreakerSettings,
    /// The failures that count, where the file lists them.
    on_error: Option<Vec<OnError>>,
    breaker: CircuitBreakerLayer,
}

/// The retry budgets: the one that tiers share, and those of tiers with a share of their own (by name).
type Budgets = HashMap<Option<String>, (Option<Share>, RetryBudget)>;

/// A configuration with the keys looked up.
pub(super) struct Plan {
    config: Arc<Config>,
    leaves: Vec<LeafPlan>,
}

impl Plan {
    /// # Errors
    ///
    /// Every tier whose key is missing or whose headers cannot be, and a file without tiers.
    pub(super) fn new(config: Config, makings: &Makings) -> Result<Self, ConfigError> {
        let environment = makings.environment();
        let commit = config.stream.commit.unwrap_or_default();
        let mut problems: Vec<Problem> = Vec::new();
        if config.tiers.is_empty() {
            problems.push(InvalidConfig::new("tiers", "there is none; name at least one tier").into());
        }
        let mut leaves = Vec::new();
        for (place, tier) in config.tiers.iter().enumerate() {
            if tier.name.is_empty() {
                problems.push(InvalidConfig::new("tiers", "a tier has no name; name it after its model").into());
            } else if config.tiers[..place].iter().any(|other| other.name == tier.name) {
                let problem = format!("two tiers are named `{}`; give each a name of its own", tier.name);
                problems.push(InvalidConfig::new("tiers", problem).into());
            }
            match LeafPlan::new(tier, commit, makings, &environment) {
                Ok(plan) => leaves.push(plan),
                Err(problem) => problems.push(problem),
            }
        }
        match problems.is_empty() {
            true => Ok(Self { config: Arc::new(config), leaves }),
            false => Err(ConfigError::new(problems)),
        }
    }
}

impl Generation {
    /// The stack of a plan. What an earlier one had and this one has unchanged goes on in it; nothing of the earlier one
    /// is touched unless all is well.
    pub(super) fn new(plan: Plan, makings: &Makings, before: Option<&Self>) -> Result<Self, InvalidConfig> {
        let Plan { config, leaves } = plan;
        let mut parts: Vec<Part> = Vec::new();
        let mut budgets = Budgets::new();
        let mut services = Vec::new();
        for (place, (tier, plan)) in config.tiers.iter().zip(leaves).enumerate() {
            let part = Part::new(tier, place, plan, &config, makings, before)?;
            let budget = budget(&mut budgets, tier, &config, before)?;
            services.push(part.service(tier, &config, budget, makings));
            parts.push(part);
        }
        let (fallback, primary) = chain(&config, services, makings)?;
        let fallback = match before {
            Some(before) => {
                let kept = parts.iter().filter(|part| part.is_of(before)).map(|part| &*part.name);
                fallback.succeeding(&before.fallback, kept)
            }
            None => fallback,
        };
        let bulkhead = settings::bulkhead(&config)?;
        // From here on nothing can fail, for the limits of what is in flight move with the next line.
        let bulkhead = match before {
            Some(before) => bulkhead.succeeding(&before.bulkhead),
            None => bulkhead,
        };
        let inner = ServiceBuilder::new()
            // One place for a request, however many tiers it tries; its wait counts against the request's time.
            .layer(&bulkhead)
            .layer(&fallback)
            .service(primary);
        // Outermost, so that what is told is what the caller saw.
        let observe = ObserveLayer::new(makings.events.clone());
        let whole = |limit| observe.layer(settings::total(limit).layer(inner.clone()));
        let own = |(name, feature): (&String, &config::Feature)| Some((name.clone(), whole(Some(feature.timeout?))));
        let timed = config.features.iter().filter_map(own).collect();
        let others = config.default_feature.as_ref().and_then(|feature| feature.timeout);
        let (others, whole) = (others.map(|limit| whole(Some(limit))), whole(config.timeout));
        Ok(Self {
            bulkhead: bulkhead.handle(),
            others_worst_level: config.default_feature.as_ref().and_then(|feature| feature.worst_level),
            attempts: attempts(&config),
            config,
            parts,
            budgets,
            fallback,
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
        if let Some(worst) = self.others_worst_level
            && request.feature_name().is_none_or(|feature| !self.config.features.contains_key(feature))
        {
            let context = request.context_mut();
            context.worst_level = context.worst_level.min(worst);
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

    /// The primary's name, and those of the others in their order.
    pub(super) fn names(&self) -> (Arc<str>, Vec<Arc<str>>) {
        let mut names = self.parts.iter().map(|part| part.name.clone());
        let primary = names.next().expect("a plan has at least one tier");
        (primary, names.collect())
    }

    pub(super) fn circuits(&self) -> impl Iterator<Item = (Arc<str>, CircuitBreakerHandle)> {
        self.parts.iter().map(|part| (part.name.clone(), part.breaker.handle()))
    }

    pub(super) fn tiers(&self) -> impl Iterator<Item = TierInfo> {
        let info = |(part, tier): (&Part, &Tier)| TierInfo {
            name: part.name.clone(),
            provider: tier.provider,
            model: tier.model.as_deref().map(Into::into),
            level: level(tier),
        };
        self.parts.iter().zip(&self.config.tiers).map(info)
    }

    fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| &*part.name == name)
    }
}

impl Part {
    fn new(
        tier: &Tier,
        place: usize,
        plan: LeafPlan,
        config: &Config,
        makings: &Makings,
        before: Option<&Generation>,
    ) -> Result<Self, InvalidConfig> {
        // How often the primary is looked at is what its circuit's cooldown is.
        let check = config.fallback.recovery_check.filter(|_| place == 0);
        let settings = settings::merged_breaker(tier.circuit_breaker, check, config.circuit_breaker);
        let on_error = &config.fallback.on_error;
        let known = before.and_then(|before| before.part(&tier.name)).filter(|known| known.plan == plan);
        if let Some(known) = known
            && (&known.settings, &known.on_error) == (&settings, on_error)
        {
            return Ok(known.clone());
        }
        let leaf = match known {
            Some(known) => known.leaf.clone(),
            None => plan.leaf(makings)?,
        };
        let mut breaker =
            CircuitBreakerLayer::new(tier.name.as_str()).classifier(classifier(config)).events(makings.events.clone());
        if let Some(seed) = makings.seed(&tier.name) {
            breaker = breaker.seed(seed);
        }
        let breaker = settings::breaker(&format!("tiers.{}.circuit_breaker", tier.name), breaker, &settings)?;
        let (name, on_error) = (tier.name.as_str().into(), on_error.clone());
        Ok(Self { name, plan, leaf, settings, on_error, breaker })
    }

    /// Whether its leaf and its circuit are those of an earlier generation.
    fn is_of(&self, before: &Generation) -> bool {
        before.part(&self.name).is_some_and(|known| {
            (&known.plan, &known.settings, &known.on_error) == (&self.plan, &self.settings, &self.on_error)
        })
    }

    fn service(&self, tier: &Tier, config: &Config, budget: RetryBudget, makings: &Makings) -> TierService {
        let retry = settings::merged_retry(tier.retry, config.retry);
        ServiceBuilder::new()
            .layer(settings::retry(retry, budget, makings.seed(&tier.name)))
            // Inside of the retry, so that each attempt is asked and counted, and an open circuit ends the retrying.
            .layer(&self.breaker)
            // Inside of the breaker, so that silence counts as a failure.
            .layer(settings::attempt(tier.timeout))
            .service(self.leaf.clone())
    }
}

/// How many attempts all tiers together may make, where somebody has said how many each may: it would mean nothing if the
/// usual bound of a request stood before it.
fn attempts(config: &Config) -> Option<u16> {
    let own = |tier: &Tier| settings::merged_retry(tier.retry, config.retry).max_attempts;
    let said = config.tiers.iter().any(|tier| own(tier).is_some());
    let all = config.tiers.iter().map(|tier| own(tier).unwrap_or(ATTEMPTS).max(1)).fold(0, u16::saturating_add);
    (said && all > Context::default().attempts_left).then_some(all)
}

/// The retry layer's own number of attempts.
const ATTEMPTS: u16 = 3;

/// The tiers in their order around the primary, which is the last layer's service.
fn chain(
    config: &Config,
    services: Vec<TierService>,
    makings: &Makings,
) -> Result<(FallbackLayer, TierService), InvalidConfig> {
    let settings = &config.fallback;
    let mut tiers = config.tiers.iter().zip(services);
    let Some((first, primary)) = tiers.next() else {
        return Err(InvalidConfig::new("tiers", "there is none; name at least one tier"));
    };
    let mut layer = FallbackLayer::new(first.name.as_str())
        .capabilities(capabilities(first))
        .level(level(first))
        .classifier(classifier(config))
        .events(makings.events.clone())
        .stream_break(config.stream.on_break.map(settings::stream_break).unwrap_or_default())
        .session(settings.session.map(settings::session).unwrap_or_default())
        .all_open(settings.all_open.map(settings::all_open).unwrap_or_default())
        .gradually(settings.gradually.iter().map(|step| RampStep::new(step.percent, step.lasts.0)));
    if first.last_resort {
        layer = layer.last_resort();
    }
    if let Some(time) = first.min_useful {
        layer = layer.primary_min_useful(time.0);
    }
    if let Some(time) = settings.keep_back {
        layer = layer.keep_back(time.0);
    }
    if let Some(time) = settings.min_useful {
        layer = layer.min_useful(time.0);
    }
    for (tier, service) in tiers {
        let mut place =
            fallback::Tier::new(tier.name.as_str(), service).capabilities(capabilities(tier)).level(level(tier));
        if tier.last_resort {
            place = place.last_resort();
        }
        if let Some(time) = tier.min_useful {
            place = place.min_useful(time.0);
        }
        layer = layer.push(place);
    }
    for (name, feature) in &config.features {
        check_level(config, &format!("features.{name}"), feature)?;
        if let Some(tiers) = &feature.tiers {
            layer = layer.feature(name.as_str(), tiers.iter().map(String::as_str))?;
        }
        if let Some(worst) = feature.worst_level {
            layer = layer.feature_worst_level(name.as_str(), worst);
        }
    }
    if let Some(feature) = &config.default_feature {
        check_level(config, "default_feature", feature)?;
        if let Some(tiers) = &feature.tiers {
            layer = layer.other_features(tiers.iter().map(String::as_str))?;
        }
    }
    for (kind, tiers) in &settings.routes {
        let kind = settings::kind("fallback.routes", kind)?;
        layer = layer.route(kind, tiers.iter().map(String::as_str))?;
    }
    Ok((layer, primary))
}

/// A feature that accepts none of the tiers that it may use would have no answer at all.
fn check_level(config: &Config, field: &str, feature: &config::Feature) -> Result<(), InvalidConfig> {
    let Some(worst) = feature.worst_level else { return Ok(()) };
    let may_use = |tier: &&Tier| feature.tiers.as_ref().is_none_or(|tiers| tiers.contains(&tier.name));
    if config.tiers.iter().filter(may_use).any(|tier| level(tier) <= worst) {
        return Ok(());
    }
    let problem = format!("no tier that it may use is of level {worst} or better");
    Err(InvalidConfig::new(format!("{field}.worst_level"), problem))
}

/// The level of an answer that is all that was asked for.
const FULL: u8 = 1;
/// The level of a fixed text.
const STATIC: u8 = 5;

fn level(tier: &Tier) -> u8 {
    tier.level.unwrap_or(if tier.provider == Provider::Canned { STATIC } else { FULL })
}

fn capabilities(tier: &Tier) -> Capabilities {
    let mut can = Capabilities::new();
    if let Some(tokens) = tier.context_window {
        can = can.context_window(tokens);
    }
    if let Some(tokens) = tier.max_output {
        can = can.max_output(tokens);
    }
    if let Some(images) = tier.images {
        can = can.images(images);
    }
    if let Some(documents) = tier.documents {
        can = can.documents(documents);
    }
    if let Some(tools) = tier.tools {
        can = can.tools(tools);
    }
    if let Some(schema) = tier.output_schema {
        can = can.output_schema(schema);
    }
    if let Some(prefill) = tier.prefill {
        can = can.prefill(prefill);
    }
    can
}

/// The retry budget of a tier: that of the file, which all share, unless it has a share of its own.
fn budget(
    budgets: &mut Budgets,
    tier: &Tier,
    config: &Config,
    before: Option<&Generation>,
) -> Result<RetryBudget, InvalidConfig> {
    let own = tier.retry.and_then(|retry| retry.budget);
    let (key, share, field) = match own {
        Some(share) => (Some(tier.name.clone()), Some(share), format!("tiers.{}.retry.budget", tier.name)),
        None => (None, config.retry.budget, "retry.budget".to_owned()),
    };
    if let Some((_, budget)) = budgets.get(&key) {
        return Ok(budget.clone());
    }
    let known = before.and_then(|before| before.budgets.get(&key)).filter(|(known, _)| *known == share);
    let budget = match known {
        Some((_, budget)) => budget.clone(),
        None => settings::retry_budget(&field, share)?,
    };
    budgets.insert(key, (share, budget.clone()));
    Ok(budget)
}
