//! The tasks that bring rows to the store: those of this process, those of dead ones, and the sweep.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    journal::replay::Replay,
    journal::shared::{BATCH, Shared, Waiting},
    row::LedgerRow,
    store::{LedgerFuture, LedgerStore},
};
use steadfast::store::{StoreError, StoreErrorKind, StoreWatch};

/// The first wait for a store that is away, which doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The time after which a store that says nothing counts as away.
const SILENCE: Duration = Duration::from_secs(60);
/// The tries to store rows that are in memory alone, after the last handle is gone.
const LAST_TRIES: u32 = 5;
/// The time from the start to the first sweep, and between two of them.
const SWEEP: Duration = Duration::from_secs(60 * 60);

/// The part that the tasks share.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) store: Arc<dyn LedgerStore>,
    pub(crate) watch: StoreWatch,
}

/// Tells the journal's thread that the task is gone, however it ends.
struct End(Arc<Writer>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.shared.end_task();
    }
}

/// A wait that doubles.
struct Backoff(Duration);

impl Backoff {
    fn new() -> Self {
        Self(FIRST_WAIT)
    }

    fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(LONGEST_WAIT);
        wait
    }
}

impl Writer {
    /// Stores this process's rows until all handles are gone.
    pub(crate) async fn run(self: Arc<Self>) {
        let end = End(self);
        let this = &end.0;
        loop {
            let (is_over, is_idle) = {
                let mut state = this.shared.lock();
                state.wants_rows = state.pending.is_empty();
                (state.is_closed() && state.is_empty(), state.wants_rows)
            };
            if is_over {
                return;
            }
            if is_idle {
                this.shared.rows.notified().await;
                continue;
            }
            this.gather().await;
            if !this.store_all().await {
                return;
            }
        }
    }

    /// Waits for more rows, for as long as the oldest may wait.
    async fn gather(&self) {
        let until = Instant::now() + self.shared.settings.flush;
        while !self.shared.lock().is_hurried() {
            tokio::select! {
                () = sleep_until(until) => return,
                () = self.shared.rows.notified() => {}
            }
        }
    }

    /// Stores what is in memory. Returns false if the process ends and the store is away.
    async fn store_all(&self) -> bool {
        let (mut backoff, mut tries) = (Backoff::new(), 0);
        loop {
            self.tell_losses();
            let batch = self.shared.take();
            if batch.is_empty() {
                return true;
            }
            let (places, rows) = apart(batch);
            let stored = self.ask(self.store.append(&rows)).await;
            let batch = together(places, rows);
            if stored.is_some() {
                backoff = Backoff::new();
                self.shared.settle(batch);
                continue;
            }
            let is_journaled = batch.iter().all(|waiting| waiting.segment.is_some());
            self.shared.give_back(batch);
            if self.shared.lock().is_closed() {
                tries += 1;
                if is_journaled || tries >= LAST_TRIES {
                    self.tell_end();
                    return false;
                }
            }
            tokio::select! {
                () = sleep(backoff.next()) => {}
                () = self.shared.retry.notified() => {}
            }
        }
    }

    fn tell_end(&self) {
        let state = self.shared.lock();
        let unjournaled = state.pending.iter().filter(|waiting| waiting.segment.is_none()).count();
        let waiting = state.standing.waiting;
        drop(state);
        if unjournaled > 0 {
            tracing::error!(rows = unjournaled, "ledger rows lost: the process ends, and the store is away");
        } else {
            tracing::warn!(rows = waiting, "ledger rows left in the journal for the next start");
        }
    }

    /// Waits for the store's answer, and watches over its trouble.
    async fn ask<T>(&self, asked: LedgerFuture<'_, T>) -> Option<T> {
        let silent = || StoreError::new(StoreErrorKind::Unavailable, "no answer in time");
        let answer = timeout(SILENCE, asked).await.unwrap_or_else(|_| Err(silent()));
        let now = Instant::now();
        match answer {
            Ok(answer) => {
                self.watch.record_success(now);
                if self.watch.trouble().is_none() {
                    self.shared.lock().standing.store_problem = None;
                }
                Some(answer)
            }
            Err(error) => {
                self.watch.record_failure(error.kind(), &error, now);
                self.shared.lock().standing.store_problem = Some(error.to_string());
                None
            }
        }
    }

    /// Logs rows that were lost since the last look.
    fn tell_losses(&self) {
        let rows = self.shared.lock().new_losses();
        if rows > 0 {
            tracing::error!(rows, "ledger rows lost: journal and memory had no room");
        }
    }

    /// Stores the rows of dead processes, one journal after the other.
    pub(crate) async fn replay(self: Arc<Self>, replays: Vec<Replay>) {
        for replay in replays {
            tokio::select! {
                () = self.replay_one(replay) => {}
                // Its files stay for the next start.
                () = self.shared.wait_until(|state| state.is_closed()) => return,
            }
            self.shared.update(|state| state.standing.replays -= 1);
        }
    }

    async fn replay_one(&self, mut replay: Replay) {
        let (mut backoff, mut count, mut counted) = (Backoff::new(), 0, 0);
        loop {
            let read = tokio::task::spawn_blocking(move || (replay.next_rows(BATCH), replay));
            let Ok((rows, back)) = read.await else { return };
            replay = back;
            let rows = match rows {
                Ok(rows) => rows,
                Err(problem) => {
                    tracing::error!(%problem, "journal of a dead process not read; it stays for the next start");
                    return;
                }
            };
            if rows.is_empty() {
                break;
            }
            count += rows.len();
            while {
                let stored = self.ask(self.store.append(&rows)).await;
                counted += stored.unwrap_or_default();
                stored.is_none()
            } {
                tokio::select! {
                    () = sleep(backoff.next()) => {}
                    () = self.shared.retry.notified() => {}
                }
            }
            backoff = Backoff::new();
        }
        let damaged = replay.damaged;
        self.shared.lock().standing.damaged += damaged;
        if count > 0 || damaged > 0 {
            tracing::info!(rows = count, new = counted, damaged, "journal of a dead process replayed");
        }
        if let Err(problem) = replay.remove() {
            tracing::warn!(%problem, "journal of a dead process not deleted");
        }
    }

    /// Deletes old rows from the store, once an hour.
    pub(crate) async fn sweep(self: Arc<Self>) {
        let keep = self.shared.settings.keep;
        let sweeping = async {
            loop {
                sleep(SWEEP).await;
                // Its failure is no trouble of the rows that come.
                match self.store.sweep(keep).await {
                    Ok(0) => {}
                    Ok(rows) => tracing::info!(rows, "old ledger rows deleted"),
                    Err(problem) => tracing::debug!(%problem, "old ledger rows not deleted"),
                }
            }
        };
        tokio::select! {
            () = sweeping => {}
            () = self.shared.wait_until(|state| state.is_closed()) => {}
        }
    }
}

type Place = (u64, Option<u64>);

fn apart(batch: Vec<Waiting>) -> (Vec<Place>, Vec<LedgerRow>) {
    batch.into_iter().map(|Waiting { ordinal, segment, row }| ((ordinal, segment), row)).unzip()
}

fn together(places: Vec<Place>, rows: Vec<LedgerRow>) -> Vec<Waiting> {
    let both = places.into_iter().zip(rows);
    both.map(|((ordinal, segment), row)| Waiting { ordinal, segment, row }).collect()
}
