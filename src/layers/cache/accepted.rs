//! What features accept, as fallbacks further in say with each answer and each failure.

use std::{collections::HashMap, sync::Arc};

use crate::{
    internal::sync::{Mutex, lock},
    request::WORST_LEVEL,
};

/// The worst level of each feature that does not accept any. Only features of a fallback's settings are in it.
#[derive(Default)]
pub(super) struct Accepted(Mutex<HashMap<Arc<str>, u8>>);

impl Accepted {
    /// A request of this feature has passed a fallback that says so, or none that says anything.
    pub(super) fn note(&self, feature: Option<&Arc<str>>, worst_level: Option<u8>) {
        let Some(feature) = feature else { return };
        let mut known = lock(&self.0);
        match worst_level {
            Some(worst) if known.get(feature) != Some(&worst) => _ = known.insert(feature.clone(), worst),
            None if !known.is_empty() => _ = known.remove(feature),
            _ => {}
        }
    }

    /// The worst level that the feature accepts.
    pub(super) fn worst(&self, feature: Option<&str>) -> u8 {
        let known = lock(&self.0);
        feature.and_then(|feature| known.get(feature)).copied().unwrap_or(WORST_LEVEL)
    }
}
