//! The tiers in their order, as a fallback.

use std::sync::Arc;

use tower::Service;

use super::{context::StackContext, settings};
use crate::{self as config, Config, GoesOnBy, Provider, StreamBreak, Tier, classifier};
use steadfast::{
    Context, FallbackLayer, InvalidConfig, LlmError, LlmRequest, LlmResponse, RetryWithJitterLayer,
    layers::fallback::{self, Capabilities, FeaturePolicy, RampStep, TierSettings},
    models::FamilyTable,
    providers::Canned,
};
use steadfast_subscribers::ChainSetup;

/// Returns the total attempts for all tiers, if the file sets the number for any tier and the total exceeds a
/// request's usual bound, which would otherwise override the file. A fallback reserves the usual number for each tier
/// after the current one.
pub(crate) fn attempts(config: &Config) -> Option<u16> {
    let own = |tier: &Tier| tier.retry.unwrap_or_default().or(config.retry).max_attempts;
    let said = config.tiers.iter().any(|tier| own(tier).is_some());
    let all = config
        .tiers
        .iter()
        .map(|tier| own(tier).unwrap_or_default().max(RetryWithJitterLayer::MAX_ATTEMPTS))
        .fold(0, u16::saturating_add);
    (said && all > Context::default().attempts_left).then_some(all)
}

/// The service of a tier in a chain.
pub(crate) trait TierLike:
    Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S> TierLike for S where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + 'static
{
}

/// Checks the chain of tiers: the names in its lists, its levels, and the kinds of failures.
pub(crate) fn check(config: &Config, context: &StackContext) -> Result<(), InvalidConfig> {
    // A chain of names: no request reaches its services.
    let names = vec![Canned::text(""); config.tiers.len()];
    chain(config, &names, context).map(drop)
}

/// Returns a fallback layer over all tiers, and the primary service to wrap with it.
pub(crate) fn chain<S: TierLike>(
    config: &Config,
    services: &[S],
    context: &StackContext,
) -> Result<(FallbackLayer, S), InvalidConfig> {
    let config::Fallback {
        order: _,
        keep_back,
        min_useful,
        budget,
        session,
        all_open: _,
        gradually,
        routes,
        on_error: _,
        recovery_check: _,
    } = &config.fallback;
    let mut tiers = config.tiers.iter().zip(services.iter().cloned());
    let Some((first, primary)) = tiers.next() else {
        return Err(InvalidConfig::new("tiers", "no tiers; name at least one"));
    };
    let families = config.family_table()?;
    // The chains of `routes` leave models out: the file alone determines their order.
    let model = |tier: &Tier| tier.model.as_deref().unwrap_or(&tier.name).to_owned();
    let mut layer = FallbackLayer::new(first.name.as_str())
        .primary(with_account(config, first, tier_settings(first, &families).model(model(first))))
        .primary_again(primary.clone())
        .steered_by(&context.fallback)
        .classifier(classifier(config))
        .events(context.events.clone())
        .session(session.map(settings::session).unwrap_or_default())
        .gradually(gradually.iter().map(|step| RampStep::new(step.percent, step.lasts.0)));
    if let Some(time) = keep_back {
        layer = layer.reserve_for_fallbacks(time.0);
    }
    if budget.is_some() {
        layer = layer.budget(settings::retry_budget("fallback.budget", *budget)?);
    }
    for (tier, service) in tiers {
        let settings = with_account(config, tier, tier_settings(tier, &families).model(model(tier)));
        layer = layer.push(fallback::Tier::new(tier.name.as_str(), service).settings(settings));
    }
    for (name, feature) in &config.features {
        check_level(config, &format!("features.{name}"), feature)?;
        let mut policy = policy(config, context, Some(feature));
        if let Some(worst) = feature.worst_level {
            policy = policy.worst_level(worst);
        }
        layer = layer.feature(name.as_str(), policy);
    }
    if let Some(feature) = &config.default_feature {
        check_level(config, "default_feature", feature)?;
    }
    let mut others = policy(config, context, config.default_feature.as_ref());
    if let Some(time) = min_useful {
        others = others.min_useful(time.0);
    }
    layer = layer.default_policy(others);
    for (name, model) in &config.models {
        layer = layer.model(name.as_str(), model.tiers.iter().map(String::as_str));
    }
    for (kind, tiers) in routes {
        let kind = settings::kind("fallback.routes", kind)?;
        layer = layer.route(kind, tiers.iter().map(String::as_str));
    }
    Ok((layer.checked()?, primary))
}

