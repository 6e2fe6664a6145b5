//! A tier of a running stack, as its handle names it.

use std::sync::Arc;

use crate::Provider;

/// A tier of a running stack.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierInfo {
    /// The tier's name.
    pub name: Arc<str>,
    /// The tier's provider.
    pub provider: Provider,
    /// The tier's model, if the configuration names one.
    pub model: Option<Arc<str>>,
    /// The level of service, from 1 (full) to 5 (static).
    pub level: u8,
}
