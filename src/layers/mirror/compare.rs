use crate::events::Comparison;

/// A sink for [`Comparison`]s: a closure, a table, a judge.
///
/// The layer calls it in the mirrored request's own task, beside the requests and never in their way, from several
/// tasks at once. The request counts as [under way](super::MirrorLayer::max_in_flight) until it returns, so that
/// with a slow sink fewer requests are mirrored and no queue grows. It must not block, like any code in a task:
/// hand long work on. A panic is [counted](super::MirrorStats::panicked).
pub trait Compare: Send + Sync + 'static {
    /// Receives the comparison when both sides of a request have ended.
    fn compare(&self, comparison: Comparison);
}

impl<F: Fn(Comparison) + Send + Sync + 'static> Compare for F {
    fn compare(&self, comparison: Comparison) {
        self(comparison);
    }
}
