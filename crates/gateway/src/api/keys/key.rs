//! A key: its permissions and limits.

use std::{fmt, num::NonZeroU32, sync::Arc};

use steadfast::layers::bulkhead::RateLevel;
use steadfast_stores::replicas::SharedLimits;
use tokio::time::Instant;

use super::{
    denial::Denial,
    entry::{KeyRecord, ObjectRight, covers},
    limits::{ConcurrencyPermit, KeyLimits, RequestRate, shared_name},
};
use crate::limits::memory::CallerShare;

/// A caller's key.
pub(crate) struct Key {
    pub(crate) name: Arc<str>,
    /// The team that pays for its requests.
    pub(crate) team: Option<Arc<str>>,
    pub(super) record: Arc<KeyRecord>,
    pub(super) rate: Option<RequestRate>,
    pub(super) limits: Option<KeyLimits>,
    /// The memory that the bodies of its requests take.
    pub(crate) memory: Arc<CallerShare>,
}

impl Key {
    /// Creates the key of a record, with limits of this set. An unchanged limit keeps the state that it has `before`.
    pub(super) fn new(record: Arc<KeyRecord>, before: Option<&Self>, shared: &SharedLimits) -> Self {
        let entry = &record.entry;
        let rate = entry.requests_per_minute.map(|per_minute| {
            let known = before.and_then(|key| key.rate.as_ref());
            known
                .filter(|rate| rate.per_minute == per_minute)
                .cloned()
                .unwrap_or_else(|| RequestRate::new(per_minute, &entry.name, shared))
        });
        let known = before.and_then(|key| key.limits.as_ref());
        let limits = KeyLimits::new(entry.concurrency, entry.tokens_per_minute, known, || {
            shared.limit(shared_name(&entry.name))
        });
        let memory = before.map(|key| key.memory.clone()).unwrap_or_default();
        let team = entry.team.as_deref().map(Into::into);
        Self { name: (*entry.name).into(), team, rate, limits, memory, record }
    }

    /// Returns whether its limits need the content of a request.
    pub(crate) fn reads_requests(&self) -> bool {
        self.limits.is_some() || self.record.entry.budget.is_some()
    }

    /// Returns whether it is an administrator's.
    pub(crate) fn is_admin(&self) -> bool {
        self.record.entry.admin
    }

    /// Returns the feature of a request, if the key may use it.
    pub(crate) fn feature(&self, named: Option<Box<str>>) -> Result<Option<Box<str>>, Denial> {
        match (&self.record.entry.features, named) {
            (None, named) => Ok(named),
            (Some(allowed), None) => Ok(allowed.first().cloned()),
            (Some(allowed), Some(named)) if allowed.contains(&named) => Ok(Some(named)),
            (Some(allowed), Some(_)) => Err(Denial::Feature(allowed.as_slice().into())),
        }
    }

    /// Returns the names and patterns of the models that the key is for; `None` for any.
    pub(crate) fn models(&self) -> Option<&[Box<str>]> {
        self.record.entry.models.as_deref()
    }

    /// Returns true if there are models that the key is not for.
    pub(crate) fn is_for_some_models(&self) -> bool {
        self.models().is_some()
    }

    /// Checks that the key is for this model.
    pub(crate) fn model(&self, named: Option<&str>) -> Result<(), Denial> {
        let Some(allowed) = self.models() else { return Ok(()) };
        let fits = |pattern: &str| named.is_some_and(|named| covers(pattern, named));
        if allowed.iter().any(|pattern| fits(pattern)) { Ok(()) } else { Err(Denial::Model(allowed.into())) }
    }

    /// Checks that the key is for objects.
    pub(crate) fn objects(&self) -> Result<(), Denial> {
        if self.record.entry.objects == ObjectRight::None { Err(Denial::Objects) } else { Ok(()) }
    }

    /// Returns true if it may name its own objects only.
    pub(crate) fn owns_objects(&self) -> bool {
        !self.is_admin() && self.record.entry.objects != ObjectRight::All
    }

    /// Checks that the key is for a path that the gateway does not know, and that no list has.
    pub(crate) fn passes(&self, path: &str) -> Result<(), Denial> {
        if self.is_admin() || self.record.entry.pass_through { Ok(()) } else { Err(Denial::NotPassed(path.into())) }
    }

    /// Takes a permit for work that calls no model, within the key's concurrency.
    pub(crate) fn permit(&self) -> Result<Option<ConcurrencyPermit>, Denial> {
        self.limits.as_ref().map_or(Ok(None), KeyLimits::permit)
    }

    /// Counts a request against the key's rate.
    pub(crate) fn admit(&self, now: Instant) -> Result<(), Denial> {
        self.rate.as_ref().map_or(Ok(()), |rate| rate.take(now).map_err(|wait| Denial::Rate(wait, rate.per_minute)))
    }

    /// Returns the level of its requests per minute, if they have a limit.
    pub(super) fn requests(&self) -> Option<RateLevel> {
        self.rate.as_ref().and_then(|rate| rate.level(Instant::now()))
    }

    /// Returns the level of its tokens per minute, if they have a limit.
    pub(super) fn tokens(&self) -> Option<RateLevel> {
        self.limits.as_ref().and_then(KeyLimits::tokens)
    }

    /// Returns the key's requests per minute.
    pub(super) fn requests_per_minute(&self) -> Option<NonZeroU32> {
        self.rate.as_ref().map(|rate| rate.per_minute)
    }

    /// Returns whether the key may see and answer tasks.
    pub(crate) fn is_reviewer(&self) -> bool {
        self.is_admin() || self.record.entry.handoff
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}
