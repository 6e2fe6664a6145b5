//! Hedges between tiers, as configured in the file.

use std::sync::{Arc, OnceLock};

use tower::{Layer, util::Either};

use super::{StackContext, tier_runtime::TierService};
use crate::{Config, HedgeAfter, classifier, hedge::HedgePlan};
use steadfast::{
    BoxLlmService, FallbackLayer, HedgeHandle, HedgeLayer, InvalidConfig, LlmRequest, RetryBudget,
    layers::fallback::Eligibility,
};

/// The hedges of a configuration.
pub(super) struct Hedges {
    hedges: Vec<TierHedge>,
    /// The chain's outlook on allowed tiers, set once the chain exists.
    outlook: Arc<OnceLock<Eligibility>>,
}

struct TierHedge {
    tier: Arc<str>,
    to: Arc<str>,
    /// The plan; its index may be outdated.
    plan: HedgePlan,
    layer: HedgeLayer,
}

impl Hedges {
    /// Wraps the services of all hedged tiers. A hedge with unchanged settings keeps its observations and its budget.
    ///
    /// # Errors
    ///
    /// A share or a quantile is invalid.
    pub(super) fn around(
        config: &Config,
        services: &[TierService],
        retries: &[RetryBudget],
        context: &StackContext,
        before: Option<&Self>,
    ) -> Result<(Vec<TierService>, Self), InvalidConfig> {
        let mut all = Self { hedges: Vec::new(), outlook: Arc::default() };
        let mut hedged = Vec::new();
        for (at, (service, budget)) in services.iter().zip(retries).enumerate() {
            let service = service.clone();
            hedged.push(match config.hedge_plan(at) {
                None => service,
                Some(plan) => {
                    let layer = all.hedge(config, at, plan, services, budget, context, before)?;
                    Either::Left(BoxLlmService::new(layer.layer(service)))
                }
            });
        }
        Ok((hedged, all))
    }

    #[allow(clippy::too_many_arguments, reason = "what a configuration is made of")]
    fn hedge(
        &mut self,
        config: &Config,
        at: usize,
        plan: HedgePlan,
        services: &[TierService],
        budget: &RetryBudget,
        context: &StackContext,
        before: Option<&Self>,
    ) -> Result<HedgeLayer, InvalidConfig> {
        let (tier, to): (Arc<str>, Arc<str>) =
            (config.tiers[at].name.as_str().into(), config.tiers[plan.to].name.as_str().into());
        let known = before.and_then(|before| {
            let same = |known: &&TierHedge| {
                (&known.tier, &known.to) == (&tier, &to) && HedgePlan { to: plan.to, ..known.plan } == plan
            };
            before.hedges.iter().find(same)
        });
        let mut layer = HedgeLayer::new(tier.clone())
            .extra(plan.extra.0)?
            .budget(budget.clone())
            .classifier(classifier(config))
            .events(context.events.clone());
        layer = match plan.after {
            HedgeAfter::Quantile(share) => layer.quantile(share)?,
            HedgeAfter::Fixed(time) => layer.after(time.0),
        };
        let not = |feature: &crate::Feature| feature.hedge == Some(false);
        let others = config.default_feature.as_ref().is_some_and(not);
        if others || config.features.values().any(not) {
            let features: Vec<(String, bool)> =
                config.features.iter().map(|(name, feature)| (name.clone(), !not(feature))).collect();
            layer = layer.only(move |request| {
                let own = features.iter().find(|(name, _)| Some(name.as_str()) == request.feature());
                own.map_or(!others, |(_, may)| *may)
            });
        }
        if plan.to != at {
            // The chain decides which requests may go there: by their feature, their session and their needs.
            let (name, outlook) = (to.clone(), self.outlook.clone());
            let may = move |request: &LlmRequest| outlook.get().is_some_and(|outlook| outlook.admits(&name, request));
            layer = layer.tier(to.clone(), services[plan.to].clone()).sessions(true).at_last(may);
        }
        if let Some(known) = known {
            layer = layer.succeeding(&known.layer);
        }
        self.hedges.push(TierHedge { tier, to, plan, layer: layer.clone() });
        Ok(layer)
    }

    /// Lets the chain of tiers decide which tiers a request may use.
    pub(super) fn set_outlook(&self, chain: &FallbackLayer) {
        let _ = self.outlook.set(chain.eligibility());
    }

    pub(super) fn handles(&self) -> impl Iterator<Item = (Arc<str>, HedgeHandle)> {
        self.hedges.iter().map(|hedged| (hedged.tier.clone(), hedged.layer.handle()))
    }
}
