//! Delivery of events to subscribers: a bounded queue for each, filled by the sender and emptied all at once. The
//! sender moves an event into the queue and the subscriber reads it in place, so that a subscriber costs one lock.

use std::{
    mem,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};

use crate::internal::sync::{Mutex, MutexGuard, lock};

use super::{CAPACITY, Channel, Event};

/// The queues of all subscribers.
#[derive(Default)]
pub(crate) struct Inboxes {
    queues: Mutex<Vec<Queue>>,
    /// The number of queues, readable without the lock.
    count: AtomicUsize,
}

/// A filter of events for a queue; `None` takes all.
pub(crate) type Filter = Option<fn(&Event) -> bool>;

struct Queue {
    filter: Filter,
    batch: Batch,
    waker: Option<Waker>,
    /// The events that remain when the channel is gone.
    remainder: Arc<Mutex<Batch>>,
}

/// The receiving end of a queue.
pub(crate) struct Inbox {
    channel: Weak<Channel>,
    /// The same allocation as the queue's, which identifies it.
    remainder: Arc<Mutex<Batch>>,
}

/// A place for an event in the last queue. The others get copies.
///
/// An event is large, and each call that passes it on moves it. The caller makes the event while this lock is held, so
/// that it is written in its final place.
#[allow(missing_debug_implementations, reason = "it is a lock that is held")]
#[doc(hidden)]
pub struct Place<'a> {
    queues: MutexGuard<'a, Vec<Queue>>,
    inboxes: &'a Inboxes,
}

/// The events that are in a queue, or were taken out of it.
#[derive(Default)]
pub(crate) struct Batch {
    /// The number of events lost before these.
    pub lost: u64,
    events: Vec<Event>,
    /// The index of the oldest event. It is not 0 only in a full queue that has lost events.
    oldest: usize,
}

impl Batch {
    /// Creates a batch with a full queue's capacity, because its memory goes back to the queue.
    pub(crate) fn new() -> Self {
        Self { lost: 0, events: Vec::with_capacity(CAPACITY), oldest: 0 }
    }

    /// Returns whether another event fits without loss or allocation.
    #[inline(always)]
    fn has_room(&self) -> bool {
        self.events.len() < CAPACITY && self.events.len() < self.events.capacity()
    }

    /// Adds an event, in the place of the oldest one if there is no room.
    #[inline(always)]
    fn put(&mut self, event: Event) {
        // `push` asks this too; asking first lets the compiler drop the growth path and one move of the event.
        if self.has_room() {
            return self.events.push(event);
        }
        self.put_without_room(event);
    }

    #[cold]
    fn put_without_room(&mut self, event: Event) {
        if self.events.len() < CAPACITY {
            return self.events.push(event);
        }
        self.events[self.oldest] = event;
        self.oldest = (self.oldest + 1) % CAPACITY;
        self.lost = self.lost.saturating_add(1);
    }

    /// Returns the events in order, in slices of at most one turn.
    pub(crate) fn turns(&self) -> impl Iterator<Item = &[Event]> {
        let (newer, older) = self.events.split_at(self.oldest);
        older.chunks(TURN).chain(newer.chunks(TURN))
    }

    /// Removes the events and keeps the capacity.
    pub(crate) fn clear(&mut self) {
        self.events.clear();
        (self.oldest, self.lost) = (0, 0);
    }
}

/// The number of events that a subscriber receives before other tasks get a turn.
pub(crate) const TURN: usize = 128;

impl Inboxes {
    /// Puts an event into every queue. Returns false if there is none.
    // Inlining would move the event once more, into this function's frame.
    #[inline(never)]
    pub(crate) fn put(&self, event: Event) -> bool {
        let mut queues = self.lock();
        let Some((last, before)) = queues.split_last_mut() else { return false };
        copy(&event, before);
        if last.accepts(&event) {
            last.batch.put(event);
        }
        self.wake(queues);
        true
    }

