use crate::events::Comparison;

/// Somebody who is told of each [`Comparison`]: a closure, a table, a judge.
///
/// It is called in the mirrored request's own task, beside the requests and never in their way, from several tasks at once.
/// Until it returns, the request counts as [under way](super::MirrorLayer::max_in_flight), so that one who is slow has fewer
/// requests mirrored and no queue grows. It must not block, like all that runs in a task: hand on what takes time. If it
/// panics, that is [counted](super::MirrorStats::panicked).
pub trait Compare: Send + Sync + 'static {
    /// Both sides of a request have ended.
    fn compare(&self, comparison: Comparison);
}

impl<F: Fn(Comparison) + Send + Sync + 'static> Compare for F {
    fn compare(&self, comparison: Comparison) {
        self(comparison);
    }
}
