//! The last response of a WebSocket: what the next turn may continue though nobody keeps it (`store: false`).
//!
//! OpenAI's guide to its WebSocket mode is the source: a connection remembers its last response alone, a turn that
//! fails takes the response that it continued with it, and another connection knows neither. A response that the
//! gateway or a provider keeps is continued there.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use memchr::memmem;

use super::{
    TurnMemory, is_own, items,
    json::{Fields, list, list_of},
    new_id,
    rewrite::CallerIds,
};
use crate::api::{GatewayState, keys::Key};

/// The last response of a connection.
#[derive(Default)]
pub(crate) struct Chain {
    last: Option<Last>,
}

struct Last {
    id: String,
    /// The conversation up to its end; `None` where somebody else keeps it.
    items: Option<Items>,
}

/// The items of a conversation.
struct Items {
    json: Vec<Arc<str>>,
    /// Their part of the gateway's memory.
    _memory: TurnMemory,
}

/// A turn as it begins.
pub(crate) struct Link {
    /// The body of its request.
    pub(crate) body: String,
    /// The response that it continues.
    previous: Option<String>,
    /// The conversation up to its answer; `None` where somebody else keeps its beginning.
    items: Option<Vec<Arc<str>>>,
    /// True if its caller wants no answer, but an id to continue.
    pub(crate) is_warm_up: bool,
}

/// The reason for which a turn cannot begin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ChainRefusal {
    /// The message is no JSON object.
    Malformed,
    /// Nobody knows the response that it continues.
    NotFound(String),
    /// It has the result of a call that is not in the conversation.
    NoCall(String),
}

impl Link {
    /// Returns an event of its answer as its caller knows it: the response continues another.
    pub(crate) fn told(&self, event: String) -> String {
        if self.items.is_none() || self.previous.is_none() {
            return event;
        }
        let ids = CallerIds { id: None, previous: self.previous.as_deref(), is_in_background: false };
        ids.event(&event).unwrap_or(event)
    }
}

impl Chain {
    /// Begins a turn with the fields of a message. `is_kept_elsewhere` tells whether a provider may keep the response
    /// that it continues.
    ///
    /// # Errors
    ///
    /// The turn cannot begin. It has failed then.
    pub(crate) fn begin(
        &mut self,
        message: &str,
        is_kept_elsewhere: impl FnOnce() -> bool,
    ) -> Result<Link, ChainRefusal> {
        /// Fields that belong to the socket, or that an answer over it cannot have. `stream` is set in its place.
        const OF_SOCKET: [&str; 3] = ["type", "background", "generate"];
        let fields = Fields::read(message).ok_or(ChainRefusal::Malformed)?;
        let is_warm_up = fields.has("generate", "false");
        let previous = fields.text("previous_response_id");
        let input: Vec<Arc<str>> = match fields.get("input") {
            Some(text) if text.starts_with('"') => vec![items::of_text(text).into()],
            Some(list_text) => list(list_text).unwrap_or_default().into_iter().map(|item| item.get().into()).collect(),
            None => Vec::new(),
        };
        let as_it_is = |items| Link {
            body: fields.with(&OF_SOCKET, &[("stream", "true")]),
            previous: previous.clone(),
            items,
            is_warm_up,
        };
        let Some(id) = &previous else { return Ok(as_it_is(Some(input))) };
        let known = match &self.last {
            Some(Last { id: last, items }) if last == id => items.as_ref(),
            _ if is_own(id) || !fields.has("store", "false") && is_kept_elsewhere() => None,
            _ => return Err(self.refuse(ChainRefusal::NotFound(id.clone()))),
        };
        let Some(earlier) = known else { return Ok(as_it_is(None)) };
        let items: Vec<Arc<str>> = earlier.json.iter().cloned().chain(input).collect();
        if let Some(call) = missing_call(&items) {
            return Err(self.refuse(ChainRefusal::NoCall(call)));
        }
        let whole = list_of(items.iter().map(|item| &**item));
        let without = [&OF_SOCKET[..], &["previous_response_id"]].concat();
        let body = fields.with(&without, &[("input", &whole), ("stream", "true")]);
        Ok(Link { body, previous, items: Some(items), is_warm_up })
    }

    /// Returns the bytes that it remembers.
    pub(crate) fn size(&self) -> usize {
        let items = self.last.as_ref().and_then(|last| last.items.as_ref());
        items.map_or(0, |items| items.json.iter().map(|item| item.len()).sum())
    }

    fn refuse(&mut self, refusal: ChainRefusal) -> ChainRefusal {
        self.last = None;
        refusal
    }

