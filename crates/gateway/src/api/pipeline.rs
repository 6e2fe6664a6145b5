//! The one way from a request to its answer, whatever the protocol.
//!
//! What differs between protocols is a [`Dialect`]; the failover is below, in the service, and knows of none.
//!
//! **When the head goes out.** A response's head is held back until the first token is there, so that whatever fails
//! before has its own status. A caller of a stream that waits longer than [`Settings::first_sign`] gets
//! the head then, with status 200 and signs of life after it; a failure that comes later is an error event.

use std::{
    future::ready,
    sync::{Arc, Mutex},
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use serde::Deserialize;
use steadfast::{
    BoxLlmService, Dialect, ErrorKind, LlmError, LlmRequest, LlmResponse,
    chat::Usage,
    translate::{StreamEncoder, encode_message},
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Gateway,
    inbound::{self, Asked, Unread},
    keys::{self, Denied, Key},
    mark::{mark, marked},
    record::{Entry, Outcome, REQUEST_ID},
    refusal::{self, refuse},
    stream::{Begun, Calling, Events, Keep, stopping},
};
use crate::{
    http::{Answering, SentByHand},
    limits::Settings,
};

/// An answer for which nothing has to be waited.
pub(crate) fn at_once(response: Response<Body>) -> Answering<'static> {
    Box::pin(ready(response))
}

/// What the requests of a connection have in common. To make it for each would cost as much as the layers.
pub(crate) struct Common {
    service: Mutex<BoxLlmService>,
    /// The gateway's, as a child: its lock is its own.
    cut: CancellationToken,
}

impl Common {
    pub(crate) fn of(gateway: &Gateway) -> Self {
        Self { service: Mutex::new(gateway.service.clone()), cut: gateway.lifecycle.cut.child_token() }
    }
}

/// Answers a request of this dialect.
///
/// What the head decides is decided at once. The future that it gives is kept small: with many callers it has left the
/// processor's cache by the time the answer comes.
pub(crate) fn answer<'a>(
    gateway: &Arc<Gateway>,
    common: &'a Common,
    dialect: Dialect,
    request: Request<Body>,
) -> Answering<'a> {
    let (Parts { headers, extensions, .. }, body) = request.into_parts();
    let key = extensions.get::<Arc<Key>>().cloned();
    let mut asked = Asked::of(&headers);
    let mut entry = gateway.records.begin(dialect);
    if let Some(key) = &key {
        entry.by(&key.name);
        match key.admit(Instant::now()).and_then(|()| key.feature(asked.feature.take())) {
            Ok(feature) => asked.feature = feature,
            Err(denied) => return at_once(denied_to(&entry, denied, dialect)),
        }
    }
    let gateway = gateway.clone();
    Box::pin(async move {
        let settings = gateway.lifecycle.current.load_full();
        let body = match gateway.reader(&settings, key.as_ref()).read(&headers, body).await {
            Ok(body) => body,
            Err(unread) => return unread_to(&entry, unread, &settings, asked.explain, dialect),
        };
        let request = inbound::request(dialect, &headers, body.clone(), &settings);
        let request =
            match request.and_then(|request| gateway.catalog.admit(request)).and_then(|request| asked.put(request)) {
                Ok(request) => request,
                Err(error) => return refused(&entry, asked.explain, &error, dialect),
            };
        if let Some(Err(denied)) = key.as_ref().map(|key| key.model(request.model())) {
            return denied_to(&entry, denied, dialect);
        }
        let request = request.id(entry.id_kept()).status_of(refusal::status_of(dialect));
        let model: Option<Arc<str>> = request.model().map(Into::into);
        entry.asked(model.as_ref(), asked.feature.take(), request.is_stream());
        entry.goes_by_cache(gateway.catalog.keeps_answers());
        let caller = Caller { dialect, explain: asked.explain, model, body };
        inbound::decode_ahead(&request, || {
            gateway.catalog.reads_requests() || key.as_ref().is_some_and(|key| key.reads_requests())
        })
        .await;
        if request.is_stream() {
            // A stream may outlive its turn on the connection.
            let calling = Box::pin(first_frame(key, Mutex::new(gateway.service.clone()), request));
            return begin(caller, entry, calling, &settings, &common.cut).await;
        }
        let answered = tokio::select! {
            biased;
            answered = keys::call(key, &common.service, request) => answered,
            () = common.cut.cancelled() => Err(stopping()),
        };
        match answered {
            Ok(response) => match caller.own(&response) {
                Some(body) => passed(&caller, &entry, &response, body, settings.mark),
                None => Box::pin(translated(caller, entry, response)).await,
            },
            Err(error) => refused(&entry, caller.explain, &error, dialect),
        }
    })
}

