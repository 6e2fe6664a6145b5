//! Hedges between tiers, as configured in the file.

use std::sync::{Arc, OnceLock};

use tower::{Layer, util::Either};

use super::{context::StackContext, tier_runtime::TierService};
use crate::{Config, HedgeSettings, Tier, classifier, hedge::HedgePlan};
use steadfast::{
    BoxLlmService, FallbackLayer, HedgeHandle, HedgeLayer, InvalidConfig, LlmRequest, RetryBudget,
    layers::fallback::Eligibility,
};

/// For each tier, its hedge with its checked settings, but without the service of the second calls.
pub(crate) type HedgePlans = Vec<Option<(HedgePlan, HedgeLayer)>>;

/// Checks the hedges of all tiers.
///
/// # Errors
///
/// A share or a quantile is invalid.
pub(crate) fn plan(config: &Config, context: &StackContext) -> Result<HedgePlans, InvalidConfig> {
    let hedge = |at| {
        let with_layer = |plan| layer(config, at, &plan, context).map(|layer| (plan, layer));
        config.hedge_plan(at).map(with_layer).transpose()
    };
    (0..config.tiers.len()).map(hedge).collect()
}

fn layer(config: &Config, at: usize, plan: &HedgePlan, context: &StackContext) -> Result<HedgeLayer, InvalidConfig> {
    let layer = HedgeLayer::new(config.tiers[at].name.as_str());
    let layer = plan.settings.apply(layer.classifier(classifier(config)).events(context.events.clone()))?;
    let not = |feature: &crate::Feature| feature.hedge == Some(false);
    let others = config.default_feature.as_ref().is_some_and(not);
    if !others && !config.features.values().any(not) {
        return Ok(layer);
    }
    let features: Vec<(String, bool)> =
        config.features.iter().map(|(name, feature)| (name.clone(), !not(feature))).collect();
    Ok(layer.only(move |request| {
        let own = features.iter().find(|(name, _)| Some(name.as_str()) == request.feature());
        own.map_or(!others, |(_, may)| *may)
    }))
}

/// The hedges of a configuration.
pub(crate) struct Hedges {
    hedges: Vec<TierHedge>,
    /// The chain's outlook on allowed tiers, set once the chain exists.
    outlook: Arc<OnceLock<Eligibility>>,
}

struct TierHedge {
    tier: Arc<str>,
    to: Arc<str>,
    settings: HedgeSettings,
    layer: HedgeLayer,
}

impl Hedges {
    /// Wraps the services of all hedged tiers. A hedge with unchanged settings keeps its observations and its budget.
    pub(crate) fn around(
        plans: HedgePlans,
        config: &Config,
        services: &[TierService],
        retries: impl Fn(&Tier) -> RetryBudget,
        before: Option<&Self>,
    ) -> (Vec<TierService>, Self) {
        let mut all = Self { hedges: Vec::new(), outlook: Arc::default() };
        let mut hedged = services.to_vec();
        for (at, (plan, layer)) in plans.into_iter().enumerate().filter_map(|(at, plan)| Some((at, plan?))) {
            let name = |at: usize| Arc::<str>::from(config.tiers[at].name.as_str());
            let (tier, to) = (name(at), name(plan.to));
            let mut layer = layer.budget(retries(&config.tiers[at]));
            if plan.to != at {
                // The chain decides which requests may go there: by their feature, their session and their needs.
                let (name, outlook) = (to.clone(), all.outlook.clone());
                let may = move |request: &LlmRequest| outlook.get().is_some_and(|it| it.admits(&name, request));
                layer = layer.tier(to.clone(), services[plan.to].clone()).sessions(true).at_last(may);
            }
            if let Some(known) = before.and_then(|before| before.find(&tier, &to, &plan.settings)) {
                layer = layer.state(&known.layer.handle());
            }
            hedged[at] = Either::Left(BoxLlmService::new(layer.layer(services[at].clone())));
            all.hedges.push(TierHedge { tier, to, settings: plan.settings, layer });
        }
        (hedged, all)
    }

    /// Returns the hedge between these tiers, if its settings are the same.
    fn find(&self, tier: &str, to: &str, settings: &HedgeSettings) -> Option<&TierHedge> {
        self.hedges.iter().find(|known| (&*known.tier, &*known.to, &known.settings) == (tier, to, settings))
    }

    /// Lets the chain of tiers decide which tiers a request may use.
    pub(crate) fn set_outlook(&self, chain: &FallbackLayer) {
        let _ = self.outlook.set(chain.eligibility());
    }

    pub(crate) fn handles(&self) -> impl Iterator<Item = (Arc<str>, HedgeHandle)> {
        self.hedges.iter().map(|hedged| (hedged.tier.clone(), hedged.layer.handle()))
    }
}
