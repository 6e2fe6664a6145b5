use std::time::Duration;

/// The settings of a [`Ledger`](crate::Ledger).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LedgerSettings {
    /// The time for which a store keeps rows. The hourly roll-up stays for ever. Default: 90 days.
    pub keep: Duration,
    /// The longest time for which a settled row waits while the store is well. Default: 1 s.
    pub flush: Duration,
    /// The largest size of the journal in bytes. Default: 256 MiB.
    pub journal_bytes: u64,
    /// The number of rows that wait in memory. Further ones wait in the journal alone. Default: 20,000.
    pub memory_rows: usize,
}

impl Default for LedgerSettings {
    fn default() -> Self {
        Self {
            keep: Duration::from_secs(90 * 24 * 60 * 60),
            flush: Duration::from_secs(1),
            journal_bytes: 256 * 1024 * 1024,
            memory_rows: 20_000,
        }
    }
}

impl LedgerSettings {
    /// Creates the default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the time for which a store keeps rows. Default: 90 days.
    ///
    /// A journal that is found later than this may be counted twice: the store knows an id as long as its row.
    #[must_use]
    pub fn keep(mut self, keep: Duration) -> Self {
        self.keep = keep;
        self
    }

    /// Sets the longest time for which a settled row waits while the store is well. Default: 1 s.
    #[must_use]
    pub fn flush(mut self, flush: Duration) -> Self {
        self.flush = flush;
        self
    }

    /// Sets the largest size of the journal in bytes. Default: 256 MiB, which is some 600,000 rows.
    #[must_use]
    pub fn journal_bytes(mut self, bytes: u64) -> Self {
        self.journal_bytes = bytes;
        self
    }

    /// Sets the number of rows that wait in memory. Default: 20,000.
    ///
    /// Further rows wait in the journal alone. Without a journal, or with a full one, they are lost and counted.
    #[must_use]
    pub fn memory_rows(mut self, rows: usize) -> Self {
        self.memory_rows = rows;
        self
    }
}
