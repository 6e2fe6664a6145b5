//! Values of the last calls, and a quantile of them.

use crate::internal::histogram::Histogram;

/// Values of the last calls: times in microseconds, lengths in tokens.
///
/// The window has two halves, by number and not by time, so that quiet services have data too. The younger half is
/// filled; once full, it takes the place of the older, as in tower's `RotatingHistogram`.
#[derive(Debug, Default)]
pub(crate) struct RecentValues<const BUCKETS: usize> {
    young: (u32, Histogram<BUCKETS>),
    old: (u32, Histogram<BUCKETS>),
    /// The number of calls ever, including those that neither half holds any more.
    seen: u64,
}

/// The number of values that a half holds: of two, 25 to 50 are above the 95th percentile.
pub(crate) const HALF: u32 = 512;
/// The number of calls after which the quantile is computed again; the first ones each change it.
pub(crate) const EACH: u32 = 16;

impl<const BUCKETS: usize> RecentValues<BUCKETS> {
    /// Returns the number of values ever.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    /// Records a value. Returns the quantile if it was computed again: not before `least` values are known.
    pub(crate) fn record(&mut self, value: u64, share: f64, least: u32) -> Option<u64> {
        if self.young.0 == HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.0 += 1;
        self.young.1.add(value);
        self.seen += 1;
        let is_first = self.seen <= u64::from(least.max(EACH));
        if self.seen < u64::from(least) || !(is_first || self.young.0.is_multiple_of(EACH)) {
            return None;
        }
        let known = self.young.0 + self.old.0;
        let mut all = self.young.1.clone();
        all.merge(&self.old.1);
        Some(all.quantile(known.into(), share).within() as u64)
    }
}
