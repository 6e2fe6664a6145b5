//! The grammar of a Responses stream, from OpenAI's specification: a reader of its own, which knows nothing of the
//! encoder.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Value, json};

/// A whole stream as its reader knows it.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// The response object of the last event.
    pub(super) last: Value,
    /// The type of the last event.
    pub(super) end: String,
    /// The broken rules.
    pub(super) broken: BTreeSet<&'static str>,
}

#[derive(Debug, Default)]
struct Item {
    id: String,
    kind: String,
    /// Content or summary parts.
    parts: Vec<Part>,
    input: String,
    input_done: bool,
    done: Option<Value>,
}

#[derive(Debug, Default)]
struct Part {
    kind: String,
    text: String,
    annotations: Vec<Value>,
    text_done: bool,
    done: bool,
}

#[derive(Debug, Default)]
struct Reader {
    reading: Reading,
    id: Option<String>,
    items: Vec<Item>,
    ids: HashSet<String>,
    call_ids: HashSet<String>,
    ended: bool,
}

/// Reads a stream, and judges it.
pub(super) fn read(stream: &str) -> Reading {
    let mut reader = Reader::default();
    let stream = stream.replace("\r\n", "\n");
    let mut number = 0;
    for block in stream.split("\n\n") {
        let line = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
        let Some(data) = line("data:") else {
            reader.rule(block.lines().all(|line| line.starts_with(':')), "a block is an event or a comment");
            continue;
        };
        if data == "[DONE]" {
            reader.rule(false, "there is no [DONE]");
            continue;
        }
        let event: Value = serde_json::from_str(data).expect("JSON");
        let kind = event["type"].as_str().unwrap_or_default().to_owned();
        reader.rule(line("event:") == Some(&kind), "an event is named by its type");
        reader.rule(event["sequence_number"] == json!(number), "events are numbered from 0 without gaps");
        reader.rule(!reader.ended, "nothing follows the end");
        reader.rule((number == 0) == (kind == "response.created"), "a stream begins with response.created");
        number += 1;
        reader.event(&kind, &event);
    }
    reader.rule(reader.ended, "a stream has an end");
    reader.reading
}

impl Reader {
    fn rule(&mut self, holds: bool, rule: &'static str) {
        if !holds {
            self.reading.broken.insert(rule);
        }
    }

    fn event(&mut self, kind: &str, event: &Value) {
        match kind {
            "response.created" | "response.queued" | "response.in_progress" => {
                self.lifecycle(event);
                let status = event["response"]["status"].as_str();
                self.rule(matches!(status, Some("in_progress" | "queued")), "a begun response is in progress");
                self.rule(self.items.is_empty(), "the begin comes before the items");
                self.rule(event["response"]["output"] == json!([]), "a begun response has no output");
            }
            "response.completed" | "response.incomplete" | "response.failed" => self.end(kind, event),
            "error" => {}
            "response.output_item.added" => self.added(event),
            "response.output_item.done" => self.item_done(event),
            _ => self.within(kind, event),
        }
    }

    fn lifecycle(&mut self, event: &Value) {
        let response = &event["response"];
        let id = response["id"].as_str().unwrap_or_default().to_owned();
        let kept = *self.id.get_or_insert_with(|| id.clone()) == id && !id.is_empty();
        self.rule(kept, "a response keeps its id");
        self.rule(response["object"] == "response", "a response is an object of that name");
    }

