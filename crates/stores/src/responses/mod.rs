//! Responses that a server keeps for its callers, so that a later request can continue them by an id.
//!
//! A response is kept with the items of its own request and the id of its predecessor. A [path](ResponseStore::path) is
//! a conversation: a response and all of its predecessors. Each response belongs to one owner, and no call returns
//! another owner's. The text of items and responses is the caller's JSON, which a store never reads.
//!
//! A response may be stored before it is there: a process [begins](ResponseStore::begin) it with a lease, which it
//! [renews](ResponseStore::renew) until the response's [end](ResponseStore::end). The first end stands.

mod memory;

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

pub use self::memory::MemoryResponses;
use steadfast::{layers::cache::AnswerOwner, store::StoreError};

/// The future of a store's operation.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A response that a server keeps.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredResponse {
    /// The server's own id of the response.
    pub id: String,
    /// The caller's name: the name of its key, or an empty one where callers need no key.
    pub owner: String,
    /// The caller's session.
    pub session: Option<String>,
    /// The id of the response that this one continues.
    pub previous: Option<String>,
    /// The provider's account that keeps the same conversation.
    pub origin: Option<ResponseOrigin>,
    /// The items of the request, as a JSON list.
    pub input: String,
    /// The response as the caller received it, as a JSON object.
    pub response: String,
    /// The ids of its items, of the request and of the answer.
    pub items: Vec<String>,
    /// How far the response has come, as the store tells it. What is stored does not say it.
    pub state: ResponseState,
}

/// How far a response has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseState {
    /// It has ended.
    #[default]
    Ended,
    /// A process makes it.
    Running,
    /// The process that made it has stopped before its end.
    Lost,
}

/// The place of a response at its provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseOrigin {
    /// A fingerprint of the provider's account.
    pub account: String,
    /// The provider's own id of the response.
    pub id: String,
}

/// The limits of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathLimits {
    /// The largest number of responses.
    pub responses: usize,
    /// The largest number of bytes.
    pub bytes: usize,
}

/// A conversation, or the reason for which there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponsePath {
    /// The responses, the first one first.
    Whole(Vec<StoredResponse>),
    /// The response, or one of its predecessors, is unknown, expired, deleted or another owner's.
    Unknown,
    /// It is over a limit.
    TooLong,
}

/// A store of responses.
///
/// Every method may be called again after a failure.
pub trait ResponseStore: fmt::Debug + Send + Sync + 'static {
    /// Stores a response, whole or not at all, and keeps its predecessors as long as it.
    fn put(&self, response: StoredResponse, keep: Duration) -> StoreFuture<'_, ()>;

    /// Stores a response that this process begins to make, as [`put`](Self::put) does. It is lost unless the process
    /// says within `lease` that it lives.
    fn begin(&self, response: StoredResponse, keep: Duration, lease: Duration) -> StoreFuture<'_, ()>;

    /// Renews the lease of a response of this owner. Returns false if it does not run any more.
    fn renew<'a>(&'a self, owner: &'a str, id: &'a str, lease: Duration) -> StoreFuture<'a, bool>;

    /// Ends a response that runs or is lost: stores its answer and its origin, and adds its items. Returns false, and
    /// changes nothing, if it has ended or is deleted.
    fn end(&self, response: StoredResponse, keep: Duration) -> StoreFuture<'_, bool>;

    /// Returns a response of this owner.
    fn get<'a>(&'a self, owner: &'a str, id: &'a str) -> StoreFuture<'a, Option<StoredResponse>>;

    /// Returns a response of this owner with all of its predecessors.
    fn path<'a>(&'a self, owner: &'a str, id: &'a str, limits: PathLimits) -> StoreFuture<'a, ResponsePath>;

    /// Returns the latest response of this owner that has an item with this id.
    fn with_item<'a>(&'a self, owner: &'a str, item: &'a str) -> StoreFuture<'a, Option<StoredResponse>>;

    /// Deletes a response of this owner. Returns false if there is none.
    fn delete<'a>(&'a self, owner: &'a str, id: &'a str) -> StoreFuture<'a, bool>;

    /// Deletes all responses of a caller or a session. Returns their number.
    fn forget_owner<'a>(&'a self, owner: &'a AnswerOwner) -> StoreFuture<'a, u64>;

    /// Deletes expired responses, and of each owner the oldest beyond this many bytes.
    fn sweep(&self, bytes_per_owner: u64) -> StoreFuture<'_, ()>;
}

impl ResponseState {
    /// Returns the state of a response with this lease: whether it still holds, if it has one.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn of_lease(holds: Option<bool>) -> Self {
        match holds {
            None => Self::Ended,
            Some(true) => Self::Running,
            Some(false) => Self::Lost,
        }
    }
}

impl StoredResponse {
    /// Returns the approximate number of bytes that it takes in a store.
    pub fn size(&self) -> usize {
        self.input.len() + self.response.len() + self.items.len() * ITEM + RECORD
    }

    /// Returns true if the record belongs to this caller or session.
    #[must_use]
    pub fn is_of(&self, owner: &AnswerOwner) -> bool {
        let matches =
            |wanted: &Option<Arc<str>>, own: Option<&str>| wanted.as_deref().is_none_or(|name| own == Some(name));
        (owner.tenant.is_some() || owner.session.is_some())
            && matches(&owner.tenant, Some(&self.owner))
            && matches(&owner.session, self.session.as_deref())
    }
}

/// The approximate size of a record without its texts.
const RECORD: usize = 512;
/// The approximate size of an item's entry.
const ITEM: usize = 192;

impl ResponsePath {
    /// Puts a chain of responses in order, of which the last one comes first. Each has the bytes that it takes.
    pub(crate) fn of_chain(chain: Vec<(StoredResponse, usize)>, limits: PathLimits) -> Self {
        let bytes: usize = chain.iter().map(|(_, bytes)| bytes).sum();
        let is_whole = match chain.last() {
            None => return Self::Unknown,
            Some((first, _)) => first.previous.is_none(),
        };
        // A chain is cut off at a limit, or where a predecessor is not there.
        match is_whole {
            true if bytes <= limits.bytes => {
                Self::Whole(chain.into_iter().rev().map(|(response, _)| response).collect())
            }
            false if bytes < limits.bytes && chain.len() < limits.responses => Self::Unknown,
            _ => Self::TooLong,
        }
    }
}

/// Returns a span by which predecessors are kept longer than needed, so that not every turn must write them again.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) fn slack(keep: Duration) -> Duration {
    keep / 30
}

impl fmt::Debug for StoredResponse {
    /// Writes nothing of the conversation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredResponse").field("id", &self.id).field("owner", &self.owner).finish_non_exhaustive()
    }
}
