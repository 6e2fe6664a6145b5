//! The settings and the signals to stop that all connections of a server share.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use crate::limits::{Memory, Settings};

/// The settings of a running server, and its signals to stop.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    /// The settings at the start, for limits that hold until the next start.
    pub(crate) initial: Settings,
    /// The settings since the last reload.
    pub(crate) current: ArcSwap<Settings>,
    /// The memory for long request heads.
    pub(crate) heads: Arc<Memory>,
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
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
        }
    }
}
