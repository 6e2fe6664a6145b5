//! Where a request may go, for whoever would send it to a tier without being asked to; and whether the primary serves, for whoever
//! looks at it without a request.

use std::sync::Weak;

use tokio::time::Instant;

use super::{SessionPolicy, shared::Shared, unable::unable};
use crate::LlmRequest;

/// Looks at a fallback. It keeps nothing alive.
#[derive(Clone)]
pub(crate) struct Outlook {
    shared: Weak<Shared>,
}

impl Outlook {
    pub(super) fn new(shared: Weak<Shared>) -> Self {
        Self { shared }
    }

    /// Whether the tier of this name may serve a request: its feature and the model that it names allow it, it has what the
    /// request needs, nobody has taken it out of service, and no session stays elsewhere.
    pub(crate) fn admits(&self, tier: &str, request: &LlmRequest) -> bool {
        let Some(shared) = self.shared.upgrade() else { return false };
        let Some(tier) = shared.place(tier) else { return false };
        request.goes_anywhere()
            && (shared.config.session == SessionPolicy::Free || request.session_id().is_none())
            && shared.chain(request).iter(&shared).any(|other| other == tier)
            && unable(&shared, request).iter().all(|unable| unable.tier != tier)
    }

    /// When requests last found that the primary does not serve them; `None` while it does, and where it is out of service by
    /// hand.
    pub(crate) fn away_since(&self) -> Option<Instant> {
        self.shared.upgrade()?.away_since()
    }

    /// A tier has answered what was asked at this moment, and was no caller's request: where it is the primary, it serves again.
    pub(crate) fn works(&self, tier: &str, asked: Instant) {
        if let Some(shared) = self.shared.upgrade()
            && shared.place(tier) == Some(0)
        {
            shared.primary_works(asked);
        }
    }
}
