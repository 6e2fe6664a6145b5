//! The effect of a reload.

use std::sync::Arc;

/// A reload's effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reload {
    /// Tiers whose leaf and circuit continue unchanged.
    pub kept: Vec<Arc<str>>,
    /// Tiers that are new, or changed and therefore restarted.
    pub changed: Vec<Arc<str>>,
    /// Tiers that are removed once their requests in flight have ended.
    pub removed: Vec<Arc<str>>,
    /// The paths of all settings that differ from those before, such as `tiers.sonnet` and `features.chat`: see
    /// [`Config::changes_since`](crate::Config::changes_since).
    pub settings: Vec<Box<str>>,
}
