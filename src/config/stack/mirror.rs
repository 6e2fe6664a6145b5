//! The candidate beside the tiers.

use super::{
    Makings,
    generation::Generation,
    leaf::LeafPlan,
    part::{self, Part},
    settings, spend,
};
use crate::{
    BudgetHandle, Events, InvalidConfig, LlmRequest, MirrorHandle, MirrorLayer,
    config::{Candidate, Config, ConfigError, Environment, Mirror, Provider, Retry, Tier},
    models::FamilyTable,
    prices::PriceTable,
};

/// A candidate with its key looked up.
pub(super) struct CandidatePlan {
    tier: Tier,
    leaf: LeafPlan,
}

impl CandidatePlan {
    /// # Errors
    ///
    /// No tier has its name, it is no model, its key is missing, or its headers cannot be.
    pub(super) fn new(
        config: &Config,
        families: &FamilyTable,
        makings: &Makings,
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
        let leaf = LeafPlan::new(tier, place, families, makings, environment)?;
        let mut tier = tier.clone();
        let own = tier.retry.unwrap_or_default();
        // What fails in the shadow is worth knowing, and not worth a second call.
        tier.retry = Some(Retry { max_attempts: own.max_attempts.or(Some(1)), ..own });
        Ok(Some(Self { tier, leaf }))
    }
}

/// A mirror at work.
pub(super) struct Mirroring {
    candidate: Part,
    pub(super) layer: MirrorLayer,
    pub(super) spend: Option<BudgetHandle>,
}

impl Mirroring {
    pub(super) fn new(
        plan: CandidatePlan,
        mirror: &Mirror,
        config: &Config,
        prices: &PriceTable,
        makings: &Makings,
        before: Option<&Generation>,
    ) -> Result<Self, InvalidConfig> {
        let known = before.and_then(|before| before.mirror.as_ref());
        let CandidatePlan { tier, leaf } = plan;
        let (share, field) = part::retry_share(&tier, &leaf.place, config);
        let retries = settings::retry_budget(&field, share)?;
        // Its circuit tells nobody: under the name of a tier it would be taken for that one's.
        let part = Part::new(&tier, None, leaf, config, makings, &Events::new(), known.map(|known| &known.candidate))?;
        let mut caps = spend::candidate_budget(mirror.usd_per_day, &tier, prices, &makings.events)?;
        if let Some(before) = known.and_then(|known| known.spend.as_ref()) {
            caps = caps.map(|caps| caps.succeeding(before));
        }
        let spend = caps.as_ref().map(|caps| caps.handle());
        let service = part.service(&tier, config, retries, caps, makings);
        let mut layer = MirrorLayer::new(service).events(makings.events.clone()).prices(prices.clone());
        if let Some(share) = mirror.share {
            layer = layer.share(share.0);
        }
        if let Some(seed) = makings.seed("mirror") {
            layer = layer.seed(seed);
        }
        if mirror.by_session {
            layer = layer.by_session();
        }
        if let Some(features) = mirror.features.clone() {
            let of = move |name: &str| features.iter().any(|feature| feature == name);
            layer = layer.only(move |request: &LlmRequest| request.feature_name().is_some_and(&of));
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
        Ok(Self { candidate: part, layer, spend })
    }

    pub(super) fn handle(&self) -> MirrorHandle {
        self.layer.handle()
    }
}
