use std::time::Duration;

use steadfast::layers::bulkhead::RateLevel;

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
