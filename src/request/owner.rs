//! Whose request it is, for what keeps callers apart.

use std::sync::Arc;

use super::LlmRequest;

/// Whose request it is: put it into the request's [extensions](crate::LlmRequest::extension), and answers are never given
/// to another. Without one the [`BudgetKey`] says whose it is; without either, requests are nobody's, and share.
///
/// A name, never a secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tenant(pub Arc<str>);

impl Tenant {
    /// A tenant of this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// Whose request this is.
    pub(crate) fn of(request: &LlmRequest) -> Option<&Arc<str>> {
        let said = request.extensions();
        said.get::<Self>().map(|tenant| &tenant.0).or_else(|| said.get::<BudgetKey>().map(|key| &key.0))
    }
}

/// The name of the caller's key that a request belongs to: put it into the request's
/// [extensions](crate::LlmRequest::extension), and [`Cap::key`](crate::layers::budget::Cap::key) and [`Cap::each_key`](crate::layers::budget::Cap::each_key) count by it.
///
/// A name, never the secret itself: it stands in errors, events and logs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BudgetKey(pub Arc<str>);

impl BudgetKey {
    /// A key of this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }
}
