//! The places of objects that providers keep for callers: files, batches, threads and the like.
//!
//! A provider gives each object an id, which no other provider knows. A place says which caller has made the
//! object, and which tier's provider has it.

mod memory;

use std::{fmt, time::Duration};

pub use self::memory::MemoryPlaces;
pub use crate::responses::StoreFuture;
use steadfast::layers::cache::AnswerOwner;

/// The place of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The provider's id of the object.
    pub id: String,
    /// The caller's name: the name of its key, or an empty one where callers need no key.
    pub owner: String,
    /// The name of the tier whose provider has the object.
    pub tier: String,
}

/// A store of places. Every method may be called again after a failure.
pub trait PlaceStore: fmt::Debug + Send + Sync + 'static {
    /// Stores places, for a time or for ever. An id that is known keeps its owner and its tier.
    fn put(&self, places: Vec<Place>, keep: Option<Duration>) -> StoreFuture<'_, ()>;

    /// Returns the places of those of the ids that are known.
    fn find(&self, ids: Vec<String>) -> StoreFuture<'_, Vec<Place>>;

    /// Deletes the place of an id. Returns false if there is none.
    fn delete<'a>(&'a self, id: &'a str) -> StoreFuture<'a, bool>;

    /// Deletes all places of a caller. Returns their number: none for a session, which a place does not know.
    fn forget_owner<'a>(&'a self, owner: &'a AnswerOwner) -> StoreFuture<'a, u64>;
}

/// Returns the name of a caller whose places are to be forgotten.
pub(crate) fn forgotten(owner: &AnswerOwner) -> Option<&str> {
    owner.tenant.as_deref().filter(|_| owner.session.is_none())
}
