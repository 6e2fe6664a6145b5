use std::fmt;

use tokio::{
    sync::broadcast::error::{RecvError, TryRecvError},
    task::{AbortHandle, yield_now},
};

use super::{Event, Events};

/// Somebody who hears events, beside the requests and never in their way: logs, metrics, a status page.
///
/// Several in a tuple or in a list are one, which costs less than each in a task of its own: a channel's every event is
/// taken out of it once for each [`follow`](Events::follow). In return they wait for each other, and one that panics
/// ends them all.
pub trait Subscriber: Send + 'static {
    /// An event, in the order in which they were sent.
    fn event(&mut self, event: &Event);

    /// So many events were lost, because this subscriber was too slow. Default: nothing is done about it.
    fn lost(&mut self, events: u64) {
        let _ = events;
    }
}

impl<S: Subscriber + ?Sized> Subscriber for Box<S> {
    fn event(&mut self, event: &Event) {
        (**self).event(event);
    }

    fn lost(&mut self, events: u64) {
        (**self).lost(events);
    }
}

impl<S: Subscriber> Subscriber for Vec<S> {
    fn event(&mut self, event: &Event) {
        self.iter_mut().for_each(|subscriber| subscriber.event(event));
    }

    fn lost(&mut self, events: u64) {
        self.iter_mut().for_each(|subscriber| subscriber.lost(events));
    }
}

impl<A: Subscriber, B: Subscriber> Subscriber for (A, B) {
    fn event(&mut self, event: &Event) {
        self.0.event(event);
        self.1.event(event);
    }

    fn lost(&mut self, events: u64) {
        self.0.lost(events);
        self.1.lost(events);
    }
}

impl<A: Subscriber, B: Subscriber, C: Subscriber> Subscriber for (A, B, C) {
    fn event(&mut self, event: &Event) {
        self.0.event(event);
        self.1.event(event);
        self.2.event(event);
    }

    fn lost(&mut self, events: u64) {
        self.0.lost(events);
        self.1.lost(events);
        self.2.lost(events);
    }
}

/// How many events are heard in a row, before other tasks have their turn.
const TURN: usize = 128;

/// A subscriber at work in a task of its own; dropped, it stops.
#[must_use = "the subscriber stops when this is dropped"]
pub struct Following(pub(super) AbortHandle);

impl Events {
    /// Tells a subscriber of all events from now on, in a task of its own.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn follow(&self, mut subscriber: impl Subscriber) -> Following {
        let mut heard = self.subscribe();
        let task = tokio::spawn(async move {
            loop {
                match heard.recv().await {
                    Ok(event) => subscriber.event(&event),
                    Err(RecvError::Lagged(events)) => subscriber.lost(events),
                    Err(RecvError::Closed) => return,
                }
                // What is there already costs less without a wait for each.
                let mut left = TURN;
                while left > 0 {
                    match heard.try_recv() {
                        Ok(event) => subscriber.event(&event),
                        Err(TryRecvError::Lagged(events)) => subscriber.lost(events),
                        Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                    }
                    left -= 1;
                }
                if left == 0 {
                    yield_now().await;
                }
            }
        });
        Following(task.abort_handle())
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Following").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::time::Instant;

    use super::*;

    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<(Vec<Event>, u64)>>);

    impl Subscriber for Heard {
        fn event(&mut self, event: &Event) {
            self.0.lock().unwrap().0.push(event.clone());
        }

        fn lost(&mut self, events: u64) {
            self.0.lock().unwrap().1 += events;
        }
    }

    fn event() -> Event {
        Event::BudgetReset { cap: "all".into(), at: Instant::now() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscriber_hears_all_and_is_told_what_it_lost() {
        let (events, heard) = (Events::new(), Heard::default());
        let following = events.follow(heard.clone());
        for _ in 0..super::super::CAPACITY + 3 {
            events.send(event());
        }
        yield_now().await;
        while heard.0.lock().unwrap().0.len() < super::super::CAPACITY {
            yield_now().await;
        }
        assert_eq!(heard.0.lock().unwrap().1, 3);
        drop(following);
        yield_now().await;
        events.send(event());
        yield_now().await;
        assert_eq!(heard.0.lock().unwrap().0.len(), super::super::CAPACITY);
    }
}
