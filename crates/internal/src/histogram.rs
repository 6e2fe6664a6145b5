//! A histogram of durations, in buckets whose width grows with their values.

use std::time::Duration;

/// Counts in a fixed number of buckets for each doubling, from a quarter of a millisecond to a quarter of an hour, and
/// one bucket at either end.
#[derive(Clone, Debug)]
pub struct Histogram<const BUCKETS: usize>([u32; BUCKETS]);

/// Four for each doubling: a value is exact to an eighth.
pub const COARSE: usize = buckets(4);
/// A histogram whose values are exact to an eighth.
pub type Coarse = Histogram<COARSE>;
/// Sixteen for each doubling: exact to a 32nd.
pub const FINE: usize = buckets(16);

/// The second bucket begins at 2⁸ µs, the last one at 2³⁰ µs.
const SMALLEST: u32 = 8;
const LARGEST: u32 = 30;

const fn buckets(per_doubling: usize) -> usize {
    (LARGEST - SMALLEST) as usize * per_doubling + 2
}

/// The position of a quantile, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Quantile {
    /// The bounds of its bucket.
    begins: f64,
    ends: f64,
    /// The part of the bucket before it, from 0 to 1.
    before: f64,
}

impl Quantile {
    /// Returns the middle of the bucket, whose error is bounded by the bucket's width.
    pub fn middle(self) -> f64 {
        (self.begins + self.ends) / 2.0
    }

    /// Interpolates within the bucket, as if its values were spread evenly; usually closer.
    pub fn within(self) -> f64 {
        self.begins + (self.ends - self.begins) * self.before
    }
}

impl<const BUCKETS: usize> Histogram<BUCKETS> {
    /// A power of two, and no more than the microseconds at which the second bucket begins.
    const PER_DOUBLING: usize = (BUCKETS - 2) / (LARGEST - SMALLEST) as usize;

    /// Counts a duration in microseconds.
    #[inline]
    pub fn add(&mut self, micros: u64) {
        let count = &mut self.0[Self::bucket(micros)];
        *count = count.saturating_add(1);
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(count);
        }
    }

    /// Returns the position of the value that this share of `all` does not exceed.
    pub fn quantile(&self, all: u64, share: f64) -> Quantile {
        let rank = (all as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let found = self.0.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        });
        let bucket = found.unwrap_or(BUCKETS - 1);
        let count = u64::from(self.0[bucket]).max(1);
        let left = seen.saturating_sub(rank);
        let begins = Self::begins(bucket);
        let ends = if bucket == BUCKETS - 1 { begins } else { Self::begins(bucket + 1) };
        Quantile { begins, ends, before: 1.0 - left as f64 / count as f64 }
    }

    fn begins(bucket: usize) -> f64 {
        match bucket {
            0 => 0.0,
            above => {
                let (octave, part) = ((above - 1) / Self::PER_DOUBLING, (above - 1) % Self::PER_DOUBLING);
                f64::from(1u32 << (SMALLEST + octave as u32)) * (1.0 + part as f64 / Self::PER_DOUBLING as f64)
            }
        }
    }

    #[inline]
    fn bucket(micros: u64) -> usize {
        let octave = micros.checked_ilog2().unwrap_or(0);
        match octave {
            _ if octave < SMALLEST => 0,
            _ if octave >= LARGEST => BUCKETS - 1,
            _ => {
                let part = micros as usize >> (octave - Self::PER_DOUBLING.ilog2()) & (Self::PER_DOUBLING - 1);
                1 + (octave - SMALLEST) as usize * Self::PER_DOUBLING + part
            }
        }
    }
}

impl<const BUCKETS: usize> Default for Histogram<BUCKETS> {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

/// Returns a duration in microseconds.
#[inline]
pub fn micros(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000).saturating_add(time.subsec_micros().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fine = Histogram<FINE>;

    #[test]
    fn every_latency_has_its_bucket() {
        let ends = [0, 255, 256, 319, 320, (1 << 30) - 1, 1 << 30, u64::MAX];
        let last = buckets(4) - 1;
        assert_eq!(ends.map(Coarse::bucket), [0, 0, 1, 1, 2, last - 1, last, last]);
        let last = buckets(16) - 1;
        assert_eq!(ends.map(Fine::bucket), [0, 0, 1, 4, 5, last - 1, last, last]);
    }

    #[test]
    fn within_its_bucket_a_quantile_is_where_its_rank_is() {
        let mut histogram = Coarse::default();
        (1024..1280).for_each(|micros| histogram.add(micros));
        let quantile = |share| histogram.quantile(256, share).within();
        assert_eq!([0.25, 0.5, 1.0].map(quantile), [1088.0, 1152.0, 1280.0]);
        assert_eq!(histogram.quantile(256, 0.25).middle(), 1152.0);
        assert_eq!(Fine::default().quantile(0, 0.5).within(), f64::from(1 << LARGEST));
    }
}
