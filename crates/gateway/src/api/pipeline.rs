//! The pipeline from a request to its answer, for all protocols.
//!
//! The protocols differ in a [`Dialect`]. The failover is below, in the service, and knows neither.
//!
//! **The head.** The gateway holds a response's head back until the first token, so that every earlier failure has its
//! own status. A caller of a stream that waits longer than [`Settings::first_sign`] gets the head then, with status 200
//! and signs of life after it; a later failure is an error event.

use std::{
    future::ready,
    mem::take,
    sync::{Arc, Mutex},
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body_util::BodyExt;
use serde::Deserialize;
use steadfast::{
    BoxLlmService, Dialect, ErrorKind, LlmError, LlmRequest, LlmResponse,
    body::AnswerMemory,
    chat::Usage,
    providers::http::CallerTransport,
    translate::{RequestEcho, StreamEncoder, encode_answer},
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    GatewayState,
    addresses::Deployment,
    admission, body_kind, conversation,
    gemini::PathCall,
    inbound::{self, BodyError},
    keys::{self, Denial, Key},
    mark::{mark, marked},
    named_models,
    ownership::AnswerIds,
    panic::{self, Panic},
    records::{Entry, Outcome, REQUEST_ID, Record},
    refusal::{self, refuse},
    repeats::ConnectionFailures,
    request_options::{RequestOptions, is_of_account},
    stored_responses,
    stream::{EventStream, PendingCall, ResponseStart, StreamLimits, StreamRecords, stopping},
};
use crate::{
    http::{Answering, DirectStream},
    limits::{Settings, answers::AnswerSpace},
    lock::lock,
};

/// Returns a response that is ready.
pub(crate) fn immediate(response: Response<Body>) -> Answering<'static> {
    Box::pin(ready(response))
}

/// The state that the requests of a connection share. Making it for each request would cost as much as the layers.
pub(crate) struct ConnectionContext {
    pub(super) service: Mutex<BoxLlmService>,
    /// A child of the gateway's token, which has its own lock.
    pub(super) cut: CancellationToken,
    failures: Arc<ConnectionFailures>,
}

impl ConnectionContext {
    pub(crate) fn of(gateway: &GatewayState) -> Self {
        Self {
            service: Mutex::new(gateway.service.clone()),
            cut: gateway.lifecycle.cut.child_token(),
            failures: Arc::default(),
        }
    }

    /// Replaces the service after a panic in it. A clone carries no readiness, and nothing that the panic cut short.
    fn renew(&self) {
        let mut service = lock(&self.service);
        let renewed = service.clone();
        *service = renewed;
    }
}

/// A call that comes from a program's own HTTP client.
#[derive(Clone)]
pub(crate) struct AdaptedCall {
    /// The client, for the primary.
    pub(crate) transport: CallerTransport,
}

/// Marks a request to compact a conversation, in place of an answer to it.
#[derive(Clone, Copy)]
pub(crate) struct Compaction;

/// Marks the response to a call that the program's own client is to make by itself, with the call's body.
#[derive(Clone)]
pub(crate) struct LeftToClient(pub(crate) Bytes);

