use crate::events::NotCompared;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::watch;

use crate::layers::totals::count;

/// The mirrored requests under way: shared by a [`MirrorLayer`](super::MirrorLayer), its clones, and the services that they
/// make.
///
/// Clones are the same.
#[derive(Clone)]
pub struct MirrorHandle {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    /// The tasks: one for each mirrored request.
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
    /// Those that were not compared, and why.
    pub(super) fn not_compared(&self, why: NotCompared) -> &AtomicU64 {
        match why {
            NotCompared::Refused => &self.refused,
            NotCompared::Unpaired => &self.unpaired,
            NotCompared::Panicked => &self.panicked,
            NotCompared::Full => &self.full,
            NotCompared::WithoutRuntime => &self.without_runtime,
        }
    }
}

/// What became of the requests that were chosen to be mirrored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MirrorStats {
    /// The candidate was given a copy. What is neither compared, refused nor unpaired is under way, or was ended.
    pub mirrored: u64,
    /// Both sides have ended, and the comparison was told.
    pub compared: u64,
    /// The candidate's own layers refused (its circuit is open, its bulkhead full, its budget spent), so that nothing was
    /// sent and there is nothing to compare.
    pub refused: u64,
    /// The primary's answer had not ended in time to be compared.
    pub unpaired: u64,
    /// A measure or a sink panicked, so that nobody was told.
    pub panicked: u64,
    /// Not mirrored: too many were under way, or the layer was closed.
    pub full: u64,
    /// Not mirrored: there was no tokio runtime to do it in.
    pub without_runtime: u64,
}

impl MirrorHandle {
    pub(super) fn new() -> Self {
        let (tasks, closed) = (watch::Sender::new(0), watch::Sender::new(false));
        Self { shared: Arc::new(Shared { tasks, closed, counters: Counters::default() }) }
    }

    /// How many mirrored requests are under way, each a task.
    pub fn under_way(&self) -> usize {
        *self.shared.tasks.borrow()
    }

    /// Ends the mirrored requests under way at once, mirrors no more of them, and returns when none is under way any more. For
    /// a shutdown: callers and their answers are left alone.
    ///
    /// # Cancel safety
    ///
    /// Dropped half-way, they end all the same.
    pub async fn close(&self) {
        self.shared.closed.send_replace(true);
        let _ = self.shared.tasks.subscribe().wait_for(|tasks| *tasks == 0).await;
    }

    /// What became of the requests so far.
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
    /// A place among so many; `None` where all are taken.
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

/// The place of a mirrored request, given back when this is dropped.
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
