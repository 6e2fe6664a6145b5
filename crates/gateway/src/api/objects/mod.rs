//! Objects that providers keep for callers: files, batches, assistants and threads, fine-tuning jobs, vector stores.
//!
//! An id belongs to one provider. The gateway remembers the tier at which each object was made and the caller that made
//! it ([`ObjectPlaces`]), and a request goes to the tier of the ids that it names, in its path or in its JSON. Nothing
//! is repeated and no other tier is asked: another provider knows no such id, or knows it as somebody's.
//!
//! Bodies pass as they come. JSON is read whole, up to the limit of every request; an upload streams, up to
//! [`MAX_UPLOAD`]. Of an answer the gateway reads the ids.

mod batch;
mod list;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, header};
use http_body_util::{BodyDataStream, BodyExt, Full};
use memchr::{memchr, memmem};
use serde::de::IgnoredAny;
use steadfast::{Dialect, ErrorKind, LlmError, providers::transport::StreamedBody};
use steadfast_stack::{Config, ObjectPlaces, ObjectTier, StackHandle};
use steadfast_stores::places::Place;
use tokio::time::{Instant, timeout, timeout_at};

use self::{
    batch::BatchNames,
    list::{Listing, MAX_PAGES},
};
use super::{
    Catalog,
    body_kind::{self, BodyKind},
    call::Call,
    connection::ConnectionContext,
    failure::Failure,
    form::{self, FormReader},
    heads::copy_headers,
    ownership::{AnswerIds, Names, NotedBody, Ownership, Scope, is_id, not_found, store_failure, unknown},
    paths::objects::ObjectCall,
    query::pairs_of,
    request_options::forwarded,
    upload::{Limited, MAX_UPLOAD, announced, head_limit},
};
use crate::{lifecycle::stopping, limits::answers::AnswerSpace};

/// The largest JSON answer that is read for its ids, in bytes.
const MAX_ANSWER: usize = 16 << 20;
/// The largest error of a provider that passes, in bytes.
const MAX_ERROR: usize = 1 << 20;
/// The longest silence within a response.
const SILENCE: Duration = Duration::from_secs(120);

/// A request for objects, on its way.
struct Exchange<'a> {
    call: &'a Call,
    object: &'a ObjectCall,
    stack: &'a StackHandle,
    places: ObjectPlaces,
    /// The ownership of a caller that sees its own objects only.
    ownership: Option<Ownership>,
    method: &'a Method,
    /// The part of the query that is the provider's.
    query: &'a str,
    feature: Option<&'a str>,
    space: &'a AnswerSpace,
}

/// The address of a request for objects.
pub(crate) struct ObjectAddress {
    pub(crate) call: ObjectCall,
    pub(crate) method: Method,
    pub(crate) query: Option<Box<str>>,
}

/// Answers a request for objects, if the gateway has a stack of a file.
pub(crate) async fn answer(
    mut call: Box<Call>,
    address: ObjectAddress,
    body: Body,
    connection: &ConnectionContext,
) -> Response<Body> {
    let feature = call.options.feature.take();
    call.entry.set_request(None, feature.clone(), false);
    let body = match body_kind::opened(&mut call.headers, body, &call.settings) {
        Ok(body) => body,
        Err(error) => return call.fail(&error),
    };
    let space = call.answer_space();
    match exchange(&call, &address, feature.as_deref(), body, &space, connection).await {
        Ok(answer) => call.counted(space, answer).await,
        Err(failure) => call.refuse(failure),
    }
}

