use std::time::Duration;

use super::{Rule, Severity};
use steadfast::InvalidConfig;

/// The thresholds at which alerts fire. Each rule has a default, can be changed, and can be switched off.
///
/// | rule | fires | ends |
/// |---|---|---|
/// | `failover` | when another tier serves in place of a primary | when the primary has served again for a minute |
/// | `failovers` | after more than 3 switches of the model in 10 min | after a minute below that |
/// | `failure_rate` | when more than 5 % of more than 100 requests of 1 h failed or broke | after a minute below that |
/// | `tier_failure_rate` | likewise for a tier's calls; off by default | likewise |
/// | `fallback_share` | when more than 5 % of more than 20 answers of 10 min came from a tier other than the first: a warning, and critical above 20 %; off by default | after a minute below that |
/// | `slow` | when more than 20 % of more than 5 calls to a tier within 5 min had no first token after 20 s (a whole answer: after 2 min), or ran into a limit of time | after a minute below that |
/// | `all_tiers_failed` | when every tier has failed more than 1 request over at least 5 s, and more than 10 % of those of 1 min or all since the last answer | when requests are answered and 5 min pass without another |
/// | `key_refused` | at once when a provider has refused a key | when that tier answers again |
/// | `credentials` | when a source of credentials gives no new token: a warning, and critical once the last one has ended | when it gives one again |
/// | `budget` | when a share of a cap is used up, as the `Budget` reports it (80 %, 100 %) | when the period ends |
/// | `handoff_waiting` | when a request waits for a person that no person has claimed | when none does |
/// | `reload_refused` | when a new configuration is refused | when one is active |
/// | `store_away` | when a store does not answer | when it answers again |
///
/// One switch of the model is one `failover` alert and its resolution, however long it lasts; repeated switches also
/// fire `failovers`. A failure rate leaves out requests that are the caller's own mistake, that a spending cap refuses,
/// or that the caller abandons. Each rule has a severity, and can be given [another](Self::severity).
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    pub(super) failover: bool,
    pub(super) failovers: Option<Frequency>,
    pub(super) failure_rate: Option<Rate>,
    pub(super) tier_failure_rate: Option<Rate>,
    pub(super) fallback_share: Option<FallbackShare>,
    pub(super) slow: Option<Slowness>,
    pub(super) all_tiers_failed: Option<TotalFailure>,
    pub(super) key_refused: bool,
    pub(super) credentials: bool,
    pub(super) budget_from: Option<u8>,
    pub(super) handoff_waiting: bool,
    pub(super) reload_refused: bool,
    pub(super) store_away: bool,
    pub(super) repeat: Option<Duration>,
    /// Severities that differ from the rule's own.
    pub(super) severities: Vec<(Rule, Severity)>,
}

/// The rule on the share of requests that fallbacks serve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FallbackShare {
    /// The rate from which it is a warning.
    pub warn: Rate,
    /// The share above which it is critical; `None` means never.
    pub page_share: Option<f64>,
}

/// A number of events within a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frequency {
    /// The number that is still in order.
    pub more_than: u64,
    /// The time over which they count.
    pub within: Duration,
}

/// A share of the requests within a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// The share, from 0 to 1.
    pub share: f64,
    /// The number of requests below which the rule says nothing.
    pub min_requests: u64,
    /// The time over which they count.
    pub within: Duration,
}

/// The rule on slow calls. A call is slow if its first token, or a whole answer, comes later than this, or if a limit
/// of time other than its caller's ends it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slowness {
    /// The longest time to a stream's first token that is in order.
    pub first_token: Duration,
    /// The longest time to a whole answer that is in order.
    pub answer: Duration,
    /// The share of a tier's calls that may be slow.
    pub rate: Rate,
}

/// The rule on requests that every tier has failed: an outage, and not an unlucky request.
///
/// They count within a time or, where no request is answered between them, however far apart they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TotalFailure {
    /// The number that is still in order.
    pub more_than: u64,
    /// The share of the requests, from 0 to 1, that is still in order.
    pub share: f64,
    /// The time over which they count.
    pub within: Duration,
}

impl Rate {
    /// Returns whether this many failures exceed the rate.
    pub(super) fn is_exceeded(&self, all: u64, failed: u64) -> bool {
        all > self.min_requests && failed as f64 > self.share * all as f64
    }
}

impl Rules {
    /// Creates rules with the defaults of the table above.
    pub fn new() -> Self {
        Self {
            failover: true,
            failovers: Some(FAILOVERS),
            failure_rate: Some(RATE),
            tier_failure_rate: None,
            fallback_share: None,
            slow: Some(SLOWNESS),
            all_tiers_failed: Some(TOTAL_FAILURE),
            key_refused: true,
            credentials: true,
            budget_from: Some(0),
            handoff_waiting: true,
            reload_refused: true,
            store_away: true,
            repeat: None,
            severities: Vec::new(),
        }
    }