/// Answers a request of this dialect.
///
/// Decides at once what the head decides. The future stays small: with many callers it has left the processor's cache
/// by the time the answer comes.
pub(crate) fn answer<'a>(
    gateway: &Arc<GatewayState>,
    connection: &'a ConnectionContext,
    dialect: Dialect,
    request: Request<Body>,
) -> Answering<'a> {
    let (Parts { mut headers, extensions, .. }, body) = request.into_parts();
    let key = extensions.get::<Arc<Key>>().cloned();
    let mut options = RequestOptions::from_headers(&headers);
    if let Some(key) = &key
        && let Err(denied) = admit(key, &mut options)
    {
        return immediate(deny_at_door(gateway, &denied, Some(key), dialect));
    }
    let mut entry = gateway.records.begin(dialect);
    if gateway.in_process {
        entry.set_embedded();
    }
    if let Some(key) = &key {
        entry.set_key(&key.name);
    }
    note_options(gateway, &mut entry, &mut options);
    let (gateway, record) = (gateway.clone(), entry.record());
    let answering = async move {
        let settings = gateway.lifecycle.current.load_full();
        let body = match body_kind::opened_of_one_kind(&mut headers, body, &settings) {
            Ok((_, body)) => body,
            Err(error) => return fail(&entry, options.explain, &error, dialect),
        };
        let body = match gateway.reader(&settings, key.as_ref()).read(&headers, body).await {
            Ok(body) => body,
            Err(error) => return body_failure(&entry, error, &settings, options.explain, dialect),
        };
        let adapted = extensions.get::<AdaptedCall>();
        let path = extensions.get::<PathCall>();
        let request = match extensions.get() {
            Some(Compaction) => inbound::compaction(&headers, body),
            None => inbound::request(dialect, &headers, path, body, &settings),
        };
        let request = match extensions.get::<Deployment>() {
            Some(deployment) => request.and_then(|request| deployment.in_request(request)),
            None => request,
        };
        let is_array = path.is_some_and(|path| path.is_array);
        let request =
            match request.and_then(|request| gateway.catalog.admit(request)).and_then(|request| options.apply(request))
            {
                Ok(request) => request,
                Err(error) => return fail(&entry, options.explain, &error, dialect),
            };
        if let Some(Err(denied)) = key.as_ref().map(|key| key.model(request.model())) {
            return deny(&entry, &denied, dialect);
        }
        if let Some(wire) = request.wire().filter(|_| key.as_ref().is_some_and(|key| key.is_for_some_models())) {
            // Boxed: inline it would enlarge every request's future.
            match Box::pin(named_models::check(key.as_ref(), wire.body())).await {
                Ok(Ok(())) => {}
                Ok(Err(denied)) => return deny(&entry, &denied, dialect),
                Err(error) => return fail(&entry, options.explain, &error, dialect),
            }
        }
        let mut ids = None;
        let request = match &key {
            // Boxed: inline it would enlarge every request's future.
            Some(_) => match Box::pin(admission::admit(&gateway, key.as_ref(), request)).await {
                Ok((admitted, given)) => {
                    ids = given.map(Box::new);
                    admitted
                }
                Err(error) => return fail(&entry, options.explain, &error, dialect),
            },
            None => request,
        };
        if let Some(wire) = request.wire().filter(|wire| wire.is_background()) {
            // The program's own client talks to the provider that keeps the response.
            return match adapted {
                Some(_) => left_to_client(wire.body().clone()),
                None => fail(&entry, options.explain, &stored_responses::no_background(), dialect),
            };
        }
        let name = key.as_ref().map(|key| &*key.name);
        let repeat = gateway.repeats.mark(&headers, name, &request, &connection.failures);
        let request = match repeat.inform(request) {
            Ok(request) => request,
            Err(remembered) => {
                entry.note(vec!["answered with the failure of the same request's last call".into()]);
                return fail(&entry, options.explain, &remembered, dialect);
            }
        };
        let repeats_by_itself = repeat.is_by_a_client_that_repeats();
        entry.set_repeat(repeat);
        let space = gateway.memory.answers(key.as_ref().map(|key| &key.memory));
        let mut request = request
            .with_id(entry.shared_id())
            .with_status_of(refusal::status_of(entry.reader(), dialect))
            .with_extension(AnswerMemory::new(space.clone()));
        if settings.wait_for_rate_limits.contains(&dialect) && !repeats_by_itself {
            request = request.wait_for_rate_limits();
        }
        if let Some(adapted) = adapted {
            request = request.with_extension(adapted.transport.clone());
        }
        let mut turn = None;
        if dialect == Dialect::Responses
            && let Some(archive) = gateway.archive()
        {
            // Boxed: inline it would enlarge every request's future.
            match Box::pin(conversation::begin(&gateway, archive, key.as_ref(), &settings, request)).await {
                Ok((whole, begun)) => (request, turn) = (whole, begun),
                Err(error) => return fail(&entry, options.explain, &error, dialect),
            }
        }
        let model: Option<Arc<str>> = request.model().map(Into::into);
        entry.set_request(model.as_ref(), options.feature.take(), request.is_stream());
        entry.set_cache(gateway.catalog.keeps_answers());
        let context = ResponseContext { dialect, is_array, explain: options.explain, model, request: request.clone() };
        let is_read = || gateway.catalog.reads_requests() || key.as_ref().is_some_and(|key| key.reads_requests());
        inbound::decode_ahead(&request, is_read).await;
        if request.is_stream() {
            // A stream may outlive its request's turn on the connection.
            let call = Box::pin(first_frame(key, Mutex::new(gateway.service.clone()), request));
            let keeping = StreamRecords { turn, ids };
            return begin(context, entry, call, keeping, &settings, &connection.cut).await;
        }
        let answered = tokio::select! {
            biased;
            answered = keys::call(key, &connection.service, request) => answered,
            () = connection.cut.cancelled() => Err(stopping()),
        };
        match answered {
            Ok(mut response) => {
                let own = context.own(&response);
                if let Some(ids) = &mut ids {
                    ids.served(response.served_by().tier);
                }
                // The provider keeps its own answer, and none that is a translation.
                let account = turn.as_ref().and_then(|turn| turn.account(&response)).filter(|_| own.is_some());
                let answer = match own {
                    Some(body) => pass_through(&context, &entry, &mut response, body, settings.mark),
                    None if context.request.is_compaction() => {
                        fail(&entry, context.explain, &stored_responses::no_compaction(), dialect)
                    }
                    None => Box::pin(translate(&context, &entry, response)).await,
                };
                if answer.status() != StatusCode::OK {
                    return answer;
                }
                let answer = match ids {
                    Some(ids) => Box::pin(given(*ids, answer)).await,
                    None => answer,
                };
                let answer = match turn {
                    Some(turn) => Box::pin(turn.record(answer, account)).await,
                    None => answer,
                };
                match space.needs_count(&answer) {
                    true => Box::pin(counted(&entry, context.explain, space, answer, dialect)).await,
                    false => answer,
                }
            }
            Err(error) => fail(&entry, context.explain, &error, dialect),
        }
    };
    Box::pin(panic::respond(answering, move |caught| panicked(caught, &record, connection, dialect)))
}

