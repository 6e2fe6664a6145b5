//! Conversion of a configuration file's rules.

use crate::{self as config, AlertSeverity, RuleThreshold, Share};
use steadfast::InvalidConfig;
use steadfast_subscribers::alerts::{FAILOVERS, FALLBACK_SHARE, RATE, Rate, Rule, Rules, Severity};

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
        match threshold_or_default(file.failovers) {
            RuleThreshold::On(true) => {}
            RuleThreshold::On(false) => rules = rules.without_failovers(),
            RuleThreshold::Numbers { more_than, share: None, min_requests: None, within, page_share: None, .. } => {
                let within = within.map_or(FAILOVERS.within, |within| within.0);
                rules = rules.failovers(more_than.unwrap_or(FAILOVERS.more_than), within)?;
            }
            RuleThreshold::Numbers { .. } => return Err(wrong_numbers("failovers", "`more_than` and `within`")),
        }
        rules = match rate("failure_rate", threshold_or_default(file.failure_rate))? {
            Some(Rate { share, min_requests, within }) => rules.failure_rate(share, min_requests, within)?,
            None => rules.without_failure_rate(),
        };
        let of_tiers = rate("tier_failure_rate", file.tier_failure_rate.unwrap_or(RuleThreshold::On(false)))?;
        if let Some(Rate { share, min_requests, within }) = of_tiers {
            rules = rules.tier_failure_rate(share, min_requests, within)?;
        }
        if let Some(threshold) = file.fallback_share.filter(|threshold| *threshold != RuleThreshold::On(false)) {
            rules = fallback_share(rules, threshold)?;
        }
        rules = severities(rules, file);
        if let Some(every) = file.repeat {
            rules = rules.repeat(every.0)?;
        }
        rules = rules.all_tiers_failed(switch("all_tiers_failed", file.all_tiers_failed)?);
        rules = rules.key_refused(switch("key_refused", file.key_refused)?);
        rules = rules.credentials(switch("credentials", file.credentials)?);
        rules = rules.handoff_waiting(switch("handoff_waiting", file.handoff_waiting)?);
        match threshold_or_default(file.budget) {
            RuleThreshold::On(true) => Ok(rules),
            RuleThreshold::On(false) => Ok(rules.budget(None)),
            RuleThreshold::Numbers {
                more_than: None,
                share,
                min_requests: None,
                within: None,
                page_share: None,
                ..
            } => {
                // A cast of a float stops at the ends.
                let from = |share: Share| (share.0 * 100.0).round() as u8;
                Ok(match share {
                    Some(share) => rules.budget(Some(from(share))),
                    None => rules,
                })
            }
            RuleThreshold::Numbers { .. } => Err(wrong_numbers("budget", "`share`")),
        }
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
        (Rule::AllTiersFailed, file.all_tiers_failed),
        (Rule::KeyRefused, file.key_refused),
        (Rule::Credentials, file.credentials),
        (Rule::Budget, file.budget),
        (Rule::HandoffWaiting, file.handoff_waiting),
    ] {
        if let Some(RuleThreshold::Numbers { severity: Some(severity), .. }) = threshold {
            rules = rules.severity(rule, severity.into());
        }
    }
    rules
}

/// Returns the threshold of a block. A block without a number means the rule's defaults.
fn threshold_or_default(threshold: Option<RuleThreshold>) -> RuleThreshold {
    threshold.filter(|threshold| *threshold != NO_NUMBERS).unwrap_or(ON)
}

/// Returns a rate with defaults for the numbers that the file omits; `None` if the rule is off.
fn rate(rule: &'static str, threshold: RuleThreshold) -> Result<Option<Rate>, InvalidConfig> {
    match threshold {
        RuleThreshold::On(on) => Ok(on.then_some(RATE)),
        RuleThreshold::Numbers { more_than: None, share, min_requests, within, page_share: None, .. } => {
            Ok(Some(Rate {
                share: share.map_or(RATE.share, |share| share.0),
                min_requests: min_requests.unwrap_or(RATE.min_requests),
                within: within.map_or(RATE.within, |within| within.0),
            }))
        }
        RuleThreshold::Numbers { .. } => Err(wrong_numbers(rule, "`share`, `min_requests` and `within`")),
    }
}