/// Sends a request to the provider that has the objects, and returns its answer.
async fn exchange(
    call: &Call,
    address: &ObjectAddress,
    feature: Option<&str>,
    body: Body,
    space: &AnswerSpace,
    connection: &ConnectionContext,
) -> Result<Response<Body>, Failure> {
    let ObjectAddress { call: object, method, query } = address;
    let _permits = call.key.as_ref().map(|key| key.permits()).transpose()?;
    let Catalog::Stack(stack) = &call.gateway.catalog else {
        return Err(LlmError::new(ErrorKind::NotFound, "this gateway has no providers that keep objects").into());
    };
    let (query, places, ownership) = (query_of(query.as_deref()), stack.object_places(), call.ownership());
    let exchange = Exchange { call, object, stack, places, ownership, method, query: &query, feature, space };
    call.options.check()?;
    let sent = exchange.read_body(body).await?;
    let named = names(object, &query, &sent)?;
    named.models.iter().try_for_each(|model| call.check_model(Some(model)))?;
    if let Sent::Json(json) = &sent {
        call.check_named_models(json).await?;
    }
    let tier = exchange.tier(&named).await?;
    call.entry.set_tier(&tier);
    let files = match &sent {
        Sent::Json(json) if method == Method::POST && &*object.path == "/batches" => batch::files_of(json),
        _ => BTreeSet::new(),
    };
    exchange.check_batch(&tier, files).await?;
    let until = exchange.until(&sent);
    let sending = by(until, &tier, exchange.send(&tier, sent));
    let response = tokio::select! {
        biased;
        answered = sending => answered?,
        () = connection.cut.cancelled() => return Err(stopping().into()),
    };
    let answer = by(until, &tier, exchange.read(&tier, response)).await?;
    Ok(exchange.passed(answer))
}

/// A body on its way to the provider.
enum Sent {
    /// JSON, or nothing.
    Json(Bytes),
    /// A form, and the ids in its fields.
    Upload(Body, Vec<String>),
}

impl Sent {
    /// Reads the beginning of a form, which has the fields that name objects.
    ///
    /// # Errors
    ///
    /// The beginning is invalid.
    fn form(call: &ObjectCall, kind: &HeaderValue, beginning: Bytes, rest: Option<Body>) -> Result<Self, LlmError> {
        let mut form = FormReader::new(kind)?.of_objects();
        form.push(&beginning)?;
        if rest.is_none() {
            form.finish()?;
        }
        let ids = form.form().ids.iter().filter(|id| is_id(Scope::Object(call.dialect), id)).cloned().collect();
        Ok(Self::Upload(form::checked(form, beginning, rest), ids))
    }
}

/// The parameters by which a list begins behind or before an object, whatever the form of its id.
const CURSORS: [&str; 4] = ["after", "before", "after_id", "before_id"];

/// Returns the names in a request: in its path, its query and its body.
///
/// # Errors
///
/// The body should be JSON, and is not.
fn names(object: &ObjectCall, query: &str, sent: &Sent) -> Result<Names, LlmError> {
    let invalid = |what: String| LlmError::new(ErrorKind::InvalidRequest, what);
    let scope = Scope::Object(object.dialect);
    let mut names = match sent {
        Sent::Json(json) if !json.is_empty() => {
            serde_json::from_slice::<IgnoredAny>(json)
                .map_err(|wrong| invalid(format!("the body is no JSON that is understood: {wrong}")))?;
            Names::of(scope, json)?
        }
        _ => Names::default(),
    };
    if let Sent::Upload(_, of_form) = sent {
        names.ids.extend(of_form.iter().cloned());
    }
    // The outer id, whatever its form is, and those within.
    names.ids.extend(object.id.as_deref().map(str::to_owned));
    names.ids.extend(object.path.split('/').filter(|part| is_id(scope, part)).map(str::to_owned));
    for [name, value] in pairs_of(query).map_err(invalid)? {
        names.add(scope, &name, &value);
        if object.id.is_none() && CURSORS.contains(&name.as_str()) && !value.is_empty() {
            names.ids.insert(value);
        }
    }
    Ok(names)
}