/// Gives the ids in a whole answer to its caller.
async fn given(ids: AnswerIds, answer: Response<Body>) -> Response<Body> {
    let (head, body) = answer.into_parts();
    // The body is there already.
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    ids.give_all(&body).await;
    Response::from_parts(head, Body::from(body))
}

/// Returns the response to a call that goes on by the program's own client.
fn left_to_client(body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(LeftToClient(body));
    response
}

/// Returns the response to a panic. The unwinding has dropped the record's [`Entry`], which closed the record.
pub(super) fn panicked(
    caught: Panic,
    record: &Record,
    connection: &ConnectionContext,
    dialect: Dialect,
) -> Response<Body> {
    caught.log(Some(record.id()));
    // Its clone is foreign code too.
    let _ = panic::catch(|| connection.renew());
    let mut response = refuse(&Panic::error(), dialect);
    record.write_id(response.headers_mut());
    set_request_id(dialect, response.headers_mut());
    response
}

/// Counts a request against its key's rate, and gives it the key's feature.
pub(super) fn admit(key: &Key, options: &mut RequestOptions) -> Result<(), Denial> {
    key.admit(Instant::now())?;
    options.feature = key.feature(options.feature.take())?;
    Ok(())
}

/// Notes the options that have no effect, and the time that the caller gives: its end is nobody's failure.
pub(super) fn note_options(gateway: &GatewayState, entry: &mut Entry, options: &mut RequestOptions) {
    entry.set_own_time(options.timeout);
    entry.note(take(&mut options.notes));
    if let Some(note) = options.feature.as_deref().and_then(|feature| gateway.catalog.note_of_feature(feature)) {
        entry.note(vec![note.into()]);
    }
}

