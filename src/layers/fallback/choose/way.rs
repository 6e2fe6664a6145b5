//! The ways that ordinary requests and their answers take, by the settings alone.

use super::{AllOpen, SessionPolicy, StreamBreak, config::Config};
use crate::request::BEST_LEVEL;

/// What may keep an ordinary request from going to the primary first, and then to all tiers in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Detour {
    /// Nothing.
    None,
    /// The model that it names.
    ByModel,
    /// Also its needs: capabilities that a tier lacks, a level of service, a wait until a tier works.
    ByNeeds,
    /// Also the chain of its feature or its model, or its session.
    ByChain,
}

impl Detour {
    pub(crate) fn of(config: &Config) -> Self {
        let policies = &config.policies;
        let mut tiers = (0..config.tiers()).map(|tier| config.settings(tier));
        if policies.any(|policy| policy.tiers.is_some())
            || !config.models.is_empty()
            || config.sessions.policy != SessionPolicy::Free
        {
            Self::ByChain
        } else if policies.any(|policy| policy.terms.accepts().is_some() || policy.terms.all_open() != AllOpen::Fail)
            || tiers.clone().any(|settings| settings.capabilities.is_limited())
        {
            Self::ByNeeds
        } else if tiers.any(|settings| settings.model.is_some()) {
            Self::ByModel
        } else {
            Self::None
        }
    }
}

/// What an answer of the primary needs before it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Finish {
    /// Nothing: it goes on unmarked, and its stream unwatched.
    Nothing,
    /// Its level and its chain, and its stream's policy.
    Marks,
    /// Also the worst level that its feature accepts.
    Levels,
}

impl Finish {
    pub(crate) fn of(config: &Config) -> Self {
        let policies = &config.policies;
        if policies.any(|policy| policy.terms.accepts().is_some()) {
            Self::Levels
        } else if policies.any(|policy| policy.terms.stream_break() != StreamBreak::Fail)
            || config.named_chain.is_some()
            || config.primary.settings.level != BEST_LEVEL
        {
            Self::Marks
        } else {
            Self::Nothing
        }
    }
}