    /// Creates rules that are all off.
    pub fn none() -> Self {
        Self {
            failover: false,
            failovers: None,
            failure_rate: None,
            tier_failure_rate: None,
            fallback_share: None,
            slow: None,
            all_tiers_failed: None,
            key_refused: false,
            credentials: false,
            budget_from: None,
            handoff_waiting: false,
            reload_refused: false,
            store_away: false,
            repeat: None,
            severities: Vec::new(),
        }
    }

    /// Sets whether an alert fires while another tier serves in place of a primary. Default: yes.
    #[must_use]
    pub fn failover(mut self, on: bool) -> Self {
        self.failover = on;
        self
    }

    /// Fires when the model switches more than this many times within the window. Default: 3 in 10 min.
    ///
    /// # Errors
    ///
    /// Returns an error if the window is zero.
    pub fn failovers(mut self, more_than: u64, within: Duration) -> Result<Self, InvalidConfig> {
        self.failovers = Some(Frequency { more_than, within: not_zero("failovers", within)? });
        Ok(self)
    }

    /// Switches [`failovers`](Self::failovers) off.
    #[must_use]
    pub fn without_failovers(mut self) -> Self {
        self.failovers = None;
        self
    }

    /// Fires when more than this share (above 0, below 1) of more than `min_requests` requests within the window fail,
    /// or break after their first token. Default: 0.05 of 100 in 1 h.
    ///
    /// # Errors
    ///
    /// Returns an error if the share is out of range or the window is zero.
    pub fn failure_rate(mut self, share: f64, min_requests: u64, within: Duration) -> Result<Self, InvalidConfig> {
        self.failure_rate = Some(rate("failure_rate", share, min_requests, within)?);
        Ok(self)
    }

    /// Switches [`failure_rate`](Self::failure_rate) off.
    #[must_use]
    pub fn without_failure_rate(mut self) -> Self {
        self.failure_rate = None;
        self
    }

    /// Fires likewise for the calls sent to each tier, retries included, whether or not another tier answers the
    /// request in the end. It shows a failing tier while callers notice nothing. Default: off.
    ///
    /// # Errors
    ///
    /// Returns an error as [`failure_rate`](Self::failure_rate) does.
    pub fn tier_failure_rate(mut self, share: f64, min_calls: u64, within: Duration) -> Result<Self, InvalidConfig> {
        self.tier_failure_rate = Some(rate("tier_failure_rate", share, min_calls, within)?);
        Ok(self)
    }

    /// Fires when more than this share (above 0, below 1) of more than `min_answers` answers within the window come
    /// from a tier other than the first: the product runs on its fallbacks. It is a warning, and critical above
    /// `page_share`, if given. Default: off; from a file 0.05 and 0.2 of 20 in 10 min.
    ///
    /// # Errors
    ///
    /// Returns an error if a share is out of range, the second is not above the first, or the window is zero.
    pub fn fallback_share(
        mut self,
        share: f64,
        page_share: Option<f64>,
        min_answers: u64,
        within: Duration,
    ) -> Result<Self, InvalidConfig> {
        let warn = rate("fallback_share", share, min_answers, within)?;
        if page_share.is_some_and(|page| !(page > share && page < 1.0)) {
            let problem = "the critical share must be above the first share and below 1";
            return Err(InvalidConfig::new("fallback_share", problem));
        }
        self.fallback_share = Some(FallbackShare { warn, page_share });
        Ok(self)
    }

    /// Overrides the severity of a rule's alerts. Alerts above the second share of
    /// [`fallback_share`](Self::fallback_share) stay critical.
    #[must_use]
    pub fn severity(mut self, rule: Rule, severity: Severity) -> Self {
        self.severities.retain(|(other, _)| *other != rule);
        self.severities.push((rule, severity));
        self
    }

    /// Fires when more than a share of a tier's calls are slow. Default: [`SLOWNESS`].
    ///
    /// # Errors
    ///
    /// Returns an error if the share is out of range, or a time is zero.
    pub fn slow(mut self, limits: Slowness) -> Result<Self, InvalidConfig> {
        let Rate { share, min_requests, within } = limits.rate;
        not_zero("slow", limits.first_token)?;
        not_zero("slow", limits.answer)?;
        self.slow = Some(Slowness { rate: rate("slow", share, min_requests, within)?, ..limits });
        Ok(self)
    }

