//! A provider that is down for a while.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{ATTEMPT, BEFORE, ERROR_LATENCY, LATENCY};

/// The provider that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Primary,
    Backup,
}

/// The kind of the outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It says that it has too much load.
    Errors,
    /// It says nothing.
    Silence,
}

/// The fault of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Overloaded,
    /// The client itself gives up.
    Late,
}

#[derive(Clone)]
pub(super) struct Provider {
    side: Side,
    fault: Fault,
    begun: Instant,
    outage: Range<Duration>,
    dead: Arc<AtomicUsize>,
}

impl Provider {
    pub(super) fn primary(fault: Fault, length: Duration) -> Self {
        let outage = BEFORE..BEFORE + length;
        Self { side: Side::Primary, fault, begun: Instant::now(), outage, dead: Arc::default() }
    }

    pub(super) fn backup() -> Self {
        let never = Duration::MAX..Duration::MAX;
        Self { side: Side::Backup, fault: Fault::Errors, begun: Instant::now(), outage: never, dead: Arc::default() }
    }

    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    pub(super) fn outage(&self) -> Range<Duration> {
        self.outage.clone()
    }

    pub(super) fn dead_attempts(&self) -> usize {
        self.dead.load(Relaxed)
    }

    /// One call. With `gives_up` the client itself ends a call that takes too long.
    pub(super) async fn call(self, gives_up: bool) -> Result<Side, Wrong> {
        if !self.outage.contains(&self.begun.elapsed()) {
            sleep(LATENCY).await;
            return Ok(self.side);
        }
        self.dead.fetch_add(1, Relaxed);
        match self.fault {
            Fault::Errors => {
                sleep(ERROR_LATENCY).await;
                Err(Wrong::Overloaded)
            }
            Fault::Silence if gives_up => {
                sleep(ATTEMPT).await;
                Err(Wrong::Late)
            }
            Fault::Silence => std::future::pending().await,
        }
    }
}