impl Exchange<'_> {
    /// Reads the body as far as the gateway looks into it.
    ///
    /// # Errors
    ///
    /// The body cannot be read, or the path does not take its type.
    async fn read_body(&self, body: Body) -> Result<Sent, Failure> {
        let headers = &self.call.headers;
        let BodyKind::Form(kind) = body_kind::of(headers)? else {
            return Ok(Sent::Json(self.call.reader().read(headers, body).await?));
        };
        if self.method != Method::POST {
            return Ok(Sent::Json(self.call.reader().read(headers, body).await?));
        }
        if !self.object.takes_forms() {
            return Err(body_kind::unsupported("this path takes JSON, and no form").into());
        }
        if self.ownership.is_none() {
            return Ok(Sent::Upload(body, Vec::new()));
        }
        let (beginning, rest) = self.call.reader().read_first(headers, body).await?;
        Ok(Sent::form(self.object, kind, beginning, rest)?)
    }

    /// Returns the tier for a request: that of the ids that it names, or else the first that may make an object.
    ///
    /// # Errors
    ///
    /// An id is another caller's or unknown, two ids are at two providers, or there is no such tier.
    async fn tier(&self, named: &Names) -> Result<Arc<str>, LlmError> {
        let tiers = self.stack.object_tiers(self.object.dialect, self.feature);
        let Some(first) = tiers.first() else {
            let message = format!("{}: no tier of this gateway has a provider with this path", self.object.path);
            return Err(LlmError::new(ErrorKind::NotFound, message));
        };
        let known = match &self.ownership {
            Some(ownership) => ownership.check(&named.ids, self.object.dialect).await?,
            None => {
                let ids: Vec<String> = named.ids.iter().cloned().collect();
                self.places.find(&ids).await.map_err(store_failure)?
            }
        };
        let known: HashMap<&str, &Place> = known.iter().map(|place| (place.id.as_str(), place)).collect();
        let mut decided: Option<&Place> = None;
        for id in &named.ids {
            let Some(place) = known.get(id.as_str()) else {
                if tiers.iter().all(|tier| tier.account == first.account) {
                    continue;
                }
                return Err(self.unknown(id, &tiers));
            };
            match decided {
                Some(other) if !are_one(&tiers, &other.tier, &place.tier) => {
                    let message = format!(
                        "`{}` is at the provider of the tier `{}` and `{id}` at that of `{}`: a request goes to one",
                        other.id, other.tier, place.tier
                    );
                    return Err(LlmError::new(ErrorKind::InvalidRequest, message));
                }
                _ => decided = Some(place),
            }
        }
        let Some(place) = decided else {
            // The model of an assistant, or of a job.
            let is_named = |tier: &&ObjectTier| {
                tier.model.iter().any(|model| named.models.contains(model)) || named.models.contains(&*tier.name)
            };
            return Ok(tiers.iter().find(is_named).unwrap_or(first).name.clone());
        };
        match tiers.iter().find(|tier| *tier.name == *place.tier) {
            Some(tier) => Ok(tier.name.clone()),
            None => {
                let message = format!(
                    "`{}` is at the provider of the tier `{}`, which this gateway's file does not have any more",
                    place.id, place.tier
                );
                Err(LlmError::new(ErrorKind::NotFound, message))
            }
        }
    }

    /// Returns the moment at which the answer has to be there whole; `None` where the sender's time counts, or where
    /// the answer goes on piece by piece.
    fn until(&self, sent: &Sent) -> Option<Instant> {
        let own = self.call.options.timeout;
        if self.object.is_content || matches!(sent, Sent::Upload(..)) {
            return own.and_then(|own| Instant::now().checked_add(own));
        }
        let config = self.stack.config();
        let feature = self.feature.and_then(|feature| config.features.get(feature)).or(config.default_feature.as_ref());
        let file =
            feature.and_then(|feature| feature.timeout).or(config.timeout).map_or(Config::TIMEOUT, |span| span.0);
        Instant::now().checked_add(own.map_or(file, |own| own.min(file)))
    }

    fn owner(&self) -> &str {
        self.call.key.as_ref().map_or("", |key| &key.name)
    }

    /// Returns the error of an id that the gateway does not know, where several accounts may have it.
    fn unknown(&self, id: &str, tiers: &[ObjectTier]) -> LlmError {
        let names: Vec<&str> = tiers.iter().map(|tier| &*tier.name).collect();
        let names = names.join(", ");
        let message =
            format!("`{id}`: this gateway did not make it, and does not know which of its tiers has it ({names})");
        not_found(message, self.object.dialect)
    }

    /// Checks that the names in a new batch's file are the caller's to name.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or names another caller's object or a model that the key is not for.
    async fn check_batch(&self, tier: &str, files: BTreeSet<String>) -> Result<(), Failure> {
        let mut names = BatchNames::default();
        if self.ownership.is_none() && !self.call.is_for_some_models() {
            return Ok(());
        }
        let invalid = |what: String| LlmError::new(ErrorKind::InvalidRequest, what);
        if files.len() > 1 {
            return Err(invalid("the body names two files as `input_file_id`".to_owned()).into());
        }
        for file in files {
            let path = format!("/files/{file}/content");
            if ObjectCall::at(&format!("/v1{path}"), &HeaderMap::new()).is_none() {
                return Err(unknown(&file, self.object.dialect).into());
            }
            let response = self.ask(tier, &path).await?;
            if !response.status().is_success() {
                let message =
                    format!("the gateway cannot read the batch's file at the provider ({})", response.status());
                return Err(invalid(message).into());
            }
            names = batch::names_in(Body::new(Limited::new(response.into_body(), SILENCE))).await?;
        }
        if let Some(ownership) = &self.ownership {
            ownership.check(&names.ids, self.object.dialect).await?;
        }
        self.call.key.as_ref().map_or(Ok(()), |key| names.models.check(key))
    }

    /// Asks the provider for something more, on the way of the caller's request.
    async fn ask(&self, tier: &str, path: &str) -> Result<Response<StreamedBody>, LlmError> {
        // A part of it, which the caller's `Range` would ask for, would not do.
        let headers = forwarded(self.object.dialect, &self.call.headers);
        let nothing = StreamedBody::new(Full::new(Bytes::new()).map_err(|never| match never {}));
        timed(head_limit(0), tier, self.stack.send_for_object(tier, Method::GET, path, headers, nothing)).await
    }

    /// Returns true if the request is for a list of which the caller sees its own objects only.
    fn is_own_list(&self) -> bool {
        self.ownership.is_some() && self.method == Method::GET && self.object.id.is_none()
    }

    /// Returns the path of the request to the provider.
    fn path(&self) -> String {
        if self.is_own_list() {
            let first = Listing::of(self.object.dialect, self.query).query(None);
            return self.path_with(&first);
        }
        self.path_with(self.query)
    }

    fn path_with(&self, query: &str) -> String {
        if query.is_empty() { self.object.path.to_string() } else { format!("{}?{query}", self.object.path) }
    }

    /// Sends the request to the provider.
    async fn send(&self, tier: &str, sent: Sent) -> Result<Response<StreamedBody>, Failure> {
        let (headers, method, path) = (&self.call.headers, self.method.clone(), self.path());
        let mut own = forwarded(self.object.dialect, headers);
        for name in [header::CONTENT_TYPE, header::ACCEPT, header::RANGE] {
            own.extend(headers.get(&name).map(|value| (name, value.clone())));
        }
        let body = match sent {
            Sent::Json(json) => {
                if !json.is_empty() {
                    // The type that it was read as, whatever its sender calls it.
                    own.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                }
                StreamedBody::new(Full::new(json).map_err(|never| match never {}))
            }
            Sent::Upload(body, _) => {
                let length = announced(headers)?.unwrap_or(MAX_UPLOAD);
                let announcement = headers.get(header::CONTENT_LENGTH);
                own.extend(announcement.map(|length| (header::CONTENT_LENGTH, length.clone())));
                let body = Limited::upload(body, &self.call.settings);
                let failure = body.failure();
                let sending = self.stack.send_for_object(tier, method, &path, own, StreamedBody::new(body));
                return timed(head_limit(length), tier, sending).await.map_err(|error| match failure.get() {
                    Some(error) => Failure::Body(*error),
                    None => Failure::Error(error),
                });
            }
        };
        let sending = self.stack.send_for_object(tier, method, &path, own, body);
        Ok(timed(head_limit(0), tier, sending).await?)
    }

    /// Remembers the ids of an answer, and leaves other callers' objects out of a list.
    async fn read(&self, tier: &str, response: Response<StreamedBody>) -> Result<Response<Body>, LlmError> {
        let (head, body) = response.into_parts();
        let body = Body::new(Limited::new(body, SILENCE));
        if !head.status.is_success() {
            let error = read_up_to(MAX_ERROR, body, self.space)
                .await?
                .map_err(|_| LlmError::new(ErrorKind::Malformed, "the provider's error is too long"))?;
            return Ok(Response::from_parts(head, self.stack.without_key(tier, &error).into()));
        }
        if self.is_own_list() {
            return Ok(Response::from_parts(head, self.own_list(tier, body).await?.into()));
        }
        if self.object.is_content {
            return Ok(Response::from_parts(head, body));
        }
        if is_event_stream(&head.headers) {
            let Some(ownership) = &self.ownership else { return Ok(Response::from_parts(head, body)) };
            let mut ids = AnswerIds::new(ownership.clone(), Scope::Object(self.object.dialect), true);
            ids.served(Some(tier));
            return Ok(Response::from_parts(head, Body::new(NotedBody::new(body, ids))));
        }
        if !is_json(&head.headers) {
            return Ok(Response::from_parts(head, body));
        }
        let json = match read_up_to(MAX_ANSWER, body, self.space).await? {
            Ok(json) => json,
            Err(rest) => return Ok(Response::from_parts(head, rest)),
        };
        let json = if self.object.dialect == Dialect::Anthropic { with_own_address(json) } else { json };
        let is_gone = self.method == Method::DELETE && self.object.is_object;
        let stored = match (&self.object.id, is_gone) {
            (Some(id), true) => self.places.delete(id).await,
            _ => self.places.put(self.places_in(&json, tier), None).await,
        };
        if let Err(error) = stored {
            // The object is there, and its place in memory.
            tracing::warn!(?error, "place of an object not stored");
        }
        Ok(Response::from_parts(head, json.into()))
    }

    /// Returns the places of the ids in an answer.
    fn places_in(&self, json: &[u8], tier: &str) -> Vec<Place> {
        let is_new = self.object.id.is_none() || self.object.is_object;
        let ids = Names::given(Scope::Object(self.object.dialect), json, is_new);
        let place = |id| Place { id, owner: self.owner().to_owned(), tier: tier.to_owned() };
        ids.into_iter().map(place).collect()
    }

    /// Returns a list of the caller's own objects, out of as many pages of the provider's as it takes.
    async fn own_list(&self, tier: &str, first: Body) -> Result<Bytes, LlmError> {
        let mut listing = Listing::of(self.object.dialect, self.query);
        let mut body = first;
        for number in 1..=MAX_PAGES {
            let json = read_up_to(MAX_ANSWER, body, self.space).await?.map_err(|_| {
                let message = "the provider's list is too long to leave other callers' objects out; set a `limit`";
                LlmError::new(ErrorKind::Malformed, message)
            })?;
            let json = if self.object.dialect == Dialect::Anthropic { with_own_address(json) } else { json };
            let page = listing.read(&json)?;
            let own = match &self.ownership {
                Some(ownership) => ownership.own(page.ids()).await?,
                None => HashSet::new(),
            };
            let is_over = listing.take(&page, &own);
            let Some(behind) = page.next.filter(|_| !is_over && number < MAX_PAGES) else { break };
            let path = self.path_with(&listing.query(Some(&behind)));
            let response = self.ask(tier, &path).await?;
            if !response.status().is_success() {
                let message = format!("the provider's next page of the list failed, with {}", response.status());
                return Err(LlmError::new(ErrorKind::Server, message));
            }
            body = Body::new(Limited::new(response.into_body(), SILENCE));
        }
        Ok(listing.write())
    }

    /// Returns the provider's answer to the caller.
    fn passed(&self, answer: Response<Body>) -> Response<Body> {
        const KEPT: [HeaderName; 4] =
            [header::CONTENT_TYPE, header::CONTENT_DISPOSITION, header::CONTENT_RANGE, header::ACCEPT_RANGES];
        let (head, body) = answer.into_parts();
        self.call.entry.answered(None);
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        let headers = response.headers_mut();
        for name in KEPT {
            headers.extend(head.headers.get(&name).map(|value| (name, value.clone())));
        }
        copy_headers(Some(&head.headers), headers);
        self.call.write_head(headers);
        response
    }
}

