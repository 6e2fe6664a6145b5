use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body_util::BodyExt;
use memchr::memmem;
use tower::{BoxError, Service, ServiceExt};

use super::{
    CallerTransport, HttpLeaf, RequestBody,
    address::{addressed, no_address},
    dispatch::{dispatch, take},
    error::error_of,
    form::Form,
    leaf::Settings,
    opaque,
    reading::{read_error, read_whole},
};
use crate::{
    CommitPoint, ErrorKind, LlmBody, LlmError, LlmRequest, LlmResponse,
    boxed::{Body, Sending, Transport},
    commit::{self, Commit},
    failure::of_transport,
    prices::own_cost::HeaderCost,
    protocol::{
        Encoded, Frames, IN_ADDRESS, Origin, Protocol, Remedy, Secret, SseSource, TranslationNotes, excerpt, request_id,
    },
    response::ResponseFuture,
    translate::{AccountSeals, Maker},
    wire::{Stop, offload},
};

impl<P: Protocol> Service<LlmRequest> for HttpLeaf<P> {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        self.transport.poll_ready(cx).map_err(|error| {
            let origin = self.settings.coder.origin(self.settings.coder.model.clone());
            origin.stamp(of_transport(error))
        })
    }

    fn call(&mut self, request: LlmRequest) -> ResponseFuture {
        call(&self.settings, &mut self.transport, request)
    }
}

/// Calls the provider with a transport that is ready.
pub(super) fn call<P: Protocol>(
    settings: &Arc<Settings<P>>,
    ready: &mut Transport,
    request: LlmRequest,
) -> ResponseFuture {
    if request.opaque().is_some() {
        return opaque::call(settings, ready, request);
    }
    let settings = settings.clone();
    let mut origin = settings.coder.origin(settings.coder.model_of(&request)).of(&request);
    let stream = request.is_stream();
    let commit = request.context().commit.unwrap_or(settings.commit);
    let caller = CallerTransport::of(&request, settings.coder.protocol.dialect());
    if let Some(caller) = caller {
        origin.secret = Secret(caller.key());
    }
    if let Some(caller) = caller {
        let maker = Maker::new(&caller.place(), origin.secret.0.as_deref());
        origin.account.maker = settings.coder.maker_of(maker, origin.model.as_ref());
    }
    origin.account.seals = seals(&settings, caller, &origin, &request);
    let client = caller.map(CallerTransport::client);
    if is_long_work(&settings, &request, &origin) {
        let transport = client.unwrap_or_else(|| take(ready));
        return ResponseFuture::new(prepared_beside(settings, origin, stream, commit, request, transport));
    }
    match prepare(&settings, caller, &request, &origin, stream, Stop::default()) {
        Err(error) => ResponseFuture::new(std::future::ready(Err(origin.stamp(error)))),
        Ok((sent, told)) => {
            let sending: Sending = match client {
                Some(client) => Box::pin(client.oneshot(sent)),
                None if settings.has_door() => dispatch(&settings, None, take(ready), sent, &request),
                None => ready.call(sent),
            };
            ResponseFuture::new(answer(settings, origin, request, commit, told, sending))
        }
    }
}

/// Returns the seals of the account that a request goes to: the leaf's, or that of the caller's own transport.
fn seals<P: Protocol>(
    settings: &Settings<P>,
    caller: Option<&CallerTransport>,
    origin: &Origin,
    request: &LlmRequest,
) -> Option<Arc<AccountSeals>> {
    let (coder, model) = (&settings.coder, origin.model.as_deref());
    let own = coder.account.as_ref()?;
    let Some(caller) = caller else { return coder.seals_of(own, request, model) };
    let account = own.memory().enroll(origin.dialect, &caller.place(), origin.secret.0.as_deref());
    coder.seals_of(&account, request, model)
}

/// Returns true if a request is to be prepared off the threads that serve requests.
fn is_long_work<P: Protocol>(settings: &Settings<P>, request: &LlmRequest, origin: &Origin) -> bool {
    #[cfg(feature = "clouds")]
    if let Some(door) = &settings.door
        && request.wire().is_some_and(|wire| wire.is_large() && door.parses(wire))
    {
        return true;
    }
    settings.coder.is_long_work(request, origin)
}

