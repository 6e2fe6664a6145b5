//! The open stores of a configuration. A reload keeps stores whose names are unchanged open.

use std::{fmt, sync::Arc};

use super::StackContext;
#[cfg(feature = "redis")]
use super::replicas::ReplicaHub;
use crate::{Config, DurableUrl, Stores};
use steadfast::{
    CacheHandle, InvalidConfig,
    layers::{
        balance::{HeadroomFuture, HeadroomOrder, HeadroomStore},
        idempotency::{IdempotencyLayer, MemoryIdempotency},
    },
    store::{StoreError, StoreTrouble},
};
use steadfast_handoff::TaskStore;
#[cfg(feature = "redis")]
use steadfast_internal::fnv::{OFFSET_BASIS, fnv1a};
#[cfg(feature = "postgres")]
use steadfast_stores::postgres::Postgres;
#[cfg(feature = "redis")]
use steadfast_stores::redis::Redis;
#[cfg(feature = "sqlite")]
use steadfast_stores::sqlite::Sqlite;
use steadfast_stores::{places::PlaceStore, responses::ResponseStore};

/// The open stores. Clones are the same stores.
#[derive(Clone, Debug, Default)]
pub(super) struct OpenStores {
    settings: Stores,
    #[cfg(feature = "redis")]
    prefix: String,
    pub(super) durable: Option<DurableStore>,
    /// The hub of the replicas.
    #[cfg(feature = "redis")]
    pub(super) hub: Option<ReplicaHub>,
}

/// The store in which replicas share the headroom of deployments. Clones are equal.
#[derive(Clone)]
pub(super) struct SharedHeadroom(Arc<dyn HeadroomStore>);

impl SharedHeadroom {
    #[cfg(feature = "redis")]
    pub(super) fn new(store: impl HeadroomStore) -> Self {
        Self(Arc::new(store))
    }
}

impl fmt::Debug for SharedHeadroom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedHeadroom")
    }
}

impl HeadroomStore for SharedHeadroom {
    fn exchange<'a>(&'a self, orders: &'a [HeadroomOrder]) -> HeadroomFuture<'a> {
        self.0.exchange(orders)
    }
}

impl PartialEq for SharedHeadroom {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A store that outlives the process.
#[derive(Clone, Debug)]
pub(super) enum DurableStore {
    #[cfg(feature = "sqlite")]
    Sqlite(Sqlite),
    #[cfg(feature = "postgres")]
    Postgres(Postgres),
}

impl OpenStores {
    /// Opens the configured stores. A file is opened here; a server is contacted once it is needed.
    #[cfg_attr(
        not(feature = "redis"),
        allow(unused_variables, reason = "only what replicas share may be given beside it")
    )]
    pub(super) fn new(config: &Config, context: &StackContext, before: Option<&Self>) -> Result<Self, InvalidConfig> {
        let settings = &config.stores;
        let durable = match (&settings.durable, before) {
            (None, _) => None,
            (durable, Some(before)) if before.settings.durable == *durable => before.durable.clone(),
            (Some(url), _) => Some(DurableStore::open(url)?),
        };
        #[cfg(feature = "redis")]
        let prefix = prefix(config);
        #[cfg(feature = "redis")]
        let hub = match (&context.hub, &settings.shared, before) {
            (Some(hub), ..) => Some(hub.clone()),
            (None, None, _) => None,
            (None, Some(_), Some(before)) if before.has_hub_of(settings, &prefix) => before.hub.clone(),
            (None, Some(url), _) => {
                let mut redis = Redis::open(url).map_err(|error| wrong("shared", &error))?.prefix(&*prefix);
                if let Some(timeout) = settings.shared_timeout {
                    redis = redis.limit(timeout.0);
                }
                tracing::info!(%prefix, "shared store opened");
                Some(ReplicaHub::at(redis))
            }
        };
        #[cfg(feature = "redis")]
        hub.iter().for_each(|hub| hub.redis.set_events(&context.events));
        #[cfg(not(feature = "redis"))]
        if settings.shared.is_some() {
            return Err(not_here("shared", "redis"));
        }
        Ok(Self {
            settings: settings.clone(),
            #[cfg(feature = "redis")]
            prefix,
            durable,
            #[cfg(feature = "redis")]
            hub,
        })
    }

    /// Returns whether these settings mean the same shared store.
    #[cfg(feature = "redis")]
    fn has_hub_of(&self, settings: &Stores, prefix: &str) -> bool {
        let before = &self.settings;
        before.shared == settings.shared && before.shared_timeout == settings.shared_timeout && self.prefix == prefix
    }

    /// Returns the store of idempotency keys, unless that is memory: the shared store, the durable one, or both.
    pub(super) fn keys(&self) -> Option<KeyStore> {
        #[cfg(feature = "redis")]
        if let Some(hub) = &self.hub {
            return Some(KeyStore::Redis(hub.redis.clone(), self.durable.clone()));
        }
        self.durable.clone().map(KeyStore::Durable)
    }

    /// Returns the cache that replicas share.
    pub(super) fn shared_answers(&self) -> Option<CacheHandle> {
        #[cfg(feature = "redis")]
        return self.hub.as_ref().map(|hub| hub.answers.clone());
        #[cfg(not(feature = "redis"))]
        None
    }

    /// Returns the store in which replicas share the headroom of deployments.
    pub(super) fn shared_headroom(&self) -> Option<SharedHeadroom> {
        #[cfg(feature = "redis")]
        return self.hub.as_ref().map(|hub| hub.headroom.clone());
        #[cfg(not(feature = "redis"))]
        None
    }

    /// Returns the stores' current problems, as far as they were used.
    pub(super) fn troubles(&self) -> Vec<StoreTrouble> {
        #[allow(unused_mut, reason = "with none of them there is none")]
        let mut troubles = Vec::new();
        #[cfg(feature = "redis")]
        troubles.extend(self.hub.iter().flat_map(|hub| hub.redis.troubles()));
        #[cfg(feature = "sqlite")]
        if let Some(DurableStore::Sqlite(file)) = &self.durable {
            troubles.extend(file.trouble());
        }
        troubles
    }

    /// Checks that the stores can be used. Of two problems, it returns the one that does not heal.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        #[allow(unused_mut, reason = "a file is there, or was an error before")]
        let mut asked: Vec<Result<(), StoreError>> = Vec::new();
        #[cfg(feature = "postgres")]
        if let Some(DurableStore::Postgres(postgres)) = &self.durable {
            asked.push(postgres.check().await);
        }
        #[cfg(feature = "redis")]
        if let Some(hub) = &self.hub {
            asked.push(hub.redis.ping().await);
        }
        let problems = asked.into_iter().filter_map(Result::err);
        problems.min_by_key(StoreError::heals).map_or(Ok(()), Err)
    }
}

