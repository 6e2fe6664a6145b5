//! The headroom of deployments that replicas share.

use std::{fmt, sync::Arc};

use steadfast::layers::balance::{HeadroomFuture, HeadroomOrder, HeadroomStore};

/// The store in which replicas share the headroom of deployments. Clones are equal.
#[derive(Clone)]
pub(crate) struct SharedHeadroom(Arc<dyn HeadroomStore>);

impl SharedHeadroom {
    #[cfg(feature = "redis")]
    pub(crate) fn new(store: impl HeadroomStore) -> Self {
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
