//! The rules of vendors of Chat Completions for the thoughts of earlier turns, as of November 2026.
//!
//! DeepSeek and Moonshot require `reasoning_content` before calls, Google the signature of Gemini 3's calls, and Groq
//! and Cerebras refuse fields that they do not know. A model's name stands for its vendor.

use serde_json::Value;

use super::{CheckResult, list, text, wrong};

/// The fields of a model's turn at Groq, and at Cerebras.
const OF_TURN: &[&str] = &["role", "content", "name", "tool_calls", "function_call", "reasoning"];

fn unknown(turn: &Value) -> Option<&str> {
    let given = turn.as_object()?.iter().filter(|(_, value)| !value.is_null());
    given.map(|(name, _)| name.as_str()).find(|name| !OF_TURN.contains(name))
}

pub(super) fn examine(model: &str, body: &Value) -> CheckResult {
    let turns = list(body, "messages").iter().enumerate().filter(|(_, turn)| turn["role"] == "assistant");
    for (place, turn) in turns {
        let has_calls = !list(turn, "tool_calls").is_empty();
        let is_thoughtless = has_calls && text(turn, "reasoning_content").is_empty();
        if model.starts_with("deepseek-v4") && is_thoughtless {
            let words = "The `reasoning_content` in the thinking mode must be passed back to the API.";
            return Err(wrong("messages", words));
        }
        if model.starts_with("kimi-") && is_thoughtless {
            let words = "thinking is enabled but reasoning_content is missing in assistant tool call message at index";
            return Err(wrong("messages", format!("{words} {place}")));
        }
        let signature = turn["tool_calls"][0].pointer("/extra_content/google/thought_signature");
        if model.starts_with("gemini-3") && has_calls && signature.is_none() {
            return Err(wrong("messages", "Function call is missing a thought_signature in functionCall parts."));
        }
        if model.starts_with("groq/")
            && let Some(name) = unknown(turn)
        {
            let words = format!("property '{name}' is unsupported)]");
            let at = format!("'messages.{place}'");
            let words = format!("{at} : for 'role:assistant' the following must be satisfied[({at} : {words}");
            return Err(wrong("messages", words));
        }
        if model.starts_with("cerebras/")
            && let Some(name) = unknown(turn)
        {
            let path = format!("messages.{place}.assistant.{name}");
            return Err(wrong("messages", format!("{path}: property '{path}' is unsupported")));
        }
    }
    Ok(())
}
