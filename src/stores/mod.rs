//! The servers and files that hold state which outlives a process, or is shared by several.
//!
//! SQLite, PostgreSQL and Redis; and `replicas`, by which the processes of a stack share what they know, with a `ReplicaStore`
//! of its own.

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
