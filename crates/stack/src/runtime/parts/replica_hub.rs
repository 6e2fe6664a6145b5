//! The hub of a stack's replicas.

use super::{headroom::SharedHeadroom, store_error::wrong};
#[cfg(feature = "postgres")]
use crate::DurableUrl;
use crate::{Config, Span};
use steadfast::{CacheHandle, InvalidConfig};
use steadfast_internal::fnv::{OFFSET_BASIS, fnv1a};
#[cfg(feature = "postgres")]
use steadfast_stores::postgres::Postgres;
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
    /// Opens the hub at an address; it is contacted once it is needed.
    ///
    /// # Errors
    ///
    /// The address is wrong.
    pub(crate) fn open(url: &str, prefix: &str, timeout: Option<Span>) -> Result<Self, InvalidConfig> {
        let mut redis = Redis::open(url).map_err(|error| wrong("shared", &error))?.prefix(prefix);
        if let Some(timeout) = timeout {
            redis = redis.limit(timeout.0);
        }
        tracing::info!(%prefix, "shared store opened");
        Ok(Self::at(redis))
    }

    pub(crate) fn at(redis: Redis) -> Self {
        Self { answers: CacheHandle::over(redis.clone()), headroom: SharedHeadroom::new(redis.clone()), redis }
    }
}

/// Returns the prefix of this deployment's names in a Redis: the configured one, or else a value that stays the same
/// over replicas and roll-outs and differs between deployments. That value comes from the deployment's own database,
/// or else from its first tier's name.
pub(crate) fn prefix(config: &Config) -> String {
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

fn named(identity: &str) -> String {
    format!("steadfast:{:016x}:", fnv1a(OFFSET_BASIS, identity))
}
