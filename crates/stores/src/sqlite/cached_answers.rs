//! The size and the health of the cache's answers.

use crate::quota::AnswerQuota;
use steadfast::store::StoreGuard;

/// The parts that store answers.
pub(super) struct CachedAnswers {
    pub(super) quota: AnswerQuota,
    pub(super) guard: StoreGuard,
}

impl Default for CachedAnswers {
    fn default() -> Self {
        Self { quota: AnswerQuota::default(), guard: StoreGuard::new("cache") }
    }
}
