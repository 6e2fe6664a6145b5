//! Calls that are no conversation, at a leaf: the caller's bytes out, the provider's bytes back.

use std::{borrow::Cow, pin::Pin, sync::Arc};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use tower::BoxError;

use super::{
    RequestBody,
    address::{self, no_address},
    dispatch::{dispatch, take},
    error::error_of,
    form::{Form, SeenBody},
    leaf::Settings,
    reading::{read_error, read_whole},
    upload,
};
use crate::{
    Dialect, ErrorKind, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, OpaqueCall, StreamEvent,
    boxed::{Body, Transport},
    commit::{self, Commit},
    error::OmittedParameter,
    failure::of_transport,
    prices::own_cost::HeaderCost,
    protocol::{Origin, Protocol, beginning, excerpt, no_model, of_body, request_id},
    response::ResponseFuture,
    splice,
    wire::ENCODING,
};

/// Makes an opaque call with a transport that is ready.
pub(super) fn call<P: Protocol>(
    settings: &Arc<Settings<P>>,
    ready: &mut Transport,
    request: LlmRequest,
) -> ResponseFuture {
    let settings = settings.clone();
    let origin = settings.coder.origin(settings.coder.model_of(&request)).of(&request);
    match prepare(&settings, &request, &origin) {
        Err(error) => ResponseFuture::new(std::future::ready(Err(origin.stamp(error)))),
        Ok(sent) => match request.opaque().and_then(OpaqueCall::rest) {
            None => {
                let sending = dispatch(&settings, None, take(ready), sent, &request);
                ResponseFuture::new(answer(settings, origin, request, sending))
            }
            Some(rest) => match upload::send(&settings, sent, rest) {
                Ok(sending) => ResponseFuture::new(answer(settings, origin, request, sending)),
                Err(error) => ResponseFuture::new(std::future::ready(Err(origin.stamp(error)))),
            },
        },
    }
}

/// Prepares the HTTP request.
fn prepare<P: Protocol>(
    settings: &Settings<P>,
    request: &LlmRequest,
    origin: &Origin,
) -> Result<Request<RequestBody>, LlmError> {
    let coder = &settings.coder;
    let call = request.opaque().filter(|call| is_of(call, coder.protocol.dialect()));
    let Some(call) = call else { return Err(request.chat().err().unwrap_or_else(no_model)) };
    let model = origin.model.as_deref();
    let own = own_path(call.path(), model)?;
    let is_encoding = |path: &Cow<'_, str>| *path == ENCODING;
    let is_known =
        || model.is_some_and(|model| coder.refused.of(model, request.caller_number()).iter().any(is_encoding));
    let is_omitted = |request: &LlmRequest| request.omitted_parameters().iter().any(|omitted| omitted.path == ENCODING);
    let without: &[&str] = match call.has_encoding() && (is_omitted(request) || is_known()) {
        true => &[ENCODING],
        false => &[],
    };
    let mut http = posted(settings, (call, without), &own, model)?;
    http.headers_mut().insert(header::CONTENT_TYPE, call.content_type().clone());
    Ok(http)
}

/// Returns true if a leaf of this dialect has the call's API.
fn is_of(call: &OpaqueCall, dialect: Dialect) -> bool {
    call.dialect() == dialect
}

/// Returns the path with the model's name.
fn own_path<'a>(path: &'a str, model: Option<&str>) -> Result<Cow<'a, str>, LlmError> {
    match path.split_once("{model}") {
        None => Ok(path.into()),
        Some((before, after)) => Ok(format!("{before}{}{after}", model.ok_or_else(no_model)?).into()),
    }
}

