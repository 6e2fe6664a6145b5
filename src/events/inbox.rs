//! The way of the events to those who follow: a bounded queue for each, filled where an event is sent and emptied all at
//! once. An event is moved into the queue and read where it lies, so that one who follows costs a lock, no more.

use std::{
    future::poll_fn,
    mem,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};

use crate::internal::sync::{Mutex, MutexGuard, lock};

use super::{CAPACITY, Channel, Event};

/// The queues of all who follow.
#[derive(Default)]
pub(crate) struct Inboxes {
    queues: Mutex<Vec<Queue>>,
    /// How many there are, without the lock.
    count: AtomicUsize,
}

/// Which events are put into a queue; `None`: all.
pub(crate) type Wanted = Option<fn(&Event) -> bool>;

struct Queue {
    wanted: Wanted,
    batch: Batch,
    waker: Option<Waker>,
    /// What is left when the channel is no more.
    rest: Arc<Mutex<Batch>>,
}

/// One queue's other end.
pub(crate) struct Inbox {
    channel: Weak<Channel>,
    /// The same as the queue's, by which it is known.
    rest: Arc<Mutex<Batch>>,
}

/// The only queue there is, with room for an event.
///
/// An event is large, and moved at each call that it is handed on by. What is put in here is made when the lock is held, so
/// that it is written where it stays.
pub(crate) struct OnlyQueue<'a>(MutexGuard<'a, Vec<Queue>>);

/// What is in a queue, or was taken out of it.
#[derive(Default)]
pub(crate) struct Batch {
    /// How many were lost before these.
    pub(crate) lost: u64,
    events: Vec<Event>,
    /// The place of the oldest: the first but in a queue that was full and has lost some.
    oldest: usize,
}

impl Batch {
    /// With room for all that a queue holds: its memory goes back to the queue.
    pub(crate) fn new() -> Self {
        Self { lost: 0, events: Vec::with_capacity(CAPACITY), oldest: 0 }
    }

    /// Whether one more loses none and needs no memory.
    #[inline(always)]
    fn has_room(&self) -> bool {
        self.events.len() < CAPACITY && self.events.len() < self.events.capacity()
    }

    /// One event more, in the place of the oldest where there is no room.
    #[inline(always)]
    fn put(&mut self, event: Event) {
        // Asked for although `push` asks too: the compiler sees then that it never makes room, and moves the event once less.
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

    /// The events in their order, so many at a time as are heard in a row.
    pub(crate) fn turns(&self) -> impl Iterator<Item = &[Event]> {
        let (newer, older) = self.events.split_at(self.oldest);
        older.chunks(TURN).chain(newer.chunks(TURN))
    }

    /// Forgets the events, and keeps the room.
    pub(crate) fn clear(&mut self) {
        self.events.clear();
        self.oldest = 0;
    }
}

/// How many events are heard in a row, before other tasks have their turn.
pub(crate) const TURN: usize = 128;

impl Inboxes {
    /// Puts an event into every queue; `false` if there is none.
    // Not inlined, for the event would be moved on into what has become of this.
    #[inline(never)]
    pub(crate) fn put(&self, event: Event) -> bool {
        let (mut waker, others);
        {
            let mut queues = self.lock();
            let Some((last, before)) = queues.split_last_mut() else { return false };
            others = before.len();
            for queue in before {
                if queue.wants(&event) {
                    queue.batch.put(event.clone());
                }
            }
            if last.wants(&event) {
                last.batch.put(event);
            }
            waker = sleeper(&mut queues);
        }
        // A waker is foreign code: not under the lock, and so one after the other.
        for left in (0..=others).rev() {
            let Some(sleeping) = waker else { break };
            sleeping.wake();
            waker = if left > 0 { sleeper(&mut self.lock()) } else { None };
        }
        true
    }

    /// The only queue there is, if it has room and takes whatever comes.
    #[inline(always)]
    pub(crate) fn only(&self) -> Option<OnlyQueue<'_>> {
        let queues = self.lock();
        match &queues[..] {
            [queue] if queue.wanted.is_none() && queue.batch.has_room() => Some(OnlyQueue(queues)),
            _ => None,
        }
    }

