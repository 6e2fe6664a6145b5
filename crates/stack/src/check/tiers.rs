use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};

use super::Findings;
use crate::{Config, Provider, Secret, Tier, TierApi, TierTimeout};

pub(super) fn check(config: &Config, findings: &mut Findings<'_, '_>) {
    if config.tiers.is_empty() {
        findings.wrong("tiers", "there are no tiers: name at least one model under `tiers`");
    }
    findings.within("tiers", |findings| {
        findings.names("tier", config.tiers.iter().map(|tier| tier.name.as_str()));
        for (at, own) in config.tiers.iter().enumerate() {
            findings.within(at, |findings| {
                tier(own, findings);
                super::cache::tier(own, config, findings);
                super::handoff::tier(own, config, findings);
                super::hedge::tier(own, config, findings);
                super::deployments::tier(own, config, findings);
            });
        }
    });
}

pub(super) fn tier(tier: &Tier, findings: &mut Findings<'_, '_>) {
    match &tier.model {
        None if !tier.provider.is_local() => {
            findings.wrong_here(format!("`model` is missing here; name the model of the tier `{}`", tier.name));
        }
        Some(model) if model.trim().is_empty() => findings.wrong("model", "the model's name is empty"),
        _ => {}
    }
    match (&tier.text, tier.provider) {
        (None, Provider::Canned) => findings.wrong_here("`text` is missing here; give the canned tier's text"),
        (Some(_), provider) if !matches!(provider, Provider::Canned | Provider::Handoff) => {
            findings.wrong_key("text", "only a canned tier or a tier of people has a `text`; remove it");
        }
        _ => {}
    }
    if tier.simulated.is_some() && tier.provider != Provider::Simulated {
        findings.wrong_key("simulated", "only a tier with the provider `simulated` has these settings");
    }
    if tier.compaction == Some(true) && (tier.provider != Provider::OpenAi || tier.api == Some(TierApi::Chat)) {
        let message = "only a tier that speaks OpenAI's Responses has `compaction`; set `api: responses`, or remove it";
        findings.wrong_key("compaction", message);
    }
    if let Some(url) = &tier.base_url {
        findings.http_url("base_url", url);
    }
    headers(&tier.headers, findings);
    if tier.level.is_some_and(|level| !(1..=5).contains(&level)) {
        findings.wrong("level", "a level must be from 1 (full service) to 5 (static)");
    }
    findings.at_least_one("context_window", tier.context_window, "; leave it out if it is unknown");
    findings.at_least_one("max_output", tier.max_output, "; leave it out if it is unknown");
    match tier.timeout {
        Some(TierTimeout::Attempt(span)) => findings.nonzero_time("timeout", Some(span)),
        Some(TierTimeout::Limits(limits)) => findings.within("timeout", |findings| {
            limits.check(findings);
            if limits.adaptive == Some(true) && !tier.provider.is_model() {
                let message = format!("a {} tier has no model to adapt to; remove `adaptive`", tier.provider.name());
                findings.wrong_key("adaptive", message);
            }
        }),
        None => {}
    }
    if let Some(retry) = &tier.retry {
        findings.within("retry", |findings| retry.check(findings));
    }
    if let Some(breaker) = &tier.circuit_breaker {
        findings.within("circuit_breaker", |findings| breaker.check(findings));
    }
}

pub(super) fn headers(headers: &BTreeMap<String, Secret>, findings: &mut Findings<'_, '_>) {
    findings.within("headers", |findings| {
        for (name, value) in headers {
            if HeaderName::try_from(name.as_str()).is_err() {
                findings.wrong_key(name, format!("`{name}` is not a valid HTTP header name"));
            } else if HeaderValue::try_from(value.as_str()).is_err() {
                findings.wrong(name, "the header's value has a line break or a control character; remove it");
            }
        }
    });
}
