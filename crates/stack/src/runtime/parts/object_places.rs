//! The places of the objects that providers keep for callers.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    future::Future,
    sync::Arc,
    time::Duration,
};

use super::{context::StackContext, durable_store::DurableStore, stores::OpenStores};
use steadfast::{
    layers::cache::AnswerOwner,
    store::{GuardError, StoreError, StoreGuard, StoreTrouble},
};
use steadfast_stores::places::{MemoryPlaces, Place, PlaceStore};

/// The places of the objects that providers keep for callers. Clones share them.
///
/// They are in the durable store, if the configuration has one, and the latest also in memory. Without a durable store
/// a restart forgets them.
#[derive(Clone)]
pub struct ObjectPlaces {
    latest: MemoryPlaces,
    /// The places that are kept for a time.
    passing: MemoryPlaces,
    durable: Option<Arc<dyn PlaceStore>>,
    guard: Arc<StoreGuard>,
}

/// The time limit of each call on a request's way.
const LIMIT: Duration = Duration::from_secs(2);

/// Places in memory alone.
impl Default for ObjectPlaces {
    fn default() -> Self {
        let guard = Arc::new(StoreGuard::new("objects"));
        Self { latest: MemoryPlaces::new(), passing: MemoryPlaces::new(), durable: None, guard }
    }
}

impl ObjectPlaces {
    pub(crate) fn new(stores: &OpenStores, context: &StackContext, before: Option<&Self>) -> Self {
        let before = before.cloned().unwrap_or_default();
        before.guard.set_events(&context.events);
        Self { durable: stores.durable.as_ref().map(DurableStore::places), ..before }
    }

    /// Stores places, for a time or for ever. An id that is known keeps its owner and its tier.
    ///
    /// # Errors
    ///
    /// The durable store failed, is too slow, or is left alone. The places are in memory then.
    pub async fn put(&self, places: Vec<Place>, keep: Option<Duration>) -> Result<(), GuardError> {
        let unknown = self.remember(places, keep);
        self.store(unknown, keep).await
    }

    /// Keeps places in memory, and returns those that memory did not know, for the [store](Self::store). Those that are
    /// kept for a time have a memory of their own: they are so many that they would push out the others.
    pub fn remember(&self, places: Vec<Place>, keep: Option<Duration>) -> Vec<Place> {
        let memory = if keep.is_some() { &self.passing } else { &self.latest };
        memory.remember(places)
    }

    /// Stores places in the durable store. Those that another has there stay that one's.
    ///
    /// # Errors
    ///
    /// The same as of [`put`](Self::put).
    pub async fn store(&self, mut places: Vec<Place>, keep: Option<Duration>) -> Result<(), GuardError> {
        if places.is_empty() || self.durable.is_none() {
            return Ok(());
        }
        let ids: Vec<String> = places.iter().map(|place| place.id.clone()).collect();
        let known = self.call(|store| store.find(ids)).await.ok().flatten().unwrap_or_default();
        let owners: HashMap<&str, &str> = known.iter().map(|place| (&*place.id, &*place.owner)).collect();
        let is_anothers = |place: &&Place| owners.get(&*place.id).is_some_and(|owner| *owner != place.owner);
        for place in places.iter().filter(is_anothers) {
            let _memory_does_not_fail = self.latest.delete(&place.id).await;
            let _memory_does_not_fail = self.passing.delete(&place.id).await;
        }
        places.retain(|place| !owners.contains_key(&*place.id));
        if !places.is_empty() {
            self.call(|store| store.put(places, keep)).await?;
        }
        Ok(())
    }

    async fn in_memory(&self, ids: &[String]) -> Vec<Place> {
        let mut found = self.latest.find(ids.to_vec()).await.unwrap_or_default();
        found.extend(self.passing.find(ids.to_vec()).await.unwrap_or_default());
        found
    }

    /// Returns the places of those of the ids that are known.
    ///
    /// # Errors
    ///
    /// The same as of [`put`](Self::put), unless memory knows all of them.
    pub async fn find(&self, ids: &[String]) -> Result<Vec<Place>, GuardError> {
        let found = self.in_memory(ids).await;
        self.with_stored(ids, found).await
    }

    /// Returns the places of those of the ids that are this owner's. To all others it says and takes the same, whether
    /// another owner has them or nobody.
    ///
    /// # Errors
    ///
    /// Fails as [`put`](Self::put) does, unless memory knows all of them as the owner's.
    pub async fn find_own(&self, owner: &str, ids: &[String]) -> Result<Vec<Place>, GuardError> {
        let mut found = self.in_memory(ids).await;
        found.retain(|place| place.owner == owner);
        let mut found = self.with_stored(ids, found).await?;
        found.retain(|place| place.owner == owner);
        Ok(found)
    }

    /// Adds the places of the ids that are not found yet.
    async fn with_stored(&self, ids: &[String], mut found: Vec<Place>) -> Result<Vec<Place>, GuardError> {
        let known: HashSet<&str> = found.iter().map(|place| place.id.as_str()).collect();
        let rest: Vec<String> = ids.iter().filter(|id| !known.contains(id.as_str())).cloned().collect();
        if !rest.is_empty()
            && let Some(more) = self.call(|store| store.find(rest)).await?
        {
            found.extend(more);
        }
        Ok(found)
    }

    /// Deletes the place of an id.
    ///
    /// # Errors
    ///
    /// The same as of [`put`](Self::put).
    pub async fn delete(&self, id: &str) -> Result<(), GuardError> {
        let _memory_does_not_fail = self.latest.delete(id).await;
        let _memory_does_not_fail = self.passing.delete(id).await;
        self.call(|store| store.delete(id)).await?;
        Ok(())
    }

    pub(crate) async fn forget_owner(&self, owner: &AnswerOwner) -> Result<u64, StoreError> {
        let in_memory = self.latest.forget_owner(owner).await? + self.passing.forget_owner(owner).await?;
        match &self.durable {
            Some(store) => store.forget_owner(owner).await,
            None => Ok(in_memory),
        }
    }

    pub(crate) fn trouble(&self) -> Option<StoreTrouble> {
        self.guard.trouble()
    }

    /// Calls the durable store, if there is one.
    async fn call<'a, T, F>(&'a self, call: impl FnOnce(&'a dyn PlaceStore) -> F) -> Result<Option<T>, GuardError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        match self.durable.as_deref() {
            Some(store) => self.guard.call(LIMIT, || call(store), |_| true).await.map(Some),
            None => Ok(None),
        }
    }
}

impl fmt::Debug for ObjectPlaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectPlaces").field("durable", &self.durable).finish_non_exhaustive()
    }
}
