//! From a vendor's counts and words to the crate's, by what the vendors' references and SDKs say that these mean.
//!
//! - Anthropic ("Prompt caching", "Token usage"): `input_tokens` are those after the last cache breakpoint; what was
//!   read from the cache and written to it is counted beside them. `output_tokens` has the thinking in it.
//! - OpenAI ("Chat object", `usage`): cached tokens are a breakdown of `prompt_tokens`, reasoning of
//!   `completion_tokens`, and `total_tokens` is what prompt and answer come to. xAI ("Reasoning", "Usage") adds
//!   reasoning to the total and to nothing else; so do Google with the thoughts of its compatible endpoint, and Mistral
//!   with sound, which belongs to the prompt. What has reasoning above its whole was counted beside it.
//! - Gemini (`UsageMetadata`): `candidatesTokenCount` leaves thoughts out, `promptTokenCount` the prompts of tools that
//!   run there, and `totalTokenCount` is the sum of the four. Where the sum is right without the thoughts, a server has
//!   counted them in.
//! - Responses (`ResponseUsage`): cached tokens are a breakdown of `input_tokens`, and reasoning of `output_tokens`.

use serde_json::Value;
use steadfast::{Dialect, chat::FinishReason};

/// The counts as a vendor names them; `None` where it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counted {
    pub(crate) input: Option<u64>,
    pub(crate) output: Option<u64>,
    pub(crate) cached: Option<u64>,
    pub(crate) cache_write: Option<u64>,
    pub(crate) reasoning: Option<u64>,
    pub(crate) total: Option<u64>,
    /// Gemini's prompts of tools that run there.
    pub(crate) tool_prompt: Option<u64>,
    /// Sound in the prompt.
    pub(crate) audio: Option<u64>,
}

/// A count, which servers write as `12`, `12.0` or not at all.
pub(crate) fn count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().map(|number| number as u64))
}

impl Counted {
    /// Reads a vendor's own object, by the names that its reference has.
    pub(crate) fn read(dialect: Dialect, usage: &Value) -> Self {
        let first = |places: &[&str]| places.iter().find_map(|place| count(usage.pointer(place)?));
        match dialect {
            Dialect::Anthropic => Self {
                input: first(&["/input_tokens"]),
                output: first(&["/output_tokens"]),
                cached: first(&["/cache_read_input_tokens"]),
                cache_write: first(&["/cache_creation_input_tokens"]),
                reasoning: first(&[
                    "/output_tokens_details/thinking_tokens",
                    "/output_tokens_details/reasoning_tokens",
                ]),
                ..Self::default()
            },
            Dialect::Gemini => Self {
                input: first(&["/promptTokenCount"]),
                output: first(&["/candidatesTokenCount"]),
                cached: first(&["/cachedContentTokenCount"]),
                reasoning: first(&["/thoughtsTokenCount"]),
                total: first(&["/totalTokenCount"]),
                tool_prompt: first(&["/toolUsePromptTokenCount"]),
                ..Self::default()
            },
            Dialect::Responses => Self {
                input: first(&["/input_tokens"]),
                output: first(&["/output_tokens"]),
                cached: first(&["/input_tokens_details/cached_tokens"]),
                cache_write: first(&["/input_tokens_details/cache_write_tokens"]),
                reasoning: first(&["/output_tokens_details/reasoning_tokens"]),
                total: first(&["/total_tokens"]),
                ..Self::default()
            },
            _ => Self {
                input: first(&["/prompt_tokens"]),
                output: first(&["/completion_tokens"]),
                // DeepSeek's, Mistral's, Moonshot's and Venice's names behind OpenAI's.
                cached: first(&[
                    "/prompt_tokens_details/cached_tokens",
                    "/prompt_token_details/cached_tokens",
                    "/prompt_cache_hit_tokens",
                    "/num_cached_tokens",
                    "/cached_tokens",
                    "/cache_read_input_tokens",
                ]),
                cache_write: first(&["/prompt_tokens_details/cache_write_tokens", "/cache_creation_input_tokens"]),
                reasoning: first(&["/completion_tokens_details/reasoning_tokens", "/reasoning_tokens"]),
                total: first(&["/total_tokens"]),
                audio: first(&["/prompt_tokens_details/audio_tokens", "/prompt_token_details/audio_tokens"]),
                ..Self::default()
            },
        }
    }

