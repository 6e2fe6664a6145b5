//! The check of a tier's deployments.

use super::Findings;
use crate::{Config, Deployment, Provider, Tier};

/// The maximum number of a tier's deployments.
const DEPLOYMENTS: usize = 1_000;

pub(super) fn tier(tier: &Tier, config: &Config, findings: &mut Findings<'_, '_>) {
    let Some(list) = &tier.deployments else {
        if tier.balance.is_some() {
            findings.wrong_key("balance", "only a tier with `deployments` has a balancer; add them, or remove it");
        }
        return;
    };
    if !tier.provider.is_model() {
        let message = format!("a {} tier has no deployments; remove them", tier.provider.name());
        findings.wrong_key("deployments", message);
        return;
    }
    if list.is_empty() {
        findings.wrong("deployments", "there are no deployments: name at least one, or remove the key");
    }
    if list.len() > DEPLOYMENTS {
        findings.wrong("deployments", format!("there are more than {DEPLOYMENTS} deployments"));
        return;
    }
    let names = tier.deployment_names();
    let endpoints = tier.endpoints();
    findings.within("deployments", |findings| {
        findings.names("deployment", names.iter().map(String::as_str));
        for (at, (own, endpoint)) in list.iter().zip(&endpoints).enumerate() {
            findings.within(at, |findings| {
                deployment(tier, own, findings);
                if let Some(other) = config.tiers.iter().find(|other| other.name == endpoint.name) {
                    let message = format!("it would be called `{}`, as a tier is; give it another name", other.name);
                    findings.wrong("name", message);
                }
                let same = endpoints[..at].iter().position(|other| other.is_same_endpoint(endpoint));
                // Simulated ones differ by their behaviour alone.
                if let Some(first) = same.filter(|_| tier.provider != Provider::Simulated) {
                    let message = format!(
                        "it is the same as `{}`: give each deployment a server, key or place of its own; for a larger \
                         share, use `weight`",
                        names[first]
                    );
                    findings.wrong_here(message);
                }
            });
        }
    });
}

fn deployment(tier: &Tier, own: &Deployment, findings: &mut Findings<'_, '_>) {
    if own.name.as_deref().is_some_and(|name| name.contains('/') || name.chars().any(char::is_control)) {
        findings.wrong("name", "a deployment's name has no `/` and no control characters");
    }
    if let Some(weight) = own.weight.filter(|weight| !(1e-6..=1e6).contains(weight)) {
        let message = format!(
            "`weight` must be more than 0 and at most a million, not {weight}; to give it no requests, remove or drain it"
        );
        findings.wrong("weight", message);
    }
    let none = "; 0 would admit no request: to give it none, remove or drain it";
    findings.at_least_one("requests_per_minute", own.requests_per_minute, none);
    findings.at_least_one("tokens_per_minute", own.tokens_per_minute, none);
    findings.at_least_one("max_in_flight", own.max_in_flight.map(u64::from), none);
    for (key, text) in [("zone", &own.zone), ("model", &own.model)] {
        if text.as_ref().is_some_and(|text| text.trim().is_empty()) {
            findings.wrong(key, format!("`{key}` is empty"));
        }
    }
    if own.simulated.is_some() && tier.provider != Provider::Simulated {
        findings.wrong_key("simulated", "only a tier with the provider `simulated` has these settings");
    }
    if let Some(url) = &own.base_url {
        findings.http_url("base_url", url);
    }
    super::tiers::headers(&own.headers, findings);
}
