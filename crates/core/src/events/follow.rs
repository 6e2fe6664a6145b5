use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use tokio::{
    task::{AbortHandle, yield_now},
    time::{Instant, Sleep, sleep_until},
};

use super::{
    Event, Events,
    inbox::{Batch, Filter, TURN},
};

/// A receiver of events outside of the requests' way: logs, metrics, a status page.
///
/// A tuple or list of subscribers is one subscriber: each receives a batch before the next does. That costs less than a
/// task for each, because a channel clones every event once for each [`follow`](Events::follow). In return they wait
/// for each other, and one that panics ends them all.
pub trait Subscriber: Send + 'static {
    /// Receives one event, in the order of sending.
    fn event(&mut self, event: &Event);

    /// Receives several events, in the order of sending. Override it to take a lock once for all of them. Default:
    /// passes them to `event` one by one.
    fn events(&mut self, events: &[Event]) {
        events.iter().for_each(|event| self.event(event));
    }

    /// Reports the number of events that were lost because this subscriber was too slow. Default: does nothing.
    fn lost(&mut self, events: u64) {
        let _ = events;
    }

    /// Returns true if it writes switches and changes of circuits to a log. The library itself then writes no lines of
    /// these. Default: false.
    fn is_log(&self) -> bool {
        false
    }

    /// Returns the time at which it wants to be woken without an event. Default: `None`, never.
    fn wake_at(&self) -> Option<Instant> {
        None
    }

    /// Runs at the time of [`wake_at`](Self::wake_at), or after the events of that time. Default: does nothing.
    fn wake(&mut self, now: Instant) {
        let _ = now;
    }
}

/// Wakes a subscriber whose time has come.
fn wake_due(subscriber: &mut (impl Subscriber + ?Sized), now: Instant) {
    if subscriber.wake_at().is_some_and(|at| at <= now) {
        subscriber.wake(now);
    }
}

impl<S: Subscriber + ?Sized> Subscriber for Box<S> {
    fn event(&mut self, event: &Event) {
        (**self).event(event);
    }

    fn events(&mut self, events: &[Event]) {
        (**self).events(events);
    }

    fn lost(&mut self, events: u64) {
        (**self).lost(events);
    }

    fn is_log(&self) -> bool {
        (**self).is_log()
    }

    fn wake_at(&self) -> Option<Instant> {
        (**self).wake_at()
    }

    fn wake(&mut self, now: Instant) {
        (**self).wake(now);
    }
}

impl<S: Subscriber> Subscriber for Vec<S> {
    fn event(&mut self, event: &Event) {
        self.iter_mut().for_each(|subscriber| subscriber.event(event));
    }

    fn events(&mut self, events: &[Event]) {
        self.iter_mut().for_each(|subscriber| subscriber.events(events));
    }

    fn lost(&mut self, events: u64) {
        self.iter_mut().for_each(|subscriber| subscriber.lost(events));
    }

    fn is_log(&self) -> bool {
        self.iter().any(Subscriber::is_log)
    }

    fn wake_at(&self) -> Option<Instant> {
        self.iter().filter_map(Subscriber::wake_at).min()
    }

    fn wake(&mut self, now: Instant) {
        self.iter_mut().for_each(|subscriber| wake_due(subscriber, now));
    }
}

impl<A: Subscriber, B: Subscriber> Subscriber for (A, B) {
    fn event(&mut self, event: &Event) {
        self.0.event(event);
        self.1.event(event);
    }

    fn events(&mut self, events: &[Event]) {
        self.0.events(events);
        self.1.events(events);
    }

    fn lost(&mut self, events: u64) {
        self.0.lost(events);
        self.1.lost(events);
    }

    fn is_log(&self) -> bool {
        self.0.is_log() || self.1.is_log()
    }

    fn wake_at(&self) -> Option<Instant> {
        [self.0.wake_at(), self.1.wake_at()].into_iter().flatten().min()
    }

    fn wake(&mut self, now: Instant) {
        wake_due(&mut self.0, now);
        wake_due(&mut self.1, now);
    }
}

impl<A: Subscriber, B: Subscriber, C: Subscriber> Subscriber for (A, B, C) {
    fn event(&mut self, event: &Event) {
        self.0.event(event);
        self.1.event(event);
        self.2.event(event);
    }

    fn events(&mut self, events: &[Event]) {
        self.0.events(events);
        self.1.events(events);
        self.2.events(events);
    }

    fn lost(&mut self, events: u64) {
        self.0.lost(events);
        self.1.lost(events);
        self.2.lost(events);
    }

    fn is_log(&self) -> bool {
        self.0.is_log() || self.1.is_log() || self.2.is_log()
    }

    fn wake_at(&self) -> Option<Instant> {
        [self.0.wake_at(), self.1.wake_at(), self.2.wake_at()].into_iter().flatten().min()
    }

    fn wake(&mut self, now: Instant) {
        wake_due(&mut self.0, now);
        wake_due(&mut self.1, now);
        wake_due(&mut self.2, now);
    }
}