/// Returns whether two tiers have the same objects.
fn are_one(tiers: &[ObjectTier], one: &str, other: &str) -> bool {
    let account = |name: &str| tiers.iter().find(|tier| *tier.name == *name).map(|tier| &tier.account);
    one == other || account(one).is_some_and(|own| account(other) == Some(own))
}

/// Returns an answer about batches in which the address of the results is this gateway's: a path, which clients join to
/// their base URL. They would take their key of the gateway's to the provider.
fn with_own_address(json: Bytes) -> Bytes {
    const FIELD: &[u8] = b"\"results_url\"";
    const PATH: &[u8] = b"/v1/messages/batches/";
    let mut changed = Vec::new();
    let mut rest = &json[..];
    while let Some(at) = memmem::find(rest, FIELD) {
        let (before, behind) = rest.split_at(at + FIELD.len());
        changed.extend_from_slice(before);
        rest = behind;
        let is_between = |byte: &u8| byte.is_ascii_whitespace() || *byte == b':';
        let space = rest.iter().position(|byte| !is_between(byte)).unwrap_or(rest.len());
        let Some(text) = rest[space..].strip_prefix(b"\"http") else { continue };
        let end = memchr(b'"', text).unwrap_or(text.len());
        if let Some(path) = memmem::find(&text[..end], PATH) {
            changed.extend_from_slice(&rest[..=space]);
            rest = &text[path..];
        }
    }
    if changed.is_empty() {
        return json;
    }
    changed.extend_from_slice(rest);
    changed.into()
}

