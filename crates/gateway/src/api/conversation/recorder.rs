//! The answer's side: the gateway's ids, and the record of the response.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use steadfast::{Dialect, LlmResponse};
use steadfast_stores::responses::{ResponseOrigin, ResponseState, StoredResponse};

use super::{
    Turn, TurnRecord, background, items,
    json::{Fields, list_of},
    rewrite::{CallerIds, Part},
};

/// A write of a record.
type PendingWrite = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Turn {
    fn ids(&self) -> CallerIds<'_> {
        let record = self.record.as_ref();
        CallerIds {
            id: record.map(|record| &*record.id),
            previous: self.previous.as_deref(),
            is_in_background: record.is_some_and(|record| record.is_in_background),
        }
    }

    /// Makes its response one in the background, whose object is this. Returns what is kept of it until its end; `None`
    /// if the response is not kept.
    pub(super) fn begin_in_background(&mut self, object: &str) -> Option<StoredResponse> {
        let record = self.record.as_mut()?;
        record.is_in_background = true;
        let (input, items) = (record.input.clone(), record.items.clone());
        let response = self.ids().object(object)?;
        Some(StoredResponse { input, response, items, ..self.stored(self.record.as_ref()?.id.clone()) })
    }

    /// Returns the record of this turn without its texts.
    fn stored(&self, id: String) -> StoredResponse {
        StoredResponse {
            id,
            owner: self.owner.clone(),
            session: self.session.clone(),
            previous: self.previous.clone(),
            origin: None,
            input: String::new(),
            response: String::new(),
            items: Vec::new(),
            state: ResponseState::Ended,
        }
    }

    /// Returns the account that keeps this answer itself; `None` for an answer of another API or of a cache.
    pub(crate) fn account(&self, response: &LlmResponse) -> Option<Arc<str>> {
        let served = response.served_by();
        let tier = served.tier.filter(|_| response.cached().is_none())?;
        match served.deployment {
            Some(deployment) => self.stack.deployment_account(tier, deployment),
            None => self.stack.account(tier),
        }
    }

    /// Keeps a whole answer. Returns it with the gateway's ids, or as it is if it cannot be kept.
    pub(crate) async fn record(mut self, response: Response<Body>, account: Option<Arc<str>>) -> Response<Body> {
        let (head, body) = response.into_parts();
        // The body is there already.
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let changed = match std::str::from_utf8(&body) {
            Ok(object) => self.keep(object, account).await,
            Err(_) => None,
        };
        Response::from_parts(head, Body::from(changed.map_or(body, Bytes::from)))
    }

    /// Keeps a response object, and returns it with the gateway's ids.
    async fn keep(&mut self, object: &str, account: Option<Arc<str>>) -> Option<String> {
        let fields = Fields::read(object)?;
        let is_ended = fields.text("status").is_none_or(|status| matches!(&*status, "completed" | "incomplete"));
        if is_ended
            && let Some(changed) = self.ids().object(object)
            && let Some(record) = self.record.take()
        {
            let id = record.id.clone();
            let origin = origin(account, fields.text("id"), &fields);
            if self.write(record, changed.clone(), origin).await {
                return Some(changed);
            }
            tracing::warn!(response = id, "response not kept: the answer has its provider's id");
        }
        // The caller still knows the response before this one by the gateway's id.
        self.record = None;
        self.ids().object(object)
    }

    /// Writes a record. Returns false if it is too large, or the store failed.
    async fn write(&self, mut record: TurnRecord, response: String, origin: Option<ResponseOrigin>) -> bool {
        let size = record.input.len() + response.len();
        if size > self.archive.max_response() || record.memory.grow(size).is_err() {
            return false;
        }
        let TurnRecord { id, input, mut items, memory, is_in_background } = record;
        items.extend(items::output(&response).into_iter().filter_map(items::id_of));
        let stored = StoredResponse { origin, input, response, items, ..self.stored(id) };
        let is_kept = match is_in_background {
            true => {
                let response = background::in_background(stored.response.clone());
                background::keep(&self.archive, StoredResponse { response, ..stored }).await
            }
            false => self.archive.put(stored).await.is_ok(),
        };
        drop(memory);
        is_kept
    }
}

