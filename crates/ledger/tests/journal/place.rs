//! Folders and stores for the tests.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use steadfast::{
    chat::Usage,
    prices::Usd,
    store::{StoreError, StoreErrorKind},
};
use steadfast_ledger::{
    GrantTurn, Ledger, LedgerFuture, LedgerRow, LedgerSettings, LedgerStore, MemoryLedger, RowCursor, RowId, Spend,
    SpendQuery,
};

/// A test's own folder, deleted with this.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("steadfast-ledger-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the names and the contents of its files.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(&self.0).unwrap().map(Result::unwrap);
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        // A file may be deleted meanwhile: then the store has its rows.
        entries.filter_map(|entry| Some((name(&entry.path()), fs::read(entry.path()).ok()?))).collect()
    }

    /// Makes a folder as a kill of the process at this moment leaves it.
    pub(crate) fn killed(&self, test: &str) -> Self {
        Self::with(test, &self.files())
    }

    pub(crate) fn with(test: &str, files: &BTreeMap<String, Vec<u8>>) -> Self {
        let folder = Self::new(test);
        for (name, content) in files {
            fs::write(folder.0.join(name), content).unwrap();
        }
        folder
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A store that fails on demand. Clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flaky {
    pub(crate) inner: MemoryLedger,
    away: Arc<AtomicBool>,
    /// Every so many calls, a call does its work and its answer is lost; zero: never.
    lost_answers: Arc<AtomicU64>,
    pub(crate) calls: Arc<AtomicU64>,
}

impl Flaky {
    pub(crate) fn over(inner: MemoryLedger) -> Self {
        Self { inner, ..Self::default() }
    }

    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, SeqCst);
    }

    pub(crate) fn set_lost_answers(&self, every: u64) {
        self.lost_answers.store(every, SeqCst);
    }
}

impl LedgerStore for Flaky {
    fn append<'a>(&'a self, rows: &'a [LedgerRow]) -> LedgerFuture<'a, u64> {
        Box::pin(async move {
            let failed = || StoreError::new(StoreErrorKind::Unavailable, "a test");
            let call = 1 + self.calls.fetch_add(1, SeqCst);
            if self.away.load(SeqCst) {
                return Err(failed());
            }
            let stored = self.inner.append(rows).await;
            match self.lost_answers.load(SeqCst) {
                every if every > 0 && call.is_multiple_of(every) => Err(failed()),
                _ => stored,
            }
        })
    }

    fn spend<'a>(&'a self, query: &'a SpendQuery) -> LedgerFuture<'a, Vec<Spend>> {
        self.inner.spend(query)
    }

    fn rows(
        &self,
        from: Duration,
        to: Duration,
        after: Option<RowCursor>,
        limit: usize,
    ) -> LedgerFuture<'_, Vec<LedgerRow>> {
        self.inner.rows(from, to, after, limit)
    }

    fn sweep(&self, keep: Duration) -> LedgerFuture<'_, u64> {
        self.inner.sweep(keep)
    }

    fn grant(&self, turn: GrantTurn) -> LedgerFuture<'_, ()> {
        self.inner.grant(turn)
    }
}

/// Settings under which no row is too old: the paused clock runs far ahead of the wall clock.
pub(crate) fn settings() -> LedgerSettings {
    LedgerSettings::new().keep(Duration::MAX)
}

pub(crate) fn open(store: &Flaky, folder: &Folder) -> Ledger {
    Ledger::open(Arc::new(store.clone()), Some(folder.path()), settings()).unwrap()
}

/// A row of this amount.
pub(crate) fn row(nanos: u64) -> LedgerRow {
    LedgerRow {
        key: Some("ada".into()),
        served_model: Some("m".into()),
        usage: Usage::new(nanos, 1),
        list: Some(Usd::from_nanos(nanos)),
        ..LedgerRow::default()
    }
}

/// All rows of a store by their ids: the amount, and true for an estimate.
pub(crate) async fn found(store: &MemoryLedger) -> BTreeMap<RowId, (u64, bool)> {
    let rows = store.rows(Duration::ZERO, Duration::MAX, None, usize::MAX).await.unwrap();
    let found = |row: LedgerRow| (row.id, (row.cost().unwrap().nanos(), row.is_estimate));
    rows.into_iter().map(found).collect()
}

/// The sum of the roll-up, which must be that of the rows.
pub(crate) async fn sum(store: &MemoryLedger) -> Spend {
    let spend = store.spend(&SpendQuery::new(Duration::ZERO, Duration::MAX)).await.unwrap();
    let sum = spend.into_iter().next().unwrap_or_default();
    let rows = found(store).await;
    assert_eq!(sum.rows, rows.len() as u64);
    assert_eq!(sum.cost.nanos(), rows.values().map(|(nanos, _)| nanos).sum::<u64>());
    assert_eq!(sum.estimates, rows.values().filter(|(_, is_estimate)| *is_estimate).count() as u64);
    sum
}

/// Waits for other threads, which the paused clock does not see.
pub(crate) async fn until(mut is_true: impl AsyncFnMut() -> bool) {
    while !is_true().await {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
