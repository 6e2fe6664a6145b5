//! The objects that providers keep for callers, such as files and batches: their places, and requests for them.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    future::Future,
    sync::Arc,
    time::Duration,
};

use ::http::{HeaderMap, Method, Request, Response, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use super::{StackContext, StackHandle, stores::OpenStores};
use crate::Provider;
use steadfast::{
    Dialect, ErrorKind, LlmError,
    layers::cache::AnswerOwner,
    providers::transport::{ResponseBody, StreamedBody},
    store::{GuardError, StoreError, StoreGuard, StoreTrouble},
};
use steadfast_internal::codings;
use steadfast_stores::places::{MemoryPlaces, Place, PlaceStore};

/// The places of the objects that providers keep for callers. Clones share them.
///
/// They are in the durable store, if the configuration has one, and the latest also in memory. Without a durable store
/// a restart forgets them.
#[derive(Clone)]
pub struct ObjectPlaces {
    latest: MemoryPlaces,
    /// The places that are kept for a time.
    passing: MemoryPlaces,
    durable: Option<Arc<dyn PlaceStore>>,
    guard: Arc<StoreGuard>,
}

/// The time limit of each call on a request's way.
const LIMIT: Duration = Duration::from_secs(2);

/// Places in memory alone.
impl Default for ObjectPlaces {
    fn default() -> Self {
        let guard = Arc::new(StoreGuard::new("objects"));
        Self { latest: MemoryPlaces::new(), passing: MemoryPlaces::new(), durable: None, guard }
    }
}

impl ObjectPlaces {
    pub(super) fn new(stores: &OpenStores, context: &StackContext, before: Option<&Self>) -> Self {
        let before = before.cloned().unwrap_or_default();
        before.guard.set_events(&context.events);
        Self { durable: stores.durable.as_ref().map(super::stores::DurableStore::places), ..before }
    }

    /// Stores places, for a time or for ever. An id that is known keeps its owner and its tier.
    ///
    /// # Errors
    ///
    /// The durable store failed, is too slow, or is left alone. The places are in memory then.
    pub async fn put(&self, places: Vec<Place>, keep: Option<Duration>) -> Result<(), GuardError> {
        let unknown = self.remember(places, keep);
        self.store(unknown, keep).await
    }

    /// Keeps places in memory, and returns those that memory did not know, for the [store](Self::store). Those that are
    /// kept for a time have a memory of their own: they are so many that they would push out the others.
    pub fn remember(&self, places: Vec<Place>, keep: Option<Duration>) -> Vec<Place> {
        let memory = if keep.is_some() { &self.passing } else { &self.latest };
        memory.remember(places)
    }

    /// Stores places in the durable store. Those that another has there stay that one's.
    ///
    /// # Errors
    ///
    /// The same as of [`put`](Self::put).
    pub async fn store(&self, mut places: Vec<Place>, keep: Option<Duration>) -> Result<(), GuardError> {
        if places.is_empty() || self.durable.is_none() {
            return Ok(());
        }
        let ids: Vec<String> = places.iter().map(|place| place.id.clone()).collect();
        let known = self.call(|store| store.find(ids)).await.ok().flatten().unwrap_or_default();
        let owners: HashMap<&str, &str> = known.iter().map(|place| (&*place.id, &*place.owner)).collect();
        let is_anothers = |place: &&Place| owners.get(&*place.id).is_some_and(|owner| *owner != place.owner);
        for place in places.iter().filter(is_anothers) {
            let _memory_does_not_fail = self.latest.delete(&place.id).await;
            let _memory_does_not_fail = self.passing.delete(&place.id).await;
        }
        places.retain(|place| !owners.contains_key(&*place.id));
        if !places.is_empty() {
            self.call(|store| store.put(places, keep)).await?;
        }
        Ok(())
    }

    async fn in_memory(&self, ids: &[String]) -> Vec<Place> {
        let mut found = self.latest.find(ids.to_vec()).await.unwrap_or_default();
        found.extend(self.passing.find(ids.to_vec()).await.unwrap_or_default());
        found
    }

    /// Returns the places of those of the ids that are known.
    ///
    /// # Errors
    ///
    /// The same as of [`put`](Self::put), unless memory knows all of them.
    pub async fn find(&self, ids: &[String]) -> Result<Vec<Place>, GuardError> {
        let found = self.in_memory(ids).await;
        self.with_stored(ids, found).await
    }

    /// Returns the places of those of the ids that are this owner's. To all others it says and takes the same, whether
    /// another owner has them or nobody.
    ///
    /// # Errors
    ///
    /// Those of [`put`](Self::put), unless memory knows all of them as the owner's.
    pub async fn find_own(&self, owner: &str, ids: &[String]) -> Result<Vec<Place>, GuardError> {
        let mut found = self.in_memory(ids).await;
        found.retain(|place| place.owner == owner);
        let mut found = self.with_stored(ids, found).await?;
        found.retain(|place| place.owner == owner);
        Ok(found)
    }

    /// Adds the places of the ids that are not found yet.
    async fn with_stored(&self, ids: &[String], mut found: Vec<Place>) -> Result<Vec<Place>, GuardError> {
        let known: HashSet<&str> = found.iter().map(|place| place.id.as_str()).collect();
        let rest: Vec<String> = ids.iter().filter(|id| !known.contains(id.as_str())).cloned().collect();
        if !rest.is_empty()
            && let Some(more) = self.call(|store| store.find(rest)).await?
        {
            found.extend(more);
        }
        Ok(found)
    }

    /// Deletes the place of an id.
    ///
    /// # Errors
    ///
    /// The same as of [`put`](Self::put).
    pub async fn delete(&self, id: &str) -> Result<(), GuardError> {
        let _memory_does_not_fail = self.latest.delete(id).await;
        let _memory_does_not_fail = self.passing.delete(id).await;
        self.call(|store| store.delete(id)).await?;
        Ok(())
    }

    pub(super) async fn forget_owner(&self, owner: &AnswerOwner) -> Result<u64, StoreError> {
        let in_memory = self.latest.forget_owner(owner).await? + self.passing.forget_owner(owner).await?;
        match &self.durable {
            Some(store) => store.forget_owner(owner).await,
            None => Ok(in_memory),
        }
    }

    pub(super) fn trouble(&self) -> Option<StoreTrouble> {
        self.guard.trouble()
    }

    /// Calls the durable store, if there is one.
    async fn call<'a, T, F>(&'a self, call: impl FnOnce(&'a dyn PlaceStore) -> F) -> Result<Option<T>, GuardError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        match self.durable.as_deref() {
            Some(store) => self.guard.call(LIMIT, || call(store), |_| true).await.map(Some),
            None => Ok(None),
        }
    }
}

