use std::{
    borrow::Cow,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower::{BoxError, Service};

use super::{
    ErrorBody, HttpLeaf, ModelChoice, Protocol, RequestBody,
    failure::{self, Origin, Secret},
    frames::Frames,
    leaf::{Body, RequestTemplate, Settings, Transport},
    parameter_refusal,
};
use crate::{
    CommitPoint, ErrorKind, Event, LlmBody, LlmError, LlmRequest, LlmResponse, Wire,
    commit::{Commit, empty_answer},
    error::OmittedParameter,
    internal::wall_clock,
    models::{Family, UNKNOWN},
    providers::splice,
    response::ResponseFuture,
    translate::{Names, Report, fit, may_need_mending, mend},
    wire::{FIELDS, Object, Stop, offload},
};

impl<P: Protocol> Service<LlmRequest> for HttpLeaf<P> {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        self.transport.poll_ready(cx).map_err(|error| {
            let origin = Origin::of(&self.settings, self.settings.model.clone());
            origin.stamp(failure::of_transport(error))
        })
    }

    fn call(&mut self, request: LlmRequest) -> ResponseFuture {
        let settings = self.settings.clone();
        let model = match (&settings.model, request.model()) {
            (Some(own), _) => Some(own.clone()),
            (None, Some(asked)) => Some(asked.into()),
            (None, None) => None,
        };
        let origin = Origin::of(&settings, model);
        let stream = request.is_stream();
        let commit = request.context().commit.unwrap_or(settings.commit);
        if is_long_work(&settings, &request, origin.model.as_deref()) {
            // The instance that is ready is called, and a clone that is not stays behind.
            let mut transport = self.transport.clone();
            std::mem::swap(&mut self.transport, &mut transport);
            return ResponseFuture::new(prepared_beside(settings, origin, stream, commit, request, transport));
        }
        match prepare(&settings, &request, origin.model.as_deref(), stream, Stop::default()) {
            Err(error) => ResponseFuture::new(std::future::ready(Err(origin.stamp(error)))),
            Ok((sent, told)) => {
                let sending = self.transport.call(sent);
                ResponseFuture::new(answer(settings, origin, request, commit, told, sending))
            }
        }
    }
}

impl Origin {
    pub(super) fn of<P: Protocol>(settings: &Settings<P>, model: Option<Arc<str>>) -> Self {
        let secret = Secret(settings.key.clone());
        let provider = settings.provider.clone();
        Self { provider, model, dialect: P::DIALECT, status: None, request_id: None, secret }
    }
}

/// The translation's notes and names, for the answer.
#[derive(Default)]
struct TranslationNotes {
    /// The parts that were changed or left out.
    notes: Vec<Cow<'static, str>>,
    /// The tools' own names.
    names: Names,
}

/// Returns true if the translation takes so long that it must not hold up other requests of the thread.
fn is_long_work<P: Protocol>(settings: &Settings<P>, request: &LlmRequest, model: Option<&str>) -> bool {
    let is_read = |wire: &Wire| {
        wire.dialect() != P::DIALECT
            || may_need_mending(wire, settings.protocol.target())
            || model.is_some_and(|model| another(settings, wire, model).is_some())
            || !request.omitted_parameters().is_empty()
            || settings.refused.is_any()
    };
    request.wire().is_some_and(|wire| wire.is_large() && is_read(wire))
}

/// Makes a call whose request is prepared off the threads that serve requests.
async fn prepared_beside<P: Protocol>(
    settings: Arc<Settings<P>>,
    origin: Origin,
    stream: bool,
    commit: CommitPoint,
    request: LlmRequest,
    mut transport: Transport,
) -> Result<LlmResponse, LlmError> {
    let (its, model) = (settings.clone(), origin.model.clone());
    let deadline = request.context().deadline;
    let asked = request.clone();
    let prepared = offload(deadline, move |stop| prepare(&its, &asked, model.as_deref(), stream, stop)).await;
    match prepared {
        Ok((prepared, told)) => answer(settings, origin, request, commit, told, transport.call(prepared)).await,
        Err(error) => Err(origin.stamp(error)),
    }
}

