use std::sync::Arc;

use tokio::time::Instant;

use super::{AtCap, Period};
use crate::prices::Usd;

/// The spending under a cap in this period.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CapSpend {
    /// The cap's name.
    pub cap: Arc<str>,
    /// The key, of a cap for each key.
    pub key: Option<Arc<str>>,
    /// The feature whose requests count; `None` for any.
    pub feature: Option<Arc<str>>,
    /// The period.
    pub period: Period,
    /// The reaction at the cap.
    pub at_cap: AtCap,
    /// The amount spent, by answers and attempts that have ended.
    pub spent: Usd,
    /// The amount reserved for requests in flight.
    pub reserved: Usd,
    /// The limit.
    pub limit: Usd,
    /// The end of the period.
    pub resets_at: Instant,
    /// True if `spent` is that of all replicas, as of a second ago. What is reserved is this one's in any case.
    pub shared: bool,
}
