//! A key's allowance: the part of its limits that is left.

use std::time::Duration;

use steadfast::layers::{budget::CapSpend, bulkhead::RateLevel};
use tokio::time::Instant;

use super::{Key, Keys, limits::KeyLimits};

/// What a key may still do.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    pub(crate) requests: Option<Level>,
    pub(crate) tokens: Option<Level>,
    /// The caps under which a call counts.
    pub(crate) caps: Vec<CapSpend>,
}

/// The level of a limit per minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) limit: u32,
    pub(crate) left: u32,
    /// The time until the whole limit is left.
    pub(crate) full_in: Duration,
}

impl From<RateLevel> for Level {
    fn from(RateLevel { limit, left, full_in, .. }: RateLevel) -> Self {
        Self { limit, left, full_in: full_in.unwrap_or_default() }
    }
}

impl Allowance {
    /// Returns whether the key has no limits.
    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_none() && self.tokens.is_none() && self.caps.is_empty()
    }
}

impl Keys {
    /// Returns the allowance of a key for calls of this feature.
    pub(crate) fn allowance(&self, key: &Key, feature: Option<&str>) -> Allowance {
        let caps = self.stack.as_ref().map(|stack| stack.spend_of_call(&key.name, key.team.as_deref(), feature));
        Allowance { requests: key.requests(), tokens: key.tokens(), caps: caps.unwrap_or_default() }
    }
}

impl Key {
    /// Returns the level of its requests per minute, if they have a limit.
    pub(super) fn requests(&self) -> Option<Level> {
        self.rate.as_ref().map(|rate| rate.level(Instant::now()))
    }

    /// Returns the level of its tokens per minute, if they have a limit.
    pub(super) fn tokens(&self) -> Option<Level> {
        self.limits.as_ref().and_then(KeyLimits::tokens)
    }
}
