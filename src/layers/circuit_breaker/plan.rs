//! All that a layer is told.

use std::sync::Arc;

use super::{
    circuit::{NamedCircuit, Policy},
    keyed::{KeyOf, Keyed},
    shared::{Circuits, Shared},
};
use crate::{internal::sharded::ShardedArc, layers::draft};

#[derive(Clone)]
pub(super) struct Plan {
    pub(super) name: Arc<str>,
    pub(super) policy: Policy,
    /// The function that returns a request's key, and the most circuits.
    pub(super) keyed: Option<(Arc<KeyOf>, usize)>,
    pub(super) seed: Option<u64>,
}

impl draft::Plan for Plan {
    type State = Shared;

    fn make(self: &Arc<Self>, before: Option<&Shared>) -> Arc<Shared> {
        let policy = Arc::new(self.policy.clone());
        let events = policy.events.clone();
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..));
        let circuits = match &self.keyed {
            None => Circuits::One(ShardedArc::new(NamedCircuit::new(self.name.clone(), policy, seed))),
            Some((key_of, capacity)) => {
                Circuits::Keyed(Keyed::new(self.name.clone(), policy, seed, key_of.clone(), *capacity))
            }
        };
        let shared = Shared { circuits, events };
        before.into_iter().for_each(|before| shared.keep_orders(before));
        Arc::new(shared)
    }
}
