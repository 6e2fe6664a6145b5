//! A gate's places: the limit, the number taken, and the requests that wait for one.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, mem,
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{self, AcqRel, Relaxed},
        },
    },
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;

use crate::{
    internal::sync::{Mutex, MutexGuard, lock},
    layers::shares::{Hold, Level, Shares, Verdict},
};

/// A counting semaphore whose limit may move, with a bounded queue of waiters.
///
/// All counts are in one atomic word. Taking a place and giving it back are therefore one compare-and-swap each
/// while no request waits, and a limit may be lowered below the number taken. Waiters queue behind a lock. While
/// there is a queue, only its first takes a place, under that lock. Freeing a place (one given back, a higher
/// limit) then hands it out under the lock too. So no waiter is overtaken, and no place stays free while requests
/// wait.
///
/// Requests with a key have fair [shares](Shares) of the places and of the queue. Of those that wait, the key with the
/// fewest places is the first, and each key's requests go in the order of their arrival. A place stays free only if all
/// who wait hold their share, and the rule leaves it to others.
// On a cache line of its own: every call writes it, and must not slow what every call reads.
#[repr(align(64))]
#[derive(Debug)]
pub(super) struct ResizableSemaphore {
    counts: AtomicU64,
    /// The most requests that may wait. Read and written under the queue's lock.
    queue_limit: AtomicU64,
    waiters: Mutex<Waiters>,
    places: Arc<Shares>,
    positions: Shares,
}

#[derive(Debug, Default)]
struct Waiters {
    next: u64,
    /// The lines of the keys, and the one of all requests without a key.
    lines: HashMap<Option<Arc<str>>, Line>,
}

/// The waiters of one key by ticket, so in the order of arrival; each with the waker of its last poll.
type Line = BTreeMap<u64, Option<Waker>>;

/// The result of [`ResizableSemaphore::acquire`].
#[derive(Debug)]
pub(super) enum Acquire {
    /// A place, without waiting.
    Acquired(Option<Hold>),
    /// The ticket of a position in the queue.
    Queued(u64),
    /// The queue is full.
    Full,
    /// The key has its share of the queue.
    OverShare,
}

impl Waiters {
    fn remove(&mut self, key: &Option<Arc<str>>, ticket: u64) -> Option<Option<Waker>> {
        let line = self.lines.get_mut(key)?;
        let known = line.remove(&ticket);
        if line.is_empty() {
            self.lines.remove(key);
        }
        known
    }
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
        Self {
            counts,
            queue_limit: AtomicU64::new(small(queue_limit, LONGEST)),
            waiters: Mutex::default(),
            places: Arc::default(),
            positions: Shares::default(),
        }
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

    /// As [`try_take`](Self::try_take) for a request of this key, if it is fair.
    pub(super) fn try_take_for(&self, key: &Arc<str>, now: Instant) -> Verdict<Option<Hold>> {
        let change = |now: Counts| (now.has_place() && now.waiting() == 0).then_some(now.0 + 1);
        self.take_share(key, now, change)
    }

    /// Takes a place for this key by a change of the counts, if it is fair.
    fn take_share(
        &self,
        key: &Arc<str>,
        now: Instant,
        change: impl Fn(Counts) -> Option<u64>,
    ) -> Verdict<Option<Hold>> {
        let level = || {
            let now = self.counts();
            Level { limit: now.limit() as u64, used: now.taken() as u64 }
        };
        let grant = || self.update(change).map(drop).map_err(drop);
        match self.places.take(key, 1, now, level, grant) {
            Verdict::Granted(()) => Verdict::Granted(Some(self.hold(key.clone()))),
            Verdict::Full(()) => Verdict::Full(None),
            Verdict::OverShare => Verdict::OverShare,
        }
    }

    /// Returns the hold of a place that was counted for this key.
    pub(super) fn hold(&self, key: Arc<str>) -> Hold {
        Hold::new(self.places.clone(), key, 1)
    }

    /// Returns the number of places that a key holds.
    pub(super) fn held(&self, key: &str) -> u64 {
        self.places.held(key)
    }

    /// Gives a place back, or on to the first in the queue. A key has given its part back before.
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
    pub(super) fn acquire(&self, key: Option<&Arc<str>>, now: Instant) -> Acquire {
        let mut waiters = self.waiters();
        let at_once = |now: Counts| (now.has_place() && now.waiting() == 0).then_some(now.0 + 1);
        match key {
            None if self.update(at_once).is_ok() => return Acquire::Acquired(None),
            None => {}
            Some(key) => {
                if let Verdict::Granted(hold) = self.take_share(key, now, at_once) {
                    return Acquire::Acquired(hold);
                }
            }
        }
        let queue_limit = self.queue_limit.load(Relaxed);
        let join = |now: Counts| ((now.waiting() as u64) < queue_limit).then(|| now.0 + ONE_WAITING);
        let joined = match key {
            None => self.update(join).is_ok(),
            Some(key) => {
                let level = || Level { limit: queue_limit, used: self.counts().waiting() as u64 };
                let grant = || self.update(join).map(drop).map_err(drop);
                match self.positions.take(key, 1, now, level, grant) {
                    Verdict::Granted(()) => true,
                    Verdict::Full(()) => false,
                    Verdict::OverShare => return Acquire::OverShare,
                }
            }
        };
        if !joined {
            return Acquire::Full;
        }
        let ticket = waiters.next;
        waiters.next += 1;
        waiters.lines.entry(key.cloned()).or_default().insert(ticket, None);
        // Waiters before it may hold their share, and leave a place to it. A release may also have come between.
        self.hand_out(waiters);
        Acquire::Queued(ticket)
    }

