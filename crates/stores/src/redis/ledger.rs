//! The ledger of the records that Redis should have.

/// The known records: the time of the first, and their number.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) epoch: String,
    pub(super) count: u64,
    pub(super) lost: bool,
}
