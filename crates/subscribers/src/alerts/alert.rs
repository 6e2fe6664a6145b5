use std::{fmt, sync::Arc};

use tokio::time::Instant;

use super::Origin;

/// A condition that a person should know about, or its end.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Alert {
    /// The rule that fired.
    pub rule: Rule,
    /// The subject: a tier or a cap. Empty where a rule has only one subject. Each subject has at most one alert at a
    /// time.
    pub key: Arc<str>,
    /// The severity.
    pub severity: Severity,
    /// The state: the alert fires, or is resolved.
    pub state: AlertState,
    /// One sentence about the condition. It contains no word of a request.
    pub summary: String,
    /// The details, by name.
    pub fields: Vec<(&'static str, String)>,
    /// The time at which the condition began.
    pub since: Instant,
    /// The time of this message.
    pub at: Instant,
    /// True if this repeats an earlier message about a condition that lasts.
    pub repeated: bool,
    /// The place that it comes from.
    pub origin: Origin,
}

impl Alert {
    /// Returns the name of the condition, the same from its beginning to its end and at each replica of a deployment.
    ///
    /// It holds the [source](Origin::source), so that no other deployment has it.
    pub fn id(&self) -> String {
        format!("steadfast/{}/{}/{}", self.origin.source(), self.rule, self.key)
    }
}

/// The rule behind an alert. See [`Rules`](super::Rules) for the thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// Another tier serves in place of a primary. Ends when the primary has served again for a minute.
    Failover,
    /// The model is switched again and again.
    Failovers,
    /// The share of failed requests is too large.
    FailureRate,
    /// The share of a tier's failed calls is too large, even if other tiers answer the requests. Off by default.
    TierFailureRate,
    /// The share of requests that a tier other than the first answers is too large. Off by default.
    FallbackShare,
    /// Too many calls to a tier are slow.
    Slow,
    /// Every tier has failed requests.
    AllTiersFailed,
    /// A provider has refused a key.
    KeyRefused,
    /// A source of credentials gives no new token.
    Credentials,
    /// A share of a spending cap is used up.
    Budget,
    /// Requests wait for a person.
    HandoffWaiting,
    /// A new configuration was refused.
    ReloadRefused,
    /// A store does not answer.
    StoreAway,
}

impl Rule {
    /// A stable name in `snake_case`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::Failovers => "failovers",
            Self::FailureRate => "failure_rate",
            Self::TierFailureRate => "tier_failure_rate",
            Self::FallbackShare => "fallback_share",
            Self::Slow => "slow",
            Self::AllTiersFailed => "all_tiers_failed",
            Self::KeyRefused => "key_refused",
            Self::Credentials => "credentials",
            Self::Budget => "budget",
            Self::HandoffWaiting => "handoff_waiting",
            Self::ReloadRefused => "reload_refused",
            Self::StoreAway => "store_away",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The severity of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// Someone should look at it; callers get answers.
    Warning,
    /// Someone must act now; callers get no answers.
    Critical,
}

impl Severity {
    /// A stable name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// Returns the urgency for the receiver: `warn` or `page`.
    pub const fn urgency(self) -> &'static str {
        match self {
            Self::Warning => "warn",
            Self::Critical => "page",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The state of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlertState {
    /// The condition holds.
    Firing,
    /// The condition has ended.
    Resolved,
}

impl AlertState {
    /// A stable name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

impl fmt::Display for AlertState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
