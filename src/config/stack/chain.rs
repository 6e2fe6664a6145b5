//! The tiers in their order, as a fallback.

use tower::Service;

use super::{StackContext, settings};
use crate::{
    Context, FallbackLayer, InvalidConfig, LlmError, LlmRequest, LlmResponse, RetryWithJitterLayer,
    config::{self, Config, Provider, StreamBreak, Tier, classifier},
    layers::fallback::{self, Capabilities, RampStep},
    models::FamilyTable,
    providers::Canned,
};

/// Returns the total attempts for all tiers, if the file sets the number for any tier and the total exceeds a
/// request's usual bound, which would otherwise override the file. A fallback reserves the usual number for each tier
/// after the current one.
pub(super) fn attempts(config: &Config) -> Option<u16> {
    let own = |tier: &Tier| settings::merged_retry(tier.retry, config.retry).max_attempts;
    let said = config.tiers.iter().any(|tier| own(tier).is_some());
    let all = config
        .tiers
        .iter()
        .map(|tier| own(tier).unwrap_or_default().max(RetryWithJitterLayer::MAX_ATTEMPTS))
        .fold(0, u16::saturating_add);
    (said && all > Context::default().attempts_left).then_some(all)
}

/// The service of a tier in a chain.
pub(super) trait TierLike:
    Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S> TierLike for S where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + 'static
{
}

/// Checks the chain of tiers: the names in its lists, its levels, and the kinds of failures.
pub(super) fn check(config: &Config, context: &StackContext) -> Result<(), InvalidConfig> {
    // A chain of names: no request reaches its services.
    let names = vec![Canned::text(""); config.tiers.len()];
    chain(config, &names, context).map(drop)
}

/// Returns a fallback layer over all tiers, and the primary service to wrap with it.
pub(super) fn chain<S: TierLike>(
    config: &Config,
    services: &[S],
    context: &StackContext,
) -> Result<(FallbackLayer, S), InvalidConfig> {
    let settings = &config.fallback;
    let mut tiers = config.tiers.iter().zip(services.iter().cloned());
    let Some((first, primary)) = tiers.next() else {
        return Err(InvalidConfig::new("tiers", "no tiers; name at least one"));
    };
    let of_file = config.stream.on_break;
    let told = |policy: &StreamBreak| *policy != StreamBreak::Restart || !context.without_restarts;
    let on_break =
        |own: Option<StreamBreak>| own.or(of_file).filter(told).map(settings::stream_break).unwrap_or_default();
    let unnamed = on_break(config.default_feature.as_ref().and_then(|feature| feature.stream.on_break));
    let all_open = |feature: Option<&config::Feature>| {
        let own = feature.and_then(|feature| feature.all_open);
        own.or(settings.all_open).map(settings::all_open).unwrap_or_default()
    };
    let all_open_unnamed = all_open(config.default_feature.as_ref());
    let families = config.family_table()?;
    // The chains of `routes` leave models out: the file alone determines their order.
    let model = |tier: &Tier| tier.model.as_deref().unwrap_or(&tier.name).to_owned();
    let mut layer = primary_of(first, &families, context)
        .primary_model(model(first))
        .classifier(classifier(config))
        .events(context.events.clone())
        .stream_break(unnamed)
        .session(settings.session.map(settings::session).unwrap_or_default())
        .all_open(all_open_unnamed)
        .gradually(settings.gradually.iter().map(|step| RampStep::new(step.percent, step.lasts.0)));
    if let Some(time) = settings.keep_back {
        layer = layer.keep_back(time.0);
    }
    if let Some(time) = settings.min_useful {
        layer = layer.min_useful(time.0);
    }
    if settings.budget.is_some() {
        layer = layer.budget(settings::retry_budget("fallback.budget", settings.budget)?);
    }
    for (tier, service) in tiers {
        layer = layer.push(place_of(tier, &families, service).model(model(tier)));
    }
    for (name, feature) in &config.features {
        check_level(config, &format!("features.{name}"), feature)?;
        if let Some(tiers) = &feature.tiers {
            layer = layer.feature(name.as_str(), tiers.iter().map(String::as_str))?;
        }
        let named = on_break(feature.stream.on_break);
        if named != unnamed {
            layer = layer.feature_stream_break(name.as_str(), named);
        }
        let policy = all_open(Some(feature));
        if policy != all_open_unnamed {
            layer = layer.feature_all_open(name.as_str(), policy);
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
    for (name, model) in &config.models {
        layer = layer.model(name.as_str(), model.tiers.iter().map(String::as_str))?;
    }
    for (kind, tiers) in &settings.routes {
        let kind = settings::kind("fallback.routes", kind)?;
        layer = layer.route(kind, tiers.iter().map(String::as_str))?;
    }
    Ok((layer, primary))
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

/// Creates a fallback around this tier, without further tiers.
pub(super) fn primary_of(tier: &Tier, families: &FamilyTable, context: &StackContext) -> FallbackLayer {
    let mut layer = FallbackLayer::new(tier.name.as_str())
        .steered_by(&context.fallback)
        .capabilities(capabilities(tier, families))
        .level(tier.service_level());
    if tier.last_resort {
        layer = layer.last_resort();
    }
    if tier.provider == Provider::Handoff {
        layer = layer.human().last_resort();
    }
    if let Some(time) = tier.min_useful {
        layer = layer.primary_min_useful(time.0);
    }
    layer
}

/// Creates a fallback's tier.
pub(super) fn place_of(tier: &Tier, families: &FamilyTable, service: impl TierLike) -> fallback::Tier {
    let mut place = fallback::Tier::new(tier.name.as_str(), service)
        .capabilities(capabilities(tier, families))
        .level(tier.service_level());
    if tier.last_resort {
        place = place.last_resort();
    }
    if tier.provider == Provider::Handoff {
        // Called even with an open circuit, so that a store that has recovered is used at once.
        place = place.human().last_resort();
    }
    if let Some(time) = tier.min_useful {
        place = place.min_useful(time.0);
    }
    place
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
