use std::time::Duration;

use tokio::time::Instant;

/// Two counts over a sliding window, in a fixed number of buckets: adding and reading cost the same at ten events and
/// at ten million.
///
/// Old counts leave the window a bucket at a time: up to a sixtieth of the window late, never early.
#[derive(Clone, Debug)]
pub(super) struct Window {
    bucket: Duration,
    /// The newest bucket is at `newest`. It began at `begun`, and ends at `until`.
    buckets: [[u64; 2]; BUCKETS],
    newest: usize,
    begun: Option<Instant>,
    until: Option<Instant>,
    sums: [u64; 2],
}

impl Window {
    pub(super) fn new(within: Duration) -> Self {
        let bucket = (within / (BUCKETS as u32 - 1)).max(Duration::from_millis(1));
        Self { bucket, buckets: [[0; 2]; BUCKETS], newest: 0, begun: None, until: None, sums: [0; 2] }
    }

    #[inline]
    pub(super) fn add(&mut self, now: Instant, counts: [u64; 2]) {
        self.move_on(now);
        for ((count, sum), more) in self.buckets[self.newest].iter_mut().zip(&mut self.sums).zip(counts) {
            // The sum stays that of the buckets even where a count saturates.
            let more = more.min(u64::MAX - *sum);
            *count += more;
            *sum += more;
        }
    }

    /// Returns the end of the newest bucket, if there is one.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    pub(super) fn sums(&mut self, now: Instant) -> [u64; 2] {
        self.move_on(now);
        self.sums
    }

    #[inline]
    fn move_on(&mut self, now: Instant) {
        // Nearly always still the newest bucket; a difference of two times costs more than all else here.
        if self.until.is_none_or(|until| now >= until) {
            let begun = self.move_to(now);
            (self.begun, self.until) = (Some(begun), begun.checked_add(self.bucket));
        }
    }

    /// Makes the bucket of this moment the newest, and returns when it began.
    #[cold]
    fn move_to(&mut self, now: Instant) -> Instant {
        let begun = self.begun.unwrap_or(now);
        let passed = now.saturating_duration_since(begun).as_nanos() / self.bucket.as_nanos();
        if passed >= BUCKETS as u128 {
            *self = Self { bucket: self.bucket, ..Self::new(Duration::ZERO) };
            return now;
        }
        let passed = passed as u32;
        for _ in 0..passed {
            self.newest = (self.newest + 1) % BUCKETS;
            let old = std::mem::take(&mut self.buckets[self.newest]);
            self.sums = [self.sums[0] - old[0], self.sums[1] - old[1]];
        }
        begun + self.bucket * passed
    }
}

/// Sixty for the window, and the one that is being filled.
const BUCKETS: usize = 61;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn events_are_remembered_for_the_window_and_hardly_longer() {
        let (mut window, begun) = (Window::new(SECOND * 600), Instant::now());
        window.add(begun, [1, 0]);
        window.add(begun + SECOND * 5, [1, 1]);
        assert_eq!(window.sums(begun + SECOND * 600), [2, 1], "the first is ten minutes old to the second");
        assert_eq!(window.sums(begun + SECOND * 616), [0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn long_silence_and_time_that_goes_back_do_no_harm() {
        let (mut window, begun) = (Window::new(SECOND), Instant::now() + SECOND * 1000);
        window.add(begun, [u64::MAX, 3]);
        window.add(begun - SECOND * 900, [u64::MAX, 1]);
        assert_eq!(window.sums(begun), [u64::MAX, 4]);
        assert_eq!(window.sums(begun + SECOND * 100_000_000), [0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_agrees_with_a_list_of_all_events() {
        let (mut random, begun) = (fastrand::Rng::with_seed(4), Instant::now());
        let (mut window, mut all, mut now) = (Window::new(SECOND * 60), Vec::new(), begun);
        for _ in 0..10_000 {
            now += Duration::from_millis(random.u64(0..2000));
            window.add(now, [1, 0]);
            all.push(now);
            let within = |limit: Duration| all.iter().rev().take_while(|at| now - **at <= limit).count() as u64;
            let count = window.sums(now)[0];
            assert!((within(SECOND * 60)..=within(SECOND * 61)).contains(&count), "{count}");
        }
    }
}
