//! What stores have in common: their errors, and how one in trouble is kept out of the way.
//!
//! Each need has a trait of its own beside what needs it: [`IdempotencyStore`](crate::layers::idempotency::IdempotencyStore),
//! [`AnswerStore`](crate::layers::cache::AnswerStore) and [`TaskStore`](crate::handoff::TaskStore). The servers and files that
//! stand behind them are [`stores`](crate::stores).

mod error;
#[cfg(any(feature = "idempotency", feature = "redis"))]
pub(crate) mod guard;
#[cfg(any(feature = "handoff", feature = "idempotency", feature = "redis"))]
pub(crate) mod trouble;

pub use self::error::{StoreError, StoreErrorKind};
#[cfg(any(feature = "handoff", feature = "idempotency", feature = "redis"))]
pub use self::trouble::StoreTrouble;
