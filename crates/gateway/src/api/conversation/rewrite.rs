//! The gateway's ids in the place of a provider's, in a response object or in the events that carry one.

use std::{ops::Range, str};

use bytes::Bytes;
use memchr::memmem;

use super::{
    items,
    json::{Fields, quote},
};

/// The ids that a caller sees.
pub(super) struct CallerIds<'a> {
    /// The id of the response; `None` leaves the provider's.
    pub(super) id: Option<&'a str>,
    /// The id of the response that it continues; `None` leaves the provider's.
    pub(super) previous: Option<&'a str>,
    /// True for a response in the background.
    pub(super) is_in_background: bool,
}

/// The events with a response object.
const WITH_RESPONSE: [&str; 6] = [
    "response.created",
    "response.queued",
    "response.in_progress",
    "response.completed",
    "response.incomplete",
    "response.failed",
];

/// A part of a stream that a record needs.
pub(super) enum Part {
    /// A response object as the caller sees it, and the id that its provider gave it.
    Response { is_end: bool, id: Option<String>, object: String },
    /// A finished item and its place.
    Item { place: u64, item: String },
}

impl CallerIds<'_> {
    /// Returns the changes of a response object, in order; `None` if the text is no object.
    fn changes(&self, object: &str) -> Option<Vec<(Range<usize>, String)>> {
        let fields = Fields::read(object)?;
        let ids = [("id", self.id), ("previous_response_id", self.previous)];
        let change = |(name, id): (&str, Option<&str>)| Some((fields.place(name, object)?, quote(id?)));
        let mut changes: Vec<_> = ids.into_iter().filter_map(change).collect();
        if self.is_in_background {
            changes.extend(fields.place("background", object).map(|place| (place, "true".to_owned())));
        }
        changes.sort_by_key(|(place, _)| place.start);
        Some(changes)
    }

    /// Returns a response object with these ids; `None` if the text is no object.
    pub(super) fn object(&self, object: &str) -> Option<String> {
        Some(splice(object, &self.changes(object)?))
    }

    /// Returns an event's data with these ids; `None` if it has no response.
    pub(super) fn event(&self, data: &str) -> Option<String> {
        // Nearly all events have none, and are not parsed.
        memmem::find(data.as_bytes(), b"\"response\"")?;
        let place = Fields::read(data)?.place("response", data)?;
        let object = self.object(&data[place.clone()])?;
        Some(splice(data, &[(place, object)]))
    }

    /// Returns events with these ids, and passes on the parts that a record needs.
    pub(super) fn events(&self, events: &Bytes, mut note: impl FnMut(Part)) -> Bytes {
        // Nearly all events have none of these, and are not parsed.
        let concerns = |name: &[u8]| memmem::find(events, name).is_some();
        if !concerns(b"\"response\"") && !concerns(items::DONE.as_bytes()) {
            return events.clone();
        }
        let Ok(text) = str::from_utf8(events) else { return events.clone() };
        let mut changes = Vec::new();
        for line in data_lines(text) {
            let data = &text[line.clone()];
            let Some(fields) = Fields::read(data) else { continue };
            let kind = fields.text("type").unwrap_or_default();
            if kind == items::DONE {
                if let Some((place, item)) = items::finished(&fields) {
                    note(Part::Item { place, item: item.to_owned() });
                }
            } else if WITH_RESPONSE.contains(&&*kind)
                && let Some(place) = fields.place("response", data)
            {
                let object = &data[place.clone()];
                let Some(own) = self.changes(object) else { continue };
                note(Part::Response {
                    is_end: matches!(&*kind, "response.completed" | "response.incomplete"),
                    id: Fields::read(object).and_then(|fields| fields.text("id")),
                    object: splice(object, &own),
                });
                let start = line.start + place.start;
                changes.extend(own.into_iter().map(|(own, id)| (own.start + start..own.end + start, id)));
            }
        }
        if changes.is_empty() { events.clone() } else { splice(text, &changes).into() }
    }
}

/// Returns the places of the data of events, each of which is one line in the APIs of all providers.
fn data_lines(events: &str) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    events.split_inclusive(['\n', '\r']).filter_map(move |line| {
        let begin = start;
        start += line.len();
        let data = line.strip_prefix("data:")?;
        let data_start = begin + line.len() - data.trim_start_matches(' ').len();
        Some(data_start..data_start + data.trim_start_matches(' ').trim_end_matches(['\n', '\r']).len())
    })
}

/// Replaces places of a text, which are in order.
fn splice(text: &str, changes: &[(Range<usize>, String)]) -> String {
    let mut changed = String::with_capacity(text.len() + 128);
    let mut at = 0;
    for (place, value) in changes {
        changed.push_str(&text[at..place.start]);
        changed.push_str(value);
        at = place.end;
    }
    changed.push_str(&text[at..]);
    changed
}
