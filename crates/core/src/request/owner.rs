//! The owner of a request, for the layers that keep callers apart.

use std::{
    any::TypeId,
    hash::{DefaultHasher, Hasher},
    sync::Arc,
};

use super::LlmRequest;

/// The tenant that a request belongs to. Put it into the request's [extensions](crate::LlmRequest::with_extension), and
/// its answers are never given to another tenant. A request without one belongs to its [`BudgetKey`]. Requests with
/// neither belong to no tenant and share answers.
///
/// A name, never a secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tenant(pub Arc<str>);

impl Tenant {
    /// A tenant of this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// Returns the request's tenant.
    #[doc(hidden)]
    pub fn of(request: &LlmRequest) -> Option<&Arc<str>> {
        let said = request.extensions();
        said.get::<Self>().map(|tenant| &tenant.0).or_else(|| said.get::<BudgetKey>().map(|key| &key.0))
    }

    /// Returns true if an extension of this type may name the tenant.
    pub(super) fn is_named_by<T: 'static>() -> bool {
        [TypeId::of::<Self>(), TypeId::of::<BudgetKey>()].contains(&TypeId::of::<T>())
    }
}

/// The name of the caller's key that a request belongs to. Put it into the request's
/// [extensions](crate::LlmRequest::with_extension), and `Cap::key` and
/// `Cap::each_key` count by it.
///
/// It must be a name, never the secret itself: errors, events and logs contain it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BudgetKey(pub Arc<str>);

/// The name of the team that pays for a request. Put it into the request's
/// [extensions](crate::LlmRequest::with_extension): events, the log and a ledger have it, and `Cap::team` counts by it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Team(pub Arc<str>);

impl Team {
    /// Creates a team of this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }
}

impl LlmRequest {
    /// Returns the name of the team that pays, if it has one.
    #[doc(hidden)]
    pub fn team(&self) -> Option<&Arc<str>> {
        self.caller.team()
    }

    /// Returns the name of the caller's key, if it has one.
    #[inline]
    #[doc(hidden)]
    pub fn key(&self) -> Option<&Arc<str>> {
        self.caller.key()
    }
}

impl BudgetKey {
    /// Creates a key of this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }
}

/// The number of requests without a named caller.
#[doc(hidden)]
pub const UNNAMED: u64 = 0;

/// Returns a number for the caller of this name.
pub(super) fn number(name: Option<&str>) -> u64 {
    name.map_or(UNNAMED, |name| {
        let mut hasher = DefaultHasher::new();
        hasher.write(name.as_bytes());
        hasher.finish() | 1
    })
}
