//! The known facts of a family.

use serde::{Deserialize, Deserializer};

use crate::chat::Effort;

/// The known facts of a family of models. An unset field is that of the family named by [`like`](Self::like).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Facts {
    /// The family, or a model of it, that supplies the unset fields. Default: the one that the model's name stands for.
    pub like: Option<String>,
    /// The sampling settings that it takes: temperature, top_p, or both.
    pub sampling: Option<Sampling>,
    /// True if it takes sampling settings while it reasons.
    pub sampling_with_reasoning: Option<bool>,
    /// True if it takes presence and frequency penalties.
    pub penalties: Option<bool>,
    /// The number of stop texts that it takes. Default: its provider's limit.
    pub stops: Option<usize>,
    /// True if it takes the wish for a short or a long answer (`verbosity`).
    pub verbosity: Option<bool>,
    /// True if it takes its limit in Chat Completions as `max_completion_tokens` alone, at any server.
    pub completion_limit: Option<bool>,
    /// True if it can be limited to one tool call at a time.
    pub parallel_tool_calls: Option<bool>,
    /// The efforts or levels of reasoning that it has, from the least: of minimal, low, medium, high, xhigh and max.
    #[serde(deserialize_with = "efforts")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<EffortName>>"))]
    pub efforts: Option<Vec<Effort>>,
    /// The token budgets for reasoning that it takes.
    pub budget: Option<Budget>,
    /// True if it can decide on the amount of reasoning by itself.
    pub adaptive: Option<bool>,
    /// The provider's form for no reasoning.
    pub off: Option<ReasoningOff>,
    /// True if it reasons without being asked to.
    pub reasons_by_default: Option<bool>,
    /// True if its thoughts may only go back to the same model.
    pub bound_thoughts: Option<bool>,
    /// Its support for forced tool calls.
    pub forced_tools: Option<ForcedTools>,
    /// True if it takes tools while it reasons.
    pub tools_with_reasoning: Option<bool>,
    /// True if it continues an answer that the request has begun.
    pub prefill: Option<bool>,
    /// True if it can be held to a JSON Schema.
    pub output_schema: Option<bool>,
    /// True if it can be held to JSON while it has tools.
    pub json_with_tools: Option<bool>,
    /// True if it accepts pictures.
    pub images: Option<bool>,
    /// True if it reads documents.
    pub documents: Option<bool>,
    /// True if it calls tools.
    pub tools: Option<bool>,
    /// True if its provider fetches pictures from web addresses.
    pub image_urls: Option<bool>,
    /// True if its provider fetches documents from web addresses.
    pub document_urls: Option<bool>,
    /// The media types of the pictures that it takes.
    pub image_types: Option<Vec<String>>,
    /// The longest answer in tokens, thoughts included.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub max_output: Option<u32>,
}

impl Facts {
    /// Returns these facts, with unset fields taken from `base`.
    pub(super) fn over(self, base: &Self) -> Self {
        macro_rules! first {
            ($($field:ident),+ $(,)?) => {
                Self { like: None, $($field: self.$field.or_else(|| base.$field.clone())),+ }
            };
        }
        first! {
            sampling, sampling_with_reasoning, penalties, stops, verbosity, completion_limit, parallel_tool_calls,
            efforts, budget, adaptive, off, reasons_by_default, bound_thoughts, forced_tools, tools_with_reasoning,
            prefill, output_schema, json_with_tools, images, documents, tools, image_urls, document_urls, image_types,
            max_output,
        }
    }

    /// Returns the first impossible value, as its field and the problem.
    pub(super) fn fault(&self) -> Option<(&'static str, &'static str)> {
        if let Some(Budget { least, most: Some(most) }) = self.budget
            && least > most
        {
            return Some(("budget", "the least is more than the most"));
        }
        if self.max_output == Some(0) {
            return Some(("max_output", "an answer has at least one token"));
        }
        let rises = |efforts: &Vec<Effort>| efforts.windows(2).all(|two| two[0] < two[1]);
        if self.efforts.as_ref().is_some_and(|efforts| !rises(efforts)) {
            return Some(("efforts", "they must rise from the least to the most"));
        }
        None
    }
}

/// The token budgets for reasoning that a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// The least.
    pub least: u32,
    /// The most. Default: what the longest answer has room for.
    pub most: Option<u32>,
}

/// The sampling settings that a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// Both.
    Both,
    /// One of them: the temperature, if both are set.
    One,
    /// Neither, nor others of their kind.
    None,
}

/// A provider's form for no reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReasoningOff {
    /// Anthropic's `thinking: {"type": "disabled"}`.
    Disabled,
    /// Anthropic's `thinking: {"type": "between_tools"}`, the least that exists.
    BetweenTools,
    /// OpenAI's `reasoning_effort: "none"`.
    None,
    /// Gemini's `thinkingBudget: 0`.
    Zero,
    /// The model always reasons: the least effort or budget is requested.
    Least,
    /// The field is omitted.
    Unsaid,
}

/// A model's support for forced tool calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ForcedTools {
    /// Always.
    Yes,
    /// Only without reasoning.
    WithoutReasoning,
    /// Never.
    No,
}

/// The names of the efforts, as providers spell them.
#[derive(Clone, Copy, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
enum EffortName {
    Minimal,
    Low,
    Medium,
    High,
    XHigh,
    Max,
}

fn efforts<'de, D: Deserializer<'de>>(names: D) -> Result<Option<Vec<Effort>>, D::Error> {
    let names: Option<Vec<EffortName>> = Deserialize::deserialize(names)?;
    Ok(names.map(|names| {
        let effort = |name| match name {
            EffortName::Minimal => Effort::Minimal,
            EffortName::Low => Effort::Low,
            EffortName::Medium => Effort::Medium,
            EffortName::High => Effort::High,
            EffortName::XHigh => Effort::XHigh,
            EffortName::Max => Effort::Max,
        };
        names.into_iter().map(effort).collect()
    }))
}
