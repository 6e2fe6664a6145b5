//! The deployment that a store belongs to, so that another one does not take it for its own.

use std::sync::Arc;

use steadfast::store::{StoreError, StoreErrorKind};

/// The name of the deployment that opens a store.
///
/// The first that opens a store is its owner from then on. Replicas have the same name; a deployment without a name
/// opens every store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOwner {
    pub(crate) name: Arc<str>,
    pub(crate) former: Option<Arc<str>>,
}

impl StoreOwner {
    /// Creates an owner of this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), former: None }
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes over a store of this other name too, which then belongs to the new one. Default: none.
    #[must_use]
    pub fn formerly(mut self, name: impl Into<Arc<str>>) -> Self {
        self.former = Some(name.into());
        self
    }

    /// Returns whether it may open a store of this owner.
    pub fn may_open(&self, owner: &str) -> bool {
        *self.name == *owner || self.former.as_deref() == Some(owner)
    }

    /// Returns the error of a store that belongs to another. `another` is where this one may go.
    pub(crate) fn refusal(&self, store: &str, owner: &str, another: &str) -> StoreError {
        let name = &self.name;
        let what = format!(
            "{store} belongs to the deployment with `prefix: {owner:?}`, and this one has `prefix: {name:?}`: name \
             {another}; give both the same prefix if they are replicas of one deployment; or, if it was renamed, hand \
             the store over with `former_prefix: {owner:?}`"
        );
        StoreError::new(StoreErrorKind::Misconfigured, what)
    }

    /// Returns the error of a store that is open as another's, for a change of the name.
    #[doc(hidden)]
    pub fn refused_as(&self, open_as: &Self) -> StoreError {
        self.refusal("the store", &open_as.name, "another store")
    }
}
