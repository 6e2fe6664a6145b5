//! The lane of paths that are no conversation, such as `/v1/embeddings`. Their bytes pass as they are, through the same
//! layers as conversations: deadline, caps, places of the feature, circuits, retries, records.

mod paths;

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response, header, request::Parts};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Value, json};
use steadfast::{
    BodyRest, Dialect, ErrorKind, LlmError, LlmRequest, LlmResponse, OpaqueCall, Unit, body::AnswerMemory,
};
use steadfast_stack::CallKind;
use tokio_util::sync::CancellationToken;

pub(crate) use self::paths::{Call, call_at, is_of_lane, served};
use super::{
    GatewayState,
    addresses::Deployment,
    admission::admit_bytes,
    body_kind,
    form::{self, Form, FormRest},
    keys::{self, Key},
    named_models,
    ownership::{AnswerIds, NotedBody, is_id},
    panic,
    pipeline::{
        ConnectionContext, admit, body_failure, copy_headers, counted, deny, deny_at_door, fail, immediate,
        note_options, panicked, set_request_id,
    },
    records::{Entry, Outcome},
    refusal,
    request_options::{RequestOptions, forwarded},
    stream::stopping,
    upload,
};
use crate::http::Answering;

/// Answers a call that is no conversation.
pub(crate) fn answer<'a>(
    gateway: &Arc<GatewayState>,
    connection: &'a ConnectionContext,
    call: Call,
    request: Request<Body>,
) -> Answering<'a> {
    let (Parts { mut headers, extensions, uri, .. }, body) = request.into_parts();
    let (key, dialect) = (extensions.get::<Arc<Key>>().cloned(), call.dialect());
    if let Some(key) = &key
        && !call.is_listed
        && let Err(denied) = key.passes(&call.path)
    {
        return immediate(deny_at_door(gateway, &denied, Some(key), dialect));
    }
    let mut options = RequestOptions::from_headers(&headers);
    if let Some(key) = &key
        && let Err(denied) = admit(key, &mut options)
    {
        return immediate(deny_at_door(gateway, &denied, Some(key), dialect));
    }
    let mut entry = gateway.records.begin(dialect);
    entry.set_call(call.kind.name());
    if let Some(key) = &key {
        entry.set_key(&key.name);
    }
    note_options(gateway, &mut entry, &mut options);
    let (gateway, record, is_coheres) = (gateway.clone(), entry.record(), call.is_coheres());
    let answering = async move {
        let settings = gateway.lifecycle.current.load_full();
        let (is_form, body) = match body_kind::opened_of_one_kind(&mut headers, body, &settings) {
            Ok(opened) => opened,
            Err(error) => return fail(&entry, options.explain, &error, dialect),
        };
        let reader = gateway.reader(&settings, key.as_ref());
        let read = match is_form.then(|| upload::announced(&headers)) {
            Some(Err(error)) => return fail(&entry, options.explain, &error, dialect),
            Some(Ok(_)) => reader.read_beginning(&headers, body).await,
            None => reader.read(&headers, body).await.map(|body| (body, None)),
        };
        let (body, rest) = match read {
            Ok(read) => read,
            Err(error) => return body_failure(&entry, error, &settings, options.explain, dialect),
        };
        let is_named = call.model.is_some() || extensions.get::<Deployment>().is_some();
        let content_type = headers.get(header::CONTENT_TYPE);
        let ownership = gateway.ownership(key.as_ref());
        let owns = ownership.is_some();
        let rest =
            content_type.zip(rest).map(|(kind, rest)| FormRest::new(kind, &body, rest, is_named, owns, &settings));
        let rest = match rest.transpose() {
            Ok(rest) => rest,
            Err(error) => return fail(&entry, options.explain, &error, dialect),
        };
        if let Some(ownership) = &ownership {
            let mut names = call.names(uri.query());
            let of_form = match (&rest, content_type.filter(|_| is_form)) {
                (Some(rest), _) => Ok(rest.form().ids.clone()),
                (None, Some(kind)) => Form::ids(kind, &body),
                (None, None) => Ok(Vec::new()),
            };
            match of_form {
                Ok(ids) => names.ids.extend(ids.into_iter().filter(|id| is_id(call.scope(), id))),
                Err(error) => return fail(&entry, options.explain, &error, dialect),
            }
            // A form's file may be JSON, and is data.
            let json = if is_form { Bytes::new() } else { body.clone() };
            let admitted = admit_bytes(ownership, call.scope(), dialect, names, json).await;
            if let Err(error) = admitted {
                return fail(&entry, options.explain, &error, dialect);
            }
        }
        // The answers of known paths give no ids.
        let ids = ownership.filter(|_| call.kind == CallKind::Other);
        let mut ids = ids.map(|ownership| AnswerIds::new(ownership, call.scope(), true));
        let failure = rest.as_ref().map(FormRest::failure);
        let is_unread = !is_form && content_type.is_some_and(|content_type| !is_json(content_type, call.kind));
        if is_unread && key.as_ref().is_some_and(|key| key.is_for_some_models()) {
            let error = body_kind::unsupported("this key is for some models alone: name one in a body of JSON");
            return fail(&entry, options.explain, &error, dialect);
        }
        let request = prepared(&gateway, &call, &headers, extensions.get(), body, rest);
        let request = request.and_then(|request| options.apply(request));
        let space = gateway.memory.answers(key.as_ref().map(|key| &key.memory));
        let request = match request {
            Ok(request) => request
                .with_id(entry.shared_id())
                .with_status_of(refusal::status_of(entry.reader(), dialect))
                .with_extension(AnswerMemory::new(space.clone())),
            Err(error) => return fail(&entry, options.explain, &error, dialect),
        };
        if let Some(Err(denied)) = key.as_ref().map(|key| key.model(request.model())) {
            return deny(&entry, &denied, dialect);
        }
        if let Some(body) = request.opaque().map(OpaqueCall::body).filter(|_| !is_form) {
            match named_models::check(key.as_ref(), body).await {
                Ok(Ok(())) => {}
                Ok(Err(denied)) => return deny(&entry, &denied, dialect),
                Err(error) => return fail(&entry, options.explain, &error, dialect),
            }
        }
        let model: Option<Arc<str>> = request.model().map(Into::into);
        entry.set_request(model.as_ref(), options.feature.take(), request.is_stream());
        let answered = tokio::select! {
            biased;
            answered = keys::call(key, &connection.service, request) => answered,
            () = connection.cut.cancelled() => Err(stopping()),
        };
        if let (Some(ids), Ok(response)) = (&mut ids, &answered) {
            ids.served(response.served_by().tier);
        }
        match answered {
            Ok(response) if response.body().arrives_in_frames() => {
                let answer = streamed(entry, options.explain, response, dialect, &connection.cut);
                match ids {
                    Some(ids) => answer.map(|body| Body::new(NotedBody::new(body, ids))),
                    None => answer,
                }
            }
            Ok(response) => {
                if let (Some(ids), Some((_, raw))) = (ids, response.body().wire()) {
                    ids.give_all(raw).await;
                }
                let answer = complete(&entry, options.explain, response, dialect);
                counted(&entry, options.explain, space, answer, dialect).await
            }
            Err(error) => match failure.and_then(|failure| failure.get().copied()) {
                Some(failure) => body_failure(&entry, failure, &settings, options.explain, dialect),
                None => fail(&entry, options.explain, &error, dialect),
            },
        }
    };
    let answering = panic::respond(answering, move |caught| panicked(caught, &record, connection, dialect));
    Box::pin(async move {
        let response = answering.await;
        if is_coheres && !response.status().is_success() { in_coheres_words(response).await } else { response }
    })
}

