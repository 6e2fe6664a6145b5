//! The state that request threads, the journal's thread and the task of the store share.

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem,
    pin::pin,
    sync::{
        Arc, Condvar, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use tokio::sync::{Notify, futures::Notified};

use super::thread::{Journal, Writing};
use crate::{row::LedgerRow, settings::LedgerSettings, standing::Standing};
use steadfast_internal::sync::{Mutex, MutexGuard, lock};

/// The largest number of records that wait for the journal's thread: it is behind by seconds then.
const QUEUE: usize = 65_536;
/// The number of times that a request's thread lets others run before it leaves its record to them.
const PATIENCE: usize = 64;
/// The number of rows that the store gets at a time.
pub(crate) const BATCH: usize = 500;

/// A beginning or an end, on its way to the journal.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "an end is as frequent as a beginning, and a box is an allocation more")]
pub(crate) enum Item {
    Begun(Arc<LedgerRow>),
    Ended(LedgerRow),
    /// A row without a beginning.
    Recorded(LedgerRow),
}

/// A settled row in memory, on its way to the store.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// The place in the order of settling.
    pub(crate) ordinal: u64,
    /// The segment of the journal that has the row, if one has.
    pub(crate) segment: Option<u64>,
    pub(crate) row: LedgerRow,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    queue: Vec<(u64, Item)>,
    /// The place of the latest record.
    ordinal: u64,
    /// True while the journal's thread waits for something to do.
    is_parked: bool,
    /// True while the store's task waits for the first row.
    pub(crate) wants_rows: bool,
    /// True if the thread is to look at its files.
    is_asked: bool,
    /// The first of the records that a thread has taken and not passed on.
    in_thread: Option<u64>,
    pub(crate) pending: VecDeque<Waiting>,
    /// The first and the number of the rows that the store has taken and not answered for.
    in_flight: Option<(u64, usize)>,
    /// The first and the number of the rows that wait in the journal alone.
    pub(crate) spilled: Option<(u64, usize)>,
    /// The segments of stored rows, for the thread to count.
    stored: Vec<u64>,
    /// The number of callers that wait for the store to have everything.
    flushes: usize,
    /// The lost rows that the log has.
    told_losses: u64,
    is_closed: bool,
    is_task_gone: bool,
    pub(crate) standing: Standing,
}

/// The next work of the journal's thread.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) items: Vec<(u64, Item)>,
    pub(crate) stored: Vec<u64>,
    /// True if nothing more comes.
    pub(crate) is_over: bool,
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// The files. Whoever holds them writes what is queued.
    pub(crate) writing: Mutex<Writing>,
    /// True while the disk takes long to write: only the journal's thread waits for it.
    pub(crate) is_slow: AtomicBool,
    /// Wakes the journal's thread.
    records: Condvar,
    /// Wakes the task of the store.
    pub(crate) rows: Notify,
    /// Wakes it out of a wait for a store that is away.
    pub(crate) retry: Notify,
    /// Wakes whoever waits for progress.
    changed: Notify,
    pub(crate) settings: LedgerSettings,
    pub(crate) has_journal: bool,
}

