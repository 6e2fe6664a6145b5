//! State that outlives a process, or is shared by several.
//!
//! Each use has a trait beside its user: [`IdempotencyStore`](crate::layers::idempotency::IdempotencyStore),
//! [`AnswerStore`](crate::layers::cache::AnswerStore) and [`TaskStore`](crate::handoff::TaskStore). This module has the
//! servers and files that implement them, and `replicas`, through which the processes of a stack share state, with its
//! own `ReplicaStore`.

mod error;
#[cfg(any(feature = "idempotency", feature = "redis"))]
pub(crate) mod guard;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod looks;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "redis")]
pub mod replicas;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod room;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(all(test, any(feature = "postgres", feature = "sqlite")))]
pub(crate) mod testing;
#[cfg(all(test, any(feature = "postgres", feature = "sqlite")))]
mod testing_keys;
#[cfg(any(feature = "handoff", feature = "idempotency", feature = "redis"))]
pub(crate) mod trouble;

pub use self::error::{StoreError, StoreErrorKind};
#[cfg(any(feature = "handoff", feature = "idempotency", feature = "redis"))]
pub use self::trouble::StoreTrouble;
