//! The handle that watches and controls a stack: one type, in a file for each purpose.

mod inspect;
mod objects;
mod operate;
mod records;
mod spend;
mod status;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

pub use self::{inspect::TierDeployment, objects::ObjectTier};
use super::{Reload, state::StackState};
use crate::{Budget, Config, ConfigError};
use steadfast::Events;
use steadfast_stores::replicas::SharedLimits;

/// A handle that watches and controls a [`Stack`](super::Stack) while it runs. Clones are the same handle.
///
/// Circuits and the bulkhead belong to the configuration of the moment: look them up again after a reload. The
/// circuits of unchanged tiers stay the same, with all manual changes.
#[derive(Clone)]
pub struct StackHandle {
    pub(super) shared: Arc<StackState>,
    /// The actor that uses this handle.
    pub(super) by: Option<Arc<str>>,
}

impl StackHandle {
    pub(super) fn new(shared: Arc<StackState>) -> Self {
        Self { shared, by: None }
    }

    /// Returns the channel of all events in the stack.
    pub fn events(&self) -> &Events {
        &self.shared.context.events
    }

    /// Returns the active configuration.
    pub fn config(&self) -> Arc<Config> {
        self.shared.current.load().config.clone()
    }

    /// Returns this handle on behalf of an actor. Events name the actor of each manual change, including those made
    /// through circuits and the [`fallback`](Self::fallback) of this handle. Default: no actor.
    #[must_use]
    pub fn acting_as(&self, who: impl Into<Arc<str>>) -> Self {
        Self { by: Some(who.into()), ..self.clone() }
    }

    /// Returns the actor of this handle, if it has one.
    pub fn actor(&self) -> Option<&str> {
        self.by.as_deref()
    }

    /// Sets the caps beside the configuration's, and replaces those set before: caps that a program knows and a file
    /// does not, such as one for each customer's [key](Budget::key). They count like the configuration's and survive
    /// its reloads. A cap that existed before keeps its spending.
    ///
    /// # Errors
    ///
    /// A cap shares its name with another, steps down to a level without a tier, or has an invalid amount. The caps
    /// then stay unchanged. A reload of the configuration is refused for the same reasons.
    pub fn set_budgets(&self, budgets: Vec<Budget>) -> Result<(), ConfigError> {
        self.shared.set_budgets(budgets)
    }

    /// Checks that the stack could keep these caps beside its configuration's. It changes nothing.
    ///
    /// # Errors
    ///
    /// As in [`set_budgets`](Self::set_budgets).
    #[doc(hidden)]
    pub fn check_budgets(&self, budgets: &[Budget]) -> Result<(), ConfigError> {
        self.shared.current.load().plan_with(&self.shared.context, budgets).map(drop)
    }

    /// Counts these limits of callers together with the other replicas, while the configuration has a shared store.
    #[doc(hidden)]
    pub fn share_limits(&self, limits: SharedLimits) {
        self.shared.share_limits(limits);
    }

    /// Reads the stack's file again and replaces the active configuration, like [`reload`](Self::reload). The file is
    /// read on this thread.
    ///
    /// # Errors
    ///
    /// The file is wrong or gone, or the stack was not built from a file. The stack continues unchanged.
    pub fn reload_from_path(&self) -> Result<Reload, ConfigError> {
        self.shared.readings.fetch_add(1, Relaxed);
        self.shared.reload_from_path()
    }

    /// Replaces the active configuration. No request is lost: see [`Stack`](super::Stack).
    ///
    /// [`Event::Reloaded`](steadfast::Event::Reloaded) or [`Event::ReloadRefused`](steadfast::Event::ReloadRefused)
    /// reports the result once.
    ///
    /// # Errors
    ///
    /// As in [`Stack::from_config`](super::Stack::from_config). The stack continues unchanged.
    pub fn reload(&self, config: Config) -> Result<Reload, ConfigError> {
        self.shared.reload(Ok(config), None)
    }
}

impl fmt::Debug for StackHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackHandle").field("tiers", &self.tiers()).field("bulkhead", &self.bulkhead()).finish()
    }
}