/// Calls for a stream, and waits for the first of it.
async fn first_frame(
    key: Option<Arc<Key>>,
    service: Mutex<BoxLlmService>,
    request: LlmRequest,
) -> Result<Begun, LlmError> {
    let mut response = keys::call(key, &service, request).await?;
    match response.body_mut().frame().await {
        Some(Ok(first)) => Ok(Begun { response, first }),
        Some(Err(error)) => Err(error),
        None => Err(LlmError::new(ErrorKind::EmptyAnswer, "the stream has no event")),
    }
}

/// Begins a stream: with its first frame, or without it once the caller has waited for long.
async fn begin(
    caller: Caller,
    entry: Entry,
    mut calling: Calling,
    settings: &Settings,
    cut: &CancellationToken,
) -> Response<Body> {
    let begun = tokio::select! {
        biased;
        begun = &mut calling => Some(begun),
        () = sleep(settings.first_sign) => None,
        () = cut.cancelled() => Some(Err(stopping())),
    };
    let keep = Keep { dialect: caller.dialect, silence: settings.keep_alive, marks: settings.mark, cut };
    match begun {
        Some(Ok(begun)) => streamed(&caller, entry, begun, &keep),
        Some(Err(error)) => refused(&entry, caller.explain, &error, caller.dialect),
        None => {
            let mut head = HeaderMap::new();
            entry.tell(caller.explain, &mut head);
            let events = Events::calling(calling, caller.encoder(None, false), entry, &keep);
            events_response(head, events)
        }
    }
}

/// What is still needed of a request once it is on its way.
struct Caller {
    dialect: Dialect,
    /// Whether the decision record is to come with the answer.
    explain: bool,
    /// As the caller names it.
    model: Option<Arc<str>>,
    body: Bytes,
}

impl Caller {
    /// The bytes of an answer that is whole and of the caller's dialect, so that they go on as they are.
    fn own(&self, response: &LlmResponse) -> Option<Bytes> {
        response.body().wire().filter(|(own, _)| *own == self.dialect).map(|(_, raw)| raw.clone())
    }

    /// `passed`: the events are of the caller's own dialect and go on as they are, so that nothing is asked of the body.
    fn encoder(&self, served: Option<&str>, passed: bool) -> StreamEncoder {
        let encoder = StreamEncoder::new(self.dialect).usage(!passed && self.wants_usage());
        match served.or(self.model.as_deref()) {
            Some(model) => encoder.model(model),
            None => encoder,
        }
    }

    /// Whether a stream in OpenAI's dialect is to end with the tokens used.
    fn wants_usage(&self) -> bool {
        #[derive(Deserialize)]
        struct Head {
            stream_options: Option<Options>,
        }
        #[derive(Deserialize)]
        struct Options {
            include_usage: Option<bool>,
        }
        self.dialect == Dialect::OpenAi
            && serde_json::from_slice::<Head>(&self.body)
                .is_ok_and(|head| head.stream_options.and_then(|options| options.include_usage).unwrap_or_default())
    }
}

/// A whole answer as the provider sent it, but for its mark where that is wanted.
fn passed(caller: &Caller, entry: &Entry, response: &LlmResponse, body: Bytes, marks: bool) -> Response<Body> {
    entry.served(response);
    let body = match mark(response).filter(|_| marks) {
        Some(mark) => marked(&body, &mark),
        None => body,
    };
    let mut head = HeaderMap::with_capacity(HEADERS);
    pass(response.headers(), &mut head);
    whole(caller, entry, head, body, response.usage())
}

/// A whole answer of another dialect, or one that was made here.
async fn translated(caller: Caller, entry: Entry, response: LlmResponse) -> Response<Body> {
    entry.served(&response);
    let served_model = response.served_by().model.map(str::to_owned);
    let (usage, mark) = (response.usage(), mark(&response));
    let mut message = match response.collect().await {
        Ok(message) => message,
        Err(error) => return refused(&entry, caller.explain, &error, caller.dialect),
    };
    if message.model.is_none() {
        message.model = served_model.or_else(|| caller.model.as_deref().map(str::to_owned));
    }
    let translated = encode_message(&message, caller.dialect);
    entry.note(translated.notes);
    let body = match mark {
        Some(mark) => marked(&translated.body, &mark),
        None => translated.body,
    };
    whole(&caller, &entry, HeaderMap::with_capacity(HEADERS), body, usage)
}

