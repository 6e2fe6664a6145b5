//! The lane of paths that are no conversation, such as `/v1/embeddings`. Their bytes pass as they are, through the same
//! layers as conversations: deadline, caps, places of the feature, circuits, retries, records.

use std::sync::{Arc, OnceLock};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Value, json};
use steadfast::{BodyRest, ErrorKind, LlmError, LlmRequest, LlmResponse, OpaqueCall, Unit, body::AnswerMemory};
use steadfast_stack::CallKind;
use tokio_util::sync::CancellationToken;

use super::{
    admission::admit_bytes,
    body_error::BodyError,
    body_kind,
    call::Call,
    connection::ConnectionContext,
    failure::Failure,
    form::{self, Form, FormRest},
    heads::copy_headers,
    keys,
    ownership::{AnswerIds, Names, NotedBody, Scope, is_id},
    paths::{addresses::Deployment, lane::LaneCall},
    query::pairs_of,
    records::Outcome,
    refusal,
    request_options::forwarded,
    upload,
};
use crate::{lifecycle::stopping, limits::answers::AnswerSpace};

/// The address of a call of the lane.
pub(crate) struct LaneAddress {
    pub(crate) call: LaneCall,
    /// The model that the address names, in place of the body's.
    pub(crate) deployment: Option<Deployment>,
    pub(crate) query: Option<Box<str>>,
}

/// What the answer to a request needs.
struct Prepared {
    request: LlmRequest,
    /// The ids that the answer gives.
    ids: Option<AnswerIds>,
    /// The failure of the part of a form that is still to come.
    failure: Option<Arc<OnceLock<BodyError>>>,
    space: Arc<AnswerSpace>,
}

/// Answers a call that is no conversation.
pub(crate) async fn answer(
    mut call: Box<Call>,
    address: LaneAddress,
    body: Body,
    connection: &ConnectionContext,
) -> Response<Body> {
    call.entry.set_call(address.call.kind.name());
    match prepare(&mut call, &address, body).await {
        Ok(prepared) => ask(call, prepared, connection).await,
        Err(failure) => call.refuse(failure),
    }
}

/// Reads the body, and returns the request that it is, if the caller may make it.
async fn prepare(call: &mut Call, address: &LaneAddress, body: Body) -> Result<Prepared, Failure> {
    let LaneAddress { call: lane, deployment, query } = address;
    let (is_form, body) = call.open(body)?;
    let (body, rest) = match is_form {
        true => {
            upload::announced(&call.headers)?;
            call.reader().read_beginning(&call.headers, body).await?
        }
        false => (call.reader().read(&call.headers, body).await?, None),
    };
    let content_type = call.headers.get(header::CONTENT_TYPE);
    let ownership = call.ownership();
    let is_named = lane.model.is_some() || deployment.is_some();
    let rest = content_type
        .zip(rest)
        .map(|(kind, rest)| FormRest::new(kind, &body, rest, is_named, ownership.is_some(), &call.settings))
        .transpose()?;
    if let Some(ownership) = &ownership {
        let mut names = names(lane, query.as_deref());
        let of_form = match (&rest, content_type.filter(|_| is_form)) {
            (Some(rest), _) => rest.form().ids.clone(),
            (None, Some(kind)) => Form::ids(kind, &body)?,
            (None, None) => Vec::new(),
        };
        names.ids.extend(of_form.into_iter().filter(|id| is_id(scope(lane), id)));
        // A form's file may be JSON, and is data.
        let json = if is_form { Bytes::new() } else { body.clone() };
        admit_bytes(ownership, scope(lane), lane.dialect, names, json).await?;
    }
    // The answers of known paths give no ids.
    let ids = ownership.filter(|_| lane.kind == CallKind::Other);
    let ids = ids.map(|ownership| AnswerIds::new(ownership, scope(lane), true));
    let failure = rest.as_ref().map(FormRest::failure);
    let is_unread = !is_form && content_type.is_some_and(|content_type| !is_json(content_type, lane.kind));
    if is_unread && call.is_for_some_models() {
        let problem = "this key is for some models alone: name one in a body of JSON";
        return Err(body_kind::unsupported(problem).into());
    }
    let request = call.options.apply(request(call, lane, deployment.as_ref(), body, rest)?)?;
    let space = call.answer_space();
    let request = request
        .with_id(call.entry.shared_id())
        .with_status_of(refusal::status_of(call.entry.reader(), call.dialect))
        .with_extension(AnswerMemory::new(space.clone()));
    call.check_model(request.model())?;
    if let Some(body) = request.opaque().map(OpaqueCall::body).filter(|_| !is_form) {
        call.check_named_models(body).await?;
    }
    let model: Option<Arc<str>> = request.model().map(Into::into);
    call.entry.set_request(model.as_ref(), call.options.feature.take(), request.is_stream());
    call.entry.set_session(request.session());
    Ok(Prepared { request, ids, failure, space })
}

