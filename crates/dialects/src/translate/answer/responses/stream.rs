//! The stream of a response.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    super::{json_of, left_out, new_id},
    echo::RequestEcho,
    item::{self, Call, Content, Ids, Input, Message, Status, Thought},
    passing::Passing,
    response::{self, Head, Outcome},
};
use crate::{
    Dialect, Frame, LlmError, StreamEvent,
    body::Continued,
    chat::{Extra, ExtraOf, FinishReason, Opaque, Part, Usage},
    translate::{request::Report, rules::Feature},
};

/// The stream of a response.
///
/// Messages and thoughts follow one another: each is closed before the next item begins. A call stays open until its
/// arguments are whole, so that calls that a provider sends side by side grow side by side here.
#[derive(Debug, Default)]
pub(in super::super) struct Stream {
    pub(super) echo: RequestEcho,
    head: Option<Head>,
    sequence: u64,
    /// The items that are done, as JSON; empty while an item is open.
    items: Vec<String>,
    open: Option<Open>,
    /// The open calls by their place in the output.
    calls: BTreeMap<usize, Call>,
    /// The open calls whose arguments became whole since the last item began.
    whole: Vec<usize>,
    /// The place of each part's newest call.
    newest: HashMap<u32, usize>,
    ids: Ids,
    declined: bool,
    passing: Passing,
}

/// The message or thought that is open.
#[derive(Debug)]
struct Open {
    /// Its place in the output.
    place: usize,
    item: OpenItem,
}

#[derive(Debug)]
enum OpenItem {
    /// A message, and the part of the answer that its last content part is.
    Message(Message, u32),
    Thought(Thought, u32),
}

impl Stream {
    /// Sets the parts of the request that the response repeats.
    pub(in super::super) fn set_echo(&mut self, echo: RequestEcho) {
        self.echo = echo;
    }

    pub(in super::super) fn has_begun(&self) -> bool {
        self.head.is_some()
    }

    /// Notes an event that passes unchanged.
    #[inline]
    pub(in super::super) fn pass(&mut self, frame: &Frame, raw: &Bytes) {
        self.passing.note(frame, raw);
    }

    /// Goes on after the provider's own events. Returns false if they do not tell how.
    pub(in super::super) fn resume(&mut self, at: &Continued) -> bool {
        let Some(place) = self.passing.place(&at.so_far) else { return false };
        self.sequence = self.passing.next_number();
        (self.head, self.items) = (Some(place.head), place.items);
        if let Some((id, text)) = place.open {
            let message = Message::begun(id, text);
            self.open = Some(Open { place: self.items.len(), item: OpenItem::Message(message, at.index) });
            self.items.push(String::new());
        }
        true
    }

    pub(in super::super) fn begin(&mut self, id: &str, model: &str, to: &mut String) {
        if self.head.is_some() {
            return;
        }
        self.head = Some(Head::new(id, model));
        let outcome = Outcome::in_progress();
        self.lifecycle("response.created", &outcome, None, to);
        self.lifecycle("response.in_progress", &outcome, None, to);
    }

    pub(in super::super) fn event(&mut self, event: &StreamEvent, report: &mut Report, to: &mut String) {
        match event {
            StreamEvent::Text { text, .. }
            | StreamEvent::Refusal { text, .. }
            | StreamEvent::Reasoning { text, .. }
                if text.is_empty() => {}
            StreamEvent::Text { index, text } => self.text(*index, text, false, report, to),
            StreamEvent::Refusal { index, text } => self.text(*index, text, true, report, to),
            StreamEvent::Reasoning { index, text } => {
                let place = self.thought(*index, None, report, to);
                self.think(place, text, to);
            }
            StreamEvent::Signature { index, opaque } => {
                let _place = self.thought(*index, Some(opaque), report, to);
                if let Some(Open { item: OpenItem::Thought(thought, _), .. }) = &mut self.open {
                    thought.sign(Some(opaque));
                }
            }
            StreamEvent::ToolCall { index, id, name, opaque } => {
                let of_call = opaque.as_ref().map(|opaque| Thought::of_call(opaque, &mut self.ids));
                for thought in of_call.into_iter().chain(Thought::of_id(id, &mut self.ids)) {
                    self.make_room(report, to);
                    let place = self.add(&thought.value(false), to);
                    self.done(place, &thought.value(true), to);
                }
                self.call(*index, id, name, report, to);
            }
            StreamEvent::Arguments { index, json } => self.arguments(*index, json, report, to),
            StreamEvent::Part { part: Part::Other { dialect: Dialect::Responses, value }, .. } => {
                let Some(item) = item::own(value, &mut self.ids) else { return };
                self.make_room(report, to);
                let place = self.add(&item, to);
                self.done(place, &item, to);
            }
            StreamEvent::Part { part: Part::Extra { of: ExtraOf::Part, extra }, .. } => self.annotate(extra, to),
            StreamEvent::Part { part, .. } => left_out(part, report),
            _ => {}
        }
    }