/// Creates the request: the caller's bytes, and the pool of tiers that its model belongs to. `rest` is the part of a
/// form that is still to come.
fn prepared(
    gateway: &GatewayState,
    call: &Call,
    headers: &HeaderMap,
    deployment: Option<&Deployment>,
    body: Bytes,
    rest: Option<FormRest>,
) -> Result<LlmRequest, LlmError> {
    let (kind, dialect) = (call.kind, call.dialect());
    let content_type = headers.get(header::CONTENT_TYPE).cloned();
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
            (OpaqueCall::bytes(dialect, call.path.clone(), content_type, body, model), unit)
        }
        None => {
            let body = match deployment {
                Some(deployment) => deployment.in_body(dialect, body)?,
                None => body,
            };
            let unit = unit(kind, &body);
            (OpaqueCall::json(dialect, call.path.clone(), body)?, unit)
        }
    };
    if let Some(model) = deployment.map(|Deployment(name)| name).or(call.model.as_ref()) {
        opaque = opaque.for_model(&**model);
    }
    let pool = gateway.catalog.lane_pool(kind, dialect, opaque.model())?;
    if opaque.model().is_none() {
        opaque = opaque.for_model(pool.model);
    }
    opaque = opaque.with_pool(pool.name).headers(forwarded(dialect, headers)).billed_by(unit);
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
fn complete(entry: &Entry, explain: bool, mut response: LlmResponse, dialect: Dialect) -> Response<Body> {
    entry.served(&mut response);
    let Some(body) = response.body().wire().map(|(_, raw)| raw.clone()) else {
        let error = LlmError::new(ErrorKind::Other, "the answer has no bytes of a provider");
        return fail(entry, explain, &error, dialect);
    };
    entry.answered(response.usage());
    with_head(entry, explain, response.headers(), dialect, Body::from(body))
}

/// Returns a response of these bytes, with the provider's type of content.
fn with_head(
    entry: &Entry,
    explain: bool,
    provider: Option<&HeaderMap>,
    dialect: Dialect,
    body: Body,
) -> Response<Body> {
    let mut head = HeaderMap::new();
    copy_headers(provider, &mut head);
    entry.write_headers(explain, &mut head);
    set_request_id(dialect, &mut head);
    let content_type = provider.and_then(|headers| headers.get(header::CONTENT_TYPE)).cloned();
    head.insert(header::CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static("application/json")));
    let mut answer = Response::new(body);
    *answer.headers_mut() = head;
    answer
}

/// Returns an answer that passes on piece by piece. One that breaks off breaks the caller's connection too, so that
/// nobody takes it for whole.
fn streamed(
    entry: Entry,
    explain: bool,
    mut response: LlmResponse,
    dialect: Dialect,
    cut: &CancellationToken,
) -> Response<Body> {
    entry.served(&mut response);
    let provider = response.headers().cloned();
    let mut answer = with_head(&entry, explain, provider.as_ref(), dialect, Body::empty());
    let pieces = stream::unfold(Some((entry, response, cut.clone())), async |state| {
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
async fn in_coheres_words(response: Response<Body>) -> Response<Body> {
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
