//! Conversion of a configuration file's rules.

use crate::{self as config, AlertSeverity, RuleNumbers, RuleThreshold, Share};
use steadfast::InvalidConfig;
use steadfast_subscribers::alerts::{
    FAILOVERS, FALLBACK_SHARE, RATE, Rate, Rule, Rules, SLOWNESS, Severity, Slowness, TOTAL_FAILURE, TotalFailure,
};

impl From<AlertSeverity> for Severity {
    fn from(said: AlertSeverity) -> Self {
        match said {
            AlertSeverity::Warn => Self::Warning,
            AlertSeverity::Page => Self::Critical,
        }
    }
}

impl TryFrom<&config::Rules> for Rules {
    type Error = InvalidConfig;

    /// # Errors
    ///
    /// Returns an error if a rule has a number that it does not take, or that [`Rules`] refuses. The error names the
    /// rule.
    fn try_from(file: &config::Rules) -> Result<Self, InvalidConfig> {
        let mut rules = Self::new().failover(switch("failover", file.failover)?);
        rules = match on("failovers", file.failovers, "`more_than` and `within`", |numbers| RuleNumbers {
            more_than: None,
            within: None,
            ..numbers
        })? {
            Some(numbers) => rules.failovers(
                numbers.more_than.unwrap_or(FAILOVERS.more_than),
                numbers.within.map_or(FAILOVERS.within, |within| within.0),
            )?,
            None => rules.without_failovers(),
        };
        rules = match rate("failure_rate", file.failure_rate)? {
            Some(Rate { share, min_requests, within }) => rules.failure_rate(share, min_requests, within)?,
            None => rules.without_failure_rate(),
        };
        if let Some(Rate { share, min_requests, within }) = rate("tier_failure_rate", file.tier_failure_rate.or(OFF))? {
            rules = rules.tier_failure_rate(share, min_requests, within)?;
        }
        rules = fallback_share(rules, file.fallback_share.or(OFF))?;
        rules = slow(rules, file.slow)?;
        rules = all_tiers_failed(rules, file.all_tiers_failed)?;
        rules = severities(rules, file);
        if let Some(every) = file.repeat {
            rules = rules.repeat(every.0)?;
        }
        rules = rules.key_refused(switch("key_refused", file.key_refused)?);
        rules = rules.credentials(switch("credentials", file.credentials)?);
        rules = rules.handoff_waiting(switch("handoff_waiting", file.handoff_waiting)?);
        rules = rules.reload_refused(switch("reload_refused", file.reload_refused)?);
        rules = rules.store_away(switch("store_away", file.store_away)?);
        // A cast of a float stops at the ends.
        let percent = |share: Share| (share.0 * 100.0).round() as u8;
        let numbers = on("budget", file.budget, "`share`", |numbers| RuleNumbers { share: None, ..numbers })?;
        Ok(match numbers {
            None => rules.budget(None),
            Some(RuleNumbers { share: Some(share), .. }) => rules.budget(Some(percent(share))),
            Some(_) => rules,
        })
    }
}

/// Sets the severities that the file names.
fn severities(mut rules: Rules, file: &config::Rules) -> Rules {
    for (rule, threshold) in [
        (Rule::Failover, file.failover),
        (Rule::Failovers, file.failovers),
        (Rule::FailureRate, file.failure_rate),
        (Rule::TierFailureRate, file.tier_failure_rate),
        (Rule::FallbackShare, file.fallback_share),
        (Rule::Slow, file.slow),
        (Rule::AllTiersFailed, file.all_tiers_failed),
        (Rule::KeyRefused, file.key_refused),
        (Rule::Credentials, file.credentials),
        (Rule::Budget, file.budget),
        (Rule::HandoffWaiting, file.handoff_waiting),
        (Rule::ReloadRefused, file.reload_refused),
        (Rule::StoreAway, file.store_away),
    ] {
        if let Some(RuleThreshold::Numbers(RuleNumbers { severity: Some(severity), .. })) = threshold {
            rules = rules.severity(rule, severity.into());
        }
    }
    rules
}

