use serde_json::{Map, Value};
use steadfast::{Dialect, ErrorKind};

use super::{Call, Failure, Said, Walk, text};
use crate::recorded::mapping::finish;

/// Puts the message together as the API's reference says, then reads it.
#[derive(Default)]
pub(super) struct Walker {
    message: Map<String, Value>,
    /// The pieces of the input of each block.
    inputs: Vec<(u64, String)>,
    over: bool,
}

impl Walker {
    fn block(&mut self, index: &Value) -> Option<&mut Map<String, Value>> {
        self.message.get_mut("content")?.as_array_mut()?.get_mut(index.as_u64()? as usize)?.as_object_mut()
    }

    fn delta(&mut self, index: &Value, delta: &Value) {
        let n = index.as_u64().unwrap_or(0);
        if delta["type"] == "input_json_delta" {
            let more = delta["partial_json"].as_str().unwrap_or_default();
            match self.inputs.iter_mut().find(|(at, _)| *at == n) {
                Some((_, so_far)) => so_far.push_str(more),
                None => self.inputs.push((n, more.to_owned())),
            }
            return;
        }
        let Some(block) = self.block(index) else { return };
        for (name, value) in delta.as_object().into_iter().flatten().filter(|(name, _)| *name != "type") {
            if name == "citation" {
                let citations = block.entry("citations").or_insert_with(|| Value::Array(Vec::new()));
                if citations.is_null() {
                    *citations = Value::Array(Vec::new());
                }
                citations.as_array_mut().expect("a list").push(value.clone());
                continue;
            }
            match (block.get_mut(name), value) {
                (Some(Value::String(so_far)), Value::String(more)) => so_far.push_str(more),
                _ => {
                    block.insert(name.clone(), value.clone());
                }
            }
        }
    }
}

impl Walk for Walker {
    fn take(&mut self, name: &str, json: &Value) -> Result<(), Failure> {
        match json["type"].as_str() {
            Some("error") => return Err(Failure::Reported),
            None if name == "error" || json["error"].is_object() => return Err(Failure::Reported),
            Some("message") => {
                self.message = json.as_object().expect("an object").clone();
                self.over = true;
            }
            // Nothing says that what came before is whole.
            Some("message_start") if !self.message.is_empty() => return Err(Failure::Kind(ErrorKind::Malformed)),
            Some("message_start") => self.message = json["message"].as_object().cloned().unwrap_or_default(),
            Some("content_block_start") => {
                let content = self.message.entry("content").or_insert_with(|| Value::Array(Vec::new()));
                content.as_array_mut().expect("a list").push(json["content_block"].clone());
            }
            Some("content_block_delta") => self.delta(&json["index"], &json["delta"]),
            Some("content_block_stop") => {
                let n = json["index"].as_u64().unwrap_or(0);
                let input = self.inputs.iter().find(|(at, _)| *at == n).map(|(_, input)| input.clone());
                if let (Some(input), Some(block)) = (input, self.block(&json["index"]))
                    && !input.is_empty()
                {
                    let input = serde_json::from_str(&input).unwrap_or(Value::String(input));
                    block.insert("input".to_owned(), input);
                }
            }
            Some("message_delta") => {
                for (name, value) in json["delta"].as_object().into_iter().flatten() {
                    self.message.insert(name.clone(), value.clone());
                }
                let usage = self.message.entry("usage").or_insert_with(|| Value::Object(Map::new()));
                for (name, value) in
                    json["usage"].as_object().into_iter().flatten().filter(|(_, value)| !value.is_null())
                {
                    usage[name] = value.clone();
                }
            }
            Some("message_stop") => self.over = true,
            _ => {}
        }
        Ok(())
    }

    fn said(&self) -> Said {
        let message = Value::Object(self.message.clone());
        let mut said = Said { id: text(&message["id"]), model: text(&message["model"]), ..Said::default() };
        for block in message["content"].as_array().into_iter().flatten() {
            match block["type"].as_str() {
                Some("text") => {
                    said.text.push_str(block["text"].as_str().unwrap_or_default());
                    said.sources.extend(block["citations"].as_array().into_iter().flatten().cloned());
                }
                Some("thinking") => {
                    said.thought.push_str(block["thinking"].as_str().unwrap_or_default());
                    said.marks.extend(text(&block["signature"]).filter(|signature| !signature.is_empty()));
                }
                Some("redacted_thinking") => said.marks.extend(text(&block["data"])),
                Some("tool_use") => {
                    let arguments = match &block["input"] {
                        // Not JSON: it is delivered as it came.
                        Value::String(text) => text.clone(),
                        input => input.to_string(),
                    };
                    let name = block["name"].as_str().unwrap_or_default();
                    said.calls.push(Call::new(block["id"].as_str(), name, &arguments));
                }
                _ => said.other.push(block.clone()),
            }
        }
        said.stop = message["stop_reason"].as_str().and_then(|word| finish(Dialect::Anthropic, word, false, false));
        let usage = &message["usage"];
        if usage.is_object() {
            said.count(Dialect::Anthropic, usage);
        }
        said
    }

    fn is_over(&self) -> bool {
        self.over
    }
}
