//! The settings and the signals to stop that all connections of a server share.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use steadfast::{ErrorKind, LlmError};
use steadfast_subscribers::LineLimit;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    limits::{Memory, Settings},
    lock::lock,
};

/// The settings of a running server, and its signals to stop.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    /// The settings at the start, for limits that hold until the next start.
    pub(crate) initial: Settings,
    /// The settings since the last reload.
    pub(crate) current: ArcSwap<Settings>,
    /// The memory for long request heads.
    pub(crate) heads: Arc<Memory>,
    /// The connections that were refused.
    pub(crate) turned_away: TurnedAway,
    /// The calls that no connection waits for.
    pub(crate) calls: TaskTracker,
    /// Cancelled when the server is asked to stop.
    pub(crate) stop: CancellationToken,
    /// Cancelled when the grace period has elapsed.
    pub(crate) cut: CancellationToken,
}

impl Lifecycle {
    /// Creates the state of a server with these settings.
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            current: ArcSwap::from_pointee(settings.clone()),
            heads: Arc::new(Memory::new(settings.memory / 4)),
            initial: settings,
            turned_away: TurnedAway::default(),
            calls: TaskTracker::new(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
        }
    }
}

/// Returns the error of a server that stops before the answer is complete.
pub(crate) fn stopping() -> LlmError {
    LlmError::new(ErrorKind::Overloaded, "the gateway is stopping")
}

/// A counter of the connections that the server refused for want of room. It logs them, one line in ten seconds.
#[derive(Debug)]
pub(crate) struct TurnedAway {
    count: AtomicU64,
    lines: Mutex<LineLimit>,
}

impl Default for TurnedAway {
    fn default() -> Self {
        Self { count: AtomicU64::new(0), lines: Mutex::new(LineLimit::new(1, Duration::from_secs(10))) }
    }
}

impl TurnedAway {
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    pub(crate) fn report(&self) {
        self.count.fetch_add(1, Relaxed);
        let Some(unsaid) = lock(&self.lines).next(Instant::now()) else { return };
        tracing::warn!(
            event = "request_refused",
            reason = "connections",
            scope = "gateway",
            limit = "gateway.connections, gateway.memory",
            unsaid = (unsaid > 0).then_some(unsaid),
            "connection refused"
        );
    }
}
