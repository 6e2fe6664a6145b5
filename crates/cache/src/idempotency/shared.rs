//! The state that a layer, its clones and its services share.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64},
};

use tokio::sync::{Notify, watch};

use super::{MemoryIdempotency, backing::Backing, calls::Calls, results::ResultLog};

/// The stores, the calls under way, and what is still to be told.
pub(super) struct Shared {
    /// The stores, in the order in which they are asked.
    pub(super) backings: Vec<Backing>,
    /// The claims and answers of the time in which no store was reachable.
    pub(super) local: MemoryIdempotency,
    /// The results to send to the stores, and to send again to those that missed them.
    pub(super) results: ResultLog,
    /// True while a task sends them.
    pub(super) sending: AtomicBool,
    /// Wakes that task before its next interval.
    pub(super) send_now: Arc<Notify>,
    pub(super) calls: Calls,
    pub(super) counters: Counters,
    /// The number of tasks that make calls.
    pub(super) tasks: watch::Sender<usize>,
    /// True once calls without waiting callers end.
    pub(super) closed: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn new(backings: Vec<Backing>) -> Self {
        Self {
            backings,
            local: MemoryIdempotency::new(),
            results: ResultLog::default(),
            sending: AtomicBool::new(false),
            send_now: Arc::default(),
            calls: Calls::default(),
            counters: Counters::default(),
            tasks: watch::Sender::new(0),
            closed: watch::Sender::new(false),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) calls: AtomicU64,
    pub(super) replayed: AtomicU64,
    pub(super) shared: AtomicU64,
    pub(super) conflicts: AtomicU64,
    pub(super) kept: AtomicU64,
    pub(super) late: AtomicU64,
    pub(super) store_failures: AtomicU64,
}
