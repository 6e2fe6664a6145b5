//! The settings of a layer.

use std::time::Duration;

/// The settings of [`IdempotencyLayer`](super::IdempotencyLayer).
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) ttl: Duration,
    pub(super) grace: Duration,
    pub(super) lease: Duration,
    pub(super) max_answer: usize,
    pub(super) derive: bool,
    pub(super) store_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ttl: TTL,
            grace: GRACE,
            lease: LEASE,
            max_answer: MAX_ANSWER,
            derive: false,
            store_timeout: STORE_TIMEOUT,
        }
    }
}

/// The default of `IdempotencyLayer::ttl`, as Stripe's API keeps its keys.
const TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// The default of `IdempotencyLayer::grace`.
const GRACE: Duration = Duration::from_secs(60);
/// The default of `IdempotencyLayer::lease`.
const LEASE: Duration = Duration::from_secs(30);
/// The default of `IdempotencyLayer::max_answer`, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;
/// The default of `IdempotencyLayer::store_timeout`: a caller waits for a store at most twice.
const STORE_TIMEOUT: Duration = Duration::from_millis(500);
