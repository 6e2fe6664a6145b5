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
pub(crate) struct Ramp {
    /// Read by every request; the lock is taken only while a return is under way.
    running: AtomicBool,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    steps: Vec<RampStep>,
    /// The index of the step under way.
    step: usize,
    since: Instant,
    /// The requests seen in this step.
    seen: u64,
}

impl Ramp {
    /// Creates a ramp without steps: all requests may go to a primary that has recovered.
    pub(crate) fn new() -> Self {
        let progress = Progress { steps: Vec::new(), step: 0, since: Instant::now(), seen: 0 };
        Self { running: AtomicBool::new(false), progress: Mutex::new(progress) }
    }

    /// Sets the steps. A return under way goes on if they are the same, and otherwise ends.
    pub(crate) fn set_steps(&self, steps: &[RampStep]) {
        let mut progress = self.lock();
        if progress.steps != steps {
            progress.steps = steps.to_vec();
            self.running.store(false, Relaxed);
        }
    }

    /// Begins at the first step: the primary has answered again, or has failed while it returned.
    pub(crate) fn begin(&self, now: Instant) {
        let mut progress = self.lock();
        if progress.steps.is_empty() {
            return;
        }
        progress.restart(0, now);
        self.running.store(true, Relaxed);
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Relaxed)
    }

    /// Returns whether this request may go to the primary. Of each hundred requests in a row it admits the step's
    /// percentage, evenly spread.
    pub(crate) fn admits(&self) -> bool {
        if !self.is_running() {
            return true;
        }
        let now = Instant::now();
        let mut progress = self.lock();
        while let Some(step) = progress.steps.get(progress.step) {
            let Some(ends) = progress.since.checked_add(step.lasts) else { break };
            if now < ends {
                break;
            }
            let next = progress.step + 1;
            progress.restart(next, ends);
        }
        let Some(step) = progress.steps.get(progress.step) else {
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

impl Progress {
    fn restart(&mut self, step: usize, since: Instant) {
        (self.step, self.since, self.seen) = (step, since, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_step_admits_its_share_and_then_all() {
        let minute = Duration::from_secs(60);
        let ramp = Ramp::new();
        ramp.set_steps(&[RampStep::new(10, minute), RampStep::new(50, minute)]);
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