/// Prepares the HTTP request, and the notes on the parts that it could not carry.
fn prepare<P: Protocol>(
    settings: &Settings<P>,
    request: &LlmRequest,
    model: Option<&str>,
    stream: bool,
    stop: Stop,
) -> Result<(Request<RequestBody>, TranslationNotes), LlmError> {
    let model = model.ok_or_else(failure::no_model)?;
    let own = own::<P>(request);
    let mut headers = HeaderMap::new();
    let target = settings.protocol.target();
    let mut report = Report::new(P::DIALECT, request.wire().map(Wire::dialect)).until(stop);
    let (body, names) = match own {
        Some(wire) => {
            forward(&mut headers, wire.header_map());
            let mut mended = mend(wire, target, &mut report)?;
            if let Some(asked) = another(settings, wire, model) {
                let refitted =
                    settings.protocol.refit(mended.as_ref().unwrap_or_else(|| wire.body()), asked, &mut report)?;
                mended = refitted.or(mended);
            }
            let in_body = settings.protocol.model_in_body();
            let limits = settings.protocol.max_tokens_fields();
            let changes = splice::Changes {
                model: in_body.then_some(model),
                stream: in_body.then_some(stream),
                max_tokens: wire.max_tokens().map(|tokens| (limits, tokens)),
            };
            let pieces = match mended {
                // A repaired body has its fields in other places.
                Some(mended) => {
                    Object::read(&mended, &FIELDS).and_then(|object| splice::set(&mended, &object, &changes))
                }
                None => splice::set(wire.body(), wire.object(), &changes),
            };
            let pieces = pieces.map_err(|error| {
                let what = "the body is not a JSON object with one model, one stream and one limit of tokens";
                LlmError::new(ErrorKind::InvalidRequest, what).with_source(error)
            })?;
            (RequestBody::pieces(pieces), Names::default())
        }
        None => {
            let (chat, names) = fit(request, target, &mut report)?;
            let to = asked(settings, model, chat.model.as_deref());
            (settings.protocol.encode(&chat, to, stream, &mut report)?.into(), names)
        }
    };
    let mut notes = report.finish(settings.strict && own.is_none())?;
    let body = leave_out(settings, request, model, body, &mut notes);
    let path = settings.protocol.path(model, stream);
    Ok((addressed(settings, headers, &path, body)?, TranslationNotes { notes, names }))
}

/// Returns the body without the parameters that the model is known to refuse.
fn leave_out<P: Protocol>(
    settings: &Settings<P>,
    request: &LlmRequest,
    model: &str,
    body: RequestBody,
    notes: &mut Vec<Cow<'static, str>>,
) -> RequestBody {
    let refused = settings.refused.of(model);
    if refused.is_empty() && request.omitted_parameters().is_empty() || settings.strict {
        return body;
    }
    // A caller's parameter for the very model that it named is not touched.
    let refused = refused.into_iter().filter(|_| !is_callers_choice::<P>(request, model));
    let mut body = body.into_bytes();
    for path in refused.chain(request.omitted_parameters().iter().map(|parameter| parameter.path)) {
        if let Some(shorter) = parameter_refusal::without(&body, path) {
            body = shorter.into();
            notes.push(format!("refused_parameter: `{path}` was left out: the model refuses it").into());
        }
    }
    body.into()
}

/// Returns true if the caller wrote the request's parameters for this model.
fn is_callers_choice<P: Protocol>(request: &LlmRequest, model: &str) -> bool {
    own::<P>(request).is_some_and(|wire| wire.model() == Some(model))
}

