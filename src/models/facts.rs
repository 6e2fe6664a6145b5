//! What is said of a family, where something is said.

use serde::{Deserialize, Deserializer};

use crate::chat::Effort;

/// What is said of a family of models. What is not said is as with the family that it is [`like`](Self::like).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Facts {
    /// The family, or a model of it, from which the rest is taken. Default: the one that the model's name stands for.
    pub like: Option<String>,
    /// Which of temperature and top_p it takes.
    pub sampling: Option<Sampling>,
    /// Whether it takes them while it reasons.
    pub sampling_with_reasoning: Option<bool>,
    /// Whether it takes presence and frequency penalties.
    pub penalties: Option<bool>,
    /// How many stop texts it takes. Default: as many as its provider does.
    pub stops: Option<usize>,
    /// Whether it can be told to make one tool call at most.
    pub parallel_tool_calls: Option<bool>,
    /// The efforts or levels of reasoning that it has, from the least: of minimal, low, medium, high, xhigh and max.
    #[serde(deserialize_with = "efforts")]
    #[cfg_attr(feature = "config", schemars(with = "Option<Vec<EffortName>>"))]
    pub efforts: Option<Vec<Effort>>,
    /// The token budgets for reasoning that it takes.
    pub budget: Option<Budget>,
    /// Whether it can be left to reason as much as it sees fit.
    pub adaptive: Option<bool>,
    /// How no reasoning is said.
    pub off: Option<Off>,
    /// Whether it reasons where nothing is said of it.
    pub reasons_by_default: Option<bool>,
    /// Whether its thoughts can be given back to itself alone.
    pub bound_thoughts: Option<bool>,
    /// Whether a tool call can be forced.
    pub forced_tools: Option<ForcedTools>,
    /// Whether it takes tools while it reasons.
    pub tools_with_reasoning: Option<bool>,
    /// Whether it goes on from an answer that the request has begun.
    pub prefill: Option<bool>,
    /// Whether it can be held to a JSON Schema.
    pub output_schema: Option<bool>,
    /// Whether it can be held to JSON while it has tools.
    pub json_with_tools: Option<bool>,
    /// Whether it sees pictures.
    pub images: Option<bool>,
    /// Whether it reads documents.
    pub documents: Option<bool>,
    /// Whether it calls tools.
    pub tools: Option<bool>,
    /// Whether its provider fetches pictures from web addresses.
    pub image_urls: Option<bool>,
    /// Whether its provider fetches documents from web addresses.
    pub document_urls: Option<bool>,
    /// The media types of the pictures that it takes.
    pub image_types: Option<Vec<String>>,
    /// The longest answer in tokens, thoughts included.
    #[cfg_attr(feature = "config", schemars(range(min = 1)))]
    pub max_output: Option<u32>,
}

impl Facts {
    /// The same, with what it does not say taken from `base`.
    pub(super) fn over(self, base: &Self) -> Self {
        macro_rules! first {
            ($($field:ident),+ $(,)?) => { Self { like: None, $($field: self.$field.or_else(|| base.$field.clone())),+ } };
        }
        first! {
            sampling, sampling_with_reasoning, penalties, stops, parallel_tool_calls, efforts, budget, adaptive, off,
            reasons_by_default, bound_thoughts, forced_tools, tools_with_reasoning, prefill, output_schema, json_with_tools,
            images, documents, tools, image_urls, document_urls, image_types, max_output,
        }
    }

    /// What cannot be, and the field that says it.
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
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// The least.
    pub least: u32,
    /// The most. Default: what the longest answer has room for.
    pub most: Option<u32>,
}

/// Which of temperature and top_p a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// Both.
    Both,
    /// One of them: the temperature, where both are there.
    One,
    /// Neither, nor others of their kind.
    None,
}

/// How a model is told not to reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Off {
    /// Anthropic's `thinking: {"type": "disabled"}`.
    Disabled,
    /// Anthropic's `thinking: {"type": "between_tools"}`, the least that there is.
    BetweenTools,
    /// OpenAI's `reasoning_effort: "none"`.
    None,
    /// Gemini's `thinkingBudget: 0`.
    Zero,
    /// It always reasons: the least effort or budget is asked for.
    Least,
    /// Nothing is said.
    Unsaid,
}

/// Whether a model can be forced to call a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ForcedTools {
    /// Always.
    Yes,
    /// While it does not reason.
    WithoutReasoning,
    /// Never.
    No,
}

/// The names of the efforts, as providers spell them.
#[derive(Clone, Copy, Deserialize)]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
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