/// Returns the place of a response at its provider, if the provider keeps it too.
fn origin(account: Option<Arc<str>>, id: Option<String>, response: &Fields<'_>) -> Option<ResponseOrigin> {
    let (account, id) = account.zip(id)?;
    (response.get("store") != Some("false")).then(|| ResponseOrigin { account: account.to_string(), id })
}

/// The record of a streamed answer.
pub(crate) struct Recorder {
    turn: Box<Turn>,
    account: Option<Arc<str>>,
    /// The finished items, by their places: the last response of some servers has none.
    items: BTreeMap<u64, String>,
    /// The bytes in `items`.
    size: usize,
    /// The whole response as the caller sees it, and the id that its provider gave it.
    ended: Option<(String, Option<String>)>,
    /// The write of the record, and the events that wait for it.
    write: Option<(PendingWrite, Bytes)>,
}

impl Recorder {
    pub(crate) fn new(turn: Box<Turn>) -> Self {
        Self { turn, account: None, items: BTreeMap::new(), size: 0, ended: None, write: None }
    }

    /// Notes the answer that the stream is of, and the dialect in which its first event came.
    pub(crate) fn served(&mut self, response: &LlmResponse, first: Option<Dialect>) {
        self.account = self.turn.account(response).filter(|_| first == Some(Dialect::Responses));
    }

    /// Notes that another call began the answer again, or went on with it: no provider has all of it.
    pub(crate) fn changed_hands(&mut self) {
        self.account = None;
    }

    /// Notes the events of a frame. Returns them with the gateway's ids, or nothing if they are the last ones: those
    /// wait for the [write](Self::poll_write) of the record.
    pub(crate) fn record(&mut self, events: &Bytes) -> Bytes {
        let events = self.events(events);
        match self.begin_write() {
            Some(write) => {
                self.write = Some((write, events));
                Bytes::new()
            }
            None => events,
        }
    }

    /// Returns true while events wait for the record.
    pub(crate) fn is_writing(&self) -> bool {
        self.write.is_some()
    }

    /// Completes with the events that waited, once the record is written.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        match &mut self.write {
            Some((write, _)) => ready!(write.as_mut().poll(cx)),
            None => return Poll::Ready(Bytes::new()),
        }
        Poll::Ready(self.write.take().map(|(_, events)| events).unwrap_or_default())
    }

    /// Returns events with the gateway's ids, and notes the parts that the record needs.
    pub(crate) fn events(&mut self, events: &Bytes) -> Bytes {
        let Self { turn, items, size, ended, .. } = self;
        let mut is_over = false;
        let limit = turn.archive.max_response();
        let changed = turn.ids().events(events, |part| match part {
            Part::Response { is_end: true, id, object } => *ended = Some((object, id)),
            Part::Response { .. } => {}
            Part::Item { place, item } => {
                *size += item.len();
                is_over |= *size > limit;
                items.insert(place, item);
            }
        });
        let has_room =
            self.turn.record.as_mut().is_none_or(|record| record.memory.grow(record.input.len() + self.size).is_ok());
        if is_over || !has_room {
            // The write refuses what is over the limit; until then nothing more is held.
            self.items.clear();
        }
        changed
    }

    /// Returns the write of the record, once the whole response is known.
    fn begin_write(&mut self) -> Option<PendingWrite> {
        let (response, id) = self.ended.take()?;
        let record = self.turn.record.take()?;
        let response = with_items(response, &std::mem::take(&mut self.items));
        let origin = Fields::read(&response).and_then(|fields| origin(self.account.take(), id, &fields));
        let turn = Turn {
            archive: self.turn.archive.clone(),
            stack: self.turn.stack.clone(),
            owner: self.turn.owner.clone(),
            session: self.turn.session.clone(),
            previous: self.turn.previous.clone(),
            record: None,
        };
        Some(Box::pin(async move {
            let id = record.id.clone();
            if !turn.write(record, response, origin).await {
                tracing::warn!(response = id, "response not kept: a later request cannot continue it");
            }
        }))
    }
}

/// Adds the finished items to a last response that has none.
pub(super) fn with_items(response: String, items: &BTreeMap<u64, String>) -> String {
    if items.is_empty() || !items::output(&response).is_empty() {
        return response;
    }
    let output = list_of(items.values().map(String::as_str));
    let fields = Fields::read(&response).map(|fields| fields.with(&[], &[("output", &output)]));
    fields.unwrap_or(response)
}