    /// Switches [`slow`](Self::slow) off.
    #[must_use]
    pub fn without_slow(mut self) -> Self {
        self.slow = None;
        self
    }

    /// Fires when every tier fails so many requests. Default: [`TOTAL_FAILURE`].
    ///
    /// # Errors
    ///
    /// Returns an error if the share is not from 0 to below 1, or the window is zero.
    pub fn all_tiers_failed(mut self, limits: TotalFailure) -> Result<Self, InvalidConfig> {
        if !(limits.share >= 0.0 && limits.share < 1.0) {
            return Err(InvalidConfig::new("all_tiers_failed", "the share must be at least 0 and below 1"));
        }
        not_zero("all_tiers_failed", limits.within)?;
        self.all_tiers_failed = Some(limits);
        Ok(self)
    }

    /// Switches [`all_tiers_failed`](Self::all_tiers_failed) off.
    #[must_use]
    pub fn without_all_tiers_failed(mut self) -> Self {
        self.all_tiers_failed = None;
        self
    }

    /// Sets whether an alert fires when a provider refuses a key. Default: yes.
    #[must_use]
    pub fn key_refused(mut self, on: bool) -> Self {
        self.key_refused = on;
        self
    }

    /// Fires for shares of a cap from this percentage up; `None` switches the rule off. The budget's settings decide
    /// which shares it reports at all. Default: 0, every reported share.
    #[must_use]
    pub fn budget(mut self, from_percent: Option<u8>) -> Self {
        self.budget_from = from_percent;
        self
    }

    /// Sets whether an alert fires while a source of credentials gives no new token. Default: yes.
    #[must_use]
    pub fn credentials(mut self, on: bool) -> Self {
        self.credentials = on;
        self
    }

    /// Sets whether an alert fires while requests wait for a person and no person works on them. Default: yes.
    #[must_use]
    pub fn handoff_waiting(mut self, on: bool) -> Self {
        self.handoff_waiting = on;
        self
    }

    /// Sets whether an alert fires when a new configuration is refused. Default: yes.
    #[must_use]
    pub fn reload_refused(mut self, on: bool) -> Self {
        self.reload_refused = on;
        self
    }

    /// Sets whether an alert fires while a store does not answer. Default: yes.
    #[must_use]
    pub fn store_away(mut self, on: bool) -> Self {
        self.store_away = on;
        self
    }

    /// Repeats an alert at this interval while its condition holds. Default: never.
    ///
    /// # Errors
    ///
    /// Returns an error if the interval is zero.
    pub fn repeat(mut self, every: Duration) -> Result<Self, InvalidConfig> {
        self.repeat = Some(not_zero("repeat", every)?);
        Ok(self)
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::new()
    }
}

fn rate(field: &'static str, share: f64, min_requests: u64, within: Duration) -> Result<Rate, InvalidConfig> {
    if !(share > 0.0 && share < 1.0) {
        return Err(InvalidConfig::new(field, "the share must be above 0 and below 1"));
    }
    Ok(Rate { share, min_requests, within: not_zero(field, within)? })
}

fn not_zero(field: &'static str, time: Duration) -> Result<Duration, InvalidConfig> {
    if time.is_zero() { Err(InvalidConfig::new(field, "the time must be longer than zero")) } else { Ok(time) }
}

/// The default rule on failovers: more than 3 within ten minutes.
pub const FAILOVERS: Frequency = Frequency { more_than: 3, within: Duration::from_secs(600) };
/// The default rule on the share of failures: 5 % of at least 100 requests within an hour.
pub const RATE: Rate = Rate { share: 0.05, min_requests: 100, within: Duration::from_secs(3600) };
/// The numbers for a file that gives none. The rule is off by default.
pub const FALLBACK_SHARE: FallbackShare = FallbackShare {
    warn: Rate { share: 0.05, min_requests: 20, within: Duration::from_secs(600) },
    page_share: Some(0.2),
};
/// The default rule on slow calls: 20 s to the first token, 2 min for a whole answer, and 20 % of more than 5 calls in
/// 5 min.
pub const SLOWNESS: Slowness = Slowness {
    first_token: Duration::from_secs(20),
    answer: Duration::from_secs(120),
    rate: Rate { share: 0.2, min_requests: 5, within: Duration::from_secs(300) },
};
/// The default rule on total failures: more than one, and more than 10 % of the requests of a minute.
pub const TOTAL_FAILURE: TotalFailure = TotalFailure { more_than: 1, share: 0.1, within: Duration::from_secs(60) };
/// More tiers than a rule needs to tell apart.
pub(super) const MAX_TIERS: usize = 128;