/// Returns the caller's bytes, if they are of the leaf's own dialect.
fn own<P: Protocol>(request: &LlmRequest) -> Option<&Wire> {
    request.wire().filter(|wire| wire.dialect() == P::DIALECT)
}

/// Returns the parameter that an error is about, if the request has it, can do without it, and is to be asked again.
async fn refused_parameter<P: Protocol>(
    settings: &Arc<Settings<P>>,
    request: &LlmRequest,
    model: Option<&Arc<str>>,
    error: &LlmError,
) -> Option<OmittedParameter> {
    let model = model.filter(|_| error.kind() == ErrorKind::InvalidRequest && !settings.strict)?;
    let body = serde_json::from_slice(error.raw()?).ok()?;
    let refusal = parameter_refusal::named(&ErrorBody::of_error(&body)?, settings.protocol.optional())?;
    if own::<P>(request).is_some() && (is_callers_choice::<P>(request, model) || !refusal.is_unsupported) {
        return None;
    }
    let is_long = is_long_work(settings, request, Some(model));
    let (its, asked, model, path) = (settings.clone(), request.clone(), model.clone(), refusal.parameter.path);
    let look = move |stop| {
        let (sent, _) = prepare(&its, &asked, Some(&model), asked.is_stream(), stop)?;
        Ok(parameter_refusal::without(&sent.into_body().into_bytes(), path).is_some())
    };
    let is_there = match is_long {
        true => offload(request.context().deadline, look).await,
        false => look(Stop::default()),
    };
    is_there.is_ok_and(|is_there| is_there).then_some(refusal.parameter)
}

/// Remembers the parameter that the model refused, after an answer without it.
fn remember<P: Protocol>(settings: &Settings<P>, request: &LlmRequest, model: Option<&Arc<str>>) {
    let Some(model) = model else { return };
    for parameter in request.omitted_parameters().iter().filter(|parameter| parameter.lasting) {
        if settings.refused.add(model, parameter.path)
            && let Some(events) = &settings.events
        {
            events.send_with(|| Event::ParameterRefused {
                provider: settings.provider.clone(),
                model: model.clone(),
                parameter: parameter.path,
                at: Instant::now(),
            });
        }
    }
}

/// Returns the model of a call, and the family of the caller's model if it is another one.
fn asked<'a, P>(settings: &'a Settings<P>, model: &'a str, named: Option<&str>) -> ModelChoice<'a> {
    let families = &settings.families;
    let family = families.family(model);
    let before = named.filter(|named| *named != model).map(|named| families.family(named));
    // An unknown name does not show what its caller expects, and a careful row does not show what the model refuses.
    let is_guessed = |before: &Family| family.name() == UNKNOWN || (family.is_careful() && before.name() == UNKNOWN);
    let before = before.filter(|before| !before.is(family) && !is_guessed(before));
    ModelChoice { model, family, before }
}

/// Returns the same for a request of the leaf's own dialect, if the caller named another model or none.
fn another<'a, P>(settings: &'a Settings<P>, wire: &Wire, model: &'a str) -> Option<ModelChoice<'a>> {
    if wire.model() == Some(model) {
        return None;
    }
    Some(asked(settings, model, wire.model())).filter(|asked| asked.before.is_some())
}

/// Creates a request to the provider's API, with the leaf's headers and its key.
pub(super) fn addressed<P: Protocol>(
    settings: &Settings<P>,
    headers: HeaderMap,
    path: &str,
    body: RequestBody,
) -> Result<Request<RequestBody>, LlmError> {
    let template = match settings.template.get() {
        Some(template) => template,
        None => {
            // With room for the transport's own.
            let headers = with_own(settings, HeaderMap::with_capacity(12))?;
            let template = RequestTemplate { path: path.into(), uri: address(settings, path)?, headers };
            settings.template.get_or_init(|| template)
        }
    };
    let mut http = Request::new(body);
    *http.method_mut() = Method::POST;
    *http.uri_mut() = if *template.path == *path { template.uri.clone() } else { address(settings, path)? };
    *http.headers_mut() = if headers.is_empty() { template.headers.clone() } else { with_own(settings, headers)? };
    Ok(http)
}