impl DurableStore {
    fn open(url: &str) -> Result<Self, InvalidConfig> {
        match DurableUrl::parse(url) {
            None => {
                Err(InvalidConfig::new("stores.durable", "unknown kind of store; write sqlite:FILE or postgres://..."))
            }
            #[cfg(feature = "sqlite")]
            Some(DurableUrl::Sqlite(file)) => Sqlite::open(file).map(Self::Sqlite).map_err(|e| wrong("durable", &e)),
            #[cfg(feature = "postgres")]
            Some(DurableUrl::Postgres(url)) => {
                Postgres::lazy(url).map(Self::Postgres).map_err(|e| wrong("durable", &e))
            }
            #[allow(unreachable_patterns, reason = "with both of them there is no other")]
            Some(other) => Err(not_here("durable", other.feature())),
        }
    }

    /// Returns whether both are the same store.
    pub(super) fn is(&self, other: &Self) -> bool {
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
    pub(super) fn tasks(&self) -> Arc<dyn TaskStore> {
        match self.clone() {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => Arc::new(file),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => Arc::new(database),
        }
    }

    /// Returns the store as a store of responses.
    #[allow(unreachable_code, reason = "with none of them there is no such place")]
    pub(super) fn responses(&self) -> Arc<dyn ResponseStore> {
        match self.clone() {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => Arc::new(file),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => Arc::new(database),
        }
    }

    /// Returns the store as a store of objects' places.
    #[allow(unreachable_code, reason = "with none of them there is no such place")]
    pub(super) fn places(&self) -> Arc<dyn PlaceStore> {
        match self.clone() {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => Arc::new(file),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => Arc::new(database),
        }
    }

    /// Returns an idempotency layer over this store.
    #[allow(unreachable_code, reason = "with none of them there is no such place")]
    fn keys(self) -> IdempotencyLayer {
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
    fn keys_beneath(self, redis: Redis) -> IdempotencyLayer {
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
    fn set_max_answer_bytes(&self, bytes: Option<u64>) {
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

#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
fn wrong(which: &str, error: &StoreError) -> InvalidConfig {
    let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
    InvalidConfig::new(format!("stores.{which}"), format!("{error}{cause}"))
}

/// Returns the prefix of this deployment's names in a Redis: the configured one, or else a value that stays the same
/// over replicas and roll-outs and differs between deployments. That value comes from the deployment's own database,
/// or else from its first tier's name.
#[cfg(feature = "redis")]
fn prefix(config: &Config) -> String {
    if let Some(prefix) = &config.stores.prefix {
        return prefix.clone();
    }
    #[cfg(feature = "postgres")]
    if let Some(DurableUrl::Postgres(url)) = config.stores.durable.as_deref().and_then(DurableUrl::parse)
        && let Ok(database) = Postgres::lazy(url)
    {
        return named(&format!("{database:?}"));
    }
    named(&config.tiers.first().map_or_else(String::new, |tier| {
        let server = tier.base_url.as_deref().unwrap_or_default();
        format!("{} {} {server}", tier.name, tier.provider.name())
    }))
}

#[cfg(feature = "redis")]
fn named(identity: &str) -> String {
    format!("steadfast:{:016x}:", fnv1a(OFFSET_BASIS, identity))
}

fn not_here(which: &str, feature: &str) -> InvalidConfig {
    let problem = format!("this build lacks it; build with the feature `{feature}`");
    InvalidConfig::new(format!("stores.{which}"), problem)
}

/// The store of idempotency keys.
#[derive(Clone, Debug)]
pub(super) enum KeyStore {
    Memory(MemoryIdempotency),
    Durable(DurableStore),
    /// With a durable store beneath it, if there is one.
    #[cfg(feature = "redis")]
    Redis(Redis, Option<DurableStore>),
}

impl KeyStore {
    /// Returns whether both are the same store.
    pub(super) fn is(&self, other: &Self) -> bool {
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
    pub(super) fn set_max_bytes(&self, bytes: Option<u64>) {
        match self {
            Self::Memory(memory) => memory.set_max_bytes(bytes.unwrap_or(MemoryIdempotency::MAX_BYTES)),
            Self::Durable(store) => store.set_max_answer_bytes(bytes),
            // A Redis server limits its own room.
            #[cfg(feature = "redis")]
            Self::Redis(_, beneath) => beneath.iter().for_each(|store| store.set_max_answer_bytes(bytes)),
        }
    }

    pub(super) fn layer(&self) -> IdempotencyLayer {
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
