//! A view of a fallback: which tiers a request may go to, for a hedge, and whether the primary serves, for a
//! recovery check.

use std::sync::{Arc, OnceLock, Weak};

use tokio::time::Instant;

use super::{
    choose::{SessionPolicy, exclusions},
    shared::Shared,
};
use crate::LlmRequest;

/// A view of a fallback. It keeps no part of it alive.
#[derive(Clone, Debug)]
pub struct Eligibility {
    shared: Arc<OnceLock<Weak<Shared>>>,
}

impl Eligibility {
    pub(super) fn new(shared: Arc<OnceLock<Weak<Shared>>>) -> Self {
        Self { shared }
    }

    fn shared(&self) -> Option<Arc<Shared>> {
        self.shared.get()?.upgrade()
    }

    /// Returns whether the tier of this name may serve a request. Its feature and the model that it names must
    /// allow it, and the tier must have the needed capabilities, be in service, and not conflict with the request's
    /// session.
    pub fn admits(&self, tier: &str, request: &LlmRequest) -> bool {
        let Some(shared) = self.shared() else { return false };
        let config = &shared.config;
        let Some(tier) = config.place(tier) else { return false };
        let policy = config.policy(request);
        request.goes_anywhere()
            && (config.sessions.policy == SessionPolicy::Free || request.session().is_none())
            && config.chain(request, policy).iter(config.tiers()).any(|other| other == tier)
            && exclusions(config, request, &policy.terms).iter().all(|excluded| excluded.tier != tier)
    }

    /// Returns when requests that begin at this tier last found that it does not serve them; `None` while it does, and
    /// while it is drained by hand.
    pub fn away_since(&self, tier: &str) -> Option<Instant> {
        let shared = self.shared()?;
        shared.away_since(shared.config.place(tier)?)
    }

    /// Records that a tier has answered a check that was sent at this time and was no caller's request. Requests that
    /// begin at it are served there again.
    pub fn works(&self, tier: &str, asked: Instant) {
        if let Some(shared) = self.shared()
            && let Some(tier) = shared.config.place(tier)
        {
            shared.works(tier, asked);
        }
    }
}
