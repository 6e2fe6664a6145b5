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
//! until [`KEPT_EVENTS`] after the end. A gateway says in the store that it lives ([`LEASE`]). If it stops, others tell
//! its responses as `failed`, and the same requests may be sent again.
//!
//! The first end stands: the answer, a failure, or a caller's `cancel` at any gateway, which the one that makes the
//! response learns with its next sign of life.
//!
//! OpenAI's guide "Background mode" is the source of statuses, numbers of events, and `cancel`.

mod event_log;
mod object;
mod run;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use steadfast::{ErrorKind, LlmError, LlmRequest};
use steadfast_stores::responses::StoredResponse;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(super) use self::object::{cancelled, in_background, is_in_background, lost};
pub(super) use self::run::keep;
use self::{event_log::EventLog, run::Run};
use super::{Turn, json::Fields};
use crate::{api::refusal, http::Answering, limits::memory::Reservation, lock::lock};

/// The time for which a gateway is taken to live after each sign of it.
const LEASE: Duration = Duration::from_secs(60);
/// The time between two signs of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// The time for which events are kept after the end.
const KEPT_EVENTS: Duration = Duration::from_secs(5 * 60);
/// The number of a caller's ended responses whose events are kept.
const MOST_KEPT: usize = 16;
/// The memory of a run, in bytes, beside its events.
const RUN: usize = 16 << 10;

/// The responses that this process makes in the background.
#[derive(Debug)]
pub(crate) struct Runs {
    table: Mutex<Table>,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct Table {
    by_id: HashMap<String, Entry>,
    /// The ids of each caller's ended responses with events, the oldest first.
    ended: HashMap<String, VecDeque<String>>,
}

/// A response that is made here, or whose events are kept here.
#[derive(Clone, Debug)]
struct Entry {
    /// Cancelled to stop its call, and at its end.
    stop: CancellationToken,
    events: Option<Arc<EventLog>>,
}

impl Runs {
    /// Creates an empty table. The tasks that make responses are among these.
    pub(crate) fn new(tasks: TaskTracker) -> Self {
        Self { table: Mutex::default(), tasks }
    }

    /// Stops the call for a response, if it is made here.
    pub(super) fn stop(&self, id: &str) {
        if let Some(entry) = lock(&self.table).by_id.get(id) {
            entry.stop.cancel();
        }
    }

    /// Returns whether a response is made here at this moment.
    pub(super) fn make(&self, id: &str) -> bool {
        lock(&self.table).by_id.get(id).is_some_and(|entry| !entry.stop.is_cancelled())
    }

    /// Returns the events of a response, if they are kept here.
    pub(super) fn events(&self, id: &str) -> Option<Arc<EventLog>> {
        lock(&self.table).by_id.get(id)?.events.clone()
    }

    /// Notes that a response has ended. Its events stay for a while.
    fn ended(self: &Arc<Self>, owner: &str, id: &str) {
        self.stop(id);
        let mut table = lock(&self.table);
        if table.by_id.get(id).is_none_or(|entry| entry.events.is_none()) {
            table.by_id.remove(id);
            return;
        }
        let ended = table.ended.entry(owner.to_owned()).or_default();
        ended.push_back(id.to_owned());
        if ended.len() > MOST_KEPT
            && let Some(oldest) = ended.pop_front()
        {
            table.by_id.remove(&oldest);
        }
        let (runs, owner, id) = (Arc::downgrade(self), owner.to_owned(), id.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(KEPT_EVENTS).await;
            if let Some(runs) = runs.upgrade() {
                lock(&runs.table).forget(&owner, &id);
            }
        });
    }
}

impl Table {
    fn forget(&mut self, owner: &str, id: &str) {
        self.by_id.remove(id);
        if let Some(ended) = self.ended.get_mut(owner) {
            ended.retain(|ended| ended != id);
            if ended.is_empty() {
                self.ended.remove(owner);
            }
        }
    }
}

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
    pub(crate) fn read(
        request: LlmRequest,
        reservation: impl Fn() -> Reservation,
    ) -> Result<(LlmRequest, Self), LlmError> {
        let wrong = |what: &'static str| LlmError::new(ErrorKind::InvalidRequest, what);
        let Some(wire) = request.wire() else { return Err(wrong("`background`: it is of the Responses API alone")) };
        let fields = str::from_utf8(wire.body()).ok().and_then(Fields::read);
        if fields.is_some_and(|fields| fields.has("store", "false")) {
            return Err(wrong("`background` needs `store: true`: the response is kept until you ask for it"));
        }
        let (mut memory, mut of_body) = (reservation(), reservation());
        memory.grow(RUN).map_err(|_| busy())?;
        let order = Self { object: object::first(&request)?, has_events: request.is_stream(), memory };
        let body = wire.with_fields(&[("background", b"false")])?.body().clone();
        of_body.grow(body.len()).map_err(|_| busy())?;
        Ok((request.with_wire_body(of_body.into_body(body))?.with_stream(true), order))
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
        lock(&runs.table).by_id.insert(record.id.clone(), Entry { stop: stop.clone(), events: events.clone() });
        let (owner, id, of_task) = (record.owner.clone(), record.id.clone(), runs.clone());
        let run = Run { archive, record, events, stop };
        runs.tasks.spawn(async move {
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