/// Ends what takes longer than its deadline.
async fn by<T, E: From<LlmError>>(
    until: Option<Instant>,
    tier: &str,
    working: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let Some(until) = until else { return working.await };
    timeout_at(until, working).await.unwrap_or_else(|_| {
        let message = format!("the provider of the tier `{tier}` had not answered whole by the request's deadline");
        Err(LlmError::new(ErrorKind::Timeout, message).into())
    })
}

/// Waits for the head of a response.
async fn timed<T>(
    limit: Duration,
    tier: &str,
    sending: impl Future<Output = Result<T, LlmError>>,
) -> Result<T, LlmError> {
    match timeout(limit, sending).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => {
            let message = format!(
                "the provider of the tier `{tier}`, which has what the request is for, did not answer ({}); no other \
                 provider has it",
                error.message()
            );
            Err(LlmError::new(error.kind(), message).with_source(error))
        }
        Err(_) => {
            let message = format!("the provider of the tier `{tier}` did not answer within {} s", limit.as_secs());
            Err(LlmError::new(ErrorKind::Timeout, message))
        }
    }
}

/// Returns true for a body of JSON, and for none.
fn is_json(headers: &HeaderMap) -> bool {
    let named = headers.get(header::CONTENT_TYPE).map_or(&b"application/json"[..], HeaderValue::as_bytes);
    named.to_ascii_lowercase().starts_with(b"application/json")
}

