//! The ids of objects, and whose they are.
//!
//! Providers keep files, containers, conversations, responses and more under ids, and look each up under the account's
//! key: whoever names an id gets the object. So an id belongs to the key that made it, wherever it stands: in a path, a
//! query, a body or a form, for an object or in a conversation.
//!
//! - **A request** names ids ([`Names`]), and [`Ownership::check`] refuses those that are not its key's. An id that
//!   nobody has and one of another key's get the same words and take the same time. No provider is asked.
//! - **An answer** gives ids: of a new file, of a container that code ran in, of a response and its items. They are the
//!   caller's from then on ([`AnswerIds`], [`Ownership::give`]), before the caller reads them. An id keeps its first
//!   owner, so that nobody gets one by making a provider repeat it.
//! - **Responses and their items** are so many that their places end with the time for which OpenAI keeps them
//!   ([`RESPONSE_TIME`]). The ids of files and the like stay.
//!
//! Nothing of this is done where a gateway has no keys, or for a key that sees all (`admin: true`, `objects: all`).

mod answers;
mod names;
mod scan;
mod unknown;

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use steadfast::{Dialect, ErrorKind, LlmError, store::GuardError};
use steadfast_stack::ObjectPlaces;
use steadfast_stores::places::Place;

pub(crate) use self::{
    answers::{AnswerIds, NotedBody},
    names::{Names, Scope, is_id},
    unknown::{not_found, unknown, unknown_item, unknown_response},
};
use super::{Catalog, GatewayState, keys::Key};

/// The time for which a response and its items have a place. OpenAI keeps them for 30 days
/// (<https://platform.openai.com/docs/guides/your-data>).
const RESPONSE_TIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A caller that sees its own objects only, and the places of all.
#[derive(Clone)]
pub(crate) struct Ownership {
    places: ObjectPlaces,
    owner: Arc<str>,
}

impl GatewayState {
    /// Returns the ownership of a caller; `None` for one that may name any id.
    pub(crate) fn ownership(&self, key: Option<&Arc<Key>>) -> Option<Ownership> {
        let key = key.filter(|key| key.owns_objects())?;
        let places = match &self.catalog {
            Catalog::Stack(stack) => stack.object_places(),
            Catalog::Listed(_) => self.places.clone(),
        };
        Some(Ownership { places, owner: key.name.clone() })
    }
}

impl Ownership {
    pub(crate) fn owner(&self) -> &Arc<str> {
        &self.owner
    }

    /// Checks that all of these ids are the caller's, and returns their places.
    ///
    /// # Errors
    ///
    /// An id is another caller's or nobody's, or the store cannot be read.
    pub(crate) async fn check(&self, ids: &BTreeSet<String>, dialect: Dialect) -> Result<Vec<Place>, LlmError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<String> = ids.iter().cloned().collect();
        let own = self.places.find_own(&self.owner, &ids).await.map_err(store_failure)?;
        let known: HashSet<&str> = own.iter().map(|place| place.id.as_str()).collect();
        match ids.iter().find(|id| !known.contains(id.as_str())) {
            Some(id) => Err(unknown(id, dialect)),
            None => Ok(own),
        }
    }

    /// Returns those of these ids that are the caller's.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub(crate) async fn own(&self, ids: Vec<String>) -> Result<HashSet<String>, LlmError> {
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        let own = self.places.find_own(&self.owner, &ids).await.map_err(store_failure)?;
        Ok(own.into_iter().map(|place| place.id).collect())
    }

    /// Makes ids of a tier's answer the caller's, unless they are another's. Memory has them when this returns, and the
    /// future writes them into the durable store.
    pub(crate) fn give(
        &self,
        ids: BTreeSet<String>,
        scope: Scope,
        tier: &str,
        is_lasting: bool,
    ) -> impl Future<Output = ()> + Send + use<> {
        let place = |id: String| Place { id, owner: self.owner.to_string(), tier: tier.to_owned() };
        let (passing, objects): (Vec<Place>, Vec<Place>) =
            ids.into_iter().map(place).partition(|place| is_passing(scope, &place.id));
        let objects = self.places.remember(objects, None);
        let mut passing = self.places.remember(passing, Some(RESPONSE_TIME));
        if !is_lasting {
            passing.clear();
        }
        let places = self.places.clone();
        async move {
            let stored = places.store(objects, None).await;
            if let Err(error) = stored.and(places.store(passing, Some(RESPONSE_TIME)).await) {
                // The object is there, and its place in memory.
                tracing::warn!(?error, "place of an object not stored");
            }
        }
    }
}

/// Returns true for the id of a response, or of an item of one: neither a file nor any other object.
fn is_passing(scope: Scope, id: &str) -> bool {
    const OBJECTS: [&str; 8] = ["file", "cfile_", "assistant-", "vs_", "cntr_", "container_", "conv_", "skill_"];
    matches!(scope, Scope::Conversation(_)) && !OBJECTS.iter().any(|beginning| id.starts_with(beginning))
}

/// Returns the error of a store that cannot be read: the same request may work later.
pub(crate) fn store_failure(_: GuardError) -> LlmError {
    const RETRY_AFTER: Duration = Duration::from_secs(1);
    let message = "the store did not answer, so that nobody knows whose the object is; repeat the request";
    LlmError::new(ErrorKind::Store, message).with_retry_after(RETRY_AFTER)
}