    /// Returns a place in the last queue, if that takes all events and has room.
    #[inline(always)]
    pub(crate) fn place(&self) -> Option<Place<'_>> {
        let queues = self.lock();
        let is_open = queues.last().is_some_and(|last| last.filter.is_none() && last.batch.has_room());
        is_open.then_some(Place { queues, inboxes: self })
    }

    /// Copies the newest event of the last queue into the others.
    #[inline(never)]
    fn copy_newest(&self, mut queues: MutexGuard<'_, Vec<Queue>>) {
        if let Some((last, before)) = queues.split_last_mut()
            && let Some(newest) = last.batch.events.last()
        {
            copy(newest, before);
        }
        self.wake(queues);
    }

    /// Wakes the subscribers that have events.
    fn wake(&self, mut queues: MutexGuard<'_, Vec<Queue>>) {
        let count = queues.len();
        let mut waker = sleeper(&mut queues);
        drop(queues);
        // A waker is foreign code: it runs outside of the lock, and so one at a time.
        for left in (0..count).rev() {
            let Some(sleeping) = waker else { break };
            sleeping.wake();
            waker = if left > 0 { sleeper(&mut self.lock()) } else { None };
        }
    }

    /// Returns whether there is no queue.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of queues.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.count.load(SeqCst)
    }

    /// Returns true if each subscriber has read all events and waits for the next.
    pub(crate) fn are_read(&self) -> bool {
        self.lock().iter().all(|queue| queue.batch.events.is_empty() && queue.waker.is_some())
    }

    /// Opens a queue for this channel.
    pub(crate) fn open(&self, channel: Weak<Channel>, filter: Filter) -> Inbox {
        let inbox = Inbox { channel, remainder: Arc::default() };
        let (batch, remainder) = (Batch::new(), inbox.remainder.clone());
        let mut queues = self.lock();
        // Queues without a filter go last, where an event has its place.
        let at = if filter.is_some() { 0 } else { queues.len() };
        queues.insert(at, Queue { filter, batch, waker: None, remainder });
        self.count.store(queues.len(), SeqCst);
        drop(queues);
        inbox
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Queue>> {
        // No code under this lock panics halfway through a change.
        lock(&self.queues)
    }
}

impl Queue {
    #[inline(always)]
    fn accepts(&self, event: &Event) -> bool {
        self.filter.is_none_or(|filter| filter(event))
    }
}