/// Returns the chains that the file names, each with its requests: those of the fallback over all tiers, then those of
/// cheaper requests.
pub(crate) fn setups(config: &Config, fallback: &FallbackLayer) -> Vec<ChainSetup> {
    let chains = fallback.chains().into_iter();
    let mut chains: Vec<_> = chains.map(|it| ChainSetup { id: it.id, first: it.first, names: it.names }).collect();
    for route in &config.routes {
        let Some(first) = route.tiers.first() else { continue };
        let names = vec![format!("route {}", route.name)];
        chains.push(ChainSetup { id: id_of_route(route), first: first.as_str().into(), names });
    }
    chains
}

/// Returns the id of a route's chain. Others may begin at its first tier, and requests that name it.
pub(crate) fn id_of_route(route: &config::Route) -> Arc<str> {
    format!("{} (route {})", route.tiers.first().map_or("", String::as_str), route.name).into()
}

/// Returns the policy of a feature, with the file's own settings for those that the feature omits.
fn policy(config: &Config, context: &StackContext, feature: Option<&config::Feature>) -> FeaturePolicy {
    let allowed = |policy: &StreamBreak| *policy != StreamBreak::Restart || !context.without_restarts;
    let of_feature = feature.and_then(|feature| feature.stream.on_break);
    let on_break = of_feature.or(config.stream.on_break).filter(allowed);
    let going_on = feature.and_then(|feature| feature.stream.going_on).or(config.stream.going_on).unwrap_or_default();
    let all_open = feature.and_then(|feature| feature.all_open).or(config.fallback.all_open);
    let policy = FeaturePolicy::new()
        .stream_break(on_break.map(settings::stream_break).unwrap_or_default())
        .goes_on_by_instruction(going_on.by == GoesOnBy::Prompt)
        .all_open(all_open.map(settings::all_open).unwrap_or_default());
    match feature.and_then(|feature| feature.tiers.as_ref()) {
        Some(tiers) => policy.tiers(tiers.iter().map(String::as_str)),
        None => policy,
    }
}

/// Checks that a feature accepts at least one of its tiers; otherwise it would never get an answer.
fn check_level(config: &Config, field: &str, feature: &config::Feature) -> Result<(), InvalidConfig> {
    let Some(worst) = feature.worst_level else { return Ok(()) };
    let may_use = |tier: &&Tier| feature.tiers.as_ref().is_none_or(|tiers| tiers.contains(&tier.name));
    if config.tiers.iter().filter(may_use).any(|tier| tier.service_level() <= worst) {
        return Ok(());
    }
    let problem = format!("none of its tiers has level {worst} or better");
    Err(InvalidConfig::new(format!("{field}.worst_level"), problem))
}

/// Returns a tier's settings in a fallback, without its model: no name leads to it there.
pub(crate) fn tier_settings(tier: &Tier, families: &FamilyTable) -> TierSettings {
    let mut settings = TierSettings::new().capabilities(capabilities(tier, families)).level(tier.service_level());
    if tier.goes_on(families) {
        settings = settings.goes_on();
    }
    if tier.deployments.as_ref().is_some_and(|deployments| deployments.len() > 1) {
        settings = settings.spread();
    }
    if tier.last_resort {
        settings = settings.last_resort();
    }
    if tier.provider == Provider::Handoff {
        // Called even with an open circuit, so that a store that has recovered is used at once.
        settings = settings.human().last_resort();
    }
    if let Some(time) = tier.min_useful {
        settings = settings.min_useful(time.0);
    }
    settings
}

/// Adds the account that compacts conversations, if the tier has one. Its name is that of the account's first tier.
fn with_account(config: &Config, tier: &Tier, settings: TierSettings) -> TierSettings {
    let shares = |other: &&Tier| {
        other.compacts()
            && (&other.base_url, other.key_variables()) == (&tier.base_url, tier.key_variables())
            && (other.at, &other.region, &other.resource) == (tier.at, &tier.region, &tier.resource)
            && organization(other) == organization(tier)
    };
    match config.tiers.iter().filter(|_| tier.compacts()).find(shares) {
        Some(first) => settings.compaction(first.name.as_str()),
        None => settings,
    }
}

/// Returns the account's part that pays, if the tier names one beside its key.
fn organization(tier: &Tier) -> Option<&str> {
    let named = tier.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("openai-organization"));
    named.map(|(_, value)| value.as_str())
}

/// Returns the tier's capabilities from the file, and otherwise what its model lacks according to the table.
fn capabilities(tier: &Tier, families: &FamilyTable) -> Capabilities {
    let mut can = Capabilities::new();
    let missing = tier.missing_capabilities(families);
    if missing.images {
        can = can.images(false);
    }
    if missing.documents {
        can = can.documents(false);
    }
    if missing.tools {
        can = can.tools(false);
    }
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