/// Yields to other tasks after a full batch.
async fn yield_after(turn: &[Event]) {
    if turn.len() == TURN {
        yield_now().await;
    }
}

/// A subscriber that runs in its own task. Dropping it stops the task.
#[must_use = "the subscriber stops when this is dropped"]
pub struct Subscription(AbortHandle);

impl Events {
    /// Passes all events from now on to a subscriber, in its own task.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn follow(&self, subscriber: impl Subscriber) -> Subscription {
        self.follow_wanted(None, subscriber)
    }

    /// Passes the events for which `wanted` is true to a subscriber. For a subscriber of rare events: the others do not
    /// enter its queue, which would cost the sender more than all else it does here, and would wake the task.
    ///
    /// The sender calls `wanted`, so let it look only at the event's kind.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn follow_only(&self, filter: fn(&Event) -> bool, subscriber: impl Subscriber) -> Subscription {
        self.follow_wanted(Some(filter), subscriber)
    }

    /// Waits until every subscriber that follows has heard all events. Await it before a process ends: a subscriber
    /// that is dropped, or whose runtime ends, does not hear the rest of its queue.
    ///
    /// It ends once there are no more events, so give it a limit of time where requests go on.
    ///
    /// ```
    /// use steadfast::{Event, Events, events::Subscriber};
    ///
    /// struct Printer;
    ///
    /// impl Subscriber for Printer {
    ///     fn event(&mut self, event: &Event) {
    ///         println!("{event:?}");
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let events = Events::new();
    /// let printing = events.follow(Printer);
    /// // .. requests, and their ends
    /// events.heard().await;
    /// drop(printing);
    /// # }
    /// ```
    pub async fn heard(&self) {
        while !self.channel.inboxes.are_read() {
            yield_now().await;
        }
    }

    fn follow_wanted(&self, filter: Filter, mut subscriber: impl Subscriber) -> Subscription {
        let inbox = self.inbox(filter);
        let is_log = subscriber.is_log().then(|| self.count_log());
        let task = tokio::spawn(async move {
            let _is_log = is_log;
            let mut batch = Batch::new();
            // One timer for all waits: many events may come before the same time.
            let mut timer: Option<Pin<Box<Sleep>>> = None;
            loop {
                // The task sleeps until the next event, or until the subscriber's time.
                let wake_at = subscriber.wake_at();
                if let Some(at) = wake_at
                    && timer.as_ref().is_none_or(|timer| timer.deadline() != at)
                {
                    timer = Some(Box::pin(sleep_until(at)));
                }
                let is_open = poll_fn(|cx| match (inbox.poll_take(&mut batch, cx), &mut timer) {
                    (Poll::Pending, Some(timer)) if wake_at.is_some() => timer.as_mut().poll(cx).map(|()| true),
                    (taken, _) => taken,
                });
                if !is_open.await {
                    return;
                }
                if batch.lost > 0 {
                    subscriber.lost(batch.lost);
                }
                for turn in batch.turns() {
                    subscriber.events(turn);
                    yield_after(turn).await;
                }
                batch.clear();
                // The clock decides, not a pause between events: there may be none.
                if let Some(at) = subscriber.wake_at() {
                    let now = Instant::now();
                    if at <= now {
                        subscriber.wake(now);
                    }
                }
            }
        });
        Subscription(task.abort_handle())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use tokio::time::sleep;

    use super::*;

    #[derive(Clone, Default)]
    struct Recorder(Arc<Mutex<(Vec<Event>, u64)>>);

    impl Subscriber for Recorder {
        fn event(&mut self, event: &Event) {
            self.0.lock().unwrap().0.push(event.clone());
        }

        fn lost(&mut self, events: u64) {
            self.0.lock().unwrap().1 += events;
        }
    }

    fn event() -> Event {
        Event::BudgetReset { cap: "all".into(), key: None, at: Instant::now() }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_what_is_rare_hears_that_and_loses_nothing_by_the_rest() {
        let (events, all, rare) = (Events::new(), Recorder::default(), Recorder::default());
        let is_reload = |event: &Event| matches!(event, Event::Reloaded { .. });
        let reloaded = || Event::Reloaded { kept: 1, changed: 0, settings: Arc::default(), at: Instant::now() };
        // These two receive clones, and the one between them the event itself.
        let first = events.follow_only(is_reload, rare.clone());
        let _all = events.follow(all.clone());
        let _last = events.follow_only(is_reload, rare.clone());
        let most = super::super::CAPACITY;
        for (sent, heard) in [(1, 3), (most, 3 + most)] {
            (0..sent).for_each(|_| events.send(event()));
            events.send(reloaded());
            (0..sent).for_each(|_| events.send(event()));
            while all.0.lock().unwrap().0.len() < heard {
                yield_now().await;
            }
        }
        assert_eq!(all.0.lock().unwrap().1, most as u64 + 1);
        assert_eq!(*rare.0.lock().unwrap(), (vec![reloaded(); 4], 0));
        drop((first, _all));
        events.send(event());
        events.send(reloaded());
        while rare.0.lock().unwrap().0.len() < 5 {
            yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_can_wait_until_all_is_heard() {
        let (events, all, rare) = (Events::new(), Recorder::default(), Recorder::default());
        events.heard().await;
        let is_reload = |event: &Event| matches!(event, Event::Reloaded { .. });
        let subscriptions = [events.follow(all.clone()), events.follow_only(is_reload, rare.clone())];
        for round in 1..4 {
            (0..super::super::CAPACITY).for_each(|_| events.send(event()));
            events.heard().await;
            assert_eq!(all.0.lock().unwrap().0.len(), round * super::super::CAPACITY);
        }
        drop(subscriptions);
        events.heard().await;
        assert_eq!((all.0.lock().unwrap().1, rare.0.lock().unwrap().0.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_before_the_channel_was_dropped_is_heard() {
        let (events, heard) = (Events::new(), Recorder::default());
        let _subscription = events.follow(heard.clone());
        yield_now().await;
        for _ in 0..super::super::CAPACITY + 2 {
            events.send(event());
        }
        drop(events);
        while heard.0.lock().unwrap().0.len() < super::super::CAPACITY {
            yield_now().await;
        }
        yield_now().await;
        assert_eq!(heard.0.lock().unwrap().1, 2);
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0, "it has nothing more to hear");
    }

    #[tokio::test(start_paused = true)]
    async fn who_wakes_by_the_clock_hears_of_each_loss_once() {
        struct Ticks(Recorder, Instant, u32);

        impl Subscriber for Ticks {
            fn event(&mut self, event: &Event) {
                self.0.event(event);
            }

            fn lost(&mut self, events: u64) {
                self.0.lost(events);
            }

            fn wake_at(&self) -> Option<Instant> {
                (self.2 > 0).then_some(self.1)
            }

            fn wake(&mut self, now: Instant) {
                assert_eq!(now, self.1);
                (self.1, self.2) = (now + Duration::from_secs(1), self.2 - 1);
            }
        }

        let (events, heard) = (Events::new(), Recorder::default());
        let _subscription = events.follow(Ticks(heard.clone(), Instant::now() + Duration::from_secs(1), 3));
        let most = super::super::CAPACITY;
        (0..most + 3).for_each(|_| events.send(event()));
        sleep(Duration::from_millis(2500)).await;
        events.send(event());
        sleep(Duration::from_secs(10)).await;
        let heard = heard.0.lock().unwrap();
        assert_eq!((heard.0.len(), heard.1), (most + 1, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn several_hear_the_same_whether_together_or_apart() {
        let events = Events::new();
        let all: [Recorder; 6] = std::array::from_fn(|_| Recorder::default());
        let [a, b, c, d, e, f] = all.clone();
        let subscription = [events.follow(a), events.follow((b, c)), events.follow(vec![d, e])];
        let mut raw = events.subscribe();
        // One sleeps, one is awake, and one has left.
        for sent in 1..=3 {
            yield_now().await;
            events.send(event());
            yield_now().await;
            yield_now().await;
            assert!(raw.try_recv().is_ok());
            assert_eq!(all.each_ref().map(|heard| heard.0.lock().unwrap().0.len())[..5], [sent; 5]);
        }
        drop(subscription);
        yield_now().await;
        let _last = events.follow(f);
        events.send(event());
        yield_now().await;
        assert_eq!(all.each_ref().map(|heard| heard.0.lock().unwrap().0.len()), [3, 3, 3, 3, 3, 1]);
        assert_eq!(format!("{events:?}"), "Events { subscribers: 2, .. }");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_panics_is_heard_of_no_more_and_harms_nobody_else() {
        struct Panics;
        impl Subscriber for Panics {
            fn event(&mut self, _: &Event) {
                panic!("a subscriber's own bug");
            }
        }
        let (events, heard) = (Events::new(), Recorder::default());
        let _subscription = [events.follow(Panics), events.follow(heard.clone())];
        for _ in 0..3 {
            events.send(event());
            yield_now().await;
            yield_now().await;
        }
        assert_eq!(heard.0.lock().unwrap().0.len(), 3);
        assert_eq!(format!("{events:?}"), "Events { subscribers: 1, .. }");
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscriber_hears_all_and_is_told_what_it_lost() {
        let (events, heard) = (Events::new(), Recorder::default());
        let subscription = events.follow(heard.clone());
        for _ in 0..super::super::CAPACITY + 3 {
            events.send(event());
        }
        yield_now().await;
        while heard.0.lock().unwrap().0.len() < super::super::CAPACITY {
            yield_now().await;
        }
        assert_eq!(heard.0.lock().unwrap().1, 3);
        drop(subscription);
        yield_now().await;
        events.send(event());
        yield_now().await;
        assert_eq!(heard.0.lock().unwrap().0.len(), super::super::CAPACITY);
    }
}
