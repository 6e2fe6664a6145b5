//! The state of a running stack, and its reloads.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, atomic::AtomicU64},
};

use arc_swap::ArcSwap;
use tokio::time::Instant;

#[cfg(feature = "redis")]
use super::replicas::ReplicaSync;
use super::{Reload, generation::Generation, parts::context::StackContext, plan::Plan, previous::Previous};
use crate::{Budget, Config, ConfigError, Problem, file_text::FileText};
use steadfast::{
    Event,
    events::{self, CircuitReason, CircuitState, Subscriber as _},
};
use steadfast_internal::sync::{Mutex, MutexGuard, lock};
use steadfast_stores::replicas::SharedLimits;
use steadfast_subscribers::StatusBoard;

/// The state that all clones, services and handles of a stack share.
pub(super) struct StackState {
    pub(super) context: StackContext,
    pub(super) current: ArcSwap<Generation>,
    /// The file that it was read from.
    pub(super) path: Option<PathBuf>,
    /// The number of reloads that a caller requested.
    pub(super) readings: AtomicU64,
    /// The status board, kept by events from the first request for it.
    status: OnceLock<(StatusBoard, events::Subscription)>,
    /// Caps beside those of the configuration; locked while the next generation is built from the current one.
    extra_budgets: Mutex<Vec<Budget>>,
    #[cfg(feature = "redis")]
    replica_sync: ReplicaSync,
}

impl StackState {
    /// Builds the first generation.
    ///
    /// # Errors
    ///
    /// The configuration is wrong, or a store cannot be opened.
    pub(super) fn new(context: StackContext, config: Config, path: Option<PathBuf>) -> Result<Self, ConfigError> {
        let first =
            Plan::new(config, &context, &[]).and_then(|plan| Ok(Generation::new(plan, &context, Previous::default())?));
        let state = Self {
            current: ArcSwap::from_pointee(first.map_err(|error| error.of(path.as_deref()))?),
            context,
            path,
            readings: AtomicU64::new(0),
            status: OnceLock::new(),
            extra_budgets: Mutex::default(),
            #[cfg(feature = "redis")]
            replica_sync: ReplicaSync::default(),
        };
        state.sync_replicas();
        Ok(state)
    }

    /// Returns the board that keeps the status, starting it on the first call.
    pub(super) fn status(&self) -> &StatusBoard {
        let begin = || {
            let (primary, others) = self.current.load().tiers.names();
            let board = StatusBoard::new(primary).tiers(others);
            board.set_chains(self.current.load().chains());
            board.set_deployments(self.current.load().tiers.deployment_names());
            let subscription = self.context.events.follow(board.clone());
            // States learned from other replicas before the board existed.
            for (circuit, handle) in self.current.load().tiers.circuits() {
                let (to, at) = (handle.state(), Instant::now());
                if to != CircuitState::Closed {
                    let (from, reason) = (CircuitState::Closed, CircuitReason::Failures);
                    board.clone().event(&Event::CircuitChanged { circuit, from, to, reason, failure: None, at });
                }
            }
            (board, subscription)
        };
        &self.status.get_or_init(begin).0
    }

    /// Replaces the active configuration, or returns why not; sends one event for either.
    pub(super) fn reload(
        &self,
        config: Result<Config, ConfigError>,
        file: Option<&Path>,
    ) -> Result<Reload, ConfigError> {
        let reloaded = config.and_then(|config| self.swap(config)).map_err(|error| error.of(file));
        let at = Instant::now();
        self.context.events.send(match &reloaded {
            Ok(reload) => Event::Reloaded {
                kept: reload.kept.len(),
                changed: reload.changed.len(),
                settings: reload.settings.as_slice().into(),
                at,
            },
            Err(error) => Event::ReloadRefused { problem: error.to_string().into(), at },
        });
        reloaded
    }

    fn swap(&self, config: Config) -> Result<Reload, ConfigError> {
        let extra_budgets = self.lock_reload();
        let plan = Plan::new(config, &self.context, &extra_budgets)?;
        let before = self.current.load_full();
        let next = Generation::new(plan, &self.context, before.previous())?;
        let reload = next.since(&before);
        self.current.store(Arc::new(next));
        if let Some(cache) = &before.cache {
            cache.yield_to(self.current.load().cache.as_ref());
        }
        self.context.fallback.forget_all_but(|tier| self.current.load().tiers.get(tier).is_some());
        self.sync_replicas();
        drop(extra_budgets);
        if let Some((board, _)) = self.status.get() {
            let (primary, others) = self.current.load().tiers.names();
            board.set_tiers(primary, others);
            board.set_chains(self.current.load().chains());
            // Requests under way may still open a removed one's circuit.
            board.set_deployments(
                before.tiers.deployment_names().into_iter().chain(self.current.load().tiers.deployment_names()),
            );
            board.renew(&reload.changed);
        }
        Ok(reload)
    }

    /// Shares the current configuration's state from now on, if it names a store for that.
    #[cfg_attr(not(feature = "redis"), allow(clippy::unused_self, reason = "without a store there is none to share"))]
    pub(super) fn sync_replicas(&self) {
        #[cfg(feature = "redis")]
        self.replica_sync.share(self.current.load_full());
    }

    /// Shares these limits of callers from now on.
    #[cfg_attr(not(feature = "redis"), allow(unused_variables, clippy::unused_self, reason = "there is no store"))]
    pub(super) fn share_limits(&self, limits: SharedLimits) {
        #[cfg(feature = "redis")]
        self.replica_sync.set_limits(limits);
    }

    pub(super) fn lock_reload(&self) -> MutexGuard<'_, Vec<Budget>> {
        lock(&self.extra_budgets)
    }

    pub(super) fn set_budgets(&self, budgets: Vec<Budget>) -> Result<(), ConfigError> {
        let mut extra_budgets = self.lock_reload();
        if *extra_budgets == budgets {
            return Ok(());
        }
        let before = self.current.load_full();
        let plan = before.plan_with(&self.context, &budgets)?;
        let next = Generation::new(plan, &self.context, before.previous())?;
        self.current.store(Arc::new(next));
        self.sync_replicas();
        *extra_budgets = budgets;
        Ok(())
    }

    pub(super) fn path(&self) -> Result<&Path, ConfigError> {
        self.path.as_deref().ok_or_else(|| {
            let message = "the stack was not built from a file, so it cannot reload one";
            ConfigError::new(vec![Problem::of_file(None, message)])
        })
    }

    pub(super) fn read(&self) -> Result<Config, ConfigError> {
        self.path().and_then(|path| self.context.read(&FileText::read(path)?))
    }

    pub(super) fn reload_from_path(&self) -> Result<Reload, ConfigError> {
        self.reload(self.read(), self.path.as_deref())
    }

    /// Reloads if the file differs from the active configuration.
    pub(super) fn catch_up(&self) {
        let config = self.read();
        if !config.as_ref().is_ok_and(|config| *config == *self.current.load().config) {
            let _ = self.reload(config, self.path.as_deref());
        }
    }
}
