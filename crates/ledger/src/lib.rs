//! A ledger of money: every settled cost of a call to a language model is a row, never lost and never counted twice.
//!
//! # When to use it, and when not
//!
//! Use it where spend must outlive the process or be told apart by key, team, feature and model. Do not use it to
//! refuse requests: the [`Budget`](steadfast::Budget) does so, by counts that a request can read at once.
//!
//! # A row's life
//!
//! [`Ledger::begin`] writes a request down with an estimate of its cost, [`Entry::end`] settles it. Both append a line
//! to the journal, a file in a folder of its own, before they return. A task then stores settled rows, at most a second
//! later, in batches. A row's id makes each step repeatable: a [`LedgerStore`] never counts an id twice.
//!
//! # Crashes
//!
//! The journal calls no fsync. A kill of the process (`kill -9`) loses no record: the system has each line. A crash of
//! the machine may lose about the last second. While a disk takes more than 20 ms for a line, a thread of the journal's
//! own writes in the place of the requests' threads, and a kill may lose what it has not written. A process that starts
//! replays the journals that dead processes left in the same folder. A request that was in flight is then counted by
//! its estimate, and marked with [`LedgerRow::is_estimate`].
//!
//! A folder serves any number of processes of one machine: each locks its own files. A network file system may have no
//! such locks; use a local disk.
//!
//! # Outages
//!
//! Rows wait while the store is away, in memory and in the journal; above [`LedgerSettings::memory_rows`] in the
//! journal alone. A journal above [`LedgerSettings::journal_bytes`] gets no further line, and rows wait in memory.
//! Rows without room there either are lost, counted in [`Standing::lost`] and logged. No request waits for any of it.
//!
//! # Sums
//!
//! A store adds each new row to a roll-up by hours, in the transaction that writes the row. [`LedgerStore::spend`]
//! reads the roll-up, which stays for ever. Rows are deleted after [`LedgerSettings::keep`]. Amounts are integers of
//! billionths of a dollar, and sums saturate.
//!
//! # Grants
//!
//! Replicas that share a store keep one cap together by [`Grant`]s: each takes an even part of what is left, and asks
//! the store again every second, never for a request. See [`Ledger::take_grants`].

mod grant;
mod id;
mod journal;
mod ledger;
mod memory;
mod row;
mod settings;
mod spend;
mod standing;
mod store;
mod writer;

pub use self::{
    grant::{Grant, GrantChoice, GrantRequest, GrantTurn, GrantView},
    id::{InvalidRowId, RowId},
    ledger::{Entry, Ledger},
    memory::MemoryLedger,
    row::{LARGEST, LedgerRow, RowCursor, RowKind, TEXT_BYTES},
    settings::LedgerSettings,
    spend::{Spend, SpendColumn, SpendGroup, SpendQuery, day_start, hour_of_millis, hour_start, sum_by_group},
    standing::Standing,
    store::{LedgerFuture, LedgerStore},
};

/// The README's code runs too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
