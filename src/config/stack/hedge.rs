//! Second calls from tier to tier, as the file says.

use std::sync::{Arc, OnceLock};

use tower::{Layer, util::Either};

use super::{Makings, part::TierService};
use crate::{
    BoxLlmService, FallbackLayer, HedgeHandle, HedgeLayer, InvalidConfig, LlmRequest, RetryBudget,
    config::{Config, HedgeAfter, classifier, hedge::Hedging},
    layers::fallback::Outlook,
};

/// The hedges of a configuration.
pub(super) struct Hedges {
    hedges: Vec<Hedged>,
    /// Where requests may go, known when the chain of the tiers is.
    outlook: Arc<OnceLock<Outlook>>,
}

struct Hedged {
    tier: Arc<str>,
    to: Arc<str>,
    /// But for the place.
    hedging: Hedging,
    layer: HedgeLayer,
}

impl Hedges {
    /// The services of all tiers with their hedges around them. One whose settings are those before goes on with what it
    /// has observed, and with its share.
    ///
    /// # Errors
    ///
    /// A share or a quantile that is none.
    pub(super) fn around(
        config: &Config,
        services: &[TierService],
        retries: &[RetryBudget],
        makings: &Makings,
        before: Option<&Self>,
    ) -> Result<(Vec<TierService>, Self), InvalidConfig> {
        let mut all = Self { hedges: Vec::new(), outlook: Arc::default() };
        let mut hedged = Vec::new();
        for (at, (service, budget)) in services.iter().zip(retries).enumerate() {
            let service = service.clone();
            hedged.push(match config.hedging(at) {
                None => service,
                Some(hedging) => {
                    let layer = all.hedge(config, at, hedging, services, budget, makings, before)?;
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
        hedging: Hedging,
        services: &[TierService],
        budget: &RetryBudget,
        makings: &Makings,
        before: Option<&Self>,
    ) -> Result<HedgeLayer, InvalidConfig> {
        let (tier, to): (Arc<str>, Arc<str>) =
            (config.tiers[at].name.as_str().into(), config.tiers[hedging.to].name.as_str().into());
        let known = before.and_then(|before| {
            let same = |known: &&Hedged| {
                (&known.tier, &known.to) == (&tier, &to) && Hedging { to: hedging.to, ..known.hedging } == hedging
            };
            before.hedges.iter().find(same)
        });
        let mut layer = HedgeLayer::new(tier.clone())
            .extra(hedging.extra.0)?
            .budget(budget.clone())
            .classifier(classifier(config))
            .events(makings.events.clone());
        layer = match hedging.after {
            HedgeAfter::Quantile(share) => layer.quantile(share)?,
            HedgeAfter::Fixed(time) => layer.after(time.0),
        };
        let not = |feature: &crate::config::Feature| feature.hedge == Some(false);
        let others = config.default_feature.as_ref().is_some_and(not);
        if others || config.features.values().any(not) {
            let features: Vec<(String, bool)> =
                config.features.iter().map(|(name, feature)| (name.clone(), !not(feature))).collect();
            layer = layer.only(move |request| {
                let own = features.iter().find(|(name, _)| Some(name.as_str()) == request.feature_name());
                own.map_or(!others, |(_, may)| *may)
            });
        }
        if hedging.to != at {
            // Which requests may go there is the chain's to say: by their feature, their session, what they need.
            let (name, outlook) = (to.clone(), self.outlook.clone());
            let may = move |request: &LlmRequest| outlook.get().is_some_and(|outlook| outlook.admits(&name, request));
            layer = layer.tier(to.clone(), services[hedging.to].clone()).sessions(true).at_last(may);
        }
        if let Some(known) = known {
            layer = layer.succeeding(&known.layer);
        }
        self.hedges.push(Hedged { tier, to, hedging, layer: layer.clone() });
        Ok(layer)
    }

    /// Lets the chain of the tiers say where requests may go.
    pub(super) fn go_by(&self, chain: &FallbackLayer) {
        let _ = self.outlook.set(chain.outlook());
    }

    pub(super) fn handles(&self) -> impl Iterator<Item = (Arc<str>, HedgeHandle)> {
        self.hedges.iter().map(|hedged| (hedged.tier.clone(), hedged.layer.handle()))
    }
}
