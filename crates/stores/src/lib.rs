//! The servers and files that hold state which outlives a process, or is shared by several.
//!
//! SQLite, PostgreSQL and Redis; and `replicas`, by which the processes of a stack share what they know, with a
//! `ReplicaStore` of its own.
//!
//! # Design
//!
//! Each store has a file for each trait, and `tests/stores/contract/` is one suite that runs on all of them.
//!
//! SQLite is one connection on one thread (`sqlite/thread.rs`), which takes jobs from a bounded channel. Nothing blocks
//! the runtime, and a write that has returned is on the disk (WAL, `synchronous=FULL`). Processes of one machine share
//! the file. A claim is one statement (`REPLACE ... WHERE NOT EXISTS ... RETURNING`), and its ticket an
//! `AUTOINCREMENT`, which SQLite never gives twice. A file of another program or of a later version stays untouched
//! (`application_id`, `user_version`).
//!
//! PostgreSQL is a pool. Migrations run under an advisory lock, the server's clock measures all spans, and a claim is
//! one `INSERT ... ON CONFLICT ... WHERE ... RETURNING`. A request that waits for another process's call looks again,
//! from 10 up to 160 ms: a `NOTIFY` would lock the whole database at each answer.
//!
//! Kept responses (`responses`) are a chain of rows, which one recursive query reads from the last one back. A row is
//! written whole in one transaction, which also extends the time of its predecessors: a conversation expires as one.
//!
//! The registry of keys and of orders by hand (`registry`) is a table of entries and a log of changes. A change names
//! the revision that it replaces, and orders come one after the other, so that a replica asks for the changes after the
//! last one.
//!
//! The providers' keys that have worked (`worked_keys`) are a table of names and times. No log has its changes: they
//! are facts, and nobody's orders.
//!
//! The ledger is two tables: its rows, and their sums by hours. One transaction writes a batch to both. A row whose id
//! is there already goes to neither.
//!
//! A store belongs to the deployment that has opened it first under a name (`owner.rs`), so that two deployments do not
//! share keys, orders and caps by mistake.
//!
//! Best-effort work goes through one guard (`store/guard.rs` of `core`). It bounds each question. After three failures
//! or one silence it leaves the store alone, and one question at a time tries whether the store is back, after 1 s, 2 s
//! and so on up to 30 s. Meanwhile each process knows its own idempotency keys, in the memory that the layer has
//! anyway. Trouble with a store is watched by purpose (`store/trouble.rs`), and reported once when it begins and once
//! when it is over.

#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod ledger_columns;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod owner;
pub mod places;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod poll;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod quota;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod record;
#[cfg(feature = "redis")]
pub mod redis;
pub mod registry;
pub mod replicas;
pub mod responses;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(all(test, any(feature = "postgres", feature = "sqlite")))]
pub(crate) mod testing;
#[cfg(all(test, any(feature = "postgres", feature = "sqlite")))]
mod testing_keys;
pub mod worked_keys;

#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use self::owner::StoreOwner;

/// The README's code runs too.
#[cfg(all(doctest, feature = "sqlite"))]
#[doc = include_str!("../README.md")]
struct Readme;