    /// Whether there is none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.count.load(SeqCst)
    }

    /// A new one, of this channel's.
    pub(crate) fn open(&self, channel: Weak<Channel>, wanted: Wanted) -> Inbox {
        let inbox = Inbox { channel, rest: Arc::default() };
        let (batch, rest) = (Batch::new(), inbox.rest.clone());
        let mut queues = self.lock();
        queues.push(Queue { wanted, batch, waker: None, rest });
        self.count.store(queues.len(), SeqCst);
        drop(queues);
        inbox
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Queue>> {
        // Nothing in here panics in the middle of a change.
        lock(&self.queues)
    }
}

impl Queue {
    #[inline(always)]
    fn wants(&self, event: &Event) -> bool {
        self.wanted.is_none_or(|wanted| wanted(event))
    }
}

impl OnlyQueue<'_> {
    #[inline(always)]
    pub(crate) fn put(mut self, event: Event) {
        let [queue] = &mut self.0[..] else { return };
        queue.batch.put(event);
        let waker = queue.waker.take();
        // A waker is foreign code.
        drop(self);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// One who waits and has events, of those who do. Who sleeps again already, for it has read what there was, is let sleep:
/// else the one after it would not be woken in its place.
fn sleeper(queues: &mut [Queue]) -> Option<Waker> {
    queues.iter_mut().filter(|queue| !queue.batch.events.is_empty()).find_map(|queue| queue.waker.take())
}

impl Drop for Queue {
    fn drop(&mut self) {
        *lock(&self.rest) = mem::take(&mut self.batch);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Inbox {
    /// Waits until there is something, and exchanges it for the empty `batch`. `false` when the channel is no more and
    /// nothing is left.
    pub(crate) async fn take(&self, batch: &mut Batch) -> bool {
        poll_fn(|cx| self.poll_take(batch, cx)).await
    }

    fn poll_take(&self, batch: &mut Batch, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(channel) = self.channel.upgrade() else {
            *batch = mem::take(&mut *lock(&self.rest));
            return Poll::Ready(!batch.events.is_empty());
        };
        // Cloned and dropped outside of the lock: a waker is somebody else's code.
        let mut waker = Some(cx.waker().clone());
        let mut all = channel.inboxes.lock();
        let Some(queue) = all.iter_mut().find(|queue| Arc::ptr_eq(&queue.rest, &self.rest)) else {
            return Poll::Ready(false);
        };
        if queue.batch.events.is_empty() {
            mem::swap(&mut queue.waker, &mut waker);
            drop(all);
            return Poll::Pending;
        }
        batch.lost = 0;
        mem::swap(&mut queue.batch, batch);
        drop(all);
        Poll::Ready(true)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let Some(channel) = self.channel.upgrade() else { return };
        let mut all = channel.inboxes.lock();
        let queue = all.iter().position(|queue| Arc::ptr_eq(&queue.rest, &self.rest)).map(|place| all.remove(place));
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

    /// Reads what there is as soon as it is woken, and sleeps again.
    struct Eager {
        inbox: Inbox,
        woken: AtomicUsize,
        read: AtomicUsize,
    }

    impl Eager {
        fn follow(events: &Events) -> Arc<Self> {
            let eager =
                Arc::new(Self { inbox: events.inbox(None), woken: AtomicUsize::new(0), read: AtomicUsize::new(0) });
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
        let numbered = |kept| Event::Reloaded { kept, changed: 0, at: Instant::now() };
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
        let followers = [Eager::follow(&events), Eager::follow(&events), Eager::follow(&events)];
        for sent in 1..=3 {
            events.send(Event::Reloaded { kept: 1, changed: 0, at: Instant::now() });
            for follower in &followers {
                assert_eq!((follower.woken.load(Relaxed), follower.read.load(Relaxed)), (sent, sent));
            }
        }
    }
}
