//! The parts of a passing stream that a later failure needs.

use std::{borrow::Cow, sync::LazyLock};

use bytes::Bytes;
use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{
    super::json_of,
    response::{Head, Outcome},
};
use crate::{Frame, Progress, sse::Decoder};

/// The finished items of a passing stream that are kept, in bytes.
const KEPT: usize = 1 << 20;
/// The name of the event with a finished item.
const ITEM_DONE: &str = "response.output_item.done";

/// The events of a passing stream that a failure's own event needs. No event is parsed before a failure.
#[derive(Debug, Default)]
pub(super) struct Passing {
    /// The first event, which has the response object.
    created: Bytes,
    /// The events with finished items.
    items: Vec<Bytes>,
    /// The bytes in `items`.
    size: usize,
    last: Bytes,
    events: u64,
}

/// The place where a passing stream goes on.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) head: Head,
    /// The finished items, in their order.
    pub(super) items: Vec<String>,
    /// The id of the message that is open, and its text.
    pub(super) open: Option<(String, String)>,
}

impl Passing {
    /// Notes an event.
    #[inline]
    pub(super) fn note(&mut self, frame: &Frame, raw: &Bytes) {
        if frame.progress() == Progress::KeepAlive {
            return;
        }
        if self.events == 0 {
            self.created = raw.clone();
        } else if is_item_done(raw) && self.size + raw.len() <= KEPT {
            self.size += raw.len();
            // A copy: the bytes are part of a larger buffer.
            self.items.push(Bytes::copy_from_slice(raw));
        }
        self.last = raw.clone();
        self.events += 1;
    }

    /// Returns the event of a failure; `None` if no response object passed.
    pub(super) fn failed(&self, outcome: &Outcome) -> Option<Value> {
        #[derive(Deserialize)]
        struct Created {
            response: Map<String, Value>,
        }
        let Created { mut response } = serde_json::from_slice(&data(&self.created)).ok()?;
        let mut items: Vec<(u64, Value)> = self.items.iter().filter_map(finished).collect();
        items.sort_by_key(|(place, _)| *place);
        let output: Vec<Value> = items.into_iter().map(|(_, item)| item).collect();
        response.insert("status".to_owned(), outcome.status.name().into());
        response.insert("error".to_owned(), outcome.error.clone().unwrap_or_default());
        response.insert("output".to_owned(), output.into());
        Some(serde_json::json!({
            "type": "response.failed", "sequence_number": self.next_number(), "response": response,
        }))
    }

    /// Returns the place where the stream goes on behind this text; `None` if its events do not tell it.
    pub(super) fn place(&self, so_far: &str) -> Option<Place> {
        #[derive(Deserialize)]
        struct Created {
            response: Response,
        }
        #[derive(Deserialize)]
        struct Response {
            id: String,
            #[serde(default)]
            model: String,
            created_at: serde_json::Number,
        }
        // The end of an item has its id further in, and needs none.
        #[derive(Deserialize)]
        struct Last<'a> {
            #[serde(borrow)]
            r#type: Cow<'a, str>,
            #[serde(default)]
            item_id: String,
            output_index: usize,
            #[serde(default)]
            content_index: usize,
        }
        let Created { response } = serde_json::from_slice(&data(&self.created)).ok()?;
        let last = data(&self.last);
        let last: Last<'_> = serde_json::from_slice(&last).ok()?;
        let mut done: Vec<(u64, Value)> = self.items.iter().filter_map(finished).collect();
        done.sort_by_key(|(place, _)| *place);
        // A gap is an item that was too large to keep, or is open.
        let in_order = done.iter().enumerate().all(|(at, (place, _))| at as u64 == *place);
        let is_closed = done.len() == last.output_index + 1;
        // Text goes on where a part of it is open, the first one of its message.
        let is_open = ["response.output_text.delta", "response.content_part.added"].contains(&&*last.r#type)
            && (done.len(), last.content_index) == (last.output_index, 0);
        if !in_order || !is_closed && !is_open {
            return None;
        }
        let said: String =
            done.iter().filter_map(|(_, item)| item.get("content")?.as_array()).flatten().filter_map(text_of).collect();
        let open = so_far.strip_prefix(&*said).filter(|_| !is_closed);
        if open.is_none() && !is_closed {
            return None;
        }
        let created_at = response.created_at.as_f64().unwrap_or_default() as u64;
        Some(Place {
            head: Head { id: response.id, model: response.model, created_at },
            items: done.into_iter().map(|(_, item)| json_of(&item)).collect(),
            open: open.map(|text| (last.item_id, text.to_owned())),
        })
    }

    pub(super) fn has_begun(&self) -> bool {
        self.events > 0
    }

    pub(super) fn next_number(&self) -> u64 {
        #[derive(Deserialize)]
        struct Numbered {
            sequence_number: u64,
        }
        let last = serde_json::from_slice::<Numbered>(&data(&self.last));
        last.map_or(self.events, |last| last.sequence_number + 1)
    }
}

/// Returns the text of a content part.
fn text_of(part: &Value) -> Option<&str> {
    (part.get("type")? == "output_text").then(|| part.get("text")?.as_str()).flatten()
}

/// Returns true if the event has a finished item. Most servers name it in the first line.
fn is_item_done(raw: &[u8]) -> bool {
    match raw.strip_prefix(b"event:") {
        Some(name) => name.trim_ascii_start().starts_with(ITEM_DONE.as_bytes()),
        None => {
            static NAME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(ITEM_DONE));
            NAME.find(raw).is_some()
        }
    }
}

/// Returns a finished item with its place in the output.
fn finished(raw: &Bytes) -> Option<(u64, Value)> {
    #[derive(Deserialize)]
    struct Done<'a> {
        r#type: Cow<'a, str>,
        output_index: u64,
        #[serde(borrow)]
        item: &'a RawValue,
    }
    let data = data(raw);
    let done: Done<'_> = serde_json::from_slice(&data).ok()?;
    (done.r#type == ITEM_DONE).then_some(())?;
    Some((done.output_index, serde_json::from_str(done.item.get()).ok()?))
}

/// Returns the data of an event.
fn data(raw: &Bytes) -> Bytes {
    let mut decoder = Decoder::new(raw.len());
    decoder.push(raw.clone());
    let event = decoder.finish().ok().flatten();
    event.map(|event| event.data_bytes()).unwrap_or_default()
}
