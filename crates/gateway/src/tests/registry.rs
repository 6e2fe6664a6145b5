//! A registry of keys and orders that may be away.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use steadfast::store::{StoreError, StoreErrorKind};
use steadfast_stores::registry::{
    EntryKind, MemoryRegistry, RegistryChange, RegistryChanges, RegistryEdit, RegistryOutcome, RegistrySnapshot,
    RegistryStore, StoreFuture,
};

use crate::lock::lock;

/// A registry that may be away, and that counts what it is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {
    pub(crate) inner: Arc<Mutex<MemoryRegistry>>,
    pub(crate) is_away: Arc<AtomicBool>,
    pub(crate) is_silent: Arc<AtomicBool>,
    pub(crate) questions: Arc<AtomicU64>,
    /// True to be away once an order is carried out.
    pub(crate) leaves_after_orders: Arc<AtomicBool>,
}

impl Registry {
    async fn asked(&self) -> Result<MemoryRegistry, StoreError> {
        self.questions.fetch_add(1, Relaxed);
        if self.is_silent.load(Relaxed) {
            std::future::pending::<()>().await;
        }
        match self.is_away.load(Relaxed) {
            true => Err(StoreError::new(StoreErrorKind::Unavailable, "away")),
            false => Ok(lock(&self.inner).clone()),
        }
    }
}

impl RegistryStore for Registry {
    fn read(&self, kind: EntryKind) -> StoreFuture<'_, RegistrySnapshot> {
        Box::pin(async move { self.asked().await?.read(kind).await })
    }

    fn changes(&self, after: u64, limit: usize) -> StoreFuture<'_, RegistryChanges> {
        Box::pin(async move { self.asked().await?.changes(after, limit).await })
    }

    fn history<'a>(
        &'a self,
        name: Option<(EntryKind, &'a str)>,
        before: Option<u64>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<RegistryChange>> {
        Box::pin(async move { self.asked().await?.history(name, before, limit).await })
    }

    fn apply<'a>(&'a self, actor: &'a str, edits: Vec<RegistryEdit>) -> StoreFuture<'a, RegistryOutcome> {
        Box::pin(async move {
            let outcome = self.asked().await?.apply(actor, edits).await;
            self.is_away.fetch_or(self.leaves_after_orders.load(Relaxed), Relaxed);
            outcome
        })
    }
}
