use serde_json::Value;
use steadfast::{ErrorKind, chat::FinishReason};

use super::{Call, Failure, Said, Walk, count, text};

/// Adds up what the first candidate says.
#[derive(Default)]
pub(super) struct Walker {
    said: Said,
    stop: Option<String>,
    seen: bool,
    candidate: bool,
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
            let input = count(&usage["promptTokenCount"]) + count(&usage["toolUsePromptTokenCount"]);
            let (said, thought) = (count(&usage["candidatesTokenCount"]), count(&usage["thoughtsTokenCount"]));
            let total = count(&usage["totalTokenCount"]);
            let output = if input + said == total { said } else { said + thought };
            self.said.usage = Some([input, output, count(&usage["cachedContentTokenCount"]), 0, thought]);
        }
        Ok(())
    }

    fn said(&self) -> Said {
        let mut said = self.said.clone();
        let called = !said.calls.is_empty();
        said.stop = self.stop.as_deref().map(|reason| match reason {
            "STOP" | "1" if called => FinishReason::ToolUse,
            "STOP" | "1" => FinishReason::Stop,
            "MAX_TOKENS" | "2" => FinishReason::Length,
            "SAFETY" | "RECITATION" | "LANGUAGE" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "ESCALATION"
            | "MODEL_ARMOR" => FinishReason::Filtered,
            image if image.starts_with("IMAGE_") => FinishReason::Filtered,
            "CONTINUATION" => FinishReason::Paused,
            "MALFORMED_FUNCTION_CALL"
            | "MALFORMED_RESPONSE"
            | "UNEXPECTED_TOOL_CALL"
            | "MISSING_THOUGHT_SIGNATURE"
            | "TOO_MANY_TOOL_CALLS" => FinishReason::ModelError(reason.to_owned()),
            other => FinishReason::Other(other.to_owned()),
        });
        said
    }

    fn is_over(&self) -> bool {
        self.stop.is_some() || !self.candidate
    }
}
