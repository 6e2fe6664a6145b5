use super::Findings;
use crate::{AllOpen, Config, Fallback, Feature, OnError, Rate, tree::Step};
use steadfast::ErrorKind;

pub(super) fn check(config: &Config, findings: &mut Findings<'_, '_>) {
    findings.nonzero_time("timeout", config.timeout);
    findings.within("retry", |findings| config.retry.check(findings));
    super::validate::check(config.validate, findings);
    findings.within("circuit_breaker", |findings| config.circuit_breaker.check(findings));
    findings.within("features", |findings| {
        for (name, own) in &config.features {
            if name.trim().is_empty() {
                findings.wrong_key(name, "a feature needs a name");
            }
            findings.within(name, |findings| feature(own, config, findings));
        }
    });
    findings.within("models", |findings| {
        for (name, model) in &config.models {
            let inside = name.strip_suffix('*').unwrap_or(name);
            if name.trim().is_empty() {
                findings.wrong_key(name, "a model needs a name");
            } else if inside.contains('*') {
                findings.wrong_key(name, "a `*` may only stand at the end of a model's name");
            }
            findings.within(name, |findings| findings.chain("tiers", &model.tiers, config));
        }
    });
    if let Some(default) = &config.default_feature {
        findings.within("default_feature", |findings| feature(default, config, findings));
    }
    findings.within("fallback", |findings| fallback(&config.fallback, config, findings));
    if let Some(idempotency) = &config.idempotency {
        findings.within("idempotency", |findings| {
            findings.nonzero_time("ttl", idempotency.ttl);
            findings.at_least_one("max_bytes", idempotency.max_bytes.map(|size| size.0), "");
        });
    }
}

fn feature(feature: &Feature, config: &Config, findings: &mut Findings<'_, '_>) {
    if let Some(chain) = &feature.tiers {
        findings.chain("tiers", chain, config);
    }
    for (key, rate) in
        [("requests_per_minute", feature.requests_per_minute), ("tokens_per_minute", feature.tokens_per_minute)]
    {
        match rate {
            Some(Rate::PerMinute(number)) => findings.not_negative(key, number),
            Some(Rate::Burst { per_minute, burst }) => findings.within(key, |findings| {
                findings.not_negative("per_minute", per_minute);
                findings.at_least_one("burst", Some(u64::from(burst)), ", or no request passes");
            }),
            None => {}
        }
    }
    findings.nonzero_time("timeout", feature.timeout);
    super::cache::feature(feature, config, findings);
    super::validate::check(feature.validate, findings);
    all_open(feature.all_open, findings);
    let Some(worst) = feature.worst_level else { return };
    if !(1..=5).contains(&worst) {
        findings.wrong("worst_level", "a level must be from 1 (full service) to 5 (static)");
        return;
    }
    let mut tiers =
        config.tiers.iter().filter(|tier| feature.tiers.as_ref().is_none_or(|chain| chain.contains(&tier.name)));
    if !config.tiers.is_empty() && !tiers.any(|tier| tier.service_level() <= worst) {
        findings.wrong("worst_level", format!("none of its tiers has level {worst} or better"));
    }
}

fn fallback(fallback: &Fallback, config: &Config, findings: &mut Findings<'_, '_>) {
    let kinds: Vec<&str> = ErrorKind::ALL.iter().map(|kind| kind.name()).collect();
    findings.within("routes", |findings| {
        for (kind, chain) in &fallback.routes {
            findings.one_of(Step::Name(kind.clone()), kind, &kinds);
            findings.chain(kind, chain, config);
        }
    });
    let words: Vec<&str> = OnError::words().collect();
    findings.within("on_error", |findings| {
        for (at, error) in fallback.on_error.iter().flatten().enumerate() {
            match error {
                OnError::Status(400..=599) | OnError::OwnTimeout => {}
                OnError::Status(status) => {
                    findings
                        .wrong(at, format!("{status} is not an HTTP status of a failure; give one from 400 to 599"));
                }
                OnError::Kind(kind) => findings.one_of(at, kind, &words),
            }
        }
    });
    findings.within("gradually", |findings| {
        let mut before = 0;
        for (at, step) in fallback.gradually.iter().enumerate() {
            if !(1..=100).contains(&step.percent) {
                findings.within(at, |findings| findings.wrong("percent", "`percent` must be from 1 to 100"));
            } else if step.percent < before {
                findings.within(at, |findings| {
                    findings.wrong("percent", "a step must not be smaller than the previous one")
                });
            }
            before = step.percent;
        }
    });
    super::recovery::check(fallback.recovery_check.as_ref(), findings);
    all_open(fallback.all_open, findings);
}

fn all_open(policy: Option<AllOpen>, findings: &mut Findings<'_, '_>) {
    findings.within("all_open", |findings| match policy {
        Some(AllOpen::Wait(longest)) => findings.nonzero_time("wait", Some(longest)),
        Some(AllOpen::Queue(longest)) => findings.nonzero_time("queue", Some(longest)),
        Some(AllOpen::Fail) | None => {}
    });
}