    /// Returns these counts, and those of `other` in place of the absent ones.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            input: self.input.or(other.input),
            output: self.output.or(other.output),
            cached: self.cached.or(other.cached),
            cache_write: self.cache_write.or(other.cache_write),
            reasoning: self.reasoning.or(other.reasoning),
            total: self.total.or(other.total),
            tool_prompt: self.tool_prompt.or(other.tool_prompt),
            audio: self.audio.or(other.audio),
        }
    }

    /// All input, all output, the part that was read from the cache, written to it, and reasoning.
    pub(crate) fn meaning(self, dialect: Dialect) -> [u64; 5] {
        let get = |count: Option<u64>| count.unwrap_or(0);
        let (input, output) = (get(self.input), get(self.output));
        let (cached, written, reasoning) = (get(self.cached), get(self.cache_write), get(self.reasoning));
        let (input, output) = match dialect {
            Dialect::Anthropic => (input + cached + written, output),
            Dialect::Responses => (input, output),
            Dialect::Gemini => {
                let input = input + get(self.tool_prompt);
                let within = self.total == Some(input + output);
                (input, if within { output } else { output + reasoning })
            }
            _ => match self.total.and_then(|total| total.checked_sub(input + output)) {
                Some(beside) if beside > 0 && self.audio == Some(beside) => (input + beside, output),
                Some(beside) if beside > 0 => (input, output + beside),
                _ if reasoning > output => (input, output + reasoning),
                _ => (input, output),
            },
        };
        [input, output, cached, written, reasoning]
    }
}

/// Why the model stopped, from the vendor's word. `refused`: the answer has a refusal. `called`: it has tool calls.
pub(crate) fn finish(dialect: Dialect, word: &str, refused: bool, called: bool) -> Option<FinishReason> {
    let other = || FinishReason::Other(word.to_owned());
    Some(match dialect {
        _ if word.is_empty() => return None,
        Dialect::Anthropic => match word {
            "end_turn" | "stop_sequence" => FinishReason::Stop,
            "tool_use" => FinishReason::ToolUse,
            "max_tokens" => FinishReason::Length,
            "model_context_window_exceeded" => FinishReason::ContextFull,
            "refusal" => FinishReason::Refusal,
            "pause_turn" => FinishReason::Paused,
            _ => other(),
        },
        // `STOP` is the natural end of a turn, of one that calls functions too. Numbers are those of the enumeration.
        Dialect::Gemini => match word {
            "STOP" | "1" if called => FinishReason::ToolUse,
            "STOP" | "1" => FinishReason::Stop,
            "MAX_TOKENS" | "2" => FinishReason::Length,
            "SAFETY"
            | "RECITATION"
            | "LANGUAGE"
            | "BLOCKLIST"
            | "PROHIBITED_CONTENT"
            | "SPII"
            | "ESCALATION"
            | "MODEL_ARMOR"
            | "IMAGE_SAFETY"
            | "IMAGE_PROHIBITED_CONTENT"
            | "IMAGE_RECITATION"
            | "IMAGE_OTHER" => FinishReason::Filtered,
            "CONTINUATION" => FinishReason::Paused,
            "MALFORMED_FUNCTION_CALL"
            | "MALFORMED_RESPONSE"
            | "UNEXPECTED_TOOL_CALL"
            | "MISSING_THOUGHT_SIGNATURE"
            | "TOO_MANY_TOOL_CALLS" => FinishReason::ModelError(word.to_owned()),
            _ => other(),
        },
        // The status, or why it is incomplete.
        Dialect::Responses => match word {
            "completed" | "complete" if called => FinishReason::ToolUse,
            "completed" | "complete" | "content_filter" if refused => FinishReason::Refusal,
            "completed" | "complete" => FinishReason::Stop,
            "max_output_tokens" => FinishReason::Length,
            "content_filter" => FinishReason::Filtered,
            "queued" | "in_progress" => FinishReason::Paused,
            _ => other(),
        },
        // Compatible servers have words of other APIs too.
        _ => match word {
            "stop" | "content_filter" if refused => FinishReason::Refusal,
            "stop" | "end_turn" | "eos" | "stop_sequence" => FinishReason::Stop,
            "tool_calls" | "tool_call" | "function_call" | "tool_use" => FinishReason::ToolUse,
            "length" | "max_tokens" | "model_length" => FinishReason::Length,
            "content_filter" => FinishReason::Filtered,
            _ => other(),
        },
    })
}

/// The name of the tool that an item of Responses calls, with its namespace before it. A tool that is its own namespace
/// has none.
pub(crate) fn joined_name(item: &Value) -> String {
    let name = item["name"].as_str().unwrap_or_default();
    match item["namespace"].as_str() {
        Some(namespace) if namespace != name => format!("{}__{name}", namespace.trim_end_matches("__")),
        _ => name.to_owned(),
    }
}
