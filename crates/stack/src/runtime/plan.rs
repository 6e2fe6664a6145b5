//! A configuration whose every name, key and value is checked. Building a stack from it can fail only at a store.

use std::sync::Arc;

#[cfg(feature = "alerts")]
use super::parts::alert_plan::AlertPlan;
use super::parts::{
    cache::CacheState,
    chain,
    context::StackContext,
    handoff::HandoffPlan,
    hedge::{self, HedgePlans},
    leaf_plan::{LeafPlans, ModelTables},
    mirror::{CandidatePlan, MirrorPlan},
    retry_budgets::RetryBudgets,
    routes::Routes,
    settings,
    spend::{self, Caps},
    tier_runtime::TierPlan,
    validate::Validators,
};
use crate::{self as config, Config, ConfigError, Environment, Problem, Provider};
use steadfast::{
    BulkheadLayer, InvalidConfig,
    models::{FamilyTable, ModelDoors},
    prices::PriceTable,
};

/// A checked configuration.
pub(super) struct Plan {
    pub(super) config: Arc<Config>,
    #[cfg(feature = "alerts")]
    pub(super) alerts: Arc<AlertPlan>,
    pub(super) families: FamilyTable,
    /// The crate's prices with the file's over them.
    pub(super) prices: PriceTable,
    pub(super) tiers: Vec<TierPlan>,
    /// The tiers of the lane.
    pub(super) lane: Vec<TierPlan>,
    pub(super) retry_budgets: RetryBudgets,
    pub(super) caps: Caps,
    pub(super) validators: Validators,
    pub(super) hedges: HedgePlans,
    pub(super) routes: Option<Routes>,
    pub(super) bulkhead: BulkheadLayer,
    pub(super) mirror: Option<MirrorPlan>,
    pub(super) handoff: Option<HandoffPlan>,
}

/// The parts of a configuration that depend on the environment: its keys, secrets and servers.
struct ResolvedParts {
    families: FamilyTable,
    prices: PriceTable,
    leaves: Vec<LeafPlans>,
    /// The leaves of the lane.
    lane: Vec<LeafPlans>,
    candidate: Option<CandidatePlan>,
    handoff: Option<HandoffPlan>,
    #[cfg(feature = "alerts")]
    alerts: AlertPlan,
}

impl Plan {
    /// Checks a configuration and resolves its keys. It opens no store and makes no call. `beside` holds caps from
    /// outside the configuration.
    ///
    /// # Errors
    ///
    /// Every problem with the tiers, keys and secrets; without any, the first of the other settings.
    pub(super) fn new(config: Config, context: &StackContext, beside: &[config::Budget]) -> Result<Self, ConfigError> {
        let config = config.ordered();
        let resolved = ResolvedParts::new(&config, context)?;
        let prices = resolved.prices;
        CacheState::check(&config, context)?;
        let mut tiers = Vec::new();
        for (place, (tier, leaf)) in config.tiers.iter().zip(resolved.leaves).enumerate() {
            tiers.push(TierPlan::new(tier, Some(place), leaf, &config, context, &context.events)?);
        }
        let mut lane = Vec::new();
        for (tier, leaf) in config.lane.iter().flat_map(|lane| &lane.tiers).zip(resolved.lane) {
            lane.push(TierPlan::new(tier, None, leaf, &config, context, &context.events)?);
        }
        let mirror = resolved.candidate.zip(config.mirror.as_ref());
        let mirror = mirror.map(|(plan, mirror)| MirrorPlan::new(plan, mirror, &config, &prices, context));
        chain::check(&config, context)?;
        Ok(Self {
            families: resolved.families,
            tiers,
            lane,
            retry_budgets: RetryBudgets::new(&config)?,
            caps: Caps::new(&config, beside, &prices, &context.events)?,
            bulkhead: settings::bulkhead(&config)?,
            validators: Validators::new(&config)?,
            routes: Routes::new(&config, &prices)?,
            mirror: mirror.transpose()?,
            hedges: hedge::plan(&config, context)?,
            handoff: resolved.handoff,
            #[cfg(feature = "alerts")]
            alerts: Arc::new(resolved.alerts),
            prices,
            config: Arc::new(config),
        })
    }
}

