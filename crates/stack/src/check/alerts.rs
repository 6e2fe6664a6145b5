use serde_json::Value;

use super::Findings;
use crate::{Config, RuleNumbers, RuleThreshold, Webhook, suggest::nearest};
use steadfast_subscribers::alerts::{FALLBACK_SHARE, Flaw, PLACEHOLDERS};

pub(super) fn check(config: &Config, findings: &mut Findings<'_, '_>) {
    let alerts = &config.alerts;
    findings.within("alerts", |findings| {
        if let Some(problem) = alerts.source_problem() {
            findings.wrong("source", problem);
        }
        findings.within("webhooks", |findings| {
            for (at, settings) in alerts.webhooks.iter().enumerate() {
                findings.within(at, |findings| webhook(settings, config, findings));
            }
        });
        findings.within("templates", |findings| {
            for (name, template) in &alerts.templates {
                findings.within(name, |findings| match template.body() {
                    Value::Object(_) => body(template.body(), findings),
                    _ => findings.wrong_here("a template must be a block of keys"),
                });
            }
        });
        findings.within("rules", |findings| rules(config, findings));
    });
}

fn webhook(settings: &Webhook, config: &Config, findings: &mut Findings<'_, '_>) {
    findings.http_url("url", &settings.url);
    if settings.severities.as_ref().is_some_and(Vec::is_empty) {
        findings.wrong("severities", "an empty list sends no alerts; name `warn`, `page` or both");
    }
    let Some(name) = &settings.template else { return };
    if settings.format.is_some() {
        findings.wrong("format", "`template` already sets the message's format; remove `format`");
    }
    let names = || config.alerts.templates.keys().map(String::as_str);
    if !names().any(|known| known == name) {
        let right = nearest(name, names());
        let mut message = format!("no template is named `{name}`");
        if right.is_none() {
            let known = names().collect::<Vec<_>>().join(", ");
            let all = if known.is_empty() { "`alerts.templates` has none" } else { known.as_str() };
            message = format!("{message}; there are: {all}");
        }
        findings.wrong_name("template", message, right);
    }
}

/// Checks that a template's texts use only known placeholders.
fn body(value: &Value, findings: &mut Findings<'_, '_>) {
    match value {
        Value::Array(values) => {
            for (at, value) in values.iter().enumerate() {
                inside(at, value, findings);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                inside(name, value, findings);
            }
        }
        _ => {}
    }
}

fn inside(step: impl Into<super::Step>, value: &Value, findings: &mut Findings<'_, '_>) {
    let Value::String(text) = value else { return findings.within(step, |findings| body(value, findings)) };
    let Some(flaw) = Flaw::of(text) else { return };
    let right = match flaw {
        Flaw::Unknown(name) => nearest(name, PLACEHOLDERS),
        Flaw::Endless => None,
    };
    let mut message = flaw.to_string();
    if right.is_none() && matches!(flaw, Flaw::Unknown(_)) {
        message = format!("{message}; there are {}", PLACEHOLDERS.join(", "));
    }
    findings.wrong_name(step, message, right);
}

fn rules(config: &Config, findings: &mut Findings<'_, '_>) {
    let rules = &config.alerts.rules;
    rule("failover", rules.failover, &[], findings);
    rule("failovers", rules.failovers, &["more_than", "within"], findings);
    rule("failure_rate", rules.failure_rate, RATE, findings);
    rule("tier_failure_rate", rules.tier_failure_rate, RATE, findings);
    rule("fallback_share", rules.fallback_share, &["share", "min_requests", "within", "page_share"], findings);
    rule("slow", rules.slow, &["first_token", "answer", "share", "min_requests", "within"], findings);
    rule("all_tiers_failed", rules.all_tiers_failed, &["more_than", "share", "within"], findings);
    rule("key_refused", rules.key_refused, &[], findings);
    rule("credentials", rules.credentials, &[], findings);
    rule("budget", rules.budget, &["share"], findings);
    rule("handoff_waiting", rules.handoff_waiting, &[], findings);
    rule("reload_refused", rules.reload_refused, &[], findings);
    rule("store_away", rules.store_away, &[], findings);
    findings.nonzero_time("repeat", rules.repeat);
}

const RATE: &[&str] = &["share", "min_requests", "within"];

/// Checks that a rule has only numbers that apply to it.
fn rule(name: &str, threshold: Option<RuleThreshold>, own: &[&str], findings: &mut Findings<'_, '_>) {
    let Some(RuleThreshold::Numbers(numbers)) = threshold else { return };
    let RuleNumbers { more_than, share, min_requests, within, page_share, first_token, answer, severity: _ } = numbers;
    let given = [
        ("more_than", more_than.is_some()),
        ("share", share.is_some()),
        ("min_requests", min_requests.is_some()),
        ("within", within.is_some()),
        ("page_share", page_share.is_some()),
        ("first_token", first_token.is_some()),
        ("answer", answer.is_some()),
    ];
    findings.within(name, |findings| {
        for (key, _) in given.into_iter().filter(|(key, given)| *given && !own.contains(key)) {
            let message = match own {
                [] => format!("the rule `{name}` has no numbers; set it to `on` or `off`, or give a `severity`"),
                _ => format!("the rule `{name}` has no `{key}`; it has {}", own.join(", ")),
            };
            findings.wrong_key(key, message);
        }
        for (key, time) in [("within", within), ("first_token", first_token), ("answer", answer)] {
            findings.nonzero_time(key, time);
        }
        // Such a rate is exceeded always, or never.
        if let Some(share) = share.filter(|share| own.contains(&"min_requests") && !(share.0 > 0.0 && share.0 < 1.0)) {
            findings.wrong("share", format!("`share` must be above 0 and below 1, not {}", share.0));
        }
        let least = share.map_or(FALLBACK_SHARE.warn.share, |share| share.0);
        if let Some(page) = page_share.filter(|page| own.contains(&"page_share") && !(page.0 > least && page.0 < 1.0)) {
            let message = format!("`page_share` must be above `share`, which is {least}, and below 1, not {}", page.0);
            findings.wrong("page_share", message);
        }
    });
}
