//! Objects that providers keep for callers: files, batches, assistants and threads, fine-tuning jobs, vector stores.
//!
//! An id belongs to one provider. The gateway remembers the tier at which each object was made and the caller that made
//! it ([`ObjectPlaces`]), and a request goes to the tier of the ids that it names, in its path or in its JSON. Nothing
//! is repeated and no other tier is asked: another provider knows no such id, or knows it as somebody's.
//!
//! Bodies pass as they come. JSON is read whole, up to the limit of every request; an upload streams, up to
//! [`MAX_UPLOAD`]. Of a JSON answer the gateway reads the ids.

mod ids;
mod paths;

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header, request::Parts};
use http_body_util::{BodyDataStream, BodyExt, Full};
use memchr::{memchr, memmem};
use serde::Deserialize;
use serde_json::Value;
use steadfast::{Dialect, ErrorKind, LlmError, providers::transport::StreamedBody, store::GuardError};
use steadfast_stack::{ObjectPlaces, ObjectTier, StackHandle};
use steadfast_stores::places::Place;
use tokio::time::timeout;

use self::ids::ids_in;
pub(crate) use self::paths::{ObjectCall, SERVED};
use super::{
    Catalog, GatewayState,
    inbound::BodyError,
    keys::Key,
    panic,
    pipeline::{
        ConnectionContext, admit, body_failure, copy_headers, deny, deny_at_door, fail, immediate, note_options,
        panicked, set_request_id,
    },
    records::Entry,
    refusal,
    request_options::{RequestOptions, forwarded},
    stream::stopping,
    upload::{Limited, MAX_UPLOAD, announced, head_limit},
};
use crate::{http::Answering, limits::Settings};

/// The largest JSON answer that is read for its ids, in bytes.
const MAX_ANSWER: usize = 16 << 20;
/// The longest silence within a response.
const SILENCE: Duration = Duration::from_secs(120);

/// A request for objects, on its way.
struct Exchange<'a> {
    call: &'a ObjectCall,
    stack: &'a StackHandle,
    places: ObjectPlaces,
    key: Option<&'a Arc<Key>>,
}

/// Answers a request for objects, if the gateway has a stack of a file.
pub(crate) fn answer<'a>(
    gateway: &Arc<GatewayState>,
    connection: &'a ConnectionContext,
    call: ObjectCall,
    request: Request<Body>,
) -> Answering<'a> {
    let (Parts { method, uri, headers, extensions, .. }, body) = request.into_parts();
    let (key, dialect) = (extensions.get::<Arc<Key>>().cloned(), call.dialect);
    if ![Method::GET, Method::POST, Method::DELETE].contains(&method) {
        let allowed = HeaderValue::from_static("GET, POST, DELETE");
        return immediate(refusal::wrong_method(super::routes::shortened(&method), &allowed, dialect));
    }
    let mut options = RequestOptions::from_headers(&headers);
    if let Some(key) = &key
        && let Err(denied) = admit(key, &mut options)
    {
        return immediate(deny_at_door(gateway, &denied, Some(key), dialect));
    }
    let mut entry = gateway.records.begin(dialect);
    if let Some(key) = &key {
        entry.set_key(&key.name);
    }
    note_options(gateway, &entry, &mut options);
    let (feature, explain) = (options.feature.take(), options.explain);
    entry.set_request(None, feature.clone(), false);
    let (gateway, record) = (gateway.clone(), entry.record());
    let answering = async move {
        let settings = gateway.lifecycle.current.load_full();
        let permit = key.as_ref().map_or(Ok(None), |key| key.permit());
        let _permit = match permit {
            Ok(permit) => permit,
            Err(denied) => return deny(&entry, &denied, dialect),
        };
        let failed = |error: &LlmError| fail(&entry, explain, error, dialect);
        let Catalog::Stack(stack) = &gateway.catalog else {
            return failed(&LlmError::new(ErrorKind::NotFound, "this gateway has no providers that keep objects"));
        };
        let exchange = Exchange { call: &call, stack, places: stack.object_places(), key: key.as_ref() };
        let sent = if is_json(&headers) {
            match gateway.reader(&settings, key.as_ref()).read(&headers, body).await {
                Ok(json) => Sent::Json(json),
                Err(error) => return body_failure(&entry, error, &settings, explain, dialect),
            }
        } else {
            Sent::Upload(body)
        };
        let named = match Named::of(&call, &sent) {
            Ok(named) => named,
            Err(error) => return failed(&error),
        };
        if let Some((key, model)) = key.as_ref().zip(named.model.as_deref())
            && let Err(denied) = key.model(Some(model))
        {
            return deny(&entry, &denied, dialect);
        }
        let tier = match exchange.tier(&named, feature.as_deref()).await {
            Ok(tier) => tier,
            Err(error) => return failed(&error),
        };
        entry.set_tier(&tier);
        let path = path_of(&call, uri.query());
        let sending = exchange.send(&tier, method.clone(), &path, &headers, sent, &settings);
        let answered = tokio::select! {
            biased;
            answered = sending => answered,
            () = connection.cut.cancelled() => Err(Failure::Error(stopping())),
        };
        let response = match answered {
            Ok(response) => response,
            Err(Failure::Body(error)) => return body_failure(&entry, error, &settings, explain, dialect),
            Err(Failure::Error(error)) => return failed(&error),
        };
        match exchange.read(&tier, &method, response).await {
            Ok(answer) => passed(&entry, explain, answer, &call),
            Err(error) => failed(&error),
        }
    };
    Box::pin(panic::respond(answering, move |caught| panicked(caught, &record, connection, dialect)))
}

