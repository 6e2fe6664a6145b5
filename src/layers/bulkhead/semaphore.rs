//! A gate's places: the limit, the number taken, and the requests that wait for one.

use std::{
    collections::BTreeMap,
    fmt, mem,
    sync::atomic::{
        AtomicU64,
        Ordering::{self, AcqRel, Relaxed},
    },
    task::{Context, Poll, Waker},
};

use crate::internal::sync::{Mutex, MutexGuard, lock};

/// A counting semaphore whose limit may move, with a bounded queue of waiters.
///
/// All counts are in one atomic word. Taking a place and giving it back are therefore one compare-and-swap each
/// while no request waits, and a limit may be lowered below the number taken. Waiters queue behind a lock. While
/// there is a queue, only its first takes a place, under that lock. Freeing a place (one given back, a higher
/// limit) then hands it out under the lock too. So no waiter is overtaken, and no place stays free while requests
/// wait.
// On a cache line of its own: every call writes it, and must not slow what every call reads.
#[repr(align(64))]
#[derive(Debug)]
pub(super) struct ResizableSemaphore {
    counts: AtomicU64,
    /// The most requests that may wait. Read and written under the queue's lock.
    queue_limit: AtomicU64,
    waiters: Mutex<Waiters>,
}

#[derive(Debug, Default)]
struct Waiters {
    next: u64,
    /// By ticket, so in the order of arrival; each with the waker of its last poll.
    waiting: BTreeMap<u64, Option<Waker>>,
}

/// The result of [`ResizableSemaphore::acquire`].
#[derive(Debug, PartialEq)]
pub(super) enum Acquire {
    /// A place, without waiting.
    Acquired,
    /// The ticket of a position in the queue.
    Queued(u64),
    /// The queue is full.
    Full,
}

/// The counts of one moment.
#[derive(Clone, Copy)]
pub(super) struct Counts(u64);

/// 22 bits for the places taken, 22 for the limit, 20 for the waiters.
const LIMIT: u32 = 22;
const WAITING: u32 = 44;
const ONE_WAITING: u64 = 1 << WAITING;
/// The largest limit.
const MOST: u64 = (1 << LIMIT) - 1;
/// The longest queue.
const LONGEST: u64 = (1 << (64 - WAITING)) - 1;

impl Counts {
    pub(super) fn taken(self) -> usize {
        (self.0 & MOST) as usize
    }

    pub(super) fn limit(self) -> usize {
        (self.0 >> LIMIT & MOST) as usize
    }

    pub(super) fn waiting(self) -> usize {
        (self.0 >> WAITING) as usize
    }

    fn has_place(self) -> bool {
        self.taken() < self.limit()
    }

    fn with_limit(self, limit: usize) -> u64 {
        self.0 & !(MOST << LIMIT) | small(limit, MOST) << LIMIT
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (in_flight, limit, queued) = (self.taken(), self.limit(), self.waiting());
        write!(f, "in_flight: {in_flight}, limit: {limit}, queued: {queued}")
    }
}

/// Returns the number, at most `most`.
fn small(number: usize, most: u64) -> u64 {
    u64::try_from(number).unwrap_or(most).min(most)
}

impl ResizableSemaphore {
    /// Creates so many places, with so much room in the queue. At most 4,194,303 and 1,048,575.
    pub(super) fn new(limit: usize, queue_limit: usize) -> Self {
        let counts = AtomicU64::new(Counts(0).with_limit(limit));
        Self { counts, queue_limit: AtomicU64::new(small(queue_limit, LONGEST)), waiters: Mutex::default() }
    }