/// Returns true for an answer in events.
fn is_event_stream(headers: &HeaderMap) -> bool {
    let named = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    named.to_ascii_lowercase().starts_with(b"text/event-stream")
}

/// Returns the part of a query that is the provider's.
fn query_of(query: Option<&str>) -> String {
    // A key, and Azure's version, are for the gateway.
    let is_providers = |pair: &&str| !["key", "api-version"].contains(&pair.split('=').next().unwrap_or_default());
    let pairs: Vec<&str> = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).collect();
    pairs.into_iter().filter(is_providers).collect::<Vec<_>>().join("&")
}

/// Reads a body whole, as far as there is memory for it, or returns a body of all of it, if it is over the limit.
async fn read_up_to(most: usize, body: Body, space: &AnswerSpace) -> Result<Result<Bytes, Body>, LlmError> {
    let mut pieces = BodyDataStream::new(body);
    let mut read = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| {
            LlmError::new(ErrorKind::StreamBroken, "the provider's answer broke off").with_source(error)
        })?;
        space.grow(read.len() + piece.len()).await?;
        read.extend_from_slice(&piece);
        if read.len() > most {
            let begun = stream::once(async { Ok(read.freeze()) });
            return Ok(Err(Body::from_stream(begun.chain(pieces))));
        }
    }
    Ok(Ok(read.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_of_a_batch_are_at_the_gateway() {
        let url = "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results";
        for (json, own) in [
            (format!(r#"{{"id":"x", "results_url" : "{url}","y":1}}"#), true),
            (
                format!(r#"{{"data":[{{"results_url":"{url}"}},{{"results_url":null}},{{"results_url":"{url}"}}]}}"#),
                true,
            ),
            (r#"{"results_url":null,"a":"b"}"#.to_owned(), false),
            (r#"{"results_url":"https://x.test/other"}"#.to_owned(), false),
            ("{}".to_owned(), false),
        ] {
            let changed = with_own_address(Bytes::from(json.clone()));
            let expected = if own { json.replace("https://api.anthropic.com", "") } else { json };
            assert_eq!(changed, expected);
        }
    }

    #[test]
    fn a_query_loses_what_is_the_gateways() {
        for (query, providers) in [
            (None, ""),
            (Some("key=sk-1&api-version=2"), ""),
            (Some("limit=2&key=sk-1&after=file-1"), "limit=2&after=file-1"),
        ] {
            assert_eq!(query_of(query), providers);
        }
    }
}
