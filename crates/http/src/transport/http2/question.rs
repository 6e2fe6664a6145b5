//! The times at which a silent connection is asked if it lives.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt;
use tokio::time::{self, Instant};

use super::watch::Watch;

/// The clock of hyper's pings.
///
/// A connection with calls on it is asked after a second of silence, because it may have died while nobody used it. A
/// model that thinks is silent for a minute, and servers count pings: in the same silence, the next one is five seconds
/// later, unless a new call has come.
#[derive(Debug)]
pub(super) struct Questions(pub(super) Arc<Watch>);

impl rt::Timer for Questions {
    fn sleep(&self, time: Duration) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(Wait { until: Box::pin(time::sleep(time)), of: None })
    }

    #[expect(clippy::disallowed_types, reason = "hyper's; the clock is tokio's")]
    fn sleep_until(&self, end: std::time::Instant) -> Pin<Box<dyn rt::Sleep>> {
        let (now, end) = (Instant::now(), Instant::from_std(end));
        // hyper has two waits, and tells them apart by their length alone.
        let is_for_an_answer = end.saturating_duration_since(now) > ASKED_EVERY;
        if is_for_an_answer {
            self.0.asked(now);
        }
        let of = (!is_for_an_answer).then(|| (end, self.0.clone()));
        Box::pin(Wait { until: Box::pin(time::sleep_until(end)), of })
    }

    #[expect(clippy::disallowed_types, reason = "hyper's; the clock is tokio's")]
    fn now(&self) -> std::time::Instant {
        Instant::now().into_std()
    }
}

/// A wait for the next question, or for the answer to the last.
struct Wait {
    until: Pin<Box<time::Sleep>>,
    /// `None`: for an answer. Else the end of a second's silence.
    of: Option<(Instant, Arc<Watch>)>,
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { until, of } = &mut *self;
        if let Some((end, watch)) = of {
            let due = watch.may_ask().map_or(*end, |next| next.max(*end));
            if until.deadline() != due {
                until.as_mut().reset(due);
            }
        }
        until.as_mut().poll(cx)
    }
}

impl rt::Sleep for Wait {}

/// The silence of a connection with calls on it after which it is asked if it lives.
pub(super) const ASKED_AFTER: Duration = Duration::from_secs(1);
/// The time between two questions without a new call.
pub(super) const ASKED_EVERY: Duration = Duration::from_secs(5);
/// The wait for an answer. With the silence before it is the 20 s that such a network gets.
pub(super) const ANSWERED_IN: Duration = Duration::from_secs(19);