impl ResolvedParts {
    /// Resolves keys and secrets.
    ///
    /// # Errors
    ///
    /// Every missing key of a tier or webhook, every tier with an invalid header or server, and a file without tiers.
    fn new(config: &Config, context: &StackContext) -> Result<Self, ConfigError> {
        let environment = context.environment();
        let mut problems: Vec<Problem> = Vec::new();
        if config.tiers.is_empty() {
            problems.push(InvalidConfig::new("tiers", "no tiers; name at least one").into());
        }
        let families = config.family_table().unwrap_or_else(|error| {
            problems.push(error.into());
            FamilyTable::builtin()
        });
        let doors = config.model_doors().unwrap_or_else(|error| {
            problems.push(error.into());
            ModelDoors::builtin()
        });
        let prices = spend::prices(config).unwrap_or_else(|error| {
            problems.push(error.into());
            PriceTable::builtin()
        });
        let tables = ModelTables { families, doors, prices };
        let leaves = leaves(config, &tables, context, &environment, &mut problems);
        let lane = lane_leaves(config, &tables, context, &environment, &mut problems);
        let candidate = CandidatePlan::new(config, &tables, context, &environment).unwrap_or_else(|error| {
            // If the candidate is also a tier, the tier has reported its errors already.
            let news: Vec<_> = error.problems().iter().filter(|problem| !problems.contains(problem)).cloned().collect();
            problems.extend(news);
            None
        });
        let handoff = HandoffPlan::new(config, context, &environment).unwrap_or_else(|error| {
            problems.extend_from_slice(error.problems());
            None
        });
        #[cfg(feature = "alerts")]
        let alerts = AlertPlan::new(config, context, &environment, &mut problems);
        if !problems.is_empty() {
            return Err(ConfigError::new(problems));
        }
        Ok(Self {
            families: tables.families,
            prices: tables.prices,
            leaves,
            lane,
            candidate,
            handoff,
            #[cfg(feature = "alerts")]
            alerts,
        })
    }
}

/// Resolves the leaves of all tiers. Errors are added to the problems.
fn leaves(
    config: &Config,
    tables: &ModelTables,
    context: &StackContext,
    environment: &Environment,
    problems: &mut Vec<Problem>,
) -> Vec<LeafPlans> {
    let mut leaves = Vec::new();
    for (place, tier) in config.tiers.iter().enumerate() {
        if tier.name.is_empty() {
            problems.push(InvalidConfig::new("tiers", "a tier has no name; name it after its model").into());
        } else if config.tiers[..place].iter().any(|other| other.name == tier.name) {
            let problem = format!("two tiers are named `{}`; give each a name of its own", tier.name);
            problems.push(InvalidConfig::new("tiers", problem).into());
        }
        if tier.provider == Provider::Cached && config.cache.is_none() && context.leaf(&tier.name).is_none() {
            let problem = "a cached tier needs the cache; add a `cache` block";
            problems.push(InvalidConfig::new(format!("tiers.{}.provider", tier.name), problem).into());
        }
        match LeafPlans::new(tier, format!("tiers.{}", tier.name), tables, context, environment) {
            Ok(plan) => leaves.push(plan),
            Err(error) => problems.extend_from_slice(error.problems()),
        }
    }
    leaves
}

/// Resolves the leaves of the lane's tiers. Errors are added to the problems.
fn lane_leaves(
    config: &Config,
    tables: &ModelTables,
    context: &StackContext,
    environment: &Environment,
    problems: &mut Vec<Problem>,
) -> Vec<LeafPlans> {
    let mut leaves = Vec::new();
    for tier in config.lane.iter().flat_map(|lane| &lane.tiers) {
        if config.all_tiers().filter(|other| other.name == tier.name).count() > 1 {
            let problem = format!("two tiers are named `{}`; give each a name of its own", tier.name);
            problems.push(InvalidConfig::new("lane.tiers", problem).into());
        }
        match LeafPlans::new(tier, format!("lane.tiers.{}", tier.name), tables, context, environment) {
            Ok(plan) => leaves.push(plan),
            Err(error) => problems.extend_from_slice(error.problems()),
        }
    }
    leaves
}
