//! A request that went to the service, and the responses that its answer makes.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use serde::Deserialize;
use steadfast::{
    Dialect, LlmError, LlmRequest, LlmResponse,
    chat::Usage,
    translate::{RequestEcho, StreamEncoder, encode_answer},
};

use crate::{
    api::{
        call::Call,
        heads::{HEADER_CAPACITY, copy_headers},
        mark::{mark, marked},
        stream::{EventStream, ResponseStart, StreamLimits, StreamRecords},
    },
    http::DirectStream,
};

/// A request that went to the service, and the call that its answer is for.
pub(super) struct Exchange {
    pub(super) call: Box<Call>,
    /// True if a stream is the elements of a JSON array.
    pub(super) is_array: bool,
    /// The model that the caller named.
    pub(super) model: Option<Arc<str>>,
    pub(super) request: LlmRequest,
}

impl Exchange {
    /// Returns the bytes of a whole answer in the caller's dialect, which pass through unchanged.
    pub(super) fn own(&self, response: &LlmResponse) -> Option<Bytes> {
        response.body().wire().filter(|(own, _)| *own == self.call.dialect).map(|(_, raw)| raw.clone())
    }

    /// Returns an encoder. With `passed` the events are in the caller's dialect and pass through, so that the request's
    /// body is not read.
    pub(super) fn encoder(&self, served: Option<&str>, passed: bool) -> StreamEncoder {
        let encoder = StreamEncoder::new(self.call.dialect).usage(!passed && self.wants_usage());
        let encoder = if passed { encoder } else { encoder.echo(self.echo()).request(&self.request) };
        match served.or(self.model.as_deref()) {
            Some(model) => encoder.model(model),
            None => encoder,
        }
    }

    /// Returns the parts of the request that an answer in one of OpenAI's dialects repeats. Other dialects have none.
    fn echo(&self) -> RequestEcho {
        let repeats = match self.call.dialect {
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
        self.call.dialect == Dialect::OpenAi
            && self.request.wire().is_some_and(|wire| serde_json::from_slice(wire.body()).is_ok_and(asks))
    }

    /// Returns a whole answer as the provider sent it, with its mark if wanted.
    pub(super) fn pass_through(&self, response: &mut LlmResponse, body: Bytes) -> Response<Body> {
        self.call.entry.served(response);
        let body = match mark(response).filter(|_| self.call.settings.mark) {
            Some(mark) => marked(&body, &mark),
            None => body,
        };
        let mut head = HeaderMap::with_capacity(HEADER_CAPACITY);
        copy_headers(response.headers(), &mut head);
        self.complete(head, body, response.usage())
    }

    /// Returns a whole answer translated from another dialect, or from one of the gateway's own.
    ///
    /// # Errors
    ///
    /// The answer breaks off.
    pub(super) async fn translate(&self, mut response: LlmResponse) -> Result<Response<Body>, LlmError> {
        self.call.entry.served(&mut response);
        let served_model = response.served_by().model.map(str::to_owned);
        let (usage, mark) = (response.usage(), mark(&response));
        let mut message = response.collect().await?;
        if message.model.is_none() {
            message.model = served_model.or_else(|| self.model.as_deref().map(str::to_owned));
        }
        let translated = encode_answer(&message, self.call.dialect, &self.echo());
        self.call.entry.note(translated.notes);
        let body = match mark {
            Some(mark) => marked(&translated.body, &mark),
            None => translated.body,
        };
        Ok(self.complete(HeaderMap::with_capacity(HEADER_CAPACITY), body, usage))
    }

    fn complete(&self, mut head: HeaderMap, body: Bytes, usage: Option<Usage>) -> Response<Body> {
        self.call.entry.answered(usage);
        self.call.write_head(&mut head);
        head.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut answer = Response::new(Body::from(body));
        *answer.headers_mut() = head;
        answer
    }

    /// Returns a streamed response that has its first frame.
    pub(super) fn stream(
        self,
        mut start: ResponseStart,
        keeping: StreamRecords,
        limits: &StreamLimits<'_>,
    ) -> Response<Body> {
        self.call.entry.served(&mut start.response);
        let mut head = HeaderMap::with_capacity(HEADER_CAPACITY);
        let passed = start.first.raw().is_some_and(|(own, _)| own == self.call.dialect);
        if passed {
            copy_headers(start.response.headers(), &mut head);
        }
        self.call.write_head(&mut head);
        let encoder = self.encoder(start.response.served_by().model, passed);
        let events = EventStream::started(start, encoder, self.call.entry, keeping, limits);
        events_response(head, events, self.is_array)
    }
}

/// Returns true if a body may define a custom tool.
fn has_custom(body: &Bytes) -> bool {
    str::from_utf8(body).is_ok_and(|body| body.contains("\"custom\""))
}

/// Returns a response of these events.
pub(super) fn events_response(head: HeaderMap, events: EventStream, is_array: bool) -> Response<Body> {
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