    pub(in super::super) fn end(
        &mut self,
        finish: Option<&FinishReason>,
        used: Option<Usage>,
        report: &mut Report,
        to: &mut String,
    ) {
        let outcome = Outcome::of(finish, self.declined);
        self.close(outcome.last_item(), to);
        while let Some((&place, call)) = self.calls.iter().next() {
            let status = if call.is_whole() && !self.is_last(place) { Status::Completed } else { outcome.last_item() };
            self.end_call(place, status, report, to);
        }
        let name = match outcome.status {
            Status::Completed | Status::InProgress => "response.completed",
            Status::Incomplete => "response.incomplete",
            Status::Failed => "response.failed",
        };
        // Clients' types require the usage of an ended response.
        self.lifecycle(name, &outcome, Some(used.unwrap_or_default()), to);
    }

    /// Writes the event that reports a failure and ends the stream. Items that are open stay so: the response has them
    /// as far as they are known.
    pub(in super::super) fn fail(&mut self, error: &LlmError, id: &str, model: &str, to: &mut String) {
        let outcome = Outcome::failed(error);
        // A stream that goes on behind the provider's own events has them in its items.
        if self.head.is_none() {
            if let Some(event) = self.passing.failed(&outcome) {
                return put(to, "response.failed", &event);
            }
            if self.passing.has_begun() {
                // The events that passed have no response object: only their numbers are known.
                self.sequence = self.passing.next_number();
                self.head = Some(Head::new(id, model));
            }
        }
        self.begin(id, model, to);
        if let Some(Open { place, item }) = self.open.take() {
            let item = match item {
                OpenItem::Message(message, _) => message.value(Status::Incomplete),
                OpenItem::Thought(thought, _) => thought.value(true),
            };
            self.items[place] = json_of(&item);
        }
        for (place, call) in std::mem::take(&mut self.calls) {
            self.items[place] = json_of(&call.value(Status::Incomplete));
        }
        self.lifecycle("response.failed", &outcome, None, to);
    }

    /// Adds to a message's text or refusal.
    fn text(&mut self, index: u32, text: &str, declined: bool, report: &mut Report, to: &mut String) {
        let place = self.message(index, declined, report, to);
        let Some(Open { item: OpenItem::Message(message, _), .. }) = &mut self.open else { return };
        let at = message.content.len() - 1;
        message.content[at].text.push_str(text);
        let (name, logprobs) = match declined {
            true => ("response.refusal.delta", None),
            false => ("response.output_text.delta", Some([])),
        };
        let fields = TextDelta { item_id: &message.id, output_index: place, content_index: at, delta: text, logprobs };
        put_numbered(&mut self.sequence, name, fields, to);
    }

    /// Makes the content part of this index the open one, and returns the place of its message.
    fn message(&mut self, index: u32, declined: bool, report: &mut Report, to: &mut String) -> usize {
        self.declined |= declined;
        let place = match &self.open {
            Some(Open { place, item: OpenItem::Message(message, open) }) => {
                let place = *place;
                if *open == index && message.content.last().is_some_and(|content| content.declined == declined) {
                    return place;
                }
                self.close_content(to);
                place
            }
            _ => {
                self.make_room(report, to);
                let message = Message::new();
                let place = self.add(&message.value(Status::InProgress), to);
                self.open = Some(Open { place, item: OpenItem::Message(message, index) });
                place
            }
        };
        let Some(Open { item: OpenItem::Message(message, open), .. }) = &mut self.open else { return place };
        *open = index;
        let content = Content::new(declined, "");
        let event = json!({
            "item_id": message.id, "output_index": place, "content_index": message.content.len(),
            "part": content.value(),
        });
        message.content.push(content);
        self.put("response.content_part.added", event, to);
        place
    }