impl Place<'_> {
    /// Writes the event, and wakes its readers.
    #[inline(always)]
    pub fn put(mut self, event: Event) {
        let Some(last) = self.queues.last_mut() else { return };
        last.batch.put(event);
        if self.queues.len() > 1 {
            return self.inboxes.copy_newest(self.queues);
        }
        let waker = self.queues.last_mut().and_then(|last| last.waker.take());
        // A waker is foreign code.
        drop(self.queues);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Copies an event into the queues that take it.
fn copy(event: &Event, queues: &mut [Queue]) {
    for queue in queues {
        if queue.accepts(event) {
            queue.batch.put(event.clone());
        }
    }
}

/// Returns the waker of a sleeping subscriber that has events. A subscriber that has read its events and sleeps again
/// is left alone; otherwise the next one would miss its wake-up.
fn sleeper(queues: &mut [Queue]) -> Option<Waker> {
    queues.iter_mut().filter(|queue| !queue.batch.events.is_empty()).find_map(|queue| queue.waker.take())
}

impl Drop for Queue {
    fn drop(&mut self) {
        *lock(&self.remainder) = mem::take(&mut self.batch);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Inbox {
    /// Waits for events and swaps them with the empty `batch`. Completes with false when the channel is gone and no
    /// event remains.
    pub(crate) fn poll_take(&self, batch: &mut Batch, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(channel) = self.channel.upgrade() else {
            *batch = mem::take(&mut *lock(&self.remainder));
            return Poll::Ready(!batch.events.is_empty());
        };
        // Cloned and dropped outside of the lock: a waker is foreign code.
        let mut waker = Some(cx.waker().clone());
        let mut all = channel.inboxes.lock();
        let Some(queue) = all.iter_mut().find(|queue| Arc::ptr_eq(&queue.remainder, &self.remainder)) else {
            return Poll::Ready(false);
        };
        if queue.batch.events.is_empty() {
            mem::swap(&mut queue.waker, &mut waker);
            drop(all);
            return Poll::Pending;
        }
        mem::swap(&mut queue.batch, batch);
        drop(all);
        Poll::Ready(true)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let Some(channel) = self.channel.upgrade() else { return };
        let mut all = channel.inboxes.lock();
        let queue =
            all.iter().position(|queue| Arc::ptr_eq(&queue.remainder, &self.remainder)).map(|place| all.remove(place));
        channel.inboxes.count.store(all.len(), SeqCst);
        drop(all);
        drop(queue);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::Ordering::Relaxed, task::Wake};

    use tokio::time::Instant;

    use super::*;
    use crate::Events;

    /// Reads all events as soon as it wakes, and sleeps again.
    struct Eager {
        inbox: Inbox,
        woken: AtomicUsize,
        read: AtomicUsize,
    }

    impl Eager {
        fn follow(events: &Events, filter: Filter) -> Arc<Self> {
            let eager =
                Arc::new(Self { inbox: events.inbox(filter), woken: AtomicUsize::new(0), read: AtomicUsize::new(0) });
            eager.clone().read();
            eager
        }

        fn read(self: Arc<Self>) {
            let waker = Waker::from(self.clone());
            let mut batch = Batch::new();
            while self.inbox.poll_take(&mut batch, &mut Context::from_waker(&waker)) == Poll::Ready(true) {
                self.read.fetch_add(batch.events.len(), Relaxed);
                batch.clear();
            }
        }
    }

    impl Wake for Eager {
        fn wake(self: Arc<Self>) {
            self.woken.fetch_add(1, Relaxed);
            self.read();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_is_full_loses_the_oldest_and_keeps_the_order() {
        let mut batch = Batch::new();
        let numbered = |kept| Event::Reloaded { kept, changed: 0, settings: Arc::default(), at: Instant::now() };
        for (sent, lost) in [(CAPACITY, 0), (CAPACITY + 3, 3), (CAPACITY * 2 + 1, CAPACITY + 1), (2, 0)] {
            for number in 0..sent {
                batch.put(numbered(number));
            }
            assert_eq!(mem::take(&mut batch.lost), lost as u64);
            let heard: Vec<Event> = batch.turns().flatten().cloned().collect();
            assert_eq!(heard, (lost..sent).map(numbered).collect::<Vec<_>>());
            batch.clear();
            assert_eq!(batch.turns().count(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_is_quick_to_sleep_again_is_not_woken_in_anothers_place() {
        let events = Events::new();
        let followers = [(); 3].map(|()| Eager::follow(&events, None));
        for sent in 1..=3 {
            events.send(Event::Reloaded { kept: 1, changed: 0, settings: Arc::default(), at: Instant::now() });
            for follower in &followers {
                assert_eq!((follower.woken.load(Relaxed), follower.read.load(Relaxed)), (sent, sent));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_made_in_its_place_reaches_all_who_want_it() {
        let events = Events::new();
        let event = || Event::Reloaded { kept: 1, changed: 0, settings: Arc::default(), at: Instant::now() };
        let is_reload: fn(&Event) -> bool = |event| matches!(event, Event::Reloaded { .. });
        assert!(events.place().is_none(), "nobody listens");
        let before = Eager::follow(&events, Some(is_reload));
        let never = Eager::follow(&events, Some(|_| false));
        assert!(events.place().is_none(), "they may not want it");
        let all = Eager::follow(&events, None);
        let after = Eager::follow(&events, Some(is_reload));
        for sent in 1..=3 {
            events.place().unwrap().put(event());
            let read = [&before, &never, &all, &after].map(|follower| follower.read.load(Relaxed));
            assert_eq!(read, [sent, 0, sent, sent]);
        }
    }
}
