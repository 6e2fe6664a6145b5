//! The mirror's candidate beside the tiers.

use super::{
    context::StackContext,
    leaf_plan::{LeafPlans, ModelTables},
    retry_budgets::retry_share,
    settings, spend,
    tier_runtime::{TierPlan, TierRuntime},
};
use crate::{Candidate, Config, ConfigError, Environment, Mirror, Provider, Retry, Tier};
use steadfast::{
    BudgetHandle, BudgetLayer, Events, InvalidConfig, LlmRequest, MirrorHandle, MirrorLayer, RetryBudget,
    prices::PriceTable,
};

/// A candidate with its key resolved.
pub(crate) struct CandidatePlan {
    tier: Tier,
    leaf: LeafPlans,
}

impl CandidatePlan {
    /// Resolves the candidate's key.
    ///
    /// # Errors
    ///
    /// No tier has the candidate's name, it is not a model, its key is missing, or its headers are invalid.
    pub(crate) fn new(
        config: &Config,
        tables: &ModelTables,
        context: &StackContext,
        environment: &Environment,
    ) -> Result<Option<Self>, ConfigError> {
        let Some(mirror) = &config.mirror else { return Ok(None) };
        let Some(tier) = config.candidate() else {
            return Err(InvalidConfig::new("mirror.to", "no tier has this name").into());
        };
        if matches!(tier.provider, Provider::Cached | Provider::Handoff) {
            return Err(InvalidConfig::new("mirror.to", Candidate::NO_MODEL).into());
        }
        let place = match &mirror.to {
            Candidate::Name(name) => format!("tiers.{name}"),
            Candidate::Tier(_) => "mirror.to".to_owned(),
        };
        let leaf = LeafPlans::new(tier, place, tables, context, environment)?;
        let mut tier = tier.clone();
        let own = tier.retry.unwrap_or_default();
        // A shadow failure is informative by itself and not worth a second call.
        tier.retry = Some(Retry { max_attempts: own.max_attempts.or(Some(1)), ..own });
        Ok(Some(Self { tier, leaf }))
    }
}

/// A mirror's checked settings.
pub(crate) struct MirrorPlan {
    tier: Tier,
    plan: TierPlan,
    retries: RetryBudget,
    caps: Option<BudgetLayer>,
}

impl MirrorPlan {
    /// Checks the settings of the candidate's circuit, its retries and its cap.
    ///
    /// # Errors
    ///
    /// A window, a share or an amount is invalid, or the candidate has a cap and no price.
    pub(crate) fn new(
        candidate: CandidatePlan,
        mirror: &Mirror,
        config: &Config,
        prices: &PriceTable,
        context: &StackContext,
    ) -> Result<Self, InvalidConfig> {
        let CandidatePlan { tier, leaf } = candidate;
        let (share, field) = retry_share(&tier, leaf.place(), config);
        let retries = settings::retry_budget(&field, share)?;
        // The circuit sends no events: they would be taken for those of the tier with its name.
        let plan = TierPlan::new(&tier, None, leaf, config, context, &Events::new())?;
        let caps = spend::candidate_budget(mirror.usd_per_day, &tier, prices, &context.events)?;
        Ok(Self { tier, plan, retries, caps })
    }
}

/// An active mirror.
pub(crate) struct MirrorState {
    candidate: TierRuntime,
    pub(crate) layer: MirrorLayer,
    pub(crate) spend: Option<BudgetHandle>,
}

impl MirrorState {
    /// Starts a mirror. It continues with the requests and the amounts of an earlier one.
    pub(crate) fn new(
        plan: MirrorPlan,
        mirror: &Mirror,
        config: &Config,
        prices: &PriceTable,
        context: &StackContext,
        known: Option<&Self>,
    ) -> Self {
        let MirrorPlan { tier, plan, retries, caps } = plan;
        let runtime = TierRuntime::new(&tier, plan, context, known.map(|known| &known.candidate));
        let caps = match known.and_then(|known| known.spend.as_ref()) {
            Some(before) => caps.map(|caps| caps.state(before)),
            None => caps,
        };
        let spend = caps.as_ref().map(BudgetLayer::handle);
        let service = runtime.service(&tier, config, retries, caps, context);
        let Mirror { to: _, share, by_session, features, max_in_flight, timeout, usd_per_day: _ } = mirror;
        let mut layer = MirrorLayer::new(service).events(context.events.clone()).prices(prices.clone());
        if let Some(share) = share {
            layer = layer.share(share.0);
        }
        if let Some(seed) = context.seed("mirror") {
            layer = layer.seed(seed);
        }
        if *by_session {
            layer = layer.by_session();
        }
        if let Some(features) = features.clone() {
            let of = move |name: &str| features.iter().any(|feature| feature == name);
            layer = layer.only(move |request: &LlmRequest| request.feature().is_some_and(&of));
        }
        if let Some(most) = *max_in_flight {
            layer = layer.max_in_flight(most);
        }
        if let Some(timeout) = timeout {
            layer = layer.timeout(timeout.0);
        }
        if let Some(known) = known {
            layer = layer.state(&known.handle());
        }
        Self { candidate: runtime, layer, spend }
    }

    pub(crate) fn handle(&self) -> MirrorHandle {
        self.layer.handle()
    }
}
