use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::{Sleep, Timer};
use tokio::time;

use super::lock::lock;

/// The timer of a connection that waits for the heads of requests.
///
/// hyper makes a new one for each head, and most heads come at once. Setting a timer in the runtime and taking it out again costs
/// as much as reading the head: here one stays there for all of them, and is set anew when it fires too early.
#[derive(Clone, Default)]
pub(crate) struct Heads {
    timer: Arc<Mutex<Option<Pin<Box<time::Sleep>>>>>,
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
        let mut timer = lock(&self.heads.timer);
        let timer = timer.get_or_insert_with(|| Box::pin(time::sleep_until(self.deadline)));
        loop {
            std::task::ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= self.deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(self.deadline);
        }
    }
}

impl Sleep for Due {}

#[cfg(test)]
mod tests {
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
}