/// Asks the service, and returns its answer.
async fn ask(call: Box<Call>, prepared: Prepared, connection: &ConnectionContext) -> Response<Body> {
    let Prepared { request, mut ids, failure, space } = prepared;
    let answered = tokio::select! {
        biased;
        answered = keys::call(call.key.clone(), &connection.service, request) => answered,
        () = connection.cut.cancelled() => Err(stopping()),
    };
    let response = match answered {
        Ok(response) => response,
        Err(error) => {
            let of_body = failure.and_then(|failure| failure.get().copied());
            return call.refuse(of_body.map_or(Failure::Error(error), Failure::Body));
        }
    };
    if let Some(ids) = &mut ids {
        ids.served(response.served_by().tier);
    }
    if response.body().arrives_in_frames() {
        let answer = streamed(call, response, &connection.cut);
        return match ids {
            Some(ids) => answer.map(|body| Body::new(NotedBody::new(body, ids))),
            None => answer,
        };
    }
    if let (Some(ids), Some((_, raw))) = (ids, response.body().wire()) {
        ids.give_all(raw).await;
    }
    let answer = complete(&call, response);
    call.counted(space, answer).await
}

/// Returns what ids may stand in the body of a call.
fn scope(lane: &LaneCall) -> Scope {
    if lane.kind == CallKind::Other { Scope::Unknown } else { Scope::Conversation(lane.dialect) }
}

/// Returns the ids in the path and the query of a call.
fn names(lane: &LaneCall, query: Option<&str>) -> Names {
    let mut names = Names::default();
    for part in lane.path.split('/').filter(|part| is_id(scope(lane), part)) {
        names.ids.insert(part.to_owned());
    }
    for [name, value] in pairs_of(query.unwrap_or_default()).unwrap_or_default() {
        names.add(scope(lane), &name, &value);
    }
    names
}

/// Creates the request: the caller's bytes, and the pool of tiers that its model belongs to. `rest` is the part of a
/// form that is still to come.
fn request(
    call: &Call,
    lane: &LaneCall,
    deployment: Option<&Deployment>,
    body: Bytes,
    rest: Option<FormRest>,
) -> Result<LlmRequest, LlmError> {
    let (kind, dialect) = (lane.kind, lane.dialect);
    let content_type = call.headers.get(header::CONTENT_TYPE).cloned();
    let (mut opaque, unit) = match content_type.filter(|content_type| !is_json(content_type, kind)) {
        Some(content_type) => {
            let form = match &rest {
                Some(rest) => rest.form().clone(),
                None if form::is_form(Some(&content_type)) => Form::read(&content_type, &body)?,
                None => Form::default(),
            };
            let unit = match unit(kind, &Bytes::new()) {
                Unit::Fixed(_) if kind == CallKind::Images => Unit::Fixed(form.count.unwrap_or(1)),
                other => other,
            };
            let (body, model) = match (deployment, form.model) {
                (Some(deployment), Some((_, place))) => {
                    let (body, place) = deployment.in_form(&body, place);
                    (body, Some(((*deployment.0).into(), place)))
                }
                (_, model) => (body, model),
            };
            (OpaqueCall::bytes(dialect, lane.path.clone(), content_type, body, model), unit)
        }
        None => {
            let body = match deployment {
                Some(deployment) => deployment.in_body(dialect, body)?,
                None => body,
            };
            let unit = unit(kind, &body);
            (OpaqueCall::json(dialect, lane.path.clone(), body)?, unit)
        }
    };
    if let Some(model) = deployment.map(|Deployment(name)| name).or(lane.model.as_ref()) {
        opaque = opaque.for_model(&**model);
    }
    let pool = call.gateway.catalog.lane_pool(kind, dialect, opaque.model())?;
    if opaque.model().is_none() {
        opaque = opaque.for_model(pool.model);
    }
    opaque = opaque.with_pool(pool.name).headers(forwarded(dialect, &call.headers)).billed_by(unit);
    if kind == CallKind::Embeddings {
        opaque = opaque.vectors(pool.dimensions);
    }
    let limit = rest.as_ref().map(FormRest::limit);
    if let Some(rest) = rest {
        opaque = opaque.with_rest(BodyRest::new(rest));
    }
    let request = LlmRequest::from(opaque);
    let request = limit.into_iter().fold(request, LlmRequest::with_timeout);
    // The gateway does not know whether the call may be repeated.
    Ok(if kind == CallKind::Other { request.with_max_attempts(1) } else { request })
}

