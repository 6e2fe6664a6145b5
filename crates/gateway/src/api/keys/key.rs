//! A key: its permissions and limits.

use std::{fmt, sync::Arc, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};
use tokio::time::Instant;

use super::{
    budget::Budget,
    denial::Denial,
    expiry::Expiry,
    limits::{ConcurrencyPermit, KeyLimits},
    rate::Rate,
};
use crate::limits::memory::CallerShare;

/// A caller's key.
pub(crate) struct Key {
    pub(crate) name: Arc<str>,
    pub(super) hash: [u8; 32],
    /// The team that pays for its requests.
    pub(crate) team: Option<Arc<str>>,
    pub(super) features: Option<Arc<[Box<str>]>>,
    pub(super) models: Option<Arc<[Box<str>]>>,
    pub(super) rate: Option<Arc<Rate>>,
    pub(super) limits: Option<KeyLimits>,
    pub(super) budget: Option<Budget>,
    pub(super) expires: Option<Expiry>,
    pub(crate) admin: bool,
    pub(super) handoff: bool,
    pub(super) objects: ObjectRight,
    /// True if it may ask for paths that the gateway does not know.
    pub(super) pass_through: bool,
    /// The memory that the bodies of its requests take.
    pub(crate) memory: Arc<CallerShare>,
}

/// The objects of the account that a key may name, such as files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd)]
pub(crate) enum ObjectRight {
    /// None: the paths of objects are closed.
    None,
    /// The objects that it has made.
    #[default]
    Own,
    /// All.
    All,
}

impl<'de> Deserialize<'de> for ObjectRight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rights;

        impl Visitor<'_> for Rights {
            type Value = ObjectRight;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`false` for no objects, `own` for those of the key, or `all`")
            }

            fn visit_bool<E: de::Error>(self, is_own: bool) -> Result<ObjectRight, E> {
                Ok(if is_own { ObjectRight::Own } else { ObjectRight::None })
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<ObjectRight, E> {
                match word {
                    "own" => Ok(ObjectRight::Own),
                    "all" => Ok(ObjectRight::All),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
        }

        deserializer.deserialize_any(Rights)
    }
}

impl Key {
    /// Returns whether it has the same hash, permissions and limits as another.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        let limits = |key: &Self| {
            let own = key.limits.as_ref().map(|limits| (limits.concurrency, limits.tokens_per_minute));
            (key.rate.as_ref().map(|rate| rate.per_minute), own, key.budget.clone(), key.expires)
        };
        let may = |key: &Self| {
            let rights = (key.admin, key.handoff, key.objects, key.pass_through);
            (key.features.clone(), key.models.clone(), rights)
        };
        (self.hash, &self.team) == (other.hash, &other.team) && may(self) == may(other) && limits(self) == limits(other)
    }

    /// Returns whether another key allows all that this one does.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        // No rest: a new field is a right or a limit, and belongs here.
        let Self {
            name: _,
            hash: _,
            team: _,
            features,
            models,
            rate,
            limits,
            budget,
            expires,
            admin,
            handoff,
            objects,
            pass_through,
            memory: _,
        } = self;
        let names = |own: &Option<Arc<[Box<str>]>>, others: &Option<Arc<[Box<str>]>>| match (own, others) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(others)) => own.iter().all(|name| others.iter().any(|other| covers(other, name))),
        };
        let own = limits.as_ref().map(|limits| (limits.concurrency, limits.tokens_per_minute)).unwrap_or_default();
        let others = other.limits.as_ref();
        let others = others.map(|limits| (limits.concurrency, limits.tokens_per_minute)).unwrap_or_default();
        let per_minute = |rate: &Option<Arc<Rate>>| rate.as_ref().map(|rate| rate.per_minute);
        names(features, &other.features)
            && names(models, &other.models)
            && is_at_most(per_minute(rate), per_minute(&other.rate), |own, other| own <= other)
            && is_at_most(own.0, others.0, |own, other| own <= other)
            && is_at_most(own.1, others.1, |own, other| own <= other)
            && is_at_most(budget.as_ref(), other.budget.as_ref(), Budget::is_within)
            && is_at_most(*expires, other.expires, |own, other| own.at <= other.at)
            && *admin <= other.admin
            && *handoff <= other.handoff
            && *objects <= other.objects
            && *pass_through <= other.pass_through
    }

    /// Returns whether its limits need the content of a request.
    pub(crate) fn reads_requests(&self) -> bool {
        self.limits.is_some() || self.budget.is_some()
    }

    /// Returns the feature of a request, if the key may use it.
    pub(crate) fn feature(&self, named: Option<Box<str>>) -> Result<Option<Box<str>>, Denial> {
        match (&self.features, named) {
            (None, named) => Ok(named),
            (Some(allowed), None) => Ok(allowed.first().cloned()),
            (Some(allowed), Some(named)) if allowed.contains(&named) => Ok(Some(named)),
            (Some(allowed), Some(_)) => Err(Denial::Feature(allowed.clone())),
        }
    }

    /// Returns the names and patterns of the models that the key is for; `None` for any.
    pub(crate) fn models(&self) -> Option<&[Box<str>]> {
        self.models.as_deref()
    }

    /// Returns true if there are models that the key is not for.
    pub(crate) fn is_for_some_models(&self) -> bool {
        self.models.is_some()
    }

    /// Checks that the key is for this model.
    pub(crate) fn model(&self, named: Option<&str>) -> Result<(), Denial> {
        let Some(allowed) = &self.models else { return Ok(()) };
        let fits = |pattern: &str| named.is_some_and(|named| covers(pattern, named));
        if allowed.iter().any(|pattern| fits(pattern)) { Ok(()) } else { Err(Denial::Model(allowed.clone())) }
    }

    /// Checks that the key is for objects.
    pub(crate) fn objects(&self) -> Result<(), Denial> {
        if self.objects == ObjectRight::None { Err(Denial::Objects) } else { Ok(()) }
    }

    /// Returns true if it may name its own objects only.
    pub(crate) fn owns_objects(&self) -> bool {
        !self.admin && self.objects != ObjectRight::All
    }

    /// Checks that the key is for a path that the gateway does not know, and that no list has.
    pub(crate) fn passes(&self, path: &str) -> Result<(), Denial> {
        if self.admin || self.pass_through { Ok(()) } else { Err(Denial::NotPassed(path.into())) }
    }

    /// Takes a permit for work that calls no model, within the key's concurrency.
    pub(crate) fn permit(&self) -> Result<Option<ConcurrencyPermit>, Denial> {
        self.limits.as_ref().map_or(Ok(None), KeyLimits::permit)
    }

    /// Counts a request against the key's rate.
    pub(crate) fn admit(&self, now: Instant) -> Result<(), Denial> {
        self.rate.as_ref().map_or(Ok(()), |rate| rate.take(now).map_err(|wait| Denial::Rate(wait, rate.per_minute)))
    }

    /// Returns whether the key may see and answer tasks.
    pub(crate) fn is_reviewer(&self) -> bool {
        self.admin || self.handoff
    }

    pub(super) fn is_expired(&self, since_1970: Duration) -> bool {
        self.expires.is_some_and(|expiry| expiry.is_over(since_1970))
    }
}

/// Returns whether a name or a pattern matches all that another does.
fn covers(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(name == pattern, |start| name.starts_with(start))
}

/// Returns whether a limit, of which there may be none, is at most another.
fn is_at_most<T>(own: Option<T>, other: Option<T>, at_most: impl FnOnce(T, T) -> bool) -> bool {
    match (own, other) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(own), Some(other)) => at_most(own, other),
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}
