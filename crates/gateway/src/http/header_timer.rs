use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::{Sleep, Timer};
use tokio::time;

use crate::lock::lock;

/// The timer of a connection that waits for the heads of requests.
///
/// hyper makes a new one for each head, and most heads come at once. Setting a timer in the runtime and taking it out again costs
/// as much as reading the head: here one stays there for all of them, and is set anew when it fires too early.
#[derive(Clone, Default)]
pub(crate) struct Heads(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    timer: Option<Pin<Box<time::Sleep>>>,
    /// No head is waited for beyond it.
    last: Option<time::Instant>,
}

impl Heads {
    /// Waits for no head beyond this moment, whatever it was given before.
    pub(crate) fn end_by(&self, last: time::Instant) {
        let mut waiting = lock(&self.0);
        waiting.last = Some(last);
        if let Some(timer) = waiting.timer.as_mut().filter(|timer| timer.deadline() > last) {
            timer.as_mut().reset(last);
        }
    }
}

#[allow(clippy::disallowed_types, reason = "hyper's trait has it; the times are those of tokio's clock")]
impl Timer for Heads {
    fn sleep(&self, time: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + time)
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Due { deadline: deadline.into(), heads: self.clone() })
    }

    fn now(&self) -> std::time::Instant {
        time::Instant::now().into()
    }
}

/// The end of the time for one head. Each is later than the one before.
struct Due {
    deadline: time::Instant,
    heads: Heads,
}

impl Future for Due {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waiting = &mut *lock(&self.heads.0);
        let deadline = waiting.last.map_or(self.deadline, |last| last.min(self.deadline));
        let timer = waiting.timer.get_or_insert_with(|| Box::pin(time::sleep_until(deadline)));
        loop {
            std::task::ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

impl Sleep for Due {}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_head_has_the_whole_time_however_many_came_before() {
        let (heads, begun) = (Heads::default(), time::Instant::now());
        for _ in 0..3 {
            let early = time::timeout(Duration::from_secs(20), heads.sleep(Duration::from_secs(30))).await;
            assert!(early.is_err());
        }
        heads.sleep(Duration::from_secs(30)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(90));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_is_waited_for_already_ends_by_the_last_moment_too() {
        let (heads, begun) = (Heads::default(), time::Instant::now());
        let mut head = pin!(heads.sleep(Duration::from_secs(30)));
        assert!(time::timeout(Duration::from_secs(1), &mut head).await.is_err());
        heads.end_by(begun + Duration::from_secs(2));
        head.await;
        heads.sleep(Duration::from_secs(30)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(2));
    }
}
