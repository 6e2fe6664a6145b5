//! The mirrored requests under way, and the counts.

use std::sync::{Arc, atomic::AtomicU64};

use tokio::sync::watch;

use crate::{events::ComparisonSkipReason, layers::totals::count};

/// The requests and counts that a layer, its clones and its handles share.
pub(super) struct Shared {
    /// The number of tasks, one for each mirrored request.
    tasks: watch::Sender<usize>,
    pub(super) closed: watch::Sender<bool>,
    pub(super) counters: Counters,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) mirrored: AtomicU64,
    pub(super) compared: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) unpaired: AtomicU64,
    pub(super) panicked: AtomicU64,
    pub(super) full: AtomicU64,
    pub(super) without_runtime: AtomicU64,
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

impl Default for Shared {
    fn default() -> Self {
        let (tasks, closed) = (watch::Sender::new(0), watch::Sender::new(false));
        Self { tasks, closed, counters: Counters::default() }
    }
}

impl Shared {
    /// Returns the number of mirrored requests under way.
    pub(super) fn under_way(&self) -> usize {
        *self.tasks.borrow()
    }

    /// Ends the mirrored requests under way, and waits until none is.
    pub(super) async fn close(&self) {
        self.closed.send_replace(true);
        let _ = self.tasks.subscribe().wait_for(|tasks| *tasks == 0).await;
    }

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