    /// Ends the last content part of the open message.
    fn close_content(&mut self, to: &mut String) {
        let Some(Open { place, item: OpenItem::Message(message, _) }) = &self.open else { return };
        let Some(content) = message.content.last() else { return };
        let event = |more: Value| {
            let mut event =
                json!({"item_id": message.id, "output_index": place, "content_index": message.content.len() - 1});
            if let (Value::Object(event), Value::Object(more)) = (&mut event, more) {
                event.extend(more);
            }
            event
        };
        let part = event(json!({"part": content.value()}));
        let (name, done) = if content.declined {
            ("response.refusal.done", event(json!({"refusal": content.text})))
        } else {
            ("response.output_text.done", event(json!({"text": content.text, "logprobs": []})))
        };
        self.put(name, done, to);
        self.put("response.content_part.done", part, to);
    }

    /// Adds the annotations of the text before them.
    fn annotate(&mut self, extra: &Extra, to: &mut String) {
        let Some(Open { place, item: OpenItem::Message(message, _) }) = &mut self.open else { return };
        if extra.dialect == Dialect::Responses {
            message.restore(extra);
        }
        let at = message.content.len() - 1;
        let before = message.content[at].annotations();
        let events: Vec<Value> = (before..)
            .zip(message.content[at].annotate(extra))
            .map(|(number, annotation)| {
                json!({
                    "item_id": message.id, "output_index": place, "content_index": at, "annotation_index": number,
                    "annotation": annotation,
                })
            })
            .collect();
        for event in events {
            self.put("response.output_text.annotation.added", event, to);
        }
    }

    /// Makes the thought of this index the open item, and returns its place.
    fn thought(&mut self, index: u32, opaque: Option<&Opaque>, report: &mut Report, to: &mut String) -> usize {
        if let Some(Open { place, item: OpenItem::Thought(_, open) }) = &self.open
            && *open == index
        {
            return *place;
        }
        self.make_room(report, to);
        let thought = Thought::new(opaque, &mut self.ids);
        let place = self.add(&thought.value(false), to);
        self.open = Some(Open { place, item: OpenItem::Thought(thought, index) });
        place
    }

    /// Adds to the open thought's text.
    fn think(&mut self, place: usize, text: &str, to: &mut String) {
        let Some(Open { item: OpenItem::Thought(thought, _), .. }) = &mut self.open else { return };
        let first = thought.text.is_empty().then(|| thought.part());
        thought.text.push_str(text);
        let id = thought.id.clone();
        let event = |name: &str, value: Value| {
            let mut event = json!({"item_id": id, "output_index": place, "summary_index": 0});
            event[name] = value;
            event
        };
        if let Some(part) = first {
            self.put("response.reasoning_summary_part.added", event("part", part), to);
        }
        self.put("response.reasoning_summary_text.delta", event("delta", text.into()), to);
    }

    /// Begins a call.
    fn call(&mut self, index: u32, id: &str, name: &str, report: &mut Report, to: &mut String) {
        self.make_room(report, to);
        // No more arguments can come for an older call of the same index.
        if let Some(older) = self.newest.get(&index).copied().filter(|place| self.calls.contains_key(place)) {
            self.end_call(older, Status::Completed, report, to);
        }
        let call = Call::new(id, name, false, &self.echo, &mut self.ids);
        let place = self.add(&call.value(Status::InProgress), to);
        self.newest.insert(index, place);
        self.calls.insert(place, call);
    }

    /// Adds to a call's arguments. Those that follow the end of their item are dropped.
    fn arguments(&mut self, index: u32, json: &str, report: &mut Report, to: &mut String) {
        if !self.newest.contains_key(&index) {
            self.call(index, &new_id(), "", report, to);
        }
        let Some(place) = self.newest.get(&index).copied() else { return };
        let Some(call) = self.calls.get_mut(&place) else {
            if !json.trim().is_empty() {
                report.record(Feature::Arguments);
            }
            return;
        };
        let (before, mut event) = (call.is_whole(), json!({"item_id": call.id, "output_index": place}));
        let name = delta_of(call);
        let delta = call.read(json);
        let is_new = !delta.is_empty();
        event["delta"] = delta.into();
        if call.is_whole() && !before {
            self.whole.push(place);
        }
        if is_new {
            self.put(name, event, to);
        }
    }

