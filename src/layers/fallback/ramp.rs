//! The gradual return to a primary that has recovered.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use crate::internal::sync::{Mutex, MutexGuard, lock};

/// A step of a gradual return: this share of the traffic, for this long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RampStep {
    percent: u8,
    lasts: Duration,
}

impl RampStep {
    /// Creates a step of `percent` of the requests (at most 100) for `lasts`.
    pub fn new(percent: u8, lasts: Duration) -> Self {
        Self { percent: percent.min(100), lasts }
    }
}

/// The share of requests that may go to the primary while it returns.
#[derive(Debug)]
pub(super) struct Ramp {
    steps: Vec<RampStep>,
    /// Read by every request; the lock is taken only while a return is under way.
    running: AtomicBool,
    progress: Mutex<Progress>,
}

#[derive(Clone, Copy, Debug)]
struct Progress {
    step: usize,
    since: Instant,
    /// The requests seen in this step.
    seen: u64,
}

impl Ramp {
    pub(super) fn new(steps: Vec<RampStep>) -> Self {
        let progress = Progress { step: 0, since: Instant::now(), seen: 0 };
        Self { steps, running: AtomicBool::new(false), progress: Mutex::new(progress) }
    }

    /// Carries over an earlier ramp's progress, if the steps are the same.
    pub(super) fn succeed(&self, before: &Self) {
        if self.steps == before.steps {
            let progress = *before.lock();
            *self.lock() = progress;
            self.running.store(before.is_running(), Relaxed);
        }
    }

    /// Begins at the first step: the primary has answered again, or has failed while it returned.
    pub(super) fn begin(&self, now: Instant) {
        if self.steps.is_empty() {
            return;
        }
        *self.lock() = Progress { step: 0, since: now, seen: 0 };
        self.running.store(true, Relaxed);
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.load(Relaxed)
    }

    /// Returns whether this request may go to the primary. Of each hundred requests in a row it admits the step's
    /// percentage, evenly spread.
    pub(super) fn admits(&self) -> bool {
        if !self.is_running() {
            return true;
        }
        let now = Instant::now();
        let mut progress = self.lock();
        while let Some(step) = self.steps.get(progress.step) {
            let Some(ends) = progress.since.checked_add(step.lasts) else { break };
            if now < ends {
                break;
            }
            *progress = Progress { step: progress.step + 1, since: ends, seen: 0 };
        }
        let Some(step) = self.steps.get(progress.step) else {
            self.running.store(false, Relaxed);
            return true;
        };
        let (percent, seen) = (u64::from(step.percent), progress.seen);
        progress.seen += 1;
        (seen + 1) * percent / 100 > seen * percent / 100
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        lock(&self.progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_step_admits_its_share_and_then_all() {
        let minute = Duration::from_secs(60);
        let ramp = Ramp::new(vec![RampStep::new(10, minute), RampStep::new(50, minute)]);
        let share = || (0..100).filter(|_| ramp.admits()).count();
        assert_eq!(share(), 100, "no return is under way");
        ramp.begin(Instant::now());
        assert_eq!(share(), 10);
        tokio::time::advance(minute).await;
        assert_eq!(share(), 50);
        ramp.begin(Instant::now());
        assert_eq!(share(), 10, "a failure begins anew");
        tokio::time::advance(minute * 2).await;
        assert_eq!(share(), 100);
        assert!(!ramp.is_running());
    }
}
