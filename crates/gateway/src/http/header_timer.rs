use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::{Sleep, Timer};
use tokio::time;

use crate::lock::lock;

/// The timer for the request heads of a connection.
///
/// hyper makes a new timer for each head, and most heads come at once. Setting a timer in the runtime and removing it
/// costs as much as reading the head. This one stays for all heads of the connection, and is reset when it fires too
/// early.
#[derive(Clone, Default)]
pub(crate) struct HeaderTimer(Arc<Mutex<TimerState>>);

#[derive(Default)]
struct TimerState {
    timer: Option<Pin<Box<time::Sleep>>>,
    /// The latest moment for any head.
    limit: Option<time::Instant>,
}

impl HeaderTimer {
    /// Ends the wait for any head at this moment at the latest.
    pub(crate) fn end_by(&self, limit: time::Instant) {
        let mut state = lock(&self.0);
        state.limit = Some(limit);
        if let Some(timer) = state.timer.as_mut().filter(|timer| timer.deadline() > limit) {
            timer.as_mut().reset(limit);
        }
    }
}

#[allow(clippy::disallowed_types, reason = "hyper's trait has it; the times are those of tokio's clock")]
impl Timer for HeaderTimer {
    fn sleep(&self, time: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + time)
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(HeaderDeadline { deadline: deadline.into(), timer_handle: self.clone() })
    }

    fn now(&self) -> std::time::Instant {
        time::Instant::now().into()
    }
}

/// The deadline of one head. Each is later than the one before.
struct HeaderDeadline {
    deadline: time::Instant,
    timer_handle: HeaderTimer,
}

impl Future for HeaderDeadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let state = &mut *lock(&self.timer_handle.0);
        let deadline = state.limit.map_or(self.deadline, |limit| limit.min(self.deadline));
        let timer = state.timer.get_or_insert_with(|| Box::pin(time::sleep_until(deadline)));
        loop {
            std::task::ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

impl Sleep for HeaderDeadline {}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_head_has_the_whole_time_however_many_came_before() {
        let (timer_handle, begun) = (HeaderTimer::default(), time::Instant::now());
        for _ in 0..3 {
            let early = time::timeout(Duration::from_secs(20), timer_handle.sleep(Duration::from_secs(30))).await;
            assert!(early.is_err());
        }
        timer_handle.sleep(Duration::from_secs(30)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(90));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_is_waited_for_already_ends_by_the_last_moment_too() {
        let (timer_handle, begun) = (HeaderTimer::default(), time::Instant::now());
        let mut head = pin!(timer_handle.sleep(Duration::from_secs(30)));
        assert!(time::timeout(Duration::from_secs(1), &mut head).await.is_err());
        timer_handle.end_by(begun + Duration::from_secs(2));
        head.await;
        timer_handle.sleep(Duration::from_secs(30)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(2));
    }
}
