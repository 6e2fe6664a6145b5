use std::{fmt, future::Future, pin::Pin, time::Duration};

use super::{
    grant::GrantTurn,
    row::{LedgerRow, RowCursor},
    spend::{Spend, SpendQuery},
};
use steadfast::store::StoreError;

/// The future of a store's operation.
pub type LedgerFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A store of rows, and of their hourly roll-up.
///
/// Every method may be called again after a failure. Stores keep rows as [`LedgerRow::normalized`] returns them.
pub trait LedgerStore: fmt::Debug + Send + Sync + 'static {
    /// Stores rows and adds them to the roll-up, in one transaction. Returns the number of new rows.
    ///
    /// A row whose id is there already is neither written nor counted again. An id is known as long as its row is.
    fn append<'a>(&'a self, rows: &'a [LedgerRow]) -> LedgerFuture<'a, u64>;

    /// Returns the spend of whole hours out of the roll-up, in the order of the groups.
    fn spend<'a>(&'a self, query: &'a SpendQuery) -> LedgerFuture<'a, Vec<Spend>>;

    /// Returns rows whose time is at least `from` and before `to`, since 1970, in the order of time and ids.
    ///
    /// A page begins behind the row at `after`, and has at most `limit` rows.
    fn rows(
        &self,
        from: Duration,
        to: Duration,
        after: Option<RowCursor>,
        limit: usize,
    ) -> LedgerFuture<'_, Vec<LedgerRow>>;

    /// Deletes rows that are older than this by the wall clock, in short steps. Returns their number.
    ///
    /// The roll-up stays for ever.
    fn sweep(&self, keep: Duration) -> LedgerFuture<'_, u64>;

    /// Replaces the grants of a replica, in one transaction that no other turn overlaps.
    ///
    /// It removes grants that no longer last by the store's clock, and those of this replica. Then it reads the
    /// others', answers the questions, and writes the replica's choice. The order matters: a replica stores rows before
    /// it gives up the grant that they were spent from, so that an amount is in a grant or in a sum.
    fn grant(&self, turn: GrantTurn) -> LedgerFuture<'_, ()>;
}