/// Calls the service for a stream, and waits for its first frame.
async fn first_frame(
    key: Option<Arc<Key>>,
    service: Mutex<BoxLlmService>,
    request: LlmRequest,
) -> Result<ResponseStart, LlmError> {
    let mut response = keys::call(key, &service, request).await?;
    match response.body_mut().frame().await {
        Some(Ok(first)) => Ok(ResponseStart { response, first }),
        Some(Err(error)) => Err(error),
        None => Err(LlmError::new(ErrorKind::EmptyAnswer, "the stream has no event")),
    }
}

/// Starts a streamed response: with its first frame, or without it if the caller has waited for long.
async fn begin(
    context: ResponseContext,
    entry: Entry,
    mut call: PendingCall,
    keeping: StreamRecords,
    settings: &Settings,
    cut: &CancellationToken,
) -> Response<Body> {
    let start = tokio::select! {
        biased;
        start = &mut call => Some(start),
        () = sleep(settings.first_sign) => None,
        () = cut.cancelled() => Some(Err(stopping())),
    };
    let limits = StreamLimits {
        dialect: context.dialect,
        is_array: context.is_array,
        keep_alive: settings.keep_alive,
        mark: settings.mark,
        cut,
    };
    match start {
        Some(Ok(start)) => stream(&context, entry, start, keeping, &limits),
        Some(Err(error)) => fail(&entry, context.explain, &error, context.dialect),
        None => {
            let mut head = HeaderMap::new();
            entry.write_headers(context.explain, &mut head);
            let events = EventStream::pending(call, context.encoder(None, false), entry, &limits).keeping(keeping);
            events_response(head, events, context.is_array)
        }
    }
}

/// The parts of a request that its response needs.
struct ResponseContext {
    dialect: Dialect,
    /// True if a stream is the elements of a JSON array.
    is_array: bool,
    /// True if the caller wants the decision record.
    explain: bool,
    /// The model that the caller named.
    model: Option<Arc<str>>,
    request: LlmRequest,
}

impl ResponseContext {
    /// Returns the bytes of a whole answer in the caller's dialect, which pass through unchanged.
    fn own(&self, response: &LlmResponse) -> Option<Bytes> {
        response.body().wire().filter(|(own, _)| *own == self.dialect).map(|(_, raw)| raw.clone())
    }

    /// Returns an encoder. With `passed` the events are in the caller's dialect and pass through, so that the request's
    /// body is not read.
    fn encoder(&self, served: Option<&str>, passed: bool) -> StreamEncoder {
        let encoder = StreamEncoder::new(self.dialect).usage(!passed && self.wants_usage());
        let encoder = if passed { encoder } else { encoder.echo(self.echo()).request(&self.request) };
        match served.or(self.model.as_deref()) {
            Some(model) => encoder.model(model),
            None => encoder,
        }
    }

    /// Returns the parts of the request that an answer in one of OpenAI's dialects repeats. Other dialects have none.
    fn echo(&self) -> RequestEcho {
        let repeats = match self.dialect {
            Dialect::Responses => true,
            // A tool that takes free text.
            Dialect::OpenAi => self.request.wire().is_some_and(|wire| has_custom(wire.body())),
            _ => false,
        };
        let chat = repeats.then(|| self.request.chat().ok()).flatten();
        chat.map(RequestEcho::of).unwrap_or_default()
    }

    /// Returns whether a stream in OpenAI's dialect ends with the used tokens.
    fn wants_usage(&self) -> bool {
        #[derive(Deserialize)]
        struct Head {
            stream_options: Option<Options>,
        }
        #[derive(Deserialize)]
        struct Options {
            include_usage: Option<bool>,
        }
        let asks = |head: Head| head.stream_options.and_then(|options| options.include_usage).unwrap_or_default();
        self.dialect == Dialect::OpenAi
            && self.request.wire().is_some_and(|wire| serde_json::from_slice(wire.body()).is_ok_and(asks))
    }
}

/// Returns true if a body may define a custom tool.
fn has_custom(body: &Bytes) -> bool {
    str::from_utf8(body).is_ok_and(|body| body.contains("\"custom\""))
}