    fn end(&mut self, kind: &str, event: &Value) {
        self.lifecycle(event);
        self.ended = true;
        let response = &event["response"];
        (self.reading.last, self.reading.end) = (response.clone(), kind.to_owned());
        let status = response["status"].as_str().unwrap_or_default();
        self.rule(kind.strip_prefix("response.") == Some(status), "the end has the name of its status");
        self.rule(response["error"].is_object() == (status == "failed"), "a failed response has an error");
        let reason = response["incomplete_details"]["reason"].is_string();
        self.rule(reason == (status == "incomplete"), "an incomplete response has a reason");
        let output = response["output"].as_array().cloned().unwrap_or_default();
        if status == "failed" {
            // Items that were open may be missing.
            let ids: Vec<&Value> = output.iter().map(|item| &item["id"]).collect();
            let known = self.items.iter().all(|item| match &item.done {
                Some(done) => output.contains(done),
                None => output.iter().filter(|out| out["id"] == item.id.as_str()).all(|out| item.is_so_far(out)),
            });
            let order = self.items.iter().filter(|item| ids.contains(&&json!(item.id)));
            let in_order = order.map(|item| json!(item.id)).eq(ids.iter().map(|id| (*id).clone()));
            self.rule(known && in_order, "a failed response has the items so far");
            return;
        }
        self.rule(response["usage"].is_object(), "an ended response has a usage");
        self.rule(self.items.iter().all(|item| item.done.is_some()), "every item is done before the end");
        let done: Vec<Value> = self.items.iter().filter_map(|item| item.done.clone()).collect();
        // OpenAI seals a thought again for the last response.
        let equal = done.into_iter().map(unsealed).eq(output.into_iter().map(unsealed));
        self.rule(equal, "the last response has the items that were done");
    }

    fn added(&mut self, event: &Value) {
        let item = &event["item"];
        self.rule(event["output_index"] == json!(self.items.len()), "items are counted from 0 without gaps");
        let id = item["id"].as_str().unwrap_or_default().to_owned();
        let new = !id.is_empty() && self.ids.insert(id.clone());
        self.rule(new, "an item has an id of its own");
        if let Some(call) = item["call_id"].as_str().filter(|_| item["type"] != "shell_call_output") {
            let new = self.call_ids.insert(call.to_owned());
            self.rule(new, "a call has an id of its own");
        }
        let kind = item["type"].as_str().unwrap_or_default().to_owned();
        let empty = |name: &str| item.get(name).is_none_or(|value| *value == json!([]) || *value == "");
        let own = !matches!(kind.as_str(), "message" | "reasoning" | "function_call" | "custom_tool_call");
        let begins = ["content", "summary", "arguments", "input"].into_iter().all(empty);
        self.rule(own || begins, "an item begins empty");
        let status = item.get("status").is_none_or(|status| *status == "in_progress");
        self.rule(own || status, "an item begins in progress");
        self.items.push(Item { id, kind, ..Item::default() });
    }

    fn item_done(&mut self, event: &Value) {
        let Some(item) = self.item(event, false) else { return };
        let (kind, parts, done) = (item.kind.clone(), item.parts.iter().all(|part| part.done), &event["item"]);
        let same = done["id"] == item.id.as_str() && done["type"] == kind.as_str();
        let is_so_far = item.is_so_far(done);
        let input = item.input_done || !matches!(kind.as_str(), "function_call" | "custom_tool_call");
        let status = done.get("status").is_none_or(|status| *status != "in_progress");
        item.done = Some(done.clone());
        self.rule(same, "an item keeps its id and type");
        self.rule(parts, "an item's parts are done before it");
        self.rule(input, "a call's input is done before it");
        self.rule(is_so_far, "a finished item has the joined deltas");
        self.rule(status, "a finished item is not in progress");
    }

    /// Returns the open item of an event. Each event but those of the item itself names its id.
    fn item(&mut self, event: &Value, named: bool) -> Option<&mut Item> {
        let place = event["output_index"].as_u64().and_then(|place| usize::try_from(place).ok());
        let open = place.and_then(|place| self.items.get(place)).filter(|item| item.done.is_none());
        let right = open.is_some_and(|item| !named || event["item_id"] == item.id.as_str());
        self.rule(right, "an event belongs to an open item, by place and id");
        self.items.get_mut(place?).filter(|_| right)
    }