    fn end_call(&mut self, place: usize, status: Status, report: &mut Report, to: &mut String) {
        let Some(mut call) = self.calls.remove(&place) else { return };
        let rest = call.finish(status == Status::Completed, report).to_owned();
        if !rest.is_empty() {
            let event = json!({"item_id": call.id, "output_index": place, "delta": rest});
            self.put(delta_of(&call), event, to);
        }
        let item = call.value(status);
        let (name, field) = match call.input {
            Input::Arguments(_) => ("response.function_call_arguments.done", "arguments"),
            Input::Free(_) => ("response.custom_tool_call_input.done", "input"),
        };
        let mut event = json!({"item_id": call.id, "output_index": place});
        event[field] = item[field].clone();
        self.put(name, event, to);
        self.done(place, &item, to);
    }

    /// Closes the items that the next one ends: a message, a thought, calls whose arguments are whole.
    fn make_room(&mut self, report: &mut Report, to: &mut String) {
        self.close(Status::Completed, to);
        for place in std::mem::take(&mut self.whole) {
            // More arguments may have followed.
            if self.calls.get(&place).is_some_and(Call::is_whole) {
                self.end_call(place, Status::Completed, report, to);
            }
        }
    }

    /// Closes the open message or thought.
    fn close(&mut self, status: Status, to: &mut String) {
        self.close_content(to);
        let Some(Open { place, item }) = self.open.take() else { return };
        let item = match item {
            OpenItem::Message(message, _) => message.value(status),
            OpenItem::Thought(thought, _) => {
                if !thought.text.is_empty() {
                    let at = json!({"item_id": thought.id, "output_index": place, "summary_index": 0});
                    let (mut text, mut part) = (at.clone(), at);
                    text["text"] = thought.text.as_str().into();
                    self.put("response.reasoning_summary_text.done", text, to);
                    part["part"] = thought.part();
                    self.put("response.reasoning_summary_part.done", part, to);
                }
                thought.value(true)
            }
        };
        self.done(place, &item, to);
    }

    fn is_last(&self, place: usize) -> bool {
        place + 1 == self.items.len()
    }

    /// Adds an item, and returns its place.
    fn add(&mut self, item: &Value, to: &mut String) -> usize {
        let place = self.items.len();
        self.items.push(String::new());
        self.put("response.output_item.added", json!({"output_index": place, "item": item}), to);
        place
    }

    fn done(&mut self, place: usize, item: &Value, to: &mut String) {
        self.items[place] = json_of(item);
        self.put("response.output_item.done", json!({"output_index": place, "item": item}), to);
    }

    /// Writes an event with the response object.
    fn lifecycle(&mut self, name: &str, outcome: &Outcome, used: Option<Usage>, to: &mut String) {
        let Some(head) = &self.head else { return };
        let number = self.sequence;
        self.sequence += 1;
        // Writing to a string cannot fail.
        let _ = write!(to, "event: {name}\ndata: {{\"type\":\"{name}\",\"sequence_number\":{number},\"response\":");
        response::write(head, outcome, self.items.iter().map(String::as_str), used, &self.echo, to);
        to.push_str("}\n\n");
    }

    fn put(&mut self, name: &'static str, fields: impl Serialize, to: &mut String) {
        put_numbered(&mut self.sequence, name, fields, to);
    }
}

fn delta_of(call: &Call) -> &'static str {
    match call.input {
        Input::Arguments(_) => "response.function_call_arguments.delta",
        Input::Free(_) => "response.custom_tool_call_input.delta",
    }
}

#[derive(Serialize)]
struct Event<F> {
    r#type: &'static str,
    sequence_number: u64,
    #[serde(flatten)]
    fields: F,
}

/// The fields of the most frequent event.
#[derive(Serialize)]
struct TextDelta<'a> {
    item_id: &'a str,
    output_index: usize,
    content_index: usize,
    delta: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<[Value; 0]>,
}

/// Writes the event that has the next number.
fn put_numbered(next: &mut u64, name: &'static str, fields: impl Serialize, to: &mut String) {
    put(to, name, &Event { r#type: name, sequence_number: *next, fields });
    *next += 1;
}

/// Writes one event.
fn put(to: &mut String, name: &str, event: &impl Serialize) {
    to.extend(["event: ", name, "\ndata: ", &json_of(event), "\n\n"]);
}