/// Returns a whole answer whose bytes count against `gateway.memory` until its caller has them.
pub(super) async fn counted(
    entry: &Entry,
    explain: bool,
    space: Arc<AnswerSpace>,
    answer: Response<Body>,
    dialect: Dialect,
) -> Response<Body> {
    match space.counted(answer).await {
        Ok(answer) => answer,
        Err(full) => fail(entry, explain, &full.into(), dialect),
    }
}

/// Returns a whole answer as the provider sent it, with its mark if wanted.
fn pass_through(
    context: &ResponseContext,
    entry: &Entry,
    response: &mut LlmResponse,
    body: Bytes,
    marks: bool,
) -> Response<Body> {
    entry.served(response);
    let body = match mark(response).filter(|_| marks) {
        Some(mark) => marked(&body, &mark),
        None => body,
    };
    let mut head = HeaderMap::with_capacity(HEADER_CAPACITY);
    copy_headers(response.headers(), &mut head);
    complete(context, entry, head, body, response.usage())
}

/// Returns a whole answer translated from another dialect, or from one of the gateway's own.
async fn translate(context: &ResponseContext, entry: &Entry, mut response: LlmResponse) -> Response<Body> {
    entry.served(&mut response);
    let served_model = response.served_by().model.map(str::to_owned);
    let (usage, mark) = (response.usage(), mark(&response));
    let mut message = match response.collect().await {
        Ok(message) => message,
        Err(error) => return fail(entry, context.explain, &error, context.dialect),
    };
    if message.model.is_none() {
        message.model = served_model.or_else(|| context.model.as_deref().map(str::to_owned));
    }
    let translated = encode_answer(&message, context.dialect, &context.echo());
    entry.note(translated.notes);
    let body = match mark {
        Some(mark) => marked(&translated.body, &mark),
        None => translated.body,
    };
    complete(context, entry, HeaderMap::with_capacity(HEADER_CAPACITY), body, usage)
}

fn complete(
    context: &ResponseContext,
    entry: &Entry,
    mut head: HeaderMap,
    body: Bytes,
    usage: Option<Usage>,
) -> Response<Body> {
    entry.answered(usage);
    entry.write_headers(context.explain, &mut head);
    set_request_id(context.dialect, &mut head);
    head.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut answer = Response::new(Body::from(body));
    *answer.headers_mut() = head;
    answer
}

/// The capacity of a response's headers.
const HEADER_CAPACITY: usize = 12;

/// Returns a streamed response that has its first frame.
fn stream(
    context: &ResponseContext,
    entry: Entry,
    mut start: ResponseStart,
    keeping: StreamRecords,
    limits: &StreamLimits<'_>,
) -> Response<Body> {
    entry.served(&mut start.response);
    let mut head = HeaderMap::with_capacity(HEADER_CAPACITY);
    let passed = start.first.raw().is_some_and(|(own, _)| own == context.dialect);
    if passed {
        copy_headers(start.response.headers(), &mut head);
    }
    entry.write_headers(context.explain, &mut head);
    set_request_id(context.dialect, &mut head);
    let encoder = context.encoder(start.response.served_by().model, passed);
    let events = EventStream::started(start, encoder, entry, keeping, limits);
    events_response(head, events, context.is_array)
}

