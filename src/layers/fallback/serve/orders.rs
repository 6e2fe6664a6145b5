//! The orders by hand that a fallback's requests follow.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::internal::sync::{Mutex, MutexGuard, lock};

/// The orders by hand that requests follow.
#[derive(Default)]
pub(crate) struct Orders {
    /// True if there are any: the only field that a request reads while there are none.
    any: AtomicBool,
    current: Mutex<Arc<OrderSnapshot>>,
}

/// The orders of one moment.
#[derive(Clone, Default)]
pub(crate) struct OrderSnapshot {
    pub(super) drained: BTreeSet<Arc<str>>,
    pub(super) level: Option<u8>,
    pub(super) features: BTreeMap<Arc<str>, u8>,
}

impl Orders {
    /// Returns the orders, if there are any.
    #[inline]
    pub(crate) fn given(&self) -> Option<Arc<OrderSnapshot>> {
        self.any.load(Relaxed).then(|| self.current())
    }

    /// Returns whether there are any orders. One load.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.any.load(Relaxed)
    }

    pub(super) fn current(&self) -> Arc<OrderSnapshot> {
        self.lock().clone()
    }

    pub(super) fn change<R>(&self, change: impl FnOnce(&mut OrderSnapshot) -> R) -> R {
        let mut current = self.lock();
        let orders = Arc::make_mut(&mut current);
        let result = change(orders);
        let any = !orders.drained.is_empty() || orders.level.is_some() || !orders.features.is_empty();
        self.any.store(any, Relaxed);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Arc<OrderSnapshot>> {
        lock(&self.current)
    }
}

impl OrderSnapshot {
    pub(crate) fn is_drained(&self, tier: &str) -> bool {
        self.drained.contains(tier)
    }

    /// Returns the level that is pinned for a feature's requests, and whether it is for all.
    pub(crate) fn level(&self, feature: Option<&str>) -> Option<(u8, bool)> {
        let own = feature.and_then(|feature| self.features.get(feature));
        own.map(|level| (*level, false)).or_else(|| self.level.map(|level| (level, true)))
    }
}
