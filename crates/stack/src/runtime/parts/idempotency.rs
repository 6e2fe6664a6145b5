//! The answers by idempotency key.

use super::{key_store::KeyStore, stores::OpenStores};
use crate::Idempotency;
use steadfast::{
    Events, IdempotencyHandle, IdempotencyLayer, layers::idempotency::MemoryIdempotency, store::StoreTrouble,
};

/// The answers by idempotency key, and their store.
pub(crate) struct IdempotencyState {
    keys: KeyStore,
    handle: IdempotencyHandle,
}

impl IdempotencyState {
    /// Builds the layer; `None` if the file has none. Known keys survive reloads, even if their bounds change, unless
    /// the store changes.
    pub(crate) fn new(
        config: Option<Idempotency>,
        stores: &OpenStores,
        events: &Events,
        known: Option<&Self>,
    ) -> Option<(Self, IdempotencyLayer)> {
        let Idempotency { ttl, grace, max_bytes, derive } = config?;
        let keys = stores.keys().unwrap_or_else(|| KeyStore::Memory(MemoryIdempotency::new()));
        let known = known.filter(|known| known.keys.is(&keys));
        let keys = known.map_or(keys, |known| known.keys.clone());
        keys.set_max_bytes(max_bytes.map(|size| size.0));
        let mut layer = keys.layer().derive(derive);
        if let Some(known) = known {
            layer = layer.state(&known.handle);
        }
        layer = layer.events(events);
        if let Some(ttl) = ttl {
            layer = layer.ttl(ttl.0);
        }
        if let Some(grace) = grace {
            layer = layer.grace(grace.0);
        }
        Some((Self { keys, handle: layer.handle() }, layer))
    }

    pub(crate) fn handle(&self) -> IdempotencyHandle {
        self.handle.clone()
    }

    pub(crate) fn troubles(&self) -> Vec<StoreTrouble> {
        self.handle.troubles()
    }
}
