use std::collections::BTreeMap;

use serde_json::{Value, json};
use steadfast::{Dialect, ErrorKind};

use super::{Call, Failure, Said, Walk};
use crate::recorded::mapping::{finish, joined_name};

/// Adds up the items of an answer.
pub(super) struct Walker {
    said: Said,
    items: BTreeMap<u64, Item>,
    /// Status, or why it is incomplete.
    stop: Option<String>,
    streamed: bool,
}

/// An item as its events have it.
#[derive(Clone, Default)]
struct Item {
    /// From `response.output_item.added`.
    begun: Value,
    /// From `response.output_item.done`, or the last response.
    whole: Option<Value>,
    /// The texts and refusals of a message so far, by their content's index.
    contents: BTreeMap<u64, (bool, String)>,
    /// The paragraphs of a thought so far.
    thoughts: BTreeMap<u64, String>,
    arguments: String,
}

impl Walker {
    pub(super) fn new(streamed: bool) -> Self {
        Self { said: Said::default(), items: BTreeMap::new(), stop: None, streamed }
    }

    fn head(&mut self, response: &Value) {
        for (name, place) in [("id", &mut self.said.id), ("model", &mut self.said.model)] {
            if place.is_none() {
                *place = response[name].as_str().map(str::to_owned);
            }
        }
    }

    fn last(&mut self, response: &Value) -> Result<(), Failure> {
        if response["error"].is_object() || response["error"].is_string() {
            return Err(Failure::Reported);
        }
        self.head(response);
        let Some(output) = response["output"].as_array() else { return Err(Failure::Kind(ErrorKind::Malformed)) };
        for (place, item) in output.iter().enumerate() {
            let known = self.items.entry(place as u64).or_default();
            known.whole.get_or_insert_with(|| item.clone());
        }
        if response["usage"].is_object() {
            self.said.count(Dialect::Responses, &response["usage"]);
        }
        let reason = response["incomplete_details"]["reason"].as_str();
        self.stop = reason.or_else(|| response["status"].as_str()).map(str::to_owned);
        Ok(())
    }
}

impl Walk for Walker {
    fn take(&mut self, _: &str, json: &Value) -> Result<(), Failure> {
        if !self.streamed {
            return self.last(json);
        }
        let at = json["output_index"].as_u64().unwrap_or(0);
        let delta = || json["delta"].as_str().unwrap_or_default();
        let number = |name: &str| json[name].as_u64().unwrap_or(0);
        match json["type"].as_str().unwrap_or_default() {
            "error" | "response.failed" => return Err(Failure::Reported),
            "response.created" => self.head(&json["response"]),
            "response.completed" | "response.incomplete" => return self.last(&json["response"]),
            "response.output_item.added" => self.items.entry(at).or_default().begun = json["item"].clone(),
            "response.output_item.done" => self.items.entry(at).or_default().whole = Some(json["item"].clone()),
            kind @ ("response.output_text.delta" | "response.refusal.delta") => {
                let contents = &mut self.items.entry(at).or_default().contents;
                let (declines, text) = contents.entry(number("content_index")).or_default();
                *declines = kind == "response.refusal.delta";
                text.push_str(delta());
            }
            "response.reasoning_summary_text.delta" => {
                let thoughts = &mut self.items.entry(at).or_default().thoughts;
                thoughts.entry(number("summary_index")).or_default().push_str(delta());
            }
            "response.reasoning_text.delta" => {
                let thoughts = &mut self.items.entry(at).or_default().thoughts;
                thoughts.entry(number("content_index")).or_default().push_str(delta());
            }
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                self.items.entry(at).or_default().arguments.push_str(delta());
            }
            _ => {}
        }
        Ok(())
    }

    fn said(&self) -> Said {
        let mut said = self.said.clone();
        for item in self.items.values() {
            item.add_to(&mut said);
        }
        let (refused, called) = (!said.refusal.is_empty(), !said.calls.is_empty());
        said.stop = self.stop.as_deref().and_then(|word| finish(Dialect::Responses, word, refused, called));
        said
    }

    fn is_over(&self) -> bool {
        self.stop.is_some()
    }
}

impl Item {
    fn add_to(&self, said: &mut Said) {
        let item = self.whole.as_ref().unwrap_or(&self.begun);
        let list = |name: &str| item[name].as_array().cloned().unwrap_or_default();
        match item["type"].as_str().unwrap_or_default() {
            "message" => {
                let contents = list("content");
                // Not by the contents' indices, which some servers count from another number in the deltas.
                for content in contents.iter().skip(self.contents.len()) {
                    said.text.push_str(content["text"].as_str().unwrap_or_default());
                    said.refusal.push_str(content["refusal"].as_str().unwrap_or_default());
                }
                for (declines, text) in self.contents.values() {
                    if *declines { &mut said.refusal } else { &mut said.text }.push_str(text);
                }
                let annotations = contents.iter().flat_map(|content| content["annotations"].as_array().cloned());
                said.sources.extend(annotations.flatten());
            }
            "reasoning" => {
                let texts = |name: &str| -> Vec<String> {
                    let list = list(name).into_iter().filter_map(|part| Some(part["text"].as_str()?.to_owned()));
                    list.filter(|text| !text.is_empty()).collect()
                };
                let streamed: Vec<String> = self.thoughts.values().cloned().collect();
                let paragraphs = [streamed, texts("summary"), texts("content")];
                let paragraphs = paragraphs.into_iter().find(|paragraphs| !paragraphs.is_empty());
                said.thought.push_str(&paragraphs.unwrap_or_default().join("\n\n"));
                // Some servers send a first form of it at the beginning.
                if let Some(sealed) = self.whole.as_ref().and_then(|item| item["encrypted_content"].as_str()) {
                    said.marks.push(format!("{}:{sealed}", item["id"].as_str().unwrap_or_default()));
                }
            }
            kind @ ("function_call" | "custom_tool_call") => {
                let custom = kind == "custom_tool_call";
                let whole = item[if custom { "input" } else { "arguments" }].as_str().unwrap_or_default();
                let text = if self.arguments.is_empty() { whole } else { &self.arguments };
                let arguments = if custom { json!({ "input": text }).to_string() } else { text.to_owned() };
                said.calls.push(Call::new(item["call_id"].as_str(), &joined_name(item), &arguments));
            }
            "" => {}
            _ => said.other.extend(self.whole.clone()),
        }
    }
}
