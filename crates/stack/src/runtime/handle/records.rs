//! What a stack keeps: answers, responses, tasks, places, and their stores.

use std::sync::Arc;

use tokio::time::Instant;
use tower::BoxError;

use super::StackHandle;
use crate::runtime::parts::{durable_store::DurableStore, object_places::ObjectPlaces, responses::ResponseArchive};
use steadfast::{
    CacheHandle, Event, IdempotencyHandle,
    events::Operation,
    layers::cache::AnswerOwner,
    store::{StoreError, StoreTrouble},
};
use steadfast_handoff::Desk;
use steadfast_ledger::Ledger;
use steadfast_stores::registry::RegistryStore;

impl StackHandle {
    /// Checks that the configured stores can be used, for a start that must fail on a wrong address. Building the
    /// stack already opened a file; a server is contacted here, or else by the first request that needs it. Without
    /// stores, the check succeeds.
    ///
    /// # Errors
    ///
    /// A store cannot be used. If the error [heals](steadfast::store::StoreError::heals), the stack runs without the
    /// store until then.
    pub async fn check_stores(&self) -> Result<(), StoreError> {
        let stores = self.shared.current.load().stores.clone();
        stores.check().await
    }

    /// Returns the current problems of the configured stores, as far as they were used: a store that is unreachable,
    /// full or read-only. Empty if all is well.
    pub fn store_troubles(&self) -> Vec<StoreTrouble> {
        self.shared.current.load().store_troubles()
    }

    /// Returns the calls under idempotency keys; `None` if the configuration has no `idempotency`.
    /// [Close](IdempotencyHandle::close) it at shutdown, so that no call continues for a retry that cannot come.
    pub fn idempotency(&self) -> Option<IdempotencyHandle> {
        self.shared.current.load().idempotency()
    }

    /// Returns the cached answers; `None` if the configuration has no `cache`.
    pub fn cache(&self) -> Option<CacheHandle> {
        self.shared.current.load().cache()
    }

    /// Returns whether the configuration has a `cache`. This is cheap enough for each request, because it clones no
    /// shared reference.
    pub fn keeps_answers(&self) -> bool {
        self.shared.current.load().cache.is_some()
    }

    /// Returns the ledger of what answers cost; `None` if the configuration has none.
    pub fn ledger(&self) -> Option<Ledger> {
        self.shared.current.load().ledger.as_ref().map(|state| state.ledger.clone())
    }

    /// Returns the registry of callers' keys; `None` if the configuration has no durable store. It is the store of this
    /// moment: a reload may open another.
    pub fn registry(&self) -> Option<Arc<dyn RegistryStore>> {
        self.shared.current.load().stores.durable.as_ref().map(DurableStore::registry)
    }

    /// Returns the kept responses; `None` if the configuration keeps none.
    pub fn responses(&self) -> Option<ResponseArchive> {
        self.shared.current.load().responses.clone()
    }

    /// Returns the desk at which people answer tasks; `None` if no tier's provider is `handoff`. Look it up again
    /// after a reload.
    pub fn desk(&self) -> Option<Desk> {
        self.shared.current.load().handoff.as_ref().map(|handoff| handoff.desk.clone())
    }

    /// Returns the places of objects that providers keep.
    pub fn object_places(&self) -> ObjectPlaces {
        self.shared.current.load().objects.clone()
    }

    /// Discards the answers in the [cache](Self::cache), all or those of one feature, for example after their content
    /// has become wrong. Answers still in progress are kept once they arrive. Returns the number of answers before and
    /// after; `None` if the configuration has no `cache`. A store that replicas share discards them for all replicas.
    pub fn forget_answers(&self, feature: Option<&str>) -> Option<(usize, usize)> {
        let cache = self.cache()?;
        let before = cache.len();
        match feature {
            None => cache.clear(),
            Some(feature) => cache.invalidate(feature),
        }
        let operation = Operation::AnswersForgotten { feature: feature.map(Into::into) };
        self.events().send(Event::Operated { operation, by: self.by.clone(), at: Instant::now() });
        Some((before, cache.len()))
    }

    /// Discards the answers made for a tenant (a gateway key, by name) or a session: those in the
    /// [cache](Self::cache), those under idempotency keys, and kept [responses](Self::responses). Forgets which
    /// [objects](Self::object_places) of providers are a tenant's, too; they stay there. Answers still in
    /// progress are kept once they arrive. Returns the number of discarded answers under keys and kept responses; a
    /// cache store may not know its number, and may need a moment. For tasks of people, use the
    /// [desk](steadfast_handoff::Desk::forget).
    ///
    /// # Errors
    ///
    /// A store failed, at least in part. The other stores' answers are discarded anyway.
    pub async fn forget_owner(&self, owner: &AnswerOwner) -> Result<u64, BoxError> {
        if let Some(cache) = self.cache() {
            cache.forget_owner(owner);
        }
        let AnswerOwner { tenant, session, .. } = owner.clone();
        let operation = Operation::OwnerForgotten { tenant, session };
        self.events().send(Event::Operated { operation, by: self.by.clone(), at: Instant::now() });
        let responses = match self.responses() {
            Some(responses) => responses.forget_owner(owner).await,
            None => Ok(0),
        };
        self.object_places().forget_owner(owner).await?;
        let keys = match self.idempotency() {
            Some(keys) => keys.forget_owner(owner).await?,
            None => 0,
        };
        Ok(keys + responses?)
    }

    /// Removes expired answers under idempotency keys, for which requests trigger it too, and expired
    /// [responses](Self::responses). Call it now and then, such as every 10 minutes. [`hand_over`](Self::hand_over)
    /// covers tasks for people.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn sweep(&self) -> Result<(), BoxError> {
        let responses = match self.responses() {
            Some(responses) => responses.sweep().await,
            None => Ok(()),
        };
        if let Some(keys) = self.idempotency() {
            keys.sweep().await?;
        }
        Ok(responses?)
    }
}