/// Makes a call whose request is prepared off the threads that serve requests.
async fn prepared_beside<P: Protocol>(
    settings: Arc<Settings<P>>,
    origin: Origin,
    stream: bool,
    commit: CommitPoint,
    request: LlmRequest,
    transport: Transport,
) -> Result<LlmResponse, LlmError> {
    let (its, from) = (settings.clone(), origin.clone());
    let deadline = request.context().deadline;
    let asked = request.clone();
    let work = move |stop| {
        let caller = CallerTransport::of(&asked, its.coder.protocol.dialect());
        prepare(&its, caller, &asked, &from, stream, stop)
    };
    match offload(deadline, work).await {
        Ok((prepared, told)) => {
            let caller = CallerTransport::of(&request, settings.coder.protocol.dialect());
            let sending = dispatch(&settings, caller, transport, prepared, &request);
            answer(settings, origin, request, commit, told, sending).await
        }
        Err(error) => Err(origin.stamp(error)),
    }
}

/// Prepares the HTTP request, and the notes on the parts that it could not carry. A request by the caller's own client
/// has the caller's head.
fn prepare<P: Protocol>(
    settings: &Settings<P>,
    caller: Option<&CallerTransport>,
    request: &LlmRequest,
    origin: &Origin,
    stream: bool,
    stop: Stop,
) -> Result<(Request<RequestBody>, TranslationNotes), LlmError> {
    let (model, account) = (origin.model.as_deref(), origin.account.clone());
    let Some(caller) = caller else {
        #[cfg(feature = "clouds")]
        if let Some(door) = &settings.door {
            return super::door::prepare(settings, door, request, origin, stream, stop);
        }
        let Encoded { headers, body, path, translation } =
            settings.coder.encode(request, model, account, stream, stop)?;
        return Ok((addressed(settings, headers, &path, body)?, translation));
    };
    // The caller's address may name the model, as Azure's does.
    let is_in_address = request.wire().is_some() && request.model().is_none();
    let named = if is_in_address { Some(IN_ADDRESS) } else { model };
    let Encoded { body, path, translation, .. } = settings.coder.encode(request, named, account, stream, stop)?;
    let names_model = !settings.coder.protocol.model_in_body() && request.model() != model;
    Ok((caller.request(names_model.then_some(&*path), body).map_err(no_address)?, translation))
}

/// Returns what helps a request of which the provider refuses a part.
async fn remedy<P: Protocol>(
    settings: &Arc<Settings<P>>,
    request: &LlmRequest,
    origin: &Origin,
    error: &LlmError,
) -> Option<Remedy> {
    let (facts, kind) = (settings.coder.refusal_facts(error)?, error.kind());
    // The caller's own client calls a server that it has chosen.
    let is_vendors = settings.coder.is_vendors || CallerTransport::of(request, origin.dialect).is_some();
    let is_long = request.wire().is_some_and(|wire| wire.is_large());
    let (its, asked, from) = (settings.clone(), request.clone(), origin.clone());
    let look = move |stop| {
        let encoded = sent_body(&its, &asked, &from, stop)?;
        Ok(its.coder.remedy((&facts, kind), &asked, from.model.as_ref(), &encoded, is_vendors))
    };
    let remedy = match is_long {
        true => offload(request.context().deadline, look).await,
        false => look(Stop::default()),
    };
    remedy.unwrap_or_default()
}

/// Returns a request as its server got it, in the dialect's format: a door's own rules come before all others.
fn sent_body<P: Protocol>(
    settings: &Settings<P>,
    request: &LlmRequest,
    origin: &Origin,
    stop: Stop,
) -> Result<Encoded, LlmError> {
    #[cfg(feature = "clouds")]
    if let Some(door) = settings.door.as_ref().filter(|_| CallerTransport::of(request, origin.dialect).is_none()) {
        return super::door::encoded_for_remedy(settings, door, request, origin, stop);
    }
    let (model, account) = (origin.model.as_deref(), origin.account.clone());
    settings.coder.encode(request, model, account, request.is_stream(), stop)
}

