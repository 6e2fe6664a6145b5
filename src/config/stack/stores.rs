//! The stores of a configuration, opened. What is named as before stays open over reloads.

use std::sync::Arc;

use super::Makings;
#[cfg(feature = "redis")]
use super::replicas::Meeting;
#[cfg(feature = "postgres")]
use crate::store::postgres::Postgres;
#[cfg(feature = "redis")]
use crate::store::redis::Redis;
#[cfg(feature = "sqlite")]
use crate::store::sqlite::Sqlite;
use crate::{
    CacheHandle, InvalidConfig,
    config::{DurableUrl, Stores},
    handoff::TaskStore,
    layers::idempotency::{IdempotencyLayer, MemoryIdempotency},
    store::StoreError,
};

/// The stores that are open. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Opened {
    said: Stores,
    pub(super) durable: Option<Durable>,
    /// Where replicas meet.
    #[cfg(feature = "redis")]
    pub(super) meeting: Option<Meeting>,
}

/// What outlives the process.
#[derive(Clone, Debug)]
pub(super) enum Durable {
    #[cfg(feature = "sqlite")]
    Sqlite(Sqlite),
    #[cfg(feature = "postgres")]
    Postgres(Postgres),
}

impl Opened {
    /// Opens what the configuration names. A file is there then; a server is asked when it is needed.
    #[cfg_attr(
        not(feature = "redis"),
        allow(unused_variables, reason = "only what replicas share may be given beside it")
    )]
    pub(super) fn new(said: &Stores, makings: &Makings, before: Option<&Self>) -> Result<Self, InvalidConfig> {
        let durable = match (&said.durable, before) {
            (None, _) => None,
            (durable, Some(before)) if before.said.durable == *durable => before.durable.clone(),
            (Some(url), _) => Some(Durable::open(url)?),
        };
        #[cfg(feature = "redis")]
        let meeting = match (&makings.meeting, &said.shared, before) {
            (Some(meeting), ..) => Some(meeting.clone()),
            (None, None, _) => None,
            (None, shared, Some(before)) if before.said.shared == *shared => before.meeting.clone(),
            (None, Some(url), _) => Some(Meeting::at(Redis::open(url).map_err(|error| wrong("shared", &error))?)),
        };
        #[cfg(feature = "redis")]
        meeting.iter().for_each(|meeting| meeting.redis.tells(&makings.events));
        #[cfg(not(feature = "redis"))]
        if said.shared.is_some() {
            return Err(not_here("shared", "redis"));
        }
        Ok(Self {
            said: said.clone(),
            durable,
            #[cfg(feature = "redis")]
            meeting,
        })
    }

    /// Where idempotency keys are kept, if not in memory: with what replicas share, else with what is durable.
    pub(super) fn keys(&self) -> Option<Keys> {
        #[cfg(feature = "redis")]
        if let Some(meeting) = &self.meeting {
            return Some(Keys::Redis(meeting.redis.clone()));
        }
        self.durable.clone().map(Keys::Durable)
    }

    /// Where answers are kept that replicas share.
    pub(super) fn shared_answers(&self) -> Option<CacheHandle> {
        #[cfg(feature = "redis")]
        return self.meeting.as_ref().map(|meeting| meeting.answers.clone());
        #[cfg(not(feature = "redis"))]
        None
    }

    /// Whether they can be used. Of two problems, the one that does not heal.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        #[allow(unused_mut, reason = "a file is there, or was an error before")]
        let mut asked: Vec<Result<(), StoreError>> = Vec::new();
        #[cfg(feature = "postgres")]
        if let Some(Durable::Postgres(postgres)) = &self.durable {
            asked.push(postgres.check().await);
        }
        #[cfg(feature = "redis")]
        if let Some(meeting) = &self.meeting {
            asked.push(meeting.redis.ping().await);
        }
        let problems = asked.into_iter().filter_map(Result::err);
        problems.min_by_key(StoreError::heals).map_or(Ok(()), Err)
    }
}

impl Durable {
    fn open(url: &str) -> Result<Self, InvalidConfig> {
        match DurableUrl::parse(url) {
            None => Err(InvalidConfig::new("stores.durable", "it names no store: sqlite:FILE or postgres://...")),
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

    /// Whether both are the same place.
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

    /// The tasks there.
    #[allow(unreachable_code, reason = "with none of them there is no such place")]
    pub(super) fn tasks(&self) -> Arc<dyn TaskStore> {
        match self.clone() {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => Arc::new(file),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => Arc::new(database),
        }
    }

    /// The idempotency keys there.
    #[allow(unreachable_code, reason = "with none of them there is no such place")]
    fn keys(self) -> IdempotencyLayer {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => IdempotencyLayer::over(file),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => IdempotencyLayer::over(database),
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

fn not_here(which: &str, feature: &str) -> InvalidConfig {
    let problem = format!("this program was built without it: build it with the feature `{feature}`");
    InvalidConfig::new(format!("stores.{which}"), problem)
}

/// Where idempotency keys are kept.
#[derive(Clone, Debug)]
pub(super) enum Keys {
    Memory(MemoryIdempotency),
    Durable(Durable),
    #[cfg(feature = "redis")]
    Redis(Redis),
}

impl Keys {
    /// Whether both are kept in the same place.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Memory(_), Self::Memory(_)) => true,
            (Self::Durable(one), Self::Durable(other)) => one.is(other),
            #[cfg(feature = "redis")]
            (Self::Redis(one), Self::Redis(other)) => one.is(other),
            _ => false,
        }
    }

    /// Changes the room for answers, in bytes; `None`: each store's own default.
    pub(super) fn set_max_bytes(&self, bytes: Option<u64>) {
        match self {
            Self::Memory(memory) => memory.set_max_bytes(bytes.unwrap_or(MemoryIdempotency::MAX_BYTES)),
            Self::Durable(store) => store.set_max_answer_bytes(bytes),
            // What has room there is the server's to say.
            #[cfg(feature = "redis")]
            Self::Redis(_) => {}
        }
    }

    pub(super) fn layer(&self) -> IdempotencyLayer {
        match self.clone() {
            Self::Memory(memory) => IdempotencyLayer::over(memory),
            Self::Durable(store) => store.keys(),
            #[cfg(feature = "redis")]
            Self::Redis(redis) => IdempotencyLayer::over(redis),
        }
    }
}
