use serde_json::Value;
use steadfast::{Dialect, ErrorKind};

use super::{Call, Failure, Said, Walk, text};
use crate::recorded::mapping::finish;

/// Adds up what the first choice says.
#[derive(Default)]
pub(super) struct Walker {
    said: Said,
    /// Index, id, name, arguments.
    calls: Vec<(Option<u64>, Option<String>, String, String)>,
    stop: Option<String>,
    details: Vec<Value>,
    /// True for a stream: some servers write `message` beside `delta`, and both everywhere.
    streamed: bool,
    counted: bool,
}

/// The tokens of an entry of `reasoning_details` that its provider wants to see again.
pub(super) fn marks(detail: &Value) -> Vec<String> {
    ["signature", "data"].iter().filter_map(|name| text(&detail[*name])).filter(|token| !token.is_empty()).collect()
}

impl Walker {
    pub(super) fn new(streamed: bool) -> Self {
        Self { streamed, ..Self::default() }
    }

    fn content(&mut self, content: &Value) {
        match content {
            Value::String(more) => self.said.text.push_str(more),
            Value::Array(parts) => parts.iter().for_each(|part| match part["type"].as_str() {
                Some("text") => self.said.text.push_str(part["text"].as_str().unwrap_or_default()),
                Some("thinking") => {
                    let texts = part["thinking"].as_array().into_iter().flatten();
                    texts.for_each(|piece| self.said.thought.push_str(piece["text"].as_str().unwrap_or_default()));
                    self.said.thought.push_str(part["thinking"].as_str().unwrap_or_default());
                }
                Some("refusal") => self.said.refusal.push_str(part["refusal"].as_str().unwrap_or_default()),
                _ => self.said.other.push(part.clone()),
            }),
            Value::Null => {}
            // The model wrote JSON, and the server has read it.
            other => self.said.text.push_str(&other.to_string()),
        }
    }

    fn call(&mut self, index: Option<u64>, id: Option<String>, function: &Value) {
        let name = function["name"].as_str().unwrap_or_default();
        // A custom tool's input is a text of its own form.
        let given = if function["input"].is_null() { &function["arguments"] } else { &function["input"] };
        let arguments = match given {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            object => object.to_string(),
        };
        let id = id.filter(|id| !id.is_empty());
        let is_nothing = name.is_empty() && id.is_none() && matches!(arguments.trim(), "" | "{}");
        if is_nothing && !self.calls.iter().any(|call| call.0.is_some() && call.0 == index) {
            return;
        }
        let known = self.calls.iter_mut().rev().find(|call| call.0.is_some() && call.0 == index);
        match known {
            Some(call) if name.is_empty() || id.is_none() || id == call.1 => {
                // The name may come after the id.
                if call.2.is_empty() {
                    call.2 = name.to_owned();
                }
                call.3.push_str(&arguments);
            }
            _ => self.calls.push((index, id, name.to_owned(), arguments)),
        }
    }
}

impl Walk for Walker {
    fn take(&mut self, _: &str, json: &Value) -> Result<(), Failure> {
        let error = &json["error"];
        if error.is_object() || error.as_str().is_some_and(|text| !text.is_empty()) || json["object"] == "error" {
            return Err(Failure::Reported);
        }
        // Not by `object`: some servers call a chunk an answer.
        let streamed = self.streamed;
        if !streamed && !json["choices"].is_array() {
            return Err(Failure::Kind(ErrorKind::Malformed));
        }
        // The first that are named: Azure's filter speaks before its model.
        for (name, place) in [("id", &mut self.said.id), ("model", &mut self.said.model)] {
            if place.is_none() {
                *place = text(&json[name]).filter(|text| !text.is_empty());
            }
        }
        // At the top, at Groq's place for it, or at Moonshot's.
        let usage = [&json["usage"], &json["x_groq"]["usage"], &json["choices"][0]["usage"]]
            .into_iter()
            .find(|usage| usage.is_object());
        if let Some(usage) = usage {
            self.counted = true;
            self.said.count(Dialect::OpenAi, usage);
        }
        for name in ["citations", "search_results"] {
            // Servers repeat the whole list in every chunk.
            let list = json[name].as_array().into_iter().flatten();
            for source in list {
                if !self.said.sources.contains(source) {
                    self.said.sources.push(source.clone());
                }
            }
        }
        let Some(choice) = json["choices"]
            .as_array()
            .and_then(|choices| choices.iter().find(|choice| choice["index"].as_u64().unwrap_or(0) == 0 || !streamed))
        else {
            return Ok(());
        };
        if choice["error"].is_object() {
            return Err(Failure::Reported);
        }
        match choice["finish_reason"].as_str() {
            Some("error") => return Err(Failure::Kind(ErrorKind::Server)),
            Some("insufficient_system_resource") => return Err(Failure::Kind(ErrorKind::Overloaded)),
            Some("") | None => {}
            Some(reason) => self.stop = Some(reason.to_owned()),
        }
        let turn = if choice["message"].is_object() && !streamed { &choice["message"] } else { &choice["delta"] };
        let thoughts = [&turn["reasoning_content"], &turn["reasoning"]];
        let thought = thoughts.into_iter().find(|thought| thought.as_str().is_some_and(|text| !text.is_empty()));
        self.said.thought.push_str(thought.and_then(Value::as_str).unwrap_or_default());
        self.content(&turn["content"]);
        self.said.refusal.push_str(turn["refusal"].as_str().unwrap_or_default());
        for (place, call) in turn["tool_calls"].as_array().into_iter().flatten().enumerate() {
            let index = call["index"].as_u64().or_else(|| streamed.then_some(place as u64));
            let index = if streamed { index } else { None };
            let called = if call["custom"].is_object() { &call["custom"] } else { &call["function"] };
            self.call(index, text(&call["id"]), called);
        }
        if turn["function_call"].is_object() {
            self.call(streamed.then_some(0), None, &turn["function_call"]);
        }
        let sounds = ["id", "data", "transcript"]
            .iter()
            .any(|name| turn["audio"][*name].as_str().is_some_and(|s| !s.is_empty()));
        if sounds && !streamed {
            self.said.other.push(serde_json::json!({ "audio": turn["audio"] }));
        }
        for annotation in turn["annotations"].as_array().into_iter().flatten() {
            self.said.sources.push(annotation.clone());
        }
        self.details.extend(turn["reasoning_details"].as_array().into_iter().flatten().cloned());
        Ok(())
    }

    fn said(&self) -> Said {
        let mut said = self.said.clone();
        let calls = self.calls.iter().filter(|call| !call.2.is_empty() || !call.3.is_empty());
        said.calls = calls.map(|(_, id, name, arguments)| Call::new(id.as_deref(), name, arguments)).collect();
        said.marks.extend(self.details.iter().flat_map(marks));
        let refused = !said.refusal.is_empty();
        said.stop = self.stop.as_deref().and_then(|word| finish(Dialect::OpenAi, word, refused, false));
        said
    }

    fn is_over(&self) -> bool {
        self.stop.is_some() || self.counted
    }
}
