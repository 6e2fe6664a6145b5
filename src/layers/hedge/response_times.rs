//! The times of recent answers, and the delay of a second call that follows from them.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::settings::{Delay, Settings};
use crate::{
    internal::histogram::{FINE, micros},
    layers::recent_values::RecentValues,
};

/// The times of the last calls, and the delay that follows from them.
#[derive(Debug, Default)]
pub(super) struct ResponseTimes {
    times: Mutex<RecentValues<FINE>>,
    /// In microseconds; 0 while too few answers were observed.
    delay: AtomicU64,
}

impl ResponseTimes {
    /// Returns the delay of a second call.
    #[inline]
    pub(super) fn delay(&self, settings: &Settings) -> Option<Duration> {
        match settings.after {
            Delay::Fixed(delay) => Some(delay),
            Delay::Quantile(_) => match self.delay.load(Relaxed) {
                0 => None,
                micros => Some(Duration::from_micros(micros).min(settings.ceiling).max(settings.floor)),
            },
        }
    }

    /// Records an answer to a call that began then.
    pub(super) fn answered(&self, begun: Instant, settings: &Settings) {
        if let Delay::Quantile(share) = settings.after {
            self.took(begun.elapsed(), share, settings.least);
        }
    }

    /// Records that a call that began then was given up. Its full time is unknown, only that it is longer. If it
    /// were left out, each quantile would be one of the quick calls alone, and would sink. If it counted with the
    /// time it had, all such calls would lie together at the quantile. So it counts as twice that: above the
    /// quantile, as it was.
    pub(super) fn given_up(&self, begun: Instant, settings: &Settings) {
        if let Delay::Quantile(share) = settings.after {
            self.took(begun.elapsed().saturating_mul(2), share, settings.least);
        }
    }

    fn took(&self, took: Duration, share: f64, least: u32) {
        // Of many threads that record at the same moment, one is enough.
        let Ok(mut times) = self.times.try_lock() else { return };
        if let Some(micros) = times.record(micros(took), share, least) {
            self.delay.store(micros.max(1), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::recent_values::{EACH, HALF};

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn settings() -> Settings {
        Settings::new("a".into())
    }

    #[test]
    fn nothing_is_known_before_enough_was_observed() {
        let (observed, settings) = (ResponseTimes::default(), settings());
        (1..20).for_each(|_| observed.took(ms(100), 0.95, 20));
        assert_eq!(observed.delay(&settings), None);
        observed.took(ms(100), 0.95, 20);
        assert!(observed.delay(&settings).is_some_and(|delay| delay > ms(80) && delay < ms(120)));
    }

    #[test]
    fn enough_may_be_more_than_is_kept() {
        let (observed, settings) = (ResponseTimes::default(), settings());
        (1..5000).for_each(|_| observed.took(ms(100), 0.95, 5000));
        assert_eq!(observed.delay(&settings), None);
        observed.took(ms(100), 0.95, 5000);
        assert!(observed.delay(&settings).is_some());
    }

    #[test]
    fn the_delay_is_near_the_quantile_and_follows_the_last_calls() {
        let (observed, settings, mut random) = (ResponseTimes::default(), settings(), fastrand::Rng::with_seed(3));
        (0..5000).for_each(|_| observed.took(ms(random.u64(1000..2000)), 0.95, 20));
        let delay = observed.delay(&settings).unwrap().as_secs_f64();
        assert!((1.9..2.0).contains(&delay), "{delay}");
        (0..2 * HALF + EACH).for_each(|_| observed.took(ms(random.u64(100..200)), 0.95, 20));
        let delay = observed.delay(&settings).unwrap().as_secs_f64();
        assert!((0.18..0.21).contains(&delay), "{delay}");
    }

    #[test]
    fn it_is_kept_within_its_bounds_and_a_fixed_one_needs_no_observation() {
        let observed = ResponseTimes::default();
        let mut settings = settings();
        (0..20).for_each(|_| observed.took(Duration::ZERO, 0.95, 20));
        assert_eq!(observed.delay(&settings), Some(settings.floor));
        (0..600).for_each(|_| observed.took(Duration::MAX, 0.95, 20));
        assert_eq!(observed.delay(&settings), Some(settings.ceiling));
        settings.after = Delay::Fixed(ms(1));
        assert_eq!(ResponseTimes::default().delay(&settings), Some(ms(1)));
    }
}