    /// Changes the most requests that may wait. Requests that already wait stay.
    pub(super) fn set_queue_limit(&self, queue_limit: usize) {
        let _waiters = self.waiters();
        self.queue_limit.store(small(queue_limit, LONGEST), Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        Counts(self.counts.load(Ordering::Acquire))
    }

    /// Takes a place, if one is free and no request waits for it.
    #[inline]
    pub(super) fn try_take(&self) -> bool {
        self.update(|now| (now.has_place() && now.waiting() == 0).then_some(now.0 + 1)).is_ok()
    }

    /// Gives a place back, or on to the first in the queue.
    #[inline]
    pub(super) fn release(&self) {
        // While a request waits, no newcomer takes the place before the semaphore hands it out. A request that joins
        // after this sees the place free.
        if Counts(self.counts.fetch_sub(1, AcqRel)).waiting() > 0 {
            self.hand_out(self.waiters());
        }
    }

    /// Sets the limit. Lowering it interrupts no call; raising it admits waiters.
    pub(super) fn set_limit(&self, limit: usize) {
        let before = self.update(|now| Some(now.with_limit(limit)));
        if before.is_ok_and(|before| before.waiting() > 0) {
            self.hand_out(self.waiters());
        }
    }

    /// Joins the queue.
    pub(super) fn acquire(&self) -> Acquire {
        let mut waiters = self.waiters();
        let queue_limit = self.queue_limit.load(Relaxed);
        let acquired = self.update(|now| match now.waiting() {
            0 if now.has_place() => Some(now.0 + 1),
            waiting => ((waiting as u64) < queue_limit).then(|| now.0 + ONE_WAITING),
        });
        let Ok(before) = acquired else { return Acquire::Full };
        if before.waiting() == 0 && before.has_place() {
            return Acquire::Acquired;
        }
        let ticket = waiters.next;
        waiters.next += 1;
        waiters.waiting.insert(ticket, None);
        Acquire::Queued(ticket)
    }

    /// Completes when the place is there. The caller then owns it, and the ticket is spent.
    pub(super) fn poll_acquired(&self, ticket: u64, cx: &mut Context<'_>) -> Poll<()> {
        // Cloned and dropped outside of the lock: a waker runs foreign code.
        let mut waker = Some(cx.waker().clone());
        match self.waiters().waiting.get_mut(&ticket) {
            Some(known) => mem::swap(known, &mut waker),
            None => return Poll::Ready(()),
        }
        Poll::Pending
    }

    /// Leaves the queue. A place that has just been given to this ticket goes on to the next.
    pub(super) fn leave(&self, ticket: u64) {
        let known = {
            let mut waiters = self.waiters();
            let known = waiters.waiting.remove(&ticket);
            if known.is_some() {
                self.counts.fetch_sub(ONE_WAITING, AcqRel);
            }
            known
        };
        if known.is_none() {
            self.release();
        }
    }

    /// Gives the free places to the first in the queue, and wakes them once the lock is released.
    fn hand_out(&self, mut waiters: MutexGuard<'_, Waiters>) {
        let mut first = None;
        let mut others = Vec::new();
        while !waiters.waiting.is_empty() && self.update(|now| now.has_place().then(|| now.0 + 1 - ONE_WAITING)).is_ok()
        {
            let waker = waiters.waiting.pop_first().and_then(|(_, waker)| waker);
            // Nearly always there is one waker, which needs no memory.
            match first {
                None => first = waker,
                Some(_) => others.extend(waker),
            }
        }
        drop(waiters);
        first.into_iter().chain(others).for_each(Waker::wake);
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        // No change to the queue can panic half-way.
        lock(&self.waiters)
    }

    fn update(&self, change: impl Fn(Counts) -> Option<u64>) -> Result<Counts, Counts> {
        self.counts.fetch_update(AcqRel, Ordering::Acquire, |now| change(Counts(now))).map(Counts).map_err(Counts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_ready(semaphore: &ResizableSemaphore, ticket: u64) -> bool {
        semaphore.poll_acquired(ticket, &mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn what_does_not_fit_is_the_most_that_does() {
        let semaphore = ResizableSemaphore::new(usize::MAX, usize::MAX);
        assert_eq!((semaphore.counts().limit(), semaphore.queue_limit.load(Relaxed)), (4_194_303, 1_048_575));
        assert!(semaphore.try_take());
        semaphore.set_limit(0);
        assert_eq!((semaphore.counts().taken(), semaphore.counts().limit(), semaphore.counts().waiting()), (1, 0, 0));
        assert_eq!(semaphore.acquire(), Acquire::Queued(0));
        semaphore.set_limit(usize::MAX);
        assert!(is_ready(&semaphore, 0));
        assert_eq!((semaphore.counts().taken(), semaphore.counts().waiting()), (2, 0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take,
        Join,
        End,
        /// Polls the waiter at this position, or among those that were given a place; `Leave` drops one.
        Poll(usize),
        Leave(usize),
        Limit(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Take),
            Just(Step::Join),
            Just(Step::End),
            (0..8usize).prop_map(Step::Poll),
            (0..8usize).prop_map(Step::Leave),
            (0..6usize).prop_map(Step::Limit),
        ]
    }

    proptest! {
        /// Compares with lists: the running calls, the waiters, and those that were given a place but have not
        /// looked.
        #[test]
        fn it_is_a_list_of_those_who_run_and_one_of_those_who_wait(
            limit in 0..5usize,
            queue_limit in 0..5usize,
            steps in prop::collection::vec(step(), 1..300),
        ) {
            let semaphore = ResizableSemaphore::new(limit, queue_limit);
            let (mut limit, mut running) = (limit, 0);
            let (mut waiting, mut given): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
            for step in steps {
                let free = |running: usize, given: &[u64], waiting: &[u64]| {
                    waiting.is_empty() && running + given.len() < limit
                };
                match step {
                    Step::Take => {
                        let expected = free(running, &given, &waiting);
                        prop_assert_eq!(semaphore.try_take(), expected);
                        running += usize::from(expected);
                    }
                    Step::Join => match semaphore.acquire() {
                        Acquire::Acquired => {
                            prop_assert!(free(running, &given, &waiting));
                            running += 1;
                        }
                        Acquire::Queued(ticket) => {
                            prop_assert!(!free(running, &given, &waiting) && waiting.len() < queue_limit);
                            waiting.push(ticket);
                        }
                        Acquire::Full => prop_assert!(!free(running, &given, &waiting) && waiting.len() == queue_limit),
                    },
                    Step::End if running > 0 => {
                        running -= 1;
                        semaphore.release();
                    }
                    Step::End => {}
                    Step::Poll(n) => {
                        if let Some(ticket) = waiting.get(n) {
                            prop_assert!(!is_ready(&semaphore, *ticket));
                        }
                        if n < given.len() {
                            prop_assert!(is_ready(&semaphore, given.remove(n)));
                            running += 1;
                        }
                    }
                    Step::Leave(n) if n < waiting.len() => semaphore.leave(waiting.remove(n)),
                    Step::Leave(n) => {
                        let n = n - waiting.len();
                        if n < given.len() {
                            semaphore.leave(given.remove(n));
                        }
                    }
                    Step::Limit(next) => {
                        limit = next;
                        semaphore.set_limit(next);
                    }
                }
                while !waiting.is_empty() && running + given.len() < limit {
                    given.push(waiting.remove(0));
                }
                let now = semaphore.counts();
                prop_assert_eq!((now.taken(), now.limit()), (running + given.len(), limit));
                prop_assert_eq!(now.waiting(), waiting.len());
            }
        }
    }
}