    /// Ends a turn with the response of this id and its items. `is_kept` tells whether its provider keeps it. A
    /// conversation of more than `most` bytes, or one for which there is no memory, is not remembered.
    pub(crate) fn answered(
        &mut self,
        link: Link,
        (id, output, is_kept): (String, Vec<String>, bool),
        (gateway, key): (&GatewayState, Option<&Arc<Key>>),
        most: usize,
    ) {
        // The link has the items of the response before: they are not counted twice.
        self.last = None;
        if is_kept || is_own(&id) {
            self.last = Some(Last { id, items: None });
            return;
        }
        let conversation = link.items.map(|earlier| {
            let sendable = output.iter().filter_map(|item| items::to_sendable(item));
            earlier.into_iter().chain(sendable.map(|item| item.as_ref().into())).collect::<Vec<Arc<str>>>()
        });
        self.last = conversation.and_then(|json| {
            let (size, mut memory) = (json.iter().map(|item| item.len()).sum(), gateway.turn_memory(key));
            let has_room = size <= most && memory.grow(size).is_ok();
            has_room.then_some(Last { id, items: Some(Items { json, _memory: memory }) })
        });
    }

    /// Ends a turn without a whole answer: the response that it continued goes with it.
    pub(crate) fn failed(&mut self, link: &Link) {
        if link.previous.is_some() {
            self.last = None;
        }
    }
}

/// The response of a stream, as far as it has come.
#[derive(Default)]
pub(crate) struct EndedResponse {
    /// The finished items, by their places: the last response of some servers has none.
    items: BTreeMap<u64, String>,
    last: Option<LastResponse>,
}

/// The response in a stream's last event.
struct LastResponse {
    id: Option<String>,
    output: Vec<String>,
    /// True if the answer is whole, or cut off at a limit.
    is_whole: bool,
    /// True if its provider may keep it.
    is_stored: bool,
}

impl EndedResponse {
    /// Notes an event.
    pub(crate) fn note(&mut self, event: &str) {
        const ENDS: [&str; 4] = ["response.completed", "response.incomplete", "response.failed", "response.cancelled"];
        // Nearly all events are others, and are not parsed.
        let concerns = |name: &str| memmem::find(event.as_bytes(), name.as_bytes()).is_some();
        if !concerns(items::DONE) && !ENDS.iter().any(|end| concerns(end)) {
            return;
        }
        let Some(fields) = Fields::read(event) else { return };
        let kind = fields.text("type").unwrap_or_default();
        if kind == items::DONE {
            if let Some((place, item)) = items::finished(&fields) {
                self.items.insert(place, item.to_owned());
            }
        } else if ENDS.contains(&&*kind)
            && let Some(response) = fields.get("response")
        {
            let of_response = Fields::read(response);
            let has = |name, value| of_response.as_ref().is_some_and(|fields| fields.has(name, value));
            self.last = Some(LastResponse {
                id: of_response.as_ref().and_then(|fields| fields.text("id")),
                output: items::output(response).into_iter().map(str::to_owned).collect(),
                is_whole: matches!(&*kind, "response.completed" | "response.incomplete"),
                is_stored: !has("store", "false"),
            });
        }
    }

    /// Returns true once the last event has come.
    pub(crate) fn is_over(&self) -> bool {
        self.last.is_some()
    }

    /// Returns true if it has come, and the answer is whole.
    pub(crate) fn is_whole(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.is_whole)
    }

    /// Returns the id of a whole response, its items, and whether its provider may keep it.
    pub(crate) fn into_parts(self) -> Option<(String, Vec<String>, bool)> {
        let LastResponse { id, output, is_whole, is_stored } = self.last?;
        let output = if output.is_empty() { self.items.into_values().collect() } else { output };
        Some((id.filter(|_| is_whole)?, output, is_stored))
    }
}

/// Returns the id for the answer to a turn that wants none.
pub(crate) fn warm_up_id() -> Option<String> {
    new_id("resp_")
}

/// Returns the id of the first result whose call is not among the items before it.
fn missing_call(items: &[Arc<str>]) -> Option<String> {
    let mut calls = HashSet::new();
    for item in items {
        // Most items are none, and are not parsed.
        if memmem::find(item.as_bytes(), b"call_id").is_none() {
            continue;
        }
        let Some(fields) = Fields::read(item) else { continue };
        let (Some(kind), Some(call)) = (fields.text("type"), fields.text("call_id")) else { continue };
        if !kind.ends_with("_output") {
            calls.insert(call);
        } else if !calls.contains(&call) {
            return Some(call);
        }
    }
    None
}
