use std::{
    fmt, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    grant::{GrantChoice, GrantTurn},
    id::RowId,
    journal::shared::{Item, Shared},
    journal::{
        replay,
        thread::{self, Journal, create_folder},
    },
    row::{LedgerRow, RowKind},
    settings::LedgerSettings,
    spend::SpendQuery,
    standing::Standing,
    store::LedgerStore,
    writer::Writer,
};
use steadfast::{
    Events,
    store::{StoreError, StoreErrorKind, StoreTrouble, StoreWatch},
};
use steadfast_internal::wall_clock;

/// The way of rows into a store. See the [package's page](crate).
///
/// Clones share one journal and one task. With the last of them, and of the entries that they began, the task stores
/// what waits and ends.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    id: u128,
    sequence: AtomicU64,
    shared: Arc<Shared>,
    writer: Arc<Writer>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Ledger {
    /// Opens the ledger over a store, with its journal in this folder, and begins to replay what dead processes left.
    ///
    /// It creates the folder if necessary. Without a folder a kill of the process loses what is not in the store yet:
    /// up to a second's rows, and the requests in flight.
    ///
    /// # Errors
    ///
    /// Returns [`Misconfigured`](StoreErrorKind::Misconfigured) if the folder cannot be read, written or locked;
    /// [`Unavailable`](StoreErrorKind::Unavailable) if the system has no random numbers or no thread.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn open(
        store: Arc<dyn LedgerStore>,
        folder: Option<&Path>,
        settings: LedgerSettings,
    ) -> Result<Self, StoreError> {
        let settings = settings.memory_rows(settings.memory_rows.max(1));
        let unavailable = |what: &'static str| StoreError::new(StoreErrorKind::Unavailable, what);
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|_| unavailable("the system has no random numbers"))?;
        let id = u128::from_be_bytes(bytes);
        let (journal, replays) = match folder {
            None => (None, Vec::new()),
            Some(folder) => {
                let failed = |cause: io::Error| {
                    let what = format!("the ledger's journal in {}", folder.display());
                    StoreError::new(StoreErrorKind::Misconfigured, what).with_source(cause)
                };
                create_folder(folder).map_err(failed)?;
                let journal = Journal::create(folder, id, settings.journal_bytes).map_err(failed)?;
                (Some(journal), replay::find(folder).map_err(failed)?)
            }
        };
        let shared = Arc::new(Shared::new(settings, journal, replays.len()));
        let watch = StoreWatch::new("ledger");
        thread::spawn(shared.clone())
            .map_err(|cause| unavailable("the thread of the ledger's journal").with_source(cause))?;
        let writer = Arc::new(Writer { shared: shared.clone(), store, watch });
        tokio::spawn(writer.clone().run());
        tokio::spawn(writer.clone().sweep());
        if !replays.is_empty() {
            tokio::spawn(writer.clone().replay(replays));
        }
        Ok(Self { inner: Arc::new(Inner { id, sequence: AtomicU64::new(0), shared, writer }) })
    }

    /// Begins a request. The row has what is known, and in [`list`](LedgerRow::list) an estimate of its cost.
    ///
    /// The ledger gives the row its id, and the time of now if it has none. The call writes a line that the system
    /// keeps, and waits for no disk.
    pub fn begin(&self, row: LedgerRow) -> Entry {
        let row = Arc::new(self.stamp(row, RowId { writer: self.inner.id, sequence: self.next() }));
        self.inner.shared.push(Item::Begun(row.clone()));
        Entry { ledger: self.clone(), row, is_ended: false }
    }

    /// Settles a row without a beginning, such as that of a kept answer.
    ///
    /// The ledger gives it its id, and the time of now if it has none.
    pub fn record(&self, row: LedgerRow) {
        let row = self.stamp(row, RowId { writer: self.inner.id, sequence: self.next() });
        self.inner.shared.push(Item::Recorded(row));
    }

    /// Waits until the store has every row that was settled before the call, and all that dead processes left.
    ///
    /// A store that is away is tried again at once. The wait has no limit of its own: bound it by a timeout.
    ///
    /// # Cancel safety
    ///
    /// The rows are stored all the same if the future is dropped.
    pub async fn flush(&self) {
        let Inner { shared, .. } = &*self.inner;
        let flush = Flush::begin(shared);
        let latest = shared.lock().latest();
        shared.wait_until(|state| state.is_stored(latest) && state.standing.replays == 0).await;
        drop(flush);
    }

    /// Waits until the journal has everything that was begun and settled before the call.
    ///
    /// # Cancel safety
    ///
    /// The journal is written all the same if the future is dropped.
    pub async fn write(&self) {
        let latest = self.inner.shared.lock().latest();
        self.inner.shared.wait_until(|state| state.is_passed(latest)).await;
    }

    /// Replaces this process's grants by its choice, from the others' grants and the answers to these questions.
    ///
    /// The grants last for [`GRANT_TIME`](Self::GRANT_TIME) by the store's clock. The choice runs within the store's
    /// transaction, at most once: it must not block. A grant that is lowered must bind this process from then on, and
    /// one that is raised only once the call returns.
    ///
    /// # Errors
    ///
    /// The store failed. It may have the new grants all the same.
    pub async fn take_grants(&self, queries: Vec<SpendQuery>, choice: GrantChoice) -> Result<(), StoreError> {
        let replica = format!("{:032x}", self.inner.id).into();
        let turn = GrantTurn { replica, lasts: Self::GRANT_TIME, queries, choice };
        self.inner.writer.store.grant(turn).await
    }

    /// The time for which grants last that are not taken again: the others then have the rest of them.
    pub const GRANT_TIME: Duration = Duration::from_secs(5);

    /// Returns the state of the store, the journal, and of rows that wait.
    pub fn standing(&self) -> Standing {
        let away_since = self.inner.writer.watch.trouble().map(|trouble| trouble.since);
        Standing { away_since, ..self.inner.shared.lock().standing.clone() }
    }

    /// Returns the trouble of the store, as long as it fails.
    pub fn trouble(&self) -> Option<StoreTrouble> {
        self.inner.writer.watch.trouble()
    }

    /// Returns the store, for questions.
    pub fn store(&self) -> &Arc<dyn LedgerStore> {
        &self.inner.writer.store
    }

    /// Sets the channel that reports the store's trouble beside the log. Only the first call takes effect.
    pub fn set_events(&self, events: &Events) {
        self.inner.writer.watch.set_events(events);
    }

    fn next(&self) -> u64 {
        self.inner.sequence.fetch_add(1, Relaxed)
    }

    fn stamp(&self, mut row: LedgerRow, id: RowId) -> LedgerRow {
        row.id = id;
        if row.at == Duration::ZERO {
            row.at = wall_clock::since_1970();
        }
        row
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("store", self.store()).finish_non_exhaustive()
    }
}