/// Returns the numbers of a rule that is on; `None` if it is off. `without` removes the numbers that the rule takes.
fn on(
    rule: &'static str,
    threshold: Option<RuleThreshold>,
    takes: &str,
    without: impl FnOnce(RuleNumbers) -> RuleNumbers,
) -> Result<Option<RuleNumbers>, InvalidConfig> {
    match threshold.unwrap_or(RuleThreshold::On(true)) {
        RuleThreshold::On(on) => Ok(on.then(RuleNumbers::default)),
        RuleThreshold::Numbers(numbers) if without(numbers) == severity_alone(numbers) => Ok(Some(numbers)),
        RuleThreshold::Numbers(_) if takes.is_empty() => {
            Err(InvalidConfig::new(rule, "it is `on` or `off`, and takes no numbers"))
        }
        RuleThreshold::Numbers(_) => Err(InvalidConfig::new(rule, format!("it takes {takes}, and no other number"))),
    }
}

fn severity_alone(numbers: RuleNumbers) -> RuleNumbers {
    RuleNumbers { severity: numbers.severity, ..RuleNumbers::default() }
}

fn switch(rule: &'static str, threshold: Option<RuleThreshold>) -> Result<bool, InvalidConfig> {
    Ok(on(rule, threshold, "", |numbers| numbers)?.is_some())
}

/// Returns a rate with defaults for the numbers that the file omits; `None` if the rule is off.
fn rate(rule: &'static str, threshold: Option<RuleThreshold>) -> Result<Option<Rate>, InvalidConfig> {
    let without = |numbers| RuleNumbers { share: None, min_requests: None, within: None, ..numbers };
    let numbers = on(rule, threshold, "`share`, `min_requests` and `within`", without)?;
    Ok(numbers.map(|numbers| rate_or(RATE, numbers)))
}

fn rate_or(default: Rate, RuleNumbers { share, min_requests, within, .. }: RuleNumbers) -> Rate {
    Rate {
        share: share.map_or(default.share, |share| share.0),
        min_requests: min_requests.unwrap_or(default.min_requests),
        within: within.map_or(default.within, |within| within.0),
    }
}

/// Adds the rule on fallbacks' share, with defaults for the numbers that the file omits.
fn fallback_share(rules: Rules, threshold: Option<RuleThreshold>) -> Result<Rules, InvalidConfig> {
    let without = |numbers| RuleNumbers { share: None, min_requests: None, within: None, page_share: None, ..numbers };
    let takes = "`share`, `page_share`, `min_requests` and `within`";
    let Some(numbers) = on("fallback_share", threshold, takes, without)? else { return Ok(rules) };
    let Rate { share, min_requests, within } = rate_or(FALLBACK_SHARE.warn, numbers);
    // A custom bound above the default page share has no page share.
    let usual = FALLBACK_SHARE.page_share.filter(|page| *page > share);
    rules.fallback_share(share, numbers.page_share.map(|page| page.0).or(usual), min_requests, within)
}

fn slow(rules: Rules, threshold: Option<RuleThreshold>) -> Result<Rules, InvalidConfig> {
    let without = |numbers| RuleNumbers {
        share: None,
        min_requests: None,
        within: None,
        first_token: None,
        answer: None,
        ..numbers
    };
    let takes = "`first_token`, `answer`, `share`, `min_requests` and `within`";
    let Some(numbers) = on("slow", threshold, takes, without)? else { return Ok(rules.without_slow()) };
    rules.slow(Slowness {
        first_token: numbers.first_token.map_or(SLOWNESS.first_token, |time| time.0),
        answer: numbers.answer.map_or(SLOWNESS.answer, |time| time.0),
        rate: rate_or(SLOWNESS.rate, numbers),
    })
}

