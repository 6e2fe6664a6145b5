//! The mirror's candidate beside the tiers.

use super::{
    StackContext,
    generation::Generation,
    leaf::LeafPlan,
    settings, spend,
    tier_runtime::{self, TierRuntime},
};
use crate::{Candidate, Config, ConfigError, Environment, Mirror, Provider, Retry, Tier};
use steadfast::{
    BudgetHandle, Events, InvalidConfig, LlmRequest, MirrorHandle, MirrorLayer, models::FamilyTable, prices::PriceTable,
};

/// A candidate with its key resolved.
pub(super) struct CandidatePlan {
    tier: Tier,
    leaf: LeafPlan,
}

impl CandidatePlan {
    /// Resolves the candidate's key.
    ///
    /// # Errors
    ///
    /// No tier has the candidate's name, it is not a model, its key is missing, or its headers are invalid.
    pub(super) fn new(
        config: &Config,
        families: &FamilyTable,
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
        let leaf = LeafPlan::new(tier, place, families, context, environment)?;
        let mut tier = tier.clone();
        let own = tier.retry.unwrap_or_default();
        // A shadow failure is informative by itself and not worth a second call.
        tier.retry = Some(Retry { max_attempts: own.max_attempts.or(Some(1)), ..own });
        Ok(Some(Self { tier, leaf }))
    }
}

/// An active mirror.
pub(super) struct MirrorState {
    candidate: TierRuntime,
    pub(super) layer: MirrorLayer,
    pub(super) spend: Option<BudgetHandle>,
}

impl MirrorState {
    pub(super) fn new(
        plan: CandidatePlan,
        mirror: &Mirror,
        config: &Config,
        prices: &PriceTable,
        context: &StackContext,
        before: Option<&Generation>,
    ) -> Result<Self, InvalidConfig> {
        let known = before.and_then(|before| before.mirror.as_ref());
        let CandidatePlan { tier, leaf } = plan;
        let (share, field) = tier_runtime::retry_share(&tier, &leaf.place, config);
        let retries = settings::retry_budget(&field, share)?;
        // The circuit sends no events: they would be taken for those of the tier with its name.
        let runtime =
            TierRuntime::new(&tier, None, leaf, config, context, &Events::new(), known.map(|known| &known.candidate))?;
        let mut caps = spend::candidate_budget(mirror.usd_per_day, &tier, prices, &context.events)?;
        if let Some(before) = known.and_then(|known| known.spend.as_ref()) {
            caps = caps.map(|caps| caps.succeeding(before));
        }
        let spend = caps.as_ref().map(|caps| caps.handle());
        let service = runtime.service(&tier, config, retries, caps, context);
        let mut layer = MirrorLayer::new(service).events(context.events.clone()).prices(prices.clone());
        if let Some(share) = mirror.share {
            layer = layer.share(share.0);
        }
        if let Some(seed) = context.seed("mirror") {
            layer = layer.seed(seed);
        }
        if mirror.by_session {
            layer = layer.by_session();
        }
        if let Some(features) = mirror.features.clone() {
            let of = move |name: &str| features.iter().any(|feature| feature == name);
            layer = layer.only(move |request: &LlmRequest| request.feature().is_some_and(&of));
        }
        if let Some(most) = mirror.max_in_flight {
            layer = layer.max_in_flight(most);
        }
        if let Some(timeout) = mirror.timeout {
            layer = layer.timeout(timeout.0);
        }
        if let Some(known) = known {
            layer = layer.succeeding(&known.handle());
        }
        Ok(Self { candidate: runtime, layer, spend })
    }

    pub(super) fn handle(&self) -> MirrorHandle {
        self.layer.handle()
    }
}