    /// Reads an event within an item.
    fn within(&mut self, kind: &str, event: &Value) {
        if event.get("output_index").is_none() {
            return;
        }
        let Some(item) = self.item(event, true) else { return };
        let place = ["content_index", "summary_index"].into_iter().find_map(|name| event.get(name)?.as_u64());
        let place = place.and_then(|place| usize::try_from(place).ok());
        let part = place.and_then(|place| item.parts.get_mut(place));
        let open = part.filter(|part| !part.done);
        let kind = kind.strip_prefix("response.").unwrap_or_default();
        let mut holds = true;
        let rule = match kind {
            "content_part.added" | "reasoning_summary_part.added" | "reasoning_part.added" => {
                let part = &event["part"];
                let empty = |name: &str| part.get(name).is_none_or(|value| *value == "" || *value == json!([]));
                holds = place == Some(item.parts.len())
                    && item.parts.iter().all(|part| part.done)
                    && ["text", "refusal", "annotations"].into_iter().all(empty);
                let kind = part["type"].as_str().unwrap_or_default().to_owned();
                item.parts.push(Part { kind, ..Part::default() });
                "parts begin empty, one after the other"
            }
            "content_part.done" | "reasoning_summary_part.done" | "reasoning_part.done" => {
                holds = open.is_some_and(|part| {
                    part.done = true;
                    part.text_done && part.is(&event["part"])
                });
                "a part's end has its text"
            }
            "output_text.annotation.added" => {
                holds = open.is_some_and(|part| {
                    part.annotations.push(event["annotation"].clone());
                    part.kind == "output_text" && event["annotation_index"] == json!(part.annotations.len() - 1)
                });
                "annotations are counted from 0 without gaps"
            }
            "output_text.delta" | "refusal.delta" | "reasoning_summary_text.delta" | "reasoning_text.delta" => {
                holds = open.is_some_and(|part| {
                    part.text.push_str(event["delta"].as_str().unwrap_or_default());
                    !part.text_done && part.takes(kind)
                });
                "a delta extends an open part of its kind"
            }
            "output_text.done" | "refusal.done" | "reasoning_summary_text.done" | "reasoning_text.done" => {
                let text = event.get("text").or_else(|| event.get("refusal")).cloned().unwrap_or_default();
                holds = open.is_some_and(|part| {
                    let first = !std::mem::replace(&mut part.text_done, true);
                    first && part.takes(kind) && text == part.text.as_str()
                });
                "a text's end equals its joined deltas"
            }
            "function_call_arguments.delta" | "custom_tool_call_input.delta" => {
                item.input.push_str(event["delta"].as_str().unwrap_or_default());
                holds = !item.input_done && kind.starts_with(&item.kind);
                "a delta extends an open call of its kind"
            }
            "function_call_arguments.done" | "custom_tool_call_input.done" => {
                let input = event.get("arguments").or_else(|| event.get("input")).cloned().unwrap_or_default();
                holds = !item.input_done && kind.starts_with(&item.kind) && input == item.input.as_str();
                item.input_done = true;
                "a call's input equals its joined deltas"
            }
            // The steps of tools that the provider runs.
            _ => "",
        };
        self.rule(holds, rule);
    }
}

fn unsealed(mut item: Value) -> Value {
    if let Some(sealed) = item.get_mut("encrypted_content") {
        *sealed = Value::Null;
    }
    item
}

impl Item {
    /// Returns true if this is the item that the events so far mean.
    fn is_so_far(&self, item: &Value) -> bool {
        let parts = |name: &str| {
            let list = item[name].as_array().cloned().unwrap_or_default();
            list.len() == self.parts.len() && list.iter().zip(&self.parts).all(|(value, part)| part.is(value))
        };
        match self.kind.as_str() {
            "message" => parts("content"),
            "reasoning" => {
                let summary = self.parts.iter().all(|part| part.kind == "summary_text");
                parts(if summary { "summary" } else { "content" })
            }
            "function_call" => item["arguments"] == self.input.as_str(),
            "custom_tool_call" => item["input"] == self.input.as_str(),
            _ => true,
        }
    }
}

impl Part {
    fn takes(&self, event: &str) -> bool {
        match self.kind.as_str() {
            "summary_text" => event.starts_with("reasoning_summary_text."),
            kind => event.starts_with(kind) && event[kind.len()..].starts_with('.'),
        }
    }

    fn is(&self, value: &Value) -> bool {
        let text = value.get("text").or_else(|| value.get("refusal")).cloned().unwrap_or_default();
        let annotations = value.get("annotations").and_then(Value::as_array).cloned().unwrap_or_default();
        value["type"] == self.kind.as_str() && text == self.text.as_str() && annotations == self.annotations
    }
}