impl Shared {
    pub(crate) fn new(settings: LedgerSettings, journal: Option<Journal>, replays: usize) -> Self {
        let has_journal = journal.is_some();
        let standing = Standing { replays: replays as u64, ..Standing::default() };
        Self {
            state: Mutex::new(State { standing, ..State::default() }),
            writing: Mutex::new(Writing::new(journal)),
            is_slow: AtomicBool::new(false),
            records: Condvar::new(),
            rows: Notify::new(),
            retry: Notify::new(),
            changed: Notify::new(),
            settings,
            has_journal,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Takes a record from a request's thread, and writes it into the journal. While the disk is slow, or other threads
    /// write without an end, the journal's thread does so a moment later.
    pub(crate) fn push(&self, item: Item) {
        if self.queue(item) && self.has_journal && !self.is_slow.load(Relaxed) {
            self.write_queue();
        } else {
            self.wake_thread(self.lock());
        }
    }

    /// Writes what is queued, unless another thread is at it for long: that one looks again when it is done.
    fn write_queue(&self) {
        for _ in 0..PATIENCE {
            let Ok(mut writing) = self.writing.try_lock() else {
                thread::yield_now();
                continue;
            };
            let mut items = {
                let mut state = self.lock();
                if state.queue.is_empty() {
                    return;
                }
                state.in_thread = state.queue.first().map(|(ordinal, _)| *ordinal);
                mem::replace(&mut state.queue, mem::take(&mut writing.spare))
            };
            let has_more = writing.append(self, &mut items);
            writing.spare = items;
            self.pass();
            drop(writing);
            if has_more {
                self.wake_thread(self.lock());
            }
        }
        self.wake_thread(self.lock());
    }

    /// Queues a record. Returns false if it has no room.
    fn queue(&self, item: Item) -> bool {
        let mut state = self.lock();
        match &item {
            Item::Begun(_) => state.standing.open += 1,
            Item::Ended(_) => {
                state.standing.open -= 1;
                state.standing.waiting += 1;
            }
            Item::Recorded(_) => state.standing.waiting += 1,
        }
        if state.queue.len() >= QUEUE {
            if !matches!(item, Item::Begun(_)) {
                state.lose();
            }
            return false;
        }
        state.ordinal += 1;
        let ordinal = state.ordinal;
        state.queue.push((ordinal, item));
        true
    }

    /// Waits, in the journal's thread, for something to do.
    pub(crate) fn wait_for_work(&self) {
        let mut state = self.lock();
        loop {
            let is_over = state.is_closed && state.is_task_gone;
            let has_room = state.spilled.is_some() && state.pending.len() <= self.settings.memory_rows / 2;
            let is_asked = mem::take(&mut state.is_asked);
            if is_asked || !state.queue.is_empty() || !state.stored.is_empty() || has_room || is_over {
                state.is_parked = false;
                return;
            }
            state.is_parked = true;
            state = self.records.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes what there is to do. Only who holds the journal may: records are written in the order of their queue.
    pub(crate) fn take_work(&self, work: &mut Work) {
        work.items.clear();
        work.stored.clear();
        let mut state = self.lock();
        mem::swap(&mut state.queue, &mut work.items);
        mem::swap(&mut state.stored, &mut work.stored);
        state.in_thread = work.items.first().map(|(ordinal, _)| *ordinal);
        work.is_over = state.is_closed && state.is_task_gone;
    }

    /// Takes the segments of stored rows. Only who holds the journal may.
    pub(crate) fn take_stored(&self) -> Vec<u64> {
        mem::take(&mut self.lock().stored)
    }

    /// Records that a thread has passed on all that it took. Only who holds the journal may: another may take the next.
    pub(crate) fn pass(&self) {
        let mut state = self.lock();
        state.in_thread = None;
        let is_wanted = !state.pending.is_empty() && mem::take(&mut state.wants_rows);
        let is_wanted = is_wanted || state.is_hurried();
        drop(state);
        if is_wanted {
            self.rows.notify_one();
        }
        self.changed.notify_waiters();
    }

    /// Takes rows for the store.
    pub(crate) fn take(&self) -> Vec<Waiting> {
        let mut state = self.lock();
        let count = state.pending.len().min(BATCH);
        let batch: Vec<_> = state.pending.drain(..count).collect();
        state.in_flight = batch.iter().map(|waiting| waiting.ordinal).min().map(|first| (first, batch.len()));
        self.wake_thread(state);
        batch
    }

    /// Records that the store has these rows.
    pub(crate) fn settle(&self, batch: Vec<Waiting>) {
        let mut state = self.lock();
        state.in_flight = None;
        state.standing.waiting = state.standing.waiting.saturating_sub(batch.len() as u64);
        if self.has_journal {
            state.stored.extend(batch.iter().filter_map(|waiting| waiting.segment));
        }
        if state.standing.journal_problem.is_some() {
            // No segment's number: the thread looks at its files once more.
            state.stored.push(0);
        }
        self.wake_thread(state);
        self.changed.notify_waiters();
    }

    /// Takes rows back that the store did not take.
    pub(crate) fn give_back(&self, batch: Vec<Waiting>) {
        let mut state = self.lock();
        state.in_flight = None;
        for waiting in batch.into_iter().rev() {
            state.pending.push_front(waiting);
        }
    }

    fn wake_thread(&self, mut state: MutexGuard<'_, State>) {
        state.is_asked = true;
        if mem::take(&mut state.is_parked) {
            drop(state);
            self.records.notify_one();
        }
    }

    /// Records that the handles are gone.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.wake_all();
    }

    /// Records that the task of the store is gone.
    pub(crate) fn end_task(&self) {
        self.lock().is_task_gone = true;
        self.wake_all();
    }

    fn wake_all(&self) {
        self.records.notify_one();
        self.rows.notify_one();
        self.retry.notify_waiters();
        self.changed.notify_waiters();
    }

    /// Waits until this is true of the state.
    pub(crate) async fn wait_until(&self, is_true: impl Fn(&State) -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if is_true(&self.lock()) {
                return;
            }
            wait(changed.as_mut()).await;
        }
    }

    /// Changes the state, and tells whoever waits for it.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.notify_waiters();
        changed
    }
}

async fn wait(mut changed: std::pin::Pin<&mut Notified<'_>>) {
    poll_fn(|context| changed.as_mut().poll(context)).await;
}

impl State {
    /// Counts a settled row that has no room.
    pub(crate) fn lose(&mut self) {
        self.standing.lost += 1;
        self.standing.waiting = self.standing.waiting.saturating_sub(1);
    }

    /// Returns the number of rows that were lost since the last call.
    pub(crate) fn new_losses(&mut self) -> u64 {
        let new = self.standing.lost - self.told_losses;
        self.told_losses = self.standing.lost;
        new
    }

    /// Returns the place of the latest record.
    pub(crate) fn latest(&self) -> u64 {
        self.ordinal
    }

    /// Returns true if the journal's thread has done all up to this place.
    pub(crate) fn is_passed(&self, ordinal: u64) -> bool {
        let queued = self.queue.first().map(|(ordinal, _)| *ordinal);
        [queued, self.in_thread].into_iter().flatten().all(|first| first > ordinal)
    }

    /// Returns true if the store has all up to this place that is not lost.
    pub(crate) fn is_stored(&self, ordinal: u64) -> bool {
        let first = |rows: Option<(u64, usize)>| rows.is_none_or(|(first, _)| first > ordinal);
        self.is_passed(ordinal)
            && first(self.in_flight)
            && first(self.spilled)
            && self.pending.iter().all(|waiting| waiting.ordinal > ordinal)
    }

    /// Returns true if nothing waits anywhere.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_stored(u64::MAX)
    }

    /// Returns true if the store is to be written at once.
    pub(crate) fn is_hurried(&self) -> bool {
        self.flushes > 0 || self.is_closed || self.pending.len() >= BATCH
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(crate) fn begin_flush(&mut self) {
        self.flushes += 1;
    }

    pub(crate) fn end_flush(&mut self) {
        self.flushes -= 1;
    }
}
