//! The hub of a stack's replicas.

use super::headroom::SharedHeadroom;
use steadfast::CacheHandle;
use steadfast_stores::redis::Redis;

/// A Redis with the state kept there. Clones are the same hub.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaHub {
    pub(crate) redis: Redis,
    /// The answers of a `shared` cache.
    pub(crate) answers: CacheHandle,
    pub(crate) headroom: SharedHeadroom,
}

impl ReplicaHub {
    pub(crate) fn at(redis: Redis) -> Self {
        Self { answers: CacheHandle::over(redis.clone()), headroom: SharedHeadroom::new(redis.clone()), redis }
    }
}
