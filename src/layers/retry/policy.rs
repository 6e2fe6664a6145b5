//! The decision whether to retry, and after which wait, from a failure, its record and a clock reading.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Backoff, Jitter, Reservation, RetryBudget};
use crate::{
    Classifier, Context, ErrorKind, LlmError,
    classify::Retry,
    internal::sync::{Mutex, lock},
    ledger::{Ledger, Stop},
};

pub(super) const MAX_ATTEMPTS: u16 = 3;
pub(super) const MAX_DELAY: Duration = Duration::from_secs(30);
pub(super) const FAILOVER_DELAY: Duration = Duration::from_secs(2);

/// The settings of a layer.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) max_attempts: u16,
    pub(super) max_delay: Duration,
    /// The longest wait if another model is left to ask.
    pub(super) failover_delay: Duration,
    /// True if a failure that names no time goes on to that model.
    pub(super) failover_first: bool,
    pub(super) jitter: Jitter,
    pub(super) schedules: Vec<(ErrorKind, Backoff)>,
    pub(super) retry_timeouts: bool,
    pub(super) budget: RetryBudget,
    pub(super) classifier: Classifier,
    /// True if the classifier retries a model's refusal.
    pub(super) acts_on_refusals: bool,
    /// One source for all requests: with a source for each, seeded alike, all would draw the same waits.
    rng: Arc<Mutex<fastrand::Rng>>,
}

/// A retry that is to be made.
pub(super) struct ScheduledRetry {
    pub(super) after: Duration,
    pub(super) token: Reservation,
}

/// The number of retries of a request in this layer, and the wait before the last one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    pub(super) retries: u32,
    pub(super) waited: Option<Duration>,
}

impl Policy {
    /// Decides whether to retry after a failure that was sent out and is in the ledger already.
    pub(super) fn decide(
        &self,
        error: &LlmError,
        ledger: &Ledger,
        context: &Context,
        progress: Progress,
        now: Instant,
    ) -> Result<ScheduledRetry, Stop> {
        let kind = error.kind();
        let once = match self.classifier.classify(error).retry {
            Retry::No => return Err(Stop::Kind),
            Retry::Yes => false,
            Retry::Once => true,
            Retry::OnceIfLast if context.tiers_left > 0 && !self.retry_timeouts => return Err(Stop::OtherTier),
            Retry::OnceIfLast => true,
        };
        // `x-should-retry: true` is no order: it does not make an invalid request valid.
        if error.should_retry() == Some(false) {
            return Err(Stop::Forbidden);
        }
        // Without the refused parameter it is another request, which a layer limited to two attempts makes too.
        let own = match error.refused() {
            [_, ..] if self.max_attempts > 1 => self.max_attempts.max(MAX_ATTEMPTS),
            _ => self.max_attempts,
        };
        let most = own.min(context.attempts_left);
        if ledger.spent() >= most || (once && ledger.failures(kind) > 1) {
            return Err(Stop::Attempts);
        }
        let can_go_on = context.prospects.can_go_on();
        let asked = error.retry_at().map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let longest = if can_go_on { self.max_delay.min(self.failover_delay) } else { self.max_delay };
        if asked > longest {
            return Err(Stop::LongWait);
        }
        // No wait would make the model accept the parameter.
        if !error.refused().is_empty() {
            let token = self.budget.reserve(now).ok_or(Stop::Budget)?;
            return Ok(ScheduledRetry { after: Duration::ZERO, token });
        }
        // Another model answers sooner than a repeat here, and it has not just failed.
        if can_go_on && self.failover_first && error.retry_at().is_none() && !self.budget.covers_each_try() {
            return Err(Stop::OtherTier);
        }
        // If another model is left, the random part above the requested time must not lengthen the wait beyond the
        // limit.
        let spread = if can_go_on { longest - asked } else { longest };
        let backoff = self.backoff(kind).capped(spread);
        let after = backoff.delay_from(asked, progress.retries, progress.waited, &mut self.draw());
        if context.time_left(now).is_some_and(|left| left <= after) {
            return Err(Stop::Deadline);
        }
        // Last, so that only a retry that will be made takes a token.
        let token = if can_go_on { self.budget.reserve_in_passing(now) } else { self.budget.reserve(now) };
        let token = token.ok_or(Stop::Budget)?;
        Ok(ScheduledRetry { after, token })
    }

    fn backoff(&self, kind: ErrorKind) -> Backoff {
        if let Some((_, own)) = self.schedules.iter().find(|(of, _)| *of == kind) {
            return *own;
        }
        let (base, factor) = match kind {
            // Fixed: it is tried once, and it has waited for as long as the timeout already.
            ErrorKind::Timeout => return Backoff::fixed(Duration::from_secs(1)),
            ErrorKind::RateLimited => (1000, 2.0),
            ErrorKind::Overloaded => (1000, 1.5),
            // Another address may answer at once.
            ErrorKind::Connect => (100, 2.0),
            _ => (500, 2.0),
        };
        Backoff::new(Duration::from_millis(base)).factor(factor).jitter(self.jitter).max_delay(self.max_delay)
    }

    pub(super) fn reseed(&mut self, rng: fastrand::Rng) {
        self.rng = Arc::new(Mutex::new(rng));
    }

    /// Returns a source for one draw.
    fn draw(&self) -> fastrand::Rng {
        lock(&self.rng).fork()
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_attempts: MAX_ATTEMPTS,
            max_delay: MAX_DELAY,
            failover_delay: FAILOVER_DELAY,
            failover_first: false,
            jitter: Jitter::Full,
            schedules: Vec::new(),
            retry_timeouts: false,
            budget: RetryBudget::new(),
            classifier: Classifier::default(),
            acts_on_refusals: false,
            rng: Arc::new(Mutex::new(fastrand::Rng::new())),
        }
    }
}
