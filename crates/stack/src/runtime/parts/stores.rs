//! The open stores of a configuration. A reload keeps stores whose names are unchanged open.

#[cfg(feature = "redis")]
use super::replica_hub::{ReplicaHub, prefix};
#[cfg(not(feature = "redis"))]
use super::store_error::not_here;
use super::{context::StackContext, durable_store::DurableStore, headroom::SharedHeadroom, key_store::KeyStore};
use crate::{Config, Stores};
use steadfast::{
    CacheHandle, InvalidConfig,
    store::{StoreError, StoreTrouble},
};

/// The open stores. Clones are the same stores.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenStores {
    settings: Stores,
    #[cfg(feature = "redis")]
    prefix: String,
    pub(crate) durable: Option<DurableStore>,
    /// The hub of the replicas.
    #[cfg(feature = "redis")]
    pub(crate) hub: Option<ReplicaHub>,
}

impl OpenStores {
    /// Opens the configured stores. A file is opened here; a server is contacted once it is needed.
    #[cfg_attr(
        not(feature = "redis"),
        allow(unused_variables, reason = "only what replicas share may be given beside it")
    )]
    pub(crate) fn new(config: &Config, context: &StackContext, before: Option<&Self>) -> Result<Self, InvalidConfig> {
        let settings = &config.stores;
        let durable = match (&settings.durable, before) {
            (None, _) => None,
            (durable, Some(before)) if before.settings.durable == *durable && !before.is_renamed(settings) => {
                before.durable.clone()
            }
            (Some(url), before) => {
                let same = before.filter(|before| before.settings.durable == settings.durable);
                Some(DurableStore::open(url, settings, same.and_then(|before| before.durable.as_ref()))?)
            }
        };
        #[cfg(feature = "redis")]
        let prefix = prefix(config);
        #[cfg(feature = "redis")]
        let hub = match (&context.hub, &settings.shared, before) {
            (Some(hub), ..) => Some(hub.clone()),
            (None, None, _) => None,
            (None, Some(_), Some(before)) if before.has_hub_of(settings, &prefix) => before.hub.clone(),
            (None, Some(url), _) => Some(ReplicaHub::open(url, &prefix, settings.shared_timeout)?),
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

    /// Returns whether these settings name the deployment anew, so that the durable store may be another's.
    fn is_renamed(&self, settings: &Stores) -> bool {
        settings.prefix.is_some() && settings.prefix != self.settings.prefix
    }

    /// Returns whether these settings mean the same shared store.
    #[cfg(feature = "redis")]
    fn has_hub_of(&self, settings: &Stores, prefix: &str) -> bool {
        let before = &self.settings;
        before.shared == settings.shared && before.shared_timeout == settings.shared_timeout && self.prefix == prefix
    }

    /// Returns the store of idempotency keys, unless that is memory: the shared store, the durable one, or both.
    pub(crate) fn keys(&self) -> Option<KeyStore> {
        #[cfg(feature = "redis")]
        if let Some(hub) = &self.hub {
            return Some(KeyStore::Redis(hub.redis.clone(), self.durable.clone()));
        }
        self.durable.clone().map(KeyStore::Durable)
    }

    /// Returns the cache that replicas share.
    pub(crate) fn shared_answers(&self) -> Option<CacheHandle> {
        #[cfg(feature = "redis")]
        return self.hub.as_ref().map(|hub| hub.answers.clone());
        #[cfg(not(feature = "redis"))]
        None
    }

    /// Returns the store in which replicas share the headroom of deployments.
    pub(crate) fn shared_headroom(&self) -> Option<SharedHeadroom> {
        #[cfg(feature = "redis")]
        return self.hub.as_ref().map(|hub| hub.headroom.clone());
        #[cfg(not(feature = "redis"))]
        None
    }

    /// Returns the stores' current problems, as far as they were used.
    pub(crate) fn troubles(&self) -> Vec<StoreTrouble> {
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
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
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
