//! The limits of teams, above those of their keys.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use steadfast_stack::Gateway;
use steadfast_stores::replicas::SharedLimits;

use super::limits::{OwnLimits, Owner};

/// The limits of all teams that have some. Clones are the same ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Teams {
    by_name: Arc<ArcSwap<HashMap<Box<str>, OwnLimits>>>,
    /// The limits that replicas count together, those of keys too.
    pub(super) shared: SharedLimits,
}

impl Teams {
    /// Takes over the configuration's limits. What is unchanged keeps its state.
    pub(super) fn set(&self, gateway: &Gateway) {
        let before = self.by_name.load();
        let limits = gateway.teams.iter().map(|(name, said)| {
            let limits = OwnLimits::new(*said, Owner::Team(name), before.get(&**name), &self.shared);
            (name.as_str().into(), limits)
        });
        self.by_name.store(Arc::new(limits.collect()));
    }

    /// Returns the limits of a team, if it has any.
    pub(super) fn limits(&self, team: &str) -> Option<OwnLimits> {
        self.by_name.load().get(team).cloned()
    }
}
