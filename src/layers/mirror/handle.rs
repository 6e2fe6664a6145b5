use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::watch;

use crate::{events::ComparisonSkipReason, layers::totals::count};

/// The mirrored requests under way, shared by a [`MirrorLayer`](super::MirrorLayer), its clones, and the services
/// that they make.
///
/// Clones share them.
#[derive(Clone)]
pub struct MirrorHandle {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    /// The number of tasks, one for each mirrored request.
    tasks: watch::Sender<usize>,
    pub(super) closed: watch::Sender<bool>,
    pub(super) counters: Counters,
}

#[derive(Default)]
pub(super) struct Counters {
    mirrored: AtomicU64,
    pub(super) compared: AtomicU64,
    refused: AtomicU64,
    unpaired: AtomicU64,
    panicked: AtomicU64,
    full: AtomicU64,
    without_runtime: AtomicU64,
}

impl Counters {
    /// Returns the counter of this reason.
    #[warn(clippy::wildcard_enum_match_arm, reason = "each reason has its count")]
    pub(super) fn not_compared(&self, why: ComparisonSkipReason) -> &AtomicU64 {
        match why {
            ComparisonSkipReason::Refused => &self.refused,
            ComparisonSkipReason::Unpaired => &self.unpaired,
            ComparisonSkipReason::Panicked => &self.panicked,
            ComparisonSkipReason::Full => &self.full,
            ComparisonSkipReason::WithoutRuntime => &self.without_runtime,
            _ => unreachable!("steadfast-core has no other reason"),
        }
    }
}

/// The counts of requests that were chosen to be mirrored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MirrorStats {
    /// Requests of which the candidate got a copy. Those that are neither compared, refused nor unpaired are under
    /// way, or were ended.
    pub mirrored: u64,
    /// Requests whose sides have both ended, and whose comparison was reported.
    pub compared: u64,
    /// Requests that the candidate's own layers refused (its circuit is open, its bulkhead full, its budget spent),
    /// so that nothing was sent and there is nothing to compare.
    pub refused: u64,
    /// Requests for which the primary's answer had not ended in time to be compared.
    pub unpaired: u64,
    /// Requests for which a measure or a sink panicked, so that no comparison was reported.
    pub panicked: u64,
    /// Requests that were not mirrored: too many were under way, or the layer was closed.
    pub full: u64,
    /// Requests that were not mirrored: there was no tokio runtime for the task.
    pub without_runtime: u64,
}

impl MirrorHandle {
    pub(super) fn new() -> Self {
        let (tasks, closed) = (watch::Sender::new(0), watch::Sender::new(false));
        Self { shared: Arc::new(Shared { tasks, closed, counters: Counters::default() }) }
    }

    /// Returns the number of mirrored requests under way, each a task.
    pub fn under_way(&self) -> usize {
        *self.shared.tasks.borrow()
    }

    /// Ends the mirrored requests under way at once, mirrors no more, and returns when none is under way any more.
    /// Use it for a shutdown: callers and their answers are left alone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future half-way ends them all the same.
    pub async fn close(&self) {
        self.shared.closed.send_replace(true);
        let _ = self.shared.tasks.subscribe().wait_for(|tasks| *tasks == 0).await;
    }

    /// Returns the counts of requests so far.
    pub fn stats(&self) -> MirrorStats {
        let Counters { mirrored, compared, refused, unpaired, panicked, full, without_runtime } = &self.shared.counters;
        MirrorStats {
            mirrored: mirrored.load(Relaxed),
            compared: compared.load(Relaxed),
            refused: refused.load(Relaxed),
            unpaired: unpaired.load(Relaxed),
            panicked: panicked.load(Relaxed),
            full: full.load(Relaxed),
            without_runtime: without_runtime.load(Relaxed),
        }
    }
}

impl Shared {
    /// Takes a place, or returns `None` if all are taken.
    pub(super) fn enter(self: &Arc<Self>, most: usize) -> Option<Place> {
        let enters = |tasks: &mut usize| {
            let enters = *tasks < most && !*self.closed.borrow();
            *tasks += usize::from(enters);
            enters
        };
        self.tasks.send_if_modified(enters).then(|| {
            count(&self.counters.mirrored);
            Place { shared: self.clone() }
        })
    }
}

/// The place of a mirrored request, given back on drop.
pub(super) struct Place {
    pub(super) shared: Arc<Shared>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.tasks.send_modify(|tasks| *tasks -= 1);
    }
}

impl fmt::Debug for MirrorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MirrorHandle").field("under_way", &self.under_way()).field("stats", &self.stats()).finish()
    }
}