/// A flush that waits. Dropped, it hurries nobody any longer.
struct Flush<'a>(&'a Shared);

impl<'a> Flush<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.lock().begin_flush();
        shared.rows.notify_one();
        shared.retry.notify_waiters();
        Self(shared)
    }
}

impl Drop for Flush<'_> {
    fn drop(&mut self) {
        self.0.lock().end_flush();
    }
}

/// A request that has begun. Dropped without [`end`](Self::end), it is settled by its estimate, as left by the caller.
#[must_use = "dropped, it settles the request by its estimate"]
pub struct Entry {
    ledger: Ledger,
    row: Arc<LedgerRow>,
    is_ended: bool,
}

impl Entry {
    /// Returns the row as it began.
    pub fn row(&self) -> &LedgerRow {
        &self.row
    }

    /// Settles the request by this row, which gets the id of its beginning, and the time of now if it has none.
    pub fn end(mut self, row: LedgerRow) {
        self.is_ended = true;
        self.settle(row);
    }

    fn settle(&self, row: LedgerRow) {
        let row = self.ledger.stamp(row, self.row.id);
        self.ledger.inner.shared.push(Item::Ended(row));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.is_ended {
            let row = LedgerRow::clone(&self.row);
            self.settle(LedgerRow { at: Duration::ZERO, kind: RowKind::Left, is_estimate: true, ..row });
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("id", &self.row.id).finish_non_exhaustive()
    }
}
