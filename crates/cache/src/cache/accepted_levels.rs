//! The levels that features accept, as the fallbacks further in report them with each answer and failure.

use std::{collections::HashMap, sync::Arc};

use crate::{
    internal::sync::{Mutex, lock},
    request::WORST_LEVEL,
};

/// The worst accepted level of each feature that has one. Only features in a fallback's settings are listed.
#[derive(Default)]
pub(super) struct AcceptedLevels(Mutex<HashMap<Arc<str>, u8>>);

impl AcceptedLevels {
    /// Records the level that a fallback reported for this feature, or removes it if none was reported.
    pub(super) fn note(&self, feature: Option<&Arc<str>>, worst_level: Option<u8>) {
        let Some(feature) = feature else { return };
        let mut known = lock(&self.0);
        match worst_level {
            Some(worst) if known.get(feature) != Some(&worst) => _ = known.insert(feature.clone(), worst),
            None if !known.is_empty() => _ = known.remove(feature),
            _ => {}
        }
    }

    /// Returns the worst level that the feature accepts.
    pub(super) fn worst(&self, feature: Option<&str>) -> u8 {
        let known = lock(&self.0);
        feature.and_then(|feature| known.get(feature)).copied().unwrap_or(WORST_LEVEL)
    }
}
