//! The store that outlives the process.

use std::sync::Arc;

use super::store_error::not_here;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use super::store_error::wrong;
use crate::{DurableUrl, Stores};
use steadfast::{InvalidConfig, layers::idempotency::IdempotencyLayer};
use steadfast_handoff::TaskStore;
use steadfast_ledger::LedgerStore;
#[cfg(feature = "postgres")]
use steadfast_stores::postgres::Postgres;
#[cfg(feature = "redis")]
use steadfast_stores::redis::Redis;
#[cfg(feature = "sqlite")]
use steadfast_stores::sqlite::Sqlite;
use steadfast_stores::{
    places::PlaceStore, registry::RegistryStore, responses::ResponseStore, worked_keys::WorkedKeyStore,
};

/// A store that outlives the process.
#[derive(Clone, Debug)]
pub(crate) enum DurableStore {
    #[cfg(feature = "sqlite")]
    Sqlite(Sqlite),
    #[cfg(feature = "postgres")]
    Postgres(Postgres),
}

impl DurableStore {
    /// Opens the store of this location, which must be the deployment's own if that has a name. `before` is the same
    /// one as it is open under another name, or without any.
    #[cfg_attr(
        not(feature = "postgres"),
        allow(unused_variables, reason = "a file is open, or there is no such place")
    )]
    pub(crate) fn open(url: &str, settings: &Stores, before: Option<&Self>) -> Result<Self, InvalidConfig> {
        match DurableUrl::parse(url) {
            None => {
                Err(InvalidConfig::new("stores.durable", "unknown kind of store; write sqlite:FILE or postgres://..."))
            }
            #[cfg(feature = "sqlite")]
            Some(DurableUrl::Sqlite(file)) => {
                let file = Sqlite::open_for(file, settings.owner().as_ref());
                file.map(Self::Sqlite).map_err(|e| wrong("durable", &e))
            }
            #[cfg(feature = "postgres")]
            Some(DurableUrl::Postgres(url)) => {
                let owner = settings.owner();
                // The server cannot be asked here, but may have told before.
                if let (Some(Self::Postgres(before)), Some(owner)) = (before, &owner)
                    && let Some(known) = before.owner().filter(|known| !owner.may_open(known.name()))
                {
                    return Err(wrong("durable", &owner.refused_as(known)));
                }
                Postgres::lazy_for(url, owner).map(Self::Postgres).map_err(|e| wrong("durable", &e))
            }
            #[allow(unreachable_patterns, reason = "with both of them there is no other")]
            Some(other) => Err(not_here("durable", other.feature())),
        }
    }

    /// Returns whether both are the same store.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            #[cfg(feature = "sqlite")]
            (Self::Sqlite(one), Self::Sqlite(other)) => one.is(other),
            #[cfg(feature = "postgres")]
            (Self::Postgres(one), Self::Postgres(other)) => one.is(other),
            #[allow(unreachable_patterns, reason = "with one of them there is no other")]
            _ => false,
        }
    }

    /// Returns the store as a task store.
    #[allow(unreachable_code, reason = "with none of them there is no such place")]
    pub(crate) fn tasks(&self) -> Arc<dyn TaskStore> {
        match self.clone() {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => Arc::new(file),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => Arc::new(database),
        }
    }

    /// Returns the store as a store of responses.
    #[allow(unreachable_code, reason = "with none of them there is no such place")]
    pub(crate) fn responses(&self) -> Arc<dyn ResponseStore> {
        match self.clone() {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => Arc::new(file),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => Arc::new(database),
        }
    }

    /// Returns the store as a store of the ledger.
    #[allow(unreachable_code, reason = "with none of them there is no such place")]
    pub(crate) fn ledger(&self) -> Arc<dyn LedgerStore> {
        match self.clone() {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => Arc::new(file),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => Arc::new(database),
        }
    }

    /// Returns the store as a store of objects' places.
    #[allow(unreachable_code, reason = "with none of them there is no such place")]
    pub(crate) fn places(&self) -> Arc<dyn PlaceStore> {
        match self.clone() {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => Arc::new(file),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => Arc::new(database),
        }
    }

    /// Returns the store as a registry of callers' keys.
    #[allow(unreachable_code, reason = "with none of them there is no such place")]
    pub(crate) fn registry(&self) -> Arc<dyn RegistryStore> {
        match self.clone() {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => Arc::new(file),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => Arc::new(database),
        }
    }

    /// Returns the store as a store of the providers' keys that have worked.
    #[allow(unreachable_code, reason = "with none of them there is no such place")]
    pub(crate) fn worked_keys(&self) -> Arc<dyn WorkedKeyStore> {
        match self.clone() {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => Arc::new(file),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => Arc::new(database),
        }
    }

    /// Returns an idempotency layer over this store.
    #[allow(unreachable_code, reason = "with none of them there is no such place")]
    pub(crate) fn keys(self) -> IdempotencyLayer {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => IdempotencyLayer::over(file),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => IdempotencyLayer::over(database),
        }
    }

    /// Returns an idempotency layer over a Redis, with this store beneath it.
    #[cfg(feature = "redis")]
    #[allow(unreachable_code, unused_variables, reason = "with none of them there is no such place")]
    pub(crate) fn keys_beneath(self, redis: Redis) -> IdempotencyLayer {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => IdempotencyLayer::over_both(redis, file),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => IdempotencyLayer::over_both(redis, database),
        }
    }

    #[cfg_attr(
        not(any(feature = "postgres", feature = "sqlite")),
        allow(unused_variables, reason = "with none of them there is no such place")
    )]
    pub(crate) fn set_max_answer_bytes(&self, bytes: Option<u64>) {
        match *self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(ref file) => file.set_max_answer_bytes(bytes.unwrap_or(Sqlite::MAX_ANSWER_BYTES)),
            #[cfg(feature = "postgres")]
            Self::Postgres(ref database) => {
                database.set_max_answer_bytes(bytes.unwrap_or(Postgres::MAX_ANSWER_BYTES));
            }
        }
    }
}