impl fmt::Debug for ObjectPlaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectPlaces").field("durable", &self.durable).finish_non_exhaustive()
    }
}

/// A tier whose provider keeps objects for callers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectTier {
    /// The tier's name.
    pub name: Arc<str>,
    /// The tier's model.
    pub model: Option<String>,
    /// A fingerprint of the provider's account. Tiers of one account have the same objects.
    pub account: Arc<str>,
}

impl StackHandle {
    /// Returns the places of objects that providers keep.
    pub fn object_places(&self) -> ObjectPlaces {
        self.shared.current.load().objects.clone()
    }

    /// Returns the tiers whose providers keep objects and speak this dialect, in the order of a feature or of the file.
    /// A tier at a cloud is none of them, nor is one whose provider is replaced.
    pub fn object_tiers(&self, dialect: Dialect, feature: Option<&str>) -> Vec<ObjectTier> {
        let provider = match dialect {
            Dialect::Anthropic => Provider::Anthropic,
            Dialect::OpenAi => Provider::OpenAi,
            _ => return Vec::new(),
        };
        let current = self.shared.current.load();
        let config = &current.config;
        let named = feature.and_then(|feature| config.features.get(feature)).and_then(|named| named.tiers.as_ref());
        let tiers = config.tiers.iter().filter(|tier| tier.provider == provider).filter_map(|tier| {
            let account = current.runtime(&tier.name)?.object_account()?;
            Some(ObjectTier { name: tier.name.as_str().into(), model: tier.model.clone(), account })
        });
        let mut tiers: Vec<ObjectTier> = tiers.collect();
        if let Some(named) = named {
            // The feature's come first; an id may be at any other.
            let place = |tier: &ObjectTier| named.iter().position(|name| **name == *tier.name).unwrap_or(usize::MAX);
            tiers.sort_by_key(place);
        }
        tiers
    }

    /// Returns a text of a tier's provider without the tier's key, which some providers repeat.
    pub fn without_key(&self, tier: &str, text: &Bytes) -> Bytes {
        self.shared.current.load().runtime(tier).map_or_else(|| text.clone(), |runtime| runtime.without_key(text))
    }

    /// Sends a request for objects to a tier's provider, with the tier's key, and returns the head of the response.
    /// `path` comes after the API's version, as in `/files/file-1?limit=2`. `headers` are the caller's that go along.
    ///
    /// No layer is around it: no other tier is asked, nothing is repeated, and the time is the caller's to limit.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] for a tier that keeps no objects, [`ErrorKind::Connect`] without a response.
    pub async fn send_for_object(
        &self,
        tier: &str,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: StreamedBody,
    ) -> Result<Response<StreamedBody>, LlmError> {
        let head = match self.shared.current.load().runtime(tier) {
            Some(runtime) => runtime.object_head(method, path)?,
            None => return Err(LlmError::new(ErrorKind::NotFound, format!("there is no tier `{tier}`"))),
        };
        let Some(client) = self.shared.context.uploads() else {
            let message = "this program sends its requests by a client of its own, which takes no streams";
            return Err(LlmError::new(ErrorKind::UnsupportedFeature, message));
        };
        let (mut parts, ()) = head.into_parts();
        for (name, value) in &headers {
            // The tier's own come first: its key among them.
            parts.headers.entry(name).or_insert_with(|| value.clone());
        }
        let response = client.stream(Request::from_parts(parts, body)).await.map_err(|error| {
            let message = format!("no answer of the provider: {error}");
            LlmError::new(ErrorKind::Connect, message).with_source(error)
        })?;
        Ok(opened(response))
    }
}

/// Opens an answer that came in a content coding, though none was asked for. A part of one cannot be opened.
fn opened(response: Response<ResponseBody>) -> Response<StreamedBody> {
    let (mut head, body) = response.into_parts();
    let codings = match head.status {
        StatusCode::PARTIAL_CONTENT => Vec::new(),
        _ => codings::take(&mut head.headers).unwrap_or_default(),
    };
    let body = match codings.is_empty() {
        true => StreamedBody::new(body.map_err(Into::into)),
        false => {
            let pieces = codings::open_answer(body.into_data_stream(), &codings);
            StreamedBody::new(StreamBody::new(pieces.map(|piece| piece.map(Frame::data).map_err(Into::into))))
        }
    };
    Response::from_parts(head, body)
}
