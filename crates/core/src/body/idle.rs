use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Progress;
use crate::{
    LlmError,
    error::{Phase, TimeoutLimit},
    timer,
};

/// The longest silences that a stream may have.
///
/// The clock runs only while the reader waits for a frame, so that a slow reader is not mistaken for a silent provider.
/// A wait begins when a poll finds no frame, and ends with the next frame: several short waits (a `select!` in a loop)
/// are one. `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IdleLimits {
    /// The longest time without anything at all, keep-alives included.
    pub bytes: Option<Duration>,
    /// The longest time without content (text, a tool call, reasoning) when nothing else comes either.
    pub progress: Option<Duration>,
    /// The longest time without content while keep-alives do come: slow thinkers may think this long.
    pub ceiling: Option<Duration>,
}

impl IdleLimits {
    /// Returns the nearer of both limits, field by field.
    #[doc(hidden)]
    pub fn nearest(self, other: Self) -> Self {
        let nearer = |a: Option<Duration>, b: Option<Duration>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self {
            bytes: nearer(self.bytes, other.bytes),
            progress: nearer(self.progress, other.progress),
            ceiling: nearer(self.ceiling, other.ceiling),
        }
    }

    fn is_unlimited(self) -> bool {
        self == Self::default()
    }
}

/// The moment at which a whole answer that comes as a stream has to be there.
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub struct BodyDeadline {
    /// The moment.
    pub at: Instant,
    /// The limit that ends then.
    pub limit: TimeoutLimit,
    /// The time that the limit gives.
    pub after: Duration,
    /// True if it is the caller's.
    pub by_caller: bool,
}

impl BodyDeadline {
    /// Returns the failure of an answer that is not there by then.
    fn error(self, now: Instant) -> LlmError {
        let mut error = LlmError::timed_out(self.limit, Phase::Body, self.after);
        if self.by_caller {
            error.note_callers_deadline();
        }
        error.noticed_at(self.at, now)
    }
}

/// Watches a stream's silences with one timer. A wait costs a clock read and moves the timer to a later moment, which
/// to tokio is one atomic store; a frame that is there at once costs neither.
#[pin_project]
#[derive(Debug)]
pub(super) struct IdleClock {
    limits: IdleLimits,
    deadline: Option<BodyDeadline>,
    #[pin]
    timer: Option<Sleep>,
    /// The beginning of the present wait; `None` while the reader does not wait.
    waiting: Option<Instant>,
    /// The time waited since the last content, before the present wait. The reader's time elsewhere is not included.
    without_content: Duration,
    /// True if anything but content came since the last content.
    kept_alive: bool,
}

impl IdleClock {
    pub(super) fn new() -> Self {
        Self {
            limits: IdleLimits::default(),
            deadline: None,
            timer: None,
            waiting: None,
            without_content: Duration::ZERO,
            kept_alive: false,
        }
    }

    pub(super) fn limit(self: Pin<&mut Self>, limits: IdleLimits) {
        let this = self.project();
        *this.limits = this.limits.nearest(limits);
    }

    /// Bounds the time until the end; the nearest bound wins.
    pub(super) fn end_at(self: Pin<&mut Self>, deadline: BodyDeadline) {
        let own = self.project().deadline;
        if own.is_none_or(|own| deadline.at < own.at) {
            *own = Some(deadline);
        }
    }

    /// Returns the failure of a stream that goes on beyond its deadline.
    pub(super) fn overdue(&self) -> Option<LlmError> {
        let deadline = self.deadline?;
        let now = Instant::now();
        (now > deadline.at).then(|| deadline.error(now))
    }

    /// Records the arrival of a frame.
    pub(super) fn record_arrival(self: Pin<&mut Self>, progress: Progress) {
        let this = self.project();
        let waited = this.waiting.take();
        if progress >= Progress::Reasoning {
            *this.without_content = Duration::ZERO;
            *this.kept_alive = false;
        } else {
            *this.kept_alive = true;
            if let Some(since) = waited {
                let now = Instant::now();
                // The timer wakes a waiting reader. If a frame is found only after the deadline, the reader had left in
                // the middle of its wait: the provider did not cause that time.
                let left = this.timer.as_ref().as_pin_ref().is_some_and(|timer| timer.deadline() < now);
                if !left {
                    *this.without_content = this.without_content.saturating_add(now.saturating_duration_since(since));
                }
            }
        }
    }

    /// Polls without a frame: ready once a limit has passed.
    pub(super) fn poll_silence(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<LlmError> {
        let mut this = self.project();
        if this.limits.is_unlimited() && this.deadline.is_none() {
            return Poll::Pending;
        }
        let waiting = *this.waiting.get_or_insert_with(Instant::now);
        let progress = if *this.kept_alive { this.limits.ceiling } else { this.limits.progress };
        // If both limits end at once, no byte came: of equals, `min_by_key` takes the first.
        let nearest = [
            this.limits.bytes.map(|limit| (limit, limit, TimeoutLimit::ByteIdle)),
            progress.map(|limit| (limit.saturating_sub(*this.without_content), limit, TimeoutLimit::ProgressIdle)),
        ];
        let nearest = nearest.into_iter().flatten().min_by_key(|(left, ..)| *left);
        let silence = nearest.and_then(|(left, limit, which)| Some((waiting.checked_add(left)?, limit, which)));
        let deadline = this.deadline.filter(|deadline| silence.is_none_or(|(at, ..)| deadline.at <= at));
        let Some(at) = deadline.map(|deadline| deadline.at).or_else(|| silence.map(|(at, ..)| at)) else {
            return Poll::Pending;
        };
        match this.timer.as_mut().as_pin_mut() {
            Some(timer) if timer.deadline() == at => {}
            Some(timer) => timer.reset(at),
            None => this.timer.set(Some(sleep_until(at))),
        }
        match this.timer.as_pin_mut() {
            Some(timer) => timer::poll(timer, cx).map(|()| match (deadline, silence) {
                (None, Some((_, limit, which))) => {
                    LlmError::timed_out(which, Phase::Body, limit).noticed_at(at, Instant::now())
                }
                (deadline, _) => deadline.expect("one of them ends first").error(Instant::now()),
            }),
            None => Poll::Pending,
        }
    }
}