/// Adds the rule on fallbacks' share, with defaults for the numbers that the file omits.
fn fallback_share(rules: Rules, threshold: RuleThreshold) -> Result<Rules, InvalidConfig> {
    let Rate { share: least, min_requests: some, within: lately } = FALLBACK_SHARE.warn;
    match threshold {
        RuleThreshold::On(_) => rules.fallback_share(least, FALLBACK_SHARE.page_share, some, lately),
        RuleThreshold::Numbers { more_than: None, share, min_requests, within, page_share, .. } => {
            let share = share.map_or(least, |share| share.0);
            // A custom bound above the default page share has no page share.
            let page = page_share.map(|page| page.0).or_else(|| FALLBACK_SHARE.page_share.filter(|page| *page > share));
            let within = within.map_or(lately, |within| within.0);
            rules.fallback_share(share, page, min_requests.unwrap_or(some), within)
        }
        RuleThreshold::Numbers { .. } => {
            Err(wrong_numbers("fallback_share", "`share`, `page_share`, `min_requests` and `within`"))
        }
    }
}

fn switch(rule: &'static str, threshold: Option<RuleThreshold>) -> Result<bool, InvalidConfig> {
    match threshold_or_default(threshold) {
        RuleThreshold::On(on) => Ok(on),
        RuleThreshold::Numbers {
            more_than: None,
            share: None,
            min_requests: None,
            within: None,
            page_share: None,
            ..
        } => Ok(true),
        RuleThreshold::Numbers { .. } => Err(InvalidConfig::new(rule, "it is `on` or `off`, and takes no numbers")),
    }
}

fn wrong_numbers(rule: &'static str, numbers: &str) -> InvalidConfig {
    InvalidConfig::new(rule, format!("it takes {numbers}, and no other number"))
}

const ON: RuleThreshold = RuleThreshold::On(true);
const NO_NUMBERS: RuleThreshold = RuleThreshold::Numbers {
    more_than: None,
    share: None,
    min_requests: None,
    within: None,
    page_share: None,
    severity: None,
};

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
        Some(RuleThreshold::Numbers { more_than, share, min_requests, within, page_share: None, severity: None })
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
            all_tiers_failed: numbers(NONE),
            key_refused: numbers(NONE),
            credentials: numbers(NONE),
            budget: numbers(NONE),
            handoff_waiting: numbers(NONE),
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
            all_tiers_failed: off,
            key_refused: off,
            credentials: off,
            budget: off,
            handoff_waiting: off,
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
        let own = RuleThreshold::Numbers {
            more_than: None,
            share,
            min_requests: Some(5),
            within: Some(Span(MINUTE)),
            page_share,
            severity: None,
        };
        assert_eq!(of(Some(own)), Rules::new().fallback_share(0.1, Some(0.4), 5, MINUTE));
        let above = numbers((None, Some(Share(0.5)), None, None));
        assert_eq!(of(above), Rules::new().fallback_share(0.5, None, 20, MINUTE * 10), "20 % is no page above 50 %");

        let page = Some(RuleThreshold::Numbers {
            more_than: None,
            share: None,
            min_requests: None,
            within: None,
            page_share: None,
            severity: Some(AlertSeverity::Page),
        });
        let file = config::Rules { failover: page, failovers: page, budget: page, ..config::Rules::default() };
        let expected = [Rule::Failover, Rule::Failovers, Rule::Budget];
        let expected = expected.into_iter().fold(Rules::new(), |rules, rule| rules.severity(rule, Severity::Critical));
        assert_eq!(Rules::try_from(&file), Ok(expected));
    }

    #[test]
    fn a_number_that_a_rule_does_not_take_is_named() {
        let share = numbers((None, Some(Share(0.5)), None, None));
        let more = numbers((Some(1), None, None, None));
        for (file, rule) in [
            (config::Rules { failovers: share, ..config::Rules::default() }, "failovers"),
            (config::Rules { failover: more, ..config::Rules::default() }, "failover"),
            (config::Rules { failure_rate: more, ..config::Rules::default() }, "failure_rate"),
            (config::Rules { tier_failure_rate: more, ..config::Rules::default() }, "tier_failure_rate"),
            (config::Rules { key_refused: more, ..config::Rules::default() }, "key_refused"),
            (config::Rules { budget: more, ..config::Rules::default() }, "budget"),
        ] {
            assert_eq!(Rules::try_from(&file).unwrap_err().field(), rule);
        }
        let whole = numbers((None, Some(Share(1.0)), None, None));
        let file = config::Rules { failure_rate: whole, ..config::Rules::default() };
        assert_eq!(Rules::try_from(&file).unwrap_err().field(), "failure_rate");
    }
}
