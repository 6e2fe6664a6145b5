//! The providers' keys that have worked, so that a restart and other replicas know it.
//!
//! A name stands for a circuit with the account behind it, and tells no key. An entry has the time of its last success,
//! to the day, and is forgotten 90 days after it.

mod memory;

use std::{fmt, sync::Arc, time::Duration};

pub use self::memory::MemoryWorkedKeys;
pub use crate::responses::StoreFuture;

/// A key that has worked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkedKey {
    /// Its name, which the store does not read.
    pub name: Arc<str>,
    /// The time since its last success.
    pub ago: Duration,
}

/// A store of the keys that have worked. Every method may be called again after a failure.
pub trait WorkedKeyStore: fmt::Debug + Send + Sync + 'static {
    /// Returns those of these names that have worked within [`KEEP`], in no order.
    fn find(&self, names: Vec<Arc<str>>) -> StoreFuture<'_, Vec<WorkedKey>>;

    /// Stores that these have worked. An entry that is less than [`REFRESH`] older stays as it is, and one older than
    /// [`KEEP`] goes.
    fn note(&self, worked: Vec<WorkedKey>) -> StoreFuture<'_, ()>;
}

/// The time after which a key that has not worked since is forgotten: 90 days.
pub const KEEP: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// The least time between two changes of an entry: a day.
pub const REFRESH: Duration = Duration::from_secs(24 * 60 * 60);