/// Returns true if a body is read as JSON: unless it is a form, or of a path and a type that the gateway does not know.
fn is_json(content_type: &HeaderValue, kind: CallKind) -> bool {
    !form::is_form(Some(content_type)) && (kind != CallKind::Other || is_of_json(content_type))
}

/// Returns true for a content type of JSON.
fn is_of_json(content_type: &HeaderValue) -> bool {
    let essence = content_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let essence = essence.to_ascii_lowercase();
    matches!(&*essence, b"application/json" | b"text/json") || essence.ends_with(b"+json")
}

/// Returns the unit by which a call of a kind is billed, unless its answer reports tokens.
fn unit(kind: CallKind, body: &Bytes) -> Unit {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Fields {
        input: Option<Value>,
        n: Option<u64>,
    }
    let fields = || serde_json::from_slice::<Fields>(body).unwrap_or_default();
    match kind {
        CallKind::Embeddings | CallKind::Completions | CallKind::Other => Unit::Tokens,
        CallKind::Rerank => Unit::Searches,
        CallKind::Speech => {
            let text = fields().input;
            Unit::Fixed(text.as_ref().and_then(Value::as_str).map_or(0, |text| text.chars().count() as u64))
        }
        CallKind::Images => Unit::Fixed(fields().n.unwrap_or(1)),
        CallKind::Transcription => Unit::Seconds,
        // OpenAI's are free.
        CallKind::Moderations => Unit::Fixed(0),
    }
}

/// Returns a whole answer as the provider sent it.
fn complete(call: &Call, mut response: LlmResponse) -> Response<Body> {
    call.entry.served(&mut response);
    let Some(body) = response.body().wire().map(|(_, raw)| raw.clone()) else {
        return call.fail(&LlmError::new(ErrorKind::Other, "the answer has no bytes of a provider"));
    };
    call.entry.answered(response.usage());
    with_head(call, response.headers(), Body::from(body))
}

/// Returns a response of these bytes, with the provider's type of content.
fn with_head(call: &Call, provider: Option<&HeaderMap>, body: Body) -> Response<Body> {
    let mut head = HeaderMap::new();
    copy_headers(provider, &mut head);
    call.write_head(&mut head);
    let content_type = provider.and_then(|headers| headers.get(header::CONTENT_TYPE)).cloned();
    head.insert(header::CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static("application/json")));
    let mut answer = Response::new(body);
    *answer.headers_mut() = head;
    answer
}

/// Returns an answer that passes on piece by piece. One that breaks off breaks the caller's connection too, so that
/// nobody takes it for whole.
fn streamed(call: Box<Call>, mut response: LlmResponse, cut: &CancellationToken) -> Response<Body> {
    call.entry.served(&mut response);
    let provider = response.headers().cloned();
    let mut answer = with_head(&call, provider.as_ref(), Body::empty());
    let pieces = stream::unfold(Some((call.entry, response, cut.clone())), async |state| {
        let (entry, mut response, cut) = state?;
        loop {
            let next = tokio::select! {
                biased;
                next = response.body_mut().frame() => next,
                () = cut.cancelled() => Some(Err(stopping())),
            };
            match next {
                Some(Ok(frame)) => {
                    if let Some((_, raw)) = frame.raw() {
                        return Some((Ok(raw.clone()), Some((entry, response, cut))));
                    }
                }
                Some(Err(error)) => {
                    entry.failed(Outcome::Broken, &error);
                    return Some((Err(error), None));
                }
                None => {
                    entry.answered(response.usage());
                    return None;
                }
            }
        }
    });
    *answer.body_mut() = Body::from_stream(pieces);
    answer
}

/// Returns an error in the form of Cohere's API, which has its message at the top.
pub(crate) async fn in_coheres_words(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    // An error that was made here is whole already.
    let Ok(body) = body.collect().await else { return Response::from_parts(head, Body::empty()) };
    let body = body.to_bytes();
    let message = serde_json::from_slice::<Value>(&body).ok().and_then(|value| {
        let message = value["error"]["message"].as_str()?;
        Some(json!({ "message": message }).to_string())
    });
    let body = message.map_or(body, Bytes::from);
    head.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(head, Body::from(body))
}
