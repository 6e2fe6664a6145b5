use tokio::time::Instant;

/// The state of a [`Ledger`](crate::Ledger), for readiness, metrics and logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// The number of settled rows that are not in the store yet.
    pub waiting: u64,
    /// The number of requests that have begun and not ended.
    pub open: u64,
    /// The size of this process's journal in bytes.
    pub journal_bytes: u64,
    /// The trouble of the journal: it is full, or its disk is. Rows wait in memory meanwhile, and a kill loses them.
    pub journal_problem: Option<String>,
    /// The time since which the store fails.
    pub away_since: Option<Instant>,
    /// The store's latest failure, as long as it fails.
    pub store_problem: Option<String>,
    /// The number of rows that were dropped, because neither the journal nor the memory had room.
    pub lost: u64,
    /// The number of lines that could not be read in journals of dead processes, and in this one's own.
    pub damaged: u64,
    /// The number of journals of dead processes whose rows are not in the store yet.
    pub replays: u64,
}

impl Standing {
    /// Returns true if a row that is settled now outlives the process, and the store is there.
    pub fn is_well(&self) -> bool {
        self.away_since.is_none() && self.journal_problem.is_none()
    }
}
