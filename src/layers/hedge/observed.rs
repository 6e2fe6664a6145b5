//! How long answers have taken of late, and from it when a second call goes out.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::settings::{After, Settings};
use crate::{
    internal::histogram::{FINE, micros},
    layers::latest::Latest,
};

/// The times of the last calls, and the delay that follows from them.
#[derive(Debug, Default)]
pub(super) struct Observed {
    times: Mutex<Latest<FINE>>,
    /// In microseconds; 0 while too little was observed.
    delay: AtomicU64,
}

impl Observed {
    /// When a second call goes out after the first.
    #[inline]
    pub(super) fn delay(&self, settings: &Settings) -> Option<Duration> {
        match settings.after {
            After::Fixed(delay) => Some(delay),
            After::Quantile(_) => match self.delay.load(Relaxed) {
                0 => None,
                micros => Some(Duration::from_micros(micros).min(settings.ceiling).max(settings.floor)),
            },
        }
    }

    /// A call that began then has just answered.
    pub(super) fn answered(&self, begun: Instant, settings: &Settings) {
        if let After::Quantile(share) = settings.after {
            self.took(begun.elapsed(), share, settings.least);
        }
    }

    /// A call that began then was given up: it would have taken longer, and nobody knows how much. Left out, each quantile
    /// would be one of the quick alone, and go down and down; with the time it had, all that are given up would lie together
    /// where the quantile is looked for. So it counts as twice that: above the quantile, as it was.
    pub(super) fn given_up(&self, begun: Instant, settings: &Settings) {
        if let After::Quantile(share) = settings.after {
            self.took(begun.elapsed().saturating_mul(2), share, settings.least);
        }
    }

    fn took(&self, took: Duration, share: f64, least: u32) {
        // Of what many threads have to tell at the same moment one will do.
        let Ok(mut times) = self.times.try_lock() else { return };
        if let Some(micros) = times.record(micros(took), share, least) {
            self.delay.store(micros.max(1), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::latest::{EACH, HALF};

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn settings() -> Settings {
        Settings::new("a".into())
    }

    #[test]
    fn nothing_is_known_before_enough_was_observed() {
        let (observed, settings) = (Observed::default(), settings());
        (1..20).for_each(|_| observed.took(ms(100), 0.95, 20));
        assert_eq!(observed.delay(&settings), None);
        observed.took(ms(100), 0.95, 20);
        assert!(observed.delay(&settings).is_some_and(|delay| delay > ms(80) && delay < ms(120)));
    }

    #[test]
    fn enough_may_be_more_than_is_kept() {
        let (observed, settings) = (Observed::default(), settings());
        (1..5000).for_each(|_| observed.took(ms(100), 0.95, 5000));
        assert_eq!(observed.delay(&settings), None);
        observed.took(ms(100), 0.95, 5000);
        assert!(observed.delay(&settings).is_some());
    }

    #[test]
    fn the_delay_is_near_the_quantile_and_follows_the_last_calls() {
        let (observed, settings, mut random) = (Observed::default(), settings(), fastrand::Rng::with_seed(3));
        (0..5000).for_each(|_| observed.took(ms(random.u64(1000..2000)), 0.95, 20));
        let delay = observed.delay(&settings).unwrap().as_secs_f64();
        assert!((1.9..2.0).contains(&delay), "{delay}");
        (0..2 * HALF + EACH).for_each(|_| observed.took(ms(random.u64(100..200)), 0.95, 20));
        let delay = observed.delay(&settings).unwrap().as_secs_f64();
        assert!((0.18..0.21).contains(&delay), "{delay}");
    }

    #[test]
    fn it_is_kept_within_its_bounds_and_a_fixed_one_needs_no_observation() {
        let observed = Observed::default();
        let mut settings = settings();
        (0..20).for_each(|_| observed.took(Duration::ZERO, 0.95, 20));
        assert_eq!(observed.delay(&settings), Some(settings.floor));
        (0..600).for_each(|_| observed.took(Duration::MAX, 0.95, 20));
        assert_eq!(observed.delay(&settings), Some(settings.ceiling));
        settings.after = After::Fixed(ms(1));
        assert_eq!(Observed::default().delay(&settings), Some(ms(1)));
    }
}
