//! The store of idempotency keys.

use super::durable_store::DurableStore;
use steadfast::layers::idempotency::{IdempotencyLayer, MemoryIdempotency};
#[cfg(feature = "redis")]
use steadfast_stores::redis::Redis;

/// The store of idempotency keys.
#[derive(Clone, Debug)]
pub(crate) enum KeyStore {
    Memory(MemoryIdempotency),
    Durable(DurableStore),
    /// With a durable store beneath it, if there is one.
    #[cfg(feature = "redis")]
    Redis(Redis, Option<DurableStore>),
}

impl KeyStore {
    /// Returns whether both are the same store.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Memory(_), Self::Memory(_)) => true,
            (Self::Durable(one), Self::Durable(other)) => one.is(other),
            #[cfg(feature = "redis")]
            (Self::Redis(one, beneath), Self::Redis(other, other_beneath)) => {
                let same = match (beneath, other_beneath) {
                    (Some(one), Some(other)) => one.is(other),
                    (one, other) => one.is_none() && other.is_none(),
                };
                same && one.is(other)
            }
            _ => false,
        }
    }

    /// Changes the room for answers, in bytes; `None` selects each store's own default.
    pub(crate) fn set_max_bytes(&self, bytes: Option<u64>) {
        match self {
            Self::Memory(memory) => memory.set_max_bytes(bytes.unwrap_or(MemoryIdempotency::MAX_BYTES)),
            Self::Durable(store) => store.set_max_answer_bytes(bytes),
            // A Redis server limits its own room.
            #[cfg(feature = "redis")]
            Self::Redis(_, beneath) => beneath.iter().for_each(|store| store.set_max_answer_bytes(bytes)),
        }
    }

    pub(crate) fn layer(&self) -> IdempotencyLayer {
        match self.clone() {
            Self::Memory(memory) => IdempotencyLayer::over(memory),
            Self::Durable(store) => store.keys(),
            #[cfg(feature = "redis")]
            Self::Redis(redis, None) => IdempotencyLayer::over(redis),
            #[cfg(feature = "redis")]
            Self::Redis(redis, Some(beneath)) => beneath.keys_beneath(redis),
        }
    }
}
