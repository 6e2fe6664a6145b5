//! The parts that all stores share: their errors, and the guard that keeps a store in trouble out of the way.
//!
//! Each need has a trait of its own beside what needs it:
//! `IdempotencyStore`,
//! `AnswerStore` and `steadfast_handoff::TaskStore`. The package
//! `steadfast-stores` has the servers and files that stand behind them.

mod error;
mod guard;
mod trouble;

#[doc(hidden)]
pub use self::guard::kind_of;
pub use self::{
    error::{StoreError, StoreErrorKind},
    guard::{GuardError, StoreGuard},
    trouble::{StoreTrouble, StoreWatch},
};
