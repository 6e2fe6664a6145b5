use std::sync::Arc;

use steadfast::{BoxLlmService, Dialect};
use steadfast_handoff::Desk;
use steadfast_stack::ObjectPlaces;

use super::{
    body_reader::BodyReader,
    catalog::Catalog,
    conversation::Runs,
    keys::{Denial, Key, Keys},
    records::{Entry, Records},
    refusals::Refusals,
    repeats::Repeats,
    standing_orders::StandingOrders,
    unknown_paths::UnknownPaths,
};
use crate::{
    lifecycle::Lifecycle,
    limits::{Memory, Settings},
};

/// The state that all requests share.
pub(crate) struct GatewayState {
    pub(crate) service: BoxLlmService,
    pub(crate) catalog: Catalog,
    /// The callers' keys; `None` if anyone may call.
    pub(crate) keys: Option<Arc<Keys>>,
    /// The memory for the bodies of requests.
    pub(crate) memory: Arc<Memory>,
    /// The orders by hand that hold at all gateways; `None` without a durable store.
    pub(crate) standing_orders: Option<Arc<StandingOrders>>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) records: Records,
    pub(crate) refusals: Arc<Refusals>,
    /// The last failures of each caller.
    pub(crate) repeats: Arc<Repeats>,
    pub(crate) unknown_paths: UnknownPaths,
    /// The responses that are made in the background.
    pub(crate) runs: Arc<Runs>,
    /// The places of objects, where no stack has them.
    pub(crate) places: ObjectPlaces,
    /// True if pages of other origins may call without a key.
    pub(crate) any_origin: bool,
    /// True if it answers to this machine's names alone: it listens on loopback, and nobody needs a key.
    pub(crate) has_local_names_alone: bool,
    /// True if the callers are in its process: then its errors speak to the program that has the stack.
    pub(crate) in_process: bool,
    /// The desk for tasks, in place of the stack's.
    #[cfg(test)]
    pub(crate) desk: Option<Desk>,
}

impl GatewayState {
    /// Creates the state of a gateway to this service.
    pub(crate) fn new(service: BoxLlmService, catalog: Catalog, keys: Option<Keys>, settings: Settings) -> Self {
        let refusals = Arc::<Refusals>::default();
        let lifecycle = Lifecycle::new(settings);
        let settings = &lifecycle.initial;
        Self {
            service,
            catalog,
            keys: keys.map(Arc::new),
            records: Records::new(settings.records, refusals.clone()),
            refusals,
            repeats: Arc::default(),
            unknown_paths: UnknownPaths::default(),
            places: ObjectPlaces::default(),
            any_origin: false,
            has_local_names_alone: false,
            in_process: false,
            standing_orders: None,
            memory: Arc::new(Memory::new(settings.memory)),
            runs: Arc::new(Runs::new(lifecycle.calls.clone())),
            lifecycle: Arc::new(lifecycle),
            #[cfg(test)]
            desk: None,
        }
    }

    /// Records, counts and logs that a caller is denied a request at the door.
    pub(crate) fn denied(&self, denied: &Denial, key: Option<&Arc<Key>>, dialect: Dialect) -> Entry {
        let entry = self.records.begin_refused(dialect);
        if let Some(key) = key {
            entry.set_key(&key.name);
        } else if let Denial::Expired(name) | Denial::Paused(name) = denied {
            entry.set_key(name);
        }
        entry.denied(denied);
        entry
    }

    /// Returns the gateway's own counters in Prometheus' format.
    pub(crate) fn counters(&self) -> String {
        self.unknown_paths.metrics() + &self.refusals.metrics(self.lifecycle.turned_away.count())
    }

    /// Returns the desk for tasks, if the stack hands requests to people.
    pub(crate) fn desk(&self) -> Option<Desk> {
        match &self.catalog {
            // A reload may have changed the desk.
            Catalog::Stack(stack) => stack.desk(),
            #[cfg(test)]
            Catalog::Listed(_) => self.desk.clone(),
            #[cfg(not(test))]
            Catalog::Listed(_) => None,
        }
    }

    /// Returns a reader for the body of a request with this key.
    pub(crate) fn reader<'a>(&'a self, settings: &'a Settings, key: Option<&'a Arc<Key>>) -> BodyReader<'a> {
        BodyReader { settings, memory: &self.memory, share: key.map(|key| &key.memory), stop: &self.lifecycle.stop }
    }
}
