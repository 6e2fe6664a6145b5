use super::Findings;
use crate::{
    AllOpen, CircuitBreaker, Config, Confirm, Cooldown, Fallback, Feature, Growth, OnError, Rate, Retry, Span,
    tree::Step,
};
use steadfast::ErrorKind;

pub(super) fn check(config: &Config, findings: &mut Findings<'_, '_>) {
    findings.nonzero_time("timeout", config.timeout);
    findings.within("retry", |findings| retry(&config.retry, findings));
    super::validate::check(config.validate, findings);
    findings.within("circuit_breaker", |findings| breaker(&config.circuit_breaker, findings));
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

pub(super) fn retry(retry: &Retry, findings: &mut Findings<'_, '_>) {
    findings.at_least_one("max_attempts", retry.max_attempts.map(u64::from), ": 1 means no retry");
    findings.nonzero_time("max_delay", retry.max_delay);
    if let (Some(Span(here)), Some(Span(longest))) = (retry.failover_delay, retry.max_delay)
        && here > longest
    {
        findings.wrong("failover_delay", "`failover_delay` is longer than `max_delay`, which limits every wait");
    }
    let Some(factor) = retry.factor else { return };
    if !(factor.is_finite() && factor >= 1.0) {
        findings.wrong("factor", format!("`factor` must be 1 or more, not {factor}: waits do not shrink"));
    } else if let Some(growth @ (Growth::Linear | Growth::Fixed)) = retry.backoff {
        let growth = if growth == Growth::Linear { "linear" } else { "fixed" };
        findings.wrong_key("factor", format!("a `{growth}` backoff has no factor"));
    }
}

pub(super) fn breaker(breaker: &CircuitBreaker, findings: &mut Findings<'_, '_>) {
    let mut window = |key, calls: Option<u32>, span: Option<Span>, min_calls: Option<u32>| {
        findings.within(key, |findings| {
            findings.at_least_one("calls", calls.map(u64::from), "");
            findings.nonzero_time("span", span);
            match (calls, span) {
                (None, None) => findings.wrong_here("a window is missing here; give either `calls` or `span`"),
                (Some(_), Some(_)) => {
                    findings.wrong_key("span", "give either `calls` or `span`, not both");
                }
                (Some(calls), None) if min_calls.is_some_and(|least| least > calls) => {
                    let message = format!("`min_calls` exceeds the window of {calls} calls");
                    findings.wrong("min_calls", message);
                }
                _ => {}
            }
        });
    };
    if let Some(rule) = breaker.failure_rate {
        window("failure_rate", rule.calls, rule.span, rule.min_calls);
    }
    if let Some(rule) = breaker.slow_calls {
        window("slow_calls", rule.calls, rule.span, rule.min_calls);
    }
    match breaker.cooldown {
        Some(Cooldown::Fixed(span)) => findings.nonzero_time("cooldown", Some(span)),
        Some(Cooldown::Growing(growing)) => findings.within("cooldown", |findings| {
            findings.nonzero_time("first", Some(growing.first));
            if !(growing.factor.is_finite() && growing.factor >= 1.0) {
                let message = format!("`factor` must be 1 or more, not {}: a cooldown does not shrink", growing.factor);
                findings.wrong("factor", message);
            }
            if growing.longest < growing.first {
                findings.wrong("longest", "the longest cooldown is shorter than the first");
            }
        }),
        None => {}
    }
    let never = ": without a probe a circuit never closes";
    findings.at_least_one("probes", breaker.probes.map(u64::from), never);
    findings.at_least_one("probe_successes", breaker.probe_successes.map(u64::from), "");
    findings.nonzero_time("latch", breaker.latch);
    findings.nonzero_time("abandoned_after", breaker.abandoned_after);
    if breaker
        .confirm
        .as_ref()
        .is_some_and(|confirm| matches!(confirm, Confirm::Prompt(text) if text.trim().is_empty()))
    {
        findings.wrong("confirm", "the prompt is empty; give a text to ask with, or `false` to believe every call");
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