fn all_tiers_failed(rules: Rules, threshold: Option<RuleThreshold>) -> Result<Rules, InvalidConfig> {
    let without = |numbers| RuleNumbers { more_than: None, share: None, within: None, ..numbers };
    let takes = "`more_than`, `share` and `within`";
    let Some(RuleNumbers { more_than, share, within, .. }) = on("all_tiers_failed", threshold, takes, without)? else {
        return Ok(rules.without_all_tiers_failed());
    };
    rules.all_tiers_failed(TotalFailure {
        more_than: more_than.unwrap_or(TOTAL_FAILURE.more_than),
        share: share.map_or(TOTAL_FAILURE.share, |share| share.0),
        within: within.map_or(TOTAL_FAILURE.within, |within| within.0),
    })
}

const OFF: Option<RuleThreshold> = Some(RuleThreshold::On(false));

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Span;

    const MINUTE: Duration = Duration::from_secs(60);
    const NONE: (Option<u64>, Option<Share>, Option<u64>, Option<Span>) = (None, None, None, None);

    fn numbers(
        (more_than, share, min_requests, within): (Option<u64>, Option<Share>, Option<u64>, Option<Span>),
    ) -> Option<RuleThreshold> {
        Some(RuleThreshold::Numbers(RuleNumbers { more_than, share, min_requests, within, ..RuleNumbers::default() }))
    }

    #[test]
    fn a_file_that_says_nothing_has_the_defaults() {
        assert_eq!(Rules::try_from(&config::Rules::default()), Ok(Rules::new()));
        let nothing = config::Rules {
            failover: numbers(NONE),
            failovers: numbers(NONE),
            failure_rate: numbers(NONE),
            tier_failure_rate: None,
            fallback_share: None,
            slow: numbers(NONE),
            all_tiers_failed: numbers(NONE),
            key_refused: numbers(NONE),
            credentials: numbers(NONE),
            budget: numbers(NONE),
            handoff_waiting: numbers(NONE),
            reload_refused: numbers(NONE),
            store_away: numbers(NONE),
            repeat: None,
        };
        assert_eq!(Rules::try_from(&nothing), Ok(Rules::new()));
    }

    #[test]
    fn each_rule_is_changed_or_switched_off() {
        let file = config::Rules {
            failovers: numbers((Some(5), None, None, Some(Span(MINUTE)))),
            failure_rate: numbers((None, Some(Share(0.2)), Some(10), None)),
            budget: numbers((None, Some(Share(0.9)), None, None)),
            ..config::Rules::default()
        };
        let expected = Rules::new().failovers(5, MINUTE).unwrap().failure_rate(0.2, 10, MINUTE * 60).unwrap();
        assert_eq!(Rules::try_from(&file), Ok(expected.budget(Some(90))));

        let off = Some(RuleThreshold::On(false));
        let file = config::Rules {
            failover: off,
            failovers: off,
            failure_rate: off,
            tier_failure_rate: off,
            fallback_share: off,
            slow: off,
            all_tiers_failed: off,
            key_refused: off,
            credentials: off,
            budget: off,
            handoff_waiting: off,
            reload_refused: off,
            store_away: off,
            repeat: None,
        };
        assert_eq!(Rules::try_from(&file), Ok(Rules::none()));
    }

    #[test]
    fn what_is_off_by_default_is_switched_on() {
        let file = |tier_failure_rate| config::Rules {
            tier_failure_rate,
            repeat: Some(Span(MINUTE)),
            ..config::Rules::default()
        };
        let repeated = Rules::new().repeat(MINUTE).unwrap();
        assert_eq!(Rules::try_from(&file(None)), Ok(repeated.clone()));
        let on = repeated.clone().tier_failure_rate(0.05, 100, MINUTE * 60).unwrap();
        assert_eq!(Rules::try_from(&file(Some(RuleThreshold::On(true)))), Ok(on));
        let own = repeated.tier_failure_rate(0.5, 100, MINUTE).unwrap();
        assert_eq!(Rules::try_from(&file(numbers((None, Some(Share(0.5)), None, Some(Span(MINUTE)))))), Ok(own));
        let never = config::Rules { repeat: Some(Span(Duration::ZERO)), ..config::Rules::default() };
        assert_eq!(Rules::try_from(&never).unwrap_err().field(), "repeat");
    }

    #[test]
    fn the_share_of_fallbacks_and_the_severities_are_as_the_file_says() {
        let of = |fallback_share| Rules::try_from(&config::Rules { fallback_share, ..config::Rules::default() });
        let default = Rules::new().fallback_share(0.05, Some(0.2), 20, MINUTE * 10);
        assert_eq!(of(Some(RuleThreshold::On(true))), default);
        assert_eq!(of(Some(RuleThreshold::On(false))), Ok(Rules::new()));
        let (share, page_share) = (Some(Share(0.1)), Some(Share(0.4)));
        let own = RuleThreshold::Numbers(RuleNumbers {
            share,
            min_requests: Some(5),
            within: Some(Span(MINUTE)),
            page_share,
            ..RuleNumbers::default()
        });
        assert_eq!(of(Some(own)), Rules::new().fallback_share(0.1, Some(0.4), 5, MINUTE));
        let above = numbers((None, Some(Share(0.5)), None, None));
        assert_eq!(of(above), Rules::new().fallback_share(0.5, None, 20, MINUTE * 10), "20 % is no page above 50 %");

        let severity = Some(AlertSeverity::Page);
        let page = Some(RuleThreshold::Numbers(RuleNumbers { severity, ..RuleNumbers::default() }));
        let file = config::Rules { failover: page, failovers: page, budget: page, ..config::Rules::default() };
        let expected = [Rule::Failover, Rule::Failovers, Rule::Budget];
        let expected = expected.into_iter().fold(Rules::new(), |rules, rule| rules.severity(rule, Severity::Critical));
        assert_eq!(Rules::try_from(&file), Ok(expected));
    }

    #[test]
    fn slow_calls_and_total_failures_have_the_files_limits() {
        let second = Duration::from_secs(1);
        let slow = RuleNumbers {
            first_token: Some(Span(second * 8)),
            share: Some(Share(0.5)),
            within: Some(Span(MINUTE)),
            ..RuleNumbers::default()
        };
        let failed = RuleNumbers { more_than: Some(3), share: Some(Share(0.0)), ..RuleNumbers::default() };
        let (slow, all_tiers_failed) = (Some(RuleThreshold::Numbers(slow)), Some(RuleThreshold::Numbers(failed)));
        let file = config::Rules { slow, all_tiers_failed, ..config::Rules::default() };
        let rate = Rate { share: 0.5, min_requests: 5, within: MINUTE };
        let expected = Rules::new().slow(Slowness { first_token: second * 8, answer: MINUTE * 2, rate }).unwrap();
        let limits = TotalFailure { more_than: 3, share: 0.0, within: MINUTE };
        assert_eq!(Rules::try_from(&file), Ok(expected.all_tiers_failed(limits).unwrap()));
    }

    #[test]
    fn a_number_that_a_rule_does_not_take_is_named() {
        let share = numbers((None, Some(Share(0.5)), None, None));
        let more = numbers((Some(1), None, None, None));
        let least = numbers((None, None, Some(3), None));
        for (file, rule) in [
            (config::Rules { failovers: share, ..config::Rules::default() }, "failovers"),
            (config::Rules { failover: more, ..config::Rules::default() }, "failover"),
            (config::Rules { failure_rate: more, ..config::Rules::default() }, "failure_rate"),
            (config::Rules { tier_failure_rate: more, ..config::Rules::default() }, "tier_failure_rate"),
            (config::Rules { key_refused: more, ..config::Rules::default() }, "key_refused"),
            (config::Rules { budget: more, ..config::Rules::default() }, "budget"),
            (config::Rules { slow: more, ..config::Rules::default() }, "slow"),
            (config::Rules { all_tiers_failed: least, ..config::Rules::default() }, "all_tiers_failed"),
        ] {
            assert_eq!(Rules::try_from(&file).unwrap_err().field(), rule);
        }
        let whole = numbers((None, Some(Share(1.0)), None, None));
        let file = config::Rules { failure_rate: whole, ..config::Rules::default() };
        assert_eq!(Rules::try_from(&file).unwrap_err().field(), "failure_rate");
    }
}
