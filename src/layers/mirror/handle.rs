use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::{
    settings::Settings,
    under_way::{Counters, Shared},
};
use crate::layers::draft::View;

/// The mirrored requests under way, shared by a [`MirrorLayer`](super::MirrorLayer), its clones, and the services
/// that they make.
///
/// Clones share them.
#[derive(Clone)]
pub struct MirrorHandle {
    view: View<Settings>,
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
    pub(super) fn new(view: View<Settings>) -> Self {
        Self { view }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.view.look(|settings| settings.shared.clone())
    }

    /// Returns the number of mirrored requests under way, each a task.
    pub fn under_way(&self) -> usize {
        self.shared().under_way()
    }

    /// Ends the mirrored requests under way at once, mirrors no more, and returns when none is under way any more.
    /// Use it for a shutdown: callers and their answers are left alone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future half-way ends them all the same.
    pub async fn close(&self) {
        self.shared().close().await;
    }

    /// Returns the counts of requests so far.
    pub fn stats(&self) -> MirrorStats {
        let shared = self.shared();
        let Counters { mirrored, compared, refused, unpaired, panicked, full, without_runtime } = &shared.counters;
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

impl fmt::Debug for MirrorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MirrorHandle").field("under_way", &self.under_way()).field("stats", &self.stats()).finish()
    }
}