fn whole(caller: &Caller, entry: &Entry, mut head: HeaderMap, body: Bytes, usage: Option<Usage>) -> Response<Body> {
    entry.answered(usage);
    entry.tell(caller.explain, &mut head);
    identify(caller.dialect, &mut head);
    head.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut answer = Response::new(Body::from(body));
    *answer.headers_mut() = head;
    answer
}

/// How many headers an answer has without making room for more.
const HEADERS: usize = 12;

/// A streamed answer that has begun.
fn streamed(caller: &Caller, entry: Entry, begun: Begun, keep: &Keep<'_>) -> Response<Body> {
    entry.served(&begun.response);
    let mut head = HeaderMap::with_capacity(HEADERS);
    let passed = begun.first.raw().is_some_and(|(own, _)| own == caller.dialect);
    if passed {
        pass(begun.response.headers(), &mut head);
    }
    entry.tell(caller.explain, &mut head);
    identify(caller.dialect, &mut head);
    let encoder = caller.encoder(begun.response.served_by().model, passed);
    let events = Events::reading(begun, encoder, entry, keep);
    events_response(head, events)
}

fn events_response(head: HeaderMap, events: Events) -> Response<Body> {
    let mut response = Response::new(Body::new(events));
    // The body of the request was read at the very beginning.
    response.extensions_mut().insert(SentByHand);
    let headers = response.headers_mut();
    *headers = head;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx in front would collect the stream otherwise.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// No answer.
fn refused(entry: &Entry, explain: bool, error: &LlmError, dialect: Dialect) -> Response<Body> {
    entry.failed(Outcome::Failed, error);
    let mut response = match Denied::of(error) {
        Some(denied) => refusal::deny(denied, dialect),
        None => refuse(error, dialect),
    };
    tell_operator(entry, error, response.status());
    entry.tell(explain, response.headers_mut());
    identify(dialect, response.headers_mut());
    response
}

/// The body of the request did not come, or is too large.
fn unread_to(entry: &Entry, unread: Unread, settings: &Settings, explain: bool, dialect: Dialect) -> Response<Body> {
    let response = refused(entry, explain, &unread.error(settings), dialect);
    refusal::of_unread(unread, response)
}

/// The key does not allow it.
fn denied_to(entry: &Entry, denied: Denied, dialect: Dialect) -> Response<Body> {
    let error = LlmError::new(ErrorKind::Auth, "the key does not allow it");
    entry.failed(Outcome::Failed, &error);
    let mut response = refusal::deny(denied, dialect);
    entry.tell(false, response.headers_mut());
    identify(dialect, response.headers_mut());
    response
}

/// One line for a request that failed. What the provider said is not in it, for that may repeat the prompt.
fn tell_operator(entry: &Entry, error: &LlmError, status: StatusCode) {
    tracing::warn!(
        request = entry.id(),
        http_status = status.as_u16(),
        key = entry.key().as_deref(),
        kind = error.kind().name(),
        status = error.status().map(|status| status.as_u16()),
        provider = error.provider(),
        attempts = error.attempts().len(),
        "no answer"
    );
}

/// The provider's headers that a caller of its dialect relies on.
fn pass(from: Option<&HeaderMap>, to: &mut HeaderMap) {
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
    const FAMILIES: [&str; 4] = ["anthropic-", "openai-", "x-ratelimit-", "x-groq-"];
    // Whose account it is that pays: the operator's, and none of the caller's business.
    const ACCOUNT: [&str; 3] = ["openai-organization", "openai-project", "anthropic-organization-id"];
    let name = name.as_str();
    NAMES.contains(&name) || FAMILIES.iter().any(|family| name.starts_with(family)) && !ACCOUNT.contains(&name)
}

/// An id in the header that the dialect's clients show to their users: ours where no provider's is there.
fn identify(dialect: Dialect, headers: &mut HeaderMap) {
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
            ("set-cookie", false),
        ];
        let from: HeaderMap =
            sent.iter().map(|(name, _)| (HeaderName::from_static(name), HeaderValue::from_static("1"))).collect();
        let mut to = HeaderMap::new();
        pass(Some(&from), &mut to);
        for (name, passes) in sent {
            assert_eq!(to.contains_key(name), passes, "{name}");
        }
    }
}
