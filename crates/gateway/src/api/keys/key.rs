//! A key: its permissions and limits.

use std::{fmt, sync::Arc};

use steadfast::{
    LlmError,
    layers::bulkhead::{CallerLimitReached, CallerLimits, RateLevel},
};
use steadfast_stores::replicas::LimitUse;
use tokio::time::Instant;

use super::{
    denial::Denial,
    entry::{KeyRecord, ObjectRight, covers},
    limits::{CallLimits, ConcurrencyPermit, OwnLimits, Owner},
    teams::Teams,
};
use crate::limits::memory::CallerShare;

/// A caller's key.
pub(crate) struct Key {
    pub(crate) name: Arc<str>,
    /// The team that pays for its requests.
    pub(crate) team: Option<Arc<str>>,
    pub(super) record: Arc<KeyRecord>,
    pub(super) own: OwnLimits,
    teams: Teams,
    /// The memory that the bodies of its requests take.
    pub(crate) memory: Arc<CallerShare>,
}

impl Key {
    /// Creates the key of a record. An unchanged limit keeps the state that it has `before`.
    pub(super) fn new(record: Arc<KeyRecord>, before: Option<&Self>, teams: &Teams) -> Self {
        let entry = &record.entry;
        let own = OwnLimits::new(entry.into(), Owner::Key(&entry.name), before.map(|key| &key.own), &teams.shared);
        let memory = before.map(|key| key.memory.clone()).unwrap_or_default();
        let team = entry.team.as_deref().map(Into::into);
        Self { name: (*entry.name).into(), team, own, teams: teams.clone(), memory, record }
    }

    /// Returns the limits of its team, if there are any.
    pub(super) fn of_team(&self) -> Option<OwnLimits> {
        self.teams.limits(self.team.as_deref()?)
    }

    /// Returns whether its limits need the content of a request.
    pub(crate) fn reads_requests(&self) -> bool {
        let calls = |limits: &OwnLimits| limits.calls.is_some();
        calls(&self.own) || self.record.entry.budget.is_some() || self.of_team().as_ref().is_some_and(calls)
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

    /// Takes the permits for work that calls no model, within the concurrency of the key and of its team.
    pub(crate) fn permits(&self) -> Result<[Option<ConcurrencyPermit>; 2], Denial> {
        Ok([self.own.permit()?, self.of_team().map_or(Ok(None), |limits| self.in_team(limits.permit()))?])
    }

    /// Counts a request against the key's rate, and then against its team's.
    pub(crate) fn admit(&self, now: Instant) -> Result<(), Denial> {
        self.own.admit(now, None)?;
        self.of_team().map_or(Ok(()), |limits| self.in_team(limits.admit(now, Some(&self.name))))
    }

    /// Returns the levels of requests and of tokens per minute: of its own limit or its team's, that which has less
    /// left.
    pub(super) fn levels(&self) -> [Option<RateLevel>; 2] {
        let mut levels = self.own.levels();
        let of_team = self.of_team().map(|limits| limits.levels()).unwrap_or_default();
        for (level, of_team) in levels.iter_mut().zip(of_team) {
            *level = [level.take(), of_team].into_iter().flatten().min_by_key(|level| level.left);
        }
        levels
    }

    /// Begins a call within the limits of the key and of its team.
    pub(super) fn enter(&self) -> CallUse {
        let (own, team) = (self.own.calls.clone(), self.of_team().and_then(|limits| limits.calls));
        let uses = [&own, &team].map(|limits| limits.as_ref().map(CallLimits::enter));
        CallUse { own, team, _uses: uses }
    }

    /// Makes a denial by the team's limits one of the team.
    fn in_team<T>(&self, result: Result<T, Denial>) -> Result<T, Denial> {
        result.map_err(|denied| match &self.team {
            Some(team) => Denial::Team(team.clone(), denied.into()),
            None => denied,
        })
    }

    /// Returns whether the key may see and answer tasks.
    pub(crate) fn is_reviewer(&self) -> bool {
        self.is_admin() || self.record.entry.handoff
    }
}

/// The limits that a call of a key takes from, until it is dropped.
pub(super) struct CallUse {
    own: Option<CallLimits>,
    team: Option<CallLimits>,
    _uses: [Option<LimitUse>; 2],
}

impl CallUse {
    /// Returns the limits in the form that a request carries; `None` without any.
    pub(super) fn limits(&self) -> Option<CallerLimits> {
        let layer = |limits: &Option<CallLimits>| limits.as_ref().map(|limits| limits.layer.clone());
        match (layer(&self.own), layer(&self.team)) {
            (Some(own), Some(team)) => Some(CallerLimits::new(own).within(team)),
            (Some(own), None) => Some(CallerLimits::new(own)),
            (None, team) => team.map(CallerLimits::shared),
        }
    }

    /// Returns the denial that an error of the call of this key is, with the limit that was reached.
    pub(super) fn denial(&self, key: &Key, error: &LlmError) -> Option<Denial> {
        let reached: &CallerLimitReached = std::error::Error::source(error)?.downcast_ref()?;
        match reached.is_shared() {
            false => self.own.as_ref()?.denial(error),
            true => key.in_team(Err::<(), _>(self.team.as_ref()?.denial(error)?)).err(),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}