fn address<P: Protocol>(settings: &Settings<P>, path: &str) -> Result<Uri, LlmError> {
    settings.base.join(path).map_err(|error| {
        LlmError::new(ErrorKind::InvalidRequest, "the model's name does not fit into a URL").with_source(error)
    })
}

/// Adds the leaf's headers and its key to a request's headers.
fn with_own<P: Protocol>(settings: &Settings<P>, mut headers: HeaderMap) -> Result<HeaderMap, LlmError> {
    headers.extend(settings.headers.clone());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
    settings.protocol.headers(&mut headers);
    if let Some(key) = &settings.key {
        let (name, value) = settings.protocol.key(key);
        let mut value = HeaderValue::from_str(&value).map_err(|_| {
            LlmError::new(ErrorKind::Auth, "the key contains a character that HTTP headers do not allow")
        })?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Copies the caller's headers, except for its credentials, which are for the gateway, and those of a connection.
fn forward(headers: &mut HeaderMap, from: &HeaderMap) {
    const KEPT_BACK: [&str; 18] = [
        "authorization",
        "proxy-authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "cookie",
        "host",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "content-encoding",
        "accept-encoding",
        "expect",
    ];
    for (name, value) in from {
        if !KEPT_BACK.contains(&name.as_str()) {
            headers.append(name.clone(), value.clone());
        }
    }
}

const USER_AGENT: &str = concat!("steadfast/", env!("CARGO_PKG_VERSION"));

/// Reads the answer up to its commit point.
#[expect(clippy::manual_async_fn, reason = "an `async fn` has room for each of its arguments twice")]
fn answer<P: Protocol>(
    settings: Arc<Settings<P>>,
    mut origin: Origin,
    request: LlmRequest,
    commit: CommitPoint,
    mut told: TranslationNotes,
    sending: impl Future<Output = Result<Response<Body>, BoxError>>,
) -> impl Future<Output = Result<LlmResponse, LlmError>> {
    async move {
        let response = match sending.await {
            Ok(response) => response,
            Err(error) => return Err(origin.stamp(failure::of_transport(error))),
        };
        let (head, body) = response.into_parts();
        origin.status = Some(head.status);
        origin.request_id = failure::request_id(&head.headers);
        let protocol = &settings.protocol;
        if !head.status.is_success() {
            let body = read_error(body, settings.limits.error).await;
            let mut error =
                failure::of_status(protocol, &origin.secret, head.status, &head.headers, body, wall_clock::now());
            // Boxed: it is rare, and every call would reserve room for it.
            let refused = Box::pin(refused_parameter(&settings, &request, origin.model.as_ref(), &error)).await;
            if let Some(parameter) = refused {
                error.refuse(parameter);
            }
            return Err(origin.stamp(error));
        }
        if !request.omitted_parameters().is_empty() {
            remember(&settings, &request, origin.model.as_ref());
        }
        let body = match Form::of(&head.headers, request.is_stream()) {
            Form::Compressed => {
                let message = "the answer is compressed, and the transport did not decompress it: put a layer around it \
                               that does, such as tower-http's `DecompressionLayer`";
                Err(LlmError::new(ErrorKind::Malformed, message))
            }
            Form::Events => {
                let frames = Frames::new(protocol.clone(), origin.clone(), settings.limits, body, told.names);
                Commit::new(LlmBody::from_frames(frames), commit, Some(request)).await
            }
            Form::Whole => match read_whole(body, settings.limits.answer).await {
                Ok(raw) => whole(protocol, &origin, &request, raw, &mut told),
                Err(error) => Err(error),
            },
            Form::Page => {
                let body = read_error(body, settings.limits.error).await;
                Err(LlmError::new(ErrorKind::Malformed, failure::excerpt(&body, None))
                    .with_raw(origin.secret.redact(&body)))
            }
        };
        let body = body.map_err(|error| origin.stamp(error))?;
        let response = with_origin(LlmResponse::new(body).with_headers(head.headers), origin);
        Ok(told.notes.into_iter().fold(response, LlmResponse::with_note))
    }
}

/// Adds the model that answered, and the provider's id of the request.
#[inline]
fn with_origin(mut response: LlmResponse, origin: Origin) -> LlmResponse {
    if let Some(model) = origin.model {
        response = response.with_model(origin.provider, model);
    }
    if let Some(id) = origin.request_id {
        response = response.with_request_id(id);
    }
    response
}

/// The form of a 200.
enum Form {
    Events,
    Whole,
    /// Not from the API: a proxy's page.
    Page,
    /// In a content encoding.
    Compressed,
}

impl Form {
    /// Returns the form by the content type or, if that says nothing useful, by the request.
    fn of(headers: &HeaderMap, stream: bool) -> Self {
        let encoding = headers.get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| !encoding.is_empty() && encoding != "identity") {
            return Self::Compressed;
        }
        let content_type = headers.get(header::CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
        let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let is = |name: &str| essence.eq_ignore_ascii_case(name.as_bytes());
        let is_json = || {
            let end = essence.len().checked_sub(JSON.len()).map(|at| &essence[at..]);
            is("application/json") || end.is_some_and(|end| end.eq_ignore_ascii_case(JSON))
        };
        match stream {
            _ if is("text/event-stream") => Self::Events,
            _ if is("text/html") => Self::Page,
            true if !is_json() => Self::Events,
            _ => Self::Whole,
        }
    }
}

/// The suffix of media types that are JSON with a meaning of their own.
const JSON: &[u8] = b"+json";

fn whole<P: Protocol>(
    protocol: &P,
    origin: &Origin,
    request: &LlmRequest,
    raw: Bytes,
    told: &mut TranslationNotes,
) -> Result<LlmBody, LlmError> {
    if raw.iter().all(u8::is_ascii_whitespace) {
        return Err(LlmError::new(ErrorKind::EmptyAnswer, "the body is empty"));
    }
    let mut message = protocol.decode(&raw).map_err(|fault| failure::of_fault(protocol, origin, fault, &raw))?;
    if message.is_empty()
        && let Some(error) = empty_answer(message.finish.as_ref(), Some(request))
    {
        return Err(error.with_raw(origin.secret.redact(&raw)));
    }
    told.names.restore(&mut message);
    let is_json = |text: &str| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    if message.tool_calls().any(|call| !is_json(&call.arguments)) {
        told.notes.push("invalid_arguments: a tool call's arguments are not JSON; they are passed on unchanged".into());
    }
    Ok(LlmBody::from_wire(P::DIALECT, raw, message))
}

/// Reads a whole answer. One that breaks off is none.
pub(super) async fn read_whole(mut body: Body, limit: usize) -> Result<Bytes, LlmError> {
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(failure::of_body)?.into_data() else { continue };
        if first.len() + more.len() + data.len() > limit {
            let message = format!("the answer is larger than the limit of {limit} bytes");
            return Err(LlmError::new(ErrorKind::Malformed, message));
        }
        if first.is_empty() && more.is_empty() {
            first = data;
        } else {
            if more.is_empty() {
                more.extend_from_slice(&std::mem::take(&mut first));
            }
            more.extend_from_slice(&data);
        }
    }
    Ok(if more.is_empty() { first } else { more.freeze() })
}

/// Reads the start of an error body. A part of it suffices: the status is known.
pub(super) async fn read_error(mut body: Body, limit: usize) -> Bytes {
    let mut read = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            let room = limit - read.len();
            read.extend_from_slice(&data[..data.len().min(room)]);
            if read.len() == limit {
                break;
            }
        }
    }
    read.freeze()
}
