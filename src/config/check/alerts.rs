use super::Findings;
use crate::config::{Config, RuleThreshold};

pub(super) fn check(config: &Config, findings: &mut Findings<'_, '_>) {
    let rules = &config.alerts.rules;
    findings.within("alerts", |findings| {
        findings.within("webhooks", |findings| {
            for (at, webhook) in config.alerts.webhooks.iter().enumerate() {
                findings.within(at, |findings| findings.http_url("url", &webhook.url));
            }
        });
        findings.within("rules", |findings| {
            rule("failover", rules.failover, &[], findings);
            rule("failovers", rules.failovers, &["more_than", "within"], findings);
            rule("failure_rate", rules.failure_rate, &["share", "min_requests", "within"], findings);
            rule("tier_failure_rate", rules.tier_failure_rate, &["share", "min_requests", "within"], findings);
            rule("all_tiers_failed", rules.all_tiers_failed, &[], findings);
            rule("key_refused", rules.key_refused, &[], findings);
            rule("budget", rules.budget, &["share"], findings);
            rule("handoff_waiting", rules.handoff_waiting, &[], findings);
            findings.some_time("repeat", rules.repeat);
        });
    });
}

/// A rule has only the numbers that mean something to it.
fn rule(name: &str, threshold: Option<RuleThreshold>, own: &[&str], findings: &mut Findings<'_, '_>) {
    let Some(RuleThreshold::Numbers { more_than, share, min_requests, within }) = threshold else { return };
    let given = [
        ("more_than", more_than.is_some()),
        ("share", share.is_some()),
        ("min_requests", min_requests.is_some()),
        ("within", within.is_some()),
    ];
    findings.within(name, |findings| {
        for (key, _) in given.into_iter().filter(|(key, given)| *given && !own.contains(key)) {
            let message = match own {
                [] => format!("the rule `{name}` has no numbers: it is `on` or `off`"),
                _ => format!("the rule `{name}` has no `{key}`; it has {}", own.join(", ")),
            };
            findings.wrong_key(key, message);
        }
        findings.some_time("within", within);
        // A rate that is always exceeded, or never.
        if let Some(share) = share.filter(|share| own.contains(&"min_requests") && !(share.0 > 0.0 && share.0 < 1.0)) {
            findings.wrong("share", format!("`share` must be above 0 and below 1, not {}", share.0));
        }
    });
}
