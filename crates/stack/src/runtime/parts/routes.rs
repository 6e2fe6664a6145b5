//! The routes of simple requests to cheaper chains.

use super::{chain, context::StackContext, spend::price_of, tier_runtime::TierService};
use crate::{Config, Route, classifier};
use steadfast::{
    FallbackLayer, InvalidConfig, RouteLayer,
    layers::{
        fallback::{self, FeaturePolicy},
        route::Rule,
    },
    models::FamilyTable,
    prices::PriceTable,
};

/// The rules that send simple requests to cheaper chains, with the chains' tiers as places in the configuration.
pub(crate) struct Routes {
    layer: RouteLayer,
    rules: Vec<(Rule, Vec<usize>)>,
}

impl Routes {
    /// Checks the rules; `None` without rules.
    ///
    /// # Errors
    ///
    /// A chain is empty, or names no tier.
    pub(crate) fn new(config: &Config, prices: &PriceTable) -> Result<Option<Self>, InvalidConfig> {
        if config.routes.is_empty() {
            return Ok(None);
        }
        let mut layer = RouteLayer::new().classifier(classifier(config)).prices(prices.clone());
        if let Some(time) = config.fallback.keep_back {
            layer = layer.reserve_for_default(time.0);
        }
        if let Some(primary) = config.tiers.first().filter(|tier| price_of(prices, tier).is_some()) {
            layer = layer.instead_of(Some(primary.provider.name()), primary.model.as_deref().unwrap_or_default());
        }
        let rules = config.routes.iter().map(|route| Ok((rule(route, config), places(route, config)?)));
        Ok(Some(Self { layer: layer.checked()?, rules: rules.collect::<Result<_, InvalidConfig>>()? }))
    }

    /// Returns the layer that sends requests to chains of these services, those of all tiers in order.
    pub(crate) fn layer(
        self,
        config: &Config,
        families: &FamilyTable,
        services: &[TierService],
        context: &StackContext,
    ) -> RouteLayer {
        self.rules.into_iter().zip(&config.routes).fold(self.layer, |layer, ((rule, places), route)| {
            let mut chain = places.into_iter().map(|place| (&config.tiers[place], services[place].clone()));
            let (first, primary) = chain.next().expect("a checked chain has a tier");
            // This chain reports no switches: those concern the default chain, which serves if this one does not. A
            // pinned level that excludes this chain leaves the request to the default one.
            let mut fallback = FallbackLayer::new(first.name.as_str())
                .chain_id(chain::id_of_route(route))
                .primary(chain::tier_settings(first, families))
                .steered_by(&context.fallback)
                .default_policy(FeaturePolicy::new().pins_are_final(true))
                .classifier(classifier(config));
            for (tier, service) in chain {
                let settings = chain::tier_settings(tier, families);
                fallback = fallback.push(fallback::Tier::new(tier.name.as_str(), service).settings(settings));
            }
            for (name, feature) in &config.features {
                if let Some(worst) = feature.worst_level {
                    let policy = FeaturePolicy::new().worst_level(worst);
                    fallback = fallback.feature(name.as_str(), policy);
                }
            }
            layer.rule(rule, tower::Layer::layer(&fallback, primary))
        })
    }
}

/// Returns the places of a route's tiers in the configuration.
fn places(route: &Route, config: &Config) -> Result<Vec<usize>, InvalidConfig> {
    let wrong = |problem: String| InvalidConfig::new(format!("routes.{}.tiers", route.name), problem);
    if route.tiers.is_empty() {
        return Err(wrong("the chain is empty; name at least one tier".to_owned()));
    }
    let place = |name: &String| {
        let place = config.tiers.iter().position(|tier| tier.name == *name);
        place.ok_or_else(|| wrong(format!("no tier is named `{name}`")))
    };
    route.tiers.iter().map(place).collect()
}

fn rule(route: &Route, config: &Config) -> Rule {
    let mut rule = Rule::new(route.name.as_str());
    for feature in route.when.features.iter().flatten() {
        rule = rule.feature(feature.as_str());
    }
    if let Some(tokens) = route.when.max_input_tokens {
        rule = rule.max_input_tokens(tokens);
    }
    if let Some(tokens) = route.when.max_output_tokens {
        rule = rule.max_output_tokens(tokens);
    }
    if let Some(tools) = route.when.tools {
        rule = rule.tools(tools);
    }
    // Only its own tiers serve a feature that names them, however simple its request.
    let closed: Vec<String> = config
        .features
        .iter()
        .filter(|(_, feature)| {
            let may_use = |tier: &String| feature.tiers.as_ref().is_none_or(|tiers| tiers.contains(tier));
            !route.tiers.iter().all(may_use)
        })
        .map(|(name, _)| name.clone())
        .collect();
    match closed.is_empty() {
        true => rule,
        false => rule.when(move |request| {
            request.feature().is_none_or(|feature| !closed.iter().any(|closed| closed == feature))
        }),
    }
}
