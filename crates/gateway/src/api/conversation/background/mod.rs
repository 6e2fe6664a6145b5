//! Responses in the background (`background: true`), where the gateway keeps responses.
//!
//! The call runs to its end in a task of its own, whoever waits for it: with the key, the limits, the deadline, the
//! failover and the record of any other. Its caller gets an id at once, under which the response is kept from its
//! beginning on.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/responses` | the response with the status `queued`; with `stream: true` its events |
//! | `GET /v1/responses/{id}` | the response as far as it is kept: `in_progress`, then its end |
//! | the same with `stream=true` | its events behind number `starting_after`, as they come |
//! | `POST /v1/responses/{id}/cancel` | the response with the status `cancelled`; its call has been dropped |
//! | `DELETE /v1/responses/{id}` | the same, and nothing is kept |
//!
//! Any gateway with the same store answers, except for events: they are in the memory of the gateway that makes them,
//! until [`KEPT_EVENTS`](runs::KEPT_EVENTS) after the end. A gateway says in the store that it lives ([`LEASE`]). If it
//! stops, others tell its responses as `failed`, and the same requests may be sent again.
//!
//! The first end stands: the answer, a failure, or a caller's `cancel` at any gateway, which the one that makes the
//! response learns with its next sign of life.
//!
//! OpenAI's guide "Background mode" is the source of statuses, numbers of events, and `cancel`.

mod event_log;
mod object;
mod run;
pub(super) mod runs;

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use steadfast::{ErrorKind, LlmError, LlmRequest};
use steadfast_stores::responses::StoredResponse;
use tokio_util::sync::CancellationToken;

pub(super) use self::object::{cancelled, in_background, is_in_background, lost};
pub(super) use self::run::keep;
use self::{event_log::EventLog, run::Run, runs::Runs};
use super::{Turn, json::Fields};
use crate::{
    api::{large_body::beside, refusal},
    http::Answering,
    limits::memory::Reservation,
};

/// The time for which a gateway is taken to live after each sign of it.
const LEASE: Duration = Duration::from_secs(60);
/// The time between two signs of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// The memory of a run, in bytes, beside its events.
const RUN: usize = 16 << 10;

/// A response in the background that is about to begin.
pub(crate) struct Order {
    /// The response as it begins.
    object: String,
    /// True if its caller may read its events.
    has_events: bool,
    memory: Reservation,
}

impl Order {
    /// Reads the order of a request. Returns with it the request as one whose caller waits for a stream. `reservation`
    /// returns an empty reservation for its caller.
    ///
    /// # Errors
    ///
    /// The request cannot run in the background, or there is no memory for it.
    pub(crate) async fn read(
        request: LlmRequest,
        reservation: impl Fn() -> Reservation,
    ) -> Result<(LlmRequest, Self), LlmError> {
        let (mut memory, mut of_body) = (reservation(), reservation());
        memory.grow(RUN).map_err(|_| busy())?;
        let (asked, has_events) = (request.clone(), request.is_stream());
        let size = request.wire().map_or(0, |wire| wire.body().len());
        let (object, body) = beside(size, move || read(&asked)).await??;
        of_body.grow(body.len()).map_err(|_| busy())?;
        let request = request.with_wire_body(of_body.into_body(body))?.with_stream(true);
        Ok((request, Self { object, has_events, memory }))
    }

    /// Begins a response: keeps it as it is, under the id of its turn.
    ///
    /// # Errors
    ///
    /// The response cannot be kept.
    pub(crate) async fn begin(self, turn: Option<&mut Turn>) -> Result<Beginning, LlmError> {
        let Self { object, has_events, memory } = self;
        let begun = turn.and_then(|turn| {
            let record = turn.begin_in_background(&object)?;
            Some((turn.archive.clone(), record))
        });
        let Some((archive, record)) = begun else {
            let message = "`background`: the gateway cannot keep this response. Its conversation is a provider's own \
                           (`conversation`, `previous_response_id`, `item_reference`), or it is over \
                           `responses.max_response`";
            return Err(LlmError::new(ErrorKind::InvalidRequest, message));
        };
        archive.begin(record.clone(), LEASE).await.map_err(|_| busy())?;
        let queued = object::with_status(&record.response, "queued");
        let (events, memory) = match has_events {
            true => (Some(Arc::new(EventLog::new(&queued, memory))), None),
            false => (None, Some(memory)),
        };
        Ok(Beginning { archive, record, queued, events, memory })
    }
}

/// Returns the object of a response to this request, and the body of the request in the foreground.
fn read(request: &LlmRequest) -> Result<(String, Bytes), LlmError> {
    let wrong = |what: &'static str| LlmError::new(ErrorKind::InvalidRequest, what);
    let wire = request.wire().ok_or_else(|| wrong("`background`: it is of the Responses API alone"))?;
    let fields = str::from_utf8(wire.body()).ok().and_then(Fields::read);
    if fields.is_some_and(|fields| fields.has("store", "false")) {
        return Err(wrong("`background` needs `store: true`: the response is kept until you ask for it"));
    }
    Ok((object::first(request)?, wire.with_fields(&[("background", b"false")])?.body().clone()))
}

/// Returns the error of a response for which there is no room, or no store.
fn busy() -> LlmError {
    let message = "`background`: the gateway has no memory for the response, or its store does not answer; repeat the \
                   request";
    LlmError::new(ErrorKind::Store, message).with_retry_after(Duration::from_secs(1))
}

/// A response that is kept, and whose call has not begun.
pub(crate) struct Beginning {
    archive: steadfast_stack::ResponseArchive,
    record: StoredResponse,
    queued: String,
    events: Option<Arc<EventLog>>,
    /// The memory of a run without events.
    memory: Option<Reservation>,
}

impl Beginning {
    /// Returns what its caller gets at once: the response, or its events as they come.
    pub(crate) fn answer(&self, head: HeaderMap, keep_alive: Duration) -> Response<Body> {
        let mut answer = match &self.events {
            Some(events) => event_stream(events, 0, keep_alive),
            None => refusal::json(StatusCode::OK, self.queued.clone()),
        };
        let content = answer.headers_mut().remove(header::CONTENT_TYPE);
        *answer.headers_mut() = head;
        answer.headers_mut().extend(content.map(|content| (header::CONTENT_TYPE, content)));
        answer
    }

    /// Runs the call to its end. An event has so many bytes at most.
    pub(crate) fn spawn(self, runs: &Arc<Runs>, asking: Answering<'static>, largest_event: usize) {
        let Self { archive, record, events, memory, .. } = self;
        let stop = CancellationToken::new();
        runs.add(&record.id, &stop, events.clone());
        let (owner, id, of_task) = (record.owner.clone(), record.id.clone(), runs.clone());
        let run = Run { archive, record, events, stop };
        runs.spawn(async move {
            run.finish(asking, largest_event).await;
            drop(memory);
            of_task.ended(&owner, &id);
        });
    }
}

/// Returns events from a number on, as they come.
pub(super) fn event_stream(events: &Arc<EventLog>, from: usize, keep_alive: Duration) -> Response<Body> {
    let mut response = Response::new(events.read(from, keep_alive));
    let content = HeaderValue::from_static("text/event-stream; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, content);
    response
}
