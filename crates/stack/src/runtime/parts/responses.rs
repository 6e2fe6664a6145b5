//! The responses that a stack keeps for its callers.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{context::StackContext, durable_store::DurableStore, stores::OpenStores};
use crate::{Config, Responses};
use steadfast::{
    layers::cache::AnswerOwner,
    store::{GuardError, StoreError, StoreGuard, StoreTrouble},
};
use steadfast_stores::responses::{PathLimits, ResponsePath, ResponseStore, StoredResponse};

/// The responses that a stack keeps for its callers. Clones share the store.
///
/// A store that is down or slow delays no request for long: each call has a time limit, and a store in trouble is left
/// alone ([`StoreGuard`]), which an event, the metrics and the log report once.
#[derive(Clone)]
pub struct ResponseArchive {
    store: Arc<dyn ResponseStore>,
    guard: Arc<StoreGuard>,
    keep: Duration,
    max_response: usize,
    max_bytes: u64,
    /// The bytes stored since the last sweep.
    unswept: Arc<AtomicU64>,
}

/// The default size of the largest response: 16 MiB.
const MAX_RESPONSE: u64 = 16 << 20;
/// The default room of a caller: 256 MiB.
const MAX_BYTES: u64 = 256 << 20;
/// The part of a caller's room that may be filled between two sweeps.
const UNSWEPT_SHARE: u64 = 16;
/// The least time for which a response is kept that runs.
const LONGEST_RUN: Duration = Duration::from_secs(24 * 60 * 60);
/// The time limit of each call on a request's way.
const LIMIT: Duration = Duration::from_secs(2);

impl ResponseArchive {
    /// The largest number of responses of a conversation.
    pub const MAX_PATH: usize = 1000;

    /// Returns the archive of a configuration; `None` if it keeps none.
    pub(crate) fn new(
        config: &Config,
        stores: &OpenStores,
        context: &StackContext,
        before: Option<&Self>,
    ) -> Option<Self> {
        let Responses { keep, max_response, max_bytes } = config.responses?;
        let keep = keep?.0;
        let own = context.responses.clone();
        let store = own.or_else(|| stores.durable.as_ref().map(DurableStore::responses))?;
        // A store that a reload kept open is the same store.
        let guard = before.map_or_else(|| Arc::new(StoreGuard::new("responses")), |before| before.guard.clone());
        guard.set_events(&context.events);
        Some(Self {
            store,
            guard,
            keep,
            max_response: usize::try_from(max_response.map_or(MAX_RESPONSE, |size| size.0)).unwrap_or(usize::MAX),
            max_bytes: max_bytes.map_or(MAX_BYTES, |size| size.0),
            unswept: before.map(|before| before.unswept.clone()).unwrap_or_default(),
        })
    }

    /// Returns the size of the largest response that is kept, with the items of its request, in bytes.
    pub fn max_response(&self) -> usize {
        self.max_response
    }

    /// Stores a response. Once a sixteenth of a caller's room has been written, a sweep follows in the background.
    ///
    /// # Errors
    ///
    /// The store failed, is too slow, or is left alone.
    pub async fn put(&self, response: StoredResponse) -> Result<(), GuardError> {
        let size = response.size();
        self.call(|| self.store.put(response, self.keep), |()| true).await?;
        self.written(size);
        Ok(())
    }

    /// Stores a response that this process begins to make: see [`ResponseStore::begin`]. It stays for a day at least,
    /// so that none expires before its end.
    ///
    /// # Errors
    ///
    /// Fails as [`put`](Self::put) does.
    pub async fn begin(&self, response: StoredResponse, lease: Duration) -> Result<(), GuardError> {
        let size = response.size();
        self.call(|| self.store.begin(response, self.keep.max(LONGEST_RUN), lease), |()| true).await?;
        self.written(size);
        Ok(())
    }

    /// Renews the lease of a caller's response. Returns false if it does not run any more.
    ///
    /// # Errors
    ///
    /// Fails as [`put`](Self::put) does.
    pub async fn renew(&self, owner: &str, id: &str, lease: Duration) -> Result<bool, GuardError> {
        self.call(|| self.store.renew(owner, id, lease), |_| true).await
    }

    /// Ends a response that runs or is lost. Returns false if it has ended or is deleted.
    ///
    /// # Errors
    ///
    /// Fails as [`put`](Self::put) does.
    pub async fn end(&self, response: StoredResponse) -> Result<bool, GuardError> {
        let size = response.response.len();
        let is_ended = self.call(|| self.store.end(response, self.keep), |_| true).await?;
        self.written(size);
        Ok(is_ended)
    }

    /// Counts written bytes, and sweeps once they are many.
    fn written(&self, size: usize) {
        let size = size as u64;
        if self.unswept.fetch_add(size, Relaxed).saturating_add(size) > self.max_bytes / UNSWEPT_SHARE {
            self.unswept.store(0, Relaxed);
            let archive = self.clone();
            tokio::spawn(async move {
                if let Err(error) = archive.sweep().await {
                    tracing::warn!(%error, "responses not swept");
                }
            });
        }
    }

    /// Returns a caller's response.
    ///
    /// # Errors
    ///
    /// Fails as [`put`](Self::put) does.
    pub async fn get(&self, owner: &str, id: &str) -> Result<Option<StoredResponse>, GuardError> {
        self.call(|| self.store.get(owner, id), |_| false).await
    }

    /// Returns a caller's response with all of its predecessors, of this many bytes at most.
    ///
    /// # Errors
    ///
    /// Fails as [`put`](Self::put) does.
    pub async fn path(&self, owner: &str, id: &str, bytes: usize) -> Result<ResponsePath, GuardError> {
        let limits = PathLimits { responses: Self::MAX_PATH, bytes };
        self.call(|| self.store.path(owner, id, limits), |_| false).await
    }

    /// Returns a caller's latest response that has an item with this id.
    ///
    /// # Errors
    ///
    /// Fails as [`put`](Self::put) does.
    pub async fn with_item(&self, owner: &str, item: &str) -> Result<Option<StoredResponse>, GuardError> {
        self.call(|| self.store.with_item(owner, item), |_| false).await
    }

    /// Deletes a caller's response. Returns false if there is none.
    ///
    /// # Errors
    ///
    /// Fails as [`put`](Self::put) does.
    pub async fn delete(&self, owner: &str, id: &str) -> Result<bool, GuardError> {
        self.call(|| self.store.delete(owner, id), |_| false).await
    }

    pub(crate) async fn forget_owner(&self, owner: &AnswerOwner) -> Result<u64, StoreError> {
        self.store.forget_owner(owner).await
    }

    pub(crate) async fn sweep(&self) -> Result<(), StoreError> {
        self.store.sweep(self.max_bytes).await
    }

    pub(crate) fn trouble(&self) -> Option<StoreTrouble> {
        self.guard.trouble()
    }

    async fn call<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        call: impl FnOnce() -> F,
        proves: impl FnOnce(&T) -> bool,
    ) -> Result<T, GuardError> {
        self.guard.call(LIMIT, call, proves).await
    }
}

impl fmt::Debug for ResponseArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseArchive").field("store", &self.store).field("keep", &self.keep).finish_non_exhaustive()
    }
}
