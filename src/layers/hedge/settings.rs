//! The settings of a layer, and the decisions that depend on them alone.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    BoxLlmService, Classifier, ErrorKind, Events, InvalidConfig, LlmError, LlmRequest, RetryBudget,
    classify::{Failover, Retry},
    response::ShardedName,
};

/// A condition for requests that may have a second call.
type Only = dyn Fn(&LlmRequest) -> bool + Send + Sync;

#[derive(Clone)]
pub(super) struct Settings {
    /// The name of the tier that the layer is put around.
    pub(super) tier: ShardedName,
    pub(super) second: SecondTarget,
    /// True if another tier may answer requests of a session.
    pub(super) takes_sessions: bool,
    pub(super) after: Delay,
    /// The bounds of an observed delay.
    pub(super) floor: Duration,
    pub(super) ceiling: Duration,
    /// The number of observed times from which a delay is computed.
    pub(super) least: u32,
    /// The budget of second calls, as a share of first ones.
    pub(super) extra: RetryBudget,
    /// The retry budget that they are taken from too.
    pub(super) budget: RetryBudget,
    pub(super) classifier: Classifier,
    pub(super) events: Option<Events>,
    pub(super) only: Option<Arc<Only>>,
    /// A second condition, checked when a second call is about to be made.
    pub(super) at_last: Option<Arc<Only>>,
}

/// The target of a second call.
#[derive(Clone)]
pub(super) enum SecondTarget {
    /// The first call's service.
    Same,
    /// Another tier.
    Tier { name: ShardedName, service: BoxLlmService },
}

/// The delay of a second call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Delay {
    /// The time within which this share of earlier calls was answered.
    Quantile(f64),
    Fixed(Duration),
}

impl Settings {
    pub(super) fn new(tier: Arc<str>) -> Self {
        Self {
            tier: ShardedName::new(tier),
            second: SecondTarget::Same,
            takes_sessions: false,
            after: Delay::Quantile(QUANTILE),
            floor: Duration::from_millis(20),
            ceiling: Duration::from_secs(10),
            least: 20,
            extra: share(EXTRA),
            budget: RetryBudget::unlimited(),
            classifier: Classifier::default(),
            events: None,
            only: None,
            at_last: None,
        }
    }

    /// Returns the name of the tier that second calls go to.
    pub(super) fn to(&self) -> &ShardedName {
        match &self.second {
            SecondTarget::Same => &self.tier,
            SecondTarget::Tier { name, .. } => name,
        }
    }

    pub(super) fn is_same(&self) -> bool {
        matches!(self.second, SecondTarget::Same)
    }

    /// Returns whether a request may have a second call at all.
    #[inline]
    pub(super) fn may_hedge(&self, request: &LlmRequest) -> bool {
        let elsewhere = match &self.second {
            SecondTarget::Same => !request.is_human_required(),
            // A session stays with the tier that answered it before, wherever that is recorded.
            SecondTarget::Tier { .. } => {
                request.goes_anywhere() && (self.takes_sessions || request.session().is_none())
            }
        };
        let may_send = !self.extra.allows_none() && request.context().attempts_left > 1;
        elsewhere && may_send && self.only.as_ref().is_none_or(|only| only(request))
    }

    /// Returns whether this failure of the first call is a reason for the second at once.
    pub(super) fn begins_after(&self, error: &LlmError, now: Instant) -> bool {
        let kind = error.kind();
        // A provider that asks to be left alone gets no more calls for the same request, here or elsewhere.
        let asks_to_wait = kind == ErrorKind::RateLimited
            || error.retry_at().is_some_and(|at| at > now)
            || error.should_retry() == Some(false);
        !asks_to_wait && !error.is_unsent() && self.classifier.classify(error).retry != Retry::No
    }

    /// Returns whether this failure is the request's own, so that the other call is not worth waiting for.
    pub(super) fn ends_both(&self, error: &LlmError) -> bool {
        match self.classifier.classify(error).failover {
            Failover::No | Failover::IfRouted | Failover::LargerWindow => true,
            Failover::Yes | Failover::AfterAnother | Failover::SecondOpinion => false,
        }
    }
}

/// The default of [`HedgeLayer::quantile`](super::HedgeLayer::quantile).
pub(super) const QUANTILE: f64 = 0.95;
/// The default of [`HedgeLayer::extra`](super::HedgeLayer::extra).
pub(super) const EXTRA: f64 = 0.05;

/// Returns a budget of so many second calls for each first one, with none to start with.
pub(super) fn share(extra: f64) -> RetryBudget {
    share_of(extra).expect("it is between 0 and 1")
}

/// The most second calls that may be saved up, and so come at once: enough for the first hundred requests that a
/// stall meets after a healthy hour.
const SAVED_UP: u32 = 100;

pub(super) fn share_of(extra: f64) -> Result<RetryBudget, InvalidConfig> {
    if !(0.0..=1.0).contains(&extra) {
        let problem = format!("{extra} is not a share of calls; use 0 to 1, such as 0.05");
        return Err(InvalidConfig::new("hedge extra", problem));
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