fn events_response(head: HeaderMap, events: EventStream, is_array: bool) -> Response<Body> {
    let mut response = Response::new(Body::new(events));
    // The request's body has been read to its end.
    response.extensions_mut().insert(DirectStream);
    let headers = response.headers_mut();
    *headers = head;
    let content = if is_array { "application/json; charset=UTF-8" } else { "text/event-stream; charset=utf-8" };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx would buffer the stream otherwise.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// Returns the response to a failure.
pub(super) fn fail(entry: &Entry, explain: bool, error: &LlmError, dialect: Dialect) -> Response<Body> {
    let is_refused = entry.failed(Outcome::Failed, error);
    let mut response = match Denial::of(error) {
        Some(denied) => refusal::deny(&denied, dialect),
        None => refusal::refuse_for(entry.reader(), error, dialect),
    };
    // A refusal has a line of its own.
    if !is_refused {
        log_failure(entry, error, response.status());
    }
    entry.write_headers(explain, response.headers_mut());
    set_request_id(dialect, response.headers_mut());
    response
}

/// Returns the response to a body that could not be read.
pub(super) fn body_failure(
    entry: &Entry,
    error: BodyError,
    settings: &Settings,
    explain: bool,
    dialect: Dialect,
) -> Response<Body> {
    let response = fail(entry, explain, &error.error(settings), dialect);
    refusal::close_connection(error, response)
}

/// Returns the response to a denial of a request that has its record.
pub(super) fn deny(entry: &Entry, denied: &Denial, dialect: Dialect) -> Response<Body> {
    entry.denied(denied);
    denial(entry, denied, dialect)
}

/// Returns the response to a denial at the door.
pub(super) fn deny_at_door(
    gateway: &GatewayState,
    denied: &Denial,
    key: Option<&Arc<Key>>,
    dialect: Dialect,
) -> Response<Body> {
    denial(&gateway.denied(denied, key, dialect), denied, dialect)
}

fn denial(entry: &Entry, denied: &Denial, dialect: Dialect) -> Response<Body> {
    let mut response = refusal::deny(denied, dialect);
    entry.write_headers(false, response.headers_mut());
    set_request_id(dialect, response.headers_mut());
    response
}

/// Logs a failed request, up to a limit for each key and kind. It has the words of the provider's message that anybody
/// may read: the rest may repeat the prompt.
fn log_failure(entry: &Entry, error: &LlmError, status: StatusCode) {
    let Some(unsaid) = entry.next_failure_line(error.kind()) else { return };
    let words = error.public_message();
    tracing::warn!(
        request = entry.id(),
        http_status = status.as_u16(),
        key = entry.key().as_deref(),
        kind = error.kind().name(),
        status = error.status().map(|status| status.as_u16()),
        error = Some(words.as_str()).filter(|words| !words.is_empty()),
        provider = error.provider(),
        attempts = error.attempts().len(),
        unsaid = (unsaid > 0).then_some(unsaid),
        "request failed"
    );
}

/// Copies the provider's headers that a caller of its dialect relies on.
pub(super) fn copy_headers(from: Option<&HeaderMap>, to: &mut HeaderMap) {
    let Some(from) = from else { return };
    for (name, value) in from {
        if is_passed(name) {
            to.append(name.clone(), value.clone());
        }
    }
}

fn is_passed(name: &HeaderName) -> bool {
    const NAMES: [&str; 7] =
        ["request-id", "x-request-id", "retry-after", "retry-after-ms", "x-should-retry", "x-generation-id", "cf-ray"];
    const FAMILIES: [&str; 5] = ["anthropic-", "openai-", "x-ratelimit-", "x-groq-", "x-gemini-"];
    // Headers that name the operator's account are not for callers.
    let name = name.as_str();
    NAMES.contains(&name) || FAMILIES.iter().any(|family| name.starts_with(family)) && !is_of_account(name)
}

/// Sets the dialect's header for a request's id to ours, if the provider has set none.
pub(super) fn set_request_id(dialect: Dialect, headers: &mut HeaderMap) {
    let name = refusal::request_id_header(dialect);
    if let Some(id) = headers.get(REQUEST_ID).cloned() {
        headers.entry(name).or_insert(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_account_pays_is_not_told_to_callers() {
        let sent = [
            ("request-id", true),
            ("x-request-id", true),
            ("anthropic-ratelimit-requests-remaining", true),
            ("openai-processing-ms", true),
            ("openai-organization", false),
            ("openai-project", false),
            ("anthropic-organization-id", false),
            ("anthropic-workspace-id", false),
            ("openai-account", false),
            ("x-ratelimit-remaining-tokens", true),
            ("x-groq-region", true),
            ("set-cookie", false),
        ];
        let from: HeaderMap =
            sent.iter().map(|(name, _)| (HeaderName::from_static(name), HeaderValue::from_static("1"))).collect();
        let mut to = HeaderMap::new();
        copy_headers(Some(&from), &mut to);
        for (name, passes) in sent {
            assert_eq!(to.contains_key(name), passes, "{name}");
        }
    }
}
