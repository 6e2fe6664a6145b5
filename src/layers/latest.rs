//! How long the last calls took, and a quantile of that.

use crate::internal::histogram::Histogram;

/// The times of the last calls.
///
/// Two halves of a window by number and not by time, so that quiet services know something too: the younger is filled,
/// and when it is full takes the place of the older, as in tower's `RotatingHistogram`.
#[derive(Debug, Default)]
pub(crate) struct Latest<const BUCKETS: usize> {
    young: (u32, Histogram<BUCKETS>),
    old: (u32, Histogram<BUCKETS>),
    /// How many there were, with those that neither half holds any more.
    seen: u64,
}

/// How many times a half holds: of two, 25 to 50 are above the 95th percentile.
pub(crate) const HALF: u32 = 512;
/// The quantile is worked out anew after so many.
pub(crate) const EACH: u32 = 16;

impl<const BUCKETS: usize> Latest<BUCKETS> {
    /// Takes a time. The quantile in microseconds, where it was worked out anew: not before `least` times are known.
    pub(crate) fn record(&mut self, micros: u64, share: f64, least: u32) -> Option<u64> {
        if self.young.0 == HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.0 += 1;
        self.young.1.add(micros);
        self.seen += 1;
        let least = u64::from(least.max(1));
        if self.seen < least || (self.seen != least && !self.young.0.is_multiple_of(EACH)) {
            return None;
        }
        let known = self.young.0 + self.old.0;
        let mut all = self.young.1.clone();
        all.merge(&self.old.1);
        Some(all.quantile(known.into(), share).within() as u64)
    }
}
