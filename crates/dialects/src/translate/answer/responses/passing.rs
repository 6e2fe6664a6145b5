//! The parts of a passing stream that a later failure needs.

use std::{borrow::Cow, sync::LazyLock};

use bytes::Bytes;
use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::response::Outcome;
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