/// A body on its way to the provider.
enum Sent {
    /// JSON, or nothing.
    Json(Bytes),
    Upload(Body),
}

/// The names in a request, by which its tier is found.
struct Named {
    ids: Vec<String>,
    model: Option<String>,
}

impl Named {
    /// # Errors
    ///
    /// The body should be JSON, and is not.
    fn of(call: &ObjectCall, sent: &Sent) -> Result<Self, LlmError> {
        #[derive(Deserialize)]
        struct Model {
            model: Option<String>,
        }
        let json = match sent {
            Sent::Json(json) if !json.is_empty() => Some(json),
            _ => None,
        };
        let ids = json.map_or(Ok(Vec::new()), |json| ids_in(json)).map_err(|wrong| {
            LlmError::new(ErrorKind::InvalidRequest, format!("the body is no JSON that is understood: {wrong}"))
        });
        let mut ids = ids?;
        ids.extend(call.id.as_deref().map(str::to_owned));
        let model = json.and_then(|json| serde_json::from_slice::<Model>(json).ok()).and_then(|named| named.model);
        Ok(Self { ids, model })
    }
}

/// The end of a request without a response.
enum Failure {
    /// The caller's body failed.
    Body(BodyError),
    Error(LlmError),
}

impl Exchange<'_> {
    /// Returns the tier for a request: that of the ids that it names, or else the first that may make an object.
    ///
    /// # Errors
    ///
    /// An id is another caller's or unknown, two ids are at two providers, or there is no such tier.
    async fn tier(&self, named: &Named, feature: Option<&str>) -> Result<Arc<str>, LlmError> {
        let tiers = self.stack.object_tiers(self.call.dialect, feature);
        let Some(first) = tiers.first() else {
            let message = format!("{}: no tier of this gateway has a provider with this path", self.call.path);
            return Err(LlmError::new(ErrorKind::NotFound, message));
        };
        let Named { ids, model } = named;
        let known = self.places.find(ids).await.map_err(store_failure)?;
        let mut decided: Option<&Place> = None;
        for id in ids {
            let Some(place) = known.iter().find(|place| place.id == *id) else {
                let is_one = tiers.iter().all(|tier| tier.account == first.account);
                if !is_one || self.is_limited() {
                    return Err(self.unknown(id, &tiers));
                }
                continue;
            };
            if self.is_limited() && place.owner != self.owner() {
                return Err(self.unknown(id, &tiers));
            }
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
            let named = tiers.iter().find(|tier| {
                model.as_deref().is_some_and(|model| tier.model.as_deref() == Some(model) || *tier.name == *model)
            });
            return Ok(named.unwrap_or(first).name.clone());
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

    /// Returns true if the caller may see its own objects only.
    fn is_limited(&self) -> bool {
        self.key.is_some_and(|key| !key.admin)
    }

    fn owner(&self) -> &str {
        self.key.map_or("", |key| &key.name)
    }

    /// Returns the error of an id that is unknown, or another caller's: which of the two is nobody else's to know.
    fn unknown(&self, id: &str, tiers: &[ObjectTier]) -> LlmError {
        let message = match self.is_limited() {
            true => format!("`{id}`: no object of this key has this id"),
            false => {
                let names: Vec<&str> = tiers.iter().map(|tier| &*tier.name).collect();
                let names = names.join(", ");
                format!("`{id}`: this gateway did not make it, and does not know which of its tiers has it ({names})")
            }
        };
        LlmError::new(ErrorKind::NotFound, message)
    }

    /// Sends the request to the provider.
    async fn send(
        &self,
        tier: &str,
        method: Method,
        path: &str,
        headers: &HeaderMap,
        sent: Sent,
        settings: &Settings,
    ) -> Result<Response<StreamedBody>, Failure> {
        let mut own = forwarded(self.call.dialect, headers);
        for name in [header::CONTENT_TYPE, header::ACCEPT, header::RANGE] {
            own.extend(headers.get(&name).map(|value| (name, value.clone())));
        }
        let body = match sent {
            Sent::Json(json) => StreamedBody::new(Full::new(json).map_err(|never| match never {})),
            Sent::Upload(body) => {
                let length = announced(headers).map_err(Failure::Error)?.unwrap_or(MAX_UPLOAD);
                let announcement = headers.get(header::CONTENT_LENGTH);
                own.extend(announcement.map(|length| (header::CONTENT_LENGTH, length.clone())));
                let body = Limited::upload(body, settings);
                let failure = body.failure();
                let sending = self.stack.send_for_object(tier, method, path, own, StreamedBody::new(body));
                return timed(head_limit(length), tier, sending).await.map_err(|error| match failure.get() {
                    Some(error) => Failure::Body(*error),
                    None => Failure::Error(error),
                });
            }
        };
        let sending = self.stack.send_for_object(tier, method, path, own, body);
        timed(head_limit(0), tier, sending).await.map_err(Failure::Error)
    }

    /// Remembers the ids of an answer, and leaves other callers' objects out of a list.
    async fn read(
        &self,
        tier: &str,
        method: &Method,
        response: Response<StreamedBody>,
    ) -> Result<Response<Body>, LlmError> {
        let (head, body) = response.into_parts();
        let body = Body::new(Limited::new(body, SILENCE));
        let has_ids = head.status.is_success() && !self.call.is_content && is_json(&head.headers);
        if !has_ids {
            return Ok(Response::from_parts(head, body));
        }
        let is_list = self.is_limited() && method == Method::GET && self.call.id.is_none();
        let json = match read_up_to(MAX_ANSWER, body).await? {
            Ok(json) => json,
            Err(_) if is_list => {
                let message = "the provider's list is too long to leave other callers' objects out; set a `limit`";
                return Err(LlmError::new(ErrorKind::Malformed, message));
            }
            Err(rest) => return Ok(Response::from_parts(head, rest)),
        };
        let json = if self.call.dialect == Dialect::Anthropic { with_own_address(json) } else { json };
        if is_list {
            return Ok(Response::from_parts(head, self.own_of_list(&json).await?.into()));
        }
        let is_gone = method == Method::DELETE && self.call.is_object;
        let stored = match (&self.call.id, is_gone) {
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
        let ids = ids_in(json).unwrap_or_default();
        let place = |id| Place { id, owner: self.owner().to_owned(), tier: tier.to_owned() };
        ids.into_iter().map(place).collect()
    }

    /// Returns a list without the objects of other callers.
    async fn own_of_list(&self, json: &[u8]) -> Result<Bytes, LlmError> {
        let malformed = || LlmError::new(ErrorKind::Malformed, "the provider's list is not one that is understood");
        let mut list: Value = serde_json::from_slice(json).map_err(|_| malformed())?;
        let data = list.get_mut("data").and_then(Value::as_array_mut).ok_or_else(malformed)?;
        let id = |object: &Value| object["id"].as_str().map(str::to_owned);
        let ids: Vec<String> = data.iter().filter_map(id).collect();
        let known = self.places.find(&ids).await.map_err(store_failure)?;
        let is_own = |id: &str| known.iter().any(|place| place.id == id && place.owner == self.owner());
        data.retain(|object| object["id"].as_str().is_some_and(is_own));
        Ok(list.to_string().into())
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

/// Returns the path with the part of the query that is the provider's.
fn path_of(call: &ObjectCall, query: Option<&str>) -> String {
    // A key, and Azure's version, are for the gateway.
    let is_providers = |pair: &&str| !["key", "api-version"].contains(&pair.split('=').next().unwrap_or_default());
    let pairs: Vec<&str> = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).collect();
    let query = pairs.into_iter().filter(is_providers).collect::<Vec<_>>().join("&");
    if query.is_empty() { call.path.to_string() } else { format!("{}?{query}", call.path) }
}

/// Reads a body whole, or returns a body of all of it, if it is over the limit.
async fn read_up_to(most: usize, body: Body) -> Result<Result<Bytes, Body>, LlmError> {
    let mut pieces = BodyDataStream::new(body);
    let mut read = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| {
            LlmError::new(ErrorKind::StreamBroken, "the provider's answer broke off").with_source(error)
        })?;
        read.extend_from_slice(&piece);
        if read.len() > most {
            let begun = stream::once(async { Ok(read.freeze()) });
            return Ok(Err(Body::from_stream(begun.chain(pieces))));
        }
    }
    Ok(Ok(read.freeze()))
}

/// Returns the provider's answer to the caller.
fn passed(entry: &Entry, explain: bool, answer: Response<Body>, call: &ObjectCall) -> Response<Body> {
    const KEPT: [HeaderName; 4] =
        [header::CONTENT_TYPE, header::CONTENT_DISPOSITION, header::CONTENT_RANGE, header::ACCEPT_RANGES];
    let (head, body) = answer.into_parts();
    entry.answered(None);
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    let headers = response.headers_mut();
    for name in KEPT {
        headers.extend(head.headers.get(&name).map(|value| (name, value.clone())));
    }
    copy_headers(Some(&head.headers), headers);
    entry.write_headers(explain, headers);
    set_request_id(call.dialect, headers);
    response
}

/// Returns the error of a store that cannot be read: the same request may work later.
fn store_failure(_: GuardError) -> LlmError {
    const RETRY_AFTER: Duration = Duration::from_secs(1);
    let message = "the store did not answer, so that nobody knows which provider has the object; repeat the request";
    LlmError::new(ErrorKind::Store, message).with_retry_after(RETRY_AFTER)
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
        let call = ObjectCall::at("/v1/files", &HeaderMap::new()).unwrap();
        for (query, path) in [
            (None, "/files"),
            (Some("key=sk-1&api-version=2"), "/files"),
            (Some("limit=2&key=sk-1&after=file-1"), "/files?limit=2&after=file-1"),
        ] {
            assert_eq!(path_of(&call, query), path);
        }
    }
}
