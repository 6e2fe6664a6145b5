//! The hub of a stack's replicas.

use super::headroom::SharedHeadroom;
use steadfast::CacheHandle;
use steadfast_stores::redis::Redis;

/// A Redis with the state kept there. Clones are the same hub.
#[derive(Clone, Debug)]
pub(super) struct ReplicaHub {
    pub(super) redis: Redis,
    /// The answers of a `shared` cache.
    pub(super) answers: CacheHandle,
    pub(super) headroom: SharedHeadroom,
}

impl ReplicaHub {
    pub(super) fn at(redis: Redis) -> Self {
        Self { answers: CacheHandle::over(redis.clone()), headroom: SharedHeadroom::new(redis.clone()), redis }
    }
}
