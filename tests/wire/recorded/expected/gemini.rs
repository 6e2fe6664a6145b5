use serde_json::Value;
use steadfast::{Dialect, ErrorKind};

use super::{Call, Failure, Said, Walk, text};
use crate::recorded::mapping::finish;

/// Adds up what the first candidate says.
#[derive(Default)]
pub(super) struct Walker {
    said: Said,
    stop: Option<String>,
    seen: bool,
    candidate: bool,
    /// The name of the call that goes on in pieces.
    open: Option<String>,
}

impl Walker {
    /// Takes a piece of a call in, where it is one: a value that belongs to a path (`streamFunctionCallArguments`).
    fn piece(&mut self, call: &Value) -> bool {
        let name = call["name"].as_str().unwrap_or_default();
        let goes_on = call["willContinue"] == true;
        let more = self.open.as_deref().is_some_and(|open| name.is_empty() || name == open);
        if !more && !goes_on && call["partialArgs"].is_null() {
            // A mark of the end of none.
            return name.is_empty() && call["args"].as_object().is_none_or(serde_json::Map::is_empty);
        }
        if !more {
            self.said.calls.push(Call::new(call["id"].as_str(), name, "{}"));
        }
        let Some(begun) = self.said.calls.last_mut() else { return false };
        for piece in call["partialArgs"].as_array().into_iter().flatten() {
            let mut place = &mut begun.arguments;
            let path = piece["jsonPath"].as_str().unwrap_or_default().trim_start_matches('$');
            let path = path.replace("['", ".").replace("[\"", ".").replace(['\'', '"', ']'], "").replace('[', ".#");
            for step in path.split('.').filter(|step| !step.is_empty()) {
                place = match step.strip_prefix('#').and_then(|at| at.parse::<usize>().ok()) {
                    Some(at) => {
                        if !place.is_array() {
                            *place = Value::Array(Vec::new());
                        }
                        let list = place.as_array_mut().expect("it is one");
                        list.resize(list.len().max(at + 1), Value::Null);
                        &mut list[at]
                    }
                    None => {
                        if !place.is_object() {
                            *place = serde_json::json!({});
                        }
                        place.as_object_mut().expect("it is one").entry(step).or_insert(Value::Null)
                    }
                };
            }
            match (&mut *place, &piece["stringValue"]) {
                (Value::String(so_far), Value::String(more)) => so_far.push_str(more),
                (place, Value::String(text)) => *place = text.as_str().into(),
                (place, _) => {
                    let values = ["numberValue", "boolValue"].map(|name| piece[name].clone());
                    *place = values.into_iter().find(|value| !value.is_null()).unwrap_or_default();
                }
            }
        }
        self.open = goes_on.then(|| if name.is_empty() { begun.name.clone() } else { name.to_owned() });
        true
    }
}

impl Walk for Walker {
    fn take(&mut self, _: &str, json: &Value) -> Result<(), Failure> {
        if json["error"].is_object() {
            return Err(Failure::Reported);
        }
        if json["promptFeedback"]["blockReason"].is_string() {
            return Err(Failure::Kind(ErrorKind::ContentPolicy));
        }
        if !self.seen {
            self.seen = true;
            (self.said.id, self.said.model) = (text(&json["responseId"]), text(&json["modelVersion"]));
        }
        let candidate = &json["candidates"][0];
        self.candidate |= candidate.is_object();
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            let signature = text(&part["thoughtSignature"]);
            self.said.marks.extend(signature);
            if part["functionCall"].is_object() {
                let call = &part["functionCall"];
                if self.piece(call) {
                    continue;
                }
                let arguments = if call["args"].is_null() { "{}".to_owned() } else { call["args"].to_string() };
                let name = call["name"].as_str().unwrap_or_default();
                self.said.calls.push(Call::new(call["id"].as_str(), name, &arguments));
            } else if let Some(said) = part["text"].as_str() {
                let thought = part["thought"] == true;
                if thought { &mut self.said.thought } else { &mut self.said.text }.push_str(said);
            } else if part["inlineData"].is_object() {
                self.said.media.push(text(&part["inlineData"]["data"]).unwrap_or_default());
            } else if part.as_object().is_some_and(|fields| !fields.is_empty()) {
                self.said.other.push(part.clone());
            }
        }
        for name in ["citationMetadata", "groundingMetadata", "urlContextMetadata"] {
            if candidate[name].is_object() {
                self.said.sources.push(candidate[name].clone());
            }
        }
        match &candidate["finishReason"] {
            Value::Null => {}
            Value::String(reason) => self.stop = Some(reason.clone()),
            other => self.stop = Some(other.to_string()),
        }
        let usage = &json["usageMetadata"];
        if usage.is_object() {
            self.said.count(Dialect::Gemini, usage);
        }
        Ok(())
    }

    fn said(&self) -> Said {
        let mut said = self.said.clone();
        let called = !said.calls.is_empty();
        said.stop = self.stop.as_deref().and_then(|word| finish(Dialect::Gemini, word, false, called));
        said
    }

    fn is_over(&self) -> bool {
        self.stop.is_some() || !self.candidate
    }
}
