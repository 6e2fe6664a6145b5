//! The write-ahead journal: a file of JSON lines in which requests begin and end before a store knows of them.
//!
//! A journal is a chain of segments, `ledger-<writer>-<number>.jsonl`, each with an exclusive lock as long as its
//! process lives. [`thread`] appends, [`replay`] reads what dead processes have left.

pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod segment;
pub(crate) mod shared;
pub(crate) mod thread;
