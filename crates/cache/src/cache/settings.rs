//! The settings of a layer, and the key that they give a request.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    key::{CacheControl, CacheKey, KeyParts},
    lifetime::Lifetime,
};
use crate::{Classifier, LlmError, LlmRequest, classify::Failover};

/// The settings of [`CacheLayer`](super::CacheLayer).
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) ttl: Duration,
    pub(super) ttl_by: Option<Arc<TtlBy>>,
    pub(super) stale_for: Duration,
    pub(super) max_answer: usize,
    pub(super) single_flight: bool,
    pub(super) max_request: usize,
    pub(super) counts: KeyParts,
    pub(super) hottest: Option<f64>,
    pub(super) classifier: Classifier,
}

/// A user's function that sets the time to live.
type TtlBy = dyn Fn(&LlmRequest) -> Option<Duration> + Send + Sync;

pub(super) const TTL: Duration = Duration::from_secs(5 * 60);
pub(super) const STALE_FOR: Duration = Duration::from_secs(60 * 60);
pub(super) const MAX_ANSWER: usize = 1024 * 1024;
const MAX_REQUEST: usize = 1024 * 1024;

impl Settings {
    /// Returns the key of a request and the age limits of its answer, or `None` if the request passes by.
    pub(super) fn key(&self, request: &LlmRequest) -> Option<(CacheKey, Lifetime)> {
        if request.extensions().get() == Some(&CacheControl::NoStore) {
            return None;
        }
        if request.wire().is_some_and(|wire| wire.body().len() > self.max_request) {
            return None;
        }
        if let Some(hottest) = self.hottest {
            let temperature = request.chat().ok()?.temperature?;
            if temperature.is_nan() || temperature > hottest {
                return None;
            }
        }
        let fresh_for = self.ttl_by.as_ref().map_or(Some(self.ttl), |by| by(request))?;
        Some((self.counts.key(request)?, Lifetime { fresh_for, stale_for: self.stale_for }))
    }

    /// Returns whether an old answer is better than this failure: another tier might have helped, and there was
    /// none.
    pub(super) fn is_outage(&self, error: &LlmError) -> bool {
        matches!(self.classifier.classify(error).failover, Failover::Yes)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ttl: TTL,
            ttl_by: None,
            stale_for: STALE_FOR,
            max_answer: MAX_ANSWER,
            single_flight: true,
            max_request: MAX_REQUEST,
            counts: KeyParts::default(),
            hottest: None,
            classifier: Classifier::default(),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("ttl", &self.ttl)
            .field("stale_for", &self.stale_for)
            .field("max_answer", &self.max_answer)
            .field("single_flight", &self.single_flight)
            .finish_non_exhaustive()
    }
}