/// Creates the request to the provider's API or to the leaf's door.
fn posted<P: Protocol>(
    settings: &Settings<P>,
    (call, without): (&OpaqueCall, &[&'static str]),
    path: &str,
    model: Option<&str>,
) -> Result<Request<RequestBody>, LlmError> {
    let headers = call.header_map().clone();
    // The base has the first version already.
    let first = ["/v1beta/", "/v1alpha/", "/v1/"].into_iter().find(|version| path.starts_with(version));
    let own = first.map_or(path, |version| &path[version.len() - 1..]);
    #[cfg(feature = "clouds")]
    if let Some(door) = settings.door.as_deref() {
        if first.is_none() {
            return Err(LlmError::new(ErrorKind::UnsupportedFeature, format!("{path}: no cloud has this path")));
        }
        let protocol = &settings.coder.protocol;
        let named = door.model_in_body(protocol.dialect());
        let body = body(call, without, named.as_deref().or(model), protocol.model_in_body())?;
        let path = door.path(protocol.dialect(), model.unwrap_or_default(), call.is_stream(), own);
        let mut request = address::addressed(settings, headers, &path, body)?;
        door.finish(protocol, settings.coder.key.as_deref(), request.headers_mut())?;
        return Ok(request);
    }
    let body = body(call, without, model, settings.coder.protocol.model_in_body())?;
    addressed(settings, headers, own, first.is_none(), body)
}

/// Creates the request to a path behind the leaf's base, or behind its host where the path has a version of its own.
fn addressed<P: Protocol>(
    settings: &Settings<P>,
    headers: HeaderMap,
    path: &str,
    is_versioned: bool,
    body: RequestBody,
) -> Result<Request<RequestBody>, LlmError> {
    let mut request = address::addressed(settings, headers, path, body)?;
    if is_versioned {
        let uri = settings.base.without_version().join(path);
        *request.uri_mut() = uri.map_err(no_address)?;
    }
    Ok(request)
}

/// Returns the caller's bytes with the model's name in them, and without these fields.
fn body(
    call: &OpaqueCall,
    without: &[&'static str],
    model: Option<&str>,
    in_body: bool,
) -> Result<RequestBody, LlmError> {
    let bytes = call.body();
    let model = model.filter(|model| in_body && call.model() != Some(*model));
    if model.is_none() && without.is_empty() {
        return Ok(bytes.clone().into());
    }
    if let Some(object) = call.object() {
        let changes = splice::Changes { model, removed: without, ..splice::Changes::default() };
        let pieces = splice::set(bytes, object, &changes).map_err(|broken| {
            LlmError::new(ErrorKind::InvalidRequest, format!("the body is no JSON object: {broken}"))
        })?;
        return Ok(RequestBody::pieces(pieces));
    }
    match model.zip(call.model_at()) {
        Some((model, place)) => Ok(RequestBody::pieces(vec![
            bytes.slice(..place.start),
            Bytes::copy_from_slice(model.as_bytes()),
            bytes.slice(place.end..),
        ])),
        None => Ok(bytes.clone().into()),
    }
}

/// Sends a call again without the form of its vectors, which the server refuses.
fn send_again<P: Protocol>(
    settings: Arc<Settings<P>>,
    mut origin: Origin,
    request: LlmRequest,
) -> Pin<Box<dyn Future<Output = Result<LlmResponse, LlmError>> + Send>> {
    (origin.status, origin.request_id) = (None, None);
    let request = request.without_parameters(&[OmittedParameter { path: ENCODING.into(), lasting: true }]);
    match prepare(&settings, &request, &origin) {
        Err(error) => Box::pin(std::future::ready(Err(origin.stamp(error)))),
        Ok(sent) => {
            let sending = dispatch(&settings, None, settings.again.clone(), sent, &request);
            Box::pin(answer(settings, origin, request, sending))
        }
    }
}

/// Returns true if a server refuses the form of vectors that a call asks for, and was not asked without it.
fn refuses_encoding(request: &LlmRequest, error: &LlmError) -> bool {
    let asks = request.opaque().is_some_and(|call| call.has_encoding() && !call.is_upload());
    let says = |text: &str| beginning(text).contains(ENCODING);
    asks && request.omitted_parameters().is_empty()
        && error.kind() == ErrorKind::InvalidRequest
        && (says(error.message()) || error.raw().is_some_and(|raw| says(&String::from_utf8_lossy(raw))))
}

/// Reads the answer.
async fn answer<P: Protocol>(
    settings: Arc<Settings<P>>,
    mut origin: Origin,
    request: LlmRequest,
    sending: impl Future<Output = Result<Response<Body>, BoxError>>,
) -> Result<LlmResponse, LlmError> {
    let response = match sending.await {
        Ok(response) => response,
        Err(error) => return Err(origin.stamp(of_transport(error))),
    };
    let (head, body) = response.into_parts();
    origin.status = Some(head.status);
    origin.request_id = request_id(&head.headers);
    origin.cost = HeaderCost::of(&head.headers);
    let limits = settings.coder.limits;
    if !head.status.is_success() {
        let body = read_error(body, limits.error).await;
        let error = error_of(&settings, &request, &origin, &head, body);
        return match !settings.coder.strict && refuses_encoding(&request, &error) {
            true => send_again(settings, origin, request).await,
            false => Err(origin.stamp(error)),
        };
    }
    let mut memory = commit::memory_for(&request);
    // Other bytes than JSON may look like anything.
    let (form, body) = match Form::labelled(&head.headers, false) {
        Form::Page => match Form::seen(Form::Page, body).await {
            Ok(seen) => seen,
            Err(error) => return Err(origin.stamp(error)),
        },
        form => (form, SeenBody::of(body)),
    };
    let read = match form {
        Form::Compressed => {
            let message = "the answer is compressed, and the transport did not decompress it";
            Err(LlmError::new(ErrorKind::Malformed, message))
        }
        Form::Page => {
            let body = read_error(body, limits.error).await;
            Err(LlmError::new(ErrorKind::Malformed, excerpt(&body, None)).with_raw(origin.secret.redact(&body)))
        }
        Form::Whole | Form::Events if is_streamed(&head.headers, &request) => {
            let frames = frames(body, origin.clone(), request.clone(), limits.answer);
            let commit = request.context().commit.unwrap_or(settings.commit);
            Commit::new(frames, commit, Some(request)).await
        }
        Form::Whole | Form::Events => match read_whole(body, limits.answer, &mut memory).await {
            Ok(raw) if raw.is_empty() => Err(LlmError::new(ErrorKind::EmptyAnswer, "the body is empty")),
            Ok(raw) => {
                let usage = request.opaque().map_or(Ok(None), |call| call.read(&raw));
                settings.coder.remember(&request, origin.model.as_ref());
                usage.map(|mut usage| {
                    if let Some(usage) = &mut usage {
                        origin.cost.complete(usage);
                    }
                    let raw = match request.opaque() {
                        Some(call) => call.in_callers_form(raw),
                        None => raw,
                    };
                    memory.leave(raw.len());
                    LlmBody::opaque(origin.dialect, raw, usage)
                })
            }
            Err(error) => Err(error),
        },
    };
    let body = read.map_err(|error| origin.stamp(error))?;
    Ok(origin.add_to(LlmResponse::new(body).with_headers(head.headers)))
}

/// Returns true for an answer that goes on piece by piece: events that the caller expects, or sound and the like, which
/// may be played as it comes.
fn is_streamed(headers: &HeaderMap, request: &LlmRequest) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes).to_ascii_lowercase();
    let is = |start: &[u8]| content_type.starts_with(start);
    let Some(call) = request.opaque().filter(|call| !call.is_checked()) else { return false };
    match is(b"text/event-stream") {
        true => call.may_have_events(),
        false => is(b"audio/") || is(b"video/") || is(b"application/octet-stream"),
    }
}

/// A streamed answer under way.
struct Pieces {
    body: SeenBody,
    origin: Origin,
    request: LlmRequest,
    /// The bytes that may still come.
    room: usize,
    /// The last bytes, in which the number that is billed may stand.
    end: Vec<u8>,
    is_first: bool,
    is_over: bool,
}

/// The bytes of the end that are kept.
const END: usize = 4096;

/// Returns the pieces of a streamed answer.
fn frames(body: SeenBody, origin: Origin, request: LlmRequest, room: usize) -> LlmBody {
    let pieces = Pieces { body, origin, request, room, end: Vec::new(), is_first: true, is_over: false };
    LlmBody::from_frames(stream::unfold(pieces, |mut pieces| async move {
        let next = pieces.next().await?;
        pieces.is_over |= next.is_err();
        Some((next, pieces))
    }))
}

impl Pieces {
    async fn next(&mut self) -> Option<Result<Frame, LlmError>> {
        if self.is_over {
            return None;
        }
        loop {
            let data = match self.body.frame().await {
                None => return Some(Ok(self.last())),
                Some(Err(error)) => return Some(Err(self.origin.stamp(of_body(error)))),
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            if data.is_empty() {
                continue;
            }
            let Some(room) = self.room.checked_sub(data.len()) else {
                let error = LlmError::new(ErrorKind::Malformed, "the answer is larger than the limit");
                return Some(Err(self.origin.stamp(error)));
            };
            self.room = room;
            if std::mem::take(&mut self.is_first)
                && let Some(raw) = error_in(&data)
            {
                let raw = self.origin.secret.redact(&raw);
                let error = LlmError::new(ErrorKind::Server, excerpt(&raw, None)).with_raw(raw);
                return Some(Err(self.origin.stamp(error)));
            }
            let kept = &data[data.len().saturating_sub(END)..];
            let before = (self.end.len() + kept.len()).saturating_sub(END).min(self.end.len());
            self.end.drain(..before);
            self.end.extend_from_slice(kept);
            return Some(Ok(Frame::event(StreamEvent::Bytes).with_raw(self.origin.dialect, data)));
        }
    }

    /// Returns the end of the answer, with what was billed.
    fn last(&mut self) -> Frame {
        self.is_over = true;
        let usage = self.request.opaque().and_then(|call| call.read_end(&self.end));
        Frame::events_of(usage.map(StreamEvent::Usage).into_iter().chain([StreamEvent::End]).collect())
    }
}

/// Returns the error that a stream of events begins with.
fn error_in(first: &Bytes) -> Option<Bytes> {
    let lines = first.strip_prefix(b"event: error").map(<[u8]>::trim_ascii_start);
    let data = lines.unwrap_or(first).strip_prefix(b"data: ")?;
    let line = data.split(|byte| *byte == b'\n').next()?.trim_ascii_end();
    (lines.is_some() || line.starts_with(br#"{"error""#)).then(|| first.slice_ref(line))
}
