use std::{fmt, sync::Arc};

use tokio::time::Instant;

/// Something that a person should know of, or that it is over.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Alert {
    /// The rule that says so.
    pub rule: Rule,
    /// What it is about: a tier, a cap; empty where a rule has one subject only. One alert fires for each at a time.
    pub key: Arc<str>,
    /// How bad it is.
    pub severity: Severity,
    /// Whether it is so, or over.
    pub state: AlertState,
    /// What happened, in one sentence. No word of a request is in it.
    pub summary: String,
    /// The details, by name.
    pub fields: Vec<(&'static str, String)>,
    /// When it began.
    pub since: Instant,
    /// When this was said.
    pub at: Instant,
    /// Whether it was said before and is still so.
    pub repeated: bool,
}

/// What an alert is about. See [`Rules`](super::Rules) for the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// Another tier serves in place of a primary. Over when the primary serves again.
    Failover,
    /// The model is switched again and again.
    Failovers,
    /// Too large a share of requests fails.
    FailureRate,
    /// Too large a share of a tier's calls fails, even if other tiers answer them. Off by default.
    TierFailureRate,
    /// Too large a share of requests is answered by another tier than the one that was asked first. Off by default.
    FallbackShare,
    /// Every tier has failed a request.
    AllTiersFailed,
    /// A provider has refused a key.
    KeyRefused,
    /// A share of a spending cap is used up.
    Budget,
    /// Requests wait for a person.
    HandoffWaiting,
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
            Self::AllTiersFailed => "all_tiers_failed",
            Self::KeyRefused => "key_refused",
            Self::Budget => "budget",
            Self::HandoffWaiting => "handoff_waiting",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How bad an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// To be looked at: callers have their answers.
    Warning,
    /// To wake somebody: callers go without.
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

    /// What it asks of who is told: `warn` or `page`.
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

/// Whether an alert is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlertState {
    /// It is so.
    Firing,
    /// It is over.
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