    /// Completes when the place is there. The caller then owns it, with its key's part, and the ticket is spent.
    pub(super) fn poll_acquired(&self, key: Option<&Arc<str>>, ticket: u64, cx: &mut Context<'_>) -> Poll<()> {
        // Cloned and dropped outside of the lock: a waker runs foreign code.
        let mut waker = Some(cx.waker().clone());
        let mut waiters = self.waiters();
        match waiters.lines.get_mut(&key.cloned()).and_then(|line| line.get_mut(&ticket)) {
            Some(known) => mem::swap(known, &mut waker),
            None => return Poll::Ready(()),
        }
        drop(waiters);
        Poll::Pending
    }

    /// Leaves the queue. A place that has just been given to this ticket goes on to the next.
    pub(super) fn leave(&self, key: Option<&Arc<str>>, ticket: u64) {
        let known = {
            let mut waiters = self.waiters();
            let known = waiters.remove(&key.cloned(), ticket);
            if known.is_some() {
                self.counts.fetch_sub(ONE_WAITING, AcqRel);
            }
            known
        };
        match (known, key) {
            (Some(_), Some(key)) => self.positions.give(key, 1),
            (Some(_), None) => {}
            (None, key) => {
                if let Some(key) = key {
                    self.places.give(key, 1);
                }
                self.release();
            }
        }
    }

    /// Gives the free places to those in the queue, and wakes them once the lock is released.
    fn hand_out(&self, mut waiters: MutexGuard<'_, Waiters>) {
        let mut first = None;
        let mut others = Vec::new();
        while self.counts().has_place()
            && let Some(waker) = self.hand_one_out(&mut waiters)
        {
            // Nearly always there is one waker, which needs no memory.
            match first {
                None => first = waker,
                Some(_) => others.extend(waker),
            }
        }
        drop(waiters);
        first.into_iter().chain(others).for_each(Waker::wake);
    }

    /// Gives a place to the first for whom that is fair: a key with fewer places comes before one with more.
    fn hand_one_out(&self, waiters: &mut Waiters) -> Option<Option<Waker>> {
        let change = |now: Counts| now.has_place().then(|| now.0 + 1 - ONE_WAITING);
        let is_one = waiters.lines.len() == 1;
        let mut heads: Vec<(u64, u64, Option<Arc<str>>)> = Vec::new();
        for (key, line) in &waiters.lines {
            let Some((&ticket, _)) = line.first_key_value() else { continue };
            let held = key.as_ref().filter(|_| !is_one).map_or(0, |key| self.places.held(key));
            heads.push((held, ticket, key.clone()));
        }
        heads.sort_unstable();
        for (_, ticket, key) in heads {
            let is_given = match &key {
                None => self.update(change).is_ok(),
                Some(key) => match self.take_share(key, Instant::now(), change) {
                    // The waiter has the place, and makes the hold anew.
                    Verdict::Granted(hold) => {
                        hold.into_iter().for_each(Hold::keep);
                        self.positions.give(key, 1);
                        true
                    }
                    _ => false,
                },
            };
            if is_given {
                return waiters.remove(&key, ticket);
            }
        }
        None
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
        semaphore.poll_acquired(None, ticket, &mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn what_does_not_fit_is_the_most_that_does() {
        let semaphore = ResizableSemaphore::new(usize::MAX, usize::MAX);
        assert_eq!((semaphore.counts().limit(), semaphore.queue_limit.load(Relaxed)), (4_194_303, 1_048_575));
        assert!(semaphore.try_take());
        semaphore.set_limit(0);
        assert_eq!((semaphore.counts().taken(), semaphore.counts().limit(), semaphore.counts().waiting()), (1, 0, 0));
        assert!(matches!(semaphore.acquire(None, Instant::now()), Acquire::Queued(0)));
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
                    Step::Join => match semaphore.acquire(None, Instant::now()) {
                        Acquire::Acquired(_) => {
                            prop_assert!(free(running, &given, &waiting));
                            running += 1;
                        }
                        Acquire::Queued(ticket) => {
                            prop_assert!(!free(running, &given, &waiting) && waiting.len() < queue_limit);
                            waiting.push(ticket);
                        }
                        Acquire::OverShare => prop_assert!(false, "no key"),
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
                    Step::Leave(n) if n < waiting.len() => semaphore.leave(None, waiting.remove(n)),
                    Step::Leave(n) => {
                        let n = n - waiting.len();
                        if n < given.len() {
                            semaphore.leave(None, given.remove(n));
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