/// Sends a request again without the parts that its server has refused. No layer counts the refusal: neither the
/// provider nor the caller is at fault.
fn send_again<P: Protocol>(
    settings: Arc<Settings<P>>,
    mut origin: Origin,
    request: LlmRequest,
    commit: CommitPoint,
) -> Pin<Box<dyn Future<Output = Result<LlmResponse, LlmError>> + Send>> {
    (origin.status, origin.request_id) = (None, None);
    let stream = request.is_stream();
    let caller = CallerTransport::of(&request, settings.coder.protocol.dialect());
    let transport = caller.map_or_else(|| settings.again.clone(), CallerTransport::client);
    if is_long_work(&settings, &request, &origin) {
        return Box::pin(prepared_beside(settings, origin, stream, commit, request, transport));
    }
    match prepare(&settings, caller, &request, &origin, stream, Stop::default()) {
        Err(error) => Box::pin(std::future::ready(Err(origin.stamp(error)))),
        Ok((sent, told)) => {
            let sending = dispatch(&settings, caller, transport, sent, &request);
            Box::pin(answer(settings, origin, request, commit, told, sending))
        }
    }
}

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
            Err(error) => return Err(origin.stamp(of_transport(error))),
        };
        let (head, body) = response.into_parts();
        origin.status = Some(head.status);
        origin.request_id = request_id(&head.headers);
        origin.cost = HeaderCost::of(&head.headers);
        let (coder, limits) = (&settings.coder, settings.coder.limits);
        let caller = || CallerTransport::of(&request, coder.protocol.dialect());
        if !head.status.is_success() {
            let body = read_error(body, limits.error).await;
            let mut error = error_of(&settings, &request, &origin, &head, body);
            // Boxed: it is rare, and every call would reserve room for it.
            match Box::pin(remedy(&settings, &request, &origin, &error)).await {
                Some(Remedy::SecondCall { parts, is_of_stranger }) => {
                    if is_of_stranger {
                        let seals = origin.account.seals.take();
                        origin.account.seals = seals.map(|seals| AccountSeals::clone(&seals).doubting().into());
                    }
                    return send_again(settings, origin, request.without_parameters(&parts), commit).await;
                }
                Some(Remedy::Retry(parts)) => error.refuse(parts),
                Some(Remedy::AnotherTier) => error.note_lack(),
                None => {}
            }
            if let (Some(caller), ErrorKind::Auth) = (caller(), error.kind()) {
                error.blame_caller();
                if settings.worked_keys.has(caller) {
                    error.note_worked_key();
                }
            }
            if caller().is_some() || quotes_an_id(&request, origin.model.as_deref(), &error) {
                error.note_named_by_caller();
            }
            return Err(origin.stamp(error));
        }
        if let Some(caller) = caller() {
            settings.worked_keys.add(caller);
        }
        if !request.omitted_parameters().is_empty() {
            coder.remember(&request, origin.model.as_ref());
        }
        let label = Form::labelled(&head.headers, request.is_stream());
        let (form, body) = match Form::seen(label, body).await {
            Ok(seen) => seen,
            Err(error) => return Err(origin.stamp(error)),
        };
        let body = match form {
            Form::Compressed => {
                let message = "the answer is compressed, and the transport did not decompress it: put a layer around it \
                               that does, such as tower-http's `DecompressionLayer`";
                Err(LlmError::new(ErrorKind::Malformed, message))
            }
            Form::Events => {
                let source = SseSource::new(body.into_data_stream(), limits);
                let usage = coder.usage_watch(&request, &origin);
                let frames = Frames::new(coder.protocol.clone(), origin.clone(), source, told.restore, usage);
                let frames = LlmBody::from_frames(frames);
                match request.is_stream() {
                    true => Commit::new(frames, commit, Some(request)).await,
                    false => Box::pin(commit::whole(frames, &request, commit::memory_for(&request))).await,
                }
            }
            Form::Whole => {
                let mut memory = commit::memory_for(&request);
                match read_whole(body, limits.answer, &mut memory).await {
                    Ok(raw) => {
                        let length = raw.len();
                        let decoded = coder.decode(&origin, &request, raw, &mut told);
                        if decoded.is_ok() {
                            memory.leave(length);
                        }
                        decoded
                    }
                    Err(error) => Err(error),
                }
            }
            Form::Page => {
                let body = read_error(body, limits.error).await;
                Err(LlmError::new(ErrorKind::Malformed, excerpt(&body, None)).with_raw(origin.secret.redact(&body)))
            }
        };
        let body = body.map_err(|error| origin.stamp(error))?;
        let response = origin.add_to(LlmResponse::new(body).with_headers(head.headers));
        Ok(told.notes.into_iter().fold(response, LlmResponse::with_note))
    }
}

/// Returns true if the provider does not know something whose id stands in the request: a file, say, or a container.
fn quotes_an_id(request: &LlmRequest, model: Option<&str>, error: &LlmError) -> bool {
    /// Shorter words are no ids: of those that vendors give, `asst_abc` and the like have 24 characters and more.
    const SHORTEST: usize = 12;
    let Some(wire) = request.wire().filter(|_| error.kind() == ErrorKind::NotFound) else { return false };
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    let is_id = |word: &str| {
        word.len() >= SHORTEST && word.contains(['-', '_']) && word.contains(|letter: char| letter.is_ascii_digit())
    };
    let mut words = error.message().split(|letter| !is_part(letter)).filter(|word| is_id(word) && Some(*word) != model);
    words.any(|word| memmem::find(wire.body(), word.as_bytes()).is_some())
}
