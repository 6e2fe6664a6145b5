//! The settings of a layer, and what is decided by them alone.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    BoxLlmService, Classifier, ErrorKind, Events, LlmError, LlmRequest, RetryBudget,
    classify::{Failover, Retry},
};

/// Which requests may have a second call.
type Only = dyn Fn(&LlmRequest) -> bool + Send + Sync;

#[derive(Clone)]
pub(super) struct Settings {
    /// The name of the tier that the layer is put around.
    pub(super) tier: Arc<str>,
    pub(super) second: Second,
    /// Whether another tier may answer requests of a session.
    pub(super) takes_sessions: bool,
    pub(super) after: After,
    /// What a delay that was found out is kept within.
    pub(super) floor: Duration,
    pub(super) ceiling: Duration,
    /// From how many observed times on one is found out.
    pub(super) least: u32,
    /// Second calls as a share of first ones.
    pub(super) extra: RetryBudget,
    /// The retry budget that they are taken from too.
    pub(super) budget: RetryBudget,
    pub(super) classifier: Classifier,
    pub(super) events: Option<Events>,
    pub(super) only: Option<Arc<Only>>,
    /// The same, asked when one is about to be made.
    pub(super) at_last: Option<Arc<Only>>,
}

/// Where a second call goes.
#[derive(Clone)]
pub(super) enum Second {
    /// To the service that the first went to.
    Same,
    /// To another tier.
    Tier { name: Arc<str>, service: BoxLlmService },
}

/// When it goes out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum After {
    /// When this share of the calls before had their answer.
    Quantile(f64),
    Fixed(Duration),
}

impl Settings {
    pub(super) fn new(tier: Arc<str>) -> Self {
        Self {
            tier,
            second: Second::Same,
            takes_sessions: false,
            after: After::Quantile(0.95),
            floor: Duration::from_millis(20),
            ceiling: Duration::from_secs(10),
            least: 20,
            extra: share(0.05),
            budget: RetryBudget::unlimited(),
            classifier: Classifier::default(),
            events: None,
            only: None,
            at_last: None,
        }
    }

    /// The name of the tier that second calls go to.
    pub(super) fn to(&self) -> &Arc<str> {
        match &self.second {
            Second::Same => &self.tier,
            Second::Tier { name, .. } => name,
        }
    }

    pub(super) fn is_same(&self) -> bool {
        matches!(self.second, Second::Same)
    }

    /// Whether a request may have a second call at all.
    #[inline]
    pub(super) fn may_hedge(&self, request: &LlmRequest) -> bool {
        let elsewhere = match &self.second {
            Second::Same => !request.is_human_required(),
            // A session is with the tier that answered it before, wherever it is that this is remembered.
            Second::Tier { .. } => request.goes_anywhere() && (self.takes_sessions || request.session_id().is_none()),
        };
        let may_send = !self.extra.allows_none() && request.context().attempts_left > 1;
        elsewhere && may_send && self.only.as_ref().is_none_or(|only| only(request))
    }

    /// Whether this failure of the first call is a reason for the second at once.
    pub(super) fn begins_after(&self, error: &LlmError, now: Instant) -> bool {
        let kind = error.kind();
        // Who asks to be left alone is not answered with more calls of the same request, here or elsewhere.
        let asks_to_wait = kind == ErrorKind::RateLimited
            || error.retry_at().is_some_and(|at| at > now)
            || error.should_retry() == Some(false);
        !asks_to_wait && !error.is_unsent() && self.classifier.classify(error).retry != Retry::No
    }

    /// Whether this failure is the request's own, so that the other call is not worth waiting for.
    pub(super) fn ends_both(&self, error: &LlmError) -> bool {
        match self.classifier.classify(error).failover {
            Failover::No | Failover::IfRouted | Failover::LargerWindow => true,
            Failover::Yes | Failover::IfWorked => false,
        }
    }
}

/// A budget of so many second calls for each first one, with none for a start.
fn share(extra: f64) -> RetryBudget {
    share_of(extra).expect("it is between 0 and 1")
}

/// As many may come at once as are saved up: of a healthy hour, the hundred requests that a stall meets first.
const SAVED_UP: u32 = 100;

pub(super) fn share_of(extra: f64) -> Result<RetryBudget, crate::InvalidConfig> {
    if !(0.0..=1.0).contains(&extra) {
        let problem = format!("{extra} is not a share of calls; use 0 to 1, such as 0.05");
        return Err(crate::InvalidConfig::new("hedge extra", problem));
    }
    RetryBudget::with_limits(extra, 0.0, SAVED_UP)
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("tier", &self.tier)
            .field("to", self.to())
            .field("after", &self.after)
            .field("extra", &self.extra)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}
